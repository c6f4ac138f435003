"""
Foreign text never brings more than our own errors: no other exception, no hang, no endless memory. And the text that we
write for managers comes back unchanged from their parsers.
"""

import contextlib
import json
import os
import pathlib
import resource
import shlex
import signal

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from supervisor.options import ServerOptions, UnhosedConfigParser

import galaxy_definition
import galaxy_host_address
import galaxy_host_files
import galaxy_host_lock
import galaxy_host_redaction
import galaxy_host_sockets
import galaxy_uwsgi_config
import galaxy_uwsgi_stats
import luks_cryptdev_ini
import onedata_declared
import onedata_space
from galaxy_errors import AddressError, ConfigError, DefinitionError, FileError, GalaxyError
from galaxy_host_process import Invocation

EXAMPLES = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "200")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
# seconds for one input on a busy machine
_LONGEST = 60
_MEMORY = 64 << 20

_CHARACTERS = st.characters(codec=None)
_TEXT = st.text(_CHARACTERS, max_size=60)
_WORDS = st.sampled_from(
    [
        *(
            "[userdata]",
            "[refdata]",
            "[luks]",
            "[DEFAULT]",
            "[uwsgi]",
            "uwsgi:",
            "galaxy:",
            "provider",
            "mountpoint",
            "token",
        ),
        *(
            "nonempty",
            "uid",
            "cryptdev",
            "uuid",
            "device",
            "keysize",
            "cipher_algorithm",
            "filesystem",
            "=",
            ":",
            "\n",
            "\n ",
        ),
        *(
            ";",
            "#",
            " # x",
            '"',
            "'",
            "\\",
            "%",
            "%(here)s",
            "%(x)s",
            "$(HOME)",
            "@(/dev/zero)",
            "/export",
            "True",
            "256",
        ),
        *(
            "stats",
            "socket",
            "processes",
            "include",
            "ini",
            "for",
            "for-times",
            "endfor",
            "set",
            "if-env",
            "endif",
            "-",
            "&a",
        ),
        *(
            "*a",
            "<<",
            "{",
            "}",
            "[",
            "]",
            "|",
            ">",
            "!!python/object",
            "127.0.0.1:9191",
            "[::1]:80",
            "@x",
            "\0",
            "\ufeff",
        ),
        *("99999999999999999999", "1e999", "-1", "password=", "Bearer ", "://u:p@h", "?key=x", "\x1b[2J", "\u202e"),
    ]
)
DOCUMENTS = st.lists(_WORDS | _TEXT, max_size=40).map(" ".join) | st.lists(_WORDS | _TEXT, max_size=40).map("".join)
_BYTES = st.binary(max_size=400) | DOCUMENTS.map(lambda text: text.encode(errors="surrogatepass"))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "input"


@contextlib.contextmanager
def bounded():
    """If the code takes too long, it raises AssertionError; if it takes too much memory, MemoryError."""
    before, limits = signal.signal(signal.SIGALRM, _hangs), resource.getrlimit(resource.RLIMIT_AS)
    size = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + _MEMORY, limits[1]))
    signal.alarm(_LONGEST)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGALRM, before)


def attempt(function, *arguments, errors=GalaxyError):
    """What the function returns within the bounds. ``None`` if it raises an error of ours."""
    try:
        with bounded():
            return function(*arguments)
    except errors as exc:
        assert str(exc)
        return None


def _hangs(_number, _frame):
    raise AssertionError(f"one input takes longer than {_LONGEST} s")


@EXAMPLES
@given(_BYTES)
def test_onedatactl_ini(path, data):
    path.write_bytes(data)
    for name, (given_settings, token) in (attempt(onedata_space.read_ini, str(path), errors=ConfigError) or {}).items():
        space = attempt(onedata_space.of, name, given_settings, errors=ConfigError)
        assert space is None or (space.mount_point.startswith("/") and space.mount_point.isprintable())
        assert token is None or token.reveal()
    declared = onedata_declared.Declared({"galaxy:onedata:ini": str(path)}.get)
    attempt(declared.names)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT | st.sampled_from(["/export", "p.example.org"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=8,
)


@EXAMPLES
@given(
    st.dictionaries(
        st.sampled_from(
            ["provider_host", "provider_port", "mount_point", "insecure", "nonempty", "options", "token", "uid"]
        )
        | _TEXT,
        _VALUES,
        max_size=8,
    )
    | _VALUES
)
def test_a_space_of_pillar(value):
    space = attempt(onedata_space.of, "userdata", value, errors=ConfigError)
    if space:
        # these become words of a command line
        assert not any("\0" in str(word) for word in (space.provider_host, space.mount_point, *space.options))


@EXAMPLES
@given(_BYTES)
def test_cryptdev_ini(path, data):
    path.write_bytes(data)
    volume = attempt(luks_cryptdev_ini.read, str(path), errors=ConfigError)
    assert volume is None or volume.storage()["mapper"]


def _all_fields(*given):
    return repr(galaxy_uwsgi_config.read(*given))


@EXAMPLES
@given(_BYTES, st.sampled_from([".yml", ".ini", ".txt"]))
def test_uwsgi_configuration(path, data, suffix):
    config = path.with_suffix(suffix)
    config.write_bytes(data)
    attempt(_all_fields, str(config), errors=ConfigError)


@EXAMPLES
@given(st.lists(_WORDS | _TEXT, max_size=12))
def test_uwsgi_command_line(path, words):
    path.write_text("[uwsgi]\nstats = 127.0.0.1:9191\n")
    # the kernel ends each word at a NUL
    words = [word.replace("\0", "") for word in words]
    argv = ("uwsgi", *("--" + word if word.isalpha() else word for word in words), "--ini", str(path))
    attempt(_all_fields, str(path), Invocation(argv, "fuzz", "/", {"HOME": "/root"}), errors=ConfigError)


@EXAMPLES
@given(_TEXT | DOCUMENTS)
def test_addresses(text):
    address = attempt(galaxy_host_address.parse, text, errors=AddressError)
    if address:
        assert galaxy_host_address.parse(str(address)) == address


_NUMBERS = st.integers() | st.integers(-(1 << 80), 1 << 80) | st.floats() | st.none() | st.text(max_size=5)
_FIELDS = st.sampled_from(
    [
        *(
            "version",
            "pid",
            "workers",
            "sockets",
            "listen_queue",
            "listen_queue_errors",
            "load",
            "id",
            "accepting",
            "requests",
        ),
        *(
            "status",
            "apps",
            "cores",
            "req_info",
            "request_start",
            "in_request",
            "vars",
            "rss",
            "last_spawn",
            "name",
            "queue",
        ),
    ]
)
_STATS = st.recursive(
    _NUMBERS | st.sampled_from(["idle", "busy", "cheap", "pause", "2.0.31"]) | st.booleans(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_FIELDS, inner, max_size=8),
    max_leaves=25,
)


@EXAMPLES
@given(
    _STATS.map(lambda value: json.dumps(value).encode())
    | _STATS.map(lambda value: b"HTTP/1.0 200 OK\r\n\r\n" + json.dumps({"workers": value}).encode())
    | _BYTES
    | st.integers(1, 5000).map(lambda depth: b"[" * depth)
)
def test_stats_document(data):
    address = galaxy_host_address.parse("127.0.0.1:9191")

    def look():
        document = galaxy_uwsgi_stats._parse(address, data)
        stats = galaxy_uwsgi_stats.Stats(address, galaxy_uwsgi_stats._check(address, document, len(data)))
        return [stats.workers, stats.listen_queue, stats.redacted(), [worker.record() for worker in stats.workers]]

    attempt(look)


@EXAMPLES
@given(st.binary(max_size=600))
def test_sock_diag_answer(data):
    attempt(galaxy_host_sockets._parse_sock_diag, data, errors=OSError)
    attempt(galaxy_host_sockets._listener, data, errors=OSError)


@EXAMPLES
@given(DOCUMENTS | st.builds(lambda text, times: text * times, _WORDS | _TEXT, st.integers(1, 2000)))
def test_redaction(text):
    shown = attempt(galaxy_host_redaction.blank, text)
    assert "\n" not in shown
    assert "\x1b" not in shown
    assert shown.isprintable() or set(shown) - {char for char in shown if char.isprintable()} <= set(text)
    shown.encode()
    # a text that is printable already does not change
    assert galaxy_host_redaction.printable(shown) == shown


_SECRET_NAMES = st.sampled_from(
    ["password", "DB_PASSWORD", "api-key", "id_secret", "X-Api-Key", "VAULT_TOKEN", "cookie"]
)
_SECRETS = st.text("abcdefXYZ0189!$%&()*+-./@#~|^", min_size=6, max_size=20).map(lambda text: f"S3{text}3S")
_AROUND = st.text("abc .,:;", max_size=10)


@EXAMPLES
@given(
    _SECRET_NAMES,
    _SECRETS,
    _AROUND,
    st.sampled_from(["{}={}", "{}: {}", "{} = '{}'", '"{}": "{}"', '{}="x {}"', "--{} {}"]),
)
def test_secrets_in_any_form(name, secret, around, form):
    line = f"{around} {form.format(name, secret)}"
    assert secret not in galaxy_host_redaction.blank(line)
    assert secret not in galaxy_host_redaction.blank(f"{around} postgresql://galaxy:{secret}@db/galaxy {around}")
    assert secret not in galaxy_host_redaction.blank(f"{around} Authorization: Bearer {secret}")


@EXAMPLES
@given(st.lists(_TEXT, min_size=2, max_size=6, unique=True))
def test_lock_names(names):
    files = [galaxy_host_lock.file_name(name) for name in names]
    assert len(set(files)) == len(files)
    for file in files:
        assert os.path.basename(file) == file
        assert file.isascii()
        assert 0 < len(file) <= 255
        assert file not in (".", "..")


@EXAMPLES
@given(
    _TEXT
    | _TEXT.map(lambda text: f"/{text}")
    | st.lists(st.sampled_from(["..", ".", "etc", "proc", "self", "dev", "x", ""])).map("/".join)
)
def test_paths(text):
    for look in (galaxy_host_files.require_trusted, galaxy_host_files.require_place):
        attempt(look, text, errors=FileError)
    before = len(os.listdir("/proc/self/fd"))
    attempt(galaxy_host_files.read, text, 1 << 16, [4001], errors=FileError)
    assert len(os.listdir("/proc/self/fd")) == before


_NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True)
_VARIABLES = st.dictionaries(
    _NAMES, st.text(_CHARACTERS | st.sampled_from("\"'\\%$`#; ,=\t()"), max_size=30) | _WORDS, min_size=1, max_size=4
)
_GIVEN = {"config": "/srv/galaxy/config/galaxy.yml", "uwsgi": "/srv/galaxy/venv/bin/uwsgi", "user": "root"}


def _read_environment_file(text):
    """As systemd does (parse_env_file, env-file.c), for values in double quotes, one on each line."""
    found = {}
    for line in text.split("\n"):
        if not line or line[0] in "#;":
            continue
        name, _, rest = line.partition("=")
        assert rest[0] == '"'
        value, index = "", 1
        while rest[index] != '"':
            if rest[index] == "\\":
                index += 1
                value += rest[index] if rest[index] in '"\\`$' else "\\" + rest[index]
            else:
                value += rest[index]
            index += 1
        assert index == len(rest) - 1
        found[name] = value
    return found


@EXAMPLES
@given(_VARIABLES)
def test_environment_of_a_unit(variables):
    files = attempt(galaxy_definition.systemd_unit, {**_GIVEN, "environment": variables}, errors=DefinitionError)
    wanted = {name: value.removesuffix("\n") for name, value in variables.items()}
    if files is None:
        assert any(galaxy_definition._CONTROL.search(value) for value in wanted.values())
        return
    environment, unit = (file.content for file in files.values())
    assert _read_environment_file(environment) == wanted
    # the unit does not depend on the values
    assert unit == list(galaxy_definition.systemd_unit({**_GIVEN, "environment": {"X": "x"}}).values())[1].content


def _read_program(text):
    options = ServerOptions()
    options.here, options.environ_expansions, options.configfile = "/etc/supervisor", {"ENV_HOME": "/root"}, "x"
    parser = UnhosedConfigParser()
    parser.read_string(text)
    parser.expand_here(options.here)
    assert parser.sections() == ["program:galaxy"]
    (process,) = options.processes_from_section(parser, "program:galaxy", "galaxy")
    return process


@EXAMPLES
@given(_VARIABLES)
def test_environment_of_a_program(variables):
    given_settings = {**_GIVEN, "program_file": "/etc/x.conf", "environment": variables}
    files = attempt(galaxy_definition.supervisord_program, given_settings, errors=DefinitionError)
    if files:
        (file,) = files.values()
        process = _read_program(file.content)
        assert process.environment == {name: value.removesuffix("\n") for name, value in variables.items()}
        assert shlex.split(process.command) == [_GIVEN["uwsgi"], "--yaml", _GIVEN["config"]]


@EXAMPLES
@given(st.text(_CHARACTERS | st.sampled_from("\"'\\%$`#; ,=\t()/"), min_size=1, max_size=30))
def test_paths_of_a_program(text):
    path = f"/srv/{text}"
    given_settings = {**_GIVEN, "program_file": "/etc/x.conf", "config": f"{path}/g.yml", "root": path}
    files = attempt(galaxy_definition.supervisord_program, given_settings, errors=DefinitionError)
    assume(files)
    (file,) = files.values()
    process = _read_program(file.content)
    assert shlex.split(process.command) == [_GIVEN["uwsgi"], "--yaml", os.path.normpath(f"{path}/g.yml")]
    assert process.directory == os.path.normpath(path)


@EXAMPLES
@given(
    st.dictionaries(
        st.sampled_from([*_GIVEN, "service", "group", "environment", "stop_timeout", "mounts", "autostart"]), _VALUES
    )
)
def test_settings_of_any_type(values):
    for build in (galaxy_definition.systemd_unit, galaxy_definition.supervisord_program):
        files = attempt(build, {**_GIVEN, "program_file": "/etc/x.conf", **values}, errors=DefinitionError)
        for path in files or ():
            assert path.startswith("/etc/")
