"""The units of a real Gravity, under its supervisord and under systemd."""

import os
import signal

import pytest

import galaxy_gravity_units
from galaxy_errors import ManagerError
from galaxy_host_process import Process
from galaxy_host_wait import Deadline, wait_until
from galaxy_manager_unit import State


def _status(bed, name):
    return galaxy_gravity_units.statuses(galaxy_gravity_units.find(bed.instance()).units)[name]


def _await(bed, condition, *names):
    """The statuses once all of those named fulfil the condition."""

    def look():
        found = galaxy_gravity_units.statuses(galaxy_gravity_units.find(bed.instance()).units)
        return found if all(condition(found[name]) for name in names or found) else None

    found = wait_until(look, Deadline(60))
    assert found, bed.log()
    return found


def _runs(status):
    return status.state is State.RUNNING


def _titles(units):
    return {name: unit.service for name, unit in units.items()}


def test_one_life_under_supervisord(make_bed):
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

    # Gravity has never started a supervisord here
    found.units["handler_0"].start()
    running = _await(bed, _runs)
    assert [running[name].restarts for name in names] == [0] * 6
    assert all(one.main_pid and one.pids == (one.main_pid,) and one.age < 60 for one in running.values())
    uid = bed.gates.stat().st_uid
    assert {Process.of(one.main_pid).uids for one in running.values()} == {(uid, uid)}
    said = bed.galaxyctl("status").stdout
    assert all(f"pid {one.main_pid}" in said for one in running.values())
    assert found.units["gunicorn_1"].owns(Process.of(running["gunicorn_1"].main_pid))
    assert not found.units["gunicorn_1"].owns(Process.of(running["gunicorn_0"].main_pid))
    assert wait_until(lambda: "handler handler_1" in found.units["handler_1"].log(5), Deadline(20))

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
    # a crash loop that supervisord calls RUNNING most of the time
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
    # the name is dropped: what is installed is an old set
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
    # what outlives its supervisord is said
    supervisord = int((bed.state / "supervisor" / "supervisord.pid").read_text())
    os.kill(supervisord, signal.SIGKILL)
    assert wait_until(lambda: Process.of(supervisord) is None, Deadline(10))
    status = _status(bed, "gunicorn")
    assert (status.state, status.active) == (State.STOPPED, False)
    assert running.main_pid in status.pids
    assert "still runs" in status.problems[0]
    with pytest.raises(ManagerError, match="still runs"):
        unit.stop()
