"""
Who may do a thing now, and whether it is to be done once more: for calls that come many at a time, from any process.

The kernel releases a lock when its process ends, however that ends.
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
    Yield true in one caller at a time of those that give the same ``directory`` and ``name``, false in all besides.

    directory
        is made where it is missing, for its owner alone; a file is in there for each name that is held
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
    Work that is done by one caller at a time, and asked for by many.

    However many ask while the work is under way, it is done once more after that, and by the same caller; so there is
    at most one that works, and none that waits.
    """

    def __init__(self, directory: str, name: str):
        self._directory, self._name = directory, name
        self._asked = _path(directory, f"{name} asked")
        self._began = _path(directory, f"{name} began")

    def take(self, work: Callable[["Turn"], Any]) -> Any:
        """
        Call ``work(turn)``, again where somebody asked meanwhile, and return its last result.

        Returns ``None``, and does nothing, where another caller is at the work: that one will do it once more.
        """
        os.close(os.open(self._asked, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        result = None
        # whoever asks before the lock is released is sent away: a look after that is what makes sure of him
        while self.is_asked:
            with alone(self._directory, self._name) as mine:
                if not mine:
                    break
                self.begin()
                result = work(self)
        return result

    def begin(self) -> None:
        """What was asked for until now is served by what begins here; for ``work`` that begins anew."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._asked)
        descriptor = os.open(self._began, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, repr(time.time()).encode())
        finally:
            os.close(descriptor)

    def has_served(self, since: float) -> bool:
        """Whether work began after that moment (epoch seconds)."""
        try:
            with open(self._began, encoding="ascii") as file:
                began = float(file.read(40))
        except (OSError, ValueError):
            return False
        # a beginning in the future was before the clock was set back
        return since < began <= time.time()

    @property
    def is_asked(self) -> bool:
        """Whether somebody asked since the work began."""
        return os.path.exists(self._asked)


def _locked(path: str) -> int | None:
    """The file's descriptor, with its lock; ``None`` where another has that."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        # whoever had it before may have taken the file away in between
        try:
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)


def _path(directory: str, name: str) -> str:
    os.makedirs(directory, mode=0o700, exist_ok=True)
    # a name may be longer than a file's
    return os.path.join(directory, hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest())
