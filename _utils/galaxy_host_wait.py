"""
The one loop that waits.
"""

import resource
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import galaxy_host_progress

_Result = TypeVar("_Result")

INTERVAL = 0.08
# a waiting minion may cost this part of a core, unless the pauses became longer than LONGEST seconds: a machine that is
# slow, or busy with its boot, would not see for a minute that Galaxy is there
CPU_SHARE = 0.012
LONGEST = 5.0


class Deadline:
    """A point in time, ``seconds`` from now, that a whole operation shares."""

    def __init__(self, seconds: float):
        self.seconds = float(seconds)
        self._end = time.monotonic() + self.seconds

    @property
    def left(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end - time.monotonic())

    @property
    def spent(self) -> float:
        """Seconds since it was set, never more than its own."""
        return self.seconds - self.left

    @property
    def passed(self) -> bool:
        return self.left == 0.0


class Throttled(Generic[_Result]):
    """
    A look that may cost much, called from a loop that is quick: only so often that it takes ``share`` of the time.

    Calling it calls ``look`` with the same arguments, or returns ``None`` where it is not yet time again. ``shortest``
    and ``longest`` bound the seconds between two looks.
    """

    def __init__(self, look: Callable[..., _Result], share: float = 0.01, shortest: float = 0.2, longest: float = 3.0):
        self._look = look
        self._share, self._shortest, self._longest = share, shortest, longest
        self._next = 0.0

    def __call__(self, *args: Any) -> _Result | None:
        before = time.monotonic()
        if before < self._next:
            return None
        result = self._look(*args)
        after = time.monotonic()
        self._next = after + min(self._longest, max(self._shortest, (after - before) / self._share))
        return result


def wait_until(
    condition: Callable[[], _Result],
    deadline: Deadline,
    interval: float = INTERVAL,
    what: str | Callable[[], str] = "",
) -> _Result | None:
    """
    Call ``condition`` until it returns something true, and return that; ``None`` once the deadline has passed.

    It is called at least once. The pause between two calls is ``interval`` seconds, or longer, up to ``LONGEST``, where
    a call takes so much CPU that the waiting would use more than ``CPU_SHARE`` of a core. What ``condition`` raises
    ends the waiting. ``what`` says what is waited for, where that takes long.
    """
    while True:
        before = _cpu_seconds()
        result = condition()
        if result:
            return result
        if deadline.passed:
            return None
        galaxy_host_progress.tick(what)
        pause = max(interval, min(LONGEST, (_cpu_seconds() - before) / CPU_SHARE))
        time.sleep(min(pause, deadline.left))


def _cpu_seconds() -> float:
    usages = (resource.getrusage(resource.RUSAGE_THREAD), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
