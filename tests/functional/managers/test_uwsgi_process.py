"""Which processes belong to one uWSGI, with real ones: alone, sharing a socket, renamed, orphaned."""

import contextlib
import os
import signal
import socket
import subprocess

import pytest
from support.site import UWSGI, free_port

import galaxy_host_address
import galaxy_host_process
import galaxy_uwsgi_process
from galaxy_errors import MasterGone, SharedSocket
from galaxy_host_process import Process
from galaxy_host_wait import Deadline, wait_until

parse = galaxy_host_address.parse


def _find(site, *hints, **options):
    return galaxy_uwsgi_process.find_master([parse(site.socket)], hints, **options)


def _pids(processes):
    return {process.pid for process in processes}


def _descendants(pid):
    process = Process.of(pid)
    return _pids(one for child in process.children() for one in (child, *child.children())) if process else set()


@pytest.fixture
def spawn(tmp_path):
    """A function that starts uWSGI with options, in a session of its own. It ends with the test."""
    started = []

    def run(*options, **keywords):
        with (tmp_path / "uwsgi.log").open("ab") as log:
            argv = [UWSGI, *map(str, options)]
            started.append(subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True, **keywords))
        return started[-1]

    yield run
    for process in started:
        identified = Process.of(process.pid)
        for one in [*galaxy_uwsgi_process.family(identified), identified] if identified else ():
            one.signal(signal.SIGKILL)
        process.kill()
        process.wait()


def test_the_master_and_its_family(make_site):
    site = make_site(processes=3).start()
    master = _find(site)
    assert master.pid == site.process.pid
    # workers, mule and HTTP router
    assert _pids(galaxy_uwsgi_process.family(master)) == _descendants(master.pid)
    assert len(galaxy_uwsgi_process.family(master)) == 5
    assert _pids(galaxy_uwsgi_process.masters(str(site.config))) == {master.pid}
    for hint in (*_descendants(master.pid), master.pid, os.getpid(), 1):
        assert _find(site, hint) == master
    assert galaxy_uwsgi_process.survivors([parse(site.socket)]) == []
    assert galaxy_uwsgi_process.sharers([parse(site.socket)], master) == []


def test_a_job_of_a_worker_is_not_family(make_site, tmp_path):
    """Neither a program that a worker started nor another uWSGI is family."""
    site = make_site(processes=1, mule=None, farm=None, http=None)
    other = f"127.0.0.1:{free_port()}"
    (tmp_path / "job.sh").write_text(f"#!/bin/sh\n{UWSGI} --master --socket {other} & sleep 99 & wait\n")
    (tmp_path / "job.sh").chmod(0o755)
    site.write(attach_daemon=tmp_path / "job.sh")
    site.start()
    master = _find(site)
    foreign = wait_until(lambda: galaxy_uwsgi_process.find_master([parse(other)]), Deadline(180))
    try:
        assert master.pid in foreign.lineage
        assert foreign not in galaxy_uwsgi_process.family(master)
        assert len(galaxy_uwsgi_process.family(master)) == 1
        assert _find(site) == master
    finally:
        galaxy_host_process.end([foreign], signal.SIGKILL, 5)


@pytest.mark.parametrize(
    "words",
    [
        ["--yaml", "{config}"],
        ["--yaml={config}"],
        ["-y", "{config}"],
        ["--master", "{config}"],
        ["--yaml", "config/galaxy.yml"],
        ["--yaml", "link.yml"],
    ],
)
def test_masters_by_the_configuration_that_they_name(make_site, spawn, words):
    site = make_site(processes=1)
    (site.root / "link.yml").symlink_to(site.config)
    process = spawn(*(word.format(config=site.config) for word in words), cwd=site.root)
    site.wait()
    assert _pids(galaxy_uwsgi_process.masters(str(site.config))) == {process.pid}
    assert _pids(galaxy_uwsgi_process.masters(str(site.root / "link.yml"))) == {process.pid}
    assert galaxy_uwsgi_process.masters(str(site.root / "config" / "other.yml")) == []


def test_what_only_mentions_the_configuration_is_no_master_of_it(make_site, spawn):
    site = make_site()
    site.config.touch()
    address = f"127.0.0.1:{free_port()}"
    spawn("--master", "--socket", address, "--touch-reload", site.config)
    assert wait_until(lambda: galaxy_uwsgi_process.find_master([parse(address)]), Deadline(180))
    with subprocess.Popen(["tail", "-f", site.config, "uwsgi"], stderr=subprocess.DEVNULL) as editor:
        assert galaxy_uwsgi_process.masters(str(site.config)) == []
        editor.kill()


def test_workers_that_outlived_their_master(make_site):
    site = make_site(processes=2, threads=None, no_orphans=None, http=None, mule=None, farm=None).start()
    master = _find(site)
    workers = galaxy_uwsgi_process.family(master)
    for worker in workers:
        # while they are stopped, they do not notice that their master is gone
        worker.signal(signal.SIGSTOP)
    site.process.kill()
    site.process.wait()
    with pytest.raises(MasterGone) as caught:
        _find(site, master.pid)
    assert set(caught.value.pids) == _pids(workers)
    assert set(galaxy_uwsgi_process.survivors([parse(site.socket)])) == set(workers)
    assert galaxy_uwsgi_process.masters(str(site.config)) == []
    galaxy_host_process.end(workers, signal.SIGKILL, 5)


@pytest.fixture
def pool(tmp_path, spawn):
    """A zerg pool and two zerglings of one configuration: the socket, and each one's stats address and process."""
    port = free_port()
    stats = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    pool_socket = f"/tmp/zerg-{os.getpid()}-{port}.sock"
    (tmp_path / "app.py").write_text("def application(e, r):\n    r('200 OK', [])\n    return [b'']\n")
    (tmp_path / "galaxy.ini").write_text(
        f"[uwsgi]\nmaster = true\nprocesses = 2\nzerg = {pool_socket}\nwsgi-file = {tmp_path}/app.py\n"
    )
    leader = spawn("--master", "--zerg-pool", f"{pool_socket}:127.0.0.1:{port}")
    assert wait_until(lambda: os.path.exists(pool_socket), Deadline(180))
    lings = [spawn("--ini", tmp_path / "galaxy.ini", "--stats", address) for address in stats]
    addresses = [parse(f"127.0.0.1:{port}")]
    everyone = {leader.pid, lings[0].pid, lings[1].pid}

    def serving():
        inodes = galaxy_uwsgi_process.listeners(addresses)
        return everyone <= _pids(galaxy_uwsgi_process._split(galaxy_uwsgi_process._holders(inodes))[0])

    assert wait_until(serving, Deadline(180)), (tmp_path / "uwsgi.log").read_text()
    assert wait_until(lambda: all(len(_descendants(ling.pid)) == 2 for ling in lings), Deadline(180))
    yield addresses, [parse(address) for address in stats], leader, lings, str(tmp_path / "galaxy.ini")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(pool_socket)


def test_zerglings_are_told_apart(pool):
    """They share a socket, but only the one in question is meant."""
    addresses, stats, leader, lings, config = pool
    for own, other in ((0, 1), (1, 0)):
        for hints, wanted in (((lings[own].pid,), addresses), ((), [*addresses, stats[own]])):
            master = galaxy_uwsgi_process.find_master(wanted, hints, config)
            assert master.pid == lings[own].pid
        assert _pids(galaxy_uwsgi_process.family(master)) == _descendants(lings[own].pid)
        assert _pids(galaxy_uwsgi_process.sharers(addresses, master)) == {lings[other].pid, leader.pid}
    with pytest.raises(SharedSocket, match="2 uWSGI masters serve it") as caught:
        galaxy_uwsgi_process.find_master(addresses, config=config)
    assert set(caught.value.pids) == {ling.pid for ling in lings}
    with pytest.raises(SharedSocket, match="3 uWSGI masters"):
        galaxy_uwsgi_process.find_master(addresses)
    assert galaxy_uwsgi_process.survivors(addresses) == []
    assert _pids(galaxy_uwsgi_process.masters(config)) == {ling.pid for ling in lings}


def test_only_the_workers_of_the_zergling_that_died_are_survivors(pool):
    addresses, _, leader, lings, _ = pool
    orphans = galaxy_uwsgi_process.family(Process.of(lings[0].pid))
    for orphan in orphans:
        orphan.signal(signal.SIGSTOP)
    lings[0].kill()
    lings[0].wait()
    assert set(galaxy_uwsgi_process.survivors(addresses)) == set(orphans)
    master = galaxy_uwsgi_process.find_master(addresses, [lings[1].pid])
    assert _pids(galaxy_uwsgi_process.sharers(addresses, master)) == {leader.pid}
    galaxy_host_process.end(orphans, signal.SIGKILL, 5)


def test_two_servers_of_one_port_by_reuse_port(spawn, tmp_path):
    port = free_port()
    configs = []
    for name in ("a", "b"):
        configs.append(tmp_path / f"{name}.ini")
        configs[-1].write_text(f"[uwsgi]\nmaster = true\nprocesses = 2\nreuse-port = true\nsocket = 127.0.0.1:{port}\n")
    first, second = (spawn("--ini", config) for config in configs)
    addresses = [parse(f"127.0.0.1:{port}")]
    assert wait_until(lambda: len(galaxy_uwsgi_process.listeners(addresses)) == 2, Deadline(180))
    for process, config in zip((first, second), configs, strict=True):
        assert wait_until(lambda pid=process.pid: len(_descendants(pid)) == 2, Deadline(180))
        assert galaxy_uwsgi_process.find_master(addresses, config=str(config)).pid == process.pid
    with pytest.raises(SharedSocket):
        galaxy_uwsgi_process.find_master(addresses)


def test_a_master_that_was_re_forked_is_another_one(make_site):
    """FIFO command ``f``: a copy of the master executes uWSGI with the same words, as a child of the old master."""
    fifo = f"/tmp/fifo-{os.getpid()}-{free_port()}"
    # no stats server: the new master could not take over its port
    site = make_site(processes=2, mule=None, farm=None, http=None, stats=None, master_fifo=fifo).start(wait=False)
    old = wait_until(lambda: _find(site), Deadline(180))
    assert wait_until(lambda: os.path.exists(fifo) and len(_descendants(old.pid)) == 2, Deadline(180))
    workers = galaxy_uwsgi_process.family(old)
    with open(fifo, "w") as control:
        control.write("f")
    new = None
    try:
        assert wait_until(lambda: galaxy_uwsgi_process.sharers([parse(site.socket)], old), Deadline(180))
        (new,) = galaxy_uwsgi_process.sharers([parse(site.socket)], old)
        assert new.parent == old
        assert new.argv[1:] == old.argv[1:]
        assert wait_until(lambda: len(galaxy_uwsgi_process.family(new)) == 2, Deadline(180))
        assert set(galaxy_uwsgi_process.family(old)) == set(workers)
        assert set(galaxy_uwsgi_process.masters(str(site.config))) == {old, new}
        assert _find(site, new.pid) == new
        assert _find(site, old.pid) == old
        with pytest.raises(SharedSocket):
            _find(site, config=str(site.config))
    finally:
        if new:
            galaxy_host_process.end([*galaxy_uwsgi_process.family(new), new], signal.SIGKILL, 5)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fifo)


def test_a_vassal_is_another_server_than_its_emperor(tmp_path, spawn):
    (tmp_path / "vassals").mkdir()
    config = tmp_path / "vassals" / "galaxy.ini"
    address = f"127.0.0.1:{free_port()}"
    config.write_text(f"[uwsgi]\nmaster = true\nprocesses = 1\nsocket = {address}\n")
    emperor = spawn("--emperor", tmp_path / "vassals", "--master", "--emperor-wrapper", UWSGI)
    assert wait_until(lambda: galaxy_uwsgi_process.listeners([parse(address)]), Deadline(180))
    master = galaxy_uwsgi_process.find_master([parse(address)])
    assert master.pid != emperor.pid
    assert emperor.pid in master.lineage
    assert wait_until(lambda: len(galaxy_uwsgi_process.family(master)) == 1, Deadline(180))
    assert master not in galaxy_uwsgi_process.family(Process.of(emperor.pid))
    galaxy_host_process.end([Process.of(emperor.pid)], signal.SIGKILL, 5)
    galaxy_host_process.end([master], signal.SIGKILL, 5)


@pytest.mark.parametrize("options", [{"processes": 1, "master": "false"}, {"processes": 2}])
def test_a_daemon_is_its_own_master(make_site, options, tmp_path):
    """It is in a process group whose leader has ended."""
    site = make_site(**options, mule=None, farm=None, http=None, daemonize=tmp_path / "daemon.log", stats=None)
    subprocess.run(site.command, check=True)
    assert wait_until(lambda: galaxy_uwsgi_process.listeners([parse(site.socket)]), Deadline(180))
    pid = wait_until(lambda: int((site.root / "galaxy.pid").read_text() or 0), Deadline(180))
    process = Process.of(pid)
    try:
        assert wait_until(lambda: _find(site, pid) == process, Deadline(180))
        if options["processes"] > 1:
            assert wait_until(lambda: len(galaxy_uwsgi_process.family(process)) == 2, Deadline(180))
            assert _find(site) == process
    finally:
        galaxy_host_process.end([*galaxy_uwsgi_process.family(process), process], signal.SIGKILL, 5)


def test_something_else_on_the_socket_beside_it(make_site):
    """A job that inherited the socket is not uWSGI."""
    site = make_site(processes=1).start()
    with socket.create_connection(tuple(site.http.split(":"))):
        assert _find(site).pid == site.process.pid
