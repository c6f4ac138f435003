"""However many callers ask, one does the work, and does it once more if others asked meanwhile."""

import os
import pathlib
import stat
import subprocess
import sys
import threading
import time

import pytest
from support.site import REPO

import galaxy_host_turn
from galaxy_host_turn import Turn


@pytest.fixture
def directory(tmp_path):
    return str(tmp_path / "locks")


def test_one_is_alone_and_the_next_after_it(directory):
    with galaxy_host_turn.alone(directory, "a") as first, galaxy_host_turn.alone(directory, "a") as second:
        assert (first, second) == (True, False)
        with galaxy_host_turn.alone(directory, "b") as besides:
            assert besides
    with galaxy_host_turn.alone(directory, "a") as again:
        assert again
    assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
    # nothing stays: else a user who chooses names could fill the disk
    assert os.listdir(directory) == []


@pytest.mark.parametrize("name", ["x" * 5000, "../../etc/passwd", "a/b", "\ud800", ""])
def test_any_name_will_do(directory, name):
    with galaxy_host_turn.alone(directory, name) as mine:
        assert mine
        assert len(os.listdir(directory)) == 1


def test_a_process_that_is_killed_leaves_no_lock(directory):
    code = (
        f"import sys; sys.path.insert(0, {str(REPO / '_utils')!r}); import galaxy_host_turn as turn\n"
        f"with turn.alone({directory!r}, 'a') as mine: print(mine, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"True\n"
        with galaxy_host_turn.alone(directory, "a") as mine:
            assert not mine
        process.kill()
    with galaxy_host_turn.alone(directory, "a") as mine:
        assert mine


def test_what_is_asked_for_meanwhile_is_done_once_more_and_by_the_same(directory):
    works, sent_away = [], []

    def work(turn):
        works.append(None)
        if len(works) == 1:
            sent_away.extend(Turn(directory, "a").take(work) for _ in range(20))
            assert turn.is_asked
        return len(works)

    assert Turn(directory, "a").take(work) == 2
    assert sent_away == [None] * 20
    assert not Turn(directory, "a").is_asked
    # then anybody can take it again
    assert Turn(directory, "a").take(work) == 3


def test_a_lock_is_had_by_one_of_many_that_race(directory):
    holders, most, lock = [], [], threading.Lock()

    def hold():
        for _ in range(200):
            with galaxy_host_turn.alone(directory, "a") as mine:
                if mine:
                    with lock:
                        holders.append(None)
                        most.append(len(holders))
                    with lock:
                        holders.pop()

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}
    assert os.listdir(directory) == []


def test_nobody_is_forgotten_by_threads_that_race(directory):
    """After each call some work begins, whichever thread does it."""
    lock, begun, late = threading.Lock(), [], []

    def work(turn):
        with lock:
            begun.append(time.monotonic())
        return True

    def ask():
        for _ in range(50):
            Turn(directory, "a").take(work)
            late.append(time.monotonic())

    asked = []
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        asked.append(time.monotonic())
        thread.start()
    for thread in threads:
        thread.join()
    assert not Turn(directory, "a").is_asked
    assert max(asked) <= max(begun)
    assert len(begun) <= len(late)


def test_work_that_began_later_has_served_it(directory, monkeypatch):
    turn, now = Turn(directory, "a"), time.time()
    assert not turn.has_served(now)
    turn.take(lambda taken: True)
    assert turn.has_served(now)
    assert not turn.has_served(time.time())
    assert not Turn(directory, "b").has_served(now)
    # a clock that was set back must not delay anything
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    assert not turn.has_served(now - 3600)


@pytest.mark.parametrize("kept", ["", "x", "nan", "inf", "1e999", "\x00"])
def test_a_time_that_cannot_be_read_puts_nothing_off(directory, kept):
    turn = Turn(directory, "a")
    turn.take(lambda taken: True)
    (path,) = [path for path in pathlib.Path(directory).iterdir() if path.stat().st_size]
    path.write_text(kept)
    assert not turn.has_served(1.0)


def test_work_that_raises_leaves_the_turn_free(directory):
    def fail(turn):
        raise OSError("no master")

    with pytest.raises(OSError, match="no master"):
        Turn(directory, "a").take(fail)
    assert Turn(directory, "a").take(lambda turn: "done") == "done"
