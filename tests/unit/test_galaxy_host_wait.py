import itertools
import time

import pytest

import galaxy_host_wait
from galaxy_host_wait import Deadline, Throttled, wait_until


def test_condition_is_looked_at_at_least_once():
    assert wait_until(lambda: "yes", Deadline(0)) == "yes"
    assert wait_until(lambda: None, Deadline(0)) is None


def test_a_costly_look_is_taken_rarely():
    looks = []

    def costly():
        looks.append(1)
        end = time.thread_time() + 0.05
        while time.thread_time() < end:
            pass

    wait_until(costly, Deadline(1))
    # a look costs 50 ms of CPU time, so there is at most one every 4 s
    assert len(looks) <= 2


def test_the_costliest_look_is_taken_again_soon(monkeypatch):
    spent, pauses = itertools.count(step=60), []
    monkeypatch.setattr(galaxy_host_wait, "_cpu_seconds", lambda: next(spent))
    monkeypatch.setattr(galaxy_host_wait.time, "sleep", pauses.append)
    wait_until(lambda: pauses, Deadline(60))
    assert pauses == [galaxy_host_wait.LONGEST]


def test_what_the_condition_raises_ends_it():
    with pytest.raises(ZeroDivisionError):
        wait_until(lambda: 1 / 0, Deadline(60))


def test_throttled():
    calls = []
    look = Throttled(lambda value: calls.append(value) or "seen", shortest=60)
    assert [look(1), look(2)] == ["seen", None]
    assert calls == [1]
