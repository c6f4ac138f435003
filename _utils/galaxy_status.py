"""
How a Galaxy is, as plain data: what ``galaxy.status`` returns, made of one look.
"""

import time

from galaxy_errors import GalaxyError
from galaxy_manager_unit import State
from galaxy_server import Galaxy, Look
from galaxy_spec import Limits
from galaxy_webserver import WorkerState


def read(galaxy: Galaxy, limits: Limits, timeout: float, verbose: bool = False) -> dict:
    """
    How the server is; every failure becomes a sentence in ``problems``. See ``galaxy.status`` for the shape.

    timeout
        seconds for its web server's answer
    """
    return record(galaxy, galaxy.look(timeout), limits, verbose)


def record(galaxy: Galaxy, look: Look, limits: Limits, verbose: bool = False) -> dict:
    """The plain data of a look."""
    snapshot, master, unit, status = look.snapshot, look.master, look.service.unit, look.status
    workers = snapshot.workers if snapshot else []
    result = {
        "server": galaxy.spec.server,
        "running": look.running,
        "accepting": snapshot.accepting > 0 if snapshot else look.is_ready(1),
        "ready": look.is_ready(limits.min_workers),
        "ready_workers": look.ready_workers,
        "pid": master.pid if master else None,
        "uptime": max(0, round(time.time() - master.create_time)) if master else None,
        "version": snapshot.version if snapshot else None,
        "workers": {
            "total": len(workers),
            **{state.value: snapshot.count(state) if snapshot else 0 for state in WorkerState},
        },
        "listen_queue": snapshot.listen_queue if snapshot else None,
        "manager": {
            "name": unit.manager,
            "service": unit.service,
            "state": status.state.value if status else State.UNKNOWN.value,
            "term": status.raw if status else "",
            "active": status.active if status else None,
        }
        if unit
        else None,
        "config": galaxy.spec.config,
        "sockets": [str(address) for address in galaxy.web.listens_on],
        "stats": _stats_address(galaxy),
        "problems": problems(galaxy, look, limits),
    }
    if verbose:
        result["worker_records"] = [worker.record() for worker in workers]
    return result


def problems(galaxy: Galaxy, look: Look, limits: Limits) -> list[str]:
    """What is wrong, in sentences; empty where all is well."""
    found = list(look.errors)
    snapshot = look.snapshot
    if snapshot and not look.master and not found:
        found.append(
            f"The stats server {_stats_address(galaxy)} names PID {snapshot.pid}, which holds none of the server's "
            "sockets here."
        )
    if not galaxy.web.is_given:
        found += [text for text in _unusable(galaxy) if text not in found]
    if snapshot:
        found += snapshot.problems
        if 0 < snapshot.ready < limits.min_workers:
            found.append(f"{snapshot.ready} of {limits.min_workers} wanted workers are ready.")
    if look.running is None and not found:
        found.append(
            "Nothing says where Galaxy listens, no live uWSGI names its configuration, and no process manager has it."
        )
    return found + _manager_problems(look)


def _unusable(galaxy: Galaxy) -> list[str]:
    try:
        return [str(setting.value) for setting in galaxy.web.options.unusable]
    except GalaxyError:
        # among the look's errors already
        return []


def _stats_address(galaxy: Galaxy) -> str | None:
    try:
        return str(galaxy.web.stats_address)
    except GalaxyError:
        return None


def _manager_problems(look: Look) -> list[str]:
    unit, status = look.service.unit, look.status
    if not unit or not status:
        return []
    says = f"{unit.manager} says {status.raw} of {unit.service}{status.why}"
    if status.state is State.RUNNING:
        said = [] if look.running else [f"{says}, but Galaxy does not answer."]
    elif look.running:
        said = [f"{says}, but Galaxy runs."] if status.state is not State.STARTING else []
    else:
        said = [f"{says}."]
    return [*said, *status.problems]
