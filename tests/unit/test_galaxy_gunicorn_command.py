import pytest
from hypothesis import given
from hypothesis import strategies as st

import galaxy_gunicorn_command
from galaxy_errors import AddressError, ConfigError, GalaxyError
from galaxy_gunicorn_command import Options
from galaxy_host_address import Address
from galaxy_host_process import Invocation

# the command as Gravity writes it
GRAVITY = (
    *("/venv/bin/python", "/venv/bin/gunicorn", "galaxy.webapps.galaxy.fast_factory:factory()", "--timeout", "300"),
    *("--pythonpath", "lib", "-k", "galaxy.webapps.galaxy.workers.Worker", "-b", "localhost:8080", "--workers=4"),
    *("--config", "python:galaxy.web_stack.gunicorn_config", "--preload"),
)


def _read(*words, cwd="/srv/galaxy", **environment):
    return galaxy_gunicorn_command.read(Invocation(words, "command line of PID 7", cwd, environment))


def test_gravitys_command():
    assert _read(*GRAVITY) == Options((Address("localhost", 8080),), timeout=300, workers=4, preload=True)
    more = _read(*GRAVITY, "-b", "unix:run/s", "--pid", "/run/g.pid", "--no-control-socket", "--statsd-host=x:1")
    assert more.binds == (Address("localhost", 8080), Address(path="/srv/galaxy/run/s"))
    assert more.pidfile == "/run/g.pid"


def test_defaults_and_the_environment():
    assert _read("gunicorn", "app") == Options((Address("127.0.0.1", 8000),), 30, 1, False)
    assert _read("python3", "-m", "gunicorn", "app", PORT="81", WEB_CONCURRENCY="3").workers == 3
    assert _read("gunicorn", "app", PORT="81").binds == (Address("0.0.0.0", 81),)
    given = _read("gunicorn", "-w2", "app", GUNICORN_CMD_ARGS="--bind=127.0.0.1:9 --workers 5 --preload")
    assert given == Options((Address("127.0.0.1", 9),), 30, 2, True)
    assert _read("gunicorn", "-b", "fd://3", "app").binds == ()
    assert _read("gunicorn", "--certfile=x", "-D", "app").tls


@pytest.mark.parametrize(
    ("bind", "address"),
    [
        ("host", Address("host", 8000)),
        ("HOST:80", Address("host", 80)),
        (":80", Address("", 80)),
        ("tcp://", Address("0.0.0.0", 8000)),
        ("[::1]:80", Address("::1", 80)),
        ("[::1]", Address("::1", 8000)),
        ("tcp://127.0.0.1:80", Address("127.0.0.1", 80)),
        ("unix:///run/s", Address(path="/run/s")),
        ("unix:s", Address(path="/d/s")),
    ],
)
def test_binds(bind, address):
    assert galaxy_gunicorn_command.address(bind, "/d") == address


def test_other_programs_and_titles_have_no_options():
    assert _read("/usr/bin/celery", "--app", "galaxy.celery", "worker") is None
    assert _read("gunicorn: master [galaxy]") is None
    assert galaxy_gunicorn_command.is_titled(("gunicorn: master [galaxy]",))
    assert not galaxy_gunicorn_command.is_titled(("vi", "gunicorn: notes"))


def test_what_cannot_be_read_is_said():
    with pytest.raises(ConfigError, match=r"command line of PID 7: gunicorn's options cannot be read: .*timeout"):
        _read("gunicorn", "app", "--timeout", "long")
    with pytest.raises(AddressError):
        _read("gunicorn", "app", "-b", "x:y")


@given(
    st.lists(st.text(st.characters(exclude_characters="\0"), max_size=8) | st.sampled_from(["-b", "-w", "-t", "--"]))
)
def test_whatever_the_words_are_they_end_in_options_or_an_error_of_ours(words):
    try:
        found = _read("gunicorn", *words)
    except GalaxyError:
        return
    assert isinstance(found, Options)
