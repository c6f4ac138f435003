"""The processes of an instance. tests/functional/test_gravity_config.py compares with the real Gravity and gunicorn."""

import pytest

import galaxy_gravity_settings
from galaxy_errors import ConfigError
from galaxy_gravity_handlers import Handlers
from galaxy_gravity_instance import DEFAULT_NAME, Instance
from galaxy_gravity_programs import Maker
from galaxy_host_address import Address
from galaxy_service import Role

PATHS = dict.fromkeys(("galaxy_root", "virtualenv", "data_dir", "log_dir", "state_dir"))
INSTANCE = Instance("/g.yml", DEFAULT_NAME, "systemd", "/srv/galaxy.yml", **PATHS)


def make(section, handlers=(), base="/srv", environment=None):
    settings = galaxy_gravity_settings.read(section, {}, "/g.yml: gravity")
    maker = Maker(INSTANCE, settings, environment or {}, base)
    return maker.programs(handlers), maker.problems


def web(options, **keywords):
    programs, _ = make({"gunicorn": options}, **keywords)
    return programs[0].web


def test_a_list_is_one_service_of_several_processes():
    programs, problems = make({"gunicorn": [{}, {"enable": False}, {"start_timeout": 1}], "celery": {"enable": False}})
    found = [(program.name, program.service, program.number, program.start_timeout) for program in programs]
    assert found == [
        ("gunicorn_0", "gunicorn", 0, 15),
        ("gunicorn_1", "gunicorn", 1, 15),
        ("celery-beat", "celery-beat", None, 10),
    ]
    assert problems == []


def test_a_list_without_instances_is_several_services():
    programs, _ = make({"use_service_instances": False, "gunicorn": [{"enable": False}, {}]})
    assert (programs[0].name, programs[0].service, programs[0].number) == ("gunicorn1", "gunicorn1", None)


def test_a_list_without_an_enabled_one_is_refused():
    with pytest.raises(ConfigError, match=r"/g.yml: gravity: gunicorn: is a list without an enabled one"):
        make({"gunicorn": []})


@pytest.mark.parametrize(
    ("options", "binds"),
    [
        ({}, [Address("localhost", 8080)]),
        ({"bind": "10.0.0.1"}, [Address("10.0.0.1", 8000)]),
        ({"bind": "[::1]:80"}, [Address("::1", 80)]),
        ({"bind": "unix:run/s"}, [Address(path="/srv/run/s")]),
        ({"bind": "fd://3"}, []),
        ({"extra_args": "--bind=unix:/s --chdir /x -b unix:t"}, ["localhost:8080", "/s", "/x/t"]),
    ],
)
def test_gunicorn_listens_where_its_command_says(options, binds):
    assert [str(bind) for bind in web(options).binds] == [str(bind) for bind in binds]


def test_the_last_option_counts():
    found = web({"workers": 2, "timeout": 9, "preload": False, "extra_args": "-w 3 -t 5 --preload"})
    assert (found.workers, found.timeout, found.preload) == (3, 5, True)
    assert web({"environment": {"GUNICORN_CMD_ARGS": "-t 1 -w 9 --preload"}, "preload": None}).preload is True
    assert web({"preload": False}, environment={"GUNICORN_CMD_ARGS": "--preload"}).preload is True


def test_a_relative_bind_needs_a_directory():
    programs, problems = make({"gunicorn": {"bind": "unix:s", "extra_args": "-b [::]:80"}}, base=None)
    assert [str(bind) for bind in programs[0].web.binds] == ["[::]:80"]
    assert "gunicorn: bind: is relative to where galaxyctl is called" in problems[0]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"bind": "h:port"}, "gunicorn: bind: Bad address"),
        ({"bind": "'"}, "gunicorn: bind, extra_args: cannot be read: No closing quotation"),
        ({"extra_args": "--timeout x"}, "gunicorn: gunicorn's options cannot be read: argument -t/--timeout"),
    ],
)
def test_a_command_that_gunicorn_refuses_is_one_sentence(options, sentence):
    with pytest.raises(ConfigError) as caught:
        make({"gunicorn": options})
    assert str(caught.value).startswith("/g.yml: gravity: ")
    assert sentence in str(caught.value)


def test_handlers_have_gravitys_defaults_and_names_of_their_own():
    handlers = [
        Handlers("h", ("h_0", "h_1"), {"environment": {"C": "{galaxy_conf}", "O": "{other} {{}}"}}, is_list=True),
        Handlers("s", ("s",), {"start_timeout": "5min", "environment": [1]}),
        Handlers("celery", ("celery",), {}),
    ]
    programs, problems = make({}, handlers)
    found = {program.name: program for program in programs if program.role is Role.HANDLER}
    assert sorted(found) == ["h_0", "h_1", "s"]
    assert (found["h_1"].service, found["h_1"].number, found["h_1"].server_name) == ("h", 1, "h_1")
    assert found["h_1"].environment == {"C": "/srv/galaxy.yml", "O": "{other} {}"}
    assert (found["s"].start_timeout, found["s"].stop_timeout) == (20, 65)
    assert [problem.split(": ", 2)[2] for problem in problems] == [
        "handlers: s: start_timeout: is not a number of seconds; 20 is used",
        "handlers: s: environment: is not a mapping of texts, and galaxyctl fails on it",
        "two services are called celery; rename one of them",
    ]


def test_each_service_has_gravitys_environment():
    section = {
        "virtualenv": "/v",
        "reports": {"enable": True},
        "gx_it_proxy": {"enable": True, "environment": {"A": "b"}},
    }
    found = {program.name: program.environment for program in make(section)[0]}
    assert found["celery"] == {"PYTHONPATH": "lib", "GALAXY_CONFIG_FILE": "/srv/galaxy.yml", "VIRTUAL_ENV": "/v"}
    assert found["reports"]["GALAXY_REPORTS_CONFIG"] == "/srv/reports.yml"
    assert found["gx-it-proxy"] == {"npm_config_yes": "true", "VIRTUAL_ENV": "/v", "A": "b"}
