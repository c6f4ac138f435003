"""What the user on the master sees: ``salt '*' …``."""

import json

import pytest

from galaxy_host_wait import Deadline, wait_until
from galaxy_uwsgi_worker import WorkerState


def _states(returned):
    """The state's return by minion and state ID, without the check of pillar, which must succeed."""
    found = {minion: {state["__id__"]: state for state in states.values()} for minion, states in returned.items()}
    for states in found.values():
        assert states.pop("galaxy-settings")["result"] is True
    return found


def test_a_fleet_that_is_down_answers(salt_cli, galaxies):
    for minion, status in salt_cli("galaxy.status").items():
        assert status["running"] is False
        assert status["config"] == str(galaxies[minion][0].config)
        assert status["problems"]


def test_state_apply_test_first_and_second(salt_cli, galaxies):
    would = _states(salt_cli("state.apply", "galaxy", test=True))
    assert {state["result"] for states in would.values() for state in states.values()} == {None}
    assert all(site.read() is None for site, _ in galaxies.values())
    first = _states(salt_cli("state.apply", "galaxy"))
    assert sorted(first) == sorted(galaxies)
    for states in first.values():
        assert all(state["result"] and state["changes"] for state in states.values()), states
    assert all(site.get() == b"Galaxy\n" for site, _ in galaxies.values())
    again = _states(salt_cli("state.apply", "galaxy"))
    for states in again.values():
        assert all(state["result"] is True and not state["changes"] for state in states.values()), states


def test_status_of_a_fleet_that_serves(salt_cli, galaxies):
    _states(salt_cli("state.apply", "galaxy"))
    returned = salt_cli("galaxy.status")
    assert sorted(returned) == sorted(galaxies)
    for minion, status in returned.items():
        assert status["ready"], status
        assert status["pid"] == galaxies[minion][0].read().pid
        assert status["manager"]["state"] == "running"
        assert len(json.dumps(status)) <= 1024


def test_busy_workers_while_requests_hang(salt_cli, galaxies):
    salt_cli("state.apply", "galaxy")
    site, _ = galaxies["galaxy-one"]
    assert salt_cli("galaxy.busy_workers") == {minion: [] for minion in galaxies}
    site.hold(4, gate="fleet")
    returned = salt_cli("galaxy.busy_workers")
    assert returned["galaxy-two"] == []
    busy = returned["galaxy-one"]
    assert sum(worker["busy_cores"] for worker in busy) == 4
    assert {worker["state"] for worker in busy} == {"saturated"}
    assert {request["uri"] for worker in busy for request in worker["in_request"]} == {"/hold/fleet"}
    assert "topsecret" not in json.dumps(returned)
    pids = salt_cli("galaxy.busy_workers", pids_only=True, target="galaxy-one")
    assert pids == [worker["pid"] for worker in busy]
    site.open("fleet")
    assert wait_until(lambda: site.read().count(WorkerState.IDLE) == 2, Deadline(180))


def test_metrics_are_written_by_a_schedule(salt_cli, galaxies, tmp_path):
    minion = "galaxy-one"
    path = tmp_path / "galaxy.prom"
    pillar = {
        "galaxy": {"config": str(galaxies[minion][0].config), "monitoring": {"metrics": str(path), "interval": 1}}
    }

    def apply(pillar, **more):
        (state,) = _states(
            {minion: salt_cli("state.apply", "galaxy.monitoring", target=minion, pillar=pillar, **more)}
        )[minion].values()
        return state["result"], bool(state["changes"])

    # in test mode, Salt's schedule.present returns True instead of None, but it schedules nothing
    apply(pillar, test=True)
    assert apply(pillar) == (True, True)
    assert wait_until(path.exists, Deadline(180))
    first = path.stat().st_ino
    assert wait_until(lambda: path.stat().st_ino != first, Deadline(180))
    assert "galaxy_look_success{" in path.read_text()
    assert apply(pillar) == (True, False)
    pillar["galaxy"]["monitoring"] = {}
    assert apply(pillar) == (True, True)
    assert apply(pillar) == (True, False)


def test_a_killed_galaxy_is_back_after_state_apply(salt_cli, galaxies):
    salt_cli("state.apply", "galaxy")
    salt_cli("galaxy.stop")
    assert all(site.read() is None for site, _ in galaxies.values())
    back = _states(salt_cli("state.apply", "galaxy"))
    for states in back.values():
        assert states["galaxy-service-running"]["changes"]["galaxy"]["new"]["ready"] is True


def test_a_changed_util_is_used_by_the_next_job_after_a_sync(salt_cli, tree):
    """The daemons run on, but use the new util."""
    salt_cli("state.apply", "galaxy")
    path = tree / "_utils" / "galaxy_uwsgi_stats.py"
    before = path.read_text()
    try:
        path.write_text(
            before.replace(
                "def read(",
                "def read(*_, **__):\n    raise StatsClosed('here', 'changed util')\n\n\ndef _old_read(",
            )
        )
        changed = salt_cli("saltutil.sync_all")
        assert all(done["utils"] == ["utils.galaxy_uwsgi_stats"] for done in changed.values()), changed
        for status in salt_cli("galaxy.status").values():
            assert any("changed util" in problem for problem in status["problems"]), status
    finally:
        path.write_text(before)
        salt_cli("saltutil.sync_all")
    assert all(status["ready"] for status in salt_cli("galaxy.status").values())


@pytest.mark.parametrize("sls", ["galaxy.stopped", "galaxy.service.clean"])
def test_and_down_again(salt_cli, galaxies, sls):
    for states in _states(salt_cli("state.apply", sls)).values():
        assert all(state["result"] for state in states.values()), states
    assert all(site.read() is None for site, _ in galaxies.values())
