"""What long work reports while it waits."""

import itertools
import threading
import types

import pytest

import galaxy_host_command
import galaxy_host_progress
from galaxy_host_wait import Deadline, wait_until

MASTER, NO_MASTER = {"id": "one", "file_client": "remote"}, {"id": "one", "file_client": "local"}


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(galaxy_host_progress, "SHORTEST", 0.0)
    monkeypatch.setattr(galaxy_host_progress, "SHARE", 0.0)


class Bus(dict):
    """Stands for ``__salt__``."""

    def __init__(self):
        super().__init__({"event.send": lambda tag, data: self.sent.append((tag, data))})
        self.sent = []


def _wait(bus, opts=MASTER, what="a disk", looks=2, step="luks.encrypt"):
    left = [None] * looks
    with galaxy_host_progress.told(step, opts, bus):
        wait_until(lambda: left.pop() or not left, Deadline(60), 0.01, what)


def test_the_master_is_told_what_is_waited_for():
    bus = Bus()
    _wait(bus, what="a\n  disk")
    data = {"step": "luks.encrypt", "try": None, "tries": None, "seconds": 0, "waits_for": "a disk"}
    assert bus.sent == [("galaxy/one/progress", data)]


def test_what_is_over_at_once_says_nothing():
    bus = Bus()
    _wait(bus, looks=1)
    assert bus.sent == []


def test_at_most_every_few_seconds(monkeypatch):
    monkeypatch.setattr(galaxy_host_progress, "SHORTEST", 60.0)
    bus, said = Bus(), []
    _wait(bus, looks=5)
    assert bus.sent == []
    clock = itertools.count()
    monkeypatch.setattr(galaxy_host_progress, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(galaxy_host_progress, "SHORTEST", 5.0)
    monkeypatch.setattr(galaxy_host_progress, "SHARE", 0.2)
    monkeypatch.setattr(galaxy_host_progress, "_has_master", lambda opts: False)
    monkeypatch.setattr(galaxy_host_progress, "say", said.append)
    with galaxy_host_progress.told("galaxy.wait", {"__cli": "salt-call"}, {}):
        for _ in range(600):
            galaxy_host_progress.tick("it")
    seconds = [int(line.split()[1]) for line in said]
    pauses = [after - before for before, after in zip([0, *seconds], seconds, strict=False)]
    assert pauses[:4] == [5, 5, 5, 5]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 30


def test_a_function_that_another_calls_has_no_word_of_its_own():
    bus = Bus()
    with galaxy_host_progress.told("galaxy.restart", MASTER, bus):
        _wait(bus, step="galaxy.start")
    assert [data["step"] for _, data in bus.sent] == ["galaxy.restart"]
    galaxy_host_progress.tick("nothing")
    assert len(bus.sent) == 1


def test_which_try_it_is():
    bus = Bus()
    with galaxy_host_progress.told("galaxy.startup", MASTER, bus):
        galaxy_host_progress.attempt(2, 6)
        galaxy_host_progress.tick("a worker")
    (data,) = [data for _, data in bus.sent]
    assert galaxy_host_progress.line(data) == "galaxy.startup: try 2 of 6, 0 s: a worker"


def test_without_a_master_nothing_is_sent_or_asked_for():
    # the function is not even looked up
    _wait({}, NO_MASTER)
    bus = Bus()
    _wait(bus, {**NO_MASTER, "use_master_when_local": True})
    assert len(bus.sent) == 1


def test_salt_call_has_it_on_its_terminal(capsys):
    _wait({}, {**NO_MASTER, "__cli": "salt-call"})
    out, err = capsys.readouterr()
    assert (out, err.split(" ", 1)[1]) == ("", "luks.encrypt: 0 s: a disk\n")
    _wait(Bus(), {**MASTER, "__cli": "salt-minion"})
    assert capsys.readouterr() == ("", "")


def test_a_master_that_does_not_take_it_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(galaxy_host_progress, "_LAST", 0.0)
    away, sent = threading.Event(), []

    def send(tag, data):
        sent.append(data)
        away.wait(60)

    _wait({"event.send": send}, looks=10)
    # the first call still hangs, and there is no second one
    assert len(sent) == 1
    away.set()


def test_a_failure_to_send_is_no_failure(capsys):
    def send(tag, data):
        raise RuntimeError("no master")

    _wait({"event.send": send}, looks=10)
    assert capsys.readouterr() == ("", "")


def test_what_cannot_be_told_is_no_failure():
    bus = Bus()

    def what():
        raise FileNotFoundError("gone")

    _wait(bus, what=what)
    assert bus.sent[0][1]["waits_for"] == "gone"


def test_a_command_that_runs_long(monkeypatch):
    bus = Bus()
    monkeypatch.setattr(galaxy_host_command, "_TICK", 0.01)
    with galaxy_host_progress.told("luks.encrypt", MASTER, bus):
        galaxy_host_command.run(["sleep", "0.2"])
    assert bus.sent[0][1]["waits_for"] == "sleep 0.2"
