"""The execution module with a real uWSGI that no process manager runs."""

import json
import os
import signal
import socket
import subprocess
import threading

import psutil
import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

from galaxy_host_wait import Deadline, wait_until


def test_status_of_a_galaxy_that_is_down_is_an_answer(modules, make_site):
    site = make_site()
    status = modules["galaxy.status"](**site.keywords)
    assert (status["running"], status["accepting"], status["ready"], status["pid"]) == (False, False, False, None)
    assert "connection refused" in status["problems"][0]
    assert site.stats in status["problems"][0]


def test_status_without_a_configuration_file_is_an_answer_too(modules, tmp_path):
    """After a reboot, the volume with the file may not be mounted yet."""
    status = modules["galaxy.status"](config=str(tmp_path / "galaxy.yml"))
    assert not status["running"]
    assert status["problems"] == [f"{tmp_path}/galaxy.yml: no such configuration file"]


def test_no_master_on_proof_only(modules, make_site, tmp_path):
    assert modules["galaxy.master_pid"](**make_site().keywords) is None
    with pytest.raises(CommandExecutionError, match=r"cannot be told whether Galaxy runs: .*no such configuration"):
        modules["galaxy.master_pid"](config=str(tmp_path / "galaxy.yml"))
    empty = tmp_path / "empty.yml"
    empty.write_text("uwsgi:\n  master: true\n")
    with pytest.raises(CommandExecutionError, match="cannot be told whether Galaxy runs"):
        modules["galaxy.master_pid"](config=str(empty))


def test_status_of_a_galaxy_that_serves(modules, make_site):
    site = make_site(processes=3).start()
    status = modules["galaxy.status"](**site.keywords)
    assert (status["running"], status["accepting"], status["ready"]) == (True, True, True)
    assert status["pid"] == site.process.pid
    assert status["workers"]["total"] == status["workers"]["idle"] == 3
    assert status["sockets"] == [site.socket, site.http]
    assert (status["listen_queue"]["length"], status["listen_queue"]["errors"]) == (0, 0)
    assert wait_until(lambda: modules["galaxy.status"](**site.keywords)["listen_queue"]["max"] == 100, Deadline(180))
    assert status["manager"] is None
    assert status["problems"] == []
    assert 0 <= status["uptime"] < 600
    assert len(json.dumps(status)) <= 1024
    assert "worker_records" not in status
    assert len(modules["galaxy.status"](**site.keywords, verbose=True)["worker_records"]) == 3


def test_nothing_named_is_an_error_that_says_what_to_give(modules):
    with pytest.raises(CommandExecutionError, match="galaxy:config") as caught:
        modules["galaxy.status"]()
    # salt-call shows the function's documentation for a TypeError, such as a SaltInvocationError
    assert not isinstance(caught.value, TypeError)


@pytest.mark.parametrize("function", ["busy_workers", "stats", "accepting"])
def test_an_unreachable_stats_server_is_an_error(modules, make_site, function):
    with pytest.raises(CommandExecutionError, match="connection refused"):
        modules[f"galaxy.{function}"](**make_site().keywords)


def test_busy_and_saturated_are_told_apart(modules, make_site):
    site = make_site(processes=1, threads=2).start()
    assert modules["galaxy.busy_workers"](**site.keywords) == []
    site.hold(1)
    (worker,) = modules["galaxy.busy_workers"](**site.keywords)
    assert (worker["state"], worker["busy_cores"], worker["cores"]) == ("busy", 1, 2)
    site.hold(1)
    (worker,) = modules["galaxy.busy_workers"](**site.keywords)
    assert (worker["state"], worker["busy_cores"]) == ("saturated", 2)
    assert modules["galaxy.busy_workers"](**site.keywords, state="busy") == []
    pids = modules["galaxy.busy_workers"](**site.keywords, state="saturated", pids_only=True)
    assert pids == [worker["pid"]]
    assert "The only worker that accepts is saturated" in modules["galaxy.status"](**site.keywords)["problems"][0]
    site.open("go")
    assert wait_until(lambda: modules["galaxy.busy_workers"](**site.keywords) == [], Deadline(180))


def test_requests_are_shown_without_their_secrets(modules, make_site):
    site = make_site(processes=1).start()
    site.hold(1)
    (worker,) = modules["galaxy.busy_workers"](**site.keywords)
    (request,) = worker["in_request"]
    assert (request["method"], request["uri"], request["remote_addr"]) == ("GET", "/hold/go", "127.0.0.1")
    assert isinstance(request["seconds"], int)
    shown = json.dumps(
        [
            modules["galaxy.busy_workers"](**site.keywords),
            modules["galaxy.stats"](**site.keywords),
            modules["galaxy.status"](**site.keywords, verbose=True),
        ]
    )
    for secret in ("topsecret", "topcookie", "dG9w", "not-for-your-eyes"):
        assert secret not in shown
    # the stats document does hold the secrets
    assert "topsecret" in json.dumps(site.read().document)


def test_unknown_worker_state_is_refused(modules, make_site):
    with pytest.raises(SaltInvocationError, match="saturated"):
        modules["galaxy.busy_workers"](**make_site().keywords, state="tired")


def test_worker_that_loads_is_not_accepting_and_not_busy(modules, make_site):
    site = make_site(lazy_apps="true")
    site.open("load-is-slow")
    site.start(wait=False)
    assert wait_until(site.read, Deadline(180))
    status = modules["galaxy.status"](**site.keywords)
    assert (status["running"], status["accepting"], status["ready"]) == (True, False, False)
    assert status["workers"]["not_accepting"] == 2
    assert not modules["galaxy.accepting"](**site.keywords)
    assert {worker["state"] for worker in modules["galaxy.busy_workers"](**site.keywords)} == {"not_accepting"}
    assert modules["galaxy.busy_workers"](**site.keywords, state="busy") == []
    site.open("load")
    assert modules["galaxy.wait"](**site.keywords, timeout=180)["ready"]
    assert modules["galaxy.accepting"](**site.keywords)


def test_accepting_without_an_application_is_not_ready(modules, make_site):
    site = make_site()
    site.open("broken")
    site.start()
    status = modules["galaxy.status"](**site.keywords)
    assert (status["accepting"], status["ready"]) == (True, False)
    assert "without an application" in status["problems"][0]
    with pytest.raises(CommandExecutionError, match="none has an application"):
        modules["galaxy.wait"](**site.keywords, timeout=180)


def test_cheap_workers_are_free(modules, make_site):
    site = make_site(processes=4, cheaper=1, cheaper_initial=1).start(wait=False)
    site.wait(accepting=1)
    status = modules["galaxy.status"](**site.keywords)
    assert (status["workers"]["cheap"], status["workers"]["idle"]) == (3, 1)
    assert modules["galaxy.busy_workers"](**site.keywords) == []
    assert len(modules["galaxy.busy_workers"](**site.keywords, state="cheap")) == 3


def test_master_is_one_pid_whoever_else_holds_the_port(modules, make_site):
    site = make_site().start()
    host, port = site.socket.split(":")
    with socket.create_connection((host, int(port))), socket.create_connection(site.http.split(":")):
        lsof = subprocess.run(["lsof", "-t", "-i", f":{port}"], capture_output=True, text=True, check=True)
        # the old scripts took all of these for the master: workers, and this client
        assert len(set(lsof.stdout.split())) > 3
        assert str(os.getpid()) in lsof.stdout.split()
        assert modules["galaxy.master_pid"](**site.keywords) == site.process.pid
        # also without stats server and pidfile
        for address in (site.socket, site.http):
            assert modules["galaxy.master_pid"](socket=address) == site.process.pid


@pytest.mark.parametrize("form", ["unix", "abstract", "ipv6", "any", "localhost"])
def test_every_form_of_address_works_on_a_real_server(modules, make_site, tmp_path, form):
    site = make_site(http=None)
    port, stats_port = site.socket.rpartition(":")[2], site.stats.rpartition(":")[2]
    where, stats = {
        "unix": (f"/tmp/galaxy-{port}.sock", f"/tmp/galaxy-{port}.stats"),
        "abstract": (f"@galaxy-{port}", f"@galaxy-{port}-stats"),
        "ipv6": (f"[::1]:{port}", f"[::1]:{stats_port}"),
        "any": (f":{port}", f":{stats_port}"),
        "localhost": (f"127.0.0.1:{port}", f"127.0.0.1:{stats_port}"),
    }[form]
    site.write(socket=where, stats=stats)
    site.stats = stats
    site.start()
    if form == "localhost":
        where, stats = f"localhost:{port}", f"localhost:{stats_port}"
    assert modules["galaxy.status"](**site.keywords)["pid"] == site.process.pid
    assert modules["galaxy.status"](stats=stats, socket=where)["ready"]
    assert modules["galaxy.master_pid"](socket=where) == site.process.pid


def test_stats_over_http(modules, make_site):
    site = make_site(stats_http="true").start()
    assert modules["galaxy.status"](**site.keywords)["ready"]
    assert modules["galaxy.accepting"](stats=f"http://{site.stats}")


def test_stats_without_cores_and_more_than_128_kib(modules, make_site):
    site = make_site(processes=100, threads=4).start()
    document = json.dumps(modules["galaxy.stats"](**site.keywords), indent=1)
    assert len(document) > 128 * 1024
    assert modules["galaxy.status"](**site.keywords)["workers"]["idle"] == 100
    site.stop()
    bare = make_site(stats_no_cores="true", processes=1).start()
    bare.hold(1)
    (worker,) = modules["galaxy.busy_workers"](**bare.keywords)
    assert (worker["state"], worker["cores"], worker["busy_cores"]) == ("busy", None, None)


@pytest.mark.parametrize("method", ["master-fifo", "SIGHUP"])
def test_reload_brings_new_workers_under_the_same_master(modules, make_site, method):
    site = make_site()
    if method == "master-fifo":
        site.write(master_fifo=site.root / "fifo")
    site.start()
    before = site.read()
    done = modules["galaxy.reload"](**site.keywords, timeout=180)
    after = site.read()
    assert (done["method"], done["changed"], done["pid"]) == (method, True, before.pid)
    assert after.pid == before.pid
    assert {worker.pid for worker in before.workers}.isdisjoint(worker.pid for worker in after.workers)
    assert site.get() == b"Galaxy\n"


def test_wait_ends_at_once_when_the_master_dies(modules, make_site):
    site = make_site(lazy_apps="true")
    site.open("load-is-slow")
    site.start(wait=False)
    assert wait_until(site.read, Deadline(180))
    end = threading.Timer(0.7, os.kill, (site.process.pid, signal.SIGKILL))
    end.start()
    with pytest.raises(CommandExecutionError, match=f"PID {site.process.pid}, died"):
        modules["galaxy.wait"](**site.keywords, timeout=120)
    end.join()


def test_wait_for_the_stats_server_alone(modules, make_site):
    site = make_site(lazy_apps="true")
    site.open("load-is-slow")
    site.start(wait=False)
    assert modules["galaxy.wait"](**site.keywords, timeout=180, workers=0)["accepting"] == 0


def test_wait_says_at_its_timeout_what_it_saw(modules, make_site):
    site = make_site(processes=2, lazy_apps="true")
    site.open("load-is-slow")
    site.start(wait=False)
    assert wait_until(site.read, Deadline(180))
    with pytest.raises(CommandExecutionError, match=r"not ready after 0.3 s: 0 of 2 workers accept, 1 wanted"):
        modules["galaxy.wait"](**site.keywords, timeout=0.3)


def test_stop_refuses_what_nothing_manages_unless_forced(modules, make_site):
    site = make_site().start()
    with pytest.raises(CommandExecutionError, match=f"PID {site.process.pid}; force=True"):
        modules["galaxy.stop"](**site.keywords)
    assert site.get() == b"Galaxy\n"
    done = modules["galaxy.stop"](**site.keywords, force=True)
    assert done["changed"]
    assert {"pid": site.process.pid, "signal": "SIGINT"} in done["signals"]
    assert site.process.wait(5) is not None
    assert not any(psutil.pid_exists(pid) for pid in done["stopped"] if pid != site.process.pid)


def test_workers_that_outlive_their_master_are_seen_and_ended(modules, make_site):
    """A worker that is stopped, or waits for a dead disk, does not notice that its master is gone."""
    site = make_site(processes=1).start()
    worker = psutil.Process(site.read().workers[0].pid)
    worker.send_signal(signal.SIGSTOP)
    os.kill(site.process.pid, signal.SIGKILL)
    site.process.wait()
    assert wait_until(lambda: modules["galaxy.status"](**site.keywords)["pid"] is None, Deadline(180))
    status = modules["galaxy.status"](**site.keywords)
    assert status["running"]
    assert f"PID {worker.pid}" in " ".join(status["problems"])
    with pytest.raises(CommandExecutionError, match="outlived"):
        modules["galaxy.master_pid"](**site.keywords)
    done = modules["galaxy.stop"](**site.keywords, timeout=1)
    # a router or mule that has not noticed it yet gets its SIGTERM too
    sent = [each for each in done["signals"] if each["pid"] == worker.pid]
    assert sent == [{"pid": worker.pid, "signal": name} for name in ("SIGTERM", "SIGKILL")]
    assert not modules["galaxy.status"](**site.keywords)["running"]


def test_something_else_on_the_socket_is_never_the_master(modules, make_site):
    site = make_site()
    host, port = site.socket.split(":")
    with socket.create_server((host, int(port))):
        with pytest.raises(CommandExecutionError, match="not uWSGI"):
            modules["galaxy.master_pid"](**site.keywords)
        with pytest.raises(CommandExecutionError, match="It cannot be told whether Galaxy runs"):
            modules["galaxy.stop"](**site.keywords, force=True)


def test_keywords_come_from_pillar_and_arguments_win(modules, opts, make_site):
    import salt.loader

    site = make_site().start()
    configured = salt.loader.minion_mods(dict(opts, pillar={"galaxy": {"config": str(site.config)}}), context={})
    assert configured["galaxy.status"]()["ready"]
    assert configured["galaxy.sockets"]()[-1] == {
        "address": site.stats,
        "option": "stats",
        "source": f"{site.config}:4",
    }
    assert not configured["galaxy.status"](stats="127.0.0.1:1")["accepting"]


def test_config_is_plain_data_with_its_sources(modules, make_site):
    site = make_site(socket=["127.0.0.1:4001", "@second"])
    found = modules["galaxy.config"](**site.keywords)
    assert json.loads(json.dumps(found)) == found
    assert [one["value"] for one in found["sockets"]] == ["127.0.0.1:4001", "@second", site.http]
    assert found["processes"] == {"value": 2, "option": "processes", "source": f"{site.config}:7"}
