"""In which order the gunicorns of a Galaxy are restarted, and when the restart stops halfway."""

import pytest
from support.document import worker
from support.look import FakeProcess, FakeUnit, service_look

import galaxy_host_lock
import galaxy_reload
from galaxy_errors import NotReady, ProcessError
from galaxy_look import Look
from galaxy_manager_unit import State
from galaxy_service import Role
from galaxy_spec import Limits, Spec

_SOON = Limits(timeout=5, settle=0.01)


class _Unit(FakeUnit):
    """A unit that runs or does not, and writes down what it was told."""

    def __init__(self, service, told, works=True):
        super().__init__()
        self.service, self.told, self._works = service, told, works

    def start(self):
        self.told.append(f"start {self.service}")
        if self._works:
            self.now = FakeUnit().now

    def stop(self):
        self.told.append(f"stop {self.service}")
        self.now = FakeUnit(State.STOPPED, False).now


class _Web:
    """A web server that has its workers while its unit runs."""

    gap_of_reload = "new code that is broken takes Galaxy down"

    def __init__(self, unit):
        self.unit = unit

    def readiness(self, *_):
        found = service_look(worker() if self.unit.now.state is State.RUNNING else worker(accepting=0))
        return found.snapshot

    def probe(self, *_):
        pass

    def told(self, _):
        pass

    def find_master(self, *_):
        return None

    def family(self, _):
        return []

    def sharers(self, _):
        return []

    def log(self, _):
        return []


class _Galaxy:
    """Services by name, in the order of their starts, each with its role and unit."""

    gravity = True

    def __init__(self, **services):
        self.spec, self.told = Spec(config="/srv/galaxy.yml"), []
        self.units = {name: _Unit(name, self.told) for name in services}
        self._roles = services

    def look(self, *_, **__):
        return Look([self._look_at(name, role) for name, role in self._roles.items()])

    def _look_at(self, name, role):
        unit = self.units[name]
        if role is not Role.WEB:
            return service_look(name=name, role=role, unit=unit)
        runs = unit.now.state is State.RUNNING
        workers = [worker()] if runs else []
        return service_look(
            *workers, name=name, unit=unit, web=_Web(unit), master=FakeProcess(7) if runs else None, silent=not runs
        )

    def alone(self, action, deadline):
        return galaxy_host_lock.hold(action, self.spec.identity, deadline)

    def find_unit(self, service, _):
        return self.units[service.name]

    def log(self, *_):
        return []


def _galaxy(**more):
    return _Galaxy(**more, gunicorn_0=Role.WEB, gunicorn_1=Role.WEB)


@pytest.fixture(autouse=True)
def _quick(monkeypatch, tmp_path):
    monkeypatch.setattr(galaxy_host_lock, "DIRECTORY", str(tmp_path / "locks"))
    monkeypatch.setattr(galaxy_reload.galaxy_control, "GRACE", 0.01)
    monkeypatch.setattr(FakeProcess, "is_alive", False, raising=False)


@pytest.fixture(autouse=True)
def _dead(monkeypatch):
    # every process ends at once when its manager stops it
    monkeypatch.setattr(FakeProcess, "__init__", lambda self, pid: vars(self).update(pid=pid, is_alive=False, sent=[]))


@pytest.mark.parametrize("function", [galaxy_reload.reload, galaxy_reload.roll])
def test_one_after_the_other_then_what_is_beside_them_and_never_tusd(function):
    galaxy = _galaxy(handler_0=Role.HANDLER, celery=Role.CELERY, tusd=Role.TUSD)
    assert function(galaxy, _SOON, test=True) == {}
    assert galaxy.told == []
    done = function(galaxy, _SOON)
    assert (done["changed"], done["method"], done["ready"]) == (True, "rolling", True)
    names = ["gunicorn_0", "gunicorn_1", "handler_0", "celery"]
    assert galaxy.told == [f"{verb} {name}" for name in names for verb in ("stop", "start")]


def test_it_stops_at_the_first_that_does_not_come_up():
    galaxy = _galaxy(celery=Role.CELERY)
    galaxy.units["gunicorn_0"]._works = False
    with pytest.raises(NotReady):
        galaxy_reload.roll(galaxy, Limits(timeout=0.3, settle=0.01))
    assert galaxy.told == ["stop gunicorn_0", "start gunicorn_0"]


def test_one_that_is_down_is_started_first():
    galaxy = _galaxy()
    galaxy.units["gunicorn_1"].now = FakeUnit(State.STOPPED, False).now
    galaxy_reload.roll(galaxy, _SOON)
    assert galaxy.told[:2] == ["start gunicorn_1", "stop gunicorn_0"]


@pytest.mark.parametrize("test", [True, False])
def test_one_that_runs_and_is_not_ready_is_a_reason_to_touch_nothing(test):
    galaxy = _galaxy()
    found = galaxy.look()
    found.webs[1].snapshot = service_look(worker(accepting=0)).snapshot
    galaxy.look = lambda *_, **__: found
    with pytest.raises(
        ProcessError, match=r"Nothing was touched: gunicorn_1 is not ready\. The worker does not accept"
    ):
        galaxy_reload.roll(galaxy, _SOON, test=test)
    assert galaxy.told == []


def test_one_that_fails_while_the_next_waits_ends_it(monkeypatch):
    galaxy = _galaxy()
    start = _Unit.start

    def fail_later(self):
        start(self)
        if self.service == "gunicorn_0":
            galaxy.units["gunicorn_1"].now = FakeUnit(State.FAILED, False).now

    monkeypatch.setattr(_Unit, "start", fail_later)
    with pytest.raises(NotReady, match="Nothing more was touched: gunicorn_1 did not stay ready"):
        galaxy_reload.roll(galaxy, Limits(timeout=5, settle=30))
    assert "stop gunicorn_1" not in galaxy.told


@pytest.mark.parametrize("test", [True, False])
def test_one_gunicorn_has_no_reload_without_a_gap(test):
    galaxy = _Galaxy(gunicorn=Role.WEB)
    with pytest.raises(ProcessError, match=r"new code that is broken takes Galaxy down\. To reload without a gap"):
        galaxy_reload.reload(galaxy, _SOON, test=test)
    with pytest.raises(ProcessError, match="has one web server"):
        galaxy_reload.roll(galaxy, _SOON, test=test)
    assert galaxy.told == []
