"""What a runner shows of the minions' events."""

import contextlib
import threading

import pytest

import galaxy_remote_progress
from galaxy_host_wait import Deadline, wait_until

COMMAND = {"__cli": "salt-run"}
DATA = {"step": "galaxy.startup", "try": 1, "tries": 6, "seconds": 35, "waits_for": "0 of 4 workers accept"}


class Bus:
    """Stands for the master's event bus."""

    def __init__(self, *events):
        self.events, self.taken = list(events), threading.Event()

    @contextlib.contextmanager
    def __call__(self):
        yield self

    def get_event(self, wait, tag, full):
        if self.events:
            return self.events.pop(0)
        self.taken.set()
        return None


def _event(minion, data):
    return {"tag": f"galaxy/{minion}/progress", "data": {"id": minion, "data": data}}


def _shown(capsys, *events, opts=COMMAND, minions=("one", "two")):
    bus = Bus(*events)
    with galaxy_remote_progress.shown(opts, bus, minions):
        assert opts is not COMMAND or wait_until(bus.taken.is_set, Deadline(60))
    out, err = capsys.readouterr()
    assert out == ""
    return [line.split(" ", 1)[1] for line in err.splitlines()]


def test_a_person_sees_what_these_minions_are_at(capsys):
    lines = _shown(capsys, _event("one", DATA), _event("three", DATA), _event("two", {**DATA, "try": None}))
    assert lines == [
        "one galaxy.startup: try 1 of 6, 35 s: 0 of 4 workers accept",
        "two galaxy.startup: 35 s: 0 of 4 workers accept",
    ]


def test_a_reactor_sees_nothing(capsys):
    assert _shown(capsys, _event("one", DATA), opts={"__cli": "salt-master"}) == []


def test_a_minion_that_talks_without_end_is_heard_now_and_then(capsys):
    assert len(_shown(capsys, *[_event("one", DATA)] * 1000)) == 1


@pytest.mark.parametrize("data", [None, [], "x", {"data": None}, {"data": ["x"]}])
def test_what_is_of_another_shape_is_no_line(capsys, data):
    assert _shown(capsys, {"tag": "galaxy/one/progress", "data": data}) == []


def test_no_text_of_a_minion_harms_a_terminal(capsys):
    (line,) = _shown(capsys, _event("one", {"step": "\x1b[2J", "try": {"\x1b": 1}, "waits_for": "x\n" * 10**6}))
    assert "\x1b" not in line
    assert len(line) < 2000


def test_a_bus_that_breaks_is_no_failure(capsys):
    def listen():
        raise OSError("no bus")

    with galaxy_remote_progress.shown(COMMAND, listen, ["one"]):
        pass
    assert capsys.readouterr() == ("", "")
