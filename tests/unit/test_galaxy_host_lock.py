"""One action at a time; other users cannot disturb it."""

import contextlib
import fcntl
import multiprocessing
import os
import stat
import subprocess

import pytest
from support.attacker import GALAXY, MALLORY, make, public_directory, run_as

import galaxy_host_lock
from galaxy_errors import LockError
from galaxy_host_wait import Deadline


@pytest.fixture
def directory():
    with public_directory() as path:
        yield f"{path}/locks"


def _hold(directory, held, release):
    with galaxy_host_lock.hold("galaxy.startup", "one", Deadline(5), directory):
        held.set()
        release.wait()


@contextlib.contextmanager
def held_by_another(directory):
    held, release = multiprocessing.Event(), multiprocessing.Event()
    other = multiprocessing.Process(target=_hold, args=(directory, held, release))
    other.start()
    held.wait()
    yield other
    other.kill()
    other.join()


def test_second_fails_and_names_the_first(directory):
    with held_by_another(directory) as other:
        expected = rf"galaxy.stop: galaxy.startup \(PID {other.pid}\) is under way"
        with (
            pytest.raises(LockError, match=expected),
            galaxy_host_lock.hold("galaxy.stop", "one", Deadline(0.1), directory),
        ):
            pass
        # each name has a lock of its own
        with galaxy_host_lock.hold("galaxy.stop", "two", Deadline(0), directory):
            pass
    # the holder ended, so the kernel released the lock
    with galaxy_host_lock.hold("galaxy.stop", "one", Deadline(5), directory):
        pass


def test_two_threads_exclude_each_other(directory):
    with (
        galaxy_host_lock.hold("galaxy.stop", "one", Deadline(5), directory),
        pytest.raises(LockError, match=rf"galaxy.stop \(PID {os.getpid()}\)"),
        galaxy_host_lock.hold("galaxy.start", "one", Deadline(0), directory),
    ):
        pass


def test_the_text_of_a_killed_holder_is_not_told_of_another(directory):
    with held_by_another(directory):
        pass
    path = f"{directory}/{galaxy_host_lock.file_name('one')}"
    with open(path, "rb") as stale:
        assert b"galaxy.startup" in stale.read()
    # another program holds the lock, and wrote nothing into it
    with subprocess.Popen(["flock", path, "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdin.write(b"x")
        holder.stdin.flush()
        holder.stdout.read(1)
        with (
            pytest.raises(LockError) as caught,
            galaxy_host_lock.hold("galaxy.stop", "one", Deadline(0), directory),
        ):
            pass
        holder.stdin.close()
    assert "galaxy.startup" not in str(caught.value)
    assert f"PID {holder.pid}, or a process that it started, holds the lock" in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
class TestOtherUsers:
    def test_they_can_neither_open_nor_hold_it(self, directory):
        with galaxy_host_lock.hold("galaxy.stop", "one", Deadline(0), directory):
            path = f"{directory}/{galaxy_host_lock.file_name('one')}"
            for target in (path, directory):
                with pytest.raises(RuntimeError, match="PermissionError"):
                    run_as(MALLORY, _flock, target)
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700

    def test_what_was_open_to_others_is_closed(self, directory):
        make(directory, 0, 0o755)
        path = make(f"{directory}/{galaxy_host_lock.file_name('one')}", 0, 0o644, b"1 galaxy.stop\n")
        with galaxy_host_lock.hold("galaxy.stop", "one", Deadline(0), directory):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700

    def test_without_root(self, directory):
        with pytest.raises(RuntimeError, match=r"LockError: galaxy[.]stop needs root"):
            run_as(MALLORY, _hold_as, directory)
        with galaxy_host_lock.hold("galaxy.stop", "one", Deadline(0), directory):
            pass
        with pytest.raises(RuntimeError, match=r"LockError: galaxy[.]stop needs root"):
            run_as(MALLORY, _hold_as, directory)

    def test_a_directory_that_somebody_prepared(self, directory):
        make(directory, GALAXY)
        with (
            pytest.raises(LockError, match="belongs to user 4001"),
            galaxy_host_lock.hold("galaxy.stop", "one", Deadline(0), directory),
        ):
            pass
        os.rmdir(directory)
        os.symlink("/etc", directory)
        with (
            pytest.raises(LockError, match="cannot be used: Not a directory"),
            galaxy_host_lock.hold("galaxy.stop", "one", Deadline(0), directory),
        ):
            pass

    def test_a_lock_that_is_none(self, directory):
        make(directory, 0, 0o700)
        path = f"{directory}/{galaxy_host_lock.file_name('one')}"
        precious = make(f"{directory}/precious", 0, 0o644, b"precious")
        for prepare, reason in (
            (lambda: os.symlink(precious, path), "Too many levels of symbolic links"),
            (lambda: os.mkfifo(path), "not a lock of ours"),
            (lambda: make(path, GALAXY, 0o666, b""), "not a lock of ours"),
        ):
            prepare()
            with (
                pytest.raises(LockError, match=reason),
                galaxy_host_lock.hold("galaxy.stop", "one", Deadline(0), directory),
            ):
                pass
            os.unlink(path)
        with open(precious, "rb") as file:
            assert file.read() == b"precious"


def _flock(path):
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


def _hold_as(directory):
    with galaxy_host_lock.hold("galaxy.stop", "one", Deadline(0), directory):
        pass


def test_file_names():
    names = [
        "a",
        "A",
        "a/b",
        "a_b",
        "a%2Fb",
        "..",
        ".",
        "",
        "../../etc/passwd",
        "ü",
        "a b",
        "\0",
        "\udfff",
        "+",
        "x" * 5000,
    ]
    names += ["x" * 4999 + "y", galaxy_host_lock.file_name("x" * 5000).removesuffix(".lock")]
    files = [galaxy_host_lock.file_name(name) for name in names]
    assert len(set(files)) == len(names)
    for file in files:
        assert "/" not in file
        assert file.isascii()
        assert file.isprintable()
        assert len(file) <= 255
