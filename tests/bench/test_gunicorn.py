"""A small Galaxy under Gravity: gunicorns, Celery and handlers. Its application is a stand-in."""

import contextlib
import json
import resource
import socket
import statistics
import threading
import time

import pytest
from measure import fleet, medians, rounds
from support.balancer import Load, balancer
from support.minions import Minions

import galaxy_gunicorn_heartbeat
import galaxy_reload
import galaxy_status
import galaxy_wait
from galaxy_host_wait import Deadline, wait_until
from galaxy_server import Galaxy
from galaxy_spec import Limits, Spec

_LIMITS = Limits(timeout=300)


def _galaxy(bed):
    return Galaxy(Spec(config=str(bed.config)), {})


def _facts(bed):
    """All facts of ``galaxy.status``, except the HTTP request."""
    galaxy = _galaxy(bed)
    found = galaxy_status.record(galaxy, galaxy.look(5, probe=False), _LIMITS)
    assert found["ready"], found["problems"]
    return found


def _started(bed, workers):
    bed.start()
    galaxy_wait.wait(_galaxy(bed), Limits(timeout=300, min_workers=workers))
    return bed


def _cpu_of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextlib.contextmanager
def _open_connections(bed, count):
    """``count`` clients, shared by the gunicorns. Each has sent a part of a request."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 500, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with contextlib.ExitStack() as stack:
        for number in range(count):
            host, _, port = bed.binds[number % len(bed.binds)].rpartition(":")
            client = stack.enter_context(socket.create_connection((host, int(port)), timeout=60))
            client.sendall(b"GET /api/version HTTP/1.1\r\n")
        busy = wait_until(lambda: sum(_in_flight(bed)) == count, Deadline(120))
        assert busy, _in_flight(bed)
        yield


def _in_flight(bed):
    look = _galaxy(bed).look(5, probe=False)
    return [worker.in_flight or 0 for snapshot in look.snapshots for worker in snapshot.workers]


def test_all_facts(make_bed, row):
    bed = _started(make_bed(gunicorns=2, workers=4, celery=True, handlers=2), 8)
    # in turn, for a machine may be half as quick a second later
    times, ratios = [], []
    for _ in range(rounds(10)):
        ours = medians(20, time.process_time, ours=lambda: _facts(bed))["ours"]
        theirs = medians(1, _cpu_of_children, theirs=lambda: bed.galaxyctl("status"))["theirs"]
        times.append(ours)
        ratios.append(theirs / ours)
    idle, ratio = statistics.median(times), statistics.median(ratios)
    row("CPU of all facts of a Galaxy under Gravity, without HTTP", f"{idle * 1000:.1f} ms", "<= 15 ms", idle <= 0.015)
    row("galaxyctl status / all facts (CPU)", f"{ratio:.0f} x", ">= 30 x", ratio >= 30)
    found = {0: [], 1000: [], 2000: []}
    for _ in range(rounds(5)):
        for count, some in found.items():
            with _open_connections(bed, count):
                some.append(medians(10, time.process_time, ours=lambda: _facts(bed))["ours"])
    idle, *busy = map(statistics.median, found.values())
    ratio = busy[1] / idle
    row("all facts, 2,000 open connections / idle", f"{ratio:.1f} x", "<= 5 x", ratio <= 5)
    grown = (busy[1] - idle) / (busy[0] - idle)
    row("what 2,000 connections add / what 1,000 add", f"{grown:.2f} x", "<= 2.2 x", grown <= 2.2)


def test_wait(make_bed, row):
    bed = make_bed(preload=False, workers=4)
    limits = Limits(timeout=300, min_workers=4)
    delays, shares = [], []
    for _ in range(rounds(9)):
        bed.open("load-is-slow")
        bed.close("load")
        bed.start()
        returned = []

        def run(returned=returned):
            began, before = time.monotonic(), time.thread_time()
            galaxy_wait.wait(_galaxy(bed), limits)
            ended = time.monotonic()
            returned.append((ended, (time.thread_time() - before) / (ended - began)))

        waiting = threading.Thread(target=run)
        waiting.start()
        time.sleep(2)
        bed.open("load")
        waiting.join()
        (snapshot,) = _galaxy(bed).look(5, probe=False).snapshots
        # the first heartbeat of each worker; the next one comes half a minute later
        beats = [galaxy_gunicorn_heartbeat.files(worker.pid).heartbeat.st_mtime for worker in snapshot.workers]
        delays.append(returned[0][0] - max(beats))
        shares.append(returned[0][1])
        bed.stop()
        bed.end()
    delay, share = statistics.median(delays) * 1000, statistics.median(shares) * 100
    row(
        "galaxy.wait returns after the last wanted gunicorn worker's first beat",
        f"{delay:.0f} ms",
        "<= 100 ms",
        delay <= 100,
    )
    row("CPU of galaxy.wait meanwhile, under Gravity", f"{share:.2f} %", "< 2 %", share < 2)


def test_rolling(make_bed, tmp_path, row):
    bed = _started(make_bed(gunicorns=2, celery=True, handlers=2), 2)

    def failed(restart):
        with balancer(tmp_path / "nginx", bed.binds) as port, Load(port, pause=0.01) as load:
            restart()
            load.reach(1000)
        return load

    ours = failed(lambda: galaxy_reload.roll(_galaxy(bed), _LIMITS))
    row(
        "requests that fail while two gunicorns are restarted in turn, through nginx",
        f"{len(ours.failed)} of {ours.count}",
        "0 of 1000",
        not ours.failed,
    )
    theirs = failed(lambda: bed.galaxyctl("graceful", check=False))
    row("the same by galaxyctl graceful", f"{len(theirs.failed)} of {theirs.count}", "-", True)


@pytest.fixture
def master(make_bed, salt_factories, tree, tmp_path):
    """A master with two minions; each has a Galaxy under Gravity."""
    names = ("gravity-one", "gravity-two")
    beds = {name: _started(make_bed(gunicorns=2, celery=True, handlers=2), 2) for name in names}
    pillar = tmp_path / "pillar"
    pillar.mkdir()
    (pillar / "top.sls").write_text(json.dumps({"base": {name: [name] for name in names}}))
    for name, bed in beds.items():
        (pillar / f"{name}.sls").write_text(json.dumps({"galaxy": {"config": str(bed.config)}}))
    roots = {"file_roots": {"base": [str(tree)]}, "pillar_roots": {"base": [str(pillar)]}, "open_mode": True}
    master = salt_factories.salt_master_daemon("gravity-master", overrides=roots, start_timeout=600)
    with master.started():
        minions = Minions(master, tree, names)
        minions.start()
        minions.answer(master.salt_cli())
        yield master
        minions.stop()


def test_status_of_a_fleet(master, row):
    fleet(master, row, ", Galaxies under Gravity")
