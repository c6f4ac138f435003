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
    return _change(name, "mounted", lambda test: __salt__["onedata.mount"](name, timeout=timeout, test=test))


def unmounted(name, lazy=False):
    """
    The space is not mounted.

    name
        of the space
    lazy
        detach it even while it is in use
    """
    return _change(name, "unmounted", lambda test: __salt__["onedata.unmount"](name, lazy=lazy, test=test))


def _change(name, wanted: str, do) -> dict:
    ret = {"name": name, "result": True, "comment": "", "changes": {}}
    before = None
    try:
        before = __salt__["onedata.status"](name)
        if _word(before) == wanted:
            ret["comment"] = f"Onedata space {name} is {wanted}: {before['mount_point']}"
            return ret
        done = do(__opts__["test"])
        after = {} if __opts__["test"] else __salt__["onedata.status"](name)
        word = wanted if __opts__["test"] else _word(after)
        ret["changes"] = _difference(name, _word(before), word)
        if __opts__["test"]:
            ret["result"] = None if done["changed"] else True
            ret["comment"] = f"Onedata space {name} would be {wanted}: {before['mount_point']}"
        elif word == wanted:
            ret["comment"] = f"Onedata space {name} was {wanted}: {before['mount_point']}"
        else:
            ret["result"] = False
            ret["comment"] = f"Onedata space {name} is {word} after all: {after['problem'] or 'no reason known'}"
    except _ERRORS as exc:
        ret["result"] = False
        ret["comment"] = str(exc)
        if before and not __opts__["test"]:
            # a dead mount may be gone, though no new one came
            ret["changes"] = _difference(name, _word(before), _word(__salt__["onedata.status"](name)))
    return ret


def _difference(name, old: str, new: str) -> dict:
    return {name: {"old": old, "new": new}} if old != new else {}


def _word(status: dict) -> str:
    if not status["mounted"]:
        return "unmounted"
    return "mounted" if status["alive"] else "dead"
