"""What one look proves."""

import pytest
from support.document import worker
from support.look import FakeProcess, FakeUnit, look, service_look

from galaxy_look import Look, are_ready
from galaxy_manager_unit import State
from galaxy_service import Role


def _unit(state, active):
    return FakeUnit(state, active)


@pytest.mark.parametrize(
    ("facts", "running"),
    [
        ({"master": FakeProcess(7)}, True),
        ({"survivors": (7,)}, True),
        ({"silent": True}, False),
        ({"silent": False}, None),
        ({}, None),
        # if nothing else is known, the manager proves that a Galaxy is down, but not that it serves
        ({"unit": _unit(State.STOPPED, False)}, False),
        ({"unit": _unit(State.FAILED, False)}, False),
        ({"unit": _unit(State.RUNNING, True)}, None),
        ({"unit": _unit(State.UNKNOWN, None)}, None),
        ({"unit": _unit(State.STOPPED, False), "master": FakeProcess(7)}, True),
    ],
)
def test_running_is_said_on_proof(facts, running):
    assert look(**facts).running is running


@pytest.mark.parametrize(
    ("workers", "facts", "count", "one", "two"),
    [
        ([worker(), worker()], {}, 2, True, True),
        ([worker(), worker(apps=[])], {}, 1, True, False),
        ([worker(accepting=0)], {}, 0, False, False),
        ([], {"silent": True}, 0, False, False),
        # the master lives but cannot be asked
        ([], {"master": FakeProcess(7)}, None, None, None),
        ([], {}, None, None, None),
    ],
)
def test_ready_is_a_number_of_workers(workers, facts, count, one, two):
    found = look(*workers, **facts)
    assert (found.ready_workers, found.is_ready(1), found.is_ready(2)) == (count, one, two)


def test_no_worker_wanted_needs_an_answer_all_the_same():
    assert look(worker(accepting=0)).is_ready(0) is True
    assert look(silent=True).is_ready(0) is False


def _gunicorn(number, *workers, answers=None, **facts):
    one = service_look(*workers, name=f"gunicorn_{number}", **facts)
    if one.snapshot:
        one.snapshot.answers = answers
    return one


@pytest.mark.parametrize(
    ("services", "running", "count", "one", "three"),
    [
        ([_gunicorn(0, worker(), worker()), _gunicorn(1, worker())], True, 3, True, True),
        # each gunicorn must serve, however many workers the others have
        ([_gunicorn(0, worker(), worker(), worker()), _gunicorn(1, worker(accepting=0))], True, 3, False, False),
        ([_gunicorn(0, worker(), worker(), worker()), _gunicorn(1, silent=True)], True, 3, False, False),
        ([_gunicorn(0, worker(), worker(), worker()), _gunicorn(1)], True, None, None, None),
        ([_gunicorn(0, silent=True), _gunicorn(1, silent=True)], False, 0, False, False),
        ([_gunicorn(0, silent=True), _gunicorn(1)], None, None, None, None),
        # the workers' heartbeats come, but no request is answered
        ([_gunicorn(0, worker(), worker(), worker(), answers=False)], True, 3, False, False),
        ([_gunicorn(0, worker(), worker(), worker(), answers=True)], True, 3, True, True),
    ],
)
def test_several_web_servers(services, running, count, one, three):
    found = Look(services)
    assert (found.running, found.ready_workers, found.is_ready(1), found.is_ready(3)) == (running, count, one, three)


def test_what_runs_beside_the_web_server_says_nothing_of_it():
    celery = service_look(name="celery", role=Role.CELERY, unit=FakeUnit(State.RUNNING))
    found = Look([celery, service_look(silent=True, unit=FakeUnit(State.STOPPED, False))])
    assert (celery.running, found.running, found.is_ready(0), found.is_active) == (True, False, False, True)
    assert (found.companions, found.is_kept_up) == ([celery], False)


def test_no_server_is_never_ready_by_its_number():
    assert are_ready([], 0)
    assert Look([]).is_ready(0) is None


def test_the_oldest_request_of_all():
    busy = [service_look(worker()) for _ in range(3)]
    for one, age in zip(busy, (None, 0.0, 3.5), strict=True):
        one.snapshot.workers[0].oldest_request = age
    assert Look(busy).oldest_request == 3.5
    assert Look(busy[:2]).oldest_request == 0
    assert Look(busy[:1]).oldest_request is None
