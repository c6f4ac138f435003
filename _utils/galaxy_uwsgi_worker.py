"""
Read what uWSGI's stats document says of one worker.
"""

from typing import Any

from galaxy_host_count import counted
from galaxy_webserver import Request, Worker, WorkerState

# variables of a request that may be shown: others hold cookies, authorization headers and query strings
_SAFE_VARS = ("REQUEST_METHOD", "PATH_INFO", "REQUEST_URI", "REMOTE_ADDR", "SERVER_PROTOCOL")
# a time in the year 2100
_LAST_START = 4_102_444_800
NUMBERS = (
    *("requests", "exceptions", "harakiri_count", "respawn_count", "last_spawn", "rss", "vsz", "avg_rt"),
    *("running_time", "tx"),
)


def accepts(record: dict[str, Any]) -> bool:
    """Whether the worker in the record accepts. A worker that ended in a reload keeps its flag, but not its PID."""
    return bool(record["accepting"] and record["pid"])


def read(record: dict[str, Any], now: float) -> Worker:
    """
    The worker in one record of ``workers[]``, whose types are already checked.

    now
        epoch seconds, to tell how long requests have taken
    """
    cores = record.get("cores")
    # a free core still has the variables of its last request
    in_request = [_request(core, now) for core in cores or () if core.get("in_request")]
    total, busy = (None, None) if cores is None else (len(cores), len(in_request))
    state = _state(record, total, len(in_request))
    signal = _signal(record["status"])
    is_accepting = accepts(record)
    apps = len(record.get("apps", ()))
    return Worker(
        id=record["id"],
        pid=record["pid"],
        state=state,
        reason=_reason(record, state, signal, total, busy),
        accepting=is_accepting,
        # without need-app, a worker accepts even if its application could not be imported
        ready=is_accepting and apps > 0,
        requests=record.get("requests", 0),
        in_request=in_request,
        details={
            **{"apps": apps, "cores": total, "busy_cores": busy, "signal": signal},
            **{key: record.get(key, 0) for key in NUMBERS if key != "requests"},
        },
        in_flight=busy,
        oldest_request=max((one.seconds for one in in_request if one.seconds is not None), default=None),
    )


def _signal(status: str) -> int | None:
    """The uWSGI signal whose handler the worker runs."""
    number = status[3:]
    return int(number) if status.startswith("sig") and number.isdecimal() and len(number) <= 3 else None


def _reason(record: dict[str, Any], state: WorkerState, signal: int | None, cores: int | None, busy: int | None) -> str:
    if signal is not None:
        return f"handles uWSGI signal {signal}"
    if state is WorkerState.NOT_ACCEPTING:
        return "loads its application or is respawned" if record["pid"] else "not spawned"
    if busy and cores:
        return f"{busy} of {counted(cores, 'core')} in a request"
    words: dict[WorkerState, str] = {WorkerState.BUSY: "in a request", WorkerState.CHEAP: "cheaped"}
    return words.get(state, str(state.value))


def _state(record: dict[str, Any], cores: int | None, busy: int) -> WorkerState:
    status = record["status"]
    if status == "cheap":
        return WorkerState.CHEAP
    if not accepts(record):
        return WorkerState.NOT_ACCEPTING
    if status == "pause":
        return WorkerState.PAUSED
    if busy and busy == cores:
        return WorkerState.SATURATED
    if busy or status == "busy" or status.startswith("sig"):
        return WorkerState.BUSY
    return WorkerState.IDLE


def _request(core: dict[str, Any], now: float) -> Request:
    found = dict(text.partition("=")[::2] for text in core.get("vars", ()) if isinstance(text, str))
    started = core.get("req_info", {}).get("request_start")
    return Request(
        core=core.get("id", 0),
        method=found.get("REQUEST_METHOD"),
        uri=_path(found.get("REQUEST_URI") or found.get("PATH_INFO")),
        remote_addr=found.get("REMOTE_ADDR"),
        # if the server is not uWSGI, the value may be anything
        seconds=max(0, round(now - started)) if type(started) is int and 0 < started < _LAST_START else None,
    )


def _path(uri: str | None) -> str | None:
    return uri.partition("?")[0] if uri else None


def safe_vars(variables: list[Any]) -> list[str]:
    """Those variables (``KEY=value``) that hold no secret; a URI without its query."""
    pairs = [text.partition("=") for text in variables if isinstance(text, str)]
    return [f"{key}={_path(value) or ''}" for key, _, value in pairs if key in _SAFE_VARS]
