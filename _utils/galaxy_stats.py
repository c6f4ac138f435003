"""
Read uWSGI's stats server, and what its document says of each worker.

The server (``core/stats.c``, ``core/master_utils.c``) answers a connection with one JSON document and closes it; with
``stats-http`` it waits for a request first, and sends HTTP headers before the document.
"""

from __future__ import annotations

import dataclasses
import enum
import errno
import functools
import json
import socket
import time

from galaxy_address import Address
from galaxy_errors import (
    StatsClosed,
    StatsNotJSON,
    StatsNotUWSGI,
    StatsRefused,
    StatsTimeout,
    StatsTooLarge,
    StatsUnreachable,
)
from galaxy_wait import Deadline

TIMEOUT = 5
LIMIT = 64 * 1024 * 1024
_CHUNK = 256 * 1024
# what a request's variables may show: the others hold cookies, authorization headers and query strings
_SAFE_VARS = ("REQUEST_METHOD", "PATH_INFO", "REQUEST_URI", "REMOTE_ADDR", "SERVER_PROTOCOL")


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
    """What a core works on: ``method``, ``uri`` (path without query), ``remote_addr``, ``seconds`` so far; each may be None."""

    core: int
    method: str | None
    uri: str | None
    remote_addr: str | None
    seconds: int | None


@dataclasses.dataclass
class Worker:
    """
    A worker; names are those of uWSGI's document. ``rss`` and ``vsz`` are bytes (0 without ``memory-report``), ``avg_rt``
    and ``running_time`` microseconds, ``last_spawn`` seconds since the epoch. ``cores`` and ``busy_cores`` are ``None``
    with ``stats-no-cores``. ``signal`` is the uWSGI signal whose handler it runs.
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


class Stats:
    """One answer of a stats server: ``document`` as uWSGI gave it, and its parts in types."""

    def __init__(self, address: Address, document: dict):
        self.address = address
        self.document = document
        self.version: str = document["version"]
        self.pid: int = document["pid"]

    @functools.cached_property
    def workers(self) -> list[Worker]:
        """A ``Worker`` for each, in uWSGI's order."""
        now = time.time()
        return [_worker(record, now) for record in self.document["workers"]]

    def count(self, state: WorkerState) -> int:
        """How many workers are in ``state``."""
        return sum(worker.state is state for worker in self.workers)

    @property
    def accepting(self) -> int:
        """Workers that have loaded and take requests (``accepting``)."""
        return sum(map(_accepts, self.document["workers"]))

    @property
    def ready(self) -> int:
        """Workers that accept and have an application; without ``need-app`` a failed import still comes to accept."""
        return sum(_accepts(record) and bool(record.get("apps")) for record in self.document["workers"])

    @property
    def listen_queue(self) -> dict:
        """``length`` now, ``max`` of the smallest socket (``None``: unix sockets do not say), ``errors``."""
        sizes = [sock["max_queue"] for sock in self.document.get("sockets", []) if sock.get("max_queue")]
        return {
            "length": self.document.get("listen_queue", 0),
            "max": min(sizes, default=None),
            "errors": self.document.get("listen_queue_errors", 0),
        }

    def redacted(self) -> dict:
        """The whole document, its request variables cut to those without secrets and queries."""
        workers = []
        for worker in self.document["workers"]:
            cores = worker.get("cores")
            if cores is not None:
                worker = {**worker, "cores": [{**core, "vars": _safe_vars(core.get("vars", []))} for core in cores]}
            workers.append(worker)
        return {**self.document, "workers": workers}


def read(address: Address, timeout: float = TIMEOUT, limit: int = LIMIT) -> Stats:
    """
    What the stats server at ``address`` says now.

    timeout
        seconds for connecting and reading together, however slowly bytes come
    limit
        bytes; an answer that is longer is refused

    Raises ``StatsRefused``, ``StatsUnreachable``, ``StatsTimeout``, ``StatsClosed``, ``StatsTooLarge``,
    ``StatsNotJSON`` or ``StatsNotUWSGI``, all of them ``StatsError``.
    """
    deadline = Deadline(timeout)
    with _connect(address, deadline) as sock:
        if address.http:
            # with stats-http it answers only to who has sent something (core/utils.c, uwsgi_send_http_stats)
            _send(sock, address, b"GET / HTTP/1.0\r\n\r\n")
        data = _receive(sock, address, deadline, limit)
    return Stats(address, _check(address, _parse(address, data), len(data)))


def _connect(address: Address, deadline: Deadline) -> socket.socket:
    try:
        if address.is_unix:
            targets = [(socket.AF_UNIX, address.peer)]
        else:
            targets = [(info[0], info[4]) for info in socket.getaddrinfo(*address.peer, type=socket.SOCK_STREAM)]
        return _connect_first(targets, deadline)
    except ConnectionRefusedError:
        raise StatsRefused(address, "connection refused: nothing listens there; is Galaxy running?") from None
    except TimeoutError:
        raise StatsTimeout(address, f"timed out connecting after {deadline.seconds:g} s") from None
    except (ConnectionResetError, ConnectionAbortedError):
        raise StatsClosed(address, "reset the connection at once") from None
    except FileNotFoundError:
        raise StatsUnreachable(address, "no such socket; is Galaxy running?") from None
    except PermissionError:
        raise StatsUnreachable(address, "permission denied; run as root") from None
    except OSError as exc:
        if address.is_unix and exc.errno == errno.EAGAIN:
            raise StatsTimeout(address, "timed out connecting: its backlog is full") from None
        raise StatsUnreachable(address, f"cannot connect: {exc.strerror or exc}") from None


def _connect_first(targets: list[tuple], deadline: Deadline) -> socket.socket:
    for index, (family, peer) in enumerate(targets, 1):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            # settimeout(0) would not wait at all, and so not be a timeout
            sock.settimeout(max(deadline.left, 0.001))
            sock.connect(peer)
            return sock
        except OSError:
            sock.close()
            if index == len(targets) or deadline.passed:
                raise
    raise OSError("the name has no address")


def _send(sock: socket.socket, address: Address, request: bytes) -> None:
    try:
        sock.sendall(request)
    except OSError as exc:
        raise StatsClosed(address, f"closed the connection before a request could be sent: {exc.strerror}") from None


def _receive(sock: socket.socket, address: Address, deadline: Deadline, limit: int) -> bytes:
    chunks, received = [], 0
    while True:
        try:
            sock.settimeout(max(deadline.left, 0.001))
            chunk = sock.recv(_CHUNK)
        except TimeoutError:
            chunk = None
        except OSError as exc:
            what = f"the connection broke after {received} bytes: {exc.strerror or exc}"
            raise StatsClosed(address, what, received) from None
        if chunk == b"":
            return b"".join(chunks)
        if chunk is None or deadline.passed:
            what = f"timed out reading after {deadline.seconds:g} s, {received} bytes received"
            raise StatsTimeout(address, what, received)
        chunks.append(chunk)
        received += len(chunk)
        if received > limit:
            raise StatsTooLarge(address, f"more than {limit} bytes; raise the limit if this is right", received)


def _parse(address: Address, data: bytes) -> object:
    received = len(data)
    if not data.strip():
        hint = "" if address.http else f"; if it has stats-http, its address is http://{address}"
        raise StatsClosed(address, f"closed the connection before its document ({received} bytes){hint}", received)
    if data.startswith(b"HTTP/"):
        head, _, data = data.partition(b"\r\n\r\n")
        status = head.split(b"\r\n")[0].decode(errors="replace")
        if status.split()[1:2] != ["200"]:
            raise StatsNotUWSGI(address, f"a web server, not a stats server: it answers {status!r}", received)
        if not data.strip():
            raise StatsClosed(address, f"closed the connection after its HTTP headers ({received} bytes)", received)
    # uWSGI copies request bytes unescaped but for quotes and backslashes: neither UTF-8 nor free of control characters
    text = data.decode(errors="replace")
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise StatsNotJSON(
            address, f"not JSON that can be read: nested too deeply ({received} bytes)", received
        ) from None
    except json.JSONDecodeError as exc:
        if text.lstrip().startswith("{") and _is_cut(exc, text):
            what = f"closed the connection in the middle of its document, after {received} bytes"
            raise StatsClosed(address, what, received) from None
        raise StatsNotJSON(address, f"not JSON: {exc}; is this the stats server's address?", received) from None
    except ValueError as exc:
        raise StatsNotJSON(address, f"not JSON: {exc}", received) from None


def _is_cut(exc: json.JSONDecodeError, text: str) -> bool:
    """Whether the parser stopped because the text did, in a string or within a token of its end."""
    at_end = exc.pos >= len(text.rstrip()) - len("false")
    return exc.msg.startswith("Unterminated") or (at_end and exc.msg != "Extra data")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


_DECODER = json.JSONDecoder(strict=False, parse_constant=_refuse_constant)
_NUMBERS = (
    *("requests", "exceptions", "harakiri_count", "respawn_count", "last_spawn", "rss", "vsz", "avg_rt"),
    *("running_time", "tx"),
)


def _check(address: Address, document: object, received: int) -> dict:
    """The document, each field that this tree reads proven to have its type."""

    def refuse(what: str):
        raise StatsNotUWSGI(address, f"JSON, but not uWSGI's stats: {what}", received)

    def number(record: dict, where: str, *keys: str) -> None:
        for key in keys:
            value = record.get(key, 0)
            if type(value) is not int or value < 0:
                refuse(f"{where} {key} is {_short(value)}, not a number")

    if type(document) is not dict:
        refuse(f"it is {_short(document)}, not an object")
    for key, kind in (("version", str), ("pid", int), ("workers", list)):
        if type(document.get(key)) is not kind:
            refuse(f"no {key}" if key not in document else f"{key} is {_short(document[key])}")
    number(document, "the server's", "pid", "listen_queue", "listen_queue_errors")
    sockets = document.get("sockets", [])
    if type(sockets) is not list or any(type(sock) is not dict for sock in sockets):
        refuse(f"sockets is {_short(sockets)}")
    for sock in sockets:
        number(sock, "a socket's", "max_queue")
    for worker in document["workers"]:
        if type(worker) is not dict:
            refuse(f"a worker is {_short(worker)}")
        for key in ("id", "pid", "accepting", "status"):
            if key not in worker:
                refuse(f"a worker has no {key}")
        number(worker, "a worker's", "id", "pid", "accepting", *_NUMBERS)
        if type(worker["status"]) is not str:
            refuse(f"a worker's status is {_short(worker['status'])}")
        if type(worker.get("apps", [])) is not list:
            refuse(f"a worker's apps is {_short(worker['apps'])}")
        cores = worker.get("cores", [])
        if type(cores) is not list:
            refuse(f"a worker's cores is {_short(cores)}")
        for core in cores:
            if type(core) is not dict:
                refuse(f"a core is {_short(core)}")
            if type(core.get("in_request", 0)) is not int or type(core.get("id", 0)) is not int:
                refuse(f"a core's id or in_request is not a number: {_short(core)}")
            if type(core.get("vars", [])) is not list or type(core.get("req_info", {})) is not dict:
                refuse(f"a core's vars or req_info has the wrong type: {_short(core)}")
    return document


def _short(value: object) -> str:
    """The type of a wrong value, and a number itself; never a text or a list, which may be somebody's secret."""
    return repr(value) if type(value) in (int, float, bool, type(None)) else f"a {type(value).__name__}"


def _accepts(record: dict) -> bool:
    """A worker that ended in a reload keeps its flag, but not its PID."""
    return bool(record["accepting"] and record["pid"])


def _worker(record: dict, now: float) -> Worker:
    cores = record.get("cores")
    # core 0 of `vars` of a free core is its last request: not looked at
    in_request = [_request(core, now) for core in cores or () if core.get("in_request")]
    numbers = {key: record.get(key, 0) for key in _NUMBERS}
    status = record["status"]
    return Worker(
        id=record["id"],
        pid=record["pid"],
        state=_state(record, None if cores is None else len(cores), len(in_request)),
        accepting=_accepts(record),
        apps=len(record.get("apps", ())),
        cores=None if cores is None else len(cores),
        busy_cores=None if cores is None else len(in_request),
        signal=int(status[3:]) if status.startswith("sig") and status[3:].isdecimal() else None,
        in_request=in_request,
        **numbers,
    )


def _state(record: dict, cores: int | None, busy: int) -> WorkerState:
    status = record["status"]
    if status == "cheap":
        return WorkerState.CHEAP
    if not _accepts(record):
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
        seconds=max(0, round(now - started)) if type(started) is int and started else None,
    )


def _path(uri: str | None) -> str | None:
    return uri.partition("?")[0] if uri else None


def _safe_vars(variables: list) -> list[str]:
    """Those of ``KEY=value`` that hold no secret, a URI without its query."""
    pairs = [text.partition("=") for text in variables if isinstance(text, str)]
    return [f"{key}={_path(value) or ''}" for key, _, value in pairs if key in _SAFE_VARS]
