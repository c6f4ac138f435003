"""
What uWSGI's stats document says of one worker, in types.
"""

import dataclasses
import enum

# what a request's variables may show: the others hold cookies, authorization headers and query strings
_SAFE_VARS = ("REQUEST_METHOD", "PATH_INFO", "REQUEST_URI", "REMOTE_ADDR", "SERVER_PROTOCOL")
# the year 2100
_LAST_START = 4_102_444_800
NUMBERS = (
    *("requests", "exceptions", "harakiri_count", "respawn_count", "last_spawn", "rss", "vsz", "avg_rt"),
    *("running_time", "tx"),
)


class WorkerState(str, enum.Enum):
    """
    What a worker can do now, from uWSGI's ``status``, ``accepting`` and ``cores[].in_request``.

    ``status`` says busy as soon as one core is in a request, so ``BUSY`` (it can still take requests) and ``SATURATED``
    (it cannot) are told apart by the cores.
    """

    NOT_ACCEPTING = "not_accepting"
    IDLE = "idle"
    BUSY = "busy"
    SATURATED = "saturated"
    CHEAP = "cheap"
    PAUSED = "paused"


@dataclasses.dataclass
class Request:
    """
    What a core works on: ``method``, ``uri`` (path without query), ``remote_addr``, ``seconds`` so far; each may be
    None.
    """

    core: int
    method: str | None
    uri: str | None
    remote_addr: str | None
    seconds: int | None


@dataclasses.dataclass
class Worker:
    """
    A worker; names are those of uWSGI's document. ``rss`` and ``vsz`` are bytes (0 without ``memory-report``),
    ``avg_rt`` and ``running_time`` microseconds, ``last_spawn`` seconds since the epoch. ``cores`` and ``busy_cores``
    are ``None`` with ``stats-no-cores``. ``signal`` is the uWSGI signal whose handler it runs.
    """

    id: int
    pid: int
    state: WorkerState
    accepting: bool
    apps: int
    cores: int | None
    busy_cores: int | None
    signal: int | None
    requests: int
    exceptions: int
    harakiri_count: int
    respawn_count: int
    last_spawn: int
    rss: int
    vsz: int
    avg_rt: int
    running_time: int
    tx: int
    in_request: list[Request]

    @property
    def reason(self) -> str:
        """Why it is not free, in a few words."""
        if self.signal is not None:
            return f"handles uWSGI signal {self.signal}"
        if self.state is WorkerState.NOT_ACCEPTING:
            return "loads its application or is respawned" if self.pid else "not spawned"
        if self.busy_cores:
            return f"{self.busy_cores} of {self.cores} cores in a request"
        return {WorkerState.BUSY: "in a request", WorkerState.CHEAP: "cheaped"}.get(self.state, self.state.value)

    def record(self) -> dict:
        """Plain data for a module's return."""
        return {**dataclasses.asdict(self), "state": self.state.value, "reason": self.reason}


def accepts(record: dict) -> bool:
    """Whether the worker of the record accepts: one that ended in a reload keeps its flag, but not its PID."""
    return bool(record["accepting"] and record["pid"])


def read(record: dict, now: float) -> Worker:
    """
    The worker of one ``workers[]`` record, whose types are checked.

    now
        seconds since the epoch, for how long requests have taken
    """
    cores = record.get("cores")
    # a free core's vars are those of its last request
    in_request = [_request(core, now) for core in cores or () if core.get("in_request")]
    numbers = {key: record.get(key, 0) for key in NUMBERS}
    status = record["status"]
    return Worker(
        id=record["id"],
        pid=record["pid"],
        state=_state(record, None if cores is None else len(cores), len(in_request)),
        accepting=accepts(record),
        apps=len(record.get("apps", ())),
        cores=None if cores is None else len(cores),
        busy_cores=None if cores is None else len(in_request),
        signal=_signal(status),
        in_request=in_request,
        **numbers,
    )


def _signal(status: str) -> int | None:
    number = status[3:]
    return int(number) if status.startswith("sig") and number.isdecimal() and len(number) <= 3 else None


def _state(record: dict, cores: int | None, busy: int) -> WorkerState:
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


def _request(core: dict, now: float) -> Request:
    found = dict(text.partition("=")[::2] for text in core.get("vars", ()) if isinstance(text, str))
    started = core.get("req_info", {}).get("request_start")
    return Request(
        core=core.get("id", 0),
        method=found.get("REQUEST_METHOD"),
        uri=_path(found.get("REQUEST_URI") or found.get("PATH_INFO")),
        remote_addr=found.get("REMOTE_ADDR"),
        # a server that is not uWSGI may say anything
        seconds=max(0, round(now - started)) if type(started) is int and 0 < started < _LAST_START else None,
    )


def _path(uri: str | None) -> str | None:
    return uri.partition("?")[0] if uri else None


def safe_vars(variables: list) -> list[str]:
    """Those of ``KEY=value`` that hold no secret, a URI without its query."""
    pairs = [text.partition("=") for text in variables if isinstance(text, str)]
    return [f"{key}={_path(value) or ''}" for key, _, value in pairs if key in _SAFE_VARS]
