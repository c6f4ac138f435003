import json
import time

import pytest
from support.document import core, document, worker

import galaxy_uwsgi_worker
from galaxy_host_address import Address
from galaxy_uwsgi_stats import Stats
from galaxy_webserver import WorkerState


def _stats(*workers):
    return Stats(Address("127.0.0.1", 9191), document(workers))


@pytest.mark.parametrize(
    ("record", "state"),
    [
        (worker(), WorkerState.IDLE),
        (worker(accepting=0), WorkerState.NOT_ACCEPTING),
        # the old scripts took this worker for busy
        (worker(accepting=0, status="busy"), WorkerState.NOT_ACCEPTING),
        (worker(accepting=1, pid=0), WorkerState.NOT_ACCEPTING),
        (worker(status="busy", cores=[core(1), core(0)]), WorkerState.BUSY),
        (worker(status="busy", cores=[core(1), core(1)]), WorkerState.SATURATED),
        (worker(status="busy", cores=[core(1)]), WorkerState.SATURATED),
        (worker(status="busy", cores=None), WorkerState.BUSY),
        (worker(status="cheap", pid=0, accepting=0), WorkerState.CHEAP),
        (worker(status="pause"), WorkerState.PAUSED),
        (worker(status="sig17"), WorkerState.BUSY),
    ],
)
def test_states(record, state):
    (found,) = _stats(record).workers
    assert found.state is state
    assert json.dumps(found.record())


def test_reasons():
    reasons = [
        found.reason
        for found in _stats(
            worker(status="busy", cores=[core(1), core(0)]),
            worker(status="sig17"),
            worker(accepting=0),
            worker(pid=0, accepting=0),
            worker(status="pause"),
        ).workers
    ]
    assert reasons == [
        "1 of 2 cores in a request",
        "handles uWSGI signal 17",
        "loads its application or is respawned",
        "not spawned",
        "paused",
    ]


def test_ready_needs_an_application():
    stats = _stats(worker(), worker(apps=[]), worker(accepting=0))
    assert (stats.accepting, stats.ready) == (2, 1)


def test_a_request_shows_its_path_and_nothing_else():
    busy = core(
        1,
        [
            "REQUEST_METHOD=POST",
            "REQUEST_URI=/api/tools?key=topsecret",
            "REMOTE_ADDR=192.0.2.7",
            "HTTP_COOKIE=galaxysession=topsecret",
            "HTTP_AUTHORIZATION=Bearer topsecret",
            "QUERY_STRING=key=topsecret",
            "HTTP_X_API_KEY=topsecret",
        ],
        request_start=int(time.time()) - 90,
    )
    stats = _stats(worker(status="busy", cores=[busy]))
    (request,) = stats.workers[0].in_request
    assert (request.method, request.uri, request.remote_addr) == ("POST", "/api/tools", "192.0.2.7")
    assert 89 <= request.seconds <= 92
    shown = json.dumps([stats.redacted(), stats.workers[0].record()])
    assert "topsecret" not in shown
    assert "/api/tools" in shown


def test_a_free_core_does_not_show_its_last_request():
    (found,) = _stats(worker(cores=[core(0, ["REQUEST_URI=/old"])])).workers
    assert found.in_request == []


NOW = 1_700_000_100
REQUEST = ["REQUEST_METHOD=GET", "REQUEST_URI=/api?key=TOPSECRET", "REMOTE_ADDR=10.0.0.1", "HTTP_COOKIE=TOPSECRET"]


@pytest.mark.parametrize(
    ("record", "state", "reason"),
    [
        (worker(), WorkerState.IDLE, "idle"),
        (worker("busy", cores=[core(1), core()]), WorkerState.BUSY, "1 of 2 cores in a request"),
        (worker("busy", cores=[core(1), core(1)]), WorkerState.SATURATED, "2 of 2 cores in a request"),
        (worker("busy", cores=None), WorkerState.BUSY, "in a request"),
        (worker("pause"), WorkerState.PAUSED, "paused"),
        (worker("cheap", pid=0, accepting=0), WorkerState.CHEAP, "cheaped"),
        (worker(accepting=0), WorkerState.NOT_ACCEPTING, "loads its application or is respawned"),
        (worker(pid=0), WorkerState.NOT_ACCEPTING, "not spawned"),
        (worker("sig7"), WorkerState.BUSY, "handles uWSGI signal 7"),
        (worker("sig" + "9" * 5000), WorkerState.BUSY, "busy"),
        (worker("\x1b[2J"), WorkerState.IDLE, "idle"),
    ],
)
def test_what_a_worker_can_do(record, state, reason):
    one = galaxy_uwsgi_worker.read(record, NOW)
    assert one.state is state
    if state is not WorkerState.BUSY or "9" * 10 not in record["status"]:
        assert one.reason == reason


def test_a_worker_is_ready_with_its_application():
    assert galaxy_uwsgi_worker.read(worker(), NOW).ready
    assert not galaxy_uwsgi_worker.read(worker(apps=[]), NOW).ready
    assert not galaxy_uwsgi_worker.read(worker(accepting=0), NOW).ready


@pytest.mark.parametrize(
    ("started", "seconds"),
    [(NOW - 90, 90), (NOW + 5, 0), (0, None), (-1, None), (10**18, None), (10**400, None), ("1", None), (1.5, None)],
)
def test_how_long_a_request_has_taken(started, seconds):
    (request,) = galaxy_uwsgi_worker.read(
        worker("busy", cores=[core(1, REQUEST, request_start=started)]), NOW
    ).in_request
    assert request.seconds == seconds
    (one,) = [galaxy_uwsgi_worker.read(worker("busy", cores=[core(1, REQUEST, request_start=started), core()]), NOW)]
    assert (one.in_flight, one.oldest_request) == (1, seconds)
    assert (request.method, request.uri, request.remote_addr) == ("GET", "/api", "10.0.0.1")


def test_variables_that_may_be_shown():
    assert galaxy_uwsgi_worker.safe_vars([*REQUEST, "", 5, None, "PATH_INFO", "PATH_INFO=/x?y"]) == [
        "REQUEST_METHOD=GET",
        "REQUEST_URI=/api",
        "REMOTE_ADDR=10.0.0.1",
        "PATH_INFO=",
        "PATH_INFO=/x",
    ]
