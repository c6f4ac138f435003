"""
One start or stop of Galaxy at a time on a machine, and one mount or unmount of an Onedata space.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator

from galaxy_errors import LockError
from galaxy_host_wait import Deadline, wait_until

# only root may write here, and a reboot empties it
PATH = "/run/galaxy.lock"


@contextlib.contextmanager
def hold(action: str, deadline: Deadline, path: str = PATH) -> Iterator[None]:
    """
    Hold the machine's lock while ``action`` is under way; the kernel releases it even if this process dies.

    Raises ``LockError``, naming the other action and its PID, where that is not over by ``deadline``.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except PermissionError:
        raise LockError(f"{action} needs root: not permitted to lock {path}") from None
    try:
        if not wait_until(lambda: _try_lock(descriptor), deadline):
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another one"
            raise LockError(f"{action}: {holder} is under way on this machine; try again when it is over")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{action} (PID {os.getpid()})\n".encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
