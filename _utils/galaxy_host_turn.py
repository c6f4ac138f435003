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
        is made where it is missing, for its owner alone; it holds an empty file for each name
    """
    descriptor = os.open(_path(directory, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
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

    def take(self, work: Callable[["Turn"], Any], since: float | None = None) -> Any:
        """
        Call ``work(turn)``, again where somebody asked meanwhile, and return its last result.

        since
            epoch seconds of what asks for the work; work that began later has served that

        Returns ``None``, and does nothing, where another caller is at the work (and will do it once more), or the work
        has been done since.
        """
        if since is not None and since < self._last_began():
            return None
        self._ask()
        result = None
        # whoever asks before the lock is released is sent away: a look after that is what makes sure of him
        while self.is_asked:
            with alone(self._directory, self._name) as mine:
                if not mine:
                    break
                result = work(self)
        return result

    def begin(self) -> None:
        """What was asked for until now is served by what begins here; ``work`` calls it before each try."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._asked)
        descriptor = os.open(self._began, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, repr(time.time()).encode())
        finally:
            os.close(descriptor)

    @property
    def is_asked(self) -> bool:
        """Whether somebody asked since the work began."""
        return os.path.exists(self._asked)

    def _ask(self) -> None:
        os.close(os.open(self._asked, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def _last_began(self) -> float:
        """Epoch seconds; 0 where that is not known, or in the future, because the clock was set back."""
        try:
            with open(self._began, encoding="ascii") as file:
                began = float(file.read(40))
        except (OSError, ValueError):
            return 0.0
        return began if began <= time.time() else 0.0


def _path(directory: str, name: str) -> str:
    os.makedirs(directory, mode=0o700, exist_ok=True)
    # a name may be longer than a file's
    return os.path.join(directory, hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest())
