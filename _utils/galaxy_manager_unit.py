"""
A service under a process manager: what all managers have in common.

Each manager has a file of its own, ``galaxy_manager_<name>.py``; which one keeps a server up is found out in
``galaxy_manager_detection``. Managers know services, and nothing of web servers: whoever asks says by ``own`` which
command starts his.
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

# says of a command: True, it starts the server that is asked about; False, it starts something else; None, unknown
Own = Callable[[Invocation], "bool | None"]

_SUFFIXES = (".yml", ".yaml", ".ini", ".json", ".xml")
# of what is called galaxy, such as galaxy-cleanup, the server itself
_CALLED_GALAXY = Pattern(r"galaxy([-_.@]?(web|uwsgi|server|main)\w*)?", re.IGNORECASE)
# what packages and editors leave beside a definition
BACKUP = Pattern(r".*(~|\.(dpkg-\w+|rpm(save|new|orig)|ucf-\w+|bak|old|orig|save|disabled|swp|tmp))", re.IGNORECASE)


class State(str, enum.Enum):
    """What a manager says of the service, in names that all of them share."""

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
    What a manager says of the service at one moment.

    state, raw, detail
        of the process that serves: ``state``, the manager's own name for it (``FATAL``, ``active (running)``), and why
    active
        whether anything of the service runs or will by itself: only then is there something to stop; ``None`` where the
        manager does not tell
    pids
        of the service's processes, as far as the manager tells
    restarts
        how often the manager started it again by itself since it was last told to, as far as it tells; ``None`` where
        that is not known
    main_pid
        of the process that the manager started last, and that runs: its word, a program of its own perhaps that has yet
        to execute the server
    age
        seconds since it was started
    can_reload
        whether the manager itself can reload it; ``None`` where it does not tell
    problems
        what is wrong with further processes of it, such as job handlers: sentences
    left
        PIDs of what a manager that is gone had started as this service, and that runs on
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
        """``detail`` in brackets, to follow ``raw``; empty where there is none."""
        return f" ({self.detail})" if self.detail else ""

    @property
    def times(self) -> str:
        """``restarts`` in words, to follow "again"."""
        return "once" if self.restarts == 1 else f"{self.restarts} times"


class Unit:
    """
    One service under one process manager.

    ``manager`` is ``supervisord``, ``systemd``, ``upstart`` or ``sysvinit``; ``service`` the program, group, unit or
    job; ``user`` whose manager it is, by name, ``None`` for the system's.
    """

    manager: str
    user: str | None = None

    def __init__(self, service: str):
        self.service = service

    def __repr__(self) -> str:
        return f"{self.manager} {self.service}"

    def is_called(self, service: str) -> bool:
        """Whether a name that the user gave means this service."""
        return service == self.service

    def status(self) -> UnitStatus:
        """What the manager says now. Raises ``ManagerError`` where it cannot be asked."""
        raise NotImplementedError

    def require_up(self) -> None:
        """Raises ``ManagerError`` where the process manager itself does not run, so that ``start`` would fail."""

    def start(self) -> None:
        """Tell the manager to start the service, without waiting for it. Raises ``ManagerError`` where it refuses."""
        raise NotImplementedError

    def stop(self) -> None:
        """Tell the manager to stop the service, and wait until it says so. Raises ``ManagerError`` where it refuses."""
        raise NotImplementedError

    def owns(self, process: Process) -> bool | None:
        """Whether the process is one that the manager started for this service; ``None`` where it cannot tell."""
        raise NotImplementedError

    @property
    def runs_as(self) -> int | None:
        """
        Numeric id of the user as whom its definition has the server run; ``None`` where it names none who is here: then
        it is the manager's, root, unless the server itself becomes another. Raises ``ManagerError``.
        """
        return None

    def bring_up(self, deadline: Deadline) -> bool:
        """
        Start the manager itself where it does not run; whether that was needed.

        Raises ``ManagerError`` where it does not come up by ``deadline``.
        """
        return False

    def log(self, lines: int) -> list[str]:
        """The last lines that the service wrote where its manager keeps them; none where they cannot be read."""
        return []

    def commands(self) -> dict[str, list[str]]:
        """
        For people: the argv lists that start, stop, restart and query the service by hand, and ``startup``, which
        brings the manager up.
        """
        raise NotImplementedError

    def invocation(self) -> Invocation | None:
        """
        How the definition starts the server: out of its shell or wrapper, names of the manager's own filled in;
        ``None`` where no definition can be read. Raises ``ManagerError`` where the manager cannot be asked.
        """
        raise NotImplementedError


def call(functions: Mapping[str, Callable[..., Any]] | None, function: str, *arguments: object) -> Any:
    """What Salt's execution function returns. Raises ``ManagerError`` where it fails or is not there."""
    if not functions or function not in functions:
        raise ManagerError(f"Salt has no {function} on this machine, so services cannot be told anything through it")
    log.debug("Calling %s%r", function, arguments)
    try:
        return functions[function](*arguments)
    except SaltException as exc:
        raise ManagerError(f"{function}: {exc}") from None


def uid(name: str) -> int | None:
    """The number of a user that a definition names, or numbers; ``None`` where there is none of that name."""
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return int(name) if name.isascii() and name.isdecimal() and len(name) < 11 else None


def serving(commands: Iterable[Invocation], own: Own) -> Invocation | None:
    """
    Of a definition's commands, the one that starts the server, out of its shell or wrapper; the first one that may
    where that is not known; ``None`` where all start something else.
    """
    simple = [inner for command in commands for inner in galaxy_host_wrappers.unwrap(command)]
    verdicts = [(command, own(command)) for command in simple]
    certain = [command for command, verdict in verdicts if verdict]
    possible = [command for command, verdict in verdicts if verdict is None]
    return next(iter([*certain, *possible]), None)


def rank(names: Iterable[str], commands: Iterable[Invocation], config: str | None, own: Own) -> int | None:
    """
    How well a definition fits the server: 0, it starts it; 1, it is called galaxy and names its configuration, and how
    it starts it is not seen; 2, it is called galaxy and names no configuration at all; ``None``, it is another's.

    names
        of the definition
    commands
        that it runs; what stands in comments, descriptions and dependencies is no command
    config
        path of the server's configuration
    """
    simple = [inner for command in commands for inner in galaxy_host_wrappers.unwrap(command)]
    verdicts = [own(command) for command in simple]
    if True in verdicts:
        return 0
    # another server's, or a job handler or a Celery of this one
    if simple and None not in verdicts:
        return None
    if not any(_CALLED_GALAXY.fullmatch(name) for name in names):
        return None
    named = [fit for command in simple for fit in _configurations(command, config)]
    if True in named:
        return 1
    return None if False in named else 2


def names_another(command: Invocation, config: str | None) -> bool:
    """Whether a command names configuration files, by their suffix, but not this one."""
    named = [fit for inner in galaxy_host_wrappers.unwrap(command) for fit in _configurations(inner, config)]
    return False in named and True not in named


def _configurations(command: Invocation, config: str | None) -> list[bool | None]:
    """
    For each configuration file among the words, and in the variable that Galaxy's own scripts take it from, whether it
    is this one; ``None`` where it may be: for a relative path, and where this one has none.
    """
    wanted = os.path.realpath(config) if config else ""
    fits: list[bool | None] = []
    # an init script's variable may hold several words
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
