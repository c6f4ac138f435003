"""
Allow one start or stop of a Galaxy server at a time, and one mount or unmount of an Onedata space.

The locks are files in a directory that only we can read. flock(2) needs no right to write, so whoever could open a lock
could hold it for ever.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import stat
from collections.abc import Iterator
from urllib.parse import quote

from galaxy_errors import LockError
from galaxy_host_wait import Deadline, wait_until

log = logging.getLogger(__name__)

# only root may write into /run, and a reboot empties it
DIRECTORY = "/run/galaxy-salt"
_NAME_MAX = 200


@contextlib.contextmanager
def hold(action: str, name: str, deadline: Deadline, directory: str = DIRECTORY) -> Iterator[None]:
    """
    Hold the lock of ``name`` while ``action`` is under way. The kernel releases it even if this process dies.

    name
        any text, such as that of a server or a space: each has its own lock

    Raises ``LockError``, which names the other action and its PID, if the other action does not end before
    ``deadline``.
    """
    folder = _open_directory(directory, action)
    try:
        descriptor = _open(folder, f"{directory}/{file_name(name)}", action)
    finally:
        os.close(folder)
    try:
        if not wait_until(lambda: take(descriptor), deadline, what=lambda: _holder(descriptor)):
            raise LockError(f"{action}: {_holder(descriptor)}; try again when that is over")
        log.debug("%s holds the lock of %s", action, name)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {action}\n".encode(errors="replace"), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def take(descriptor: int) -> bool:
    """Take the exclusive lock of an open file, without waiting. ``False``: another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def file_name(name: str) -> str:
    """The name of the lock's file. Each ``name`` has another one, and each is one plain file name."""
    quoted = quote(name, safe="", errors="surrogatepass")
    if len(quoted) > _NAME_MAX:
        # a quoted name never has a plus sign, so no other name becomes this one
        quoted = f"+{hashlib.sha256(quoted.encode()).hexdigest()}"
    return f"{quoted}.lock"


def _open_directory(path: str, action: str) -> int:
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except PermissionError:
        raise LockError(f"{action} needs root: not permitted to lock in {path}") from None
    except OSError as exc:
        raise LockError(f"{action}: {path}, the directory of locks, cannot be used: {exc.strerror}") from None
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid():
        os.close(descriptor)
        raise LockError(f"{action}: {path}, the directory of locks, belongs to user {status.st_uid}, not to us")
    if stat.S_IMODE(status.st_mode) != 0o700:
        os.fchmod(descriptor, 0o700)
    return descriptor


def _open(folder: int, path: str, action: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(os.path.basename(path), flags, 0o600, dir_fd=folder)
    except OSError as exc:
        raise LockError(f"{action}: {path} cannot be locked: {exc.strerror}") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        os.close(descriptor)
        raise LockError(f"{action}: {path} is not a lock of ours; remove it")
    os.fchmod(descriptor, 0o600)
    return descriptor


def _holder(descriptor: int) -> str:
    """
    Name the process that holds the lock, as the kernel tells it. Its action is named only if the file names this
    process.
    """
    written, _, action = os.pread(descriptor, 200, 0).decode(errors="replace").strip().partition(" ")
    pid = _holding_pid(descriptor)
    if pid is None:
        return "another action is under way on this machine"
    if action and written == str(pid):
        return f"{action} (PID {pid}) is under way on this machine"
    return f"PID {pid}, or a process that it started, holds the lock of another action on this machine"


def _holding_pid(descriptor: int) -> int | None:
    status = os.fstat(descriptor)
    wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        with open("/proc/locks", encoding="ascii", errors="replace") as file:
            for line in file:
                # proc_locks(5): 1: FLOCK ADVISORY WRITE pid device:inode start end; a waiting process has -> behind the
                # number
                fields = line.split()
                if fields[1] == "FLOCK" and fields[5] == wanted and int(fields[4]) > 0:
                    return int(fields[4])
    except (OSError, IndexError, ValueError):
        pass
    return None
