import dataclasses
import os
import time

from hypothesis import given
from hypothesis import strategies as st
from support.document import core, worker
from support.look import FakeUnit, look, service_look

from galaxy_gunicorn_server import GunicornSnapshot
from galaxy_host_process import Process
from galaxy_look import Look
from galaxy_manager_unit import State
from galaxy_service import Role
from galaxy_watch import Memory, Thresholds, observe
from galaxy_webserver import Worker, WorkerState

LIMITS = Thresholds(down=60, saturated=120, stuck=600, recovered=60)
WELL = look(worker(), worker())
FULL = look(*[worker(status="busy", cores=[core(1)]) for _ in range(2)])
DOWN = look(silent=True, errors=["connection refused"])
LOADING = look(worker(accepting=0))


def _stuck(seconds):
    busy = core(1, ["REQUEST_METHOD=GET", "REQUEST_URI=/slow?key=secret"], request_start=int(time.time()) - seconds)
    return look(worker(status="busy", cores=[busy, core()]))


def _run(*looks):
    """Takes ``(seconds, answer)`` one after the other. Returns the tags that each look gives."""
    memory = Memory()
    return [[event["tag"] for event in observe(answer, memory, LIMITS, now)] for now, answer in looks]


def test_a_short_outage_is_no_event():
    assert _run((0, WELL), (30, DOWN), (60, WELL), (90, DOWN), (120, WELL), (500, WELL)) == [[]] * 6


def test_down_is_told_once_and_recovered_once():
    assert _run((0, DOWN), (59, DOWN), (60, DOWN), (90, DOWN), (100, WELL), (150, WELL), (160, WELL), (300, WELL)) == [
        *([], [], ["down"], [], [], [], ["recovered"], []),
    ]


def test_flapping_is_no_storm():
    looks = [(second, DOWN if second // 30 % 2 else WELL) for second in range(0, 3600, 10)]
    told = [tag for tags in _run((-100, DOWN), (-30, DOWN), *looks) for tag in tags]
    assert told == ["down"]


def test_loading_counts_as_down_and_says_so():
    memory = Memory()
    observe(LOADING, memory, LIMITS, 0)
    (event,) = observe(LOADING, memory, LIMITS, 60)
    assert event == {"tag": "down", "reason": "no worker is ready"}


def test_a_busy_minute_is_no_event_two_are():
    assert _run((0, FULL), (60, FULL), (90, WELL), (100, FULL), (219, FULL), (220, FULL)) == [
        *([], [], [], [], [], ["saturated"]),
    ]


def test_stuck_is_told_at_once_with_its_request():
    memory = Memory()
    assert observe(_stuck(599 - 5), memory, LIMITS, 0) == []
    (event,) = observe(_stuck(601), memory, LIMITS, 10)
    assert event["tag"] == "stuck"
    (request,) = event["requests"]
    assert (request["pid"], request["uri"], request["core"]) == (1234, "/slow", 0)
    assert observe(_stuck(700), memory, LIMITS, 110) == []
    assert observe(WELL, memory, LIMITS, 120) == []
    assert observe(WELL, memory, LIMITS, 180) == [{"tag": "recovered", "from": ["stuck"]}]


def _gunicorn(**facts):
    """A gunicorn tells no more of a request than since when its worker has it."""
    record = Worker(1, 1234, reason="", accepting=True, ready=False, requests=None, in_request=[], details={}, **facts)
    queue = {"length": 0, "max": 1, "errors": None}
    return Look(
        [
            dataclasses.replace(
                LOADING.webs[0], snapshot=GunicornSnapshot(Process.of(os.getpid()), [record], queue, 1, [])
            )
        ]
    )


def test_a_stuck_gunicorn_is_told_with_the_age_of_its_oldest_request():
    unknown = {"core": None, "method": None, "uri": None, "remote_addr": None}
    for oldest, seconds in ((2.4, 2), (None, None)):
        (event,) = observe(_gunicorn(state=WorkerState.STUCK, oldest_request=oldest), Memory(), LIMITS, 0)
        assert event["tag"] == "stuck"
        assert event["requests"] == [{"pid": 1234, **unknown, "seconds": seconds}]
    (event,) = observe(_gunicorn(state=WorkerState.BUSY, oldest_request=601.0), Memory(), LIMITS, 0)
    assert event["requests"][0]["seconds"] == 601
    assert observe(_gunicorn(state=WorkerState.BUSY, oldest_request=598.0), Memory(), LIMITS, 0) == []


@given(st.lists(st.tuples(st.integers(1, 200), st.sampled_from([WELL, FULL, DOWN, LOADING]))))
def test_each_event_is_told_once_between_two_recoveries(steps):
    memory, now, told = Memory(), 0, set()
    for pause, answer in steps:
        now += pause
        for event in observe(answer, memory, LIMITS, now):
            if event["tag"] == "recovered":
                assert set(event["from"]) == told
                assert told
                told = set()
            else:
                assert event["tag"] not in told
                told.add(event["tag"])


def _beside(state=State.RUNNING, restarts=0):
    celery = service_look(name="celery", role=Role.CELERY, unit=FakeUnit(state, restarts=restarts))
    return Look([celery, service_look(worker())])


def test_a_service_that_its_manager_gave_up_is_crashing():
    assert _run((0, _beside(State.FAILED)), (59, _beside(State.RETRYING)), (60, _beside(State.FAILED))) == [
        *([], [], ["crashing"]),
    ]


def test_a_service_that_comes_back_again_and_again_is_crashing_though_it_runs():
    memory = Memory()
    for now in range(0, 60, 20):
        assert observe(_beside(restarts=now // 20 + 5), memory, LIMITS, now) == []
    due = [
        event for now in range(60, 120, 20) for event in observe(_beside(restarts=now // 20 + 5), memory, LIMITS, now)
    ]
    assert due == [{"tag": "crashing", "services": {"celery": "RUNNING, started again 9 times"}}]


def test_restarts_of_long_ago_are_none():
    assert _run(*[(now, _beside(restarts=7)) for now in range(0, 600, 60)]) == [[]] * 10
