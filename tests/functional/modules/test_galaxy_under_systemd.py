"""With a real systemd: detection, start, stop, failure, and the formula's unit."""

import json

import pytest
from support.nspawn import machines, shares
from support.site import BIN, PLAIN_APP, Site

from galaxy_host_wait import Deadline, wait_until


@pytest.fixture(scope="module")
def share():
    """The directory that this machine and the container both see."""
    yield from shares()


@pytest.fixture(scope="module")
def machine(share, tree):
    yield from machines("galaxy-test", share)


@pytest.fixture(scope="module")
def site(share):
    return Site(share / "galaxy")


@pytest.fixture(scope="module")
def call(machine, share, site, tree):
    """``call(function, *arguments)``: what the function returns on a masterless minion in the machine."""
    config = share / "minion"
    (config / "pillar").mkdir(parents=True)
    (config / "pillar" / "top.sls").write_text("base:\n  '*':\n    - galaxy\n")
    (config / "pillar" / "galaxy.sls").write_text(
        json.dumps(
            {
                "galaxy": {
                    **{"config": str(site.config), "manager": "systemd", "manage_service": True, "user": "root"},
                    **{
                        "group": "root",
                        "root": str(site.root),
                        "uwsgi": str(BIN / "uwsgi"),
                        "timeout": 60,
                        "retries": 0,
                    },
                }
            }
        )
    )
    (config / "minion").write_text(
        f"root_dir: {config}\nfile_client: local\nid: systemd\n"
        f"file_roots:\n  base:\n    - {tree}\n    - {tree / 'formulas'}\n"
        f"pillar_roots:\n  base:\n    - {config / 'pillar'}\n"
    )

    def run(function, *arguments, check=True):
        done = machine.run(
            *(BIN / "salt-call", "--local", "-c", config, "--out=json", "--log-level=error", function, *arguments),
            check=check,
        )
        return json.loads(done.stdout)["local"] if done.stdout.lstrip().startswith("{") else done.stderr

    run("saltutil.sync_all")
    return run


def test_state_apply_writes_the_unit_and_ends_ready(call, machine, site):
    would = call("state.apply", "galaxy", "test=True", check=False)
    assert {state["result"] for state in would.values() if state["__id__"] != "galaxy-settings"} == {None}
    assert machine.run("systemctl", "cat", "galaxy.service", check=False).returncode != 0
    first = call("state.apply", "galaxy")
    assert all(state["result"] for state in first.values()), first
    assert site.read().accepting == 2
    again = call("state.apply", "galaxy")
    assert not any(state["changes"] for state in again.values()), again
    assert machine.run("systemctl", "is-enabled", "galaxy.service").stdout.strip() == "enabled"


def test_status_names_the_unit(call):
    status = call("galaxy.status")
    assert status["ready"]
    assert status["manager"] == {
        **{"name": "systemd", "service": "galaxy", "state": "running", "term": "active (running)", "active": True},
    }
    assert status["problems"] == []


@pytest.fixture
def unmanaged(share):
    """Pillar names no manager and no service, and the formula writes no unit."""
    pillar = share / "minion" / "pillar" / "galaxy.sls"
    before = pillar.read_text()
    given = json.loads(before)["galaxy"]
    pillar.write_text(json.dumps({"galaxy": {key: given[key] for key in ("config", "timeout", "retries")}}))
    yield
    pillar.write_text(before)


def test_the_unit_is_found_by_what_it_runs(call, machine, site, unmanaged):
    """Neither manager nor service is named, and the unit's name tells nothing."""
    assert call("galaxy.commands")["stop"] == ["systemctl", "stop", "galaxy"]
    unit = machine.run("systemctl", "cat", "galaxy.service").stdout
    call("galaxy.stop")
    machine.run("rm", "/etc/systemd/system/galaxy.service")
    machine.run("sh", "-c", 'printf "%s" "$0" >/etc/systemd/system/portal.service', unit)
    machine.run("systemctl", "daemon-reload")
    assert call("galaxy.commands")["service"] == "portal"
    assert call("galaxy.start")["ready"]
    assert call("galaxy.stop")["changed"]
    machine.run("mv", "/etc/systemd/system/portal.service", "/etc/systemd/system/galaxy.service")
    machine.run("systemctl", "daemon-reload")
    assert call("galaxy.start")["ready"]


def test_a_changed_unit_restarts(call, site):
    pid = call("galaxy.master_pid")
    done = call("state.apply", "galaxy", 'pillar={"galaxy": {"environment": {"GALAXY_MARK": "x"}}}')
    changed = [state for state in done.values() if state["changes"]]
    assert [state["changes"] for state in changed if state["__id__"] == "galaxy-service-running"] == [
        {"galaxy": "restarted"}
    ]
    assert call("galaxy.master_pid") != pid


def test_stop_and_stopped(call, site):
    done = call("galaxy.stop")
    assert (done["changed"], done["manager"], done["signals"]) == (True, "systemd", [])
    assert not call("galaxy.stop")["changed"]
    status = call("galaxy.status")
    assert (status["running"], status["manager"]["state"]) == (False, "stopped")
    assert "systemd reports inactive (dead) for galaxy." in status["problems"]
    again = call("state.apply", "galaxy.stopped")
    assert [(state["result"], state["changes"]) for state in again.values()] == [(True, {})] * 2


def test_a_unit_that_fails_ends_the_waiting_with_its_log(call, site):
    site.write(need_app="true")
    site.open("broken")
    try:
        text = call("galaxy.start", "timeout=120", check=False)
        assert "systemd reports" in text
        # the second text: systemd may have started the next one already
        assert "result exit-code" in text or "a new start" in text
        assert "no app loaded" in text
    finally:
        (site.gates / "broken").unlink()


def test_restarted_and_clean(call, machine, site):
    machine.run("systemctl", "reset-failed", "galaxy.service")
    done = call("state.apply", "galaxy.restarted")
    assert all(state["result"] for state in done.values()), done
    assert call("galaxy.accepting")
    done = call("state.apply", "galaxy.service.clean")
    assert all(state["result"] for state in done.values()), done
    assert wait_until(lambda: site.read() is None, Deadline(180))
    assert machine.run("systemctl", "cat", "galaxy.service", check=False).returncode != 0
    again = call("state.apply", "galaxy.service.clean")
    assert not any(state["changes"] for state in again.values()), again


def test_startup_brings_up_the_packaged_supervisord_through_its_unit(call, machine, share):
    """The layout of distributions: /etc/supervisor, programs in conf.d, a unit called supervisor."""
    site = Site(share / "supervised")
    config = (
        "[unix_http_server]\nfile=/run/supervisor.sock\n[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
        "[supervisord]\nlogfile=/run/supervisord.log\npidfile=/run/supervisord.pid\n"
        "[supervisorctl]\nserverurl=unix:///run/supervisor.sock\n[include]\nfiles = /etc/supervisor/conf.d/*.conf\n"
    )
    program = f"[program:web]\ncommand={' '.join(site.command)}\nautostart=false\nstopsignal=INT\n"
    unit = f"[Service]\nExecStart={BIN}/supervisord -n -c /etc/supervisor/supervisord.conf\n"
    machine.run("mkdir", "-p", "/etc/supervisor/conf.d")
    for path, text in (
        ("/etc/supervisor/supervisord.conf", config),
        ("/etc/supervisor/conf.d/web.conf", program),
        ("/etc/systemd/system/supervisor.service", unit),
    ):
        machine.run("sh", "-c", 'printf "%s" "$0" >"$1"', text, path)
    machine.run("systemctl", "daemon-reload")
    given = [f"config={site.config}", "manager=supervisord", "service=web"]
    down = call("galaxy.status", *given)["manager"]
    assert (down["name"], down["service"], down["state"]) == ("supervisord", "web", "stopped")
    done = call("galaxy.startup", *given)
    assert (done["changed"], done["ready"], done["service"]) == (True, True, "web")
    assert machine.run("systemctl", "is-active", "supervisor").stdout.strip() == "active"
    assert call("galaxy.status", *given)["problems"] == []
    assert call("galaxy.stop", *given)["changed"]
    machine.run("systemctl", "stop", "supervisor")


def test_the_units_user_is_galaxys_and_nobody_else(call, machine, share):
    """Root owns the configuration, so the unit tells who Galaxy's user is. Another user's uWSGI is not Galaxy."""
    site = Site(share / "users", pidfile=None, mule=None, farm=None)
    (site.root / "lib/galaxy/webapps/galaxy/buildapp.py").write_text(PLAIN_APP)
    unit = f"[Service]\nUser=games\nExecStart={' '.join(site.command)}\n"
    machine.run("sh", "-c", 'printf "%s" "$0" >/etc/systemd/system/games.service', unit)
    machine.run("systemctl", "daemon-reload")
    given = [f"config={site.config}", "manager=systemd", "service=games"]
    pidfile = site.root / "by-hand.pid"

    def by_hand(user):
        machine.run(*site.command, "--uid", user, "--pidfile", pidfile, "--daemonize", site.log)
        assert wait_until(lambda: site.get() == b"Galaxy", Deadline(60)), site.log.read_text()
        return int(pidfile.read_text())

    stranger = by_hand("nobody")
    status = call("galaxy.status", *given)
    assert (status["pid"], status["ready"]) == (None, False)
    said = f"PID {stranger}, which serves there, runs as user nobody, but systemd games runs Galaxy as user games"
    assert said in " ".join(status["problems"])
    assert call("galaxy.stop", *given, "force=True")["stopped"] == []
    machine.run("kill", "-0", stranger)
    machine.run("kill", "-QUIT", stranger)
    assert wait_until(lambda: machine.run("kill", "-0", stranger, check=False).returncode, Deadline(60))
    own = by_hand("games")
    status = call("galaxy.status", *given)
    assert (status["pid"], status["ready"]) == (own, True)
    assert "systemd did not start it as games" in call("galaxy.start", *given, check=False)
    assert {"pid": own, "signal": "SIGINT"} in call("galaxy.stop", *given, "force=True", "timeout=5")["signals"]


@pytest.fixture
def booted(share, machine, call):
    """A Galaxy under its own supervisord, which nothing has started yet. Pillar tells the boot to start it."""
    machine.run("ln", "-sf", BIN / "supervisord", "/usr/local/bin/supervisord")
    site = Site(share / "booted")
    conf_file = site.root / "supervisord.conf"
    conf_file.write_text(
        f"[unix_http_server]\nfile={site.root}/supervisor.sock\n[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
        f"[supervisord]\nlogfile={site.root}/supervisord.log\npidfile={site.root}/supervisord.pid\n"
        f"[program:web]\ncommand={' '.join(site.command)}\nautostart=false\nstopsignal=INT\n"
        f"[supervisorctl]\nserverurl=unix://{site.root}/supervisor.sock\n"
    )
    pillar = share / "minion" / "pillar" / "galaxy.sls"
    before = pillar.read_text()
    galaxy = {
        **{"config": str(site.config), "manager": "supervisord", "service": "web", "conf_file": str(conf_file)},
        **{"timeout": 60, "retries": 0},
        "boot": {"salt_call": str(BIN / "salt-call"), "config_dir": str(share / "minion")},
    }
    pillar.write_text(json.dumps({"galaxy": galaxy}))
    yield site
    pillar.write_text(before)


def test_what_the_boot_unit_starts_outlives_its_restart_and_its_end(call, machine, booted):
    pillar = 'pillar={"galaxy": {"boot": {"salt_call": "/no/such"}}}'
    wrong = call("state.apply", "galaxy.boot.unit", pillar, check=False)
    assert {state["__id__"]: state["result"] for state in wrong.values()} == {
        **{"galaxy-boot-unit-salt-call": False, "galaxy-boot-unit-file": False, "galaxy-boot-unit-enabled": False},
        "galaxy-boot-unit-renamed": False,
    }
    done = call("state.apply", "galaxy.boot.unit")
    assert all(state["result"] for state in done.values()), done
    machine.run("systemctl", "start", "salt-galaxy-boot")
    assert machine.run("systemctl", "is-enabled", "salt-galaxy-boot").stdout.strip() == "enabled"
    pid = booted.read().pid
    machine.run("systemctl", "restart", "salt-galaxy-boot")
    done = call("state.apply", "galaxy.boot.clean")
    assert all(state["result"] for state in done.values()), done
    assert machine.run("systemctl", "is-active", "salt-galaxy-boot", check=False).stdout.strip() == "inactive"
    again = call("state.apply", "galaxy.boot.clean")
    assert not any(state["changes"] for state in again.values()), again
    assert booted.read().pid == pid
    assert call("galaxy.stop")["changed"]
