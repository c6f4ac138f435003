"""
Watch a Galaxy over time: tell once what has lasted long enough, and tell when it is over.
"""

import dataclasses
from typing import Any

from galaxy_host_record import record
from galaxy_look import Look
from galaxy_manager_unit import State
from galaxy_webserver import Worker, WorkerState

CONDITIONS = ("down", "saturated", "stuck", "crashing")


@record(frozen=True)
class Thresholds:
    """
    How many seconds something must last before it is told.

    ``down``: Galaxy is down. ``saturated``: every accepting worker is saturated. ``stuck``: one request is under way.
    ``crashing``: a process manager starts a service again and again, or has given it up. ``recovered``: there was none
    of these conditions.
    """

    down: float = 60
    saturated: float = 120
    stuck: float = 600
    crashing: float = 60
    recovered: float = 60


@record
class Memory:
    """
    What one look must know of earlier looks: since when each condition holds, which conditions were told, since when
    all is well; how often each service had been started again, and when this number last grew.
    """

    since: dict[str, float] = dataclasses.field(default_factory=dict)
    told: set[str] = dataclasses.field(default_factory=set)
    well_since: float | None = None
    restarts: dict[str, int] = dataclasses.field(default_factory=dict)
    restarted: dict[str, float] = dataclasses.field(default_factory=dict)


def observe(look: Look, memory: Memory, thresholds: Thresholds, now: float) -> list[dict[str, Any]]:
    """
    The events that are due at ``now`` (seconds of a clock that only goes forward). ``memory`` is updated.

    Each event has a ``tag``. ``down`` (with ``reason``), ``saturated`` (with ``workers`` and ``listen_queue``),
    ``stuck`` (with ``requests``: PID, core, method, uri, seconds) and ``crashing`` (with ``services``: what the process
    manager reports for each) are told once while they last. ``recovered`` has the conditions that are over.
    """
    stuck = _stuck(look, thresholds)
    crashing = _crashing(look, memory, thresholds, now)
    holds = {
        "down": not look.is_ready(1),
        "saturated": bool(look.snapshots) and all(snapshot.is_saturated for snapshot in look.snapshots),
        "stuck": bool(stuck),
        "crashing": bool(crashing),
    }
    due = []
    for condition in CONDITIONS:
        if not holds[condition]:
            memory.since.pop(condition, None)
            continue
        since = memory.since.setdefault(condition, now)
        # a stuck request has lasted long enough already
        patience = 0 if condition == "stuck" else getattr(thresholds, condition)
        if condition not in memory.told and now - since >= patience:
            memory.told.add(condition)
            due.append(_event(condition, look, stuck, crashing))
    if any(holds.values()):
        memory.well_since = None
    elif memory.well_since is None:
        memory.well_since = now
    if memory.told and memory.well_since is not None and now - memory.well_since >= thresholds.recovered:
        due.append({"tag": "recovered", "from": sorted(memory.told)})
        memory.told.clear()
    return due


def _event(condition: str, look: Look, stuck: list[dict[str, Any]], crashing: dict[str, str]) -> dict[str, Any]:
    if condition == "stuck":
        return {"tag": "stuck", "requests": stuck}
    if condition == "crashing":
        return {"tag": "crashing", "services": crashing}
    if condition == "saturated":
        queue = look.snapshots[0].listen_queue
        accepting = sum(snapshot.accepting for snapshot in look.snapshots)
        return {"tag": "saturated", "workers": accepting, "listen_queue": queue}
    answers = [snapshot.answer for snapshot in look.snapshots if snapshot.answers is False]
    told = [
        f"{one.service.unit.manager} reports {one.status.story} for {one.service.unit.service}"
        for one in look.webs
        if one.service.unit and one.status and not (one.snapshot and one.snapshot.ready)
    ]
    reason = " ".join([*look.errors, *answers]) or "; ".join(told) or "no worker is ready"
    return {"tag": "down", "reason": reason}


def _stuck(look: Look, thresholds: Thresholds) -> list[dict[str, Any]]:
    return [
        {"pid": worker.pid, **request}
        for snapshot in look.snapshots
        for worker in snapshot.workers
        for request in _requests(worker)
        if worker.state is WorkerState.STUCK or (request["seconds"] or 0) >= thresholds.stuck
    ]


def _requests(worker: Worker) -> list[dict[str, Any]]:
    """Its requests under way. If a web server tells only the age of its requests, this is the oldest one."""
    known = [dataclasses.asdict(request) for request in worker.in_request]
    if known or (worker.oldest_request is None and worker.state is not WorkerState.STUCK):
        return known
    seconds = None if worker.oldest_request is None else round(worker.oldest_request)
    return [{"core": None, "method": None, "uri": None, "remote_addr": None, "seconds": seconds}]


def _crashing(look: Look, memory: Memory, thresholds: Thresholds, now: float) -> dict[str, str]:
    """By service: what its process manager reports, if it starts the service again and again, or has given it up."""
    found = {}
    for one in look.services:
        status, name = one.status, one.service.name
        if not status:
            continue
        if status.restarts is not None:
            if status.restarts > memory.restarts.get(name, status.restarts):
                memory.restarted[name] = now
            memory.restarts[name] = status.restarts
        again = name in memory.restarted and now - memory.restarted[name] < max(thresholds.crashing, 1)
        if again or status.state in (State.RETRYING, State.FAILED):
            found[name] = status.story
    return found
