"""
Tell how Galaxies are, as OpenMetrics text (docs/monitoring.md).

Prometheus' older text format can read all names and types too, because node_exporter's textfile collector knows only
this format.
"""

import dataclasses
import time
from collections.abc import Iterable, Mapping
from typing import Any

from galaxy_host_record import record
from galaxy_webserver import WorkerState


@record
class _Family:
    """One metric: its name, type, unit and help, and its samples."""

    name: str
    help: str
    unit: str = ""
    type: str = "gauge"
    samples: list[Any] = dataclasses.field(default_factory=list)

    def add(self, value: Any, **labels: Any) -> None:
        """Add a sample, if the value is known."""
        if isinstance(value, (bool, int, float)):
            self.samples.append((labels, value))

    def lines(self) -> Iterable[str]:
        yield f"# TYPE {self.name} {self.type}"
        if self.unit:
            yield f"# UNIT {self.name} {self.unit}"
        yield f"# HELP {self.name} {self.help}"
        suffix = "_total" if self.type == "counter" else ""
        for labels, value in self.samples:
            inner = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
            yield f"{self.name}{suffix}{{{inner}}} {float(value):.15g}"


def text(statuses: Mapping[str, Any], now: float | None = None) -> str:
    """
    The metrics of a machine's servers.

    statuses
        by name: what ``galaxy.status`` says of the server, or a text that says why this cannot be told
    now
        epoch seconds of the look; by default now

    Each sample has the label ``server``. An unknown value has no sample, and a metric without samples is left out.
    """
    looked = _Family("galaxy_look_success", "Whether the server could be looked at: 1 or 0.")
    stamp = _Family("galaxy_look_timestamp_seconds", "When it was looked at, in epoch seconds.", "seconds")
    families = [looked, stamp]
    for name, status in statuses.items():
        is_told = isinstance(status, Mapping)
        looked.add(is_told, server=name)
        stamp.add(time.time() if now is None else now, server=name)
    told = {name: status for name, status in statuses.items() if isinstance(status, Mapping)}
    families += [*_server(told), *_queue(told), *_services(told)]
    lines = [line for family in families if family.samples for line in family.lines()]
    return "\n".join([*lines, "# EOF"]) + "\n"


def _server(statuses: Mapping[str, Mapping[str, Any]]) -> list[_Family]:
    running = _Family("galaxy_running", "Whether the master of the web server lives: 1 or 0.")
    ready = _Family("galaxy_ready", "Whether as many workers as wanted are ready: 1 or 0.")
    workers = _Family("galaxy_workers", "Workers of the web server, by state.")
    ready_workers = _Family("galaxy_ready_workers", "Workers that accept requests with their application loaded.")
    oldest = _Family("galaxy_oldest_request_seconds", "How long the oldest request under way has taken.", "seconds")
    uptime = _Family("galaxy_uptime_seconds", "How long ago the master was started.", "seconds")
    problems = _Family("galaxy_problems", "How many problems galaxy.status reports.")
    versions = _Family("galaxy_version_info", "Versions, as labels; the value is 1.")
    for name, status in statuses.items():
        running.add(status.get("running"), server=name)
        ready.add(status.get("ready"), server=name)
        counts = status.get("workers") or {}
        for state in WorkerState:
            workers.add(counts.get(state.value), server=name, state=state.value)
        ready_workers.add(status.get("ready_workers"), server=name)
        oldest.add(status.get("oldest_request"), server=name)
        uptime.add(status.get("uptime"), server=name)
        problems.add(len(status.get("problems") or ()), server=name)
        versions.add(1, server=name, **_versions(status))
    return [running, ready, workers, ready_workers, oldest, uptime, problems, versions]


def _queue(statuses: Mapping[str, Mapping[str, Any]]) -> list[_Family]:
    unit = "connections"
    length = _Family("galaxy_listen_queue_connections", "Connections that wait to be accepted.", unit)
    limit = _Family("galaxy_listen_queue_limit_connections", "How many connections may wait.", unit)
    errors = _Family("galaxy_listen_queue_errors", "Errors of the listen queue since the start.", type="counter")
    for name, status in statuses.items():
        queue = status.get("listen_queue") or {}
        length.add(queue.get("length"), server=name)
        limit.add(queue.get("max"), server=name)
        errors.add(queue.get("errors"), server=name)
    return [length, limit, errors]


def _services(statuses: Mapping[str, Mapping[str, Any]]) -> list[_Family]:
    running = _Family("galaxy_service_running", "Whether the process manager has the service running: 1 or 0.")
    restarts = _Family("galaxy_service_restarts", "How often the process manager restarted it.", type="counter")
    for name, status in statuses.items():
        for service, told in (status.get("services") or {}).items():
            labels = {"server": name, "service": service, "role": told.get("role") or ""}
            running.add(told.get("state") == "running", **labels)
            restarts.add(told.get("restarts"), **labels)
    return [running, restarts]


def _versions(status: Mapping[str, Any]) -> dict[str, str]:
    galaxy = status.get("galaxy_version") or {}
    known = {
        "web_server": status.get("web_server"),
        "web_server_version": status.get("version"),
        "galaxy": galaxy.get("running"),
        "galaxy_on_disk": galaxy.get("on_disk"),
    }
    return {label: value for label, value in known.items() if value}


def _escaped(value: Any) -> str:
    return str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
