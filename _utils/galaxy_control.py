"""
Wait for a Galaxy server, start it, stop it, reload it: decisions on what a look has proven.
"""

import logging
import signal
from collections.abc import Callable, Iterable

import galaxy_host_lock
import galaxy_host_process
from galaxy_errors import ConfigError, GalaxyError, ManagerError, NotReady, ProcessError
from galaxy_host_process import Process
from galaxy_host_wait import Deadline, Throttled, wait_until
from galaxy_manager_unit import State, Unit
from galaxy_server import Galaxy, Look
from galaxy_spec import Limits
from galaxy_webserver import Snapshot, workers

log = logging.getLogger(__name__)

GRACE = 10
# a stats server that accepts and then says nothing must not hide that the master died
_LOOK = 2
_LOG_LINES = 10


def wait(galaxy: Galaxy, limits: Limits, test: bool = False) -> dict:
    """
    Wait until as many workers as wanted are ready.

    test
        do not wait; what waiting would not change is raised

    Returns ``{"ready": True, "pid": …, "accepting": …, "seconds": …}``. Raises ``NotReady`` with the reason and the
    log's last lines: at the timeout, and at once when the master dies or the manager says that the service failed.
    """
    look = galaxy.look(min(limits.timeout, _LOOK))
    if look.is_ready(limits.min_workers):
        return _ready(look.snapshot, 0.0)
    if test:
        _ = galaxy.web.stats_address
        if look.snapshot:
            _Watch(galaxy, look.service.unit, Deadline(limits.timeout), limits.min_workers).judge(look.snapshot)
        return {"ready": False, "pid": None, "accepting": 0, "seconds": 0.0}
    return _wait(galaxy, look.service.unit, Deadline(limits.timeout), limits.min_workers)


def start(galaxy: Galaxy, limits: Limits, test: bool = False) -> dict:
    """
    Start the service through its manager and wait; nothing is done where it is ready.

    test
        only find out whether anything would be changed; what would stand in the way is raised

    Returns ``{"changed": …, "manager": …, "service": …}`` and what ``wait`` returns.
    """
    deadline = Deadline(limits.timeout)
    if test:
        return _plan_start(galaxy, limits, must_be_up=True)
    with _alone("galaxy.start", galaxy, deadline):
        return _start(galaxy, deadline, limits)


def startup(galaxy: Galaxy, limits: Limits, test: bool = False) -> dict:
    """
    Bring the manager up where needed, start, wait; stop and start again while Galaxy does not come up.

    A Galaxy whose master lives, but which cannot be asked, is never stopped: its stats server may be elsewhere.

    Returns what ``start`` returns, and ``tries``. Raises ``NotReady`` for the last try, and at once where a Galaxy that
    lives cannot be asked, or serves with fewer workers than wanted.
    """
    if test:
        return {**_plan_start(galaxy, limits), "tries": 0}
    with _alone("galaxy.startup", galaxy, Deadline(limits.timeout)):
        brought_up = _unit_to_start(galaxy, galaxy.look(_LOOK)).bring_up(Deadline(limits.timeout))
        for tried in range(1, limits.retries + 2):
            try:
                done = _start(galaxy, Deadline(limits.timeout), limits)
                return {**done, "changed": done["changed"] or brought_up, "tries": tried}
            except NotReady as exc:
                _require_retry(galaxy.look(_LOOK), exc)
                if tried > limits.retries:
                    raise NotReady(f"Gave up after {tried} tries. {exc}") from None
                log.info("Try %d of %d failed, Galaxy is stopped and started again", tried, limits.retries + 1)
                _stop(galaxy, GRACE, force=True)
        raise AssertionError("unreachable")


def stop(galaxy: Galaxy, timeout: float = GRACE, force: bool = False, test: bool = False) -> dict:
    """
    Stop the service through its manager; end the workers that outlive it.

    timeout
        seconds that processes have to end after the manager's stop, and again after SIGTERM, before SIGKILL
    force
        the master too, where it outlives the manager's stop
    test
        only find out whether anything would be changed; what would stand in the way is raised

    Returns ``{"changed": …, "manager": …, "service": …, "stopped": [pid, …], "signals": [{"pid": …, "signal": …}, …],
    "problems": […]}``.
    """
    if test:
        look = galaxy.look(_LOOK)
        _require_known(look)
        _require_stoppable(galaxy, look, force)
        return {"changed": bool(look.running or look.is_active), **_about(look.service.unit)}
    with _alone("galaxy.stop", galaxy, Deadline(timeout)):
        return _stop(galaxy, timeout, force, known=True)


def restart(galaxy: Galaxy, limits: Limits, test: bool = False) -> dict:
    """
    ``stop``, then ``start``, with nothing in between.

    test
        only find out what would stand in the way, which is raised

    Returns both, as ``{"stop": …, "start": …}``; ``{}`` with ``test``.
    """
    deadline = Deadline(limits.timeout)
    if test:
        look = galaxy.look(_LOOK)
        _unit_to_start(galaxy, look, limits.force).require_up()
        _require_stoppable(galaxy, look, limits.force)
        return {}
    with _alone("galaxy.restart", galaxy, deadline):
        # before anything is stopped
        _unit_to_start(galaxy, galaxy.look(_LOOK), force=limits.force).require_up()
        stopped = _stop(galaxy, GRACE, limits.force)
        return {"stop": stopped, "start": _start(galaxy, deadline, limits)}


def reload(galaxy: Galaxy, limits: Limits, test: bool = False) -> dict:
    """
    Reload gracefully and wait for new workers.

    test
        only find out what would stand in the way, which is raised

    Returns ``{"changed": True, "method": "master-fifo"|"SIGHUP", "pid": …, "accepting": …, "seconds": …}``; ``{}`` with
    ``test``. Raises ``ProcessError`` where Galaxy does not run, ``NotReady`` where the new workers do not become ready.
    """
    deadline = Deadline(limits.timeout)
    if test:
        _require_reloadable(galaxy.look(_LOOK))
        return {}
    with _alone("galaxy.reload", galaxy, deadline):
        look = galaxy.look(min(limits.timeout, _LOOK))
        # or nobody could tell the new workers from the old
        old = {worker.pid for worker in _require_reloadable(look).workers}
        method = galaxy.web.reload(look.master)
        log.info("PID %d reloads, told by %s", look.master.pid, method)

        def is_new(now: Snapshot) -> bool:
            return old.isdisjoint(worker.pid for worker in now.workers if worker.pid)

        wanted = max(1, limits.min_workers)
        return {"changed": True, "method": method, **_wait(galaxy, look.service.unit, deadline, wanted, is_new)}


def require_unit(galaxy: Galaxy, look: Look) -> Unit:
    """What manages the server. Raises ``ManagerError`` where nothing does."""
    unit = look.service.unit or galaxy.find_unit(look.master)
    if not unit:
        where = f" ({galaxy.spec.config})" if galaxy.spec.config else ""
        raise ManagerError(
            f"No process manager has this Galaxy{where}: no program of supervisord, unit of systemd, Upstart job or "
            "init script names it; give manager= and service="
        )
    return unit


def _alone(action: str, galaxy: Galaxy, deadline: Deadline):
    return galaxy_host_lock.hold(action, galaxy.spec.identity, deadline)


def _require_reloadable(look: Look) -> Snapshot:
    if not look.master:
        reason = f": {' '.join(look.errors)}" if look.errors else ""
        raise ProcessError(f"Galaxy does not run on this machine, so it cannot be reloaded; start it instead{reason}")
    if not look.snapshot:
        raise ProcessError(" ".join(look.errors) or "Galaxy's web server tells nothing of its workers")
    return look.snapshot


def _unit_to_start(galaxy: Galaxy, look: Look, force: bool = False) -> Unit:
    """
    What manages the server, where a start of it can do what is wanted.

    Raises ``ConfigError`` where nothing could tell when Galaxy is ready, ``ManagerError`` where nothing manages it or
    something else has started it.
    """
    # without it nobody could tell when Galaxy is ready
    _ = galaxy.web.stats_address
    unit = require_unit(galaxy, look)
    if look.master and not force and _is_strangers(look.master, unit):
        raise ManagerError(
            f"Galaxy runs already, PID {look.master.pid}, but {unit.manager} did not start it as {unit.service}: a "
            "second one would find its sockets taken. galaxy.stop force=True ends it; where it is right as it is, say "
            "which manager= and service= have it"
        )
    if look.survivors:
        log.info("Processes whose master is gone hold the sockets: %s", look.survivors)
    return unit


def _plan_start(galaxy: Galaxy, limits: Limits, must_be_up: bool = False) -> dict:
    look = galaxy.look(min(limits.timeout, _LOOK))
    unit = _unit_to_start(galaxy, look)
    if look.is_ready(limits.min_workers) and look.is_kept_up:
        return {"changed": False, **_about(unit), **_ready(look.snapshot, 0.0)}
    if look.master and not look.snapshot:
        raise NotReady(_silent(look))
    _require_enough(look, limits.min_workers)
    if must_be_up:
        unit.require_up()
    return {"changed": True, **_about(unit), "ready": False, "pid": None, "accepting": 0, "seconds": 0.0}


def _start(galaxy: Galaxy, deadline: Deadline, limits: Limits) -> dict:
    look = galaxy.look(min(max(deadline.left, 0.05), _LOOK))
    unit = _unit_to_start(galaxy, look)
    if look.is_ready(limits.min_workers) and look.is_kept_up:
        return {"changed": False, **_about(unit), **_ready(look.snapshot, 0.0)}
    log.info("galaxy: %s is told to start %s", unit.manager, unit.service)
    unit.start()
    return {"changed": True, **_about(unit), **_wait(galaxy, unit, deadline, limits.min_workers)}


def _require_enough(look: Look, wanted: int) -> None:
    if look.snapshot and len(look.snapshot.workers) < wanted:
        raise NotReady(_too_few(look.snapshot, wanted))


def _too_few(snapshot: Snapshot, wanted: int) -> str:
    verb = "is" if wanted == 1 else "are"
    return f"{workers(wanted)} {verb} wanted, but {snapshot.title} has {len(snapshot.workers)}"


def _require_retry(look: Look, failure: NotReady) -> None:
    """Raises ``NotReady`` where a stop would hit a Galaxy that lives and may well serve."""
    if look.snapshot and look.snapshot.ready:
        raise failure
    # in a crash loop, a new master may live for a moment
    if look.master and not look.snapshot and not failure.ended:
        raise NotReady(f"{failure}\n{_silent(look)}") from None


def _silent(look: Look) -> str:
    reason = " ".join(look.errors) or "no reason is known"
    return (
        f"Galaxy's master, PID {look.master.pid}, lives, so it is not stopped; but it cannot be told whether it is "
        f"ready: {reason}"
    )


def _stop(galaxy: Galaxy, grace: float, force: bool, known: bool = False) -> dict:
    look = galaxy.look(min(max(grace, 0.05), _LOOK))
    if known:
        _require_known(look)
    unit, master = look.service.unit, look.master
    _require_stoppable(galaxy, look, force)
    own = [*galaxy.web.family(master), master] if master else _identified(look.survivors)
    # what else the service has, such as job handlers, is the manager's alone to end
    members = [process for process in _identified(look.status.pids if look.status else ()) if process not in own]
    everyone = [*own, *members]
    tell = unit is not None and look.is_active is not False and not (master and _is_strangers(master, unit))
    if tell:
        log.info("galaxy: %s is told to stop %s", unit.manager, unit.service)
        unit.stop()
        # an init script may only have sent a signal, and a worker ends a moment after its master
        wait_until(lambda: not any(process.is_alive for process in everyone), Deadline(grace))
    signals = []
    if master and master.is_alive:
        if not force:
            raise ProcessError(_unstoppable(master, unit))
        signals += galaxy_host_process.end([master], galaxy.web.stop_signal, grace)
    signals += galaxy_host_process.end([one for one in own if one.is_alive], signal.SIGTERM, grace)
    left = [str(process.pid) for process in own if process.is_alive]
    if left:
        raise ProcessError(f"PID {', '.join(left)} outlived SIGKILL; it waits for a device, look at its wchan")
    ended = [process for process in everyone if not process.is_alive]
    return {
        "changed": bool(tell or ended),
        **_about(unit),
        "stopped": sorted(process.pid for process in ended),
        "signals": signals,
        "problems": _still_served(galaxy, master),
    }


def _require_known(look: Look) -> None:
    """Raises ``ProcessError`` where it cannot be told whether anything runs, and no manager could stop it."""
    if look.running is None and not look.is_active:
        reason = " ".join(look.errors) or "nothing says where it listens, and no process manager has it"
        raise ProcessError(f"It cannot be told whether Galaxy runs: {reason}")


def _require_stoppable(galaxy: Galaxy, look: Look, force: bool) -> None:
    """Raises ``ProcessError`` where the stop would end nothing, or what is not this Galaxy."""
    unit, master = look.service.unit, look.master
    if master and not force and look.unclear:
        raise ProcessError(
            f"It cannot be told which process manager has Galaxy's master, PID {master.pid}, so it is not stopped: "
            f"{look.unclear}"
        )
    if master and not force and (not unit or _is_strangers(master, unit)):
        raise ProcessError(_unstoppable(master, unit))
    for process in _identified(look.status.pids if look.status else ()):
        if galaxy.web.is_another(process):
            raise ProcessError(
                f"{unit.service} of {unit.manager} has PID {process.pid}, which serves another configuration than "
                f"{galaxy.spec.config}; it is not stopped. Say with service= which one has this Galaxy"
            )


def _is_strangers(master: Process, unit: Unit) -> bool:
    """
    Whether something else than its process manager has started a master that lives. Of one that has ended in a crash
    loop, the manager has forgotten the PID.
    """
    return unit.owns(master) is False and master.is_alive


def _identified(pids: Iterable[int]) -> list[Process]:
    return [process for process in map(Process.of, pids) if process]


def _still_served(galaxy: Galaxy, master: Process | None) -> list[str]:
    """Which other masters serve its sockets after its stop, as in a zerg pool."""
    pids = ", ".join(str(process.pid) for process in galaxy.web.sharers(master))
    return [f"Its sockets are still served by another master, PID {pids}, which was left alone."] if pids else []


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


def _about(unit: Unit | None) -> dict:
    return {"manager": unit.manager if unit else None, "service": unit.service if unit else None}


def _ready(snapshot: Snapshot, seconds: float) -> dict:
    return {"ready": True, "pid": snapshot.pid, "accepting": snapshot.accepting, "seconds": round(seconds, 2)}


def _wait(
    galaxy: Galaxy,
    unit: Unit | None,
    deadline: Deadline,
    wanted: int,
    also: Callable[[Snapshot], bool] = lambda _: True,
) -> dict:
    watch = _Watch(galaxy, unit, deadline, wanted, also)
    log.info("Waiting up to %g s for %s", deadline.left, workers(wanted))
    snapshot = wait_until(watch.look, deadline)
    if snapshot is None:
        raise NotReady(watch.with_log(f"Galaxy is not ready after {deadline.seconds:g} s: {watch.last}"))
    return _ready(snapshot, deadline.seconds - deadline.left)


class _Watch:
    """What one wait has seen so far; ``look`` costs little enough to be called a dozen times a second."""

    def __init__(self, galaxy: Galaxy, unit: Unit | None, deadline: Deadline, wanted: int, also=lambda _: True):
        self.last = "no look yet"
        self._galaxy, self._unit, self._deadline = galaxy, unit, deadline
        self._wanted, self._also = wanted, also
        self._master: Process | None = None
        self._came_up = False
        self._ask_manager = Throttled(self._look_at_manager)
        self._find_master = Throttled(self._look_for_master)

    def look(self) -> Snapshot | None:
        snapshot = None
        try:
            snapshot = self._galaxy.web.snapshot(max(0.05, min(self._deadline.left, _LOOK)))
        except ConfigError:
            # no look will change that
            raise
        except GalaxyError as exc:
            self.last = str(exc)
        if snapshot:
            if snapshot.ready >= self._wanted and self._also(snapshot):
                return snapshot
            self.judge(snapshot)
        if self._master and not self._master.is_alive:
            self._fail(f"Galaxy's master, PID {self._master.pid}, died: {self._reason()}", ended=True)
        if not self._master:
            self._master = self._find_master(snapshot)
        self._ask_manager()
        return None

    def with_log(self, text: str) -> str:
        lines = self._galaxy.log(self._unit, _LOG_LINES)
        return "\n".join([text, "Last lines of the log:", *lines]) if lines else text

    def judge(self, snapshot: Snapshot) -> None:
        total = len(snapshot.workers)
        if total < self._wanted:
            self._fail(_too_few(snapshot, self._wanted))
        self.last = f"{snapshot.ready} of {workers(total)} accept, {self._wanted} wanted"
        if snapshot.accepting == total and not snapshot.ready and self._also(snapshot):
            self._fail(f"All {workers(total)} accept, but none has an application: its import failed")

    def _look_for_master(self, snapshot: Snapshot | None) -> Process | None:
        try:
            master = self._galaxy.web.find_master(snapshot)
        except GalaxyError:
            # not its own sockets yet, or still those of the server before: the next look tells
            return None
        if master:
            # its stats server may be elsewhere than the file says
            self._galaxy.web.learn(master.invocation())
        return master

    def _look_at_manager(self) -> None:
        if not self._unit:
            return
        status = self._unit.status()
        if status.state in (State.RUNNING, State.STARTING):
            self._came_up = True
        if status.state in (State.FAILED, State.RETRYING) or (self._came_up and status.state is State.STOPPED):
            self._fail(f"{self._unit.manager} says {status.raw} of {self._unit.service}{status.why}", ended=True)

    def _reason(self) -> str:
        if not self._unit:
            return "nothing manages it"
        status = self._unit.status()
        return f"{self._unit.manager} says {status.raw}{status.why}"

    def _fail(self, text: str, ended: bool = False) -> None:
        raise NotReady(self.with_log(text), ended)
