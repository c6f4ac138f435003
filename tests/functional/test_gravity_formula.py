"""``state.apply galaxy`` for a Galaxy under Gravity, on a machine with systemd, with a boot that lacks the data."""

import json
import pathlib

import pytest
from support.bed import beds, virtualenv
from support.nspawn import machines, shares
from support.site import BIN, free_port

from galaxy_host_wait import Deadline, wait_until

_SLS = """
# as in docs/gravity.md
{config}:
  file.managed:
    - contents_pillar: configuration
galaxy's units:
  galaxy.updated:
    - watch:
      - file: {config}
galaxy:
  galaxy.running:
    - reload: True
    - settle: 0.5
    - watch:
      - file: {config}
      - galaxy: galaxy's units
"""
_HELD = """
include:
  - galaxy.settings
held:
  galaxy.held:
    - mounts: /export
running:
  galaxy.running:
    - mounts: /export
"""


@pytest.fixture(scope="module")
def share():
    yield from shares()


@pytest.fixture(scope="module")
def machine(share, tree):
    # made first, because the container sees only files that exist before its start
    virtualenv("bed")
    yield from machines("galaxy-formula", share)


@pytest.fixture
def make(share, machine):
    yield from beds(share=share, machine=machine, manager="systemd")


@pytest.fixture
def call(machine, share, tree):
    """``call(bed, function, *arguments, key=value)``: what the function returns. The keywords are added to pillar."""
    root = share / "minion"
    for name in ("pillar", "sls"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "pillar" / "top.sls").write_text("base:\n  '*':\n    - galaxy\n")
    (root / "minion").write_text(
        f"root_dir: {root}\nfile_client: local\nid: gravity\n"
        f"file_roots:\n  base:\n    - {tree}\n    - {tree / 'formulas'}\n    - {root / 'sls'}\n"
        f"pillar_roots:\n  base:\n    - {root / 'pillar'}\n"
    )

    def run(bed, function, *arguments, check=True, configuration=None, **more):
        boot = {"salt_call": str(BIN / "salt-call"), "config_dir": str(root)}
        galaxy = {"config": str(bed.config), "timeout": 60, "retries": 0, "boot": boot, **more}
        (root / "pillar" / "galaxy.sls").write_text(json.dumps({"galaxy": galaxy, "configuration": configuration}))
        argv = (BIN / "salt-call", "--local", "-c", root, "--out=json", "--log-level=error", function, *arguments)
        done = machine.run(*argv, check=check)
        assert done.stdout.lstrip().startswith("{"), done.stdout + done.stderr
        found = json.loads(done.stdout)["local"]
        if not function.startswith("state."):
            return found
        assert isinstance(found, dict), found
        return {state["__id__"]: state for state in found.values()}

    if not (root / "var").exists():
        machine.run(BIN / "salt-call", "--local", "-c", root, "--out=quiet", "saltutil.sync_all")
    return run


def _write(share, name, text):
    (share / "minion" / "sls" / f"{name}.sls").write_text(text)


def _show(machine, unit, *properties):
    lines = machine.run("systemctl", "show", f"--property={','.join(properties)}", unit).stdout.splitlines()
    found = dict(line.split("=", 1) for line in lines)
    return [found[name] for name in properties]


def _changes(done):
    return {name: state["changes"] for name, state in done.items() if state["changes"]}


def test_one_life(call, make, machine):
    bed = make(handlers=1)
    refused = call(bed, "state.apply", "galaxy", check=False, manage_service=True, manager="systemd", uwsgi="/u")
    assert "Remove manage_service from pillar, and set gravity_update" in refused["galaxy-service-config"]["comment"]
    assert refused["galaxy-service-running"]["result"] is False
    would = call(bed, "state.apply", "galaxy", "test=True", gravity_update=True)
    assert {name: state["result"] for name, state in would.items()} == {
        **{"galaxy-settings": True, "galaxy-service-updated": None, "galaxy-service-held": True},
        "galaxy-service-running": None,
    }
    first = call(bed, "state.apply", "galaxy", gravity_update=True)
    assert all(state["result"] for state in first.values()), first
    assert set(_changes(first)) == {"galaxy-service-updated", "galaxy-service-running"}
    status = call(bed, "galaxy.status")
    assert (status["ready"], status["manager"]["name"], status["web_server"]) == (True, "systemd", "gunicorn")
    for test in ("test=True", "test=False"):
        again = call(bed, "state.apply", "galaxy", test, gravity_update=True)
        assert _changes(again) == {}
    # a changed unit takes effect with a restart
    bed.write(memory_limit=2)
    done = call(bed, "state.apply", "galaxy", gravity_update=True)
    assert "+MemoryMax=2G" in done["galaxy-service-updated"]["changes"]["diff"]
    assert done["galaxy-service-running"]["changes"] == {"galaxy": "restarted"}
    pid = call(bed, "galaxy.master_pid")
    assert pid != status["pid"]
    assert call(bed, "state.apply", "galaxy.restarted")["galaxy-restarted"]["result"] is True
    assert call(bed, "galaxy.master_pid") != pid
    # one gunicorn becomes two: the old one is stopped, and both are started
    bed.binds.append(f"127.0.0.1:{free_port()}")
    bed.is_list = True
    bed.write()
    done = call(bed, "galaxy.update", "force=True")
    assert (done["stopped"], done["start"]["ready"]) == (["galaxy-gunicorn.service"], True)
    assert set(call(bed, "galaxy.status")["services"]) == {"gunicorn_0", "gunicorn_1", "handler"}
    assert call(bed, "state.apply", "galaxy.stopped")["galaxy-stopped"]["changes"]
    assert call(bed, "state.apply", "galaxy.stopped")["galaxy-stopped"]["changes"] == {}


@pytest.mark.slow
def test_units_of_a_users_systemd_are_found_or_refused_with_a_sentence(call, make, machine):
    bed = make(settings={"galaxy_user": None})
    uid = machine.run("id", "-u", bed.user).stdout.strip()
    machine.run("usermod", "--home", bed.root, bed.user)
    machine.run("install", "-d", "-o", bed.user, f"/run/user/{uid}")
    machine.run("systemctl", "start", f"user@{uid}.service")
    try:
        words = {**bed.environment, "XDG_RUNTIME_DIR": f"/run/user/{uid}"}
        as_user = ("setpriv", f"--reuid={uid}", "--regid=0", "--clear-groups", "env", "-C", bed.root)
        as_user = (*as_user, *(f"{key}={value}" for key, value in words.items()))
        machine.run(*as_user, bed.venv / "bin" / "galaxyctl", "--config-file", bed.config, "start")
        status = call(bed, "galaxy.status")
        said = " ".join(status["problems"])
        assert "no default.target of user games wants galaxy.target" in said
        # without machined, nobody can reach another user's manager
        is_reached = f"systemd's manager of user {bed.user} cannot be reached" not in said
        assert status["manager"]["name"] == "systemd"
        assert status["manager"]["active"] is (True if is_reached else None)
        bed.handlers = 1
        bed.write()
        plan = call(bed, "galaxy.update", "test=True")
        assert {pathlib.Path(path).parent for path in plan["added"]} == {bed.root / ".config" / "systemd" / "user"}
        refused = call(bed, "state.single", "galaxy.updated", "x", f"config={bed.config}", check=False)
        assert "These units belong to a user's systemd. Update them as games" in refused["x"]["comment"]
        refused = call(bed, "state.single", "galaxy.held", "x", f"config={bed.config}", "mounts=/", check=False)
        assert "set galaxy_user" in refused["x"]["comment"]
    finally:
        machine.run("systemctl", "stop", f"user@{uid}.service", check=False)


def test_a_changed_configuration_is_taken_up_one_gunicorn_at_a_time(call, make, share):
    bed = make(gunicorns=2)
    _write(share, "watched", _SLS.format(config=bed.config))
    first = call(bed, "state.apply", "watched", configuration=bed.config.read_text())
    assert all(state["result"] for state in first.values()), first
    before = call(bed, "galaxy.status")
    assert before["ready"]
    bed.workers = 3
    bed.write()
    written = bed.config.read_text()
    bed.workers = 2
    bed.write()
    done = call(bed, "state.apply", "watched", configuration=written)
    # the number of workers is in no unit, so a reload is enough
    assert set(_changes(done)) == {str(bed.config), "galaxy"}
    assert done["galaxy"]["changes"] == {"galaxy": "reloaded"}
    after = call(bed, "galaxy.status")
    assert (after["workers"]["total"], after["problems"]) == (6, [])
    assert _changes(call(bed, "state.apply", "watched", configuration=written)) == {}


@pytest.fixture
def export(machine):
    """A function that mounts a filesystem on ``/export``."""
    machine.run("mkdir", "-p", "/export")
    yield lambda: machine.run("mount", "-t", "tmpfs", "tmpfs", "/export")
    machine.run("umount", "/export", check=False)


def test_after_a_power_cut_nothing_starts_before_its_data_is_there(call, make, machine, share, export):
    bed = make(handlers=2)
    _write(share, "held", _HELD)
    bed.update()
    export()
    done = call(bed, "state.apply", "held")
    assert all(state["result"] for state in done.values()), done
    units = ("galaxy-gunicorn", "galaxy-handler@0", "galaxy-handler@1")
    assert {name for path in done["held"]["changes"] for name in path.split("/") if name.endswith(".d")} == {
        *("galaxy-gunicorn.service.d", "galaxy-handler@.service.d"),
    }
    # the drop-in survives Gravity's updates, and is not taken for a unit of Galaxy
    bed.update("--force")
    assert bed.update().stdout == ""
    assert call(bed, "galaxy.status")["problems"] == []
    assert _changes(call(bed, "state.apply", "held")) == {}
    assert all(state["result"] for state in call(bed, "state.apply", "galaxy.boot.unit").values())
    assert not any(state["changes"] for state in call(bed, "state.apply", "galaxy.boot.unit").values())
    machine.cut_the_power()
    # the boot wants Gravity's target, and Galaxy's own boot finds no data
    machine.run("systemctl", "start", "multi-user.target")
    for unit in units:
        assert wait_until(lambda name=unit: _show(machine, name, "AssertResult") == ["no"], Deadline(60))
        assert _show(machine, unit, "ActiveState", "NRestarts") == ["inactive", "0"]
    status = call(bed, "galaxy.status")
    assert (status["running"], status["manager"]["state"]) == (False, "failed")
    assert "an assertion of its unit failed, see systemctl status galaxy-gunicorn" in " ".join(status["problems"])
    # the boot fails soon, and is tried again
    assert wait_until(lambda: _show(machine, "salt-galaxy-boot", "SubState") == ["auto-restart"], Deadline(120))
    machine.run("systemctl", "stop", "salt-galaxy-boot")
    export()
    machine.run("systemctl", "start", "salt-galaxy-boot")
    assert call(bed, "galaxy.status")["ready"] is True
    done = call(bed, "state.apply", "galaxy.service.clean")
    assert all(state["result"] for state in done.values()), done
    assert machine.run("sh", "-c", "ls -d /etc/systemd/system/galaxy*.d", check=False).stdout == ""
    assert all(state["result"] for state in call(bed, "state.apply", "galaxy.boot.clean").values())


@pytest.mark.slow
def test_what_starts_gravitys_supervisord_is_held(call, share, machine, export):
    makers = beds(share=share)
    bed = next(makers)()
    command = f"{bed.venv}/bin/galaxyctl --config-file {bed.config} start --foreground"
    for name, line in (("galaxy-by-gravity", command), ("another", "/bin/sleep 1000")):
        # only the unit says where Gravity's own files are
        lines = f"WorkingDirectory=/\nEnvironment=GRAVITY_STATE_DIR={bed.root}/state\nExecStart={line}\n"
        text = f"# {bed.root}\n[Service]\nUser={bed.user}\n{lines}"
        machine.run("sh", "-c", 'printf "%s" "$0" >"$1"', text, f"/etc/systemd/system/{name}.service")
    machine.run("systemctl", "daemon-reload")
    done = call(bed, "galaxy.hold", "mounts=/export")
    assert list(done) == ["/etc/systemd/system/galaxy-by-gravity.service.d/salt-galaxy.conf"]
    assert machine.run("systemctl", "start", "galaxy-by-gravity", check=False).returncode != 0
    export()
    machine.run("systemctl", "start", "galaxy-by-gravity")
    assert wait_until(lambda: call(bed, "galaxy.status")["ready"], Deadline(60))
    status = call(bed, "galaxy.status")
    assert (status["problems"], status["manager"]["state"]) == ([], "running")
    assert call(bed, "galaxy.update")["changed"] is False
    assert call(bed, "galaxy.restart")["start"]["pid"] not in (None, status["pid"])
    machine.run("systemctl", "stop", "galaxy-by-gravity")
    assert list(call(bed, "galaxy.hold", "absent=True")) == list(done)
    makers.close()


@pytest.mark.slow
def test_a_supervisord_that_cron_starts_while_the_boot_does(call, share, machine):
    makers = beds(share=share)
    bed = next(makers)(gunicorns=2, celery=True, handlers=1)
    bed.update()
    line = f"@reboot {bed.venv}/bin/galaxyctl --config-file {bed.config} start"
    machine.run("sh", "-c", 'echo "$0" | crontab -u "$1" -', line, bed.user)
    assert all(state["result"] for state in call(bed, "state.apply", "galaxy.boot.unit").values())
    machine.cut_the_power()
    # cron starts at the same moment as Galaxy's boot
    machine.run("systemctl", "start", "cron", "salt-galaxy-boot")
    assert _show(machine, "salt-galaxy-boot", "Result", "NRestarts") == ["success", "0"]
    status = call(bed, "galaxy.status")
    assert (status["ready"], status["manager"]["name"], status["problems"]) == (True, "supervisord", [])
    assert len(machine.run("pgrep", "-u", bed.user, "-f", "supervisord -c").stdout.split()) == 1
    assert _changes(call(bed, "state.apply", "galaxy")) == {}
    restarted = call(bed, "galaxy.restart")
    assert restarted["start"]["pid"] not in (None, status["pid"])
    assert call(bed, "galaxy.reload", "settle=0.1")["method"] == "rolling"
    assert call(bed, "state.apply", "galaxy.stopped")["galaxy-stopped"]["changes"]
    # supervisord itself runs on, until Gravity stops it too
    assert call(bed, "galaxy.start")["ready"] is True
    machine.run("runuser", "-u", bed.user, "--", f"{bed.venv}/bin/galaxyctl", "--config-file", bed.config, "stop")
    assert call(bed, "galaxy.status")["manager"]["term"] == "supervisord is not running"
    assert call(bed, "galaxy.start")["ready"] is True
    assert all(state["result"] for state in call(bed, "state.apply", "galaxy.boot.clean").values())
    machine.run("crontab", "-u", bed.user, "-r")
    makers.close()
