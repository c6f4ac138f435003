"""The nginx configuration of docs/remote.md, in a real nginx. The server behind it keeps what arrives."""

import contextlib
import http.server
import json
import socket
import ssl
import threading
import time

import pytest
from support.remote import Client, configuration, nginx

from galaxy_host_wait import Deadline, wait_until

CALL = {"client": "runner", "fun": "galaxy.status", "minion": "galaxy.example.org"}
LOGIN = {"username": "dashboard", "password": "of the dashboard", "eauth": "file"}
LIMIT = 16 * 1024
# 379 bytes that become gigabytes in the master
BOMB = "\n".join(
    ["username: &a0 [" + ",".join("x" * 10) + "]"]
    + [f"a{level}: &a{level} [" + ",".join([f"*a{level - 1}"] * 10) + "]" for level in range(1, 8)]
)


@pytest.fixture(scope="module")
def documented(tmp_path_factory):
    return configuration(tmp_path_factory.mktemp("documented"))


@pytest.fixture(scope="module")
def arrived(documented):
    """The requests that arrived behind nginx: path, headers and body. The server there answers with its own cookie."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            seen.append((self.path, dict(self.headers.items()), body))
            answer = b'{"return": []}'
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Set-Cookie", "session_id=0123")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *given):
            pass

    api = documented["rest_cherrypy"]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", api["port"]), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(api["ssl_crt"], api["ssl_key"])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield seen
    server.shutdown()
    server.server_close()


@pytest.fixture
def front(documented, arrived, tmp_path):
    """A client of a new nginx, whose counters are at zero."""
    arrived.clear()
    with nginx(tmp_path, documented) as port:
        yield Client(documented, port)


def _refused(front, arrived, status, *request, **headers):
    assert front(*request, **headers)[0] == status, request
    assert arrived == [], request


def test_a_call_arrives_and_nothing_of_the_browser_with_it(front, arrived):
    more = {"Cookie": "session_id=0123", "Origin": "https://evil.example.org", "Accept": "image/png", "X-Other": "x"}
    status, headers, answer = front("POST", "/", CALL, "f00", **more)
    assert (status, answer) == (200, {"return": []})
    assert "Set-Cookie" not in headers
    ((path, given, body),) = arrived
    assert (path, json.loads(body)) == ("/", CALL)
    assert given == {
        **{"Host": "127.0.0.1", "Connection": "close", "Content-Length": str(len(body)), "X-Auth-Token": "f00"},
        **{"Content-Type": "application/json", "Accept": "application/json"},
    }


@pytest.mark.parametrize("path", ["/login", "/", "/logout"])
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/x-yaml", BOMB),
        ("text/yaml", BOMB),
        ("text/plain", json.dumps(LOGIN)),
        ("application/x-www-form-urlencoded", "arg=[%26a0+[x,x,x],*a0]&username=x"),
        ("multipart/form-data; boundary=x", "--x--"),
        ("application/jsonx", json.dumps(LOGIN)),
        ("application/x-yaml;application/json", BOMB),
        ("", BOMB),
    ],
)
def test_what_is_not_json_goes_no_further(front, arrived, path, kind, body):
    _refused(front, arrived, 415, "POST", path, body, **{"Content-Type": kind})


@pytest.mark.parametrize("path", ["/login", "/"])
@pytest.mark.parametrize(
    "body",
    [
        BOMB,
        '"' + BOMB.replace("\n", " ") + '"',
        "[" * 5000,
        json.dumps([CALL]),
        json.dumps([CALL, CALL]),
        "null",
        "",
        json.dumps({"username": "x\nFeb 1 forged line of a log"}),
        json.dumps({"username": "\u2028"}),
        '{"a": "\\',
    ],
    ids=range(10),
)
def test_what_is_called_json_and_is_no_object_arrives_empty(front, arrived, path, body):
    front("POST", path, body, **{"Content-Type": "application/json"})
    assert [body for _, _, body in arrived] == ["{}"]


@pytest.mark.parametrize(
    "more",
    [
        *[{"timeout": seconds} for seconds in (-1, 0.001, "inf", "nan", None)],
        {"arg": ["[&a0 [x,x,x,x,x],*a0]"]},
        {"arg": "x"},
        {"kwarg": {"a": ["timeout"]}},
    ],
)
def test_a_callers_own_timeout_and_arguments_by_position_arrive_empty(front, arrived, more):
    front("POST", "/", {**CALL, **more}, "f00")
    text = json.dumps({**CALL, **more})
    for escaped in (text.replace('"timeout"', '"\\u0074imeout"'), text.replace('"arg"', '"\\u0061rg"')):
        front("POST", "/", escaped, "f00", **{"Content-Type": "application/json"})
    assert {body for _, _, body in arrived} == {"{}"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/login", json.dumps({**LOGIN, "password": 'qu"ote, back\\slash, \u00e9'}, ensure_ascii=False)),
        ("/login", json.dumps(LOGIN).replace("/", "\\/")),
        ("/login", json.dumps(LOGIN, indent=4)),
        ("/", "\r\n" + json.dumps({**CALL, "minion": "timeout.example.org"}, indent="\t")),
        ("/", json.dumps({**CALL, "kwarg": {"mount_point": "/export"}}).replace("/", "\\/")),
        ("/", json.dumps({**CALL, "x": "y" * (LIMIT - 200)})),
    ],
)
def test_what_programs_write_as_json_arrives_as_it_is(front, arrived, path, body):
    assert front("POST", path, body.encode(), **{"Content-Type": "application/json; charset=utf-8"})[0] == 200
    assert [body for _, _, body in arrived] == [body]


def test_a_body_is_at_most_16_KiB(front, arrived):
    body = json.dumps({**CALL, "x": ""})
    longest = json.dumps({**CALL, "x": "y" * (LIMIT - len(body))})
    assert len(longest) == LIMIT
    assert front("POST", "/", longest, **{"Content-Type": "application/json"})[0] == 200
    assert len(arrived.pop()[2]) == LIMIT
    for path in ("/", "/login", "/logout"):
        _refused(front, arrived, 413, "POST", path, longest + " ", **{"Content-Type": "application/json"})
    # the same in chunks, without a length
    chunks = (b"y" * 1000 for _ in range(20))
    _refused(front, arrived, 413, "POST", "/", chunks, **{"Content-Type": "application/json"})


def test_pieces_within_the_limit_are_judged_as_a_whole(front, arrived):
    text = json.dumps({**CALL, "timeout": -1}).encode()
    front("POST", "/", (text[i : i + 7] for i in range(0, len(text), 7)), **{"Content-Type": "application/json"})
    text = json.dumps(CALL).encode()
    front("POST", "/", (text[i : i + 7] for i in range(0, len(text), 7)), **{"Content-Type": "application/json"})
    assert [body for _, _, body in arrived] == ["{}", text.decode()]


@pytest.mark.parametrize(
    "path",
    [
        "/run",
        "/events",
        "/ws",
        "/hook",
        "/app",
        "/stats",
        "/token",
        "/jobs",
        "/keys",
        "/minions",
        "/login/",
        "/x/../run",
    ],
)
def test_other_paths_go_no_further(front, arrived, path):
    _refused(front, arrived, 404, "POST", path, CALL, "f00")


@pytest.mark.parametrize("path", ["/index", "//", "/./", "/run/..", "/%2e/", "/%6cogin", "/LOGIN"])
def test_a_path_that_is_written_in_another_way_is_the_plain_one_or_none(front, arrived, path):
    front("POST", path, CALL)
    assert {path for path, _, _ in arrived} <= {"/", "/login"}


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS", "DELETE", "PATCH", "TRACE"])
def test_other_methods_go_no_further(front, arrived, method):
    for path in ("/", "/login", "/logout", "/stats"):
        _refused(front, arrived, 405, method, path, CALL, "f00")


def test_a_query_goes_no_further(front, arrived):
    for path in ("/?token=f00", "/login?username=x", "/logout?x"):
        _refused(front, arrived, 400, "POST", path, CALL)


def test_logins_and_calls_of_an_address_have_a_rate(front, arrived):
    for path, body, burst, rate in (("/login", LOGIN, 5, 10 / 60), ("/", CALL, 20, 1)):
        arrived.clear()
        began = time.monotonic()
        statuses = [front("POST", path, body)[0] for _ in range(burst + 30)]
        assert set(statuses) == {200, 429}
        # the first request, the burst, and what the rate allowed since then
        passed = 1 + burst + (time.monotonic() - began) * rate
        assert burst < statuses.count(200) <= passed + 1
        assert len(arrived) == statuses.count(200)


def test_an_address_has_so_many_requests_at_a_time(front, arrived, tmp_path):
    head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            raw = stack.enter_context(socket.create_connection(("127.0.0.1", front.port)))
            slow = stack.enter_context(front.context.wrap_socket(raw, server_hostname="127.0.0.1"))
            slow.sendall(head.encode())

        def is_refused():
            refused = front("POST", "/login", LOGIN)[0] == 429
            return refused and "limiting connections by zone" in (tmp_path / "error.log").read_text()

        assert wait_until(is_refused, Deadline(180))
    # no slow request has reached the server behind
    assert {path for path, _, _ in arrived} <= {"/login"}
