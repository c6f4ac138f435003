"""Deeds need facts: what a look must have proven before a service is started or stopped."""

import pytest
from support.document import worker
from support.look import FakeProcess, FakeUnit, look, service_look

import galaxy_control
import galaxy_host_lock
import galaxy_reload
import galaxy_wait
from galaxy_errors import ConfigError, ManagerError, MasterGone, NotReady, ProcessError
from galaxy_host_address import Address
from galaxy_host_wait import Deadline
from galaxy_look import Look
from galaxy_manager_unit import State
from galaxy_service import Role
from galaxy_spec import Limits, Spec


class _Web:
    """A web server whose master has two workers."""

    stop_signal = 2
    gap_of_reload = ""
    stats_address = Address("127.0.0.1", 9191)

    def __init__(self, processes=(), another=()):
        self.processes, self.another = list(processes), another

    def family(self, _):
        return self.processes

    def find_master(self, _):
        return None

    def is_another(self, process):
        return process.pid in self.another

    def sharers(self, _):
        return []


class _Galaxy:
    """Gives the looks that it was made with, one after the other; the last one again and again."""

    gravity = None

    def __init__(self, *looks, web=None):
        self.spec = Spec(config="/srv/galaxy.yml")
        self.web = web or _Web()
        self._looks = list(looks)

    def look(self, *_, **__):
        found = self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]
        for one in found.webs:
            one.service.web = self.web
        return found

    def require_telling(self):
        _ = self.web.stats_address

    def alone(self, action, deadline):
        return galaxy_host_lock.hold(action, self.spec.identity, deadline)

    def find_unit(self, *_):
        return None

    def log(self, *_):
        return []


@pytest.fixture(autouse=True)
def _lock(monkeypatch, tmp_path):
    monkeypatch.setattr(galaxy_host_lock, "DIRECTORY", str(tmp_path / "locks"))


def test_what_is_ready_under_its_manager_is_left_alone():
    unit = FakeUnit()
    done = galaxy_control.startup(_Galaxy(look(worker(), unit=unit, master=FakeProcess(7))), Limits())
    assert (done["changed"], done["tries"], unit.told) == (False, 1, [])


@pytest.mark.parametrize("function", [galaxy_control.start, galaxy_control.startup, galaxy_control.restart])
@pytest.mark.parametrize("test", [True, False])
def test_what_another_manager_started_is_not_started_twice(function, test):
    unit = FakeUnit(State.STOPPED, active=False, owns=False)
    galaxy = _Galaxy(look(worker(), unit=unit, master=FakeProcess(7)))
    with pytest.raises(ManagerError, match="PID 7, but systemd did not start it"):
        function(galaxy, Limits(timeout=1), test=test)
    assert unit.told == []


@pytest.mark.parametrize("function", [galaxy_control.start, galaxy_control.startup, galaxy_control.restart])
@pytest.mark.parametrize("test", [True, False])
def test_without_a_manager_nothing_is_started(function, test):
    with pytest.raises(ManagerError, match=r"No process manager has this Galaxy \(/srv/galaxy.yml\)"):
        function(_Galaxy(look(silent=True)), Limits(timeout=1), test=test)


@pytest.mark.parametrize("test", [True, False])
def test_where_nothing_could_tell_readiness_nothing_is_started(test):
    class Silent(_Web):
        @property
        def stats_address(self):
            raise ConfigError("/srv/galaxy.yml: no stats option")

    unit = FakeUnit(State.STOPPED, active=False)
    with pytest.raises(ConfigError, match="no stats option"):
        galaxy_control.startup(_Galaxy(look(unit=unit, silent=True), web=Silent()), Limits(timeout=1), test=test)
    assert unit.told == []


def test_a_master_that_lives_and_cannot_be_asked_is_never_stopped(monkeypatch):
    unit = FakeUnit()
    found = look(unit=unit, master=FakeProcess(7), errors=["connection refused"])
    monkeypatch.setattr(galaxy_wait, "until_ready", _never_ready)
    with pytest.raises(NotReady, match=r"(?s)PID 7, lives, so it is not stopped.*connection refused"):
        galaxy_control.startup(_Galaxy(found), Limits(timeout=1, retries=3))
    assert "stop" not in unit.told
    # without workers, a master is still loading, and the start would wait for it
    assert galaxy_control.startup(_Galaxy(found), Limits(timeout=1, retries=3), test=True)["changed"]
    with pytest.raises(NotReady, match="PID 7, lives"):
        galaxy_control.startup(_Galaxy(found, web=_Web([FakeProcess(8)])), Limits(timeout=1, retries=3), test=True)


def test_in_a_crash_loop_it_is_tried_again_though_a_master_lives_for_a_moment(monkeypatch):
    unit = FakeUnit(State.RETRYING)

    def crash(*_):
        raise NotReady("supervisord reports BACKOFF", ended=True)

    monkeypatch.setattr(galaxy_wait, "until_ready", crash)
    found = look(unit=unit, master=FakeProcess(7), errors=["connection refused"])
    with pytest.raises(NotReady, match="Gave up after 2 tries"):
        galaxy_control.startup(_Galaxy(found), Limits(timeout=1, retries=1))
    assert unit.told.count("start") == 2


def _never_ready(*_):
    raise NotReady("Galaxy is not ready after 1 s")


def test_a_galaxy_that_does_not_come_up_is_tried_again(monkeypatch):
    unit = FakeUnit(State.STOPPED, active=True)
    monkeypatch.setattr(galaxy_wait, "until_ready", _never_ready)
    with pytest.raises(NotReady, match="Gave up after 3 tries"):
        galaxy_control.startup(_Galaxy(look(unit=unit, silent=True)), Limits(timeout=1, retries=2))
    assert unit.told == ["start", "stop", "start", "stop", "start"]


def test_fewer_workers_than_wanted_serve_and_are_left_alone(monkeypatch):
    unit = FakeUnit()
    monkeypatch.setattr(galaxy_wait, "until_ready", _never_ready)
    with pytest.raises(NotReady):
        galaxy_control.startup(_Galaxy(look(worker(), unit=unit, master=FakeProcess(7))), Limits(min_workers=2))
    assert "stop" not in unit.told


@pytest.mark.parametrize("test", [True, False])
def test_a_unit_that_serves_another_configuration_is_not_stopped(monkeypatch, test):
    neighbour = FakeProcess(9)
    monkeypatch.setattr(galaxy_control.Process, "of", {9: neighbour}.get)
    unit = FakeUnit(pids=[9])
    galaxy = _Galaxy(look(unit=unit, silent=True), web=_Web(another=[9]))
    with pytest.raises(ProcessError, match=r"PID 9, which serves another configuration than /srv/galaxy\.yml"):
        galaxy_control.stop(galaxy, force=True, test=test)
    assert (unit.told, neighbour.sent) == ([], [])


def test_only_the_family_of_the_master_is_signalled(monkeypatch):
    master, child, handler = FakeProcess(7), FakeProcess(8), FakeProcess(9)
    monkeypatch.setattr(galaxy_control.Process, "of", {7: master, 9: handler}.get)
    unit = FakeUnit(pids=[7, 9])
    unit.stop = lambda: setattr(master, "is_alive", False)
    done = galaxy_control.stop(_Galaxy(look(worker(), unit=unit, master=master), web=_Web([child])), timeout=0.01)
    assert (done["stopped"], done["signals"]) == ([7, 8], [{"pid": 8, "signal": "SIGTERM"}])
    assert handler.sent == []


@pytest.mark.parametrize("test", [True, False])
def test_what_nothing_manages_needs_force(test):
    master = FakeProcess(7)
    with pytest.raises(ProcessError, match="No process manager has Galaxy's master, PID 7; force=True"):
        galaxy_control.stop(_Galaxy(look(worker(), master=master)), test=test)
    assert master.sent == []
    done = galaxy_control.stop(_Galaxy(look(worker(), master=master)), force=True, timeout=0.01)
    assert done["signals"] == [{"pid": 7, "signal": "SIGINT"}]


@pytest.mark.parametrize(
    ("owns", "reason"),
    [
        (False, "systemd did not start Galaxy's master, PID 7, as galaxy"),
        (True, "outlived the stop of galaxy by systemd"),
    ],
)
def test_a_master_that_its_manager_does_not_stop_needs_force(owns, reason):
    master, unit = FakeProcess(7), FakeUnit(owns=owns)
    galaxy = _Galaxy(look(worker(), unit=unit, master=master))
    with pytest.raises(ProcessError, match=f"{reason}.*force=True ends it by signal"):
        galaxy_control.stop(galaxy, timeout=0.01)
    assert (unit.told, master.sent) == (["stop"] if owns else [], [])
    assert galaxy_control.stop(galaxy, timeout=0.01, force=True)["signals"] == [{"pid": 7, "signal": "SIGINT"}]


def test_workers_that_a_master_forked_after_the_look_are_ended(monkeypatch):
    master, child, unit = FakeProcess(7), FakeProcess(8), FakeUnit()
    unit.stop = lambda: setattr(master, "is_alive", False)
    monkeypatch.setattr(galaxy_control.Process, "of", {8: child}.get)

    class Web(_Web):
        def find_master(self, _):
            raise MasterGone("held by workers that outlived their master", [8])

    galaxy_control.stop(_Galaxy(look(worker(), unit=unit, master=master), web=Web()), timeout=0.01)
    assert child.sent == [15]


def test_a_companion_that_may_be_ignored_stops_no_start():
    unit = FakeUnit(State.STOPPED, active=False)
    unit.start = lambda: unit.told.append("start") or _refuse()
    found = service_look(unit=unit, name="celery", role=Role.CELERY)
    galaxy_control.tell_start(found, Limits(companions="ignore"))
    with pytest.raises(ManagerError, match="no such program"):
        galaxy_control.tell_start(found, Limits())
    assert unit.told == ["start"] * 2


def _refuse():
    raise ManagerError("no such program")


def test_only_gravitys_application_is_loaded_on_trial():
    with pytest.raises(ConfigError, match="uWSGI serves this one"):
        galaxy_control.require_loadable(_Galaxy(look()), Limits(check=True))
    galaxy_control.require_loadable(_Galaxy(look()), Limits())


def test_a_reload_needs_a_master_and_an_answer():
    silent = look(master=FakeProcess(7), errors=["timed out"])
    for test in (True, False):
        with pytest.raises(ProcessError, match="does not run"):
            galaxy_reload.reload(_Galaxy(look(silent=True)), Limits(timeout=1), test=test)
        with pytest.raises(ProcessError, match="timed out"):
            galaxy_reload.reload(_Galaxy(silent), Limits(timeout=1), test=test)


def test_a_master_that_died_since_the_look_is_nobody_elses():
    # in a crash loop, the manager may have forgotten this PID already
    master = FakeProcess(7)
    master.is_alive = False
    unit = FakeUnit(State.RETRYING, active=True, owns=False)
    galaxy_control.stop(_Galaxy(look(unit=unit, master=master)))
    assert unit.told == ["stop"]


def test_a_companion_that_systemd_calls_running_must_run_for_a_while():
    def companion(**status):
        unit = FakeUnit(**status)
        found = service_look(unit=unit, name="celery", role=Role.CELERY)
        found.service.unit, found.service.start_timeout = unit, 10
        return Look([found])

    galaxy = _Galaxy(companion(age=0.1), companion(age=9.9), companion(age=10.1))
    galaxy.gravity = True
    galaxy_control.require_companions(galaxy, Limits(), Deadline(60))
    assert galaxy.look().companions[0].status.age == 10.1
    galaxy = _Galaxy(companion(age=0.1), companion(age=0.0, restarts=1))
    galaxy.gravity = True
    with pytest.raises(NotReady, match=r"not all .* run: celery \(systemd reports RUNNING, started again once"):
        galaxy_control.require_companions(galaxy, Limits(), Deadline(60))
