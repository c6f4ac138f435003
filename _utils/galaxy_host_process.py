"""
Identify a process before anything else is asked of it; and describe how a program is started.

The identity is a pidfd (pidfd_open(2)). While it says that the process lives, no other process can have its PID, so
everything in ``/proc/PID`` is about this process. If the kernel has no pidfds (before 5.3), PID and start time are used
instead.
"""

import contextlib
import dataclasses
import errno
import logging
import os
import select
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from galaxy_errors import ProcessError
from galaxy_host_record import record
from galaxy_host_wait import Deadline, wait_until

log = logging.getLogger(__name__)

# proc(5), /proc/PID/stat: the fields behind the name; the name may have any characters
_STATE, _PARENT, _GROUP, _SESSION, _START, _STACK, _ARGUMENTS = 0, 1, 2, 3, 19, 25, 45
# bytes; no server has a longer command line or environment. A longer text is cut
_MAX_TEXT = 256 * 1024
_CHUNK = 8 * 1024
_TICKS = os.sysconf("SC_CLK_TCK")


@record(frozen=True)
class Invocation:
    """
    How a program was started, or would be: from a live process, or from a process manager's definition.

    argv
        its words, beginning with the program's own name
    source
        where they come from, for people: ``command line of PID 123``, ``galaxy.service``
    cwd
        its working directory; ``None`` if unknown
    environment
        its variables; ``None`` if unknown. No ``repr`` shows them, because some are passwords
    user
        numeric ID of the user who chose the words: for a live process its own user; ``None``: root, or ourselves
    """

    argv: tuple[str, ...]
    source: str
    cwd: str | None = None
    environment: Mapping[str, str] | None = dataclasses.field(default=None, repr=False)
    user: int | None = None


class Process:
    """
    A process that was identified once. When another process gets its PID, it counts as gone.

    What it says of itself (``argv``, ``environment``, ``cwd``, ``exe``) is asked of the kernel each time. It is empty
    or ``None`` if the process is gone or may not be looked at. The process's owner chooses ``argv``, so it proves
    nothing.
    """

    def __init__(self, pid: int, start: int, descriptor: int | None):
        self.pid = pid
        self._start = start
        self._descriptor = descriptor
        self._poll: select.poll | None = None
        if descriptor is not None:
            # a pidfd becomes readable when its process ends, reaped or not
            self._poll = select.poll()
            self._poll.register(descriptor, select.POLLIN)

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        """The process that has ``pid`` now; ``None`` if there is none, or only a zombie."""
        try:
            descriptor = os.pidfd_open(pid)
        except (ProcessLookupError, OverflowError):
            return None
        except OSError as exc:
            if exc.errno == errno.EINVAL:
                # not a PID: it is not positive, or belongs to a thread
                return None
            # this kernel or container has no pidfd, or no descriptor is free
            descriptor = None
        fields = _stat(pid)
        # made first and checked later, so that the descriptor is closed in any case
        process = cls(pid, int(fields[_START]) if fields else -1, descriptor)
        return process if fields and process.is_alive else None

    def __del__(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Process) and (self.pid, self._start) == (other.pid, other._start)

    def __hash__(self) -> int:
        return hash((self.pid, self._start))

    def __repr__(self) -> str:
        return f"Process({self.pid})"

    @property
    def is_alive(self) -> bool:
        """Whether it is still the same process, and not a zombie."""
        if self._poll is not None:
            return not self._poll.poll(0)
        fields = _stat(self.pid)
        return fields is not None and int(fields[_START]) == self._start and fields[_STATE] not in (b"Z", b"X")

    @property
    def create_time(self) -> float:
        """When it was started, in epoch seconds."""
        # /proc/stat also has the time of the boot, but counts all interrupts first
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + self._start / _TICKS

    @property
    def uids(self) -> tuple[int, int] | None:
        """Real and effective user ID."""
        # not from the first line, which holds the name
        ids = (self._ask("status") or b"").partition(b"\nUid:")[2].split(None, 2)[:2]
        return (int(ids[0]), int(ids[1])) if len(ids) == 2 else None

    @property
    def argv(self) -> tuple[str, ...]:
        """Its command line."""
        data = self._ask("cmdline")
        return tuple(os.fsdecode(data).removesuffix("\0").split("\0")) if data else ()

    @property
    def name(self) -> str:
        """
        The kernel's name for it, at most 15 bytes: that of the executed program, unless the process chose another.
        """
        return os.fsdecode((self._ask("comm") or b"").rstrip(b"\n"))

    @property
    def environment(self) -> Mapping[str, str] | None:
        """The environment that its program was started with."""
        data = self._ask("environ")
        if data is None:
            return None
        pairs = (text.partition("=") for text in os.fsdecode(data).split("\0"))
        return {name: value for name, equal, value in pairs if equal}

    @property
    def cwd(self) -> str | None:
        """Its working directory; ``None`` also if this directory was removed."""
        path = self._link("cwd")
        return None if path is None or path.endswith(" (deleted)") else path

    @property
    def exe(self) -> str | None:
        """The file of the program that it runs. The file may have been replaced since."""
        path = self._link("exe")
        return path and path.removesuffix(" (deleted)")

    @property
    def has_our_root(self) -> bool:
        """Whether its paths mean the same files as ours: it is not in a chroot or a container with files of its own."""
        try:
            theirs, ours = os.stat(f"/proc/{self.pid}/root"), os.stat("/proc/self/root")
        except OSError:
            return False
        return self.is_alive and (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino)

    @property
    def image(self) -> tuple[Any, ...] | None:
        """
        A value that is the same for a process and for those that it forked, until one of them executes a program: at
        each execve(2) the kernel places stack and arguments by chance. ``None`` if this may not be looked at.
        """
        return self.origin[1]

    @property
    def group(self) -> int | None:
        """Its process group: the PID of the process that leads, or led, it."""
        fields = self._stat()
        return int(fields[_GROUP]) if fields else None

    @property
    def session(self) -> int | None:
        """Its session: the PID of the process that leads, or led, it."""
        fields = self._stat()
        return int(fields[_SESSION]) if fields else None

    @property
    def is_suspended(self) -> bool:
        """Whether a signal (SIGSTOP) or a tracer has stopped it."""
        fields = self._stat()
        return fields is not None and fields[_STATE] in (b"T", b"t")

    @property
    def cgroups(self) -> list[str]:
        """Its control groups, as paths from the hierarchy's root; several if the kernel has several hierarchies."""
        lines = os.fsdecode(self._ask("cgroup") or b"").splitlines()
        return list(dict.fromkeys(line.split(":", 2)[2] for line in lines if line.count(":") > 1))

    @property
    def parent(self) -> "Process | None":
        """The process that started it or adopted it; ``None`` for the first process."""
        fields = self._stat()
        pid = int(fields[_PARENT]) if fields else 0
        found = Process.of(pid) if pid else None
        # else the parent died meanwhile, and another process may have its PID
        return found if found and found.is_parent_of(self) else None

    @property
    def origin(self) -> tuple[int | None, tuple[Any, ...] | None]:
        """The PID of its parent (which another process may have by now) and ``image``, at one moment."""
        fields = self._stat()
        if not fields:
            return None, None
        # the kernel shows 0 or 1 to users who may not trace the process
        image = (fields[_STACK], fields[_ARGUMENTS]) if int(fields[_ARGUMENTS]) > 1 else None
        return int(fields[_PARENT]), image

    def is_parent_of(self, process: "Process") -> bool:
        """Whether ``process`` is its child now."""
        fields = process._stat()
        return fields is not None and int(fields[_PARENT]) == self.pid and self.is_alive

    @property
    def ancestors(self) -> Iterator["Process"]:
        """Its parent, the parent's parent, and so on."""
        process = self.parent
        while process:
            yield process
            process = process.parent

    @property
    def lineage(self) -> set[int]:
        """Its PID and those of its ancestors."""
        return {self.pid, *(process.pid for process in self.ancestors)}

    def children(self) -> list["Process"]:
        """The live processes that it started."""
        children = (Process.of(pid) for pid in _child_pids(self.pid))
        return [child for child in children if child and self.is_parent_of(child)]

    def invocation(self) -> Invocation | None:
        """How it was started, as it says itself; ``None`` if it is gone or shows no command line."""
        argv, uids = self.argv, self.uids
        if not argv or not uids:
            return None
        return Invocation(argv, f"command line of PID {self.pid}", self.cwd, self.environment, uids[1])

    def signal(self, number: int) -> bool:
        """
        Send it a signal; ``False`` if it is gone.

        Raises ``ProcessError`` if we may not.
        """
        number = signal.Signals(number)
        if not self.is_alive:
            return False
        try:
            if self._descriptor is not None:
                signal.pidfd_send_signal(self._descriptor, number)
            else:
                os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        except PermissionError:
            raise ProcessError(f"Not permitted to send {number.name} to PID {self.pid}; run as root") from None
        log.info("Sent %s to PID %d", number.name, self.pid)
        return True

    def _ask(self, name: str) -> bytes | None:
        data = _read(f"/proc/{self.pid}/{name}")
        return data if data is not None and self.is_alive else None

    def _stat(self) -> list[bytes] | None:
        fields = _stat(self.pid)
        return fields if fields and self.is_alive else None

    def _link(self, name: str) -> str | None:
        try:
            path = os.readlink(f"/proc/{self.pid}/{name}")
        except OSError:
            return None
        return path if self.is_alive else None


def end(processes: Iterable[Process], first: int, patience: float) -> list[dict[str, Any]]:
    """
    Send each process the signal ``first``; after ``patience`` seconds, send SIGKILL to those that are still there.

    Returns the signals that were sent: ``{"pid": …, "signal": …}`` for each. Raises ``ProcessError`` if we may not send
    them.
    """
    processes, first = list(processes), signal.Signals(first)
    sent = [{"pid": process.pid, "signal": first.name} for process in processes if process.signal(first)]
    if not ended(processes, patience):
        alive = [process for process in processes if process.is_alive]
        sent += [{"pid": process.pid, "signal": "SIGKILL"} for process in alive if process.signal(signal.SIGKILL)]
        ended(alive, patience)
    return sent


def ended(processes: Iterable[Process], patience: float) -> bool:
    """Wait until all have ended, for at most ``patience`` seconds. Returns whether they have."""
    alive = list(processes)

    def are_gone() -> bool:
        alive[:] = [process for process in alive if process.is_alive]
        return not alive

    def waits_for() -> str:
        return f"PID {', '.join(str(process.pid) for process in alive)} must end"

    return bool(wait_until(are_gone, Deadline(patience), what=waits_for))


def kill_group(leader: int) -> None:
    """
    Send SIGKILL to the process group of a child of ours. The child must lead the group, and must not have been waited
    for.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def pids() -> list[int]:
    """The PIDs of all visible processes, in ascending order."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())


def command_line(pid: int) -> bytes:
    """
    The beginning of the raw command line of the process that has ``pid`` now; a NUL ends each word. This quick look
    proves nothing. It only chooses which processes to identify.
    """
    return _glance(f"/proc/{pid}/cmdline") or b""


def _stat(pid: int) -> list[bytes] | None:
    # the file is one line, and the kernel returns it in one piece
    fields = (_glance(f"/proc/{pid}/stat") or b"").rpartition(b")")[2].split()
    return fields if len(fields) > _ARGUMENTS else None


def _child_pids(pid: int) -> list[int]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
        lists = [_read(f"/proc/{pid}/task/{thread}/children") for thread in threads]
    except OSError:
        return []
    if any(one is not None for one in lists):
        return sorted(int(child) for one in lists for child in (one or b"").split())
    # this kernel lacks CONFIG_PROC_CHILDREN
    found = ((one, _stat(one)) for one in pids())
    return [one for one, fields in found if fields and int(fields[_PARENT]) == pid]


def _glance(path: str) -> bytes | None:
    """The beginning of a file, read at once."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(descriptor, _CHUNK)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _read(path: str) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    data = b""
    try:
        # for some files, the kernel returns at most one page at a time
        while len(data) < _MAX_TEXT and (more := os.read(descriptor, _CHUNK)):
            data += more
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return data
