"""Facts of a real gunicorn: today's, and the last one with the old heartbeat."""

import os
import pathlib
import signal
import socket

import psutil
import pytest
from support.attacker import MALLORY, make, public_directory
from support.gunicorn import Gunicorn
from support.site import makers

from galaxy_errors import GunicornError, MasterGone, NotMine, ProcessError, SharedSocket
from galaxy_gunicorn_server import GunicornServer
from galaxy_host_address import Address
from galaxy_host_process import Process
from galaxy_host_wait import Deadline, wait_until
from galaxy_webserver import WorkerState


@pytest.fixture
def gunicorn(tmp_path):
    """A function that makes a gunicorn and does not start it. It ends with the test."""
    yield from makers(tmp_path, Gunicorn)


@pytest.mark.parametrize("venv", ["bed", "bed-old"])
@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["own", "preload"])
@pytest.mark.parametrize("bind", [None, "unix"], ids=["tcp", "unix"])
def test_ready(gunicorn, venv, options, bind):
    one = gunicorn(venv=venv, options=options, bind=bind).start()
    one.ready()
    web = one.server(prefix="/")
    found = web.snapshot(10)
    assert (found.pid, found.answers, found.galaxy_version, found.problems) == (one.process.pid, True, "26.1.1", [])
    assert [worker.state for worker in found.workers] == [WorkerState.IDLE] * 2
    assert [worker.details["heartbeat_age"] < 600 for worker in found.workers] == [True] * 2
    assert found.listen_queue == {"length": 0, "max": 2048, "errors": None}
    assert found.workers[0].record()["pss"] > 1_000_000
    assert (web.options.preload, web.options.timeout) == (bool(options), 30)
    wrong = one.server(prefix="/galaxy").snapshot(10)
    assert wrong.answers is False
    assert "GET /galaxy/api/version: answered '404'" in wrong.problems[0]


@pytest.mark.parametrize("venv", ["bed", "bed-old"])
def test_a_worker_that_loads_is_not_ready(gunicorn, venv):
    one = gunicorn(venv=venv)
    one.open("load-is-slow")
    one.start()
    found = one.wait(lambda found: len(found.workers) == 2)
    assert {(worker.state, worker.reason) for worker in found.workers} == {(WorkerState.NOT_ACCEPTING, "is loading")}
    assert one.server().snapshot(5).answers is None
    assert (one.server().readiness(5).ready, len(one.server().readiness(5).workers)) == (0, 2)
    one.open("load")
    one.ready()
    assert one.server().readiness(5).ready == 2


def test_while_the_master_loads_a_managers_word_names_it(gunicorn):
    one = gunicorn(options=("--preload",))
    one.open("load-is-slow")
    one.start()
    web = one.server()
    assert web.is_silent()
    with pytest.raises(GunicornError, match="nothing listens there"):
        web.snapshot(5)
    web.told(one.process.pid)
    assert wait_until(web.find_master, Deadline(180)) == Process.of(one.process.pid)
    assert web.options.preload
    web.told(os.getpid())
    assert web.find_master() is None


@pytest.mark.parametrize("bind", [None, "unix"], ids=["tcp", "unix"])
@pytest.mark.parametrize("kind", ["await", "thread"])
def test_requests_in_flight(gunicorn, kind, bind):
    one = gunicorn(bind=bind).start()
    one.ready()
    clients = [one.ask(kind) for _ in range(3)]
    found = one.wait(lambda found: sum(worker.in_flight for worker in found.workers) == 3)
    assert found.count(WorkerState.BUSY) >= 1
    assert (found.oldest_request is None) == bool(bind)
    assert one.server().snapshot(10).answers
    one.open("go")
    one.wait(lambda found: sum(worker.in_flight for worker in found.workers) == 0)
    for client in clients:
        client.close()


@pytest.mark.parametrize("venv", ["bed", "bed-old"])
def test_a_blocked_event_loop_is_stuck(gunicorn, venv):
    one = gunicorn(venv=venv, workers=1, options=("--timeout", "12")).start()
    one.ready(1)
    client = one.ask("block")
    found = one.wait(lambda found: found.count(WorkerState.STUCK))
    (worker,) = found.workers
    assert (worker.ready, worker.in_flight) == (False, 1)
    assert worker.oldest_request > 0
    assert found.problems == ["1 of 1 worker is stuck: no event loop runs there."]
    client.close()


def test_event_loops_that_take_no_connection_are_stuck_long_before_their_heartbeat_is_due(gunicorn):
    one = gunicorn(workers=1, options=("--timeout", "300")).start()
    one.ready(1)
    clients = [one.ask("block")]
    one.wait(lambda found: found.workers[0].in_flight)
    clients.append(one.ask("api/version"))
    found = one.wait(lambda found: found.count(WorkerState.STUCK))
    assert found.workers[0].reason.startswith("accepts nothing for 1")
    assert (found.ready, found.problems) == (0, ["1 of 1 worker is stuck: no event loop runs there."])
    one.open("go")
    one.ready(1)
    for client in clients:
        client.close()


def test_one_of_several_event_loops_that_reads_no_first_request_is_stuck_long_before_its_heartbeat_is_due(gunicorn):
    one = gunicorn(options=("--timeout", "300")).start()
    workers = [psutil.Process(worker.pid) for worker in one.ready().workers]
    clients = [socket.create_connection(one.address.peer) for _ in range(3)]

    def held():
        """Our connections, by the worker that accepted them."""
        ports = {client.getsockname()[1]: client for client in clients}
        found = {
            worker: [
                ports[it.raddr.port] for it in worker.net_connections("tcp") if it.raddr and it.raddr.port in ports
            ]
            for worker in workers
        }
        return found if sum(map(len, found.values())) == len(clients) else None

    # one of the two workers has at least two of the three connections
    blocked, (first, second, *_) = max(wait_until(held, Deadline(180)).items(), key=lambda item: len(item[1]))
    first.sendall(b"GET /block HTTP/1.1\r\nHost: x\r\n\r\n")
    one.wait(lambda found: found.oldest_request is not None)
    second.sendall(b"GET /api/version HTTP/1.1\r\nHost: x\r\n\r\n")
    found = one.wait(lambda found: found.count(WorkerState.STUCK))
    assert {worker.pid: worker.state for worker in found.workers}[blocked.pid] is WorkerState.STUCK
    (stuck,) = [worker for worker in found.workers if worker.state is WorkerState.STUCK]
    assert stuck.reason.startswith("reads nothing for ")
    assert (stuck.in_flight, found.problems) == (2, ["1 of 2 workers is stuck: no event loop runs there."])
    one.open("go")
    assert second.recv(15) == b"HTTP/1.1 200 OK"
    one.ready()
    for client in clients:
        client.close()


def test_a_suspended_worker_is_paused(gunicorn):
    one = gunicorn().start()
    worker = Process.of(one.ready().workers[0].pid)
    worker.signal(signal.SIGSTOP)
    found = one.wait(lambda found: found.count(WorkerState.PAUSED))
    assert (found.ready, found.problems) == (1, ["1 of 2 workers is paused."])
    worker.signal(signal.SIGCONT)
    one.ready()


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_that_outlive_their_master(gunicorn, workers):
    one = gunicorn(workers=workers).start()
    pids = {worker.pid for worker in one.ready(workers).workers}
    web = one.server(uid=os.getuid())
    assert web.orphans() == []
    one.process.kill()
    one.process.wait()
    with pytest.raises(MasterGone, match="outlived their master"):
        web.find_master()
    assert {process.pid for process in web.orphans()} == pids
    assert one.server(uid=os.getuid() + 1).orphans() == []


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_that_open_sockets_of_their_own(gunicorn, workers):
    """Newer gunicorns do so with reuse_port, and their master has none."""
    one = gunicorn(options=["--reuse-port"], workers=workers).start()
    found = one.ready(workers)
    web = one.server()
    assert (found.pid, len(found.workers)) == (one.process.pid, workers)
    assert web.sharers(Process.of(one.process.pid)) == web.orphans() == []
    assert web.snapshot(10).answers
    pids = {worker.pid for worker in found.workers}
    one.process.kill()
    one.process.wait()
    with pytest.raises(MasterGone, match="outlived their master"):
        web.find_master()
    assert {process.pid for process in web.orphans()} == pids


def test_two_gunicorns_are_not_mixed_up(gunicorn):
    first, second = gunicorn().start(), gunicorn(workers=1).start()
    first.ready()
    second.ready(1)
    web = first.server()
    # the manager may name a wrong process: it is not believed if another one listens
    web.told(os.getpid())
    assert web.find_master().pid == first.process.pid
    assert second.server().find_master().pid == second.process.pid
    assert len(web.family(Process.of(first.process.pid))) == 2
    assert web.sharers(Process.of(first.process.pid)) == []


def test_two_masters_of_one_address_are_named(gunicorn):
    """SIGUSR2 has gunicorn start a second master, which has the first one's sockets."""
    one = gunicorn(workers=1).start()
    one.ready(1)
    Process.of(one.process.pid).signal(signal.SIGUSR2)

    def refused():
        try:
            one.server().find_master()
        except SharedSocket as exc:
            return exc

    found = wait_until(refused, Deadline(180))
    assert found.pids[0] == one.process.pid
    assert f"2 gunicorn masters serve it (PID {found.pids[0]}, {found.pids[1]})" in str(found)


def test_what_listens_there_and_is_no_gunicorn():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        web = GunicornServer((Address(*listener.getsockname()),), os.getuid())
        with pytest.raises(ProcessError, match="something listens there that is not gunicorn"):
            web.find_master()


def test_another_users_gunicorn_is_refused(gunicorn):
    one = gunicorn().start()
    one.ready()
    web = one.server(uid=os.getuid() + 1)
    with pytest.raises(NotMine, match="not as user"):
        web.snapshot(5)
    web.told(one.process.pid)
    with pytest.raises(NotMine):
        web.find_master()
    web.believe(one.process.pid)
    assert web.find_master().pid == one.process.pid


@pytest.mark.skipif(os.geteuid() != 0, reason="runs a gunicorn as another user")
def test_a_strangers_gunicorn_beside_ours_counts_for_nothing(gunicorn):
    with public_directory() as root:
        make(f"{root}/theirs", MALLORY)
        one, theirs = gunicorn(workers=1), Gunicorn(pathlib.Path(root) / "theirs", workers=1)
        for path in (theirs.root, theirs.gates):
            os.chown(path, MALLORY, MALLORY)
        port = one.address.port
        # localhost has two addresses, and gunicorn binds the first
        theirs.command[theirs.command.index("-b") + 1] = f"[::1]:{port}"
        theirs.address = Address("::1", port)
        # with this capability, the user can read our Python in any directory
        rights = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
        theirs.command[:0] = ["setpriv", f"--reuid={MALLORY}", f"--regid={MALLORY}", "--clear-groups", *rights]
        try:
            theirs.start()
            theirs.wait(lambda found: found.ready == 1, uid=MALLORY)
            web = GunicornServer((Address("localhost", port),), os.getuid())
            assert (web.is_silent(), web.find_master()) == (True, None)
            one.start()
            one.ready(1)
            assert web.snapshot(10).answers
            # the other server listens at another of our addresses
            both = (one.address, theirs.address)
            assert GunicornServer(both, os.getuid()).snapshot(5, probe=False).pid == one.process.pid
            assert GunicornServer(both, MALLORY).find_master().pid == theirs.process.pid
            with pytest.raises(NotMine, match=f"runs as user {MALLORY}, and nobody knows"):
                GunicornServer(both[1:], "nobody knows").find_master()
            # workers that the other master left are not ours to end
            theirs.process.kill()
            theirs.process.wait()
            alone = GunicornServer(both[1:], os.getuid())
            with pytest.raises(NotMine, match=f"runs as user {MALLORY}"):
                alone.find_master()
            assert alone.orphans() == []
        finally:
            theirs.stop()


def test_reload_replaces_the_workers(gunicorn):
    one = gunicorn().start()
    before = {worker.pid for worker in one.ready().workers}
    web = one.server()
    assert web.reload(web.find_master()) == "SIGHUP"
    one.wait(lambda found: found.ready == 2 and before.isdisjoint(worker.pid for worker in found.workers))


def test_where_nothing_is_known_nothing_is_said():
    web = GunicornServer((), os.getuid())
    assert (web.listens_on, web.is_silent(), web.find_master(), web.orphans()) == ((), None, None, [])
