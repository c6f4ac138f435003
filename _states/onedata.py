"""
Onedata spaces mounted, or not
==============================

.. code-block:: yaml

    userdata:
      onedata.mounted

The name is that of a space in ``galaxy:onedata``, see the execution module ``onedata``.
"""

from __future__ import annotations

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "onedata"

TYPE_CHECKING = False
if TYPE_CHECKING:
    __salt__: dict
    __opts__: dict

_ERRORS = (CommandExecutionError, SaltInvocationError)


def __virtual__():
    if "onedata.status" not in __salt__:
        return False, "onedata: the onedata execution module is not loaded; run saltutil.sync_all"
    return __virtualname__


def mounted(name, timeout=60):
    """
    The space is mounted and answers; a mount whose process is gone is mounted anew.

    name
        of the space
    timeout
        seconds until the mount answers
    """
    return _change(name, True, lambda: __salt__["onedata.mount"](name, timeout=timeout))


def unmounted(name, lazy=False):
    """
    The space is not mounted.

    name
        of the space
    lazy
        detach it even while it is in use
    """
    return _change(name, False, lambda: __salt__["onedata.unmount"](name, lazy=lazy))


def _change(name, wanted: bool, do) -> dict:
    ret = {"name": name, "result": True, "comment": "", "changes": {}}
    what = "mounted" if wanted else "unmounted"
    try:
        before = __salt__["onedata.status"](name)
        if _word(before) == what:
            ret["comment"] = f"Onedata space {name} is {what}: {before['mount_point']}"
            return ret
        ret["changes"] = {name: {"old": _word(before), "new": what}}
        if __opts__["test"]:
            ret["result"] = None
            ret["comment"] = f"Onedata space {name} would be {what}: {before['mount_point']}"
            return ret
        ret["changes"] = {}
        do()
        after = __salt__["onedata.status"](name)
        if _word(after) != _word(before):
            ret["changes"] = {name: {"old": _word(before), "new": _word(after)}}
        ret["result"] = _word(after) == what
        ret["comment"] = f"Onedata space {name} was {what}: {before['mount_point']}"
        if not ret["result"]:
            ret["comment"] = (
                f"Onedata space {name} is {_word(after)} after all: {after['problem'] or 'no reason known'}"
            )
        return ret
    except _ERRORS as exc:
        ret["result"] = False
        ret["comment"] = str(exc)
        return ret


def _word(status: dict) -> str:
    if not status["mounted"]:
        return "unmounted"
    return "mounted" if status["alive"] else "dead"
