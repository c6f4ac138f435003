"""
Galaxy's user may write any text into a configuration, a command line or an answer of a stats server: no exception but
ours, a quick end, and bounded memory.

``FUZZ_EXAMPLES`` says how many inputs each test tries.
"""

import json
import os
import tempfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.document import core, document, worker
from test_fuzz_inputs import bounded

import galaxy_host_address
import galaxy_uwsgi_command
import galaxy_uwsgi_config
import galaxy_uwsgi_file
import galaxy_uwsgi_stats
from galaxy_errors import AddressError, ConfigError, StatsError
from galaxy_host_address import Address
from galaxy_host_process import Invocation

fuzz = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "200")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)
SECRET = "hvs.TOPSECRET"


@pytest.fixture(scope="module")
def place():
    with tempfile.TemporaryDirectory() as path:
        yield path


_KEYS = st.sampled_from(
    [
        *(
            "socket",
            "http",
            "https",
            "https2",
            "stats",
            "stats-server",
            "shared-socket",
            "zergpool",
            "zerg",
            "processes",
        ),
        *("workers", "threads", "mule", "mules", "pidfile", "logto", "daemonize", "master-fifo", "master", "need-app"),
        *(
            "chdir",
            "abstract-socket",
            "stats-http",
            "no-server",
            "set",
            "set-ph",
            "set-placeholder",
            "include",
            "inherit",
        ),
        *("ini", "yaml", "xml", "for", "for-times", "for-glob", "end", "endif", "endfor", "if-env", "if-not-env", "a"),
        *("if-opt", "if-not-opt", "if-exists", "if-file", "if-dir", "if-hostname", "if-reload", "if-plugin", "b", ""),
    ]
)
_PIECES = st.one_of(
    st.sampled_from(
        [
            *(
                "%(a)",
                "%(b)",
                "%(a + 1)",
                "%(a * a)",
                "%(b -- / 0)",
                "%(_)",
                "%(",
                ")",
                "$(TOKEN)",
                "$(HOME)",
                "$(",
                "@(",
            ),
            *("@(other.ini)", "@(exec://false)", "%d", "%k", "%t", "%x", "%", "%%", "127.0.0.1:4001", ":80", "[::1]:1"),
            *(
                "@abstract",
                "/run/s",
                "unix:/run/s",
                "=0",
                "fd://0",
                "*:1",
                "true",
                "false",
                "a=b",
                "a=%(a)%(a)",
                "b=%(a)",
            ),
            *(
                "galaxy.ini",
                "other.ini",
                "other.ini:b",
                ":b",
                "999999999999",
                "-1",
                "3 ; x",
                " # x",
                "'",
                '"',
                "[",
                "]",
                ",",
            ),
            *("\0", "\r", "\t", "\ufeff", "\ud800", "\x1b", "addr=:1", "4 5 6", "/dev/zero", "TOKEN", "TOKEN=x"),
        ]
    ),
    st.text(max_size=6),
    st.integers(-(10**30), 10**30).map(str),
)
_VALUES = st.lists(_PIECES, max_size=4).map("".join)
_LINES = st.lists(st.tuples(_KEYS, _VALUES), max_size=12)


@st.composite
def _ini(draw):
    lines = [f"{key}{draw(st.sampled_from(['=', ' = ', '']))}{value}" for key, value in draw(_LINES)]
    heads = st.sampled_from(["[uwsgi]", "[b]", "[", ";x", "", "[uwsgi] "])
    for _ in range(draw(st.integers(0, 3))):
        lines.insert(draw(st.integers(0, len(lines))), draw(heads))
    return "\n".join(["[uwsgi]", *lines])


@st.composite
def _yaml(draw):
    indent = st.sampled_from(["  ", "    ", "\t", "", " - ", "  -", "- "])
    colon = st.sampled_from([": ", ":\t", ":", " : ", ""])
    lines = [f"{draw(indent)}{key}{draw(colon)}{value}" for key, value in draw(_LINES)]
    heads = st.sampled_from(["uwsgi:", "b:", "---", "...", "{", "[", "-", "uwsgi: {}"])
    for _ in range(draw(st.integers(0, 2))):
        lines.insert(draw(st.integers(0, len(lines))), draw(heads))
    return "\n".join(["uwsgi:", *lines])


_ANY = st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
_WORDS = st.lists(
    st.one_of(
        st.sampled_from(
            ["uwsgi", "env", "sh", "-c", "python", "--", "-", "--ini", "galaxy.ini", "--yaml=galaxy.yml", "-M"]
        ),
        st.sampled_from(
            ["-p", "3", "--stats", ":1", "--set", "a=%(a)", "$TOKEN", "cd x && uwsgi", "sudo", "-S", "-u", "[x"]
        ),
        st.tuples(_KEYS, _VALUES).map(lambda pair: f"--{pair[0]}={pair[1]}"),
        _VALUES,
    ),
    max_size=10,
)
_INVOCATIONS = st.one_of(
    st.none(),
    st.builds(
        lambda words, cwd, environment: Invocation(("uwsgi", *words), "PID 1", cwd, environment),
        _WORDS,
        st.sampled_from([None, "PLACE", "/"]),
        st.sampled_from([None, {}, {"TOKEN": SECRET, "HOME": "/root"}, {"UWSGI_STATS": SECRET, "UWSGI_INI": SECRET}]),
    ),
)


def _write(path, data):
    with open(path, "wb") as file:
        file.write(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))


def _read(place, name, data, other, invocation):
    path = os.path.join(place, name)
    _write(path, data)
    _write(os.path.join(place, "other.ini"), other)
    if invocation:
        cwd = place if invocation.cwd == "PLACE" else invocation.cwd
        invocation = Invocation(invocation.argv, invocation.source, cwd, invocation.environment)
    try:
        with bounded():
            config = galaxy_uwsgi_config.read(path, invocation)
    except ConfigError as exc:
        text = str(exc)
        # the error says where the fault is
        assert place in text or "PID 1" in text
        assert len(text) < 2000
    else:
        text = str(config)
        for setting in config.sockets:
            assert galaxy_host_address.parse(str(setting.value)) == setting.value
        for setting in (*config.unusable, *config.doubts):
            assert len(str(setting.value)) < 2000
        for setting in (config.processes, config.threads, config.mules):
            assert setting.value is None or 0 <= setting.value <= 10**10
        for setting in (*config.logs, *config.master_fifo, *([config.pidfile] if config.pidfile else [])):
            assert os.path.isabs(setting.value)
        _ = config.stats_off
    assert SECRET not in text
    # Salt must be able to send it
    text.encode()


@fuzz
@given(st.one_of(_ini(), _ANY), st.one_of(_ini(), _ANY), _INVOCATIONS)
def test_an_ini(place, data, other, invocation):
    _read(place, "galaxy.ini", data, other, invocation)


@fuzz
@given(st.one_of(_yaml(), _ANY), _ini(), _INVOCATIONS)
def test_a_yaml(place, data, other, invocation):
    _read(place, "galaxy.yml", data, other, invocation)


@fuzz
@given(_WORDS, st.sampled_from([None, {}, {"TOKEN": SECRET}]))
def test_a_command_line(words, environment):
    with bounded():
        command = galaxy_uwsgi_command.parse(Invocation(tuple(words), "PID 1", "/srv", environment))
    for name, value, secret in command.options:
        assert isinstance(name, str)
        assert secret or SECRET not in (value or "")
    assert command.cwd is None or os.path.isabs(command.cwd)


@fuzz
@given(st.one_of(_VALUES, st.text(), st.none(), st.integers(), st.binary()))
def test_an_address(text):
    try:
        with bounded():
            address = galaxy_host_address.parse(text)
    except AddressError as exc:
        str(exc).encode()
    else:
        assert galaxy_host_address.parse(str(address)) == address


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**60), 10**60), st.floats(), st.text(max_size=10)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=4)),
    max_leaves=12,
)


@st.composite
def _document(draw):
    """A good document in which some parts are exchanged."""
    request = ["REQUEST_METHOD=GET", "REQUEST_URI=/x?key=1"]
    records = [worker(cores=[core(1, request, request_start=1_700_000_000), core()]) for _ in range(2)]
    made = json.loads(json.dumps(document(records)))
    for _ in range(draw(st.integers(0, 4))):
        place, key = made, None
        while isinstance(place, (dict, list)) and place:
            parent = place
            key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            place = place[key]
            if draw(st.integers(0, 3)) == 0:
                break
        if key is not None:
            parent[key] = draw(_JSON)
    return json.dumps(made, ensure_ascii=draw(st.booleans()))


_ANSWERS = st.one_of(
    _document().map(lambda text: text.encode("utf-8", "surrogatepass")),
    _JSON.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")),
    _ANY,
    st.tuples(_document(), st.integers(0, 2000)).map(lambda pair: pair[0].encode("utf-8", "surrogatepass")[: pair[1]]),
)
_HEADS = st.one_of(
    st.just(b""),
    st.sampled_from(
        [b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/", b"HTTP/1.1 500 x\r\n\r\n", b"HTTP/1.0 200\n\n", b"HTTP/\r\n\r\n"]
    ),
    st.binary(max_size=40).map(lambda data: b"HTTP/1.0 " + data + b"\r\n\r\n"),
)


@fuzz
@given(_HEADS, _ANSWERS)
def test_an_answer_of_a_stats_server(head, answer):
    address = Address("127.0.0.1", 9191)
    try:
        with bounded():
            found = galaxy_uwsgi_stats.interpret(address, head + answer)
            records = [one.record() for one in found.workers]
            shown = [records, found.redacted(), found.listen_queue, found.version]
    except StatsError as exc:
        str(exc).encode()
    else:
        text = json.dumps(shown, ensure_ascii=False)
        text.encode()
        assert "key=1" not in text


@fuzz
@given(st.sampled_from(["ini", "yaml"]), st.text(), st.text(max_size=5))
def test_lines_of_any_text(kind, text, section):
    with bounded():
        if kind == "ini":
            lines = list(galaxy_uwsgi_file.ini_lines(text, section))
        else:
            lines = list(galaxy_uwsgi_file.yaml_lines(text, section, "x.yml", [], []))
    assert len(lines) <= text.count("\n") + text.count(",") + 2
