import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
from support.site import free_port

import galaxy_host_address
import galaxy_host_process
from galaxy_errors import ProcessError
from galaxy_host_process import Process
from galaxy_host_wait import Deadline, wait_until


@pytest.fixture
def sleeper():
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    process.kill()
    process.wait()


def test_a_process_is_itself_until_it_ends(sleeper):
    found = Process.of(sleeper.pid)
    assert found.is_alive
    sleeper.kill()
    # a zombie counts as ended: it holds nothing and hears nothing
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert not found.is_alive
    assert Process.of(sleeper.pid) is None
    sleeper.wait()
    assert not found.is_alive


def _spawn_with_pid(pid):
    """A sleeper with this PID, made as the kernel makes the next one; ``None`` where another process was quicker."""
    pathlib.Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
    process = subprocess.Popen(["sleep", "1000"])
    if process.pid == pid:
        return process
    process.kill()
    process.wait()
    return None


def test_a_reused_pid_is_never_signalled(sleeper):
    """The old scripts kept a PID over a stop and killed whoever had it then."""
    before = Process.of(sleeper.pid)
    # start times are counted in clock ticks; nothing gets a PID again within one
    identified = time.monotonic()
    assert wait_until(lambda: time.monotonic() - identified > 0.05, Deadline(5))
    sleeper.kill()
    sleeper.wait()
    other = next(filter(None, (_spawn_with_pid(before.pid) for _ in range(200))))
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


def test_a_step_of_the_clock_does_not_make_it_another(sleeper, monkeypatch):
    before = Process.of(sleeper.pid)
    boot_time = psutil._pslinux.boot_time()
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: boot_time + 3600)
    assert before.is_alive
    assert before == Process.of(sleeper.pid)
    assert galaxy_host_process.end([before], signal.SIGTERM, 5) == [{"pid": sleeper.pid, "signal": "SIGTERM"}]


def test_a_pidfile_may_hold_anything(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = galaxy_host_address.parse(f"127.0.0.1:{listener.getsockname()[1]}")
        for text in ("-12", "0", "x", "", "9" * 30):
            (tmp_path / "pid").write_text(text)
            with pytest.raises(ProcessError, match="not uWSGI"):
                galaxy_host_process.find_master([address], pidfile=str(tmp_path / "pid"))


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


@pytest.mark.parametrize("reader", ["_ask_sock_diag", "_read_proc_net"])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_both_ways_to_list_listeners_agree_with_psutil(reader, host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("::1" if ":" in host else "127.0.0.1", port)):
            found = [one for one in getattr(galaxy_host_process, reader)(family) if one[1] == port]
            inode = os.fstat(listener.fileno()).st_ino
            assert found == [(socket.inet_pton(family, host), port, inode)]
            listening = [
                one.laddr
                for one in psutil.Process().net_connections("tcp")
                if one.status == "LISTEN" and one.laddr.port == port
            ]
            assert [(one.ip, one.port) for one in listening] == [(host, port)]


def test_an_address_matches_its_own_socket_alone():
    port = free_port()
    parse = galaxy_host_address.parse
    with socket.create_server(("127.0.0.1", port)) as listener:
        inode = os.fstat(listener.fileno()).st_ino
        assert galaxy_host_process.listeners([parse(f"127.0.0.1:{port}")]) == {inode}
        assert galaxy_host_process.listeners([parse(f"localhost:{port}")]) == {inode}
        assert galaxy_host_process.listeners([parse(f"127.0.0.2:{port}")]) == set()
        assert galaxy_host_process.listeners([parse(f":{port}")]) == set()
        assert galaxy_host_process.holds(os.getpid(), {inode})
        assert not galaxy_host_process.holds(os.getpid(), {inode + 10**9})
    with socket.create_server(("0.0.0.0", port)) as listener:
        # bound to every interface, it answers for each
        assert galaxy_host_process.listeners([parse(f"127.0.0.1:{port}")]) == {os.fstat(listener.fileno()).st_ino}


def test_what_is_not_uwsgi_is_not_the_master():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = galaxy_host_address.parse(f"127.0.0.1:{listener.getsockname()[1]}")
        # neither because it listens, nor because a stats document or a pidfile says so
        with pytest.raises(ProcessError, match="not uWSGI"):
            galaxy_host_process.find_master([address], stats_pid=os.getpid())
    assert galaxy_host_process.find_master([address], stats_pid=os.getpid()) is None
