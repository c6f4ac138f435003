"""
The loop that waits. No other code sleeps.
"""

import resource
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import galaxy_host_progress

_Result = TypeVar("_Result")

INTERVAL = 0.08
# a waiting minion may use this part of a core. But no pause is longer than LONGEST seconds: else a slow machine, or one
# that is busy with its boot, would see only a minute later that Galaxy is ready
CPU_SHARE = 0.012
LONGEST = 5.0


class Deadline:
    """A point in time, ``seconds`` from now. A whole operation shares it."""

    def __init__(self, seconds: float):
        self.seconds = float(seconds)
        self._end = time.monotonic() + self.seconds

    @property
    def left(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end - time.monotonic())

    @property
    def spent(self) -> float:
        """Seconds since it was set, at most ``seconds``."""
        return self.seconds - self.left

    @property
    def passed(self) -> bool:
        return self.left == 0.0


class Throttled(Generic[_Result]):
    """
    A costly look that a quick loop calls. It is only taken so often that it needs ``share`` of the time.

    A call calls ``look`` with the same arguments, or returns ``None`` if it is too early. Between two looks there are
    at least ``shortest`` and at most ``longest`` seconds.
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
    Call ``condition`` until it returns something true, and return this; ``None`` once the deadline has passed.

    ``condition`` is called at least once. Between two calls there is a pause of ``interval`` seconds. If a call takes
    much CPU time, the pause is longer (up to ``LONGEST``), so that the wait does not use more than ``CPU_SHARE`` of a
    core. An exception in ``condition`` ends the wait. ``what`` says what is waited for, if it takes long.
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
