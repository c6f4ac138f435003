"""When waiting ends, and when it is clear that it will not succeed."""

import pytest
from support.document import worker
from support.look import FakeProcess, FakeUnit, look, service_look, snapshot

import galaxy_wait
from galaxy_errors import ConfigError, GunicornError, NotReady
from galaxy_host_wait import Deadline
from galaxy_look import Look
from galaxy_manager_unit import State
from galaxy_spec import Limits, Spec


class _Web:
    """Gives the snapshots or errors that it was made with, one after the other; the last one again and again."""

    def __init__(self, *answers, probed=None):
        self.answers, self.probed, self.told_pid = list(answers), probed, None

    def readiness(self, timeout):
        now = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(now, Exception):
            raise now
        return now

    def probe(self, found, timeout):
        if self.probed is not None:
            found.answers = self.probed.pop(0) if len(self.probed) > 1 else self.probed[0]

    def find_master(self, found=None):
        return FakeProcess(7) if found else None

    def told(self, pid):
        self.told_pid = pid

    def learn(self, invocation):
        return False

    def log(self, lines):
        return ["import failed password=hunter2"]


class _Process(FakeProcess):
    def invocation(self):
        return None


class _Galaxy:
    gravity = None

    def __init__(self, *looks, unit=None):
        self.spec = Spec(config="/srv/galaxy.yml")
        self._looks, self._unit, self.managed = list(looks), unit, []

    def look(self, *_, managed=True, **__):
        self.managed.append(managed)
        return self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]

    def require_telling(self):
        pass

    def find_unit(self, *_):
        return self._unit

    def log(self, services, lines):
        return [f"{service.name} log" for service in services]


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    monkeypatch.setattr(_Web, "find_master", lambda self, found=None: _Process(7) if found else None)


def _two(*webs):
    return Look([service_look(name=f"gunicorn_{number}", web=web) for number, web in enumerate(webs)])


def _until_ready(found, wanted=1, seconds=5, **more):
    return galaxy_wait.until_ready(_Galaxy(found), found, Deadline(seconds), wanted, **more)


def test_the_manager_is_not_asked_where_galaxy_is_ready():
    galaxy = _Galaxy(look(worker()))
    assert galaxy_wait.wait(galaxy, Limits())["ready"]
    assert galaxy.managed == [False]


def test_all_web_servers_must_serve():
    loads, serves = snapshot(worker(accepting=0)), snapshot(worker(), worker())
    done = _until_ready(_two(_Web(serves), _Web(GunicornError("nothing listens"), loads, serves)), wanted=4)
    assert (done["ready"], done["accepting"]) == (True, 4)
    with pytest.raises(NotReady, match="0 of 1 worker accept, 1 wanted"):
        _until_ready(_two(_Web(serves), _Web(loads)), seconds=0.2)
    with pytest.raises(NotReady, match="5 workers are wanted, but uWSGI has 4"):
        _until_ready(_two(_Web(serves), _Web(serves)), wanted=5)


def test_a_heartbeat_alone_is_no_answer():
    one = _Web(*[snapshot(worker()) for _ in range(4)], probed=[False, False, True])
    assert _until_ready(Look([service_look(web=one)]))["ready"]
    with pytest.raises(NotReady, match="is not ready after"):
        _until_ready(
            Look([service_look(web=_Web(*[snapshot(worker()) for _ in range(99)], probed=[False]))]), seconds=0.2
        )


def test_it_ends_at_once_when_the_manager_gives_up():
    unit = FakeUnit(State.RETRYING)
    found = Look([service_look(web=_Web(GunicornError("nothing listens there")), unit=unit, name="gunicorn")])
    with pytest.raises(NotReady, match=r"(?s)systemd reports RETRYING for galaxy.*Last lines of the log:\ngunicorn"):
        _until_ready(found, seconds=600)


@pytest.mark.parametrize(
    ("main", "said"), [(7, "reports RUNNING$"), (9, "reports RUNNING, a new start, PID 9$"), (None, "reports RUNNING$")]
)
def test_a_master_that_died_and_is_already_started_again(main, said, monkeypatch):
    dead = _Process(7)
    dead.is_alive = False
    monkeypatch.setattr(_Web, "find_master", lambda self, found=None: dead)
    web = _Web(snapshot(worker(accepting=0)), GunicornError("nothing listens"))
    found = Look([service_look(web=web, unit=FakeUnit(main_pid=main))])
    with pytest.raises(NotReady, match=f"(?m)PID 7, died: systemd {said}"):
        _until_ready(found)


def test_the_managers_word_of_the_main_process_is_passed_on():
    unit = FakeUnit(main_pid=4321)
    web = _Web(GunicornError("nothing listens there"), snapshot(worker()))
    _until_ready(Look([service_look(web=web, unit=unit)]))
    assert web.told_pid == 4321


def test_the_manager_is_found_out_once_the_wait_goes_on():
    unit = FakeUnit(State.FAILED)
    found = Look([service_look(web=_Web(GunicornError("nothing listens there")))])
    with pytest.raises(NotReady, match="systemd reports FAILED"):
        galaxy_wait.until_ready(_Galaxy(found, unit=unit), found, Deadline(600), 1)


def test_what_no_look_will_change_is_raised():
    with pytest.raises(ConfigError, match="no stats option"):
        _until_ready(Look([service_look(web=_Web(ConfigError("no stats option")))]), seconds=600)


@pytest.mark.parametrize("test", [True, False])
def test_workers_without_an_application(test):
    found = look(worker(apps=[]), web=_Web(snapshot(worker(apps=[]))))
    with pytest.raises(NotReady, match="The worker accepts, but has no application"):
        galaxy_wait.wait(_Galaxy(found), Limits(timeout=600), test=test)
