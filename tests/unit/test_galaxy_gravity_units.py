"""What is told of units. tests/functional/test_gravity_units.py has real ones."""

import dataclasses

import pytest
from support.bed import configured

import galaxy_gravity_systemd
import galaxy_gravity_units
import galaxy_manager_systemd
from galaxy_errors import ManagerError
from galaxy_manager_systemd import Systemd
from galaxy_manager_unit import State, Unit, UnitStatus


class _Unit(Unit):
    manager = "test"

    def __init__(self, service, said):
        super().__init__(service)
        self.said = said

    def status(self):
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


def test_a_manager_that_cannot_be_asked(tmp_path):
    found = galaxy_gravity_units.find(configured(tmp_path, manager="multiprocessing", gunicorn=1))
    assert (found.units, found.missing) == ({}, ("gunicorn",))
    (problem,) = found.problems
    assert "process_manager multiprocessing, with which no service can be asked" in problem


def test_nothing_installed(tmp_path):
    found = galaxy_gravity_units.find(configured(tmp_path, gunicorn=2))
    assert (found.units, found.missing, found.stale) == ({}, ("gunicorn_0", "gunicorn_1"), ())
    assert found.problems == ("Configured but not installed: gunicorn_0, gunicorn_1; run galaxyctl update.",)


def test_systemd_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(galaxy_manager_systemd, "runs", lambda: False)
    monkeypatch.setattr(galaxy_gravity_systemd, "PLACES", (str(tmp_path),))
    found = galaxy_gravity_units.find(configured(tmp_path, manager="systemd", gunicorn=1))
    assert "wants systemd, which does not run here" in found.problems[0]


_RUNS = UnitStatus(State.RUNNING, "RUNNING", active=True, age=5.0)


@pytest.mark.parametrize(
    ("restarts", "age", "problems"),
    [
        (None, 5.0, ()),
        (0, 5.0, ()),
        (1, 5.0, ("test started x again once by itself, 5 s ago.",)),
        (7, 5.0, ("test started x again 7 times by itself, 5 s ago for the last time: it may crash again and again.",)),
        (7, 601.0, ()),
        (7, None, ()),
    ],
)
def test_one_that_comes_back_by_itself(restarts, age, problems):
    status = dataclasses.replace(_RUNS, restarts=restarts, age=age)
    found = galaxy_gravity_units.statuses({"x": _Unit("x", status)})["x"]
    assert (found.problems, found.state) == (problems, State.RUNNING)


def test_each_manager_is_asked_once_and_its_silence_is_its_own(monkeypatch):
    asked = []

    def statuses(units):
        asked.append([unit.service for unit in units])
        if units[0].user:
            raise ManagerError("cannot be reached")
        return [_RUNS] * len(units)

    monkeypatch.setattr(galaxy_manager_systemd, "statuses", statuses)
    units = {"a": Systemd("a"), "b": Systemd("b", "galaxy"), "c": Systemd("c"), "d": _Unit("d", ManagerError("no"))}
    found = galaxy_gravity_units.statuses(units)
    assert asked == [["a", "c"], ["b"]]
    assert list(found) == ["a", "b", "c", "d"]
    assert found["a"] == found["c"] == _RUNS
    assert [str(found[name]) for name in ("b", "d")] == ["cannot be reached", "no"]
    assert galaxy_gravity_units.statuses({}) == {}
