"""
One Galaxy: its services, and one look at all of them.
"""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import galaxy_uwsgi_process
from galaxy_errors import ConfigError, GalaxyError, IsGravitys, ProcessError
from galaxy_host_later import Later
from galaxy_host_process import Process
from galaxy_host_wait import Deadline
from galaxy_look import Look, Service, ServiceLook
from galaxy_manager_unit import Unit
from galaxy_service import Role
from galaxy_spec import Spec
from galaxy_uwsgi_config import Config
from galaxy_uwsgi_server import UwsgiServer
from galaxy_uwsgi_stats import Stats
from galaxy_webserver import Snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    import galaxy_gravity_config
    import galaxy_gravity_environment
    import galaxy_gravity_instance
    import galaxy_gravity_services
    import galaxy_host_lock
    import galaxy_host_redaction
    import galaxy_manager_detection
else:
    galaxy_gravity_config = Later("galaxy_gravity_config")
    galaxy_gravity_environment = Later("galaxy_gravity_environment")
    galaxy_gravity_services = Later("galaxy_gravity_services")
    galaxy_host_lock = Later("galaxy_host_lock")
    galaxy_host_redaction = Later("galaxy_host_redaction")
    galaxy_manager_detection = Later("galaxy_manager_detection")

log = logging.getLogger(__name__)


class Galaxy:
    """
    A Galaxy server, under uWSGI, or under gunicorn and Gravity.

    spec
        which Galaxy
    functions
        Salt's execution modules (``__salt__``), for init scripts

    Nothing is read before it is asked for. So there can be a ``Galaxy`` for a server whose volume is not mounted.
    """

    def __init__(self, spec: Spec, functions: Mapping[str, Callable[..., Any]]):
        self.spec = spec
        self._uwsgi = UwsgiServer(spec.config, spec.stats, spec.socket, self._proven_unit)
        self._functions = functions
        self._believed: int | None = None
        self._started_by: Unit | None = None

    @property
    def instance(self) -> "galaxy_gravity_instance.Instance | None":
        """
        What Gravity is asked to run; ``None`` if uWSGI serves.

        A ``gravity:`` section wins over a ``uwsgi:`` section; but if a uWSGI runs with the file, this uWSGI serves.
        Raises ``ConfigError``.
        """
        if isinstance(self._instance, GalaxyError):
            raise self._instance
        return self._instance

    @functools.cached_property
    def _instance(self) -> "galaxy_gravity_instance.Instance | GalaxyError | None":
        try:
            _ = self._uwsgi.options
        except IsGravitys:
            if self._uwsgi.is_given:
                return None
            assert self.spec.config
            try:
                found = galaxy_gravity_config.read(self.spec.config, self.spec.instance)
                variables = galaxy_gravity_environment.variables(found) if found else {}
                if variables:
                    return galaxy_gravity_config.read(self.spec.config, self.spec.instance, variables)
                return found
            except GalaxyError as exc:
                # one look needs it many times, but it is read only once
                return exc
        except GalaxyError as exc:
            log.debug("galaxy: not Gravity's: %s", exc)
        return None

    @functools.cached_property
    def gravity(self) -> "galaxy_gravity_services.Services | None":
        """The services that Gravity set up; ``None`` if uWSGI serves. Raises ``ConfigError``."""
        instance = self.instance
        if instance is None or self._uwsgi.masters():
            return None
        services = galaxy_gravity_services.Services(instance)
        if self._believed:
            services.believe(self._believed)
        return services

    @property
    def web_server(self) -> str:
        """What serves it: ``uwsgi`` or ``gunicorn``."""
        try:
            return "gunicorn" if self.gravity else self._uwsgi.kind
        except GalaxyError:
            return "gunicorn"

    @property
    def uwsgi(self) -> UwsgiServer:
        """Its uWSGI. Raises ``ConfigError`` if gunicorn serves it, or if this cannot be told."""
        if self.gravity:
            raise ConfigError(f"{self.spec.config}: gunicorn serves this Galaxy, so there is no stats server of uWSGI")
        return self._uwsgi

    def alone(self, action: str, deadline: Deadline) -> contextlib.AbstractContextManager[None]:
        """A context in which nobody else starts or stops this Galaxy. Raises ``LockError``."""
        return galaxy_host_lock.hold(action, self.spec.identity, deadline)

    def believe(self, pid: int) -> None:
        """Accept the master with this PID as this Galaxy's if its addresses lead to it, whoever runs it."""
        self._believed = pid
        self._uwsgi.believe(pid)

    def require_telling(self) -> None:
        """Raises ``ConfigError`` if nothing could tell when Galaxy is ready."""
        if not self.gravity:
            _ = self._uwsgi.stats_address
            return
        instance = self.instance
        if instance and any(program.web and program.web.is_blind for program in instance.programs):
            raise ConfigError(" ".join(f"{text}." for text in instance.problems))

    def _is_defined(self, unit: Unit) -> bool:
        """Whether root has defined that the unit starts uWSGI with the configuration."""
        command = unit.invocation() if unit.user is None else None
        return bool(command and galaxy_uwsgi_process.starts(command, self.spec.config))

    @property
    def stats_address(self) -> str | None:
        """The address of uWSGI's stats server; ``None`` if there is none, or if it is not known."""
        try:
            return str(self.uwsgi.stats_address)
        except GalaxyError:
            return None

    @property
    def unusable(self) -> list[str]:
        """What uWSGI cannot use of its options: sentences."""
        try:
            return [] if self._uwsgi.is_given else [str(one.value) for one in self.uwsgi.options.unusable]
        except GalaxyError:
            # the errors of the look have this already
            return []

    @property
    def configurations(self) -> list[str]:
        """Paths of the files that its services read when they start."""
        try:
            instance = self.instance if self.gravity else None
        except GalaxyError:
            return []
        if instance:
            return list(dict.fromkeys([instance.path, instance.galaxy_config]))
        return [self.spec.config] if self.spec.config else []

    def version_on_disk(self) -> str | None:
        """Galaxy's version, from its source tree or package; ``None`` if Gravity does not tell where this is."""
        try:
            gravity = self.gravity
        except GalaxyError:
            return None
        return gravity.version_on_disk() if gravity else None

    def find_unit(self, service: Service, master: Process | None) -> Unit | None:
        """The unit of a service of this Galaxy, with this master. Raises ``ManagerError`` if there may be several."""
        if self.gravity:
            return self.gravity.units.units.get(service.name)
        if master:
            self._started_by = self._detect(master)
        # the unit of a master that was stopped starts the next one too, even if its definition does not say so
        return self._started_by or self._detect(None)

    def _detect(self, master: Process | None) -> Unit | None:
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

    def _proven_unit(self, process: Process | None) -> Unit | None:
        """
        The unit that root has defined to start uWSGI with the configuration. A unit that only happens to have started a
        process does not count: a user's own manager, or that of another server.
        """
        for master in dict.fromkeys((process, None)):
            try:
                unit = self._detect(master)
                if unit and (not master or self._is_defined(unit)):
                    return unit
            except GalaxyError as exc:
                log.debug("galaxy: %s", exc)
        return None

    def read_stats(self, timeout: float) -> Stats:
        """What uWSGI's stats server says now. Raises ``StatsError`` or ``ConfigError``."""
        try:
            return self._uwsgi.read_stats(timeout)
        except GalaxyError:
            if self.gravity:
                raise ConfigError(
                    f"{self.spec.config}: gunicorn serves this Galaxy, and has no stats server; galaxy.busy_workers "
                    "tells what its workers do"
                ) from None
            # the command line may name another address than the file
            if not self._learn():
                raise
            return self._uwsgi.read_stats(timeout)

    def snapshots(self, timeout: float) -> list[Snapshot]:
        """What its web servers tell now. Raises a ``GalaxyError``, with the reason, if one tells nothing."""
        if not self.gravity:
            return [self.read_stats(timeout)]
        look = self.look(timeout)
        if len(look.snapshots) < len(look.webs):
            raise ProcessError(" ".join(look.errors) or "Galaxy's web server reports nothing about its workers")
        return look.snapshots

    def require_master(self, timeout: float) -> Process | None:
        """
        Its web server's master; ``None`` only if it is proven that none runs.

        Raises ``ProcessError``, with the reason, if this cannot be told, or if several run.
        """
        if not self.gravity:
            master = self._find_master(timeout)
            if master:
                return master
        look = self.look(timeout)
        if len(look.masters) > 1:
            named = ", ".join(f"{one.service.name} PID {one.master.pid}" for one in look.webs if one.master)
            raise ProcessError(f"Galaxy has several web servers, each with its master: {named}")
        if look.masters or look.running is False:
            return next(iter(look.masters), None)
        reason = " ".join(look.errors) or "neither its addresses nor its process manager are known"
        if look.running:
            raise ProcessError(f"Galaxy runs, but which process is its master cannot be told: {reason}")
        raise ProcessError(f"It cannot be told whether Galaxy runs: {reason}")

    def options(self) -> Config:
        """uWSGI's options in effect. Raises ``ConfigError``."""
        uwsgi = self.uwsgi
        self._learn()
        return uwsgi.options

    def _find_master(self, timeout: float) -> Process | None:
        try:
            snapshot = self._uwsgi.snapshot(timeout)
        except GalaxyError:
            snapshot = None
        return self._uwsgi.find_master(snapshot)

    def _learn(self) -> bool:
        """
        Take over what the live master, or else the definition, was started with. Returns whether this says more than
        before.
        """
        try:
            master = self._uwsgi.find_master(None)
            if master:
                return self._uwsgi.learn(master.invocation())
            unit = self.find_unit(Service("uwsgi", Role.WEB), None)
            return unit is not None and self._uwsgi.learn(unit.invocation())
        except GalaxyError as exc:
            log.debug("No command line is known: %s", exc)
            return False

    def look(self, timeout: float, managed: bool = True, probe: bool = True) -> Look:
        """
        Collect all facts, asking for each once.

        timeout
            seconds to wait for its web server's answer
        managed
            ``False``: do not ask the process manager
        probe
            ``False``: send no HTTP request
        """
        try:
            gravity = self.gravity
        except GalaxyError as exc:
            # Galaxy is under Gravity, but nobody can tell what Gravity would run
            return Look([ServiceLook(Service("gunicorn", Role.WEB), errors=[str(exc)])])
        if gravity:
            return gravity.look(timeout, managed, probe)
        return Look([self._look_at_uwsgi(timeout, managed)])

    def _look_at_uwsgi(self, timeout: float, managed: bool) -> ServiceLook:
        web, look = self._uwsgi, ServiceLook(Service("uwsgi", Role.WEB, web=self._uwsgi))
        self._look_at_server(look, timeout)
        if look.master and web.learn(look.master.invocation()):
            self._look_at_server(look, timeout)
        if managed:
            self._look_for_unit(look)
        unit = look.service.unit
        if unit and not look.master and web.learn(look.attempt(unit.invocation)):
            self._look_at_server(look, timeout)
            if look.master and web.learn(look.master.invocation()):
                self._look_at_server(look, timeout)
        if unit:
            look.status = look.attempt(unit.status)
        if look.running is None or not look.master:
            look.silent = look.attempt(web.is_silent)
        return look

    def _look_for_unit(self, look: ServiceLook) -> None:
        try:
            look.service.unit = self.find_unit(look.service, look.master)
        except GalaxyError as exc:
            log.debug("galaxy: %s", exc)
            look.unclear = str(exc)
            look.errors.append(look.unclear)

    def _look_at_server(self, look: ServiceLook, timeout: float) -> None:
        """Look at it anew: a look with less knowledge does not count."""
        look.errors.clear()
        look.snapshot = look.attempt(self._uwsgi.snapshot, timeout)
        look.master = look.attempt(self._uwsgi.find_master, look.snapshot)

    def log(self, services: Iterable[Service], lines: int = 10) -> list[str]:
        """
        The last lines of the services' logs, each with the service's name before it if there are several. They come
        from the service's own file, or else from what the process manager keeps. Secrets are blanked out.
        """
        services = list(services)
        found = []
        for service in services:
            text = (service.web.log(lines) if service.web else []) or (service.unit.log(lines) if service.unit else [])
            name = f"{service.name}: " if len(services) > 1 else ""
            found += [name + galaxy_host_redaction.blank(line) for line in text[-lines:]]
        return found
