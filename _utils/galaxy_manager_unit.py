"""
The process manager that keeps Galaxy up: which one it is, what it says, and what it is told.

This is the one place that starts and stops services, through Salt's ``service`` and ``supervisord`` modules where they
do; their functions come in as an argument (``__salt__``).
"""

import dataclasses
import enum
import os
import re
import shutil
from collections.abc import Callable, Mapping

import psutil
from salt.exceptions import SaltException

import galaxy_host_command
import galaxy_manager_supervisor
from galaxy_errors import CommandError, ManagerError
from galaxy_host_process import Process
from galaxy_host_wait import Deadline, wait_until
from galaxy_manager_supervisor import SupervisorConfig

_SUPERVISOR_SERVICES = ("supervisor", "supervisord")


class State(str, enum.Enum):
    """What a manager says of the service, in words that all of them share."""

    RUNNING = "running"
    STARTING = "starting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    RETRYING = "retrying"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True)
class Word:
    """
    A manager's word on the service.

    state, term, detail
        of the process that runs uWSGI: ``state``, the manager's own term (``FATAL``, ``active (running)``), and why
    active
        whether anything of the service runs or will by itself: only then is there something to stop
    others
        what is wrong with further processes of it, such as job handlers: sentences
    """

    state: State
    term: str
    detail: str = ""
    active: bool = False
    others: tuple[str, ...] = ()

    @property
    def why(self) -> str:
        """``detail`` in brackets, to follow the term; empty where there is none."""
        return f" ({self.detail})" if self.detail else ""


class Manager:
    """
    One service under one process manager.

    ``name`` is ``supervisord``, ``systemd``, ``upstart`` or ``sysvinit``; ``service`` the program, group, unit or job.
    """

    name: str

    def __init__(self, service: str, functions: Mapping[str, Callable]):
        self.service = service
        self._salt = functions

    def commands(self) -> dict[str, list[str]]:
        """The argv lists that start, stop, restart and query the service by hand, and bring the manager up."""
        raise NotImplementedError

    def word(self) -> Word:
        """What the manager says now. Raises ``ManagerError`` where it cannot be asked."""
        raise NotImplementedError

    def owns(self, master: Process) -> bool:
        """Whether ``master`` is what the manager started for this service, as far as it can tell."""
        return True

    def bring_up(self, deadline: Deadline) -> bool:
        """Start the manager itself where it does not run; whether that was needed."""
        return False

    def start(self) -> None:
        """Tell the manager to start the service, without waiting for it. Raises ``ManagerError`` where it refuses."""
        raise NotImplementedError

    def stop(self) -> None:
        """Tell the manager to stop the service, and wait until it says so. Raises ``ManagerError`` where it refuses."""
        raise NotImplementedError

    def log(self, lines: int) -> list[str]:
        """The last lines that the service wrote where its manager keeps them."""
        return []

    def _call(self, function: str, *args, **kwargs):
        if function not in self._salt:
            raise ManagerError(f"Salt has no {function} on this machine, so {self.name} cannot be told anything")
        try:
            return self._salt[function](*args, **kwargs)
        except SaltException as exc:
            raise ManagerError(f"{self.name}: {self.service}: {exc}") from None


class Supervisord(Manager):
    """
    A program or group of supervisord.

    conf_file
        supervisord's configuration file
    bin_env
        ``supervisorctl``, or the virtualenv that has it; found beside the running supervisord or on PATH otherwise
    """

    name = "supervisord"

    def __init__(self, service: str, functions, conf_file: str, bin_env: str | None = None):
        super().__init__(service.removesuffix("*").removesuffix(":"), functions)
        self.conf_file = conf_file
        self.bin_env = bin_env
        self._group, _, self._name = self.service.partition(":")
        self._config = SupervisorConfig(conf_file)
        self._server = self._config.connect()

    def commands(self) -> dict[str, list[str]]:
        control = [self._binary("supervisorctl"), "-c", self.conf_file]
        target = self.service if self._name else f"{self._group}:"
        found = {verb: [*control, verb, target] for verb in ("start", "stop", "restart", "status")}
        if not self._name:
            found["status"][-1] = f"{self._group}:*"
        return {**found, "startup": [self._binary("supervisord"), "-c", self.conf_file]}

    def word(self) -> Word:
        found = self._processes()
        if found is None:
            return Word(State.STOPPED, "supervisord is not running")
        if not found:
            return Word(State.STOPPED, "not known", f"supervisord has no {self.service} yet (supervisorctl update)")
        main = self._main(found)
        state = _SUPERVISOR_STATES.get(main.state, State.UNKNOWN)
        return Word(
            state,
            main.state,
            main.description if state not in (State.RUNNING, State.STOPPED) else "",
            any(process.state not in _SUPERVISOR_INACTIVE for process in found),
            tuple(
                f"supervisord says {process.state} of {process.group}:{process.name}."
                for process in found
                if process is not main and process.state not in ("RUNNING", "STARTING")
            ),
        )

    def owns(self, master: Process) -> bool:
        return not master.lineage.isdisjoint(process.pid for process in self._processes() or () if process.pid)

    def bring_up(self, deadline: Deadline) -> bool:
        if self._answers():
            return False
        service = next((name for name in _SUPERVISOR_SERVICES if self._has_service(name)), None)
        if service and self.conf_file in galaxy_manager_supervisor.CONFIG_FILES:
            self._call("service.start", service)
        else:
            galaxy_host_command.run([self._binary("supervisord"), "-c", self.conf_file], timeout=max(deadline.left, 1))
        if not wait_until(self._answers, deadline):
            raise ManagerError(f"supervisord ({self.conf_file}) does not answer after it was started")
        return True

    def start(self) -> None:
        if not self._answers():
            raise ManagerError(f"supervisord ({self.conf_file}) is not running; galaxy.startup brings it up")
        self._refresh()
        for name in self._targets():
            try:
                if name.endswith(":"):
                    galaxy_manager_supervisor.call(self._server, "startProcessGroup", self._group, False)
                else:
                    galaxy_manager_supervisor.call(self._server, "startProcess", name, False)
            except galaxy_manager_supervisor.Fault as exc:
                if exc.code == galaxy_manager_supervisor.BAD_NAME:
                    raise ManagerError(f"{self.conf_file}: no program or group {self.service}") from None
                if exc.code != galaxy_manager_supervisor.ALREADY_STARTED:
                    raise ManagerError(f"supervisord does not start {self.service}: {exc}") from None

    def stop(self) -> None:
        if not self._answers():
            return
        said = [
            self._call("supervisord.stop", name, conf_file=self.conf_file, bin_env=self._control())
            for name in self._targets()
        ]
        if self.word().active:
            raise ManagerError(f"supervisord did not stop {self.service}: {' '.join(said).strip()}")

    def log(self, lines: int) -> list[str]:
        found = self._processes()
        return [line for path in self._main(found).logs for line in tail(path, lines)][-lines:] if found else []

    def _processes(self) -> list[galaxy_manager_supervisor.Process] | None:
        """Those of the service: of the group, or of the program, which may have several (``numprocs``)."""
        found = galaxy_manager_supervisor.processes(self._server, self._group)
        if found is None or not self._name:
            return found
        return [process for process in found if is_of(process.name, self._name)]

    def _main(self, found: list[galaxy_manager_supervisor.Process]) -> galaxy_manager_supervisor.Process:
        """The one that runs uWSGI; the first of them where none says so."""
        programs = [
            program.name
            for program in self._config.programs()
            if program.group == self._group and any("uwsgi" in word for word in program.command)
        ]
        serving = [process for process in found if any(is_of(process.name, name) for name in programs)]
        return (serving or found)[0]

    def _targets(self) -> list[str]:
        """In ``supervisorctl``'s notation: ``group:`` is every process of the group."""
        if not self._name:
            return [f"{self._group}:"]
        return [f"{self._group}:{process.name}" for process in self._processes() or ()] or [self.service]

    def _answers(self) -> bool:
        return galaxy_manager_supervisor.processes(self._server, self._group) is not None

    def _has_service(self, name: str) -> bool:
        return "service.available" in self._salt and bool(self._salt["service.available"](name))

    def _refresh(self) -> None:
        """Take up a program file that is new or has changed, for this group alone (``supervisorctl update GROUP``)."""
        try:
            added, changed, _ = galaxy_manager_supervisor.call(self._server, "reloadConfig")[0]
            if self._group in changed and not self.word().active:
                galaxy_manager_supervisor.call(self._server, "removeProcessGroup", self._group)
                added = [*added, self._group]
            if self._group in added:
                galaxy_manager_supervisor.call(self._server, "addProcessGroup", self._group)
        except galaxy_manager_supervisor.Fault as exc:
            # its message quotes the line that it cannot read, and that may be the environment's
            what = str(exc).partition(":")[0]
            raise ManagerError(
                f"{self.conf_file}: supervisord cannot take up its configuration ({what}); `supervisorctl reread` tells"
            ) from None

    def _control(self) -> str | None:
        """``supervisorctl`` for Salt's module; ``None`` lets it look on PATH."""
        path = self._binary("supervisorctl")
        return path if os.path.isabs(path) else None

    def _binary(self, name: str) -> str:
        if self.bin_env:
            if os.path.isdir(self.bin_env):
                return os.path.join(self.bin_env, "bin", name)
            return os.path.join(os.path.dirname(self.bin_env), name)
        for process in psutil.process_iter(["cmdline"]):
            for word in (process.info["cmdline"] or [])[:2]:
                beside = os.path.join(os.path.dirname(word), name)
                if os.path.basename(word) == "supervisord" and os.path.isabs(beside) and os.path.exists(beside):
                    return beside
        return shutil.which(name) or name


# supervisor's process states
_SUPERVISOR_STATES = {
    "STOPPED": State.STOPPED,
    "STARTING": State.STARTING,
    "RUNNING": State.RUNNING,
    "BACKOFF": State.RETRYING,
    "STOPPING": State.STOPPING,
    "EXITED": State.FAILED,
    "FATAL": State.FAILED,
}
_SUPERVISOR_INACTIVE = ("STOPPED", "EXITED", "FATAL", "UNKNOWN")


def is_of(process: str, program: str) -> bool:
    """Whether the process has the program's name, or one of ``numprocs`` made from it (``web_00``)."""
    return process == program or re.fullmatch(rf"{re.escape(program)}[_-]?\d+", process) is not None


class Systemd(Manager):
    """A unit of systemd."""

    name = "systemd"

    def commands(self) -> dict[str, list[str]]:
        found = {verb: ["systemctl", verb, self.service] for verb in ("start", "stop", "restart", "status")}
        return {**found, "startup": found["start"]}

    def word(self) -> Word:
        show = self._call("service.show", self.service)
        active, sub = show.get("ActiveState", ""), show.get("SubState", "")
        if show.get("LoadState") not in ("loaded", "masked"):
            return Word(State.UNKNOWN, show.get("LoadState", "not-found"), f"systemd has no unit {self.service}")
        kinds = {
            **{"active": State.RUNNING, "reloading": State.RUNNING, "activating": State.STARTING},
            **{"deactivating": State.STOPPING, "inactive": State.STOPPED, "failed": State.FAILED},
        }
        # it died, and systemd waits for RestartSec before it tries again
        state = State.RETRYING if sub.startswith("auto-restart") else kinds.get(active, State.UNKNOWN)
        result, status = show.get("Result", ""), show.get("ExecMainStatus", "")
        failed = state in (State.FAILED, State.RETRYING)
        detail = f"result {result}, exit status {status}" if failed else ""
        return Word(state, f"{active} ({sub})", detail, active=active not in ("inactive", "failed"))

    def main_pid(self) -> int:
        """The unit's main process; 0 where it has none."""
        return int(self._call("service.show", self.service).get("MainPID") or 0)

    def owns(self, master: Process) -> bool:
        # a unit of Type=forking without PIDFile= may not know its main process
        main = self.main_pid()
        return main in master.lineage if main else self.word().active

    def start(self) -> None:
        if self.word().state is State.FAILED:
            # or it would read as failed while its start waits for others
            galaxy_host_command.run(["systemctl", "reset-failed", self.service], check=False)
        self._do("service.start", no_block=True)

    def stop(self) -> None:
        self._do("service.stop")

    def log(self, lines: int) -> list[str]:
        argv = ["journalctl", "-u", self.service, "-n", str(lines), "-o", "cat", "--no-pager", "-q"]
        try:
            return galaxy_host_command.run(argv, timeout=10).splitlines()
        except CommandError:
            return []

    def _do(self, function: str, **kwargs) -> None:
        if not self._call(function, self.service, **kwargs):
            raise ManagerError(f"systemd: {function.partition('.')[2]} of {self.service} failed")


class InitScript(Manager):
    """An Upstart job or a SysV init script, as Salt's ``service`` module drives it."""

    def __init__(self, name: str, service: str, functions):
        super().__init__(service, functions)
        self.name = name

    def commands(self) -> dict[str, list[str]]:
        verbs = ("start", "stop", "restart", "status")
        if self.name == "upstart":
            found = {verb: ["initctl", verb, self.service] for verb in verbs}
        else:
            found = {verb: [f"/etc/init.d/{self.service}", verb] for verb in verbs}
        return {**found, "startup": found["start"]}

    def word(self) -> Word:
        running = bool(self._call("service.status", self.service))
        return Word(State.RUNNING, "running", active=True) if running else Word(State.STOPPED, "not running")

    def start(self) -> None:
        if not self._call("service.start", self.service):
            raise ManagerError(f"{self.name}: {' '.join(self.commands()['start'])} failed")

    def stop(self) -> None:
        if not self._call("service.stop", self.service):
            raise ManagerError(f"{self.name}: {' '.join(self.commands()['stop'])} failed")


def tail(path: str, lines: int) -> list[str]:
    """The last ``lines`` of the file; none where it cannot be read."""
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 64 * 1024))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []
