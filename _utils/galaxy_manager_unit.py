"""
A service under a process manager: what all process managers have in common.

Each process manager has its own file, ``galaxy_manager_<name>.py``; ``galaxy_manager_detection`` finds out which one
has a server. Process managers know services, and nothing of web servers. A caller says with ``own`` which command
starts the server.
"""

import enum
import logging
import os
import pwd
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from salt.exceptions import SaltException

import galaxy_host_wrappers
from galaxy_errors import ManagerError
from galaxy_host_pattern import Pattern
from galaxy_host_process import Invocation, Process
from galaxy_host_record import record
from galaxy_host_wait import Deadline

log = logging.getLogger(__name__)

# what a command does: True, it starts the server in question; False, it starts something else; None, unknown
Own = Callable[[Invocation], "bool | None"]

_SUFFIXES = (".yml", ".yaml", ".ini", ".json", ".xml")
# names that mean the server itself. galaxy-cleanup, for example, is another service
_CALLED_GALAXY = Pattern(r"galaxy([-_.@]?(web|uwsgi|server|main)\w*)?", re.IGNORECASE)
# the names of files that packages and editors leave beside a definition
BACKUP = Pattern(r".*(~|\.(dpkg-\w+|rpm(save|new|orig)|ucf-\w+|bak|old|orig|save|disabled|swp|tmp))", re.IGNORECASE)


class State(str, enum.Enum):
    """The state of the service, in words that are the same for all process managers."""

    RUNNING = "running"
    STARTING = "starting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    RETRYING = "retrying"
    FAILED = "failed"
    UNKNOWN = "unknown"


@record(frozen=True)
class UnitStatus:
    """
    What a process manager reports for the service at one moment.

    state, raw, detail
        state of the process that serves: ``state``; the manager's own name for it (``FATAL``, ``active (running)``);
        and why
    active
        whether a process of the service runs, or will run by itself. Only then there is something to stop. ``None`` if
        the manager does not tell
    pids
        PIDs of the service's processes, as far as the manager tells
    restarts
        how often the manager started it again by itself since it was last told to start it. ``None`` if this is not
        known
    main_pid
        PID of the process that the manager started last, and that runs. The manager says so; the process may be a
        program of its own that has yet to execute the server
    age
        seconds since it was started
    can_reload
        whether the manager itself can reload it; ``None`` if it does not tell
    problems
        what is wrong with its other processes, such as job handlers: sentences
    left
        PIDs of live processes of this service that a manager had started which is gone
    """

    state: State
    raw: str
    detail: str = ""
    active: bool | None = False
    pids: tuple[int, ...] = ()
    restarts: int | None = None
    main_pid: int | None = None
    age: float | None = None
    can_reload: bool | None = None
    problems: tuple[str, ...] = ()
    left: tuple[int, ...] = ()

    @property
    def why(self) -> str:
        """``detail`` in brackets, to follow ``raw``; empty if there is none."""
        return f" ({self.detail})" if self.detail else ""

    @property
    def times(self) -> str:
        """``restarts`` in words, to follow "again"."""
        return "once" if self.restarts == 1 else f"{self.restarts} times"

    @property
    def story(self) -> str:
        """What the process manager says, with its reason, and how often it started the service again by itself."""
        return f"{self.raw}{self.why}{f', started again {self.times}' if self.restarts else ''}"


class Unit:
    """
    One service under one process manager.

    ``manager`` is ``supervisord``, ``systemd``, ``upstart`` or ``sysvinit``. ``service`` is the name of the program,
    group, unit or job. ``user`` is the name of the user whose manager has it; ``None`` for the system's manager.
    """

    manager: str
    user: str | None = None

    def __init__(self, service: str):
        self.service = service

    def __repr__(self) -> str:
        return f"{self.manager} {self.service}"

    def is_called(self, service: str) -> bool:
        """Whether a name given by the user means this service."""
        return service == self.service

    def status(self) -> UnitStatus:
        """What the process manager says now. Raises ``ManagerError`` if it cannot be asked."""
        raise NotImplementedError

    def require_up(self) -> None:
        """Raises ``ManagerError`` if the process manager itself does not run, so that ``start`` would fail."""

    def start(self) -> None:
        """
        Tell the process manager to start the service, without waiting for it. Raises ``ManagerError`` if it refuses.
        """
        raise NotImplementedError

    def stop(self) -> None:
        """
        Tell the process manager to stop the service, and wait until it says so. Raises ``ManagerError`` if it refuses.
        """
        raise NotImplementedError

    def owns(self, process: Process) -> bool | None:
        """Whether the process manager started this process for this service; ``None`` if it cannot tell."""
        raise NotImplementedError

    @property
    def runs_as(self) -> int | None:
        """
        Numeric ID of the user as whom the server runs, by its definition. ``None`` if the definition names no user of
        this machine: then the server runs as the manager does, as root, unless it becomes another user itself. Raises
        ``ManagerError``.
        """
        return None

    def bring_up(self, deadline: Deadline) -> bool:
        """
        Start the process manager itself if it does not run. Returns whether this was needed.

        Raises ``ManagerError`` if it does not run by ``deadline``.
        """
        return False

    def log(self, lines: int) -> list[str]:
        """
        The last lines that the service wrote, from where its process manager keeps them; empty if they cannot be read.
        """
        return []

    def commands(self) -> dict[str, list[str]]:
        """
        Commands for people: the argv lists that start, stop, restart and query the service by hand, and ``startup``,
        which starts the process manager.
        """
        raise NotImplementedError

    def invocation(self) -> Invocation | None:
        """
        How the definition starts the server: behind its shell or wrapper, with the manager's own names filled in.
        ``None`` if no definition can be read. Raises ``ManagerError`` if the process manager cannot be asked.
        """
        raise NotImplementedError


def report(unit: Unit, status: UnitStatus) -> str:
    """What the process manager reports for a unit, with its reason; no full stop."""
    return f"{unit.manager} reports {status.raw} for {unit.service}{status.why}"


def call(functions: Mapping[str, Callable[..., Any]] | None, function: str, *arguments: object) -> Any:
    """The result of Salt's execution function. Raises ``ManagerError`` if it fails or does not exist."""
    if not functions or function not in functions:
        raise ManagerError(f"Salt has no {function} on this machine, so services cannot be told anything through it")
    log.debug("Calling %s%r", function, arguments)
    try:
        return functions[function](*arguments)
    except SaltException as exc:
        raise ManagerError(f"{function}: {exc}") from None


def uid(name: str) -> int | None:
    """The number of a user whom a definition names, or gives as a number; ``None`` if there is no such user."""
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return int(name) if name.isascii() and name.isdecimal() and len(name) < 11 else None


def serving(commands: Iterable[Invocation], own: Own) -> Invocation | None:
    """
    The one of a definition's commands that starts the server, behind its shell or wrapper. If this is not certain, the
    first one that may start it. ``None`` if all start something else.
    """
    simple = [inner for command in commands for inner in galaxy_host_wrappers.unwrap(command)]
    verdicts = [(command, own(command)) for command in simple]
    certain = [command for command, verdict in verdicts if verdict]
    possible = [command for command, verdict in verdicts if verdict is None]
    return next(iter([*certain, *possible]), None)


def rank(names: Iterable[str], commands: Iterable[Invocation], config: str | None, own: Own) -> int | None:
    """
    How well a definition fits the server. 0: it starts the server. 1: it is called galaxy and names its configuration,
    but how it starts the server cannot be seen. 2: it is called galaxy and names no configuration. ``None``: it is for
    another server.

    names
        names of the definition
    commands
        commands that it runs. Comments, descriptions and dependencies have no commands
    config
        path of the server's configuration
    """
    simple = [inner for command in commands for inner in galaxy_host_wrappers.unwrap(command)]
    verdicts = [own(command) for command in simple]
    if True in verdicts:
        return 0
    # it belongs to another server, or is a job handler or Celery of this one
    if simple and None not in verdicts:
        return None
    if not any(_CALLED_GALAXY.fullmatch(name) for name in names):
        return None
    named = [fit for command in simple for fit in _configurations(command, config)]
    if True in named:
        return 1
    return None if False in named else 2


def names_another(command: Invocation, config: str | None) -> bool:
    """Whether a command names configuration files (by their suffix), but not this one."""
    named = [fit for inner in galaxy_host_wrappers.unwrap(command) for fit in _configurations(inner, config)]
    return False in named and True not in named


def _configurations(command: Invocation, config: str | None) -> list[bool | None]:
    """
    Whether each configuration file is this one: for those among the words, and for the variable from which Galaxy's own
    scripts take it. ``None`` if it may be: for a relative path, and if this server has no configuration.
    """
    wanted = os.path.realpath(config) if config else ""
    fits: list[bool | None] = []
    # a variable of an init script may hold several words
    for word in (*" ".join(command.argv).split(), (command.environment or {}).get("GALAXY_CONFIG_FILE", "")):
        path = word.rpartition("=")[2].strip("\"';,")
        if not path.endswith(_SUFFIXES):
            continue
        if not config:
            fits.append(None)
        elif os.path.isabs(path) or command.cwd:
            fits.append(os.path.realpath(os.path.join(command.cwd or "/", path)) == wanted)
        else:
            fits.append(None if wanted.endswith(f"/{os.path.normpath(path)}") or "$" in path else False)
    return fits
