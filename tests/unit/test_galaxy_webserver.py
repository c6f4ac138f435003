import pytest
from support.document import core, worker
from support.look import snapshot

from galaxy_webserver import Snapshot, Worker, WorkerState

FULL = worker(status="busy", cores=[core(1)])


@pytest.mark.parametrize(
    ("workers", "problem"),
    [
        ([worker()], None),
        ([worker(accepting=0), worker(accepting=0)], "None of 2 workers accepts requests yet."),
        ([], "There is no worker yet."),
        ([worker(accepting=0)], "The worker does not accept requests yet."),
        ([worker(apps=[])], "1 of 1 worker accepts, but without an application: its import failed, see the log."),
        ([worker(status="cheap", pid=0, accepting=0)], None),
        ([FULL, worker()], None),
        ([FULL, worker(status="pause")], "1 of 2 workers is paused."),
    ],
)
def test_problems(workers, problem):
    assert snapshot(*workers).problems == ([problem] if problem else [])


def test_saturated_is_every_worker_that_accepts():
    found = snapshot(FULL, worker(accepting=0))
    assert found.is_saturated
    assert found.problems == [
        "The only worker that accepts is saturated; connections that wait in the listen queue: 0 of at most 100."
    ]
    assert not snapshot(FULL, worker()).is_saturated
    assert not snapshot(worker(accepting=0)).is_saturated


def test_stuck_workers_and_the_oldest_request():
    found = Snapshot()
    found.workers = [
        Worker(
            number, number, state, "", state is WorkerState.IDLE, state is WorkerState.IDLE, None, [], {}, 1, seconds
        )
        for number, state, seconds in [(1, WorkerState.STUCK, 7.5), (2, WorkerState.IDLE, None)]
    ]
    assert found.problems == ["1 of 2 workers is stuck: no event loop runs there."]
    assert (found.oldest_request, found.answers, found.is_saturated) == (7.5, None, False)
    found.workers[1].state, found.workers[1].accepting = WorkerState.STUCK, False
    assert found.problems == ["2 of 2 workers are stuck: no event loop runs there."]


def test_counts():
    found = snapshot(FULL, worker(), worker(apps=[]))
    assert (found.count(WorkerState.SATURATED), found.count(WorkerState.IDLE)) == (1, 2)
    assert (found.accepting, found.ready) == (3, 2)


def test_a_record_is_flat_plain_data():
    (record,) = [one.record() for one in snapshot(FULL).workers]
    assert (record["state"], record["ready"], record["busy_cores"], record["cores"]) == ("saturated", True, 1, 1)
    assert "details" not in record
