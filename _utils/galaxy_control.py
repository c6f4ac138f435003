"""
Start and stop a Galaxy. All decisions rest on what a look has proven.
"""

import logging
import signal
from collections.abc import Iterable, Iterator
from typing import Any

import galaxy_host_process
import galaxy_host_progress
import galaxy_wait
from galaxy_errors import ConfigError, GalaxyError, ManagerError, MasterGone, NotReady, ProcessError
from galaxy_host_count import counted
from galaxy_host_later import Later
from galaxy_host_process import Process
from galaxy_host_wait import Deadline, wait_until
from galaxy_look import Look, ServiceLook
from galaxy_manager_unit import Unit, UnitStatus
from galaxy_server import Galaxy
from galaxy_service import Role
from galaxy_spec import Limits
from galaxy_webserver import WebServer

TYPE_CHECKING = False
if TYPE_CHECKING:
    import galaxy_gravity_trial
    import galaxy_gravity_update
else:
    galaxy_gravity_trial = Later("galaxy_gravity_trial")
    galaxy_gravity_update = Later("galaxy_gravity_update")

log = logging.getLogger(__name__)

GRACE = 10
# a value of Limits.companions: services beside the web server may fail
IGNORE = "ignore"


def start(galaxy: Galaxy, limits: Limits, test: bool = False) -> dict[str, Any]:
    """
    Start the services through their process manager, in an order that works, and wait until Galaxy is ready. If all is
    well already, nothing is done.

    test
        only find out whether anything would be changed; raise an error if something prevents the start

    Returns ``{"changed": …, "manager": …, "service": …}`` and what ``galaxy_wait.wait`` returns.
    """
    deadline = Deadline(limits.timeout)
    if test:
        return _plan_start(galaxy, limits, must_be_up=True)
    with galaxy.alone("galaxy.start", deadline):
        return _start(galaxy, deadline, limits)


def startup(galaxy: Galaxy, limits: Limits, test: bool = False) -> dict[str, Any]:
    """
    Start the process manager if needed, start Galaxy, and wait. While Galaxy does not become ready, stop it and start
    it again.

    A Galaxy whose master lives, but which cannot be asked, is never stopped: its stats server may be elsewhere.

    Returns what ``start`` returns, and ``tries``. Raises ``NotReady`` after the last try. Raises it at once if a live
    Galaxy cannot be asked, or serves with fewer workers than wanted.
    """
    if test:
        return {**_plan_start(galaxy, limits), "tries": 0}
    with galaxy.alone("galaxy.startup", Deadline(limits.timeout)):
        look = galaxy.look(galaxy_wait.LOOK)
        _require_startable(galaxy, look, limits)
        brought_up = _first_unit(look).bring_up(Deadline(limits.timeout))
        for tried in range(1, limits.retries + 2):
            galaxy_host_progress.attempt(tried, limits.retries + 1)
            try:
                done = _start(galaxy, Deadline(limits.timeout), limits)
                return {**done, "changed": done["changed"] or brought_up, "tries": tried}
            except NotReady as exc:
                _require_retry(galaxy.look(galaxy_wait.LOOK), exc)
                if tried > limits.retries:
                    raise NotReady(f"Gave up after {counted(tried, 'try', 'tries')}. {exc}") from None
                log.info("Try %d of %d failed, Galaxy is stopped and started again", tried, limits.retries + 1)
                _stop(galaxy, GRACE, force=True)
        raise AssertionError("unreachable")


def stop(galaxy: Galaxy, timeout: float = GRACE, force: bool = False, test: bool = False) -> dict[str, Any]:
    """
    Stop the services through their process manager, and end the workers that outlive this.

    timeout
        seconds that processes have to end after the process manager's stop, and again after SIGTERM, before SIGKILL
    force
        end the master too, if it outlives the process manager's stop
    test
        only find out whether anything would be changed; raise an error if something prevents the stop

    Returns ``{"changed": …, "manager": …, "service": …, "stopped": [pid, …], "signals": [{"pid": …, "signal": …}, …],
    "problems": […]}``.
    """
    if test:
        look = galaxy.look(galaxy_wait.LOOK)
        _require_known(look)
        _require_stoppable(galaxy, look, force)
        runs = look.running or any(one.running for one in look.companions)
        return {"changed": bool(runs or look.is_active), **about(look)}
    with galaxy.alone("galaxy.stop", Deadline(timeout)):
        return _stop(galaxy, timeout, force, known=True)


def restart(galaxy: Galaxy, limits: Limits, test: bool = False) -> dict[str, Any]:
    """
    Call ``stop``, then ``start``. No other start or stop comes between the two.

    test
        change nothing; raise an error if something prevents the restart

    Returns both results, as ``{"stop": …, "start": …}``; ``{}`` with ``test``.
    """
    deadline = Deadline(limits.timeout)
    if test:
        _require_restartable(galaxy, limits)
        _require_stoppable(galaxy, galaxy.look(galaxy_wait.LOOK), limits.force)
        require_loadable(galaxy, limits)
        return {}
    with galaxy.alone("galaxy.restart", deadline):
        # checked before anything is stopped
        _require_restartable(galaxy, limits)
        require_loadable(galaxy, limits)
        stopped = _stop(galaxy, GRACE, limits.force)
        return {"stop": stopped, "start": _start(galaxy, deadline, limits)}


def require_loadable(galaxy: Galaxy, limits: Limits) -> None:
    """
    If ``check`` asks for it, load the application on trial. Raises ``ProcessError``, with the reason, if it does not
    load.
    """
    if not limits.check:
        return
    instance = galaxy.instance if galaxy.gravity else None
    if not instance:
        raise ConfigError("check=True loads the application of a Galaxy that Gravity runs; uWSGI serves this one")
    galaxy_gravity_trial.require_loadable(galaxy_gravity_update.Update(instance).commands, limits.timeout)


def look_at(galaxy: Galaxy, name: str) -> ServiceLook:
    """Collect the facts of one service, now."""
    look = galaxy.look(galaxy_wait.LOOK, probe=False)
    return next(one for one in look.services if one.service.name == name)


def require_unit(galaxy: Galaxy, one: ServiceLook) -> Unit:
    """The unit of a service. Raises ``ManagerError`` if no process manager has it."""
    unit = one.service.unit or galaxy.find_unit(one.service, one.master)
    if unit:
        return unit
    where = f" ({galaxy.spec.config})" if galaxy.spec.config else ""
    if galaxy.gravity:
        reason = " ".join(galaxy.look(galaxy_wait.LOOK, probe=False).problems)
        raise ManagerError(f"No process manager has {one.service.name} of this Galaxy{where}. {reason}".strip())
    raise ManagerError(
        f"No process manager has this Galaxy{where}: no program of supervisord, unit of systemd, Upstart job or "
        "init script names it; give manager= and service="
    )


def about(look: Look) -> dict[str, Any]:
    """Name the process manager, and the services that it has for this Galaxy."""
    units = [one.service.unit for one in look.services if one.service.unit]
    return {
        "manager": units[-1].manager if units else None,
        "service": ", ".join(dict.fromkeys(unit.service for unit in reversed(units))) or None,
    }


def _require_restartable(galaxy: Galaxy, limits: Limits) -> None:
    look = galaxy.look(galaxy_wait.LOOK)
    _require_startable(galaxy, look, limits, limits.force)
    _first_unit(look).require_up()


def _first_unit(look: Look) -> Unit:
    """The unit of the web server, from a look. Whether its process manager is up tells the same of all units."""
    unit = look.webs[0].service.unit
    assert unit
    return unit


def _require_startable(galaxy: Galaxy, look: Look, limits: Limits, force: bool = False) -> None:
    """
    Raises ``ConfigError`` if nothing could tell when Galaxy is ready. Raises ``ManagerError`` if no process manager has
    a service, or if something else has started it.
    """
    galaxy.require_telling()
    for one in look.services:
        if one.service.role is not Role.WEB and limits.companions == IGNORE and not one.service.unit:
            continue
        one.service.unit = unit = require_unit(galaxy, one)
        if one.master and not force and _is_strangers(one.master, unit):
            raise ManagerError(
                f"Galaxy runs already, PID {one.master.pid}, but {unit.manager} did not start it as {unit.service}. "
                "A second one could not use its sockets. End it with galaxy.stop force=True; or, if it is right as "
                "it is, name its process manager and service (manager=, service=)"
            )
        if one.status and one.status.left and not force:
            raise ManagerError(_left_over(one.status, unit))
        if one.survivors:
            log.info("Processes whose master is gone hold the sockets: %s", one.survivors)


def _plan_start(galaxy: Galaxy, limits: Limits, must_be_up: bool = False) -> dict[str, Any]:
    look = galaxy.look(min(limits.timeout, galaxy_wait.LOOK))
    _require_startable(galaxy, look, limits)
    if _is_well(look, limits):
        return {"changed": False, **about(look), **galaxy_wait.ready(look.snapshots, 0.0)}
    for one in look.webs:
        # if the master still loads Galaxy, the run waits for it
        if one.master and not one.snapshot and not one.is_loading:
            raise NotReady(_silent(one, one.master))
    galaxy_wait.require_enough(look, limits.min_workers)
    if must_be_up:
        _first_unit(look).require_up()
    return {"changed": True, **about(look), **galaxy_wait.not_ready()}


def _is_well(look: Look, limits: Limits) -> bool:
    """Whether a start has nothing to do."""
    counted = Look(look.webs) if limits.companions == IGNORE else look
    return bool(look.is_ready(limits.min_workers)) and counted.is_kept_up


def _start(galaxy: Galaxy, deadline: Deadline, limits: Limits) -> dict[str, Any]:
    look = galaxy.look(min(max(deadline.left, 0.05), galaxy_wait.LOOK))
    _require_startable(galaxy, look, limits)
    if _is_well(look, limits):
        return {"changed": False, **about(look), **galaxy_wait.ready(look.snapshots, 0.0)}
    for one in look.services:
        if not one.is_kept_up or (one.service.web and not (one.snapshot and one.snapshot.ready)):
            tell_start(one, limits)
    done = galaxy_wait.until_ready(galaxy, look, deadline, limits.min_workers)
    require_companions(galaxy, limits, deadline)
    return {"changed": True, **about(look), **done}


def tell_start(one: ServiceLook, limits: Limits) -> None:
    """
    Let the process manager start a service. Raises ``ManagerError`` if it refuses; for a service that may be ignored it
    does not.
    """
    unit = one.service.unit
    if not unit:
        return
    log.info("galaxy: %s is told to start %s", unit.manager, unit.service)
    try:
        unit.start()
    except ManagerError as exc:
        if one.service.role is Role.WEB or limits.companions != IGNORE:
            raise
        log.warning("galaxy: %s", exc)


def require_companions(galaxy: Galaxy, limits: Limits, deadline: Deadline) -> None:
    """
    Wait until the process manager has decided on the services beside the web server. Raises ``NotReady``, which names
    the services that it does not keep up.
    """
    if limits.companions == IGNORE or not galaxy.gravity:
        return

    failing: list[ServiceLook] = []

    def is_settled() -> bool:
        found = galaxy.look(galaxy_wait.LOOK, probe=False).companions
        failing.extend(one for one in found if not one.is_kept_up or _came_back(one, deadline))
        return bool(failing) or not any(one.is_starting for one in found)

    wait_until(is_settled, deadline, what="the services beside the web server must be up")
    if failing:
        raise NotReady(
            f"Galaxy serves, but not all of its services run: {_named(failing)}; with companions=ignore a start "
            "does not need them"
        )


def _came_back(one: ServiceLook, deadline: Deadline) -> bool:
    """Whether the service ended since the deadline was set, and its process manager has started it again by itself."""
    status = one.status
    return status is not None and bool(status.restarts) and status.age is not None and status.age < deadline.spent


def _named(services: Iterable[ServiceLook]) -> str:
    said = []
    for one in services:
        unit, status = one.service.unit, one.status
        reason = f"{unit.manager} reports {status.story}" if unit and status else " ".join(one.errors)
        said.append(f"{one.service.name} ({reason or 'nothing reports its state'})")
    return ", ".join(said)


def _require_retry(look: Look, failure: NotReady) -> None:
    """Raises ``NotReady`` if a stop would hit a Galaxy that lives and may well serve."""
    if any(snapshot.ready for snapshot in look.snapshots):
        raise failure
    for one in look.webs:
        # in a crash loop, a new master may live for a moment
        if one.master and not one.snapshot and not failure.ended:
            raise NotReady(f"{failure}\n{_silent(one, one.master)}") from None


def _silent(one: ServiceLook, master: Process) -> str:
    reason = " ".join(one.errors) or "no reason is known"
    return (
        f"Galaxy's master, PID {master.pid}, lives, so it is not stopped; but it cannot be told whether it is "
        f"ready: {reason}"
    )


def _stop(galaxy: Galaxy, grace: float, force: bool, known: bool = False) -> dict[str, Any]:
    look = galaxy.look(min(max(grace, 0.05), galaxy_wait.LOOK))
    if known:
        _require_known(look)
    _require_stoppable(galaxy, look, force)
    ended, signals, problems, changed = [], [], [], False
    for one in reversed(look.services):
        done = stop_service(one, grace, force)
        ended += done["stopped"]
        signals += done["signals"]
        problems += done["problems"]
        changed = changed or done["changed"]
    return {
        "changed": changed,
        **about(look),
        "stopped": sorted(ended),
        "signals": signals,
        "problems": problems,
    }


def stop_service(one: ServiceLook, grace: float, force: bool) -> dict[str, Any]:
    """
    Stop one service through its process manager, and end the workers that outlive this.

    Returns ``changed``, ``stopped``, ``signals`` and ``problems``, like ``stop``. Raises ``ProcessError``.
    """
    unit, master, web = one.service.unit, one.master, one.service.web
    own = [*web.family(master), master] if web and master else _identified(one.survivors)
    # only the process manager ends other processes of the service, such as job handlers
    members = [process for process in _identified(one.status.pids if one.status else ()) if process not in own]
    everyone = [*own, *members]
    told = unit if unit and one.is_active is not False and not (master and _is_strangers(master, unit)) else None
    if told:
        log.info("galaxy: %s is told to stop %s", told.manager, told.service)
        told.stop()
        # an init script may only have sent a signal, and a worker ends a moment after its master
        galaxy_host_process.ended(everyone, grace)
    if web and master and own == [master] and not master.is_alive:
        # the master was loading, and forked workers after the look
        own += _left_behind(web)
    signals = []
    if web and master and master.is_alive:
        if not force:
            raise ProcessError(_unstoppable(master, unit))
        signals += galaxy_host_process.end([master], web.stop_signal, grace)
    # its manager is gone, so nobody else ends these processes
    own += [process for process in members if force and one.status and process.pid in one.status.left]
    signals += galaxy_host_process.end([one for one in own if one.is_alive], signal.SIGTERM, grace)
    left = [str(process.pid) for process in own if process.is_alive]
    if left:
        raise ProcessError(f"PID {', '.join(left)} outlived SIGKILL: it waits for a device (see /proc/PID/wchan)")
    ended = [process for process in everyone if not process.is_alive]
    return {
        "changed": bool(told or ended),
        "stopped": [process.pid for process in ended],
        "signals": signals,
        "problems": _still_served(one),
    }


def _left_behind(web: WebServer) -> list[Process]:
    """The processes of a web server whose master is gone."""
    try:
        web.find_master(None)
    except MasterGone as exc:
        return _identified(exc.pids)
    except GalaxyError as exc:
        log.debug("galaxy: %s", exc)
    return []


def _require_known(look: Look) -> None:
    """Raises ``ProcessError`` if it cannot be told whether anything runs, and no process manager could stop it."""
    if look.running is None and not look.is_active:
        reason = " ".join([*look.problems, *look.errors])
        reason = reason or "nothing says where it listens, and no process manager has it"
        raise ProcessError(f"It cannot be told whether Galaxy runs: {reason}")


def _require_stoppable(galaxy: Galaxy, look: Look, force: bool) -> None:
    """Raises ``ProcessError`` if the stop would end nothing, or something that is not this Galaxy."""
    for one in look.services:
        unit, master = one.service.unit, one.master
        if master and not force and one.unclear:
            raise ProcessError(
                f"It cannot be told which process manager has Galaxy's master, PID {master.pid}, so it is not stopped: "
                f"{one.unclear}"
            )
        if master and not force and (not unit or _is_strangers(master, unit)):
            raise ProcessError(_unstoppable(master, unit))
        if unit and one.status and one.status.left and not force:
            raise ProcessError(_left_over(one.status, unit))
        for process in _with_children(_identified(one.status.pids if one.status else ())):
            # an emperor also runs servers other than this one
            if unit and one.service.web and one.service.web.is_another(process):
                raise ProcessError(
                    f"{unit.service} of {unit.manager} has PID {process.pid}, which serves another configuration than "
                    f"{galaxy.spec.config}; it is not stopped. Say with service= which one has this Galaxy"
                )


def _is_strangers(master: Process, unit: Unit) -> bool:
    """
    Whether something else than its process manager has started a live master. If a master has ended in a crash loop,
    the process manager no longer knows its PID.
    """
    return unit.owns(master) is False and master.is_alive


def _identified(pids: Iterable[int]) -> list[Process]:
    return [process for process in map(Process.of, pids) if process]


def _with_children(processes: list[Process]) -> Iterator[Process]:
    """The processes, and all that they started."""
    seen = set()
    while processes:
        process = processes.pop()
        if process.pid not in seen:
            seen.add(process.pid)
            yield process
            processes += process.children()


def _still_served(one: ServiceLook) -> list[str]:
    """The other masters that still serve the sockets after the stop, as in a zerg pool."""
    sharers = one.service.web.sharers(one.master) if one.service.web else []
    pids = ", ".join(str(process.pid) for process in sharers)
    return [f"Its sockets are still served by another master, PID {pids}, which was left alone."] if pids else []


def _left_over(status: UnitStatus, unit: Unit) -> str:
    pids = ", ".join(map(str, status.left))
    return (
        f"{unit.manager} is gone, but what it had started for {unit.service} still runs, PID {pids}, and a second one "
        "would run beside it; galaxy.stop force=True ends it"
    )


def _unstoppable(master: Process, unit: Unit | None) -> str:
    if not unit:
        return f"No process manager has Galaxy's master, PID {master.pid}; force=True ends it by signal"
    if _is_strangers(master, unit):
        return (
            f"{unit.manager} did not start Galaxy's master, PID {master.pid}, as {unit.service}; force=True ends it by "
            "signal"
        )
    return (
        f"Galaxy's master, PID {master.pid}, outlived the stop of {unit.service} by {unit.manager}; force=True ends it "
        "by signal"
    )
