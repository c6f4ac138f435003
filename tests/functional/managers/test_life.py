"""The same tests under every manager: a definition is found, started, found by its master, stopped."""

import json
import os
import pathlib
import subprocess

import pytest
from support.site import BIN

LIFE = pathlib.Path(__file__).with_name("life.py")


def _argv(site, **keywords):
    return [str(BIN / "python"), str(LIFE), str(site.config), site.socket, json.dumps(keywords)]


def _here(site, **keywords):
    done = subprocess.run(_argv(site, **keywords), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _check(said, manager, service, tells=True):
    """What holds under each manager. An init script does not tell who owns a process."""
    assert (said["manager"], said["service"]) == (manager, service)
    assert said["before"] == {"state": "stopped", "active": False, "problems": []}
    assert said["running"] == {"state": "running", "active": True, "problems": []}
    assert said["again"] == [manager, service]
    assert said["owns"] is (True if tells else None)
    assert said["owns worker"] is (True if tells else None)
    assert said["owns stranger"] is (False if tells else None)
    assert said["pids"] is tells
    assert said["left"] == []
    assert said["after"] == {"state": "stopped", "active": False, "problems": []}
    assert said["owns after"] is (False if tells else None)
    assert said["third"] == f"{manager} {service}"
    assert set(said["commands"]) == {"start", "stop", "restart", "status", "startup"}


def test_supervisord(make_site, supervisord):
    site = make_site()
    supervisord.program("web", site.command, group="galaxy", environment='GALAXY_MARK="x,y"', directory=site.root)
    supervisord.start()
    said = _here(site)
    _check(said, "supervisord", "galaxy")
    assert said["argv"] == site.command
    assert (said["cwd"], said["environment"]) == (str(site.root), "x,y")
    assert "spawned uWSGI worker 1" in said["log"]
    assert said["commands"]["stop"][1:] == ["-c", str(supervisord.conf_file), "stop", "galaxy:"]


def test_supervisord_through_a_shell(make_site, supervisord):
    site = make_site()
    (supervisord.root / "x").mkdir()
    command = f"/bin/sh -c 'cd {site.root} && exec {site.command[0]} --yaml config/galaxy.yml'"
    supervisord.program("portal", [command])
    supervisord.start()
    said = _here(site)
    _check(said, "supervisord", "portal")
    assert (said["argv"], said["cwd"]) == ([site.command[0], "--yaml", "config/galaxy.yml"], str(site.root))


def test_supervisord_when_a_wrapper_stays(make_site, supervisord):
    site = make_site()
    command = f"/bin/sh -c 'cd {site.root}; {site.command[0]} --yaml config/galaxy.yml; true'"
    supervisord.program("portal", [command], stopasgroup="true")
    supervisord.start()
    _check(_here(site), "supervisord", "portal")


@pytest.fixture
def script(make_site):
    if os.path.isdir("/run/systemd/system"):
        pytest.skip("systemd is PID 1 here, and runs the scripts as units")
    site = make_site()
    path = pathlib.Path("/etc/init.d/galaxy-under-test")
    path.write_text(
        "#!/bin/sh\n### BEGIN INIT INFO\n# Provides: galaxy-under-test\n# Required-Start:\n# Required-Stop:\n"
        "# Default-Start: 2 3 4 5\n# Default-Stop: 0 1 6\n### END INIT INFO\n# not for /etc/other.yml\n"
        f'CONFIG={site.config}\nGALAXY_MARK=x\ncase "$1" in\nstart) {site.command[0]} --yaml $CONFIG --daemonize '
        f'{site.log} ;;\nstop) kill -INT "$(cat {site.options["pidfile"]})" ;;\n'
        f'status) grep -q uwsgi "/proc/$(cat {site.options["pidfile"]})/cmdline" ;;\nesac\n'
    )
    path.chmod(0o755)
    copy = path.with_name("galaxy-under-test.dpkg-old")
    copy.write_text(path.read_text())
    copy.chmod(0o755)
    link = path.with_name("galaxy-web")
    link.symlink_to(path)
    yield site
    for one in (path, copy, link):
        one.unlink()


def test_sysvinit(script):
    said = _here(script, salt=True)
    _check(said, "sysvinit", "galaxy-under-test", tells=False)
    assert said["argv"][:3] == script.command
    assert said["commands"]["start"] == ["/etc/init.d/galaxy-under-test", "start"]


def _write(machine, path, text):
    machine.run("mkdir", "-p", str(pathlib.Path(path).parent))
    machine.run("sh", "-c", 'printf "%s" "$0" >"$1"', text, path)


@pytest.fixture
def service(machine):
    """A function that writes unit files, which are removed afterwards."""
    written = []

    def write(**files):
        for name, text in files.items():
            path = f"/etc/systemd/system/{name.replace('__', '/')}"
            written.append(path)
            _write(machine, path, text)
        machine.run("systemctl", "daemon-reload")

    yield lambda files: write(**files)
    for path in written:
        machine.run("rm", "-rf", path)
    machine.run("systemctl", "daemon-reload")


def _there(machine, site, **keywords):
    done = machine.run(*_argv(site, **keywords), check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_systemd(machine, shared_site, service):
    site = shared_site
    _write(machine, "/etc/galaxy.env", "# secret\nGALAXY_MARK='from file'\n")
    unit = (
        f"[Unit]\nDescription=uwsgi --yaml /other.yml\n[Service]\nWorkingDirectory={site.root}\n"
        f"EnvironmentFile=-/etc/galaxy.env\nExecStart={site.command[0]} --yaml config/galaxy.yml\nKillSignal=SIGINT\n"
    )
    service({"portal.service": unit})
    said = _there(machine, site)
    _check(said, "systemd", "portal")
    assert said["argv"] == [site.command[0], "--yaml", "config/galaxy.yml"]
    assert (said["cwd"], said["environment"]) == (str(site.root), "from file")
    assert "spawned uWSGI worker 1" in said["log"]
    assert said["commands"]["stop"] == ["systemctl", "stop", "portal"]


def test_systemd_through_a_shell_that_stays_and_a_drop_in(machine, shared_site, service):
    site = shared_site
    drop_in = f'[Service]\nExecStart=\nExecStart=-/bin/sh -c "cd {site.root}; {BIN}/uwsgi --yaml config/%p.yml; true"\n'
    service(
        {
            "galaxy.service": f"[Service]\nExecStart={BIN}/uwsgi --yaml /srv/other.yml\nKillSignal=SIGINT\n",
            "galaxy.service.d/over.conf": drop_in,
        }
    )
    said = _there(machine, site)
    _check(said, "systemd", "galaxy")
    assert (said["argv"], said["cwd"]) == ([f"{BIN}/uwsgi", "--yaml", "config/galaxy.yml"], str(site.root))


def test_systemd_instance_of_a_template(machine, shared_site, service):
    site = shared_site
    name = site.config.name.removesuffix(".yml")
    unit = (
        f"[Service]\nExecStart={BIN}/uwsgi --yaml {site.config.parent}/%I.yml\nKillSignal=SIGINT\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )
    service({"uwsgi@.service": unit})
    machine.run("systemctl", "enable", f"uwsgi@{name}.service", "uwsgi@other.service")
    try:
        _check(_there(machine, site), "systemd", f"uwsgi@{name}")
    finally:
        machine.run("systemctl", "disable", f"uwsgi@{name}.service", "uwsgi@other.service")


def test_systemd_runs_an_init_script_as_a_unit(machine, shared_site):
    site = shared_site
    text = (
        "#!/bin/sh\n### BEGIN INIT INFO\n# Provides: galaxy\n# Required-Start:\n# Required-Stop:\n"
        f'# Default-Start: 2 3 4 5\n# Default-Stop: 0 1 6\n### END INIT INFO\ncase "$1" in\n'
        f"start) {BIN}/uwsgi --yaml {site.config} --daemonize {site.log} ;;\n"
        f'stop) kill -INT "$(cat {site.options["pidfile"]})" ;;\nesac\n'
    )
    _write(machine, "/etc/init.d/galaxy", text)
    machine.run("chmod", "0755", "/etc/init.d/galaxy")
    machine.run("systemctl", "daemon-reload")
    try:
        said = _there(machine, site)
        assert (said["manager"], said["service"], said["again"]) == ("systemd", "galaxy", ["systemd", "galaxy"])
        assert (said["owns"], said["owns stranger"], said["left"]) == (True, False, [])
    finally:
        machine.run("rm", "/etc/init.d/galaxy")
        machine.run("systemctl", "daemon-reload")
