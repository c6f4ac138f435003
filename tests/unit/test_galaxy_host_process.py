import errno
import os
import pathlib
import signal
import subprocess
import sys
import time

import psutil
import pytest
from support.attacker import reuse

import galaxy_host_process
from galaxy_host_process import Process
from galaxy_host_wait import Deadline, wait_until


def _no_pidfd(*_):
    raise OSError(errno.ENOSYS, "as in a kernel before 5.3")


@pytest.fixture(params=["pidfd", "start time"], autouse=True)
def kernel(request, monkeypatch):
    """A kernel with pidfds, and one without."""
    if request.param == "start time":
        monkeypatch.setattr(os, "pidfd_open", _no_pidfd)


@pytest.fixture
def sleeper():
    process = subprocess.Popen(["sleep", "1000"])
    # while a process is starting, the kernel shows no command line
    assert wait_until(lambda: Process.of(process.pid).argv, Deadline(60))
    yield process
    process.kill()
    process.wait()


def test_a_process_is_itself_until_it_ends(sleeper):
    found = Process.of(sleeper.pid)
    assert found.is_alive
    sleeper.kill()
    # a zombie counts as ended: it holds nothing, and gets no signal
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert not found.is_alive
    assert Process.of(sleeper.pid) is None
    sleeper.wait()
    assert not found.is_alive


def test_its_control_groups_and_its_name_in_messages(sleeper):
    found = Process.of(sleeper.pid)
    lines = pathlib.Path(f"/proc/{sleeper.pid}/cgroup").read_text().splitlines()
    assert found.cgroups == list(dict.fromkeys(line.split(":", 2)[2] for line in lines))
    assert found.cgroups
    assert repr(found) == f"Process({sleeper.pid})"


def test_a_reused_pid_is_never_signalled(sleeper):
    """The old scripts remembered a PID during a stop, and then killed the process that had it by then."""
    before = Process.of(sleeper.pid)
    # without a pidfd, a start time has the resolution of one clock tick. No PID comes again within one tick
    identified = time.monotonic()
    assert wait_until(lambda: time.monotonic() - identified > 0.05, Deadline(180))
    sleeper.kill()
    sleeper.wait()
    other = reuse(before.pid)
    try:
        assert other.pid == before.pid
        assert not before.is_alive
        assert before != Process.of(other.pid)
        assert before.signal(signal.SIGKILL) is False
        assert galaxy_host_process.end([before], signal.SIGTERM, 0.1) == []
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_it_tells_what_psutil_tells(sleeper):
    process, other = Process.of(os.getpid()), psutil.Process()
    assert process.argv == tuple(other.cmdline())
    assert (process.cwd, process.exe, process.environment) == (other.cwd(), other.exe(), other.environ())
    assert process.uids == (other.uids().real, other.uids().effective)
    assert process.create_time == pytest.approx(other.create_time(), abs=1.5)
    assert process.name == other.name()
    assert (process.group, process.session) == (os.getpgid(0), os.getsid(0))
    assert process.lineage == {os.getpid(), *(parent.pid for parent in other.parents())}
    assert [parent.pid for parent in process.ancestors] == [parent.pid for parent in other.parents()]
    child = Process.of(sleeper.pid)
    assert child in process.children()
    assert child.parent == process
    assert child.invocation().argv == ("sleep", "1000")
    assert child.invocation().source == f"command line of PID {sleeper.pid}"
    assert child.invocation().user == os.geteuid()
    assert child.has_our_root
    assert len({process, Process.of(os.getpid())}) == 1


def test_children_of_every_thread_are_seen_with_and_without_the_kernels_list(sleeper, monkeypatch):
    parent = Process.of(os.getpid())
    with_list = parent.children()
    read = galaxy_host_process._read
    monkeypatch.setattr(galaxy_host_process, "_read", lambda path: None if path.endswith("children") else read(path))
    assert parent.children() == with_list
    assert sleeper.pid in [child.pid for child in with_list]


def test_what_has_ended_tells_nothing(sleeper):
    process = Process.of(sleeper.pid)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert (process.argv, process.cwd, process.exe, process.environment) == ((), None, None, None)
    assert (process.parent, process.uids, process.image, process.group) == (None, None, None, None)
    assert process.invocation() is None
    assert process.children() == []
    assert process.lineage == {sleeper.pid}


@pytest.mark.parametrize("pid", [0, -1, 2**22 + 1, 2**40, 2**80])
def test_what_is_no_pid_is_no_process(pid):
    assert Process.of(pid) is None


def test_a_thread_is_no_process():
    script = "import threading, time; threading.Thread(target=time.sleep, args=(99,)).start(); print(flush=True)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        parent.stdout.readline()
        threads = {int(name) for name in os.listdir(f"/proc/{parent.pid}/task")} - {parent.pid}
        assert threads
        assert not threads & set(galaxy_host_process.pids())
        parent.kill()


def test_a_forked_process_has_its_parents_image_until_it_executes():
    # the subshell is forked only; sleep is executed
    script = "(read line; true) <&3 & sleep 5 & wait"
    reading, writing = os.pipe()
    with subprocess.Popen(["bash", "-c", script.replace("<&3", f"<&{reading}")], pass_fds=[reading]) as shell:
        process = Process.of(shell.pid)
        assert wait_until(
            lambda: sorted(child.name for child in process.children()) == ["bash", "sleep"], Deadline(180)
        )
        images = {child.name: child.image for child in process.children()}
        assert images["bash"] == process.image is not None
        assert images["sleep"] not in (None, process.image)
        for child in process.children():
            child.signal(signal.SIGKILL)
    os.close(reading)
    os.close(writing)


def test_a_directory_that_was_removed_is_none(tmp_path):
    (tmp_path / "gone").mkdir()
    with subprocess.Popen(["sleep", "99"], cwd=tmp_path / "gone") as process:
        (tmp_path / "gone").rmdir()
        assert Process.of(process.pid).cwd is None
        process.kill()


def test_an_invocation_shows_no_environment(monkeypatch):
    secret = galaxy_host_process.Invocation(("uwsgi",), "x", "/", {"GALAXY_DB": "postgresql://u:hunter2@db"})
    assert "hunter2" not in f"{secret} {secret!r}"


def test_a_signal_that_is_not_permitted_says_so(sleeper):
    code = (
        "import os, sys, signal; sys.path.insert(0, sys.argv[1]); import galaxy_host_process, galaxy_errors\n"
        "import salt.utils.stringutils\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "process = galaxy_host_process.Process.of(int(sys.argv[2]))\n"
        "assert (process.cwd, process.exe, process.environment, process.image) == (None, None, None, None)\n"
        "assert process.argv == ('sleep', '1000'), process.argv\n"
        "assert process.uids == (0, 0)\n"
        "try: process.signal(signal.SIGTERM)\n"
        "except galaxy_errors.ProcessError as exc: print(exc)\n"
    )
    utils = pathlib.Path(galaxy_host_process.__file__).parent
    done = subprocess.run([sys.executable, "-c", code, utils, str(sleeper.pid)], capture_output=True, text=True)
    assert done.stdout == f"Not permitted to send SIGTERM to PID {sleeper.pid}; run as root\n", done.stderr
    assert sleeper.poll() is None


def test_no_descriptor_is_left_open():
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        Process.of(os.getpid()).lineage  # noqa: B018
    assert len(os.listdir("/proc/self/fd")) == before


def test_end_escalates_only_where_needed():
    deaf = subprocess.Popen(
        [sys.executable, "-c", "import signal, time; signal.signal(15, 1); print(flush=True); time.sleep(99)"],
        stdout=subprocess.PIPE,
    )
    deaf.stdout.readline()
    with subprocess.Popen(["sleep", "99"]) as mild:
        processes = [Process.of(deaf.pid), Process.of(mild.pid)]
        sent = galaxy_host_process.end(processes, signal.SIGTERM, 0.5)
    deaf.wait()
    deaf.stdout.close()
    assert sent == [
        {"pid": deaf.pid, "signal": "SIGTERM"},
        {"pid": mild.pid, "signal": "SIGTERM"},
        {"pid": deaf.pid, "signal": "SIGKILL"},
    ]
