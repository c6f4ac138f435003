"""Rows of a fleet, whatever its minions answer."""

import json

import pytest
from support.answers import down, status, workers

import galaxy_fleet
import galaxy_spec
from galaxy_settings import Settings


def _row(**facts):
    (row,) = galaxy_fleet.rows("one", {"main": status(**facts)})
    return row


def test_a_server_that_is_ready():
    assert _row(workers=workers(idle=1, busy=2, saturated=1, cheap=3), oldest_request=4.5) == {
        **{"minion": "one", "server": "main", "state": "ready", "ready_workers": 2, "workers": 4, "busy": 3},
        **{"stuck": 0, "oldest_request": 4.5, "queue": 0, "queue_limit": 100, "companions": None},
        **{"web_server": None, "version": "2.0.30", "uptime": 7300, "problems": []},
    }


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ({}, "ready"),
        ({"problems": ["a handler is down."]}, "degraded"),
        ({"workers": workers(idle=1, stuck=1)}, "degraded"),
        ({"ready": False, "ready_workers": 1}, "degraded"),
        ({"ready": False, "ready_workers": 0}, "not ready"),
        ({"ready": False, "ready_workers": None}, "not ready"),
        ({"running": False, "ready": False}, "down"),
        ({"running": None, "ready": None}, "unknown"),
        ({"running": True, "ready": None}, "unknown"),
        ({"running": None, "ready": True}, "ready"),
        ({"services": {"handler": {"role": "handler", "state": "running"}}}, "ready"),
        ({"services": {"handler": {"role": "handler", "state": "failed"}}}, "degraded"),
        ({"services": {"gunicorn": {"role": "web", "state": "failed"}}}, "ready"),
    ],
)
def test_the_state_of_a_server(facts, state):
    assert _row(**facts)["state"] == state


def test_what_a_galaxy_under_gunicorn_has_besides():
    services = {
        "gunicorn": {"role": "web", "state": "running", "pids": [1], "restarts": 0},
        "celery": {"role": "celery", "state": "running"},
        "tusd": {"role": "tusd", "state": "retrying"},
    }
    versions = {"running": "25.0", "on_disk": "25.1"}
    row = _row(web_server="gunicorn", galaxy_version=versions, services=services)
    assert (row["web_server"], row["version"]) == ("gunicorn", "25.0")
    assert row["companions"] == {"running": 1, "all": 2}
    assert row["problems"] == ["tusd is retrying."]


def test_one_server_without_a_name_and_several():
    (row,) = galaxy_fleet.rows("one", status(server=None))
    assert row["server"] is None
    assert [row["server"] for row in galaxy_fleet.rows("one", {"a": status(), "b": down()})] == ["a", "b"]


def test_a_minion_without_a_galaxy_has_no_row():
    with pytest.raises(Exception, match="pillar") as caught:
        galaxy_spec.resolve_all({}, Settings({"pillar": {}}))
    assert galaxy_fleet.rows("one", f"ERROR executing 'galaxy.status': {caught.value}") == []


def test_an_answer_without_problems():
    (row,) = galaxy_fleet.rows("one", status(problems=None))
    assert (row["state"], row["problems"]) == ("ready", [])


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        (None, "The answer is malformed: it is a NoneType."),
        ([], "The answer is malformed: it is a list."),
        (True, "The answer is malformed: it is a bool."),
        ({}, "The answer is malformed: it has no `running`."),
        ({"main": []}, "The answer is malformed: the answer is a list."),
        ({"main": status(running="yes")}, "The answer is malformed: running is a str."),
        ({"main": status(ready=1)}, "The answer is malformed: ready is a int."),
        ({"main": status(workers=[])}, "The answer is malformed: workers is a list."),
        ({"main": status(workers={"total": "2"})}, "The answer is malformed: workers:total is a str."),
        ({"main": status(workers={"total": -1})}, "The answer is malformed: workers:total is out of range."),
        ({"main": status(uptime=float("nan"))}, "The answer is malformed: uptime is out of range."),
        ({"main": status(uptime=10**400)}, "The answer is malformed: uptime is out of range."),
        ({"main": status(problems="none")}, "The answer is malformed: problems is a str."),
        ({"main": status(services={"x": []})}, "The answer is malformed: a service is a list."),
        ({"main": status(version=["\x1b"])}, "The answer is malformed: version is a list."),
        ({"main": "ERROR: \x1b[2Jno\nmore"}, r"ERROR: \x1b[2Jno more"),
        ("ERROR: two\nlines", "ERROR: two lines"),
        ("'galaxy.status' is not available.", "galaxy.status is not there: run salt one saltutil.sync_all"),
    ],
)
def test_an_answer_of_another_shape_is_unknown_with_the_reason(returned, reason):
    (row,) = galaxy_fleet.rows("one", returned)
    assert (row["state"], row["problems"]) == ("unknown", [reason])


def test_no_answer_is_endless():
    huge = "x" * 10**6
    returned = {f"{number}{huge}": status(problems=[huge] * 1000, version=huge) for number in range(200)}
    rows = galaxy_fleet.rows("one", returned)
    assert len(rows) == galaxy_fleet.SERVERS + 1
    assert rows[-1]["problems"] == ["The answer is malformed: it names 200 servers."]
    most = galaxy_fleet.SERVERS * (galaxy_fleet.PROBLEMS + 3) * galaxy_fleet.TEXT
    assert len(json.dumps(rows)) < 2 * most
    services = {str(number): {"role": "handler", "state": huge} for number in range(10**5)}
    assert _row(services=services)["companions"]["all"] == galaxy_fleet.SERVICES


def test_the_worst_comes_first_and_all_are_counted():
    answers = {
        "d": galaxy_fleet.rows("d", {"main": status(), "bad": status(problems=["x"])}),
        "c": galaxy_fleet.rows("c", down()),
        "b": [],
        "a": galaxy_fleet.rows("a", "ERROR"),
    }
    found = galaxy_fleet.fleet(answers, ["z", "y"])
    assert [(row["state"], row["minion"]) for row in found["rows"]] == [
        *[("down", "c"), ("silent", "y"), ("silent", "z"), ("unknown", "a"), ("degraded", "d"), ("ready", "d")],
    ]
    counts = {"down": 1, "silent": 2, "not ready": 0, "unknown": 1, "degraded": 1, "ready": 1}
    assert found["totals"] == {"minions": 6, "servers": 4, **counts}
    assert (found["silent"], found["without"], found["retcode"]) == (["y", "z"], ["b"], 2)


@pytest.mark.parametrize(
    ("states", "code"),
    [
        (["ready"], 0),
        (["ready", "degraded"], 1),
        (["ready", "down"], 2),
        (["silent", "unknown"], 2),
        (["not ready"], 2),
        (["unknown", "degraded"], 3),
        ([], 0),
    ],
)
def test_the_exit_code_is_that_of_the_worst(states, code):
    assert galaxy_fleet.exit_code([{"state": state} for state in states]) == code


def test_a_fleet_without_a_galaxy_is_no_success():
    assert galaxy_fleet.fleet({"one": []}, [])["retcode"] == 3


def test_the_line_of_a_monitoring_plugin():
    rows = galaxy_fleet.rows("one", {"main": status(workers=workers(idle=1, busy=1), oldest_request=2.5)})
    assert galaxy_fleet.check_line(rows) == (
        "GALAXY OK - ready, 2 of 2 workers ready | workers=2;;;0;2 busy=1;;;0;2 queue=0;;;0;100 oldest_request=2.5s;;;0"
    )
    rows = galaxy_fleet.rows("one", {"a 'b'=c": status(), "bad": down(problems=["no | here\nmore"])})
    said, _, numbers = galaxy_fleet.check_line(rows).partition(" | ")
    assert said == (
        "GALAXY CRITICAL - a 'b'=c ready, 2 of 2 workers ready; bad down, 0 of 0 workers ready: no / here more"
    )
    assert numbers.split()[0] == "a__b__c_workers=2;;;0;2"
    assert galaxy_fleet.check_line(galaxy_fleet.rows("one", "ERROR: no")) == "GALAXY UNKNOWN - unknown: ERROR: no"
