"""
Decide whose turn it is to do a thing, and whether it must be done once more. This is for calls that come many at a
time, from any process.

The kernel releases a lock when its process ends, in whatever way.
"""

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def alone(directory: str, name: str) -> Iterator[bool]:
    """
    Yield ``True`` to one caller at a time of those that give the same ``directory`` and ``name``, and ``False`` to all
    others.

    directory
        made if missing, for its owner alone; each name that is held has a file in it
    """
    path = _path(directory, name)
    descriptor = _locked(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            os.close(descriptor)


class Turn:
    """
    Work that one caller does at a time, and that many ask for.

    However many ask while the work is under way, the same caller does it once more afterwards. So at most one caller
    works, and none waits.
    """

    def __init__(self, directory: str, name: str):
        self._directory, self._name = directory, name
        self._asked = _path(directory, f"{name} asked")
        self._began = _path(directory, f"{name} began")

    def take(self, work: Callable[["Turn"], Any]) -> Any:
        """
        Call ``work(turn)``, and again if somebody asked meanwhile. Returns its last result.

        Returns ``None`` at once if another caller does the work: that caller will do it once more.
        """
        os.close(os.open(self._asked, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        result = None
        # a job that asks before the release is turned away, so look once more after the release
        while self.is_asked:
            with alone(self._directory, self._name) as mine:
                if not mine:
                    break
                self.begin()
                result = work(self)
        return result

    def begin(self) -> None:
        """Say that the work begins anew: it serves all who have asked until now. ``work`` calls this."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._asked)
        descriptor = os.open(self._began, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, repr(time.time()).encode())
        finally:
            os.close(descriptor)

    def has_served(self, since: float) -> bool:
        """Whether work began after this moment (epoch seconds)."""
        try:
            with open(self._began, encoding="ascii") as file:
                began = float(file.read(40))
        except (OSError, ValueError):
            return False
        # a time in the future was written before the clock was set back
        return since < began <= time.time()

    @property
    def is_asked(self) -> bool:
        """Whether somebody asked since the work began."""
        return os.path.exists(self._asked)


def _locked(path: str) -> int | None:
    """The file's descriptor, with its lock; ``None`` if another process has the lock."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        # the last holder may have removed the file meanwhile
        try:
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)


def _path(directory: str, name: str) -> str:
    os.makedirs(directory, mode=0o700, exist_ok=True)
    # hashed, because a name may be longer than a file name
    return os.path.join(directory, hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest())
