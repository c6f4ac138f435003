"""
Galaxy on one minion: what an account of ``salt-api`` may call (docs/remote.md), the reactor (docs/boot.md), and
``salt-run``.

The functions that such an account may call have no parameter but the minion and a Galaxy's name in its pillar, so that
whoever may call them can neither name another service nor have another file read.
"""

from __future__ import annotations

import functools
import os

import salt.client
import salt.utils.event
import salt.utils.minions
from salt.exceptions import SaltInvocationError

import galaxy_boot
import galaxy_host_arguments as arguments
import galaxy_remote
from galaxy_host_turn import Turn

# who is booted, docs/boot.md
_ROLE = "I@galaxy:boot:enabled:True or G@roles:galaxy"

TYPE_CHECKING = False
if TYPE_CHECKING:
    __opts__: dict
    __context__: dict


def status(minion, server=None):
    """
    How Galaxy is on a minion.

    minion
        its ID
    server
        a name in the minion's pillar; not needed where there is one Galaxy

    Returns ``success``, and as ``return`` what ``galaxy.status`` returned there, or what went wrong.

    CLI Example:

    .. code-block:: bash

        salt-run galaxy.status galaxy.example.org
    """
    return _call(galaxy_remote.call, minion, "galaxy.status", server=server)


def startup(minion, server=None):
    """
    Start Galaxy on a minion, and wait until it is ready.

    minion
        its ID
    server
        a name in the minion's pillar; not needed where there is one Galaxy

    Where Galaxy is being started there already (by another call, by hand, by a boot), the answer says so, at once and
    with ``success`` false: nothing but the question is sent to the minion.

    Returns ``success``, and as ``return`` what ``galaxy.startup`` returned there, or what went wrong.

    CLI Example:

    .. code-block:: bash

        salt-run galaxy.startup galaxy.example.org
    """
    return _call(galaxy_remote.call_once, _locks(), minion, "galaxy.startup", server=server)


def boot(minion, stamp=None, retries=0, pause=galaxy_boot.PAUSE):
    """
    Bring a minion back that has started: ``state.apply galaxy.boot``, where the minion has the role (docs/boot.md). For
    the reactor, and by hand.

    minion
        its ID
    stamp
        ``_stamp`` of the event that tells of its start, from the reactor; a boot that began later has served that start
    retries : 0
        how often a boot that failed is tried again
    pause : 60
        seconds before each further try; fewer where the minion starts anew meanwhile

    One boot of a minion is under way at a time. Calls that come meanwhile end at once, however many they are, and the
    minion is booted once more after that.

    The event ``galaxy/<minion>/ready`` or ``galaxy/<minion>/failed`` comes after the last try: from the minion itself,
    or, where an earlier try went well, or the minion cannot tell because it does not answer or its SLS cannot be
    rendered, from here.

    Returns ``success``, and as ``return`` why the boot failed (``step``, ``state``, ``reason``); ``{}`` where it went
    well or the minion told itself, ``None`` for one without the role, and a text where another call boots the minion,
    or has done so since ``stamp``.

    CLI Example:

    .. code-block:: bash

        salt-run galaxy.boot galaxy.example.org
    """

    return _answer(lambda: _boot(minion, stamp, (retries, pause)))


def restart(minion, stamp=None):
    """
    Restart Galaxy on a minion: ``state.apply galaxy.restarted``. For the reactor, and by hand.

    minion
        its ID
    stamp
        as for :py:func:`boot`: of the event that tells that Galaxy is stuck

    One restart of a minion's Galaxy is under way at a time, as for :py:func:`boot`.

    Returns ``success``, and as ``return`` what ``state.apply`` returned there, or what went wrong; a text where another
    call restarts it, or has done so since ``stamp``, and ``None`` for a minion that is not known.

    CLI Example:

    .. code-block:: bash

        salt-run galaxy.restart galaxy.example.org
    """

    def work(turn):
        with salt.client.get_local_client(mopts=__opts__) as client:
            return galaxy_remote.call(client, minion, "state.apply", mods="galaxy.restarted", queue=True)

    return _answer(lambda: _in_turn(minion, f"L@{galaxy_remote.minion_id(minion)}", "galaxy.restart", stamp, work))


def _boot(minion, stamp, tries) -> dict:
    target = f"L@{galaxy_remote.minion_id(minion)} and ( {_ROLE} )"
    retries, pause = arguments.count("retries", tries[0]), arguments.seconds("pause", tries[1], allow_zero=True)

    def work(turn):
        with salt.client.get_local_client(mopts=__opts__) as client:
            tell = functools.partial(_tell, minion)
            failure = galaxy_boot.boot_in_turn(client, minion, target, turn, tell, retries, pause)
        return {"success": not failure, "return": failure}

    return _in_turn(minion, target, "galaxy.boot", stamp, work)


def _in_turn(minion, target, name, stamp, work) -> dict:
    """Do what many events may ask for; each that comes while it is under way, or from before, ends at once."""
    turn, since = Turn(_locks(), f"{name} {minion}"), galaxy_boot.seconds_of(stamp)
    if since is not None and turn.has_served(since):
        return {"success": False, "return": f"{name} of {minion} is under way, or was, since {stamp}"}
    # by what the master has of its key, pillar and grains: no job, and no file of a lock, for any other
    if minion not in salt.utils.minions.CkMinions(__opts__).check_minions(target, "compound")["minions"]:
        return {"success": True, "return": None}
    done = turn.take(work)
    return done or {"success": False, "return": f"{name} of {minion} is under way, and will be done once more"}


def _call(ask, *given, server) -> dict:
    def answer():
        named = {} if server is None else {"server": galaxy_remote.server_name(server)}
        with salt.client.get_local_client(mopts=__opts__) as client:
            return ask(client, *given, **named)

    return _answer(answer)


def _answer(ask) -> dict:
    # until it has gone well: Salt calls a refused argument a success, and keeps the last run's code
    __context__["retcode"] = 1
    try:
        answer = ask()
    except SaltInvocationError as exc:
        answer = {"success": False, "return": str(exc)}
    __context__["retcode"] = 0 if answer["success"] else 1
    return answer


def _locks() -> str:
    return os.path.join(__opts__["cachedir"], "galaxy")


def _tell(minion, failure) -> None:
    tag = f"galaxy/{minion}/{'failed' if failure else 'ready'}"
    with salt.utils.event.get_master_event(__opts__, __opts__["sock_dir"], listen=False) as bus:
        bus.fire_event({"id": minion, "data": failure}, tag)
