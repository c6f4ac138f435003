"""
Watch a Galaxy over time: what has lasted long enough to be told, once, and when it is over.
"""

import dataclasses

from galaxy_errors import StatsError
from galaxy_uwsgi_stats import Stats
from galaxy_uwsgi_worker import WorkerState

CONDITIONS = ("down", "saturated", "stuck")


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """
    Seconds: how long Galaxy must be ``down`` or ``saturated`` (every accepting worker is), how long one request must be
    in a core to be ``stuck``, and how long nothing of this must have been seen for ``recovered``.
    """

    down: float = 60
    saturated: float = 120
    stuck: float = 600
    recovered: float = 60


@dataclasses.dataclass
class Memory:
    """
    What one look must know of those before: since when each condition holds, which were told, since when all is well.
    """

    since: dict[str, float] = dataclasses.field(default_factory=dict)
    told: set[str] = dataclasses.field(default_factory=set)
    well_since: float | None = None


def observe(answer: Stats | StatsError, memory: Memory, thresholds: Thresholds, now: float) -> list[dict]:
    """
    The events that are due at ``now`` (seconds of a clock that only goes forward); ``memory`` is brought up to date.

    answer
        what the stats server said, or how it failed

    Each event has a ``tag``: ``down`` (with ``reason``), ``saturated`` (with ``workers``, ``listen_queue``), ``stuck``
    (with ``requests``: PID, core, method, uri, seconds), told once while it lasts, or ``recovered`` (with what is
    over).
    """
    stuck = _stuck(answer, thresholds)
    holds = {
        "down": not isinstance(answer, Stats) or not answer.ready,
        "saturated": isinstance(answer, Stats) and _is_saturated(answer),
        "stuck": bool(stuck),
    }
    due = []
    for condition in CONDITIONS:
        if not holds[condition]:
            memory.since.pop(condition, None)
            continue
        since = memory.since.setdefault(condition, now)
        # a stuck request has lasted already
        patience = 0 if condition == "stuck" else getattr(thresholds, condition)
        if condition not in memory.told and now - since >= patience:
            memory.told.add(condition)
            due.append(_event(condition, answer, stuck))
    if any(holds.values()):
        memory.well_since = None
    elif memory.well_since is None:
        memory.well_since = now
    if memory.told and memory.well_since is not None and now - memory.well_since >= thresholds.recovered:
        due.append({"tag": "recovered", "from": sorted(memory.told)})
        memory.told.clear()
    return due


def _event(condition: str, answer: Stats | StatsError, stuck: list[dict]) -> dict:
    if condition == "stuck":
        return {"tag": "stuck", "requests": stuck}
    if condition == "saturated":
        return {"tag": "saturated", "workers": answer.accepting, "listen_queue": answer.listen_queue}
    reason = "no worker accepts with its application loaded" if isinstance(answer, Stats) else str(answer)
    return {"tag": "down", "reason": reason}


def _is_saturated(stats: Stats) -> bool:
    return stats.accepting > 0 and stats.count(WorkerState.SATURATED) == stats.accepting


def _stuck(answer: Stats | StatsError, thresholds: Thresholds) -> list[dict]:
    if not isinstance(answer, Stats):
        return []
    return [
        {"pid": worker.pid, **dataclasses.asdict(request)}
        for worker in answer.workers
        for request in worker.in_request
        if request.seconds is not None and request.seconds >= thresholds.stuck
    ]
