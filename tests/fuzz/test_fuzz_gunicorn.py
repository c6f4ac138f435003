"""
Galaxy's user may give gunicorn any command line and environment, answer anything on its port, and write anything into
Gravity's file: no exception but ours, a quick end, and bounded memory.
"""

import json
import os
import types

from hypothesis import given
from hypothesis import strategies as st
from test_fuzz_inputs import _BYTES, _TEXT, _WORDS, EXAMPLES, attempt, path  # noqa: F401

import galaxy_gravity_file
import galaxy_gunicorn_command
import galaxy_gunicorn_heartbeat
import galaxy_gunicorn_http
import galaxy_host_address
from galaxy_errors import AddressError, ConfigError, GunicornError
from galaxy_host_process import Invocation

_NUMBERS = st.sampled_from(["1", "-1", "0", "nan", "inf", "1e999", "\uff19", "0x1", "9" * 5000, "1_0", ""])
_OPTIONS = st.sampled_from(
    [
        *(
            "-b",
            "--bind",
            "-t",
            "--timeout",
            "-w",
            "--workers",
            "-p",
            "--pid",
            "--chdir",
            "--certfile",
            "-c",
            "-k",
            "-e",
        ),
        *(
            "--preload",
            "--preload=x",
            "-D",
            "-DR",
            "-D=",
            "--daemon",
            "--",
            "-",
            "--b",
            "--bind=",
            "-b:",
            "-w-1",
            "-t=",
        ),
    ]
)
_BINDS = st.sampled_from(
    [
        *("127.0.0.1:8080", ":8080", "*:1", "[::1]", "[::1]:1", "unix:", "unix:s", "unix://s", "unix:/" + "x" * 200),
        *("fd://0", "tcp://", "tcp://x:1,unix:y", ",", ",,:", "localhost", "a:b:c", "unix:/\ud800", "\u0130:1", "@x"),
    ]
)
_ARGUMENTS = st.lists(_OPTIONS | _BINDS | _NUMBERS | _WORDS | _TEXT, max_size=10)
_COMMANDS = st.sampled_from(
    [
        *(("gunicorn",), ("/srv/venv/bin/python3", "/srv/venv/bin/gunicorn"), ("env", "A=b", "gunicorn")),
        *(("python", "-m", "gunicorn"), ("gunicorn: master [galaxy]",), ("sh", "-c", "exec gunicorn"), ()),
    ]
)


@EXAMPLES
@given(
    _COMMANDS,
    _ARGUMENTS,
    _ARGUMENTS.map(" ".join) | _TEXT,
    _NUMBERS | _TEXT,
    _NUMBERS | _TEXT,
    st.sampled_from(["/srv", None]),
)
def test_a_command_line(command, arguments, more, port, workers, cwd):
    # the kernel ends each word at a NUL
    words = tuple(word.replace("\0", "") for word in (*command, *arguments))
    environment = {"GUNICORN_CMD_ARGS": more, "PORT": port, "WEB_CONCURRENCY": workers}
    environment = {name: value.replace("\0", "") for name, value in environment.items()}
    invocation = Invocation(words, "PID 1", cwd, environment)
    options = attempt(galaxy_gunicorn_command.read, invocation, errors=(ConfigError, AddressError))
    if options:
        assert all(galaxy_host_address.parse(str(bind)) == bind for bind in options.binds)
        assert type(options.workers) is int
        assert type(options.timeout) in (int, float)
        assert options.pidfile is None or type(options.pidfile) is str


@EXAMPLES
@given(_BINDS | _TEXT | st.lists(_BINDS | _TEXT, max_size=3).map("".join))
def test_a_bind(text):
    address = attempt(galaxy_gunicorn_command.address, text, "/srv", errors=AddressError)
    assert address is None or galaxy_host_address.parse(str(address)) == address


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT | st.sampled_from(["26.1", "x" * 100]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["version_major", "version_minor", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
_BODIES = (
    _JSON.map(lambda value: json.dumps(value).encode())
    | _BYTES
    | st.integers(1, 30_000).map(lambda depth: b"[" * depth)
    | st.integers(1, 30_000).map(lambda digits: b'{"version_major": ' + b"9" * digits + b"}")
)
_HEADS = st.sampled_from(
    [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200\r\nX: y\r\n\r\n", b"HTTP/1.0 \xff\xff\r\n\r\n", b"HTTP/\r\n\r\n", b""]
) | st.binary(max_size=40).map(lambda data: b"HTTP/1.0 " + data + b"\r\n\r\n")


class _Socket:
    """Answers in pieces of some size."""

    def __init__(self, data, size):
        self._data, self._size = data, size

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def sendall(self, data):
        assert data.count(b"\r\n\r\n") == 1

    def settimeout(self, seconds):
        assert seconds > 0

    def recv(self, most):
        size = min(most, self._size)
        piece, self._data = self._data[:size], self._data[size:]
        return piece


@EXAMPLES
@given(_HEADS, _BODIES, st.integers(1, 1 << 17), st.sampled_from(["", "/galaxy", "/x/"]))
def test_an_answer(head, body, size, prefix):
    before = galaxy_gunicorn_http.galaxy_host_sockets
    galaxy_gunicorn_http.galaxy_host_sockets = types.SimpleNamespace(
        connect=lambda *_, **__: _Socket(head + body, size * 50 if size < 50 else size)
    )
    try:
        address = galaxy_host_address.parse("127.0.0.1:8080")
        version = attempt(galaxy_gunicorn_http.version, address, prefix, 5, errors=GunicornError)
    finally:
        galaxy_gunicorn_http.galaxy_host_sockets = before
    assert version is None or (version.isprintable() and len(version) < 70)


@EXAMPLES
@given(st.integers(0, 0o177777), st.floats(-1e12, 1e12), st.floats(-1e12, 1e12))
def test_a_heartbeat(mode, changed, touched):
    state = os.stat_result((mode, 1, 1, 0, 0, 0, 0, 0, int(touched), int(changed)))
    age = galaxy_gunicorn_heartbeat.age(state)
    assert age is None or age >= 0


_YAML = st.sampled_from(
    [
        *("gravity:", "galaxy:", "gunicorn:", "- ", "  ", "\n", ": ", "{", "}", "[", "]", ", ", "&a ", "*a", "<<: *a"),
        *("!!python/object:os.system x", "!!binary x", "!!timestamp 9", "!!set {a}", "!!omap [a]", "? ", "| ", "> "),
        *("2001-99-99", "1:99999:99", "0x_", ".inf", "0o9", "1e9", "'", '"', "\\x", "%YAML 9.9", "--- ", "... "),
        *("2001-01-01t99:99:99z", "!!int x", "!!float x", "!!bool x", "!!null x", "=", "!<tag:x> y", "\t", "\ufeff"),
    ]
)


@EXAMPLES
@given(
    _BYTES
    | st.lists(_YAML | _TEXT, max_size=40).map(lambda words: "".join(words).encode(errors="surrogatepass"))
    | st.integers(1, 5000).map(lambda depth: b"[" * depth)
    | st.integers(1, 5000).map(lambda depth: b"- " * depth)
    | st.integers(2, 40).map(
        lambda count: "\n".join(
            ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{f'*a{n - 1},' * 9}]" for n in range(1, count)]
        ).encode()
    )
)
def test_gravity_file(path, data):  # noqa: F811
    path.write_bytes(data)
    document = attempt(galaxy_gravity_file.read_mapping, str(path), errors=ConfigError)
    assert document is None or type(document) is dict
