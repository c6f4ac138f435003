"""Detection by definitions alone; the managers themselves are tested for real elsewhere."""

import pytest

import galaxy_manager_detection
import galaxy_manager_supervisor
import galaxy_manager_unit
from galaxy_errors import ManagerError
from galaxy_manager_supervisor import SupervisorConfig
from galaxy_manager_unit import State

CONFIG = "/srv/galaxy/config/galaxy.yml"


@pytest.fixture
def host(tmp_path, monkeypatch):
    """An empty machine whose definitions lie in ``tmp_path``; ``host(kind, name, text)`` writes one."""
    systemd = tmp_path / "systemd"
    systemd.mkdir()
    monkeypatch.setattr(galaxy_manager_detection, "_UNIT_DIRECTORIES", (str(systemd),))
    monkeypatch.setattr(galaxy_manager_detection, "_SYSTEMD_RUNS", str(tmp_path / "systemd-runs"))
    monkeypatch.setattr(galaxy_manager_detection, "_UPSTART_JOBS", str(tmp_path / "init" / "*.conf"))
    monkeypatch.setattr(galaxy_manager_detection, "_INIT_SCRIPTS", str(tmp_path / "init.d" / "*"))
    monkeypatch.setattr(galaxy_manager_supervisor, "CONFIG_FILES", (str(tmp_path / "supervisord.conf"),))
    monkeypatch.setattr(galaxy_manager_supervisor.psutil, "pids", list)
    monkeypatch.setattr(galaxy_manager_detection.shutil, "which", lambda name: None)

    def write(kind, name, text):
        if kind == "systemd":
            (tmp_path / "systemd-runs").mkdir(exist_ok=True)
        if kind == "init":
            monkeypatch.setattr(galaxy_manager_detection.shutil, "which", lambda name: f"/sbin/{name}")
        directory = tmp_path if kind == "supervisord" else tmp_path / kind
        directory.mkdir(exist_ok=True)
        (directory / name).write_text(text)
        return str(directory / name)

    return write


def _found(**keywords):
    manager = galaxy_manager_detection.detect({}, config=CONFIG, **keywords)
    return manager and (manager.name, manager.service)


_SERVER = "[unix_http_server]\nfile=/run/supervisor.sock\n"


def test_nothing_there_is_none(host):
    assert _found() is None


@pytest.mark.parametrize(
    ("text", "service"),
    [
        (f"[program:web]\ncommand=uwsgi --yaml {CONFIG}\n", "web"),
        (f"[program:web]\ncommand=/venv/bin/uwsgi --yaml {CONFIG}\n[group:gx]\nprograms=web,handler\n", "gx"),
        ("[program:galaxy]\ncommand=/srv/run.sh\n", "galaxy"),
        ("[program:x]\ncommand=uwsgi --yaml config/galaxy.yml\ndirectory=/srv/galaxy\n", "x"),
        (f"[program:x]\ncommand=uwsgi --yaml={CONFIG}\n", "x"),
        ("[program:x]\ncommand=/bin/sh -c 'cd /srv/galaxy && exec uwsgi --yaml config/galaxy.yml'\n", "x"),
        (f"[program:x]\ncommand=/bin/bash -c 'uwsgi --yaml {CONFIG}'\n", "x"),
        # a handler names the configuration too, but the server is what runs uWSGI
        (
            f"[program:handler0]\ncommand=python main -c {CONFIG}\n[program:w]\ncommand=uwsgi --yaml {CONFIG}\n",
            "w",
        ),
    ],
)
def test_supervisord_programs(host, text, service):
    host("supervisord", "supervisord.conf", _SERVER + text)
    assert _found() == ("supervisord", service)


def test_another_servers_program_is_not_ours(host):
    host("supervisord", "supervisord.conf", _SERVER + "[program:galaxy]\ncommand=uwsgi --yaml /srv/other/galaxy.yml\n")
    assert _found() is None


@pytest.mark.parametrize("name", ["galaxy-cleanup", "galaxy-db", "mygalaxy"])
def test_what_has_only_galaxy_in_its_name_is_not_galaxy(host, name):
    host("supervisord", "supervisord.conf", _SERVER + f"[program:{name}]\ncommand=sleep 1000\n")
    assert _found() is None


def test_a_configuration_is_known_behind_a_link(host, tmp_path):
    (tmp_path / "real.yml").touch()
    (tmp_path / "link.yml").symlink_to(tmp_path / "real.yml")
    host("supervisord", "supervisord.conf", _SERVER + f"[program:x]\ncommand=uwsgi --yaml {tmp_path}/link.yml\n")
    manager = galaxy_manager_detection.detect({}, config=str(tmp_path / "real.yml"))
    assert manager.service == "x"


@pytest.mark.parametrize(
    ("given", "service"),
    [("gx", "gx"), ("gx:", "gx"), ("gx:*", "gx"), ("web", "gx:web"), ("gx:web", "gx:web"), ("gx:web_00", "gx:web_00")],
)
def test_services_are_named_as_supervisorctl_names_them(host, given, service):
    text = "[program:web]\nnumprocs=2\nprocess_name=%(program_name)s_%(process_num)02d\ncommand=uwsgi\n"
    host("supervisord", "supervisord.conf", _SERVER + text + "[group:gx]\nprograms=web\n")
    assert _found(service=given) == ("supervisord", service)


def test_includes_and_environment(host, tmp_path, monkeypatch):
    monkeypatch.setenv("GALAXY_ROOT", "/srv/galaxy")
    host("conf.d", "web.conf", "[program:web]\ncommand=uwsgi --yaml %(ENV_GALAXY_ROOT)s/config/galaxy.yml ; comment\n")
    host("supervisord", "supervisord.conf", _SERVER + "[include]\nfiles = conf.d/*.conf\n")
    assert _found() == ("supervisord", "web")
    (program,) = SupervisorConfig(str(tmp_path / "supervisord.conf")).programs()
    assert program.command == ("uwsgi", "--yaml", CONFIG)


def test_systemd_units(host):
    host("systemd", "portal.service", f"[Service]\nExecStart=/venv/bin/uwsgi --yaml {CONFIG}\n")
    host("systemd", "galaxy-cleanup.service", "[Service]\nExecStart=/srv/cleanup\n")
    assert _found() == ("systemd", "portal")
    relative = "[Service]\nWorkingDirectory=/srv/galaxy\nExecStart=/venv/bin/uwsgi --yaml config/galaxy.yml\n"
    host("systemd", "portal.service", relative)
    assert _found() == ("systemd", "portal")


def test_a_unit_that_only_starts_supervisord_gives_way_to_the_program(host):
    host("systemd", "galaxy.service", "[Service]\nExecStart=/venv/bin/supervisord -n\n")
    host("supervisord", "supervisord.conf", _SERVER + f"[program:web]\ncommand=uwsgi --yaml {CONFIG}\n")
    assert _found() == ("supervisord", "web")
    assert _found(manager="systemd") == ("systemd", "galaxy")


def test_units_count_only_where_systemd_runs(host, tmp_path):
    host("systemd", "galaxy.service", f"[Service]\nExecStart=uwsgi --yaml {CONFIG}\n")
    (tmp_path / "systemd-runs").rmdir()
    assert _found() is None


@pytest.mark.parametrize(
    ("kind", "name", "manager"), [("init", "galaxy.conf", "upstart"), ("init.d", "galaxy", "sysvinit")]
)
def test_older_inits(host, kind, name, manager):
    host(kind, name, f"exec uwsgi --yaml {CONFIG}\n")
    assert _found() == (manager, "galaxy")


def test_upstart_and_sysv_commands_and_words():
    said = {"service.status": lambda name: True, "service.start": lambda name: False, "service.stop": lambda name: True}
    upstart = galaxy_manager_unit.InitScript("upstart", "galaxy", said)
    assert upstart.commands()["restart"] == ["initctl", "restart", "galaxy"]
    assert upstart.word().state is State.RUNNING
    with pytest.raises(ManagerError, match="initctl start galaxy failed"):
        upstart.start()
    script = galaxy_manager_unit.InitScript("sysvinit", "galaxy", said)
    assert script.commands()["stop"] == ["/etc/init.d/galaxy", "stop"]
    script.stop()


def test_a_configuration_that_cannot_be_read_is_named(host, tmp_path):
    path = host("supervisord", "supervisord.conf", "no section\n")
    with pytest.raises(ManagerError, match=path):
        _found()
    with pytest.raises(ManagerError, match=r"gone.conf: no such"):
        _found(conf_file=str(tmp_path / "gone.conf"))
    host("supervisord", "supervisord.conf", f"[program:web]\ncommand=uwsgi --yaml {CONFIG}\n")
    with pytest.raises(ManagerError, match="no unix_http_server section"):
        _found()
