import pytest
from support.document import core, worker

import galaxy_uwsgi_worker
from galaxy_webserver import WorkerState

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
    assert (request.method, request.uri, request.remote_addr) == ("GET", "/api", "10.0.0.1")


def test_variables_that_may_be_shown():
    assert galaxy_uwsgi_worker.safe_vars([*REQUEST, "", 5, None, "PATH_INFO", "PATH_INFO=/x?y"]) == [
        "REQUEST_METHOD=GET",
        "REQUEST_URI=/api",
        "REMOTE_ADDR=10.0.0.1",
        "PATH_INFO=",
        "PATH_INFO=/x",
    ]
