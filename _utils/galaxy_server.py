"""
One Galaxy: its services, and one look at all of them.
"""

import dataclasses
import logging
from collections.abc import Callable, Mapping

import galaxy_host_redaction
import galaxy_manager_detection
import galaxy_uwsgi_process
from galaxy_errors import GalaxyError, MasterGone, ProcessError
from galaxy_host_process import Process
from galaxy_host_record import record
from galaxy_manager_unit import State, Unit, UnitStatus
from galaxy_service import Role
from galaxy_spec import Spec
from galaxy_uwsgi_config import Config
from galaxy_uwsgi_server import UwsgiServer
from galaxy_uwsgi_stats import Stats
from galaxy_webserver import Snapshot

log = logging.getLogger(__name__)


@record
class Service:
    """
    One service of a Galaxy.

    unit
        what the process manager calls it; ``None`` where nothing manages it
    web
        its web server
    """

    name: str
    role: Role
    unit: Unit | None
    web: UwsgiServer


@record
class Look:
    """
    All facts of one service at one moment; what could not be learnt is ``None``, with the reason in ``errors``.

    status
        what its process manager says
    snapshot
        what its web server tells
    master
        its web server's master
    survivors
        PIDs of its processes whose master is gone
    unclear
        why it cannot be told what manages it
    """

    service: Service
    status: UnitStatus | None = None
    snapshot: Snapshot | None = None
    master: Process | None = None
    survivors: tuple[int, ...] = ()
    silent: bool | None = None
    unclear: str = ""
    errors: list[str] = dataclasses.field(default_factory=list)

    @property
    def running(self) -> bool | None:
        """Whether its web server runs; ``False`` only on proof."""
        if self.master or self.snapshot or self.survivors:
            return True
        if self.silent:
            return False
        if self.status and self.status.state in (State.STOPPED, State.FAILED):
            return False
        return None

    @property
    def ready_workers(self) -> int | None:
        """How many workers take requests with their application loaded."""
        if self.snapshot:
            return self.snapshot.ready
        return 0 if self.running is False else None

    def is_ready(self, wanted: int) -> bool | None:
        """Whether ``wanted`` workers are ready: the one place that decides it."""
        ready = self.ready_workers
        if ready is None:
            return None
        return self.snapshot is not None and ready >= wanted

    @property
    def is_kept_up(self) -> bool:
        """Whether its process manager has it running."""
        return self.status is not None and self.status.state in (State.RUNNING, State.STARTING)

    @property
    def is_active(self) -> bool | None:
        """Whether its process manager has something of it running, or will start it again by itself."""
        return self.status.active if self.status else None


class Galaxy:
    """
    A Galaxy server.

    spec
        which one
    functions
        Salt's execution modules (``__salt__``), for init scripts

    Nothing is read before it is asked for, so a server whose volume is not mounted has a ``Galaxy`` too.
    """

    def __init__(self, spec: Spec, functions: Mapping[str, Callable]):
        self.spec = spec
        self.web = UwsgiServer(spec.config, spec.stats, spec.socket)
        self._functions = functions

    def find_unit(self, master: Process | None) -> Unit | None:
        """What manages it. Raises ``ManagerError`` where several may."""
        spec = self.spec
        return galaxy_manager_detection.detect(
            config=spec.config,
            master=master,
            manager=spec.manager,
            service=spec.service,
            conf_file=spec.conf_file,
            functions=self._functions,
            own=lambda invocation: galaxy_uwsgi_process.starts(invocation, spec.config),
        )

    def read_stats(self, timeout: float) -> Stats:
        """What its stats server says now. Raises ``StatsError`` or ``ConfigError``."""
        try:
            return self.web.read_stats(timeout)
        except GalaxyError:
            # a command line may name another address than the file
            if not self._learn():
                raise
            return self.web.read_stats(timeout)

    def snapshot(self, timeout: float) -> Snapshot:
        """What its web server tells now. Raises a ``GalaxyError`` with the reason where it tells nothing."""
        return self.read_stats(timeout)

    def find_master(self, timeout: float) -> Process | None:
        """Its web server's master; ``None`` where none runs. Raises ``ProcessError`` as ``UwsgiServer.find_master``."""
        try:
            snapshot = self.web.snapshot(timeout)
        except GalaxyError:
            snapshot = None
        return self.web.find_master(snapshot)

    def require_master(self, timeout: float) -> Process | None:
        """
        As ``find_master``, but ``None`` only on proof that none runs.

        Raises ``ProcessError`` with the reason where that cannot be told.
        """
        master = self.find_master(timeout)
        if master:
            return master
        look = self.look(timeout)
        if look.master or look.running is False:
            return look.master
        reason = " ".join(look.errors) or "neither its addresses nor its process manager are known"
        if look.running:
            raise ProcessError(f"Galaxy runs, but which process is its master cannot be told: {reason}")
        raise ProcessError(f"It cannot be told whether Galaxy runs: {reason}")

    def options(self) -> Config:
        """The options in effect. Raises ``ConfigError``."""
        self._learn()
        return self.web.options

    def _learn(self) -> bool:
        """Take up what the live master, or else the definition, was started with; whether that says more."""
        try:
            master = self.web.find_master(None)
            if master:
                return self.web.learn(master.invocation())
            unit = self.find_unit(None)
            return bool(unit) and self.web.learn(unit.invocation())
        except GalaxyError as exc:
            log.debug("No command line is known: %s", exc)
            return False

    def look(self, timeout: float, unit: Unit | None = None, managed: bool = True) -> Look:
        """
        All facts, each asked once.

        timeout
            seconds for its web server's answer
        unit
            its service under the process manager, where it is known already
        managed
            ``False`` where the process manager is not to be asked
        """
        look = Look(Service("uwsgi", Role.WEB, unit, self.web))
        self._look_at_server(look, timeout)
        if look.master and self.web.learn(look.master.invocation()):
            self._look_at_server(look, timeout)
        if managed and unit is None:
            self._look_for_unit(look)
        unit = look.service.unit
        if unit and not look.master and self.web.learn(_attempt(look, unit.invocation)):
            self._look_at_server(look, timeout)
            if look.master and self.web.learn(look.master.invocation()):
                self._look_at_server(look, timeout)
        if managed and unit:
            look.status = _attempt(look, unit.status)
        if look.running is None or not look.master:
            look.silent = _attempt(look, self.web.is_silent)
        return look

    def _look_for_unit(self, look: Look) -> None:
        try:
            look.service.unit = self.find_unit(look.master)
        except GalaxyError as exc:
            log.debug("galaxy: %s", exc)
            look.unclear = str(exc)
            look.errors.append(look.unclear)

    def _look_at_server(self, look: Look, timeout: float) -> None:
        """Anew: what was found out with less knowledge does not count."""
        look.errors.clear()
        look.snapshot = _attempt(look, self.web.snapshot, timeout)
        look.master = _attempt(look, self.web.find_master, look.snapshot)

    def log(self, unit: Unit | None, lines: int = 10) -> list[str]:
        """The last lines of its log: its own file's, or else what the manager keeps; secrets blanked out."""
        text = self.web.log(lines) or (unit.log(lines) if unit else [])
        return [galaxy_host_redaction.blank(line) for line in text[-lines:]]


def _attempt(look: Look, ask: Callable, *arguments):
    """What ``ask`` gives; ``None`` where it fails, with the reason among the look's errors."""
    try:
        return ask(*arguments)
    except GalaxyError as exc:
        if isinstance(exc, MasterGone):
            look.survivors = tuple(exc.pids)
        if str(exc) not in look.errors:
            log.debug("galaxy: %s", exc)
            look.errors.append(str(exc))
        return None
