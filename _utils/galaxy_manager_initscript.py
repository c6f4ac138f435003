"""
An Upstart job or a SysV init script. Salt's ``service`` module works with it.
"""

import glob
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import galaxy_host_files
import galaxy_host_wrappers
from galaxy_errors import FileError, ManagerError
from galaxy_host_process import Invocation, Process
from galaxy_manager_unit import BACKUP, Own, State, Unit, UnitStatus, call

log = logging.getLogger(__name__)

_JOBS = "/etc/init/*.conf"
_SCRIPTS = "/etc/init.d/*"


class InitScript(Unit):
    """
    manager
        ``upstart`` or ``sysvinit``
    service
        name of the job or script
    functions
        Salt's execution functions (``__salt__``)
    own
        says which of its commands starts the server
    """

    def __init__(
        self,
        manager: str,
        service: str,
        functions: Mapping[str, Callable[..., Any]] | None,
        own: Own = lambda invocation: None,
    ):
        super().__init__(service)
        self.manager = manager
        self._functions, self._own = functions, own

    def commands(self) -> dict[str, list[str]]:
        verbs = ("start", "stop", "restart", "status")
        if self.manager == "upstart":
            commands = {verb: ["initctl", verb, self.service] for verb in verbs}
        else:
            commands = {verb: [f"/etc/init.d/{self.service}", verb] for verb in verbs}
        return {**commands, "startup": commands["start"]}

    def status(self) -> UnitStatus:
        if call(self._functions, "service.status", self.service):
            return UnitStatus(State.RUNNING, "running", active=True)
        return UnitStatus(State.STOPPED, "not running")

    def owns(self, process: Process) -> bool | None:
        # a daemon, started by a script that has ended
        return None

    def start(self) -> None:
        self._tell("start")

    def stop(self) -> None:
        self._tell("stop")

    def invocation(self) -> Invocation | None:
        commands = dict(definitions(self.manager, [self.service.lower()])).get(self.service, [])
        return next((command for command in commands if self._own(command)), None)

    def _tell(self, verb: str) -> None:
        argv = " ".join(self.commands()[verb])
        log.info("%s is told: %s", self.manager, argv)
        if not call(self._functions, f"service.{verb}", self.service):
            raise ManagerError(f"{self.manager}: {argv} failed")


def is_there(manager: str) -> bool:
    """Whether the machine has Upstart."""
    return manager != "upstart" or shutil.which("initctl") is not None


def definitions(manager: str, mentions: Iterable[str] = ("",)) -> list[tuple[str, list[Invocation]]]:
    """
    Name and commands of each job or script. Each is there once, whatever links it has; backup copies are left out.

    mentions
        only those that have one of these words, in lower case, in their name or text. To tell the commands of a script
        takes milliseconds
    """
    pattern, suffix = (_JOBS, ".conf") if manager == "upstart" else (_SCRIPTS, "")
    services: list[tuple[str, list[Invocation]]] = []
    seen = set()
    # files come before the links to them
    for path in sorted(glob.glob(pattern), key=lambda path: (os.path.islink(path), path)):
        name, real = os.path.basename(path).removesuffix(suffix), os.path.realpath(path)
        # Debian's upstart-job is no script of its own, and a file that nobody may execute is no init script
        is_script = suffix or (os.access(path, os.X_OK) and os.path.basename(real) != "upstart-job")
        if is_script and real not in seen and not BACKUP.fullmatch(os.path.basename(path)):
            seen.add(real)
            text = _read(path)
            said = f"{name}\n{text}".lower()
            if any(word in said for word in mentions):
                services.append((name, _commands(_job(text) if suffix else text, path)))
    return services


def commands_of(path: str) -> list[Invocation]:
    """The commands of one init script, under the name that systemd's generator gives it."""
    return _commands(_read(path), path)


def _commands(text: str, source: str) -> list[Invocation]:
    return galaxy_host_wrappers.script(text, Invocation((), source, "/", {}))


def _job(text: str) -> str:
    """
    The commands of a job, init(5): ``exec`` or ``script``. What runs before or after the job's own process is left out.
    """
    script, setting, inside = [], [], ""
    for line in text.splitlines():
        words = line.split()
        if inside:
            if words[:2] == ["end", "script"]:
                inside = ""
            elif inside == "script":
                script.append(line)
        elif words and words[-1] == "script":
            inside = words[0]
        elif words[:1] == ["chdir"]:
            setting.append(f"cd {' '.join(words[1:])}")
        elif words[:1] == ["env"]:
            setting.append(f"export {' '.join(words[1:])}")
        elif words[:1] == ["exec"]:
            script.append(line)
    return "\n".join([*setting, *script])


def _read(path: str) -> str:
    try:
        return galaxy_host_files.read(path).decode(errors="replace")
    except FileError as exc:
        log.info("A script is not read: %s", exc)
        return ""
