"""
Galaxy on one minion: what an account of ``salt-api`` may call (docs/remote.md), the reactor (docs/boot.md), and
``salt-run``.

The functions have no parameter but the minion, so that whoever may call them can neither name another service nor have
another file read: which server it is stands in the minion's pillar.
"""

from __future__ import annotations

import re

import salt.client
import salt.utils.event
import salt.utils.minions
from salt.exceptions import SaltInvocationError

import galaxy_boot
import galaxy_remote

# who is booted, docs/boot.md
_ROLE = "I@galaxy:boot:enabled:True or G@roles:galaxy"

TYPE_CHECKING = False
if TYPE_CHECKING:
    __opts__: dict
    __context__: dict


def status(minion):
    """
    How Galaxy is on a minion.

    minion
        its ID

    Returns ``success``, and as ``return`` what ``galaxy.status`` returned there, or what went wrong.

    CLI Example:

    .. code-block:: bash

        salt-run galaxy.status galaxy.example.org
    """
    return _call(minion, "galaxy.status")


def startup(minion):
    """
    Start Galaxy on a minion, and wait until it is ready.

    minion
        its ID

    Returns ``success``, and as ``return`` what ``galaxy.startup`` returned there, or what went wrong.

    CLI Example:

    .. code-block:: bash

        salt-run galaxy.startup galaxy.example.org
    """
    return _call(minion, "galaxy.startup")


def boot(minion):
    """
    Bring a minion back that has started: ``state.apply galaxy.boot``, where it has the role. For the reactor, and by
    hand.

    minion
        its ID

    The event ``galaxy/<minion>/ready`` or ``galaxy/<minion>/failed`` comes from the minion itself, or, where it cannot
    tell, because it does not answer or its SLS cannot be rendered, from here.

    Returns ``success``, false where the event comes from here, and as ``return`` what that one tells (``step``,
    ``state``, ``reason``); ``{}`` where the minion told itself, ``None`` for one without the role.

    CLI Example:

    .. code-block:: bash

        salt-run galaxy.boot galaxy.example.org
    """
    # until it has gone well: Salt calls a refused argument a success, and keeps the last run's code
    __context__["retcode"] = 1
    if not isinstance(minion, str) or not re.fullmatch(r"[A-Za-z0-9._-]+", minion):
        raise SaltInvocationError(f"`minion` must be an ID of letters, digits, . _ and -, not {minion!r}")
    target = f"L@{minion} and ( {_ROLE} )"
    # by what the master has of its pillar and grains: no job for the others
    if minion not in salt.utils.minions.CkMinions(__opts__).check_minions(target, "compound")["minions"]:
        __context__["retcode"] = 0
        return {"success": True, "return": None}
    with salt.client.get_local_client(mopts=__opts__) as client:
        failure = galaxy_boot.boot(client, minion, target)
    if failure:
        with salt.utils.event.get_master_event(__opts__, __opts__["sock_dir"], listen=False) as bus:
            bus.fire_event({"id": minion, "data": failure}, f"galaxy/{minion}/failed")
    __context__["retcode"] = 1 if failure else 0
    return {"success": not failure, "return": failure}


def _call(minion, function) -> dict:
    __context__["retcode"] = 1
    with salt.client.get_local_client(mopts=__opts__) as client:
        answer = galaxy_remote.call(client, minion, function)
    __context__["retcode"] = 0 if answer["success"] else 1
    return answer
