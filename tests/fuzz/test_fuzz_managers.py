"""
Definitions of process managers, and answers of supervisord: no exception but ours, a quick end, and bounded memory.
"""

import gzip
import xmlrpc.client

from hypothesis import given
from hypothesis import strategies as st
from test_fuzz_inputs import _BYTES, _TEXT, _WORDS, EXAMPLES, attempt, path  # noqa: F401

import galaxy_host_sockets
import galaxy_manager_supervisor_rpc
import galaxy_manager_unit
import galaxy_uwsgi_process
from galaxy_errors import ManagerError
from galaxy_manager_supervisor_config import Endpoint, SupervisorConfig
from galaxy_manager_supervisor_rpc import Client
from galaxy_manager_systemd_definition import Definition

_SUPERVISOR = st.sampled_from(
    [
        *("[program:galaxy]\n", "[program:]\n", "[group:g]\n", "[supervisord]\n", "[supervisorctl]\n", "[include]\n"),
        *("[unix_http_server]\n", "[inet_http_server]\n", "[fcgi-program:x]\n", "[eventlistener:x]\n", "[", "]\n"),
        *("command=uwsgi --ini x", "process_name=", "%(process_num)02d", "%(program_name)s", "%(ENV_X)s", "%(", "%"),
        *(
            "numprocs=",
            "999999",
            "99999999",
            "-1",
            "numprocs_start=",
            "programs=galaxy",
            "environment=",
            'A="b",',
            "A=",
        ),
        *("serverurl=", "unix://", "http://localhost:", "http://[::1]:9001", "file=/x", "port=", "*:9001", "username="),
        *("password=%(ENV_X)s", "files=", "conf.d/*.conf", "directory=~/x", "stopwaitsecs=", "\n", "=", "x", "'", ";"),
    ]
)


@EXAMPLES
@given(_BYTES | st.lists(_SUPERVISOR | _TEXT, max_size=40).map(lambda words: "".join(words).encode(errors="replace")))
def test_supervisor_configuration(path, data):  # noqa: F811
    path.write_bytes(data)

    def look():
        config = SupervisorConfig(str(path))
        shown = [galaxy_manager_unit.rank((one.name,), [one.invocation], "/x.yml", _own) for one in config.programs]
        return shown, config.endpoint()

    attempt(look, errors=ManagerError)


def _own(invocation):
    return galaxy_uwsgi_process.starts(invocation, "/srv/galaxy/config/galaxy.yml")


_UNIT = st.sampled_from(
    [
        *(
            "[Service]\n",
            "[Unit]\n",
            "[",
            "]\n",
            "ExecStart=",
            "uwsgi --ini x",
            "; ",
            " ;",
            "@-:+!|",
            "-/bin/x",
            "\\\n",
        ),
        *(
            "Environment=",
            "EnvironmentFile=",
            "-/etc/x",
            "UnsetEnvironment=",
            "A=b ",
            '"A=b c"',
            "'",
            '"',
            "$A",
            "${A}",
        ),
        *("$$", "%i", "%%", "%h", "%", "%\n", "User=", "nobody", "99999999999999999999", "WorkingDirectory=~", "Type="),
        *("\n", "=", "#", "${", "\\x2d", "\\xff", "KillMode=", "uwsgi", "--yaml", "/srv/galaxy/config/galaxy.yml"),
    ]
)


@EXAMPLES
@given(
    _BYTES | st.lists(_UNIT | _TEXT, max_size=40).map(lambda words: "".join(words).encode(errors="replace")),
    _TEXT | st.sampled_from(["galaxy", "galaxy@1", r"g@a\x2db-c"]),
    st.sampled_from([None, "nobody", "none-of-that-name"]),
)
def test_unit(path, data, name, user):  # noqa: F811
    path.write_bytes(data)

    def look():
        definition = Definition(name, [str(path)], user)
        commands = definition.commands(secrets=True)
        return galaxy_manager_unit.rank((name,), commands, "/x.yml", _own)

    attempt(look, errors=())


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 31), (1 << 31) - 1) | st.floats() | _TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "name",
                    "group",
                    "statename",
                    "spawnerr",
                    "description",
                    "stderr_logfile",
                    "stdout_logfile",
                    "pid",
                    "start",
                    "now",
                ]
            )
            | _TEXT,
            inner,
            max_size=8,
        )
    ),
    max_leaves=10,
)
_TAGS = st.sampled_from(
    [
        *(
            "<?xml version='1.0'?>",
            "<methodResponse>",
            "<params>",
            "<param>",
            "<value>",
            "<array>",
            "<data>",
            "<struct>",
        ),
        *(
            "<member>",
            "<name>",
            "</name>",
            "<int>",
            "</int>",
            "9" * 100,
            "<double>",
            "nan",
            "<base64>",
            "!",
            "</value>",
        ),
        *("<nil/>", "<fault>", "<boolean>", "2", "<dateTime.iso8601>", "x", "</methodResponse>", "<i8>", "&#0;", "&x;"),
    ]
)


def _bomb(levels):
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, levels))
    return (
        f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e0 "bomb">{entities}]><methodResponse><params><param><value>'
        f"<string>&e{levels - 1};</string></value></param></params></methodResponse>"
    ).encode()


def _dumped(value):
    try:
        return xmlrpc.client.dumps((value,), methodresponse=True, allow_none=True).encode(errors="replace")
    except (OverflowError, TypeError):
        return b""


@EXAMPLES
@given(
    st.just(b"HTTP/1.0 200 OK\r\n\r\n") | st.binary(max_size=30),
    _VALUES.map(_dumped)
    | st.lists(_TAGS | _TEXT, max_size=40).map(lambda words: "".join(words).encode(errors="replace"))
    | _BYTES
    | st.integers(1, 12).map(_bomb)
    | st.integers(1, 100_000).map(lambda depth: b"<value><array><data>" * depth)
    | st.binary(max_size=100).map(gzip.compress),
)
def test_answer_of_supervisord(head, data):
    before = galaxy_manager_supervisor_rpc._ask
    galaxy_manager_supervisor_rpc._ask = lambda *_: head + data
    try:
        attempt(Client(Endpoint("/run/none")).processes, errors=ManagerError)
    finally:
        galaxy_manager_supervisor_rpc._ask = before


@EXAMPLES
@given(st.binary(max_size=300), st.integers(0, 120), st.integers(0, 3))
def test_attributes_of_sock_diag(message, offset, wanted):
    value = attempt(galaxy_host_sockets._attribute, message, offset, wanted)
    assert len(value) <= len(message)
