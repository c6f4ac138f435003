"""The real Galaxy 26.1, from its start to its stop: `make galaxy`. The short form: `make galaxy-short`."""

import json
import os
import signal
import subprocess

import pytest
from support.balancer import Load, balancer
from support.masterless import Masterless
from support.real_galaxy import real_galaxy

from galaxy_host_wait import Deadline, wait_until

# long enough for a slow machine
TIMEOUT = 3600
# the short form, and the whole one
_ONE = {"gunicorns": 1}
_TWO = pytest.param({"gunicorns": 2, "postgres": True}, marks=pytest.mark.slow)
whole = pytest.mark.parametrize("galaxy", [_TWO], ids=["whole"], indirect=True)


@pytest.fixture(scope="module", params=[_ONE, _TWO], ids=["short", "whole"])
def galaxy(request):
    with real_galaxy(**request.param) as found:
        yield found


@pytest.fixture(scope="module")
def minion(galaxy, tree, tmp_path_factory):
    pillar = {"config": str(galaxy.config), "timeout": TIMEOUT, "min_workers": 2, "retries": 0}
    found = Masterless(tmp_path_factory.mktemp("minion"), tree, pillar)
    found.call("saltutil.sync_all")
    return found


@pytest.fixture(scope="module")
def served(galaxy, minion):
    """A Galaxy that ``state.apply galaxy`` has started."""
    assert minion.call("galaxy.status")["running"] is False
    minion.call("galaxy.update")
    _apply(galaxy, minion)
    return galaxy


@pytest.fixture(scope="module")
def port(served, tmp_path_factory):
    with balancer(tmp_path_factory.mktemp("nginx"), served.binds) as found:
        yield found


@pytest.fixture(scope="module")
def key(served, port):
    return served.user_key(port)


def _apply(galaxy, minion):
    """Run ``state.apply galaxy``, which must succeed. Returns its changes."""
    try:
        states = minion.call("state.apply", "galaxy")
    except subprocess.CalledProcessError as exc:
        raise AssertionError(f"{exc.stdout}\n{exc.stderr}\n{galaxy.log()}") from None
    return {name: state["changes"] for name, state in states.items() if state["changes"]}


def _services(minion):
    return minion.call("galaxy.status")["services"]


def _health(minion):
    return minion.call("galaxy.health", f"timeout={TIMEOUT}")


def _well(minion):
    """Its health, as soon as it is good: a process gives its first sign of life some time after its start."""
    well = wait_until(lambda: (now := _health(minion))["healthy"] and now, Deadline(TIMEOUT), interval=1)
    assert well, _health(minion)
    return well


def test_the_state_starts_it_and_a_second_run_changes_nothing(served, minion):
    found = minion.call("galaxy.status")
    assert (found["web_server"], found["ready"], found["ready_workers"]) == ("gunicorn", True, 2)
    assert found["galaxy_version"] == {"running": "26.1.1", "on_disk": "26.1.1"}
    gunicorns = ("gunicorn_0", "gunicorn_1") if len(served.binds) == 2 else ("gunicorn",)
    assert {name: service["role"] for name, service in found["services"].items()} == {
        **dict.fromkeys(gunicorns, "web"),
        **{"celery": "celery", "celery-beat": "celery-beat", "handler": "handler"},
    }
    assert len(json.dumps(found)) <= 1536, found
    assert _apply(served, minion) == {}


def test_all_of_it_is_well(served, minion):
    well = _well(minion)
    assert set(well["processes"]) >= {"handler_0"}
    # Galaxy calls the first worker of each gunicorn main.1, so these share a row
    assert [found["app_type"] for found in well["processes"].values()].count("webapp") == served.workers
    assert list(well["celery"].values()) == ["pong"]
    assert served.password not in json.dumps(well)


@whole
def test_requests_under_way_are_told_with_their_age(served, minion):
    held = served.hold(2)
    found = wait_until(lambda: (now := minion.call("galaxy.status"))["oldest_request"] and now, Deadline(60))
    assert found["workers"]["busy"] == 2, found
    busy = minion.call("galaxy.busy_workers")
    assert sorted(worker["in_flight"] for worker in busy) == [2, 2]
    for one in held:
        one.close()
    assert wait_until(lambda: minion.call("galaxy.status")["workers"]["busy"] == 0, Deadline(60))


@whole
def test_a_job_runs_before_and_after_a_restart(served, minion, port, key):
    assert served.run_job(port, key) == "hello\n"
    before = _services(minion)
    minion.call("galaxy.restart")
    after = _services(minion)
    assert {name for name in before if before[name]["pids"] == after[name]["pids"]} == set()
    assert served.run_job(port, key) == "hello\n"


@whole
def test_a_handler_that_is_stopped_is_found_and_named(served, minion):
    pid = _well(minion)["processes"]["handler_0"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        # the process manager does not notice
        assert _services(minion)["handler"]["state"] == "running"
        found = _health(minion)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert found["healthy"] is False
    assert found["problems"] == [f"handler_0 (PID {pid}) is stopped by a signal: kill -CONT {pid}, or restart it"]


@whole
def test_a_database_that_is_away_is_told_without_its_password(served, minion):
    served.stop_database()
    try:
        found = _health(minion)
    finally:
        served.start_database()
    assert found["healthy"] is None
    assert found["problems"] == [
        "The signs of life of Galaxy's processes could not be read (OperationalError): see its database"
    ]
    assert _well(minion)


@whole
def test_rolling_fails_no_request(served, minion, port, key):
    before = _services(minion)
    with Load(port) as load:
        done = minion.call("galaxy.restart", "rolling=True")
        load.reach(1000)
    assert (done["method"], done["ready"], load.failed) == ("rolling", True, [])
    after = _services(minion)
    assert {name for name in before if before[name]["pids"] == after[name]["pids"]} == set()
    assert served.run_job(port, key) == "hello\n"


def test_it_is_stopped(served, minion):
    minion.call("state.apply", "galaxy.stopped")
    found = minion.call("galaxy.status")
    assert (found["running"], found["ready"]) == (False, False)
    assert {service["state"] for service in found["services"].values()} == {"stopped"}
