"""Every way in which a stats server can fail, with real sockets: each has its own error, before its deadline."""

import contextlib
import json
import os
import socket
import struct
import threading
import time

import pytest
from support.document import core, document, worker
from support.site import free_port

import galaxy_uwsgi_stats
from galaxy_errors import (
    StatsClosed,
    StatsNotJSON,
    StatsNotUWSGI,
    StatsRefused,
    StatsTimeout,
    StatsTooLarge,
    StatsUnreachable,
)
from galaxy_host_address import Address

GOOD = json.dumps(document([worker() for _ in range(8)]), indent=1).encode()
TIMEOUT = 0.6


@pytest.fixture
def serve():
    """``serve(handler)``: the address of a server that gives each connection to ``handler``."""
    stop = threading.Event()
    servers = []

    def start(handler, listener=None):
        listener = listener or socket.create_server(("127.0.0.1", 0))
        servers.append(listener)

        def run():
            while not stop.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    handler(connection, stop)

        threading.Thread(target=run, daemon=True).start()
        name = listener.getsockname()
        if listener.family == socket.AF_UNIX:
            return Address(path=name if isinstance(name, str) else "@" + name.decode().strip("\0"))
        return Address(name[0], name[1])

    yield start
    stop.set()
    for listener in servers:
        listener.close()


def _send(data):
    return lambda connection, stop: connection.sendall(data)


def _send_and_hang(data):
    def handler(connection, stop):
        connection.sendall(data)
        stop.wait()

    return handler


def _drip(connection, stop):
    for byte in GOOD:
        connection.sendall(bytes([byte]))
        if stop.wait(0.2):
            return


def _flood(connection, stop):
    connection.sendall(b"{")
    while not stop.is_set():
        connection.sendall(b" " * 65536)


def _reset(connection, stop):
    connection.sendall(GOOD[:100])
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _changed(**changes):
    found = document([worker()])
    for path, value in changes.items():
        place = found
        *way, last = path.split("__")
        for key in way:
            place = place[int(key) if key.isdigit() else key]
        if value is KeyError:
            del place[last]
        else:
            place[last] = value
    return json.dumps(found).encode()


FAULTS = [
    ("accepts and never sends", _send_and_hang(b""), StatsTimeout, "0 bytes received"),
    ("sends half and hangs", _send_and_hang(GOOD[: len(GOOD) // 2]), StatsTimeout, f"{len(GOOD) // 2} bytes received"),
    ("sends all and does not close", _send_and_hang(GOOD), StatsTimeout, f"{len(GOOD)} bytes received"),
    ("a byte at a time", _drip, StatsTimeout, "timed out reading"),
    ("closes at once", _send(b""), StatsClosed, "before its document"),
    ("only blanks", _send(b"  \n"), StatsClosed, "before its document"),
    ("cut in the middle", _send(GOOD[: len(GOOD) // 2]), StatsClosed, f"after {len(GOOD) // 2} bytes"),
    ("cut by one byte", _send(GOOD[:-1]), StatsClosed, f"after {len(GOOD) - 1} bytes"),
    ("resets the connection", _reset, StatsClosed, ""),
    ("headers and no body", _send(b"HTTP/1.0 200 OK\r\n\r\n"), StatsClosed, "after its HTTP headers"),
    ("not JSON", _send(b"hello\n"), StatsNotJSON, "is this the stats server's address"),
    ("JSON and more", _send(GOOD + b"{}"), StatsNotJSON, "Extra data"),
    ("NaN", _send(GOOD.replace(b'"tx": 5', b'"tx": NaN')), StatsNotJSON, "NaN"),
    ("Infinity", _send(GOOD.replace(b'"tx": 5', b'"tx": -Infinity')), StatsNotJSON, "Infinity"),
    ("nested deeply", _send(b"[" * 100_000), StatsNotJSON, "nested too deeply"),
    ("a huge number", _send(b'{"pid": ' + b"9" * 6000 + b"}"), StatsNotJSON, ""),
    ("binary", _send(os.urandom(1000)), StatsNotJSON, "not JSON"),
    ("a list", _send(b"[]"), StatsNotUWSGI, "a list, not an object"),
    ("an empty object", _send(b"{}"), StatsNotUWSGI, "no version"),
    ("another program's JSON", _send(b'{"status": "ok", "version": "1"}'), StatsNotUWSGI, "no pid"),
    ("the HTTP router's stats", _send(b'{"version":"2.0","pid":1,"uid":0}'), StatsNotUWSGI, "no workers"),
    ("workers no list", _send(_changed(workers={})), StatsNotUWSGI, "workers is a dict"),
    ("a worker no object", _send(_changed(workers=[1])), StatsNotUWSGI, "a worker is 1"),
    ("a worker without status", _send(_changed(workers__0__status=KeyError)), StatsNotUWSGI, "no status"),
    ("a status no text", _send(_changed(workers__0__status=1)), StatsNotUWSGI, "status is 1"),
    ("apps no list", _send(_changed(workers__0__apps={})), StatsNotUWSGI, "apps is a dict"),
    ("a core no object", _send(_changed(workers__0__cores=[1])), StatsNotUWSGI, "a core is 1"),
    ("vars no list", _send(_changed(workers__0__cores__0__vars={})), StatsNotUWSGI, "vars or req_info has the wrong"),
    ("req_info no object", _send(_changed(workers__0__cores__0__req_info=[])), StatsNotUWSGI, "vars or req_info has"),
    ("a pid as text", _send(_changed(workers__0__pid="12")), StatsNotUWSGI, "pid is a str"),
    ("a negative count", _send(_changed(workers__0__requests=-1)), StatsNotUWSGI, "requests is -1"),
    ("a count beyond 64 bits", _send(_changed(workers__0__requests=1 << 64)), StatsNotJSON, "more digits"),
    ("a PID beyond PIDs", _send(_changed(workers__0__pid=1 << 31)), StatsNotUWSGI, "pid is 2147483648"),
    ("a master's PID beyond PIDs", _send(_changed(pid=10**18)), StatsNotUWSGI, "pid is 1000000000000000000"),
    ("a core's number", _send(_changed(workers__0__cores__0__in_request=-1)), StatsNotUWSGI, "in_request is -1"),
    ("400 digits where nobody looks", _send(_changed(load=10**400)), StatsNotJSON, "more digits than uWSGI's"),
    ("a long version", _send(_changed(version="2" * 101)), StatsNotUWSGI, "version is no name"),
    ("a version for the terminal", _send(_changed(version="\x1b[2J")), StatsNotUWSGI, "version is no name"),
    (
        "nested where nobody looks",
        _send(GOOD.replace(b'"listen_queue": 0', b'"x": ' + b"[" * 500 + b"]" * 500)),
        StatsNotJSON,
        "nested too deeply",
    ),
    ("a truth as number", _send(_changed(workers__0__accepting=True)), StatsNotUWSGI, "accepting is True"),
    ("cores no list", _send(_changed(workers__0__cores="x")), StatsNotUWSGI, "cores is a str"),
    ("a web server", _send(b"HTTP/1.1 400 Bad Request\r\n\r\n<html>"), StatsNotUWSGI, "a web server"),
    ("a web page", _send(b"HTTP/1.1 200 OK\r\n\r\n<html>"), StatsNotJSON, "not JSON"),
]


@pytest.mark.parametrize(("handler", "error", "words"), [fault[1:] for fault in FAULTS], ids=[f[0] for f in FAULTS])
def test_each_fault_is_its_own_error_inside_its_deadline(serve, handler, error, words):
    address = serve(handler)
    before = time.monotonic()
    with pytest.raises(error) as caught:
        galaxy_uwsgi_stats.read(address, TIMEOUT)
    # the deadline is the promise; a busy machine may need two minutes more
    assert time.monotonic() - before < TIMEOUT + 120
    assert type(caught.value) is error
    assert str(address) in str(caught.value)
    assert words in str(caught.value)
    assert caught.value.address == address


@pytest.mark.parametrize("number", [10**400, 10**18, 1 << 63, -1, 1.5, "1", True, None])
def test_a_request_that_began_when_none_can(serve, number):
    record = worker("busy", cores=[core(1, ["REQUEST_METHOD=GET"], request_start=number)])
    if number == 10**400:
        with pytest.raises(StatsNotJSON):
            galaxy_uwsgi_stats.read(serve(_send(json.dumps(document([record])).encode())), 5)
        return
    stats = galaxy_uwsgi_stats.read(serve(_send(json.dumps(document([record])).encode())), 5)
    assert stats.workers[0].in_request[0].seconds is None


@pytest.mark.parametrize("status", ["sig" + "9" * 5000, "sig\u0669\u0669\u0669\u0669", "sig", "sig-1"])
def test_a_signal_that_uwsgi_has_not(serve, status):
    stats = galaxy_uwsgi_stats.read(serve(_send(json.dumps(document([worker(status)])).encode())), 5)
    assert stats.workers[0].details["signal"] is None


def test_what_cannot_be_sent_on_is_replaced(serve):
    data = json.dumps(document([worker("busy", cores=[core(1, ["REQUEST_URI=/\ud800/\udc00x"])])])).encode()
    stats = galaxy_uwsgi_stats.read(serve(_send(data)), 5)
    json.dumps(stats.redacted(), ensure_ascii=False).encode()
    assert stats.workers[0].in_request[0].uri == "/\ufffd/\ufffdx"


def test_a_flood_ends_at_the_cap(serve):
    with pytest.raises(StatsTooLarge, match="more than 1000000 bytes"):
        galaxy_uwsgi_stats.read(serve(_flood), 10, limit=1_000_000)


def test_refused():
    with pytest.raises(StatsRefused, match="nothing listens there"):
        galaxy_uwsgi_stats.read(Address("127.0.0.1", free_port()), TIMEOUT)


def test_no_such_socket(tmp_path):
    with pytest.raises(StatsUnreachable, match="no such socket"):
        galaxy_uwsgi_stats.read(Address(path=str(tmp_path / "gone")), TIMEOUT)
    (tmp_path / "left").touch()
    with pytest.raises(StatsRefused):
        galaxy_uwsgi_stats.read(Address(path=str(tmp_path / "left")), TIMEOUT)


def test_unknown_host():
    with pytest.raises(StatsUnreachable, match="no such host name"):
        galaxy_uwsgi_stats.read(Address("a" * 64, 1), TIMEOUT)
    with pytest.raises(StatsUnreachable, match="cannot connect"):
        galaxy_uwsgi_stats.read(Address("no-such-host.invalid", 1), TIMEOUT)


def test_a_full_backlog_times_out_connecting(tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(path)
            with pytest.raises(StatsTimeout, match="timed out connecting"):
                galaxy_uwsgi_stats.read(Address(path=path), TIMEOUT)


@pytest.mark.parametrize("form", ["tcp", "ipv6", "unix", "abstract", "http"])
def test_a_good_answer_is_read_over_every_form(serve, tmp_path, form):
    if form == "tcp":
        address = serve(_send(GOOD))
    elif form == "ipv6":
        address = serve(_send(GOOD), socket.create_server(("::1", 0), family=socket.AF_INET6))
    elif form == "http":

        def handler(connection, stop):
            assert connection.recv(4096).startswith(b"GET ")
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + GOOD)

        found = serve(handler)
        address = Address(found.host, found.port, http=True)
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "s") if form == "unix" else f"\0galaxy-test-{os.urandom(8).hex()}\0")
        listener.listen()
        address = serve(_send(GOOD), listener)
    assert len(galaxy_uwsgi_stats.read(address, 5).workers) == 8


def test_in_pieces_and_past_128_kib(serve):
    data = json.dumps(document([worker(cores=[core() for _ in range(4)]) for _ in range(500)]), indent=2).encode()

    def handler(connection, stop):
        for start in range(0, len(data), 7000):
            connection.sendall(data[start : start + 7000])

    assert len(data) > 3 * 128 * 1024
    assert len(galaxy_uwsgi_stats.read(serve(handler), 10).workers) == 500
