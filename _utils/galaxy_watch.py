"""
Watch a Galaxy over time: what has lasted long enough to be told, once, and when it is over.
"""

import dataclasses

from galaxy_host_record import record
from galaxy_server import Look

CONDITIONS = ("down", "saturated", "stuck")


@record(frozen=True)
class Thresholds:
    """
    Seconds: how long Galaxy must be ``down`` or ``saturated`` (every accepting worker is), how long one request must be
    in a core to be ``stuck``, and how long nothing of this must have been seen for ``recovered``.
    """

    down: float = 60
    saturated: float = 120
    stuck: float = 600
    recovered: float = 60


@record
class Memory:
    """
    What one look must know of those before: since when each condition holds, which were told, since when all is well.
    """

    since: dict[str, float] = dataclasses.field(default_factory=dict)
    told: set[str] = dataclasses.field(default_factory=set)
    well_since: float | None = None


def observe(look: Look, memory: Memory, thresholds: Thresholds, now: float) -> list[dict]:
    """
    The events that are due at ``now`` (seconds of a clock that only goes forward); ``memory`` is brought up to date.

    Each event has a ``tag``: ``down`` (with ``reason``), ``saturated`` (with ``workers``, ``listen_queue``), ``stuck``
    (with ``requests``: PID, core, method, uri, seconds), told once while it lasts, or ``recovered`` (with what is
    over).
    """
    stuck = _stuck(look, thresholds)
    holds = {
        "down": not look.is_ready(1),
        "saturated": look.snapshot is not None and look.snapshot.is_saturated,
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
            due.append(_event(condition, look, stuck))
    if any(holds.values()):
        memory.well_since = None
    elif memory.well_since is None:
        memory.well_since = now
    if memory.told and memory.well_since is not None and now - memory.well_since >= thresholds.recovered:
        due.append({"tag": "recovered", "from": sorted(memory.told)})
        memory.told.clear()
    return due


def _event(condition: str, look: Look, stuck: list[dict]) -> dict:
    if condition == "stuck":
        return {"tag": "stuck", "requests": stuck}
    snapshot = look.snapshot
    if condition == "saturated":
        return {"tag": "saturated", "workers": snapshot.accepting, "listen_queue": snapshot.listen_queue}
    reason = "no worker accepts with its application loaded" if snapshot else " ".join(look.errors)
    return {"tag": "down", "reason": reason}


def _stuck(look: Look, thresholds: Thresholds) -> list[dict]:
    return [
        {"pid": worker.pid, **dataclasses.asdict(request)}
        for worker in (look.snapshot.workers if look.snapshot else ())
        for request in worker.in_request
        if request.seconds is not None and request.seconds >= thresholds.stuck
    ]
