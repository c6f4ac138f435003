"""
Look after Galaxy on one minion, and after the Galaxies of many minions. An account of ``salt-api`` (docs/remote.md),
the reactor (docs/boot.md) and ``salt-run`` call these runners.

The functions that an account of ``salt-api`` may call take only the minion and the name of a Galaxy in its pillar. So
whoever may call them can neither name another service nor have another file read.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
import sys
import time

import salt.client
import salt.utils.data
import salt.utils.event
import salt.utils.minions
from salt.exceptions import CommandExecutionError, SaltClientError, SaltInvocationError

import galaxy_host_later

galaxy_host_later.drop_outdated()

import galaxy_boot
import galaxy_fleet
import galaxy_fleet_ask
import galaxy_fleet_rolling
import galaxy_fleet_table
import galaxy_host_arguments as arguments
import galaxy_host_progress
import galaxy_host_turn
import galaxy_host_wait
import galaxy_remote
import galaxy_remote_progress
from galaxy_fleet_rolling import Plan
from galaxy_host_turn import Turn

log = logging.getLogger(__name__)

# the role in pillar or grains that lets a minion be booted, docs/boot.md
_ROLE_PILLAR, _ROLE_GRAIN = "galaxy:boot:enabled:True", "roles:galaxy"

TYPE_CHECKING = False
if TYPE_CHECKING:
    __opts__: dict
    __context__: dict

# what Salt raises if the master cannot be asked
_FAILURES = (SaltClientError, SaltInvocationError, CommandExecutionError)


def status(minion, server=None):
    """
    Tell how Galaxy is on a minion.

    minion : str
        ID of the minion
    server : str
        name of the server in the minion's pillar; not needed if there is only one Galaxy

    Returns ``success``, and ``return``: what ``galaxy.status`` returned there, or what went wrong.

    CLI Example:

    .. code-block:: bash

        salt-run galaxy.status galaxy.example.org
    """
    return _call(galaxy_remote.call, minion, "galaxy.status", server=server)


def startup(minion, server=None):
    """
    Start Galaxy on a minion, and wait until it is ready.

    If somebody starts Galaxy there already (another call, a person, a boot), the answer says so at once, with
    ``success`` false. Then nothing is started.

    minion : str
        ID of the minion
    server : str
        name of the server in the minion's pillar; not needed if there is only one Galaxy

    Returns ``success``, and ``return``: what ``galaxy.startup`` returned there, or what went wrong.

    CLI Example:

    .. code-block:: bash

        salt-run galaxy.startup galaxy.example.org
    """
    with _shown(minion):
        return _call(galaxy_remote.call_once, _locks(), minion, "galaxy.startup", server=server)


def boot(minion, stamp=None, retries=0, pause=galaxy_boot.PAUSE):
    """
    Bring a minion back after it has started: run ``state.apply galaxy.boot`` there, if the minion has the role
    (docs/boot.md). This is for the reactor, and for use by hand.

    One boot of a minion is under way at a time. Calls that come meanwhile end at once, and after the boot the minion is
    booted once more, however many calls came.

    After the last try there is an event ``galaxy/<minion>/ready`` or ``galaxy/<minion>/failed``. The minion itself
    sends it. The runner sends it if a try before the last one went well, or if the minion cannot send it because it
    does not answer or its SLS cannot be rendered.

    minion : str
        ID of the minion
    stamp : str
        ``_stamp`` of the event that tells of the minion's start; the reactor gives it. If a boot began after this time,
        nothing is left to do
    retries : int = 0
        how often to try again after a boot has failed
    pause : float = 60
        seconds to wait before each further try; less if the minion starts anew meanwhile

    Returns ``success``, and ``return``: why the boot failed (``step``, ``state``, ``reason``). ``return`` is ``{}`` if
    the boot went well or the minion has sent its own event, ``None`` for a minion without the role, and a text if
    another call boots the minion or has done so since ``stamp``.

    CLI Example:

    .. code-block:: bash

        salt-run galaxy.boot galaxy.example.org
    """

    return _answer(lambda: _boot(minion, stamp, (retries, pause)))


def restart(minion, stamp=None):
    """
    Restart Galaxy on a minion: run ``state.apply galaxy.restarted`` there. This is for the reactor, and for use by
    hand.

    One restart of a minion's Galaxy is under way at a time, as for :py:func:`boot`.

    minion : str
        ID of the minion
    stamp : str
        ``_stamp`` of the event that tells that Galaxy is stuck, as for :py:func:`boot`

    Returns ``success``, and ``return``: what ``state.apply`` returned there, or what went wrong. ``return`` is a text
    if another call restarts Galaxy or has done so since ``stamp``, and ``None`` for a minion that is not known.

    CLI Example:

    .. code-block:: bash

        salt-run galaxy.restart galaxy.example.org
    """

    def work(turn):
        with _patient_client() as client, _shown(minion):
            return galaxy_remote.call(client, minion, "state.apply", mods="galaxy.restarted", queue=True)

    def restarted():
        return _in_turn(galaxy_remote.minion_id(minion), lambda _: True, "galaxy.restart", stamp, work)

    return _answer(restarted)


def fleet(tgt="*", tgt_type="glob", timeout=10, watch=None):
    """
    Show the Galaxies of many minions, one row each, worst first (docs/fleet.md).

    tgt : str = *
        the minions, as ``salt`` takes them
    tgt_type : str = glob
        how ``tgt`` names them, as ``salt`` takes it: ``glob``, ``list``, ``compound``, …
    timeout : float = 10
        seconds to wait for answers; a minion that has not answered by then is ``silent``
    watch : float
        seconds: ask again at this interval and draw the table anew on the terminal, until Ctrl-C

    Returns a mapping:

    rows
        for each server ``minion``, ``server``, ``state``, numbers and ``problems``
    totals
        how many minions, servers, and servers in each state there are
    silent
        minions that did not answer
    without
        minions that have no Galaxy in pillar
    retcode
        the exit code of ``salt-run``: 0 if all servers are ready; 1 if some are degraded; 2 if one is down, not ready
        or silent; 3 if the state of one cannot be told, or if the question itself failed
    problem
        why the question failed; then there is only ``retcode`` beside it

    A terminal shows this as a table.

    CLI Example:

    .. code-block:: bash

        salt-run galaxy.fleet
        salt-run galaxy.fleet 'G@roles:galaxy' tgt_type=compound watch=5
        salt-run galaxy.fleet --out=json
    """
    __context__["retcode"] = galaxy_fleet.FAILED
    try:
        seconds = arguments.seconds("timeout", timeout)
        again = None if watch is None else arguments.seconds("watch", watch)
        if again is not None and not (galaxy_remote_progress.is_command(__opts__) and sys.stdout.isatty()):
            raise SaltInvocationError("watch needs salt-run on a terminal")
        found = _ask_fleet(tgt, tgt_type, seconds)
        if again is not None:
            found = _watch(found, (tgt, tgt_type, seconds), again)
    except _FAILURES as exc:
        found = {"problem": galaxy_remote.text(str(exc)), "retcode": galaxy_fleet.FAILED}
    __context__["retcode"] = found["retcode"]
    return {**found, "outputter": "galaxy"}


def rolling_restart(
    tgt,
    batch=1,
    max_failures=0,
    tgt_type="glob",
    test=False,
    resume=None,
    drain=None,
    undrain=None,
    drain_timeout=60,
    timeout=galaxy_fleet_rolling.LOOK,
    settle=galaxy_fleet_rolling.SETTLE,
):
    """
    Restart the Galaxies of many minions: one machine after the other, and on each machine one server after the other.
    The others serve meanwhile (docs/fleet.md).

    First, all machines are looked at. If more than ``max_failures`` machines do not serve, nothing is restarted. A
    machine that failed is not undrained. One such call works at a time. Each step is an event ``galaxy/fleet/<job>/…``
    and a line on the terminal.

    tgt : str
        the minions, as ``salt`` takes them; minions without a Galaxy in pillar are left out
    batch : int = 1
        how many machines to restart at a time
    max_failures : int = 0
        how many machines may fail, or not serve to begin with; one more stops the call
    tgt_type : str = glob
        how ``tgt`` names the minions: ``glob``, ``list``, ``compound``, …
    test : bool = False
        only say what would be done
    resume : int
        ``job`` of an earlier call. Servers that were started after the beginning of that call are not restarted again
    drain : dict
        a function to call before each machine is restarted, such as one of a load balancer: ``{"function": …, "arg":
        […], "kwarg": {…}, "tgt": …, "tgt_type": …}``. In a text, ``{minion}`` means the machine's ID. ``tgt`` is the
        machine itself by default
    undrain : dict
        the same, to call after each machine that serves again
    drain_timeout : float = 60
        seconds that requests under way have to end after ``drain``. A machine that still has requests then is not
        restarted
    timeout : float = 15
        seconds to wait for the first answers of all machines
    settle : float = 11
        seconds that restarted machines must go on serving before the next ones are touched. It should be longer than
        ``fail_timeout`` of the proxy, because the proxy sends nothing to a machine for so long after it did not answer

    Returns a mapping:

    success
        ``True`` if all went well
    job
        number of this call, for ``resume``
    restarted, untouched
        minions
    would_restart
        with ``test``, instead of ``restarted``, ``untouched`` and ``failed``: the servers to restart, by minion
    failed
        the reason for each minion that failed
    already
        minions that ``resume`` left out
    without
        minions that have no Galaxy in pillar
    retcode
        0 if all were restarted, 1 if one failed, 3 if nothing was done
    problem
        why nothing was done

    CLI Example:

    .. code-block:: bash

        salt-run galaxy.rolling_restart 'galaxy-*' test=True
        salt-run galaxy.rolling_restart 'galaxy-*' drain='{function: balancer.drain, tgt: lb, arg: ["{minion}"]}'
    """
    __context__["retcode"] = galaxy_fleet.FAILED
    try:
        arguments.flag("test", test)
        plan = Plan(
            galaxy_fleet_rolling.job("resume", resume),
            _batch(batch),
            arguments.count("max_failures", max_failures),
            galaxy_fleet_rolling.hook("drain", drain),
            galaxy_fleet_rolling.hook("undrain", undrain),
            arguments.seconds("drain_timeout", drain_timeout, allow_zero=True),
            arguments.seconds("settle", settle, allow_zero=True),
        )
        seconds = arguments.seconds("timeout", timeout)
        with galaxy_host_turn.alone(_locks(), "galaxy.rolling_restart") as mine:
            if not mine:
                raise SaltInvocationError(
                    "Another rolling restart is under way on this master; try again when it is over"
                )
            answer = _roll(plan, (tgt, tgt_type, seconds), test)
    except _FAILURES as exc:
        return {"success": False, "problem": galaxy_remote.text(str(exc)), "retcode": galaxy_fleet.FAILED}
    __context__["retcode"] = answer["retcode"]
    return answer


def _roll(plan, question, test) -> dict:
    asked = time.time()
    found = _ask_fleet(*question)
    work, already = galaxy_fleet_rolling.look(found, plan, asked)
    answer = {"job": plan.job, "already": already, "without": found["without"]}
    if test:
        return {**answer, "success": True, "would_restart": work, "retcode": 0}

    def tell(subject, step, data):
        said = {key: " and ".join(map(str, value)) if isinstance(value, list) else value for key, value in data.items()}
        _say(f"{subject} {step} {', '.join(f'{key}: {value}' for key, value in said.items())}")
        _fire(f"galaxy/fleet/{plan.job}/{subject}/{step}", {"id": subject, "data": data})

    _say(f"job {plan.job}: machines to restart: {len(work)}, {plan.batch} at a time; done already: {len(already)}")
    _fire(f"galaxy/fleet/{plan.job}/begin", {"data": {"machines": list(work), "already": already}})
    clients = functools.partial(salt.client.get_local_client, mopts=__opts__)
    with _shown(*work):
        done = galaxy_fleet_rolling.roll(work, plan, clients, tell)
    success = not done["failed"]
    _fire(f"galaxy/fleet/{plan.job}/end", {"data": done})
    return {**answer, **done, "success": success, "retcode": 0 if success else 1}


def _watch(found, question, again) -> dict:
    """Draw the table, ask and draw again, until Ctrl-C. Returns the last answer."""
    # Salt turns Ctrl-C into an exit; while it waits for an event it is an interrupt
    with contextlib.suppress(KeyboardInterrupt, SystemExit):
        while True:
            width, height = shutil.get_terminal_size()
            text = galaxy_fleet_table.table(found, width, not __opts__.get("no_color"))
            _draw(text.splitlines()[: height - 1])
            galaxy_host_wait.wait_until(lambda: False, galaxy_host_wait.Deadline(again), interval=again)
            found = _ask_fleet(*question)
    return found


def _batch(given) -> int:
    batch = arguments.count("batch", given)
    if not batch:
        raise SaltInvocationError(f"batch is {given!r}; give a whole number, 1 or more")
    return batch


def _ask_fleet(tgt, tgt_type, seconds) -> dict:
    with salt.client.get_local_client(mopts=__opts__) as client:
        return galaxy_fleet_ask.ask(client, tgt, tgt_type, seconds)


def _draw(lines) -> None:
    """Draw the lines in place of what the terminal shows."""
    sys.stdout.write("\x1b[H\x1b[J" + "\n".join(lines) + "\n")
    sys.stdout.flush()


def _say(text) -> None:
    """Write to the log, and to the terminal beside the answer."""
    log.info("%s", text)
    if galaxy_remote_progress.is_command(__opts__):
        galaxy_host_progress.say(text)


def _shown(*minions):
    """Show on the terminal what these minions tell of their work meanwhile."""
    listen = functools.partial(salt.utils.event.get_master_event, __opts__, __opts__["sock_dir"], listen=True)
    return galaxy_remote_progress.shown(__opts__, listen, minions)


def _boot(minion, stamp, tries) -> dict:
    minion = galaxy_remote.minion_id(minion)
    # without its data, the minion itself knows whether it has the role
    condition = "" if __opts__["minion_data_cache"] else f"I@{_ROLE_PILLAR} or G@{_ROLE_GRAIN}"
    retries, pause = arguments.count("retries", tries[0]), arguments.seconds("pause", tries[1], allow_zero=True)

    def work(turn):
        with _patient_client() as client:
            tell = functools.partial(_tell, minion)
            with _shown(minion):
                failure = galaxy_boot.boot_in_turn(client, minion, condition, turn, tell, retries, pause)
        return {"success": not failure, "return": failure}

    return _in_turn(minion, _has_role, "galaxy.boot", stamp, work)


def _has_role(minion) -> bool:
    """
    Whether the minion has the role, from what the master keeps of it. Only this minion is read. For a compound target
    the master reads what it keeps of every minion: a million reads if a thousand minions start.
    """
    if not __opts__["minion_data_cache"]:
        return True
    _, grains, pillar = salt.utils.minions.get_minion_data(minion, __opts__)
    asked = ((pillar, _ROLE_PILLAR), (grains, _ROLE_GRAIN))
    return any(salt.utils.data.subdict_match(known or {}, role) for known, role in asked)


def _is_accepted(minion) -> bool:
    return minion in salt.utils.minions.CkMinions(__opts__).check_minions([minion], "list")["minions"]


def _in_turn(minion, is_meant, name, stamp, work) -> dict:
    """Do what many events may ask for. An event that comes meanwhile, or an older one, ends at once."""
    turn, since = Turn(_locks(), f"{name} {minion}"), galaxy_boot.seconds_of(stamp)
    if since is not None and turn.has_served(since):
        return {"success": False, "return": f"{name} of {minion} has run since {stamp}, or runs now"}
    # other minions get no job and no lock file. The keys come last, because Salt lists all of them
    if not (is_meant(minion) and _is_accepted(minion)):
        return {"success": True, "return": None}
    done = turn.take(work)
    return done or {"success": False, "return": f"{name} of {minion} is under way, and will be done once more"}


def _patient_client():
    """For what takes a minion minutes, also where a thousand minions start at once."""
    patience = {key: max(__opts__[key], galaxy_boot.PATIENCE) for key in ("timeout", "gather_job_timeout")}
    return salt.client.get_local_client(mopts={**__opts__, **patience})


def _call(ask, *given, server) -> dict:
    def answer():
        named = {} if server is None else {"server": galaxy_remote.server_name(server)}
        with salt.client.get_local_client(mopts=__opts__) as client:
            return ask(client, *given, **named)

    return _answer(answer)


def _answer(ask) -> dict:
    # 1 until all went well: if an argument is refused, Salt reports success, with the code of the last run
    __context__["retcode"] = 1
    try:
        answer = ask()
    except (SaltClientError, SaltInvocationError) as exc:
        answer = {"success": False, "return": str(exc)}
    # Salt itself looks at the first value; the second becomes the exit code of salt-run
    __context__["retcode"] = retcode = 0 if answer["success"] else 1
    return {**answer, "retcode": retcode}


def _locks() -> str:
    return os.path.join(__opts__["cachedir"], "galaxy")


def _tell(minion, what, data) -> None:
    """Fire an event as if the minion sent it."""
    _fire(f"galaxy/{minion}/{what}", {"id": minion, "data": data})


def _fire(tag, data) -> None:
    """Fire an event on the master's bus, by a connection of its own: machines of a batch tell at the same time."""
    with salt.utils.event.get_master_event(__opts__, __opts__["sock_dir"], listen=False) as bus:
        bus.fire_event(data, tag)
