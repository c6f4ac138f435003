"""supervisord's files, read by its own rules (supervisor/options.py)."""

import os
import platform

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import galaxy_manager_supervisor_config
from galaxy_errors import GalaxyError, ManagerError
from galaxy_host_process import Process
from galaxy_manager_supervisor_config import SupervisorConfig


@pytest.fixture
def write(tmp_path):
    def write(text, name="supervisord.conf"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return str(path)

    return write


def _programs(path, process=None):
    return SupervisorConfig(path, process).programs


def test_programs_processes_and_groups(write):
    path = write(
        "[supervisord]\nenvironment=A=\"1\",B='x,y'\n"
        '[program:web]\ncommand = uwsgi --x "a b" ; comment\ndirectory=%(here)s/run\nenvironment=C=%(program_name)s\n'
        "[program:many]\ncommand=run %(process_num)d of %(numprocs)s 100%%\nnumprocs=2\nnumprocs_start=5\n"
        "process_name=%(program_name)s_%(process_num)03d\nstopwaitsecs=65\n"
        "[fcgi-program:f]\ncommand=f %(group_name)s\n[eventlistener:l]\ncommand=l\nevents=TICK_60\n"
        "[group:gx]\nprograms=many, f\n"
    )
    web, first, second, fcgi = _programs(path)
    here = os.path.dirname(path)
    assert (web.group, web.process, web.invocation.argv) == ("web", "web", ("uwsgi", "--x", "a b"))
    assert (web.invocation.cwd, web.stop_seconds) == (f"{here}/run", 10)
    assert web.invocation.environment == {"A": "1", "B": "x,y", "C": "web"}
    assert web.invocation.source == f"program web in {path}"
    assert [(one.group, one.process, one.stop_seconds) for one in (first, second)] == [
        ("gx", "many_005", 65),
        ("gx", "many_006", 65),
    ]
    assert second.invocation.argv == ("run", "6", "of", "2", "100%")
    assert (fcgi.group, fcgi.invocation.argv) == ("gx", ("f", "gx"))


def test_a_program_of_two_groups_is_two_processes(write):
    path = write("[program:a]\ncommand=a %(group_name)s\n[group:x]\nprograms=a\n[group:y]\nprograms=a\n")
    assert [(one.title, one.invocation.argv[1]) for one in _programs(path)] == [("x:a", "x"), ("y:a", "y")]


def test_a_supervisord_that_runs_is_where_it_is(write):
    """With ``-n`` supervisord does not change to its own directory."""
    path = write("[supervisord]\ndirectory=/\n[program:a]\ncommand=a\n[program:b]\ncommand=b\ndirectory=/srv\n")
    assert [one.invocation.cwd for one in _programs(path)] == ["/", "/srv"]
    running = _programs(path, Process.of(os.getpid()))
    assert [one.invocation.cwd for one in running] == [os.getcwd(), "/srv"]


def test_includes_are_relative_to_their_own_file(write, tmp_path):
    write("[program:a]\ncommand=%(here)s/a\n", "conf.d/a.conf")
    write("[program:b]\ncommand=b\n", "conf.d/b.conf")
    write("[program:c]\ncommand=c\n", "more/c.ini")
    path = write("[include]\nfiles = conf.d/*.conf\n  %(here)s/more/*.ini /none/*\n")
    assert [one.invocation.argv[0] for one in _programs(path)] == [f"{tmp_path}/conf.d/a", "b", "c"]
    assert _programs(path)[0].invocation.source == f"program a in {tmp_path}/conf.d/a.conf"


def test_the_environment_is_that_of_the_supervisord_that_runs_or_none(write, monkeypatch):
    path = write("[program:a]\ncommand=a %(ENV_GALAXY_TEST)s %(ENV_OWN)s\nenvironment=OWN=x\n")
    monkeypatch.setenv("GALAXY_TEST", "minion")
    (program,) = _programs(path)
    assert program.invocation.argv == ("a", "%(ENV_GALAXY_TEST)s", "x")
    process = Process.of(os.getpid())
    assert "GALAXY_TEST" not in process.environment
    name = next(name for name in process.environment if name.isidentifier())
    path = write(f"[program:a]\ncommand=a\nprocess_name=%(ENV_{name})s\n")
    assert _programs(path, process)[0].process == process.environment[name]


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("[unix_http_server]\nfile=/run/s.sock\n", ("/run/s.sock", "", 0)),
        ("[unix_http_server]\nfile=%(here)s/s.sock\n", ("{here}/s.sock", "", 0)),
        ("[inet_http_server]\nport=9001\n", ("", "127.0.0.1", 9001)),
        ("[inet_http_server]\nport=*:9001\n", ("", "127.0.0.1", 9001)),
        ("[inet_http_server]\nport=10.0.0.1:9001\n", ("", "10.0.0.1", 9001)),
        ("[supervisorctl]\nserverurl=http://[::1]:9001/\n", ("", "::1", 9001)),
        (
            "[supervisorctl]\nserverurl=unix:///run/other.sock\n[unix_http_server]\nfile=/x\n",
            ("/run/other.sock", "", 0),
        ),
        ("[supervisorctl]\nserverurl=http://localhost\n", None),
        ("[inet_http_server]\nport=x:99999\n", None),
        ("", None),
    ],
)
def test_where_it_answers(write, text, endpoint):
    path = write("[supervisord]\n" + text)
    if endpoint is None:
        with pytest.raises(ManagerError, match=path):
            SupervisorConfig(path).endpoint()
        return
    found = SupervisorConfig(path).endpoint()
    assert (found.path, found.host, found.port) == (endpoint[0].format(here=os.path.dirname(path)), *endpoint[1:])


def test_the_login(write):
    path = write("[unix_http_server]\nfile=/s\nusername=u\npassword=a%%b\n")
    endpoint = SupervisorConfig(path).endpoint()
    assert (endpoint.user, endpoint.password.reveal()) == ("u", b"a%b")
    assert "a%b" not in repr(endpoint)
    path = write("[unix_http_server]\nfile=/s\n[supervisorctl]\nusername=%(ENV_USER)s\n")
    with pytest.raises(ManagerError, match="username is taken from the environment"):
        SupervisorConfig(path).endpoint()


def test_bounds(write, tmp_path):
    with pytest.raises(ManagerError, match="more than 1000 processes"):
        _programs(write("[program:x]\ncommand=x\nprocess_name=%(process_num)s\nnumprocs=100000\n"))
    many = write("".join(f"[program:p{number}]\ncommand=x\n" for number in range(1001)))
    with pytest.raises(ManagerError, match="more than 1000 processes"):
        _programs(many)
    big = write("[supervisord]\n" + "; x\n" * 400_000, "big.conf")
    with pytest.raises(ManagerError, match="larger than"):
        SupervisorConfig(big)
    os.mkfifo(tmp_path / "fifo.conf")
    with pytest.raises(ManagerError, match=r"neither a regular file|not a regular file"):
        SupervisorConfig(str(tmp_path / "fifo.conf"))
    with pytest.raises(ManagerError, match=r"fifo.conf"):
        SupervisorConfig(write("[include]\nfiles=fifo.conf\n"))
    for number in range(600):
        (tmp_path / f"{number}.inc").touch()
    with pytest.raises(ManagerError, match="more than 500 files"):
        SupervisorConfig(write("[include]\nfiles=*.inc\n"))


def test_a_line_that_cannot_be_read_is_not_quoted(write):
    path = write("[program:x]\npassword hunter2\n")
    with pytest.raises(ManagerError, match=path) as caught:
        SupervisorConfig(path)
    assert "hunter2" not in str(caught.value)


def test_the_machine_s_name_and_an_environment_that_cannot_be_split(write):
    path = write("[program:a]\ncommand=a %(host_node_name)s\nenvironment=A='open\n")
    (one,) = _programs(path)
    assert one.invocation.argv == ("a", platform.node())
    assert one.invocation.environment == {}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from(
            [
                *("[program:a]", "[group:g]", "programs=a,b", "command=x '", "numprocs=99", "environment=A=", "%("),
                *("%(x)s=", "[include]", "files=*", "[unix_http_server]", "file=%(here)s", "[", "="),
                "process_name=%(process_num)02d",
            ]
        )
    )
)
def test_whatever_it_holds_ends_in_programs_or_in_our_error(write, lines):
    path = write("\n".join(lines))
    try:
        config = SupervisorConfig(path)
        assert isinstance(config.programs, list)
        config.endpoint()
    except GalaxyError:
        pass


@pytest.mark.parametrize(
    ("argv", "is_one"),
    [
        (("supervisord", "-c", "x"), True),
        (("/venv/bin/python3.11", "/venv/bin/supervisord", "-n"), True),
        (("python", "-u", "supervisord"), True),
        (("python", "-m", "supervisor.supervisord"), True),
        (("vim", "supervisord"), False),
        (("tail", "-f", "/var/log/supervisord"), False),
        (("python", "x.py", "supervisord"), False),
        (("supervisorctl", "supervisord"), False),
    ],
)
def test_supervisord_is_a_word_in_command_position(argv, is_one):
    found = any(galaxy_manager_supervisor_config._is_supervisord(argv, index) for index in range(len(argv)))
    assert found is is_one


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("-c", "x"), "x"),
        (("-n", "-cx"), "x"),
        (("--configuration", "x"), "x"),
        (("--configuration=x",), "x"),
        (("-n",), None),
        (("-c",), None),
    ],
)
def test_the_file_that_it_was_told(options, told):
    assert galaxy_manager_supervisor_config._told(options) == told
