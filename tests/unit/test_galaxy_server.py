"""What one look proves."""

import pytest
from support.document import worker
from support.look import FakeProcess, FakeUnit, look

from galaxy_manager_unit import State
from galaxy_server import Galaxy
from galaxy_spec import Spec


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
        # its manager's word is a proof where nothing else is known, and no proof of a Galaxy that serves
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
        # a master that lives and cannot be asked
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


def test_nothing_is_read_before_it_is_asked_for(tmp_path):
    galaxy = Galaxy(Spec(config=str(tmp_path / "not-mounted" / "galaxy.yml")), {})
    found = galaxy.look(1)
    assert (found.running, found.snapshots, found.masters) == (None, [], [])
    assert "no such configuration file" in found.errors[0]
