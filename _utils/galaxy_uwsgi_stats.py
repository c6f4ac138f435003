"""
Read uWSGI's stats server.

The server (``core/stats.c``, ``core/master_utils.c``) answers a connection with one JSON document, and closes it. With
``stats-http`` it first waits for a request, and sends HTTP headers before the document.
"""

import errno
import functools
import json
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import galaxy_host_sockets
import galaxy_uwsgi_worker
from galaxy_errors import (
    FileError,
    StatsClosed,
    StatsNotJSON,
    StatsNotUWSGI,
    StatsRefused,
    StatsTimeout,
    StatsTooLarge,
    StatsUnreachable,
)
from galaxy_host_address import Address
from galaxy_host_count import counted
from galaxy_host_pattern import Pattern
from galaxy_host_wait import Deadline
from galaxy_webserver import Snapshot, Worker

TIMEOUT = 5
# enough for about 10,000 workers with 4 threads
LIMIT = 16 * 1024 * 1024
# limits of uWSGI's own numbers, of a PID, and of a name
_MAX_NUMBER = (1 << 64) - 1
_MAX_PID = (1 << 31) - 1
_MAX_VERSION = 100
_MAX_DEPTH = 400
# makes every digit a 0, to look for many of them; that costs a tenth of a regular expression
_DIGITS = bytes.maketrans(b"123456789", b"0" * 9)
_LONG_NUMBER = b"0" * 19
_SURROGATE = Pattern(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_CHUNK = 256 * 1024
_CORE_NUMBERS = ("id", "in_request")


class Stats(Snapshot):
    """One answer of a stats server: ``document`` as uWSGI gave it, and its parts in types."""

    kind = "uwsgi"
    title = "uWSGI"

    def __init__(self, address: Address, document: dict[str, Any]):
        self.address = address
        self.document = document
        self.version: str = document["version"]
        self.pid: int = document["pid"]

    @functools.cached_property
    def workers(self) -> list[Worker]:  # type: ignore[override]
        """A ``Worker`` for each, in uWSGI's order."""
        now = time.time()
        return [galaxy_uwsgi_worker.read(record, now) for record in self.document["workers"]]

    @property
    def listen_queue(self) -> dict[str, Any]:  # type: ignore[override]
        """``length`` now, ``max`` of the smallest socket (``None``: unix sockets do not tell), ``errors``."""
        sizes = [sock["max_queue"] for sock in self.document.get("sockets", []) if sock.get("max_queue")]
        return {
            "length": self.document.get("listen_queue", 0),
            "max": min(sizes, default=None),
            "errors": self.document.get("listen_queue_errors", 0),
        }

    @property
    def loaded(self) -> float | None:
        # a reload starts all workers anew
        spawned = [worker.details["last_spawn"] for worker in self.workers if worker.pid]
        return min(filter(None, spawned), default=None)

    def redacted(self) -> dict[str, Any]:
        """The whole document. Of request variables only those without secrets and queries stay."""
        workers = []
        for worker in self.document["workers"]:
            cores = worker.get("cores")
            if cores is not None:
                # a free core has an empty list of variables already
                safe = [
                    core
                    if core.get("vars") == []
                    else {**core, "vars": galaxy_uwsgi_worker.safe_vars(core.get("vars", []))}
                    for core in cores
                ]
                worker = {**worker, "cores": safe}
            workers.append(worker)
        return {**self.document, "workers": workers}


def read(
    address: Address,
    timeout: float = TIMEOUT,
    limit: int = LIMIT,
    named_by: Iterable[int] = (),
    may_listen: Callable[[int], bool] | None = None,
) -> Stats:
    """
    Read what the stats server at ``address`` says now.

    timeout
        seconds for connecting and reading together, however slowly bytes come
    limit
        bytes; a longer answer is refused
    named_by
        numeric IDs of the users who chose the address. A unix socket is asked only if these users could ask it
        themselves
    may_listen
        says of a user, by number, whether the stats server may belong to this user; ``None``: it may belong to anybody

    Raises ``StatsRefused``, ``StatsUnreachable``, ``StatsTimeout``, ``StatsClosed``, ``StatsTooLarge``,
    ``StatsNotJSON`` or ``StatsNotUWSGI``. All of them are a ``StatsError``.
    """
    deadline = Deadline(timeout)
    with _connect(address, deadline, named_by, may_listen) as sock:
        if address.http:
            # with stats-http it answers only a client that has sent something (core/utils.c, uwsgi_send_http_stats)
            _send(sock, address, b"GET / HTTP/1.0\r\n\r\n")
        data = _receive(sock, address, deadline, limit)
    return interpret(address, data)


def interpret(address: Address, data: bytes) -> Stats:
    """Interpret the bytes that came from ``address``. Raises ``StatsError``."""
    return Stats(address, _check(address, _parse(address, data), len(data)))


def _connect(
    address: Address, deadline: Deadline, named_by: Iterable[int], may_listen: Callable[[int], bool] | None
) -> socket.socket:
    try:
        return galaxy_host_sockets.connect(address, deadline, named_by, may_listen)
    except FileError as exc:
        raise StatsUnreachable(address, f"not asked: {exc}") from None
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
    except UnicodeError:
        raise StatsUnreachable(address, "no such host name") from None
    except OSError as exc:
        if address.is_unix and exc.errno == errno.EAGAIN:
            raise StatsTimeout(address, "timed out connecting: its backlog is full") from None
        raise StatsUnreachable(address, f"cannot connect: {exc.strerror or exc}") from None


def _send(sock: socket.socket, address: Address, request: bytes) -> None:
    try:
        sock.sendall(request)
    except OSError as exc:
        raise StatsClosed(address, f"closed the connection before a request could be sent: {exc.strerror}") from None


def _receive(sock: socket.socket, address: Address, deadline: Deadline, limit: int) -> bytes:
    chunks: list[bytes] = []
    received = 0
    while True:
        try:
            sock.settimeout(max(deadline.left, 0.001))
            chunk = sock.recv(_CHUNK)
        except TimeoutError:
            chunk = None
        except OSError as exc:
            what = f"the connection broke after {counted(received, 'byte')}: {exc.strerror or exc}"
            raise StatsClosed(address, what, received) from None
        if chunk == b"":
            return b"".join(chunks)
        if chunk is None or deadline.passed:
            what = f"timed out reading after {deadline.seconds:g} s, {counted(received, 'byte')} received"
            raise StatsTimeout(address, what, received)
        chunks.append(chunk)
        received += len(chunk)
        if received > limit:
            raise StatsTooLarge(address, f"more than {limit} bytes; raise the limit if this is right", received)


def _parse(address: Address, data: bytes) -> object:
    received = len(data)
    if not data.strip():
        hint = "" if address.http else f"; if it has stats-http, its address is http://{address}"
        raise StatsClosed(
            address, f"closed the connection before its document ({counted(received, 'byte')}){hint}", received
        )
    if data.startswith(b"HTTP/"):
        head, _, data = data.partition(b"\r\n\r\n")
        status = head.split(b"\r\n")[0].decode(errors="replace")
        if status.split()[1:2] != ["200"]:
            raise StatsNotUWSGI(address, f"a web server, not a stats server: it answers {status!r}", received)
        if not data.strip():
            raise StatsClosed(
                address, f"closed the connection after its HTTP headers ({counted(received, 'byte')})", received
            )
    # uWSGI escapes only quotes and backslashes in a request's bytes: they may be no UTF-8, and have control characters
    text = data.decode(errors="replace")
    decoder = _DECODER
    # looking for one character costs nothing; looking for both would cost a tenth of the parsing
    if b"\\" in data:
        # uWSGI writes no such escapes, and half a surrogate pair could not be sent
        text = _SURROGATE.sub(r"\\ufffd", text)
    if _LONG_NUMBER in data.translate(_DIGITS):
        decoder = _BOUNDED_DECODER
    try:
        document = decoder.decode(text)
        if text.count("[") + text.count("{") > _MAX_DEPTH and _is_deep(document):
            raise RecursionError
        return document
    except RecursionError:
        raise StatsNotJSON(
            address, f"not JSON that can be read: nested too deeply ({counted(received, 'byte')})", received
        ) from None
    except json.JSONDecodeError as exc:
        if text.lstrip().startswith("{") and _is_cut(exc, text):
            what = f"closed the connection in the middle of its document, after {counted(received, 'byte')}"
            raise StatsClosed(address, what, received) from None
        raise StatsNotJSON(address, f"not JSON: {exc}; is this the stats server's address?", received) from None
    except ValueError as exc:
        raise StatsNotJSON(address, f"not JSON: {exc}", received) from None


def _is_cut(exc: json.JSONDecodeError, text: str) -> bool:
    """Whether the parser stopped because the text ended, in a string or within its last token."""
    at_end = exc.pos >= len(text.rstrip()) - len("false")
    return exc.msg.startswith("Unterminated") or (at_end and exc.msg != "Extra data")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _bounded(digits: str) -> int:
    number = int(digits)
    if not -(1 << 63) <= number <= _MAX_NUMBER:
        raise ValueError("a number has more digits than uWSGI's")
    return number


def _is_deep(document: object) -> bool:
    """Whether anything is nested too deeply to be sent on."""
    level: list[Any] = [document] if type(document) in (dict, list) else []
    for _ in range(_MAX_DEPTH):
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) in (dict, list)
        ]
        if not level:
            return False
    return True


_DECODER = json.JSONDecoder(strict=False, parse_constant=_refuse_constant)
# only for texts with a long number, because a call for each number is slow
_BOUNDED_DECODER = json.JSONDecoder(strict=False, parse_constant=_refuse_constant, parse_int=_bounded)


def _check(address: Address, document: object, received: int) -> dict[str, Any]:
    """The document, after a check of the type of each field that this tree reads."""

    def refuse(what: str) -> NoReturn:
        raise StatsNotUWSGI(address, f"JSON, but not uWSGI's stats: {what}", received)

    def number(record: dict[str, Any], where: str, keys: Iterable[str], limit: int = _MAX_NUMBER) -> None:
        get = record.get
        for key in keys:
            value = get(key, 0)
            if type(value) is not int or not 0 <= value <= limit:
                refuse(f"{where} {key} is {_short(value)}, not a number that uWSGI has")

    if type(document) is not dict:
        refuse(f"it is {_short(document)}, not an object")
    for key, kind in (("version", str), ("pid", int), ("workers", list)):
        if type(document.get(key)) is not kind:
            refuse(f"no {key}" if key not in document else f"{key} is {_short(document[key])}")
    if len(document["version"]) > _MAX_VERSION or not document["version"].isprintable():
        refuse(f"version is no name of at most {_MAX_VERSION} characters")
    number(document, "the server's", ("pid",), _MAX_PID)
    number(document, "the server's", ("listen_queue", "listen_queue_errors"))
    sockets = document.get("sockets", [])
    if type(sockets) is not list or any(type(sock) is not dict for sock in sockets):
        refuse(f"sockets is {_short(sockets)}")
    for sock in sockets:
        number(sock, "a socket's", ("max_queue",))
    numbers = ("accepting", *galaxy_uwsgi_worker.NUMBERS)
    for worker in document["workers"]:
        if type(worker) is not dict:
            refuse(f"a worker is {_short(worker)}")
        for key in ("id", "pid", "accepting", "status"):
            if key not in worker:
                refuse(f"a worker has no {key}")
        number(worker, "a worker's", ("id", "pid"), _MAX_PID)
        number(worker, "a worker's", numbers)
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
            number(core, "a core's", _CORE_NUMBERS)
            if type(core.get("vars", [])) is not list or type(core.get("req_info", {})) is not dict:
                refuse(f"a core's vars or req_info has the wrong type: {_short(core)}")
    return document


def _short(value: object) -> str:
    """
    The type of a wrong value; for a number, the number itself. A text or list is never shown, because it may be a
    secret.
    """
    if type(value) in (float, bool, type(None)) or (type(value) is int and abs(value) < 1 << 70):
        return repr(value)
    return "a number of many digits" if type(value) is int else f"a {type(value).__name__}"
