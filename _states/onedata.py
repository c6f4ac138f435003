"""
Declare whether Onedata spaces are mounted
==========================================

.. code-block:: yaml

    userdata:
      onedata.mounted

The name is that of a space in ``galaxy:onedata``: see the execution module ``onedata``.
"""

from __future__ import annotations

import galaxy_host_later

galaxy_host_later.drop_outdated()

import galaxy_host_returns as returns

__virtualname__ = "onedata"

TYPE_CHECKING = False
if TYPE_CHECKING:
    __salt__: dict
    __opts__: dict


def __virtual__():
    if "onedata.status" not in __salt__:
        return False, "onedata: the onedata execution module is not loaded: it is for Linux; run saltutil.sync_all"
    return __virtualname__


def mounted(name, timeout=60):
    """
    The space is mounted and answers. If the process of a mount has ended, the space is mounted anew.

    name : str
        name of the space
    timeout : float = 60
        seconds to wait until the mount answers

    ``changes`` has the name of the space with ``old`` and ``new``: ``mounted``, ``unmounted`` or ``dead``.

    .. code-block:: yaml

        userdata:
          onedata.mounted:
            - timeout: 120
    """
    return _change(name, "mounted", lambda test: __salt__["onedata.mount"](name, timeout=timeout, test=test))


def unmounted(name, lazy=False):
    """
    The space is not mounted.

    name : str
        name of the space
    lazy : bool = False
        detach the space even if it is in use

    ``changes`` is as for :py:func:`mounted`.

    .. code-block:: yaml

        userdata:
          onedata.unmounted:
            - lazy: True
    """
    return _change(name, "unmounted", lambda test: __salt__["onedata.unmount"](name, lazy=lazy, test=test))


def _change(name, wanted: str, do) -> dict:
    before = None
    try:
        before = __salt__["onedata.status"](name)
        if _how(before) == wanted:
            return returns.same(name, f"Onedata space {name} is {wanted}: {before['mount_point']}")
        done = do(__opts__["test"])
        if __opts__["test"]:
            comment = f"Onedata space {name} would be {wanted}: {before['mount_point']}"
            changes = _difference(name, _how(before), wanted)
            return returns.would(name, comment, changes) if done["changed"] else returns.same(name, comment)
        after = __salt__["onedata.status"](name)
    except returns.ERRORS as exc:
        if before is None or __opts__["test"]:
            return returns.failed(name, exc)
        # even if the new mount failed, the dead one may be gone
        return returns.failed(name, exc, _difference(name, _how(before), _how(__salt__["onedata.status"](name))))
    changes = _difference(name, _how(before), _how(after))
    if _how(after) == wanted:
        return returns.changed(name, f"Onedata space {name} was {wanted}: {before['mount_point']}", changes)
    problem = after["problem"] or "the reason is not known"
    return returns.failed(name, f"Onedata space {name} is {_how(after)} after all: {problem}", changes)


def _difference(name, old: str, new: str) -> dict:
    return {name: {"old": old, "new": new}} if old != new else {}


def _how(status: dict) -> str:
    if not status["mounted"]:
        return "unmounted"
    return "mounted" if status["alive"] else "dead"
