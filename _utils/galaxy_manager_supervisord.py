"""
A program or group of supervisord.
"""

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from typing import Any

import galaxy_host_command
import galaxy_host_files
import galaxy_manager_unit
from galaxy_errors import FileError, ManagerError
from galaxy_host_process import Invocation, Process
from galaxy_host_wait import Deadline, wait_until
from galaxy_manager_supervisor_config import CONFIG_FILES, Program, SupervisorConfig
from galaxy_manager_supervisor_rpc import ALREADY_STARTED, BAD_NAME, NOT_RUNNING, SUCCESS, Client, Fault, ProcessInfo
from galaxy_manager_unit import Own, State, Unit, UnitStatus

log = logging.getLogger(__name__)

_SERVICES = ("supervisor", "supervisord")
# supervisor's states of a process
_STATES = {
    "STOPPED": State.STOPPED,
    "STARTING": State.STARTING,
    "RUNNING": State.RUNNING,
    "BACKOFF": State.RETRYING,
    "STOPPING": State.STOPPING,
    "EXITED": State.FAILED,
    "FATAL": State.FAILED,
}
_INACTIVE = ("STOPPED", "EXITED", "FATAL", "UNKNOWN")
# seconds more than supervisord itself waits before it kills
_STOP_MARGIN = 10


class Supervisord(Unit):
    """
    service
        ``group``, ``program`` or ``group:process``, as supervisorctl names them. A program in a group whose process has
        another name means this process
    config
        supervisord's configuration
    own
        tells the program that serves from job handlers beside it
    functions
        Salt's execution functions, to start the packaged supervisord
    answer
        what supervisord said of its processes in this look, if it was asked already
    """

    manager = "supervisord"

    def __init__(
        self,
        service: str,
        config: SupervisorConfig,
        own: Own = lambda invocation: None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        answer: list[ProcessInfo] | None = None,
    ):
        self._config, self._own, self._functions, self._answer = config, own, functions, answer
        self._programs = config.programs
        super().__init__(resolve(service, self._programs) or plain(service))
        self._group, _, self._name = self.service.partition(":")
        self._client = Client(config.endpoint())

    @property
    def conf_file(self) -> str:
        """supervisord's configuration file."""
        return self._config.path

    def commands(self) -> dict[str, list[str]]:
        control = [_on_path("supervisorctl"), "-c", self.conf_file]
        target = self.service if self._name else f"{self._group}:"
        commands = {verb: [*control, verb, target] for verb in ("start", "stop", "restart", "status")}
        if not self._name:
            commands["status"][-1] = f"{self._group}:*"
        return {**commands, "startup": [_on_path("supervisord"), "-c", self.conf_file]}

    def is_called(self, service: str) -> bool:
        return self.service in (plain(service), resolve(service, self._programs))

    def status(self) -> UnitStatus:
        return self._status_of(self._processes())

    def _status_of(self, mine: list[ProcessInfo] | None) -> UnitStatus:
        """The status, from what supervisord answered about the processes of the service."""
        if mine is None:
            return UnitStatus(State.STOPPED, "supervisord is not running")
        if not mine:
            return UnitStatus(
                State.STOPPED,
                "not known",
                f"supervisord does not know {self.service} yet; a start lets it read the file",
            )
        main = self._main(mine)
        state = _STATES.get(main.state, State.UNKNOWN)
        return UnitStatus(
            state,
            main.state,
            main.description if state not in (State.RUNNING, State.STOPPED) else "",
            any(process.state not in _INACTIVE for process in mine),
            tuple(process.pid for process in mine if process.pid),
            main_pid=main.pid or None,
            age=main.age,
            problems=tuple(
                f"supervisord reports {process.state} for {process.title}."
                for process in mine
                if process is not main and process.state not in ("RUNNING", "STARTING")
            ),
        )

    def owns(self, process: Process) -> bool | None:
        try:
            mine = self._processes() or ()
        except ManagerError as exc:
            log.debug("Whose PID %d is cannot be told: %s", process.pid, exc)
            return None
        pids = {info.pid for info in mine if info.pid}
        return bool(pids) and not process.lineage.isdisjoint(pids)

    @property
    def runs_as(self) -> int | None:
        users = {program.user for program in self._serving()}
        return galaxy_manager_unit.uid(users.pop()) if len(users) == 1 and users != {""} else None

    def bring_up(self, deadline: Deadline) -> bool:
        if self._client.processes() is not None:
            return False
        service = next((name for name in _SERVICES if self._is_packaged(name)), None)
        if service:
            log.info("supervisord is brought up as service %s", service)
            galaxy_manager_unit.call(self._functions, "service.start", service)
        else:
            argv = [_trusted_program("supervisord"), "-c", self.conf_file]
            log.info("supervisord is brought up: %s", " ".join(argv))
            galaxy_host_command.run(argv, timeout=max(deadline.left, 1))
        if not wait_until(lambda: self._client.processes() is not None, deadline, what="supervisord must answer"):
            raise ManagerError(f"supervisord ({self.conf_file}) does not answer after it was started")
        return True

    def require_up(self) -> None:
        if self._client.processes() is None:
            raise ManagerError(f"supervisord ({self.conf_file}) is not running; galaxy.startup brings it up")

    def start(self) -> None:
        self.require_up()
        self._refresh()
        log.info("supervisord (%s) is told to start %s", self.conf_file, self.service)
        try:
            if self._name:
                refusals = [refusal for name in self._names() if (refusal := self._start_one(name))]
            else:
                answers = self._client.call("startProcessGroup", self._group, False)
                refusals = [(one["name"], one["description"]) for one in answers if one["status"] not in _STARTED]
        except Fault as exc:
            if exc.code != BAD_NAME:
                raise ManagerError(f"supervisord does not start {self.service}: {exc}") from None
            raise ManagerError(f"{self.conf_file}: no program or group {self.service}") from None
        serving = {program.process for program in self._serving()}
        for name, reason in refusals:
            if name in serving or not serving:
                raise ManagerError(f"supervisord does not start {self._group}:{name}: {reason}")
            log.warning("supervisord does not start %s:%s: %s", self._group, name, reason)

    def stop(self) -> None:
        mine = self._processes()
        if not mine:
            return
        log.info("supervisord (%s) is told to stop %s", self.conf_file, self.service)
        for target in [info.name for info in mine] if self._name else [None]:
            try:
                if target is None:
                    self._client.call("stopProcessGroup", self._group, False)
                else:
                    self._client.call("stopProcess", f"{self._group}:{target}", False)
            except Fault as exc:
                if exc.code not in (BAD_NAME, NOT_RUNNING):
                    raise ManagerError(f"supervisord does not stop {self.service}: {exc}") from None
        patience = max((program.stop_seconds for program in self._defined()), default=0) + _STOP_MARGIN
        waits_for = f"supervisord stops {self.service}"
        if not wait_until(lambda: not self.status().active, Deadline(patience), what=waits_for):
            raise ManagerError(f"supervisord did not stop {self.service} within {patience:g} s: {self.status().raw}")

    def log(self, lines: int) -> list[str]:
        try:
            mine = self._processes()
        except ManagerError:
            return []
        named_by = () if self._config.owner is None else (self._config.owner,)
        return galaxy_host_files.tails(self._main(mine).logs, lines, named_by) if mine else []

    def invocation(self) -> Invocation | None:
        return galaxy_manager_unit.serving([program.invocation for program in self._defined()], self._own)

    def _defined(self) -> list[Program]:
        """The programs of the service."""
        return [
            program
            for program in self._programs
            if program.group == self._group and self._name in ("", program.process, program.name)
        ]

    def _serving(self) -> list[Program]:
        """Those of the programs that start the server: for certain, or else perhaps."""
        verdicts = [(program, self._own(program.invocation)) for program in self._defined()]
        return [one for one, own in verdicts if own] or [one for one, own in verdicts if own is None]

    def _names(self) -> list[str]:
        """The names of the service's processes."""
        return [program.process for program in self._defined()] or [self._name]

    def _processes(self) -> list[ProcessInfo] | None:
        """What supervisord reports for the processes of the service; ``None`` if it does not run."""
        infos, self._answer = self._answer, None
        return self._mine(self._client.processes() if infos is None else infos)

    def _mine(self, infos: list[ProcessInfo] | None) -> list[ProcessInfo] | None:
        """The processes of the service, among those of a supervisord."""
        if infos is None:
            return None
        names = self._names() if self._name else ()
        return [info for info in infos if info.group == self._group and (not names or info.name in names)]

    def _main(self, mine: list[ProcessInfo]) -> ProcessInfo:
        """The process that serves."""
        serving = [program.process for program in self._serving()]
        return next((info for info in mine if info.name in serving), mine[0])

    def _start_one(self, name: str) -> tuple[str, str] | None:
        """Start a process. Returns why it is not started; ``None`` if it is."""
        try:
            self._client.call("startProcess", f"{self._group}:{name}", False)
        except Fault as exc:
            if exc.code == BAD_NAME:
                raise
            return None if exc.code == ALREADY_STARTED else (name, str(exc))
        return None

    def _refresh(self) -> None:
        """Read a program file that is new or has changed, for this group alone (``supervisorctl update GROUP``)."""
        try:
            added, changed, _ = self._client.call("reloadConfig")[0]
            if self._group in changed and not self._is_group_active():
                log.info("supervisord (%s): %s has changed, and is taken up anew", self.conf_file, self._group)
                self._client.call("removeProcessGroup", self._group)
                added = [*added, self._group]
            if self._group in added:
                self._client.call("addProcessGroup", self._group)
        except Fault as exc:
            # the message quotes the line that cannot be read, which may have a secret of the environment
            reason = str(exc).partition(":")[0]
            raise ManagerError(
                f"{self.conf_file}: supervisord cannot take up its configuration ({reason}); `supervisorctl reread` "
                "tells"
            ) from None

    def _is_group_active(self) -> bool:
        infos = self._client.processes() or ()
        return any(info.group == self._group and info.state not in _INACTIVE for info in infos)

    def _is_packaged(self, name: str) -> bool:
        """Whether a service of the distribution keeps the supervisord of this configuration running."""
        is_usual = any(os.path.realpath(self.conf_file) == os.path.realpath(path) for path in CONFIG_FILES)
        return is_usual and bool(self._functions) and bool(galaxy_manager_unit.call(self._functions, _AVAILABLE, name))


_AVAILABLE = "service.available"
_STARTED = (SUCCESS, ALREADY_STARTED)


def plain(service: str) -> str:
    """The name of a service without supervisorctl's ``:`` or ``:*`` for all processes of a group."""
    return service.removesuffix("*").removesuffix(":")


def resolve(service: str, programs: list[Program]) -> str | None:
    """The service that a name given by the user means; ``None`` if nothing has this name."""
    group, colon, name = plain(service).partition(":")
    if not colon:
        if any(program.group == group for program in programs):
            return group
        # the program may be in a group with another name
        fitting = [program for program in programs if group in (program.name, program.process)]
    else:
        fitting = [program for program in programs if program.group == group and program.process == name]
        fitting = fitting or [program for program in programs if (program.group, program.name) == (group, name)]
    if not fitting:
        return None
    first = fitting[0]
    # if a program has several processes, the unit has the program's name
    return f"{first.group}:{first.process if len(fitting) == 1 else first.name}"


def _on_path(program: str) -> str:
    return shutil.which(program) or program


def _trusted_program(name: str) -> str:
    """
    The path of a program on PATH that root may run: nobody else can write it, its interpreter, or a directory above.

    Raises ``ManagerError``.
    """
    path = shutil.which(name)
    if not path:
        raise ManagerError(f"{name} is not on PATH, and no packaged service has it; start it by hand, or install it")
    try:
        galaxy_host_files.require_trusted(path)
        with open(path, "rb") as file:
            first = file.readline(256)
        interpreter = first[2:].split()[:1] if first.startswith(b"#!") else []
        if interpreter:
            galaxy_host_files.require_trusted(os.fsdecode(interpreter[0]))
    except (FileError, OSError) as exc:
        raise ManagerError(f"{name} is not run: {exc}") from None
    return path
