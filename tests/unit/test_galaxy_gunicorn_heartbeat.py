import os
import socket
import tempfile

import pytest

import galaxy_gunicorn_heartbeat

NOW, MONOTONIC = 1_700_000_000.0, 5000.0


def _state(mode, mtime, ctime):
    return os.stat_result((0o100000 | mode, 0, 0, 1, 0, 0, 0, 0, mtime, ctime))


@pytest.mark.parametrize(
    ("state", "age"),
    [
        (_state(0o600, 4990, NOW), 10),
        (_state(0o600, 5001, NOW), 0),
        (_state(0o600, NOW - 3, NOW - 3), None),
        (_state(0, NOW - 60, NOW - 20), 20),
        (_state(1, NOW - 60, NOW - 30), 30),
    ],
    ids=["new", "a beat since the look began", "before the first", "old", "old, in turn"],
)
def test_both_forms(state, age):
    assert galaxy_gunicorn_heartbeat.age(state, NOW, MONOTONIC) == age


def test_what_a_process_holds():
    descriptor, path = tempfile.mkstemp(prefix="wgunicorn-")
    os.unlink(path)
    with socket.socket() as sock, os.fdopen(descriptor):
        found = galaxy_gunicorn_heartbeat.files(os.getpid())
        assert os.fstat(sock.fileno()).st_ino in found.sockets
        assert galaxy_gunicorn_heartbeat.age(found.heartbeat) is None
        os.utime(descriptor, (1, 1))
        assert galaxy_gunicorn_heartbeat.age(galaxy_gunicorn_heartbeat.files(os.getpid()).heartbeat) > 0
    assert galaxy_gunicorn_heartbeat.files(os.getpid()).heartbeat is None
    assert galaxy_gunicorn_heartbeat.files(2**22) is None
