"""What ``galaxy.status`` says about a look."""

import json
import re

import pytest
from support.document import core, worker
from support.look import ADDRESS, FakeProcess, FakeUnit, look

import galaxy_status
from galaxy_manager_unit import State
from galaxy_spec import Limits, Spec


class _Galaxy:
    spec = Spec("main", "/srv/galaxy.yml")
    web_server = "uwsgi"
    stats_address = str(ADDRESS)
    unusable = ()
    configurations = ()

    def version_on_disk(self):
        return None


def _record(*workers, limits=None, **facts):
    return galaxy_status.record(_Galaxy(), look(*workers, **facts), limits or Limits())


def test_a_galaxy_that_serves():
    found = _record(worker(), worker(), unit=FakeUnit(), master=FakeProcess(7))
    assert json.loads(json.dumps(found)) == found
    assert (found["server"], found["running"], found["accepting"], found["ready"]) == ("main", True, True, True)
    assert (found["ready_workers"], found["pid"], found["problems"]) == (2, 7, [])
    assert found["manager"] == {
        **{"name": "systemd", "service": "galaxy", "state": "running", "term": "RUNNING", "active": True},
    }


def test_what_cannot_be_told_is_null_with_a_reason():
    found = _record()
    assert (found["running"], found["accepting"], found["ready"], found["ready_workers"]) == (None,) * 4
    assert found["problems"] == [
        "Nothing says where Galaxy listens, no live uWSGI names its configuration, and no process manager has it."
    ]
    assert _record(errors=["the reason"])["problems"] == ["the reason"]


def test_a_galaxy_that_is_down():
    found = _record(silent=True, errors=["connection refused"])
    assert (found["running"], found["accepting"], found["ready"], found["ready_workers"]) == (False, False, False, 0)
    assert (found["pid"], found["uptime"], found["version"], found["listen_queue"]) == (None,) * 4


def test_fewer_workers_than_wanted():
    found = _record(worker(), worker(apps=[]), master=FakeProcess(7), limits=Limits(min_workers=2))
    assert (found["ready"], found["ready_workers"]) == (False, 1)
    assert found["problems"] == ["1 of 2 wanted workers is ready."]


@pytest.mark.parametrize(
    ("unit", "runs", "problem"),
    [
        (FakeUnit(State.RUNNING), True, None),
        (FakeUnit(State.RUNNING), False, "systemd reports RUNNING for galaxy, but Galaxy does not answer."),
        (FakeUnit(State.STOPPED, False), True, "systemd reports STOPPED for galaxy, but Galaxy runs."),
        (FakeUnit(State.STOPPED, False), False, "systemd reports STOPPED for galaxy."),
        (FakeUnit(State.STARTING), True, None),
        (FakeUnit(problems=["handler0 is down."]), True, "handler0 is down."),
    ],
)
def test_the_manager_and_galaxy_may_disagree(unit, runs, problem):
    facts = {"master": FakeProcess(7)} if runs else {"silent": True}
    workers = [worker()] if runs else []
    assert _record(*workers, unit=unit, **facts)["problems"] == ([problem] if problem else [])


def test_settings_that_cannot_be_used_are_problems_once():
    class Galaxy(_Galaxy):
        unusable = ("galaxy.yml:3: stats is no address",)

    for errors in ([], ["galaxy.yml:3: stats is no address"]):
        found = galaxy_status.record(Galaxy(), look(silent=True, errors=errors), Limits())
        assert found["problems"] == ["galaxy.yml:3: stats is no address"]


def test_who_answers_without_a_socket_of_the_servers_is_named():
    (problem,) = _record(worker())["problems"]
    assert re.fullmatch(r"The stats server 127.0.0.1:9191 names PID \d+, which holds none of the .* here\.", problem)


def test_workers_by_state_and_on_demand_each():
    busy = worker(status="busy", cores=[core(1), core()])
    found = galaxy_status.record(_Galaxy(), look(busy, worker(), master=FakeProcess(7)), Limits(), verbose=True)
    assert {key: count for key, count in found["workers"].items() if count} == {"total": 2, "busy": 1, "idle": 1}
    assert [one["state"] for one in found["worker_records"]] == ["busy", "idle"]


def test_what_was_started_before_its_configuration_was_changed(tmp_path):
    path = tmp_path / "galaxy.yml"
    path.touch()
    changed = path.stat().st_mtime

    def problems(*spawned, path=path):
        galaxy = _Galaxy()
        galaxy.configurations = [str(path)]
        workers = [worker(last_spawn=int(when)) for when in spawned]
        found = galaxy_status.record(galaxy, look(*workers, unit=FakeUnit(), master=FakeProcess(7)), Limits())
        return found["problems"]

    said = f"{path} was changed after uwsgi was started: a restart or reload takes it up."
    assert problems(changed - 10) == [said]
    # one worker was respawned later, the others were not
    assert problems(changed + 10, changed - 10) == [said]
    # uWSGI cuts times to the second; a worker that was never started has no time
    assert problems(changed - 1, changed + 5, 0) == []
    assert problems(0) == []
    assert problems(changed - 10, path=tmp_path / "gone") == []
