"""
Find the process manager of a server, from what is really there, not from the distribution's name.

The process manager of a running server is found from its master, through the master's ancestors. A definition alone
decides only if nothing runs, or if the definition names the server's configuration. A definition that names another
configuration is never taken.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import galaxy_manager_unit
from galaxy_errors import ManagerError
from galaxy_host_later import Later
from galaxy_host_process import Process
from galaxy_manager_supervisor_config import NotTrusted, Program, SupervisorConfig, config_files, config_files_of
from galaxy_manager_supervisor_rpc import Client, ProcessInfo
from galaxy_manager_supervisord import Supervisord, resolve
from galaxy_manager_unit import Own, Unit

# loaded late: a Galaxy under supervisord does not need them
TYPE_CHECKING = False
if TYPE_CHECKING:
    import galaxy_manager_initscript
    import galaxy_manager_systemd
    import galaxy_manager_systemd_definition
else:
    galaxy_manager_initscript = Later("galaxy_manager_initscript")
    galaxy_manager_systemd = Later("galaxy_manager_systemd")
    galaxy_manager_systemd_definition = Later("galaxy_manager_systemd_definition")

log = logging.getLogger(__name__)

MANAGERS = ("supervisord", "systemd", "upstart", "sysvinit")
# a script that starts a Galaxy has one of these words in its text or in its name
_MENTIONS = ("galaxy", "uwsgi", "gunicorn")


def detect(
    config: str | None = None,
    master: Process | None = None,
    manager: str | None = None,
    service: str | None = None,
    conf_file: str | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    own: Own = lambda invocation: None,
) -> Unit | None:
    """
    The unit of the server; ``None`` if no process manager has it.

    config
        path of the server's configuration
    master
        its master, if it runs
    manager, service
        given by the user, and believed
    conf_file
        supervisord's configuration file
    functions
        Salt's execution functions (``__salt__``), for init scripts and the packaged supervisord
    own
        says whether a command starts this server. ``False``: it starts something else, such as another server or a job
        handler; ``None``: it cannot tell

    Raises ``ManagerError`` for an unknown process manager, if several definitions fit equally well, and if nothing has
    the name given in ``manager``, ``service`` or ``conf_file``.
    """
    if manager is not None and manager not in MANAGERS:
        raise ManagerError(f"Unknown process manager {manager!r}; expected one of {', '.join(MANAGERS)}")
    if conf_file and manager is None:
        manager = "supervisord"
    wanted = [manager] if manager else list(MANAGERS)
    search = _Search(config, conf_file, functions, own)
    if master:
        unit = search.of_master(master, wanted)
        if unit and (service is None or unit.is_called(service)):
            log.info("galaxy: PID %d belongs to %r", master.pid, unit)
            return unit
    if service:
        return _one([unit for name in wanted for unit in search.named(name, service)]) or _given(
            manager, service, search
        )
    # if the master's ancestors tell nothing, it was started by hand, unless a definition names its configuration
    ranks = (0, 1) if master else (0, 1, 2)
    fitting = [(rank, unit) for name in wanted for rank, unit in search.defined(name) if rank in ranks]
    for rank in ranks:
        unit = _one([unit for one, unit in fitting if one == rank])
        if unit:
            log.info("galaxy: %r is defined to run %s", unit, config or "it")
            return unit
    if manager or search.untrusted:
        reason = f" ({' '.join(search.untrusted)})" if search.untrusted else ""
        raise ManagerError(
            f"Nothing like {manager or 'a process manager'} manages Galaxy here; check manager=, service= and "
            f"conf_file={reason}"
        )
    log.debug("galaxy: no process manager has it")
    return None


def _one(units: list[Unit]) -> Unit | None:
    """The only unit. Raises ``ManagerError`` if there are several."""
    services = list(dict.fromkeys((unit.manager, unit.service) for unit in units))
    if len(units) < 2:
        return units[0] if units else None
    if len({manager for manager, _ in services}) > 1:
        names = ", ".join(f"{manager} {service}" for manager, service in services)
        raise ManagerError(f"Several services may be Galaxy: {names}; say which with manager= and service=")
    if len(services) == 1:
        files = ", ".join(unit.conf_file for unit in units if isinstance(unit, Supervisord))
        raise ManagerError(f"Several supervisords have {services[0][1]}: {files}; say which with conf_file=")
    names = ", ".join(service for _, service in services)
    raise ManagerError(f"{units[0].manager} has several services that may be Galaxy: {names}; say which with service=")


def _given(manager: str | None, service: str, search: "_Search") -> Unit:
    """The service that the user named, if no definition of it can be seen."""
    if manager in ("upstart", "sysvinit"):
        return galaxy_manager_initscript.InitScript(manager, service, search.functions, search.own)
    text = " ".join(filter(None, (manager, service)))
    reason = f" ({' '.join(search.untrusted)})" if search.untrusted else ""
    raise ManagerError(f"Nothing like {text} manages Galaxy here; check manager=, service= and conf_file={reason}")


class _Search:
    """One search. ``untrusted`` collects why configurations were left out."""

    def __init__(
        self,
        config: str | None,
        conf_file: str | None,
        functions: Mapping[str, Callable[..., Any]] | None,
        own: Own,
    ):
        self.config, self.conf_file, self.functions, self.own = config, conf_file, functions, own
        self.untrusted: list[str] = []
        self._supervisors: list[SupervisorConfig] | None = None

    def of_master(self, master: Process, wanted: list[str]) -> Unit | None:
        """The unit that started the running master."""
        unit = self._supervisord_of(master) if "supervisord" in wanted else None
        return unit or (self._systemd_of(master) if "systemd" in wanted else None)

    def named(self, manager: str, service: str) -> Iterator[Unit]:
        """The units that have the name given by the user."""
        if manager == "supervisord":
            for supervisor in self._configs():
                if resolve(service, supervisor.programs):
                    yield self._supervisord(service, supervisor)
        elif manager == "systemd":
            if galaxy_manager_systemd.runs():
                name = service.removesuffix(".service")
                galaxy_manager_systemd_definition.require_instance(name)
                unit = galaxy_manager_systemd.Systemd(name, own=self.own)
                if unit.is_known:
                    yield unit
        elif self._has_init(manager):
            for name, _ in galaxy_manager_initscript.definitions(manager, [service.lower()]):
                if name == service:
                    yield galaxy_manager_initscript.InitScript(manager, name, self.functions, self.own)

    def defined(self, manager: str) -> Iterator[tuple[int, Unit]]:
        """The units whose definitions fit, with their rank (``galaxy_manager_unit.rank``)."""
        if manager == "supervisord":
            yield from self._defined_programs()
        elif manager == "systemd":
            if galaxy_manager_systemd.runs():
                yield from self._defined_units()
        elif self._has_init(manager):
            for name, commands in galaxy_manager_initscript.definitions(manager, _MENTIONS):
                rank = galaxy_manager_unit.rank((name,), commands, self.config, self.own)
                if rank is not None:
                    yield rank, galaxy_manager_initscript.InitScript(manager, name, self.functions, self.own)

    def _has_init(self, manager: str) -> bool:
        # if systemd is PID 1, it runs the scripts too, as units
        is_shadowed = manager == "sysvinit" and galaxy_manager_systemd.runs()
        return galaxy_manager_initscript.is_there(manager) and not is_shadowed

    def _configs(self) -> list[SupervisorConfig]:
        if self._supervisors is None:
            files = config_files()
            if self.conf_file:
                real = os.path.realpath(self.conf_file)
                running = next((process for path, process in files if os.path.realpath(path) == real), None)
                self._supervisors = [SupervisorConfig(self.conf_file, running)]
            else:
                self._supervisors = [config for path, process in files if (config := self._trusted(path, process))]
        return self._supervisors

    def _trusted(self, path: str, process: Process | None) -> SupervisorConfig | None:
        try:
            return SupervisorConfig(path, process)
        except NotTrusted as exc:
            log.warning("galaxy: %s", exc)
            self.untrusted.append(f"{exc}.")
            return None

    def _supervisord(
        self, service: str, supervisor: SupervisorConfig, answer: list[ProcessInfo] | None = None
    ) -> Supervisord:
        return Supervisord(service, supervisor, self.own, self.functions, answer)

    def _supervisord_of(self, master: Process) -> Unit | None:
        below = {master.pid}
        for ancestor in master.ancestors:
            for path in config_files_of(ancestor):
                if self.conf_file and os.path.realpath(path) != os.path.realpath(self.conf_file):
                    continue
                supervisor = self._trusted(path, ancestor)
                # only supervisord's answer proves that the process is its child
                answer = Client(supervisor.endpoint()).processes() if supervisor else None
                for info in answer or ():
                    if supervisor and info.pid in below:
                        service = self._extent(info.group, info.name, supervisor.programs)
                        return self._supervisord(service, supervisor, answer)
            below.add(ancestor.pid)
        return None

    def _extent(self, group: str, process: str, programs: list[Program]) -> str:
        """The whole group; or one process of it, if the group has another server too."""
        members = [program for program in programs if program.group == group]
        others = [
            program
            for program in members
            if program.process != process
            and (self.own(program.invocation) or galaxy_manager_unit.names_another(program.invocation, self.config))
        ]
        return f"{group}:{process}" if others else group

    def _defined_programs(self) -> Iterator[tuple[int, Unit]]:
        for supervisor in self._configs():
            programs = supervisor.programs
            for group in dict.fromkeys(program.group for program in programs):
                members = [program for program in programs if program.group == group]
                for rank, service in self._fitting(group, members, programs):
                    yield rank, self._supervisord(service, supervisor)

    def _fitting(self, group: str, members: list[Program], programs: list[Program]) -> list[tuple[int, str]]:
        """Rank and service for each server of a group. Its programs are looked at first, the group's own name last."""
        ranks = [
            (rank, program)
            for program in members
            if (rank := galaxy_manager_unit.rank((program.name, program.process), [program.invocation], *self._wanted))
            is not None
        ]
        best = min((rank for rank, _ in ranks), default=None)
        if best is None:
            commands = [program.invocation for program in members]
            rank = galaxy_manager_unit.rank((group,), commands, *self._wanted)
            return [(rank, group)] if rank is not None else []
        fitting = [program for rank, program in ranks if rank == best]
        if best == 2 and any(galaxy_manager_unit.names_another(one.invocation, self.config) for one in members):
            # the group's name proves nothing if the group has another server
            return []
        services = [self._extent(group, program.process, programs) for program in fitting]
        return [(best, service) for service in dict.fromkeys(services)]

    @property
    def _wanted(self) -> tuple[str | None, Own]:
        return self.config, self.own

    def _systemd_of(self, master: Process) -> Unit | None:
        if not galaxy_manager_systemd.runs():
            return None
        found = galaxy_manager_systemd.of_process(master)
        if not found:
            return None
        name, user = found
        unit = galaxy_manager_systemd.Systemd(name, user, self.own)
        main = unit.show().get("MainPID", "0")
        if main == str(master.pid):
            return unit
        # a job of the minion or of cron may leave a process in their unit: a stop of Galaxy must not stop the minion
        definition = galaxy_manager_systemd.definition_of(name, user)
        commands = definition.commands() if definition else []
        is_child = main == "0" or int(main) in master.lineage
        rank = galaxy_manager_unit.rank((name,), commands, *self._wanted) if is_child else None
        if rank is None:
            log.info("galaxy: PID %d lies in %s, which does not run it", master.pid, name)
        return unit if rank is not None else None

    def _defined_units(self) -> Iterator[tuple[int, Unit]]:
        for definition, shown in galaxy_manager_systemd.candidates():
            commands, script = definition.commands(), shown.get("SourcePath", "")
            if script.startswith("/etc/init.d/"):
                commands = galaxy_manager_initscript.commands_of(script)
            names = [name.removesuffix(".service") for name in shown.get("Names", "").split()] or [definition.name]
            rank = galaxy_manager_unit.rank(names, commands, *self._wanted)
            if rank is not None:
                yield rank, galaxy_manager_systemd.Systemd(definition.name, own=self.own)
