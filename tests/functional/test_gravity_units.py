"""Units of a real Gravity, under its supervisord and under systemd."""

import json
import os
import pickle
import signal
import textwrap

import pytest
from support.bed import beds, virtualenv
from support.nspawn import machines, shares
from support.site import BIN, REPO

import galaxy_gravity_units
import galaxy_host_sockets
import galaxy_manager_supervisor_rpc
from galaxy_errors import ManagerError
from galaxy_host_process import Process
from galaxy_host_wait import Deadline, wait_until
from galaxy_manager_unit import State
from galaxy_server import Galaxy
from galaxy_spec import Spec


def _status(bed, name):
    return galaxy_gravity_units.statuses(galaxy_gravity_units.find(bed.instance()).units)[name]


def _await(bed, condition, *names):
    """The statuses, as soon as all units in ``names`` meet the condition; without names, all units."""

    def look():
        found = galaxy_gravity_units.statuses(galaxy_gravity_units.find(bed.instance()).units)
        return found if all(condition(found[name]) for name in names or found) else None

    found = wait_until(look, Deadline(60))
    assert found, bed.log()
    return found


def _runs(status):
    return status.state is State.RUNNING


def _count(monkeypatch, owner, name):
    """A list that grows with each call."""
    function, calls = getattr(owner, name), []
    monkeypatch.setattr(owner, name, lambda *given: calls.append(given) or function(*given))
    return calls


def _titles(units):
    return {name: unit.service for name, unit in units.items()}


def test_one_life_under_supervisord(make_bed, monkeypatch):
    bed = make_bed(gunicorns=2, celery=True, handlers=2)
    names = ["gunicorn_0", "gunicorn_1", "celery", "celery-beat", "handler_0", "handler_1"]
    found = galaxy_gravity_units.find(bed.instance())
    assert (found.units, found.missing, found.stale) == ({}, tuple(names), ())
    assert found.problems == (f"Configured but not installed: {', '.join(names)}; run galaxyctl update.",)

    bed.update()
    found = galaxy_gravity_units.find(bed.instance())
    assert (found.missing, found.stale, found.problems) == ((), (), ())
    assert _titles(found.units) == {
        **{"gunicorn_0": "gunicorn:gunicorn_0", "gunicorn_1": "gunicorn:gunicorn_1"},
        **{"celery": "celery", "celery-beat": "celery-beat"},
        **{"handler_0": "handler:handler_0", "handler_1": "handler:handler_1"},
    }
    stopped = galaxy_gravity_units.statuses(found.units)
    assert {(one.state, one.active, one.pids) for one in stopped.values()} == {(State.STOPPED, False, ())}

    # Gravity has not started a supervisord here yet
    found.units["handler_0"].start()
    running = _await(bed, _runs)
    assert [running[name].restarts for name in names] == [0] * 6
    assert all(one.main_pid and one.pids == (one.main_pid,) and one.age < 600 for one in running.values())
    uid = bed.gates.stat().st_uid
    assert {Process.of(one.main_pid).uids for one in running.values()} == {(uid, uid)}
    said = bed.galaxyctl("status").stdout
    assert all(f"pid {one.main_pid}" in said for one in running.values())
    assert found.units["gunicorn_1"].owns(Process.of(running["gunicorn_1"].main_pid))
    assert not found.units["gunicorn_1"].owns(Process.of(running["gunicorn_0"].main_pid))
    assert wait_until(lambda: "handler handler_1" in found.units["handler_1"].log(5), Deadline(180))

    # for a look, supervisord is called once, and the kernel walks through all connections once
    _await(bed, lambda one: one.main_pid, "gunicorn_0", "gunicorn_1")
    galaxy = Galaxy(Spec(config=str(bed.config)), {})
    assert wait_until(lambda: all(one.master for one in galaxy.look(5).services[-2:]), Deadline(180))
    asked = [
        _count(monkeypatch, galaxy_host_sockets, "connections"),
        _count(monkeypatch, galaxy_manager_supervisor_rpc.Client, "call"),
    ]
    assert galaxy.look(5, probe=False).running
    assert list(map(len, asked)) == [1, 1]
    monkeypatch.undo()

    found.units["handler_0"].stop()
    assert _status(bed, "handler_0").state is State.STOPPED
    assert _status(bed, "handler_1").state is State.RUNNING
    bed.stop()
    stopped = galaxy_gravity_units.statuses(found.units)
    assert {(one.state, one.raw, one.active) for one in stopped.values()} == {
        (State.STOPPED, "supervisord is not running", False)
    }
    assert bed.processes() == []


def test_one_that_comes_back_by_itself_is_told(make_bed):
    bed = make_bed(handlers=2)
    bed.start()
    first = _await(bed, _runs)["handler_0"]
    os.kill(first.main_pid, signal.SIGKILL)
    again = _await(bed, lambda one: _runs(one) and one.main_pid not in (None, first.main_pid), "handler_0")
    assert again["handler_0"].restarts == 1
    assert "started handler:handler_0 again once by itself" in again["handler_0"].problems[0]
    assert (again["handler_1"].restarts, again["handler_1"].problems) == (0, ())
    # a crash loop, in which supervisord says RUNNING most of the time
    bed.open("handler_1.dies")
    loop = _await(bed, lambda one: (one.restarts or 0) > 1 and one.problems, "handler_1")["handler_1"]
    assert "it may crash again and again" in loop.problems[0]
    assert loop.active
    bed.close("handler_1.dies")
    unit = galaxy_gravity_units.find(bed.instance()).units["handler_1"]
    unit.stop()
    unit.start()
    assert _await(bed, _runs, "handler_1")["handler_1"].restarts == 0


def test_with_an_instance_name_under_supervisord(make_bed):
    bed = make_bed(gunicorns=2, handlers=1, name="main")
    bed.start()
    found = galaxy_gravity_units.find(bed.instance())
    assert _titles(found.units) == {
        **{"gunicorn_0": "main:gunicorn0", "gunicorn_1": "main:gunicorn1", "handler_0": "main:handler"},
    }
    running = _await(bed, _runs)
    assert running["handler_0"].restarts == 0
    found.units["gunicorn_0"].stop()
    assert [one.state for one in galaxy_gravity_units.statuses(found.units).values()] == [
        *(State.STOPPED, State.RUNNING, State.RUNNING)
    ]
    # without the instance name, the installed programs are old ones
    bed.name = None
    bed.write(instance_name=None)
    found = galaxy_gravity_units.find(bed.instance())
    assert (found.units, found.missing) == ({}, ("gunicorn_0", "gunicorn_1", "handler_0"))
    assert found.stale == ("main:gunicorn0", "main:gunicorn1", "main:handler")
    assert found.problems[1].startswith("Installed but no longer configured: main:gunicorn0, ")


def test_a_supervisord_that_does_not_answer_is_not_called_stopped(make_bed):
    bed = make_bed()
    bed.start()
    running = _await(bed, _runs)["gunicorn"]
    (bed.state / "supervisor" / "supervisor.sock").unlink()
    status = _status(bed, "gunicorn")
    assert (status.state, status.active) == (State.UNKNOWN, None)
    unit = galaxy_gravity_units.find(bed.instance()).units["gunicorn"]
    for deed in (unit.stop, unit.start):
        with pytest.raises(ManagerError, match="PID"):
            deed()
    # a process that outlives its supervisord is reported
    supervisord = int((bed.state / "supervisor" / "supervisord.pid").read_text())
    os.kill(supervisord, signal.SIGKILL)
    assert wait_until(lambda: Process.of(supervisord) is None, Deadline(180))
    status = _status(bed, "gunicorn")
    assert (status.state, status.active) == (State.STOPPED, False)
    assert running.main_pid in status.pids
    assert "still runs" in status.problems[0]
    with pytest.raises(ManagerError, match="still runs"):
        unit.stop()


_PRELUDE = f"""
import json, os, pickle, signal, sys
sys.path.insert(0, {str(REPO / "_utils")!r})
import galaxy_gravity_units
from galaxy_host_process import Process
from galaxy_host_wait import Deadline, wait_until

instance = pickle.load(open(sys.argv[1], "rb"))
found = galaxy_gravity_units.find(instance)
units = found.units

def ask():
    return galaxy_gravity_units.statuses(galaxy_gravity_units.find(instance).units)

def wait(condition, *names):
    def look():
        said = ask()
        return said if all(condition(said[name]) for name in names or said) else None
    said = wait_until(look, Deadline(60))
    assert said, ask()
    return said

def is_running(one):
    return one.state.value == "running"

def show(**facts):
    print(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def share():
    yield from shares()


@pytest.fixture(scope="module")
def machine(share):
    # made first, because the container sees only files that exist before its start
    virtualenv("bed")
    yield from machines("galaxy-gravity", share)


@pytest.fixture
def make_systemd_bed(machine, share):
    yield from beds(machine=machine, share=share, manager="systemd")


@pytest.fixture
def inside(machine, share):
    """A function that runs Python in the machine, with ``instance`` and ``units`` of a bed. Returns what it prints."""

    def run(bed, code):
        (share / "instance").write_bytes(pickle.dumps(bed.instance()))
        (share / "code.py").write_text(_PRELUDE + textwrap.dedent(code))
        return json.loads(machine.run(BIN / "python", share / "code.py", share / "instance").stdout)

    return run


_NAMES = """
names = {name: unit.service for name, unit in units.items()}
show(units=names, missing=found.missing, stale=found.stale, told=found.problems)
"""


def test_one_life_under_systemd(make_systemd_bed, inside):
    bed = make_systemd_bed(gunicorns=2, handlers=2)
    bed.update()
    said = inside(
        bed,
        """
        before = {name: (one.state.value, one.active, one.pids) for name, one in ask().items()}
        for unit in units.values():
            unit.start()
        said = wait(is_running)
        show(
            units={name: unit.service for name, unit in units.items()},
            told=[found.missing, found.stale, found.problems],
            before=before,
            owns=[units["handler_0"].owns(Process.of(said[name].main_pid)) for name in ("handler_0", "handler_1")],
            facts={name: [one.restarts, one.can_reload, one.main_pid in one.pids] for name, one in said.items()},
            ages=all(one.age < 600 for one in said.values()),
            users=[Process.of(one.main_pid).uids[0] for one in said.values()],
        )
        """,
    )
    names = ["gunicorn_0", "gunicorn_1", "handler_0", "handler_1"]
    assert said["units"] == {name: f"galaxy-{name.replace('_', '@')}" for name in names}
    assert said["told"] == [[], [], []]
    assert said["before"] == {name: ["stopped", False, []] for name in names}
    assert said["owns"] == [True, False]
    assert said["facts"] == {name: [0, False, True] for name in names}
    assert said["ages"]
    assert set(said["users"]) == {bed.gates.stat().st_uid}

    said = inside(
        bed,
        """
        first = ask()
        os.kill(first["handler_0"].main_pid, signal.SIGKILL)
        killed = first["handler_0"].main_pid
        again = wait(lambda one: is_running(one) and one.main_pid not in (None, killed), "handler_0")
        process = Process.of(again["gunicorn_0"].main_pid)
        units["gunicorn_0"].stop()
        show(
            restarts={name: one.restarts for name, one in again.items()},
            problems=again["handler_0"].problems,
            gone=not process.is_alive,
            after={name: one.state.value for name, one in ask().items()},
        )
        """,
    )
    assert said["restarts"] == {name: int(name == "handler_0") for name in names}
    assert "systemd started galaxy-handler@0 again once by itself" in said["problems"][0]
    assert said["gone"]
    assert said["after"] == {name: "stopped" if name == "gunicorn_0" else "running" for name in names}


def test_a_failed_unit_is_started_again_under_systemd(make_systemd_bed, inside, machine):
    bed = make_systemd_bed(preload=False, handlers=1)
    bed.open("handler_0.dies")
    bed.update()
    # it fails after two starts, however slow the machine is
    folder = "/etc/systemd/system/galaxy-handler.service.d"
    text = f"# {bed.root}\n[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=2\n"
    machine.run("mkdir", "-p", folder)
    machine.run("sh", "-c", 'printf "%s" "$0" >"$1"', text, f"{folder}/limit.conf")
    machine.run("systemctl", "daemon-reload")
    said = inside(
        bed,
        """
        for unit in units.values():
            unit.start()
        failed = wait(lambda one: one.state.value == "failed", "handler_0")["handler_0"]
        web = wait(is_running, "gunicorn")["gunicorn"]
        os.unlink(os.path.join(os.path.dirname(os.path.dirname(instance.path)), "gates", "handler_0.dies"))
        # within the limit of starts that it has used up
        units["handler_0"].start()
        again = wait(is_running, "handler_0")["handler_0"]
        show(failed=[failed.raw, failed.active], reload=web.can_reload, again=again.restarts)
        """,
    )
    assert said == {"failed": ["failed (failed)", False], "reload": True, "again": 0}


def test_whose_units_are_whose_under_systemd(make_systemd_bed, inside, machine):
    one = make_systemd_bed(handlers=3, name="one")
    other = make_systemd_bed(name="other")
    one.update()
    other.update()
    said = inside(one, _NAMES)
    assert said == {
        "units": {
            **{"gunicorn": "galaxy-one-gunicorn"},
            **{f"handler_{number}": f"galaxy-one-handler@{number}" for number in range(3)},
        },
        **{key: [] for key in ("missing", "stale", "told")},
    }
    assert inside(other, _NAMES)["units"] == {"gunicorn": "galaxy-other-gunicorn"}
    # another configuration file with the same instance name
    other.name = "one"
    other.write(instance_name="one")
    said = inside(other, _NAMES)
    assert (said["units"], said["missing"]) == ({}, ["gunicorn"])
    assert said["stale"] == ["galaxy-other.target", "galaxy-other-gunicorn.service"]
    assert "galaxy-one.target belongs to another Gravity configuration" in said["told"][0]
    assert not any("not installed" in sentence for sentence in said["told"])
    # with one handler less, Gravity's update does not stop the old one
    machine.run("systemctl", "start", "galaxy-one-handler@2")
    one.handlers = 2
    one.write()
    for _ in range(2):
        said = inside(one, _NAMES)
        assert (said["missing"], said["stale"]) == ([], ["galaxy-one-handler@2.service"])
        assert said["told"][0].startswith("Installed but no longer configured: galaxy-one-handler@2.service; run ")
        one.update()


def test_the_verbs_under_systemd(make_systemd_bed, inside):
    bed = make_systemd_bed(gunicorns=2, handlers=1, celery=True)
    bed.update()
    said = inside(
        bed,
        """
        import galaxy_control, galaxy_reload, galaxy_status
        from galaxy_server import Galaxy
        from galaxy_spec import Limits, Spec

        galaxy = Galaxy(Spec(config=instance.path), {})
        limits = Limits(timeout=240, min_workers=2, settle=0.5)

        def status():
            return galaxy_status.read(galaxy, limits, 5)

        def pids(found):
            return {name: one["pids"] for name, one in found["services"].items()}

        down = status()
        first = galaxy_control.startup(galaxy, limits)
        up = status()
        again = galaxy_control.startup(galaxy, limits)
        rolled = galaxy_reload.reload(galaxy, limits)
        after = status()
        stopped = galaxy_control.stop(galaxy, 40)
        end = status()
        show(
            down=[down["running"], down["ready"], down["manager"]["state"]],
            first=[first["changed"], first["ready"], first["manager"]],
            up=[up["running"], up["ready"], up["problems"], up["galaxy_version"]["running"]],
            states=sorted({one["state"] for one in up["services"].values()}),
            again=again["changed"],
            rolled=[rolled["method"], rolled["ready"], after["problems"]],
            kept=sorted(name for name in pids(up) if pids(up)[name] == pids(after)[name]),
            stopped=[stopped["changed"], stopped["signals"]],
            left=sorted({pid for one in pids(after).values() for pid in one} - set(stopped["stopped"])),
            end=[end["running"], sorted({one["state"] for one in end["services"].values()})],
        )
        """,
    )
    assert said["down"] == [False, False, "stopped"]
    assert said["first"] == [True, True, "systemd"]
    assert said["up"] == [True, True, [], "26.1.1"]
    assert (said["states"], said["again"]) == (["running"], False)
    assert said["rolled"] == ["rolling", True, []]
    assert (said["kept"], said["left"], said["stopped"]) == ([], [], [True, []])
    assert said["end"] == [False, ["stopped"]]
