"""Detection by definitions alone; the managers themselves are tested for real elsewhere."""

import pytest

import galaxy_detection
import galaxy_manager
import galaxy_supervisor
from galaxy_errors import ManagerError
from galaxy_manager import State
from galaxy_supervisor import SupervisorConfig

CONFIG = "/srv/galaxy/config/galaxy.yml"


@pytest.fixture
def host(tmp_path, monkeypatch):
    """An empty machine whose definitions lie in ``tmp_path``; ``host(kind, name, text)`` writes one."""
    systemd = tmp_path / "systemd"
    systemd.mkdir()
    monkeypatch.setattr(galaxy_detection, "_UNIT_DIRECTORIES", (str(systemd),))
    monkeypatch.setattr(galaxy_detection, "_SYSTEMD_RUNS", str(tmp_path / "systemd-runs"))
    monkeypatch.setattr(galaxy_detection, "_UPSTART_JOBS", str(tmp_path / "init" / "*.conf"))
    monkeypatch.setattr(galaxy_detection, "_INIT_SCRIPTS", str(tmp_path / "init.d" / "*"))
    monkeypatch.setattr(galaxy_supervisor, "CONFIG_FILES", (str(tmp_path / "supervisord.conf"),))
    monkeypatch.setattr(galaxy_supervisor.psutil, "pids", list)
    monkeypatch.setattr(galaxy_detection.shutil, "which", lambda name: None)

    def write(kind, name, text):
        if kind == "systemd":
            (tmp_path / "systemd-runs").mkdir(exist_ok=True)
        if kind == "init":
            monkeypatch.setattr(galaxy_detection.shutil, "which", lambda name: f"/sbin/{name}")
        directory = tmp_path if kind == "supervisord" else tmp_path / kind
        directory.mkdir(exist_ok=True)
        (directory / name).write_text(text)
        return str(directory / name)

    return write


def _found(**keywords):
    manager = galaxy_detection.detect({}, config=CONFIG, **keywords)
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
    upstart = galaxy_manager.InitScript("upstart", "galaxy", said)
    assert upstart.commands()["restart"] == ["initctl", "restart", "galaxy"]
    assert upstart.word().state is State.RUNNING
    with pytest.raises(ManagerError, match="initctl start galaxy failed"):
        upstart.start()
    script = galaxy_manager.InitScript("sysvinit", "galaxy", said)
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
