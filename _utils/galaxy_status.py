"""
Tell how a Galaxy is, as plain data. ``galaxy.status`` returns this; it is made from one look.
"""

import time
from typing import Any

import galaxy_host_files
import galaxy_manager_unit
from galaxy_host_process import Process
from galaxy_look import Look, ServiceLook
from galaxy_manager_unit import State
from galaxy_server import Galaxy
from galaxy_service import Role
from galaxy_spec import Limits
from galaxy_webserver import WorkerState

# two times of starts are compared, each cut to whole seconds
_ROUNDED = 2


def read(galaxy: Galaxy, limits: Limits, timeout: float, verbose: bool = False) -> dict[str, Any]:
    """
    Tell how the server is. Every failure becomes a sentence in ``problems``. See ``galaxy.status`` for the shape.

    timeout
        seconds to wait for its web server's answer
    """
    return record(galaxy, galaxy.look(timeout), limits, verbose)


def record(galaxy: Galaxy, look: Look, limits: Limits, verbose: bool = False) -> dict[str, Any]:
    """The plain data of a look."""
    snapshots, masters = look.snapshots, look.masters
    workers = [worker for snapshot in snapshots for worker in snapshot.workers]
    result: dict[str, Any] = {
        "server": galaxy.spec.server,
        "web_server": galaxy.web_server,
        "running": look.running,
        "accepting": any(snapshot.accepting for snapshot in snapshots) if snapshots else look.is_ready(1),
        "ready": look.is_ready(limits.min_workers),
        "ready_workers": look.ready_workers,
        "pid": masters[0].pid if masters else None,
        "uptime": max(0, round(time.time() - min(master.create_time for master in masters))) if masters else None,
        "version": snapshots[0].version if snapshots else None,
        "galaxy_version": {
            "running": next((one.galaxy_version for one in snapshots if one.galaxy_version), None),
            "on_disk": galaxy.version_on_disk(),
        },
        "workers": {
            "total": len(workers),
            **{state.value: sum(one.count(state) for one in snapshots) for state in WorkerState},
        },
        "oldest_request": look.oldest_request,
        "listen_queue": _queue(look),
        "manager": _manager(look),
        "services": {one.service.name: _service(one) for one in look.services},
        "config": galaxy.spec.config,
        "sockets": [str(address) for one in look.webs if one.service.web for address in one.service.web.listens_on],
        "stats": galaxy.stats_address,
        "problems": problems(galaxy, look, limits),
    }
    if verbose:
        result["worker_records"] = [worker.record() for worker in workers]
    return result


def problems(galaxy: Galaxy, look: Look, limits: Limits) -> list[str]:
    """What is wrong, in sentences; empty if all is well."""
    found = [*look.problems, *look.errors]
    for one in look.webs:
        if one.snapshot and not one.master and not found:
            found.append(
                f"The stats server {galaxy.stats_address} names PID {one.snapshot.pid}, which holds none of the "
                "server's sockets here."
            )
    found += [text for text in galaxy.unusable if text not in found]
    for one in look.webs:
        if one.snapshot:
            name = f"{one.service.name}: " if len(look.webs) > 1 else ""
            found += [name + text for text in one.snapshot.problems]
    ready = look.ready_workers
    if ready and ready < limits.min_workers:
        found.append(f"{ready} of {limits.min_workers} wanted workers {'is' if ready == 1 else 'are'} ready.")
    if look.running is None and not found:
        found.append(
            "Nothing says where Galaxy listens, no live uWSGI names its configuration, and no process manager has it."
        )
    for one in look.services:
        found += [*_suspended(one), *_manager_problems(one)]
    return [*found, *_outdated(galaxy, look)]


def _outdated(galaxy: Galaxy, look: Look) -> list[str]:
    """Which services were started before a configuration file was changed: sentences."""
    # no reload restarts tusd: all of its options are on its command line
    loaded = {one.service.name: one.loaded for one in look.services if one.service.role is not Role.TUSD}
    found = []
    for path in galaxy.configurations if any(loaded.values()) else ():
        changed = galaxy_host_files.changed(path)
        old = [name for name, since in loaded.items() if since and changed and since + _ROUNDED < changed]
        if old:
            verb = "was" if len(old) == 1 else "were"
            found.append(f"{path} was changed after {', '.join(old)} {verb} started: a restart or reload takes it up.")
    return found


def _queue(look: Look) -> dict[str, Any] | None:
    queues = [snapshot.listen_queue for snapshot in look.snapshots]
    if len(queues) < 2:
        return queues[0] if queues else None
    lengths = [queue["length"] for queue in queues if queue["length"] is not None]
    limits = [queue["max"] for queue in queues if queue["max"] is not None]
    return {"length": sum(lengths) if lengths else None, "max": min(limits, default=None), "errors": None}


def _manager(look: Look) -> dict[str, Any] | None:
    """The process manager's status of the web server; if there are several, of the one in the worst state."""
    managed = [(one, one.service.unit) for one in look.webs if one.service.unit]
    if not managed:
        return None
    worst, unit = next((pair for pair in managed if not pair[0].is_kept_up), managed[0])
    status = worst.status
    return {
        "name": unit.manager,
        "service": unit.service,
        "state": status.state.value if status else State.UNKNOWN.value,
        "term": status.raw if status else "",
        "active": look.is_active,
    }


def _service(one: ServiceLook) -> dict[str, Any]:
    status = one.status
    return {
        "role": one.service.role.value,
        "state": status.state.value if status else State.UNKNOWN.value,
        "pids": _pids(one),
        "restarts": status.restarts if status else None,
    }


def _pids(one: ServiceLook) -> list[int]:
    """The service's main process; if this is not known, all of its processes."""
    status = one.status
    main = one.master.pid if one.master else status.main_pid if status else None
    return [main] if main else list(status.pids) if status else []


def _suspended(one: ServiceLook) -> list[str]:
    """What no process manager tells: that a signal has stopped the service. Sentences."""
    found = [one.master] if one.master else map(Process.of, _pids(one))
    processes = [process for process in found if process and process.is_suspended]
    return [
        f"{one.service.name} (PID {process.pid}) is stopped by a signal: kill -CONT {process.pid}, or restart it."
        for process in processes
    ]


def _manager_problems(one: ServiceLook) -> list[str]:
    unit, status = one.service.unit, one.status
    if not unit or not status:
        return []
    report = galaxy_manager_unit.report(unit, status)
    if not one.service.is_server:
        said = [] if status.state in (State.RUNNING, State.STARTING) else [f"{report}."]
    elif status.state is State.RUNNING:
        said = [] if one.running else [f"{report}, but Galaxy does not answer."]
    elif one.running:
        said = [f"{report}, but Galaxy runs."] if status.state is not State.STARTING else []
    else:
        said = [f"{report}."]
    return [*said, *status.problems]
