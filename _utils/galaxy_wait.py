"""
Wait until a Galaxy is ready, and notice early if it will not become ready.
"""

import logging
from collections.abc import Callable
from typing import Any, NoReturn

import galaxy_manager_unit
from galaxy_errors import ConfigError, GalaxyError, MasterGone, NotReady
from galaxy_host_count import counted, part
from galaxy_host_process import Process
from galaxy_host_wait import Deadline, Throttled, wait_until
from galaxy_look import Look, Service, are_ready
from galaxy_manager_unit import State, Unit
from galaxy_server import Galaxy
from galaxy_spec import Limits
from galaxy_webserver import Snapshot

log = logging.getLogger(__name__)

# a stats server may accept and then say nothing: this must not hide that the master died
LOOK = 2
# uWSGI greets with 35 lines. In a crash loop, the last start's lines must not hide why the start before failed
_LOG_LINES = 60


def wait(galaxy: Galaxy, limits: Limits, test: bool = False) -> dict[str, Any]:
    """
    Wait until as many workers as wanted are ready.

    test
        do not wait; raise an error if waiting cannot help

    Returns ``{"ready": True, "pid": …, "accepting": …, "seconds": …}``. Raises ``NotReady``, with the reason and the
    last lines of the log: at the timeout, or at once if the master dies or the process manager says that the service
    failed.
    """
    deadline = Deadline(limits.timeout)
    # the process manager is asked later, once it is clear that something must be waited for
    look = galaxy.look(min(limits.timeout, LOOK), managed=False)
    if look.is_ready(limits.min_workers):
        return ready(look.snapshots, 0.0)
    if test:
        galaxy.require_telling()
        require_enough(look, limits.min_workers)
        for one in look.webs:
            if one.snapshot:
                _Watch(galaxy, one.service, limits.min_workers, deadline).judge(one.snapshot)
            elif one.running is not False and not one.is_loading:
                raise NotReady(" ".join(one.errors) or "It cannot be told whether Galaxy is ready")
        return not_ready()
    # this raises an error if nobody can tell which web server would serve
    _ = galaxy.gravity
    return until_ready(galaxy, look, deadline, limits.min_workers)


def ready(snapshots: list[Snapshot], seconds: float) -> dict[str, Any]:
    """The result for a Galaxy that is ready."""
    accepting = sum(snapshot.accepting for snapshot in snapshots)
    return {"ready": True, "pid": snapshots[0].pid, "accepting": accepting, "seconds": round(seconds, 2)}


def not_ready() -> dict[str, Any]:
    """The result in test mode, for a Galaxy that is not ready."""
    return {"ready": False, "pid": None, "accepting": 0, "seconds": 0.0}


def until_ready(
    galaxy: Galaxy,
    look: Look,
    deadline: Deadline,
    wanted: int,
    also: Callable[[Snapshot], bool] = lambda _: True,
) -> dict[str, Any]:
    """
    Wait until the web servers of a look are ready, with ``wanted`` workers. ``also`` must hold for each web server too.

    Returns and raises like ``wait``.
    """
    # of several gunicorns, each must serve
    each = wanted if len(look.webs) == 1 else min(wanted, 1)
    watches = [_Watch(galaxy, one.service, each, deadline, also) for one in look.webs]
    log.info("Waiting up to %g s for %s", deadline.left, counted(wanted, "worker"))

    def all_ready() -> list[Snapshot] | None:
        snapshots = [snapshot for watch in watches if (snapshot := watch.look())]
        if len(snapshots) < len(watches):
            return None
        if not are_ready(snapshots, wanted):
            _require_enough(snapshots, wanted)
            return None
        for watch, snapshot in zip(watches, snapshots, strict=True):
            watch.probe(snapshot)
        return snapshots if are_ready(snapshots, wanted) else None

    def reasons() -> str:
        return "; ".join(dict.fromkeys(watch.last for watch in watches))

    snapshots = wait_until(all_ready, deadline, what=reasons)
    if snapshots is None:
        text = f"Galaxy is not ready after {deadline.seconds:g} s: {reasons()}"
        raise NotReady(_with_log(galaxy, [watch.service for watch in watches], text))
    return ready(snapshots, deadline.spent)


def require_enough(look: Look, wanted: int) -> None:
    """Raises ``NotReady`` if the web servers can never have as many workers as wanted."""
    if len(look.snapshots) == len(look.webs):
        _require_enough(look.snapshots, wanted)


def _require_enough(snapshots: list[Snapshot], wanted: int) -> None:
    lack = _lack(snapshots, wanted)
    if lack:
        raise NotReady(lack)


def _lack(snapshots: list[Snapshot], wanted: int) -> str:
    """A sentence that says that there will never be as many workers as wanted; empty if there may be."""
    size = sum(snapshot.size for snapshot in snapshots)
    if size >= wanted:
        return ""
    return f"{counted(wanted, 'worker is', 'workers are')} wanted, but {snapshots[0].title} has {size}"


def _with_log(galaxy: Galaxy, services: list[Service], text: str) -> str:
    lines = galaxy.log(services, _LOG_LINES)
    return "\n".join([text, "Last lines of the log:", *lines]) if lines else text


class _Watch:
    """
    What one wait has seen so far of one web server. ``look`` costs so little that it can be called a dozen times a
    second.
    """

    def __init__(
        self,
        galaxy: Galaxy,
        service: Service,
        wanted: int,
        deadline: Deadline,
        also: Callable[[Snapshot], bool] = lambda _: True,
    ):
        self.last = "no look yet"
        self.service = service
        assert service.web
        self._web = service.web
        self._galaxy, self._deadline = galaxy, deadline
        self._wanted, self._also = wanted, also
        self._master: Process | None = None
        self._searched = False
        self._came_up = False
        # the reason why a new master cannot listen, if there is one
        self._occupied = ""
        self._ask_manager = Throttled(self._look_at_manager)
        self._find_master = Throttled(self._look_for_master)

    def look(self) -> Snapshot | None:
        """The snapshot of the web server, if it may well be ready."""
        snapshot, self._occupied = None, ""
        try:
            snapshot = self._web.readiness(self._patience)
        except ConfigError:
            # another look would change nothing
            raise
        except GalaxyError as exc:
            self.last = str(exc)
            if isinstance(exc, MasterGone) and self._web.orphans_stay:
                self._occupied = self.last
        if snapshot:
            if snapshot.ready >= self._wanted and self._also(snapshot):
                return snapshot
            self.judge(snapshot)
        if self._master and not self._master.is_alive:
            pid = self._master.pid
            self._fail(f"Galaxy's master, PID {pid}, died: {self._reason(pid)}", ended=True)
        if not self._master:
            self._master = self._find_master(snapshot)
        self._ask_manager()
        return None

    def probe(self, snapshot: Snapshot) -> None:
        """Send an HTTP request to see whether it answers."""
        self._web.probe(snapshot, self._patience)
        if snapshot.answers is False:
            self.last = " ".join(snapshot.problems)

    def judge(self, snapshot: Snapshot) -> None:
        """Raises ``NotReady`` if waiting cannot help."""
        total, lack = len(snapshot.workers), _lack([snapshot], self._wanted)
        if lack:
            self._fail(lack)
        self.last = f"{part(snapshot.ready, total, 'worker', 'accepts', 'accept')}, {self._wanted} wanted"
        if total and snapshot.accepting == total and not snapshot.ready and self._also(snapshot):
            who = "The worker accepts, but has no" if total == 1 else f"All {total} workers accept, but none has an"
            self._fail(f"{who} application: its import failed")

    @property
    def _patience(self) -> float:
        return max(0.05, min(self._deadline.left, LOOK))

    def _look_for_master(self, snapshot: Snapshot | None) -> Process | None:
        try:
            master = self._web.find_master(snapshot)
        except GalaxyError:
            # its sockets are not open yet, or belong to the last server; the next look will tell
            return None
        if master:
            # its stats server may listen elsewhere than the file says
            self._web.learn(master.invocation())
        return master

    def _look_at_manager(self) -> None:
        unit = self._unit()
        if not unit:
            return
        status = unit.status()
        self._web.told(status.main_pid)
        if status.state in (State.RUNNING, State.STARTING):
            self._came_up = True
        if status.state in (State.FAILED, State.RETRYING) or (self._came_up and status.state is State.STOPPED):
            self._fail("; ".join(filter(None, [galaxy_manager_unit.report(unit, status), self._occupied])), ended=True)
        if self._occupied and status.main_pid:
            self._fail(self._occupied, ended=True)

    def _unit(self) -> Unit | None:
        if not self.service.unit and not self._searched:
            self._searched = True
            try:
                self.service.unit = self._galaxy.find_unit(self.service, self._master)
            except GalaxyError as exc:
                log.info("galaxy: %s", exc)
        return self.service.unit

    def _reason(self, died: int) -> str:
        unit = self._unit()
        if not unit:
            return "nothing manages it"
        status = unit.status()
        if status.main_pid not in (None, died):
            # the process manager has forgotten the process that died
            return f"{unit.manager} reports {status.raw}, a new start, PID {status.main_pid}"
        return f"{unit.manager} reports {status.raw}{status.why}"

    def _fail(self, text: str, ended: bool = False) -> NoReturn:
        raise NotReady(_with_log(self._galaxy, [self.service], text), ended)
