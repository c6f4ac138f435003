"""Functions and states for a Galaxy that the real Gravity runs under its supervisord: gunicorn, Celery, handlers."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time

import psutil
import pytest
import salt.loader
from salt.exceptions import CommandExecutionError
from support.bed import beds
from support.remote import certify
from support.site import free_port

from galaxy_host_wait import Deadline, wait_until


@pytest.fixture
def bed():
    """A function that makes a small Galaxy. Gravity has set it up, but not started it."""
    makers = beds()
    make = next(makers)

    def made(**options):
        one = make(**options)
        one.update()
        return one

    yield made
    next(makers, None)


def _get(bed, path="/api/version", index=0):
    host, _, port = bed.binds[index].rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    connection.request("GET", path)
    return connection.getresponse().status


def _is_up(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def _status(modules, bed, **more):
    return modules["galaxy.status"](config=str(bed.config), **more)


def test_all_services_start_are_told_and_stop(modules, bed):
    one = bed(celery=True, handlers=2)
    config = str(one.config)
    down = _status(modules, one)
    assert (down["web_server"], down["running"], down["ready"], down["ready_workers"]) == ("gunicorn", False, False, 0)
    assert modules["galaxy.startup"](config=config, timeout=60, test=True)["changed"]
    first = modules["galaxy.startup"](config=config, timeout=60, min_workers=2)
    assert (first["changed"], first["ready"], first["accepting"], first["manager"]) == (True, True, 2, "supervisord")
    assert _get(one) == 200
    found = wait_until(lambda: (now := _status(modules, one)) and not now["problems"] and now, Deadline(60))
    assert found, _status(modules, one)["problems"]
    assert json.loads(json.dumps(found)) == found
    assert len(json.dumps(found)) <= 1536
    assert (found["running"], found["accepting"], found["ready"], found["pid"]) == (True, True, True, first["pid"])
    assert found["galaxy_version"] == {"running": "26.1.1", "on_disk": "26.1.1"}
    assert {name: service["role"] for name, service in found["services"].items()} == {
        **{"gunicorn": "web", "celery": "celery", "celery-beat": "celery-beat"},
        **{"handler_0": "handler", "handler_1": "handler"},
    }
    assert {service["state"] for service in found["services"].values()} == {"running"}
    again = modules["galaxy.startup"](config=config, timeout=60)
    assert (again["changed"], again["pid"]) == (False, first["pid"])
    stopped = modules["galaxy.stop"](config=config, timeout=30)
    pids = {pid for service in found["services"].values() for pid in service["pids"]}
    assert pids <= set(stopped["stopped"])
    assert stopped["signals"] == []
    after = _status(modules, one)
    assert (after["running"], {service["state"] for service in after["services"].values()}) == (False, {"stopped"})
    assert not modules["galaxy.stop"](config=config)["changed"]


@pytest.mark.parametrize("options", [{}, {"bind": "unix"}, {"name": "main"}, {"preload": False}], ids=str)
def test_each_way_to_set_it_up(modules, bed, options):
    one = bed(**options)
    config = str(one.config)
    done = modules["galaxy.startup"](config=config, timeout=60)
    assert (done["ready"], modules["galaxy.master_pid"](config=config)) == (True, done["pid"])
    found = _status(modules, one)
    assert (found["ready"], found["galaxy_version"]["running"]) == (True, "26.1.1")
    restarted = modules["galaxy.restart"](config=config, timeout=60)
    assert restarted["start"]["pid"] not in (None, done["pid"])
    modules["galaxy.stop"](config=config)
    assert _status(modules, one)["running"] is False


def _gunicorn(bed, **options):
    """Write other options of gunicorn into the configuration."""
    gunicorn = {"bind": bed.binds[0], "workers": 2, "timeout": 60, "start_timeout": 1, **options}
    bed.write(gunicorn=gunicorn)
    bed.update()


def test_a_socket_below_the_root_of_galaxy(modules, bed):
    one = bed()
    _gunicorn(one, bind="unix:database/s")
    assert modules["galaxy.startup"](config=str(one.config), timeout=60)["ready"]
    found = _status(modules, one)
    assert (found["ready"], found["sockets"]) == (True, [f"{one.root}/database/s"])


@pytest.mark.parametrize("wants_ours", [False, True])
def test_tls(modules, bed, wants_ours):
    one = bed()
    key, certificate = one.root / "key", one.root / "certificate"
    certify(certificate, key)
    key.chmod(0o644)
    ours = f"--cert-reqs 2 --ca-certs {certificate}" if wants_ours else ""
    _gunicorn(one, extra_args=f"--keyfile {key} --certfile {certificate} {ours}")
    assert modules["galaxy.startup"](config=str(one.config), timeout=60)["ready"]
    found = _status(modules, one)
    # the certificate is self-signed. If gunicorn wants a client's certificate too, only its workers can tell
    assert (found["ready"], found["galaxy_version"]["running"]) == (True, None if wants_ours else "26.1.1")


def test_a_socket_that_something_else_opens_is_refused_with_the_reason(modules, bed):
    one = bed()
    _gunicorn(one, bind="fd://3")
    with pytest.raises(CommandExecutionError, match=r"bind: is a socket that something else opens \(fd://\)"):
        modules["galaxy.start"](config=str(one.config), timeout=60)
    one.start()
    found = _status(modules, one)
    assert (found["running"], found["ready"], found["ready_workers"]) == (None, None, None)
    assert "so it cannot be told where Galaxy listens" in found["problems"][0]


def test_one_gunicorn_with_several_binds(modules, bed):
    one = bed()
    port = free_port()
    _gunicorn(one, extra_args=f"--bind unix:{one.root}/s -b 127.0.0.1:{port}")
    config = str(one.config)
    assert modules["galaxy.startup"](config=config, timeout=60)["ready"]
    found = _status(modules, one)
    assert (found["ready"], found["sockets"]) == (True, [one.binds[0], f"{one.root}/s", f"127.0.0.1:{port}"])
    clients = [socket.create_connection(("127.0.0.1", port)), socket.socket(socket.AF_UNIX)]
    clients[1].connect(f"{one.root}/s")
    for client in clients:
        client.sendall(b"GET /await HTTP/1.1\r\nHost: x\r\n\r\n")

    def in_flight():
        return sum(worker["in_flight"] for worker in modules["galaxy.busy_workers"](config=config, state="busy"))

    assert wait_until(lambda: in_flight() == 2, Deadline(180))
    for client in clients:
        client.close()


def test_reports_and_tusd_by_their_managers_word(modules, bed):
    reports = {"enable": True, "config_file": "reports.yml", "bind": f"127.0.0.1:{free_port()}", "start_timeout": 1}
    one = bed(galaxy={"galaxy_infrastructure_url": "http://localhost"})
    (one.config.parent / "reports.yml").write_text("reports: {}\n")
    webapps = one.root / "lib" / "galaxy" / "webapps"
    shutil.copytree(webapps / "galaxy", webapps / "reports")
    program = one.root / "tusd"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    tusd = {"enable": True, "upload_dir": str(one.root), "tusd_path": str(program), "start_timeout": 1}
    one.write(reports=reports, tusd=tusd)
    one.update()
    config = str(one.config)
    modules["galaxy.startup"](config=config, timeout=60)
    before = wait_until(lambda: (now := _status(modules, one)) and not now["problems"] and now, Deadline(180))
    assert before, _status(modules, one)["problems"]
    assert {service["state"] for service in before["services"].values()} == {"running"}
    modules["galaxy.reload"](config=config, force=True, timeout=60)
    after = _status(modules, one)["services"]
    assert {name for name, service in before["services"].items() if after[name]["pids"] == service["pids"]} == {"tusd"}


def test_a_second_file_with_the_same_data_has_none_of_the_firsts_services(modules, bed):
    one = bed(handlers=1)
    config, second = str(one.config), one.config.with_name("second.yml")
    first = modules["galaxy.startup"](config=config, timeout=60)
    second.write_text(config_text := one.config.read_text().replace(one.binds[0], f"127.0.0.1:{free_port()}"))
    assert config_text != one.config.read_text()
    found = modules["galaxy.status"](config=str(second))
    assert (found["running"], {service["state"] for service in found["services"].values()}) == (False, {"unknown"})
    assert f"has programs of {config}, which has the same data_dir and instance_name" in found["problems"][0]
    assert not any("galaxyctl update" in text for text in found["problems"])
    for verb in ("start", "startup", "restart"):
        with pytest.raises(CommandExecutionError, match="which has the same data_dir"):
            modules[f"galaxy.{verb}"](config=str(second), timeout=60)
    assert modules["galaxy.stop"](config=str(second), force=True)["stopped"] == []
    assert modules["galaxy.master_pid"](config=config) == first["pid"]
    # Gravity was given the same file by another path
    link = one.root / "link"
    link.symlink_to(one.config.parent)
    for path in (one.state / "supervisor" / "supervisord.conf.d").rglob("*.conf"):
        path.write_text(path.read_text().replace(config, f"{link}/{one.config.name}"))
    assert _status(modules, one)["services"]["handler"]["state"] == "running"
    # the file was renamed, so there is only one Galaxy
    one.config.rename(one.config.with_name("renamed.yml"))
    renamed = modules["galaxy.status"](config=str(one.config.with_name("renamed.yml")))
    assert (renamed["ready"], renamed["services"]["handler"]["state"]) == (True, "running")


def test_what_runs_under_the_process_manager_of_before_is_told(modules, bed):
    one = bed(handlers=1)
    config = str(one.config)
    modules["galaxy.startup"](config=config, timeout=60)
    one.manager = "systemd"
    one.write()
    said = " ".join(_status(modules, one)["problems"])
    assert "Installed but no longer configured: gunicorn of supervisord, handler of supervisord; run" in said
    for verb in ("stop", "startup"):
        with pytest.raises(CommandExecutionError, match="No process manager has"):
            modules[f"galaxy.{verb}"](config=config, timeout=60)


def test_a_request_under_way_is_seen_with_its_age(modules, bed):
    one = bed()
    modules["galaxy.startup"](config=str(one.config), timeout=60)
    client = threading.Thread(target=_get, args=(one, "/await"))
    client.start()

    def busy():
        return modules["galaxy.busy_workers"](config=str(one.config), state="busy")

    (worker,) = wait_until(busy, Deadline(180))
    assert (worker["in_flight"], worker["state"]) == (1, "busy")
    assert worker["oldest_request"] >= 0
    assert worker["pss"] > 0
    one.open("go")
    client.join()
    assert wait_until(lambda: not busy(), Deadline(180))


def test_broken_code_ends_the_wait_with_the_log(modules, bed):
    one = bed(preload=False)
    one.open("broken")
    with pytest.raises(CommandExecutionError, match=r"(?s)Last lines of the log"):
        modules["galaxy.startup"](config=str(one.config), timeout=120, retries=0)
    assert _status(modules, one)["ready"] is not True


def test_a_configuration_that_is_newer_than_what_runs_is_told(modules, bed):
    one = bed(preload=False, handlers=1)
    config = str(one.config)
    modules["galaxy.startup"](config=config, timeout=60)
    assert not any("was changed" in text for text in _status(modules, one)["problems"])
    workers = _status(modules, one, verbose=True)["worker_records"]
    newer = min(psutil.Process(worker["pid"]).create_time() for worker in workers) + 2.5
    os.utime(config, (newer, newer))
    said = f"{config} was changed after handler, gunicorn were started: a restart or reload takes it up."
    assert said in _status(modules, one)["problems"]
    # wait: on a fast machine, the new workers would start before that time
    assert wait_until(lambda: time.time() > newer + 1, Deadline(60))
    # the master is the same, but its new workers have read the file
    modules["galaxy.reload"](config=config, force=True, timeout=60)
    assert not any("was changed" in text for text in _status(modules, one)["problems"])


def test_workers_that_outlived_their_master_are_told_and_ended(modules, bed):
    one = bed()
    modules["galaxy.startup"](config=str(one.config), timeout=60)
    found = _status(modules, one, verbose=True)
    workers = [worker["pid"] for worker in found["worker_records"]]
    os.kill(found["pid"], signal.SIGKILL)
    told = wait_until(
        lambda: (now := _status(modules, one)) and any("outlived" in text for text in now["problems"]) and now,
        Deadline(180),
    )
    assert told["running"] is True
    # these workers hold the addresses of the next master
    for verb in ("start", "wait"):
        with pytest.raises(
            CommandExecutionError, match=r"held by gunicorn workers that outlived .*galaxy\.stop ends them"
        ):
            modules[f"galaxy.{verb}"](config=str(one.config), timeout=600)
    done = modules["galaxy.stop"](config=str(one.config))
    assert set(workers) <= set(done["stopped"])
    assert not any(_is_up(pid) for pid in workers)


def test_what_a_supervisord_that_is_gone_had_started_is_told_and_ended_by_force_only(modules, bed):
    one = bed(celery=True, handlers=1)
    config = str(one.config)
    # as a user would, or cron: no unit of the system starts it
    one.start()

    def told():
        found = _status(modules, one, verbose=True)
        return found if found["ready"] and not found["problems"] else None

    before = wait_until(told, Deadline(180))
    companions = {pid for name, service in before["services"].items() if name != "gunicorn" for pid in service["pids"]}
    assert len(companions) == 3
    (handler,) = before["services"]["handler"]["pids"]
    # a job that the handler started, and that outlives it
    job = subprocess.Popen(["sleep", "600"], user=one.user, cwd=one.root, env=psutil.Process(handler).environ())
    supervisord = int((one.state / "supervisor" / "supervisord.pid").read_text())
    for pid in (supervisord, before["pid"], *(worker["pid"] for worker in before["worker_records"])):
        os.kill(pid, signal.SIGKILL)
    found = wait_until(lambda: (now := _status(modules, one))["running"] is False and now, Deadline(180))
    said = (
        "supervisord is gone, but what it had started for handler still runs: PID {}; galaxy.stop force=True ends it."
    )
    assert said.format(handler) in found["problems"], found["problems"]
    # a second handler would take the same jobs
    for verb, options in (("start", {}), ("startup", {}), ("startup", {"test": True}), ("stop", {})):
        with pytest.raises(CommandExecutionError, match=r"what it had started for .* still runs, PID \d+, and"):
            modules[f"galaxy.{verb}"](config=config, timeout=60, **options)
    assert all(_is_up(pid) for pid in companions)
    done = modules["galaxy.stop"](config=config, timeout=60, force=True)
    # Celery can die by itself: it writes its log into a pipe that nobody reads any more
    assert handler in done["stopped"]
    assert set(done["stopped"]) <= companions
    assert not any(map(_is_up, companions))
    assert _is_up(job.pid)
    assert modules["galaxy.startup"](config=config, timeout=60)["ready"]
    job.kill()
    job.wait()


def test_a_supervisord_that_somebody_else_is_bringing_up_is_waited_for(modules, bed):
    one = bed()
    one.start()
    one.stop()
    (one.gates / "sitecustomize.py").write_text(
        f"import os, time\nwhile not os.path.exists('{one.gates}/come'):\n    time.sleep(0.01)\n"
    )
    argv = [f"{one.venv}/bin/supervisord", "-c", f"{one.state}/supervisor/supervisord.conf"]
    slow = subprocess.Popen(argv, user=one.user, cwd=one.root, env={**one.environment, "PYTHONPATH": str(one.gates)})
    threading.Timer(1, one.open, ["come"]).start()
    assert modules["galaxy.startup"](config=str(one.config), timeout=60, retries=0)["ready"]
    assert slow.wait() == 0


def test_a_supervisord_that_somebody_else_brought_up_more_quickly_is_taken(modules, bed):
    one = bed()
    one.start()
    one.stop()
    tools = one.root / "tools"
    tools.mkdir()
    # Galaxy's own virtualenv comes second
    for name, line in (("galaxyctl", ""), ("supervisord", f'"{one.venv}/bin/supervisord" "$@"\n')):
        (tools / name).write_text(f'#!/bin/sh\n{line}exec "{one.venv}/bin/{name}" "$@"\n')
        (tools / name).chmod(0o755)
    for path in (one.state / "supervisor" / "supervisord.conf.d").rglob("*.conf"):
        path.write_text(path.read_text().replace(f"{one.venv}/bin/galaxyctl", f"{tools}/galaxyctl"))
    assert modules["galaxy.startup"](config=str(one.config), timeout=60, retries=0)["ready"]


def test_a_service_that_fails_beside_it_fails_the_start_unless_it_is_ignored(modules, bed):
    one = bed(handlers=1)
    for gate in ("handler_0.dies", "load-is-slow"):
        one.open(gate)
    config = str(one.config)

    def load_once_the_handler_is_back():
        wait_until(lambda: _status(modules, one)["services"]["handler"]["restarts"], Deadline(60))
        one.open("load")

    thread = threading.Thread(target=load_once_the_handler_is_back)
    thread.start()
    with pytest.raises(CommandExecutionError, match=r"not all of its services run: handler \(supervisord reports"):
        modules["galaxy.startup"](config=config, timeout=60, retries=0)
    thread.join()
    assert any("handler" in text for text in _status(modules, one)["problems"])
    assert modules["galaxy.startup"](config=config, timeout=60, companions="ignore")["ready"]


def test_rolling_never_leaves_it_without_a_gunicorn(modules, bed):
    one = bed(gunicorns=2)
    config = str(one.config)
    modules["galaxy.startup"](config=config, timeout=60)
    before = {service["pids"][0] for service in _status(modules, one)["services"].values()}
    failures, ended = [], threading.Event()

    def load():
        while not ended.is_set():
            answered = 0
            for index in (0, 1):
                try:
                    answered += _get(one, index=index) == 200
                except OSError:
                    continue
            if not answered:
                failures.append(1)

    client = threading.Thread(target=load)
    client.start()
    try:
        done = modules["galaxy.reload"](config=config, timeout=120, settle=0.5)
    finally:
        ended.set()
        client.join()
    assert (done["method"], done["ready"], failures) == ("rolling", True, [])
    after = {service["pids"][0] for service in _status(modules, one)["services"].values()}
    assert len(after) == 2
    assert before.isdisjoint(after)
    assert set(_status(modules, one)["services"]) == {"gunicorn_0", "gunicorn_1"}


def test_one_gunicorn_is_reloaded_with_force_only(modules, bed):
    one = bed()
    config = str(one.config)
    first = modules["galaxy.startup"](config=config, timeout=60)
    for test in (True, False):
        with pytest.raises(CommandExecutionError, match="preload on"):
            modules["galaxy.reload"](config=config, test=test)
        with pytest.raises(CommandExecutionError, match="nobody accepts connections from its stop until it has loaded"):
            modules["galaxy.restart"](config=config, rolling=True, test=test)
    assert _status(modules, one)["pid"] == first["pid"]
    done = modules["galaxy.reload"](config=config, force=True, timeout=60)
    assert (done["method"], done["pid"] != first["pid"]) == ("restart", True)
    again = modules["galaxy.restart"](config=config, rolling=True, force=True, timeout=60)
    assert (again["method"], again["pid"] != done["pid"]) == ("rolling", True)


def test_broken_code_at_a_reload_ends_the_wait_at_once(modules, bed):
    one = bed(preload=False)
    config = str(one.config)
    modules["galaxy.startup"](config=config, timeout=60)
    one.open("broken")
    with pytest.raises(CommandExecutionError, match="does not load: RuntimeError: no database"):
        modules["galaxy.reload"](config=config, timeout=60, force=True, check=True)
    assert _status(modules, one)["ready"] is True
    with pytest.raises(CommandExecutionError, match=r"(?s)died.*Last lines of the log.*Worker failed to boot"):
        modules["galaxy.reload"](config=config, timeout=600, force=True)
    one.close("broken")
    assert modules["galaxy.startup"](config=config, timeout=60)["ready"]


def test_what_a_signal_has_stopped_is_told_though_its_manager_says_running(modules, bed):
    one = bed(celery=True, handlers=1)
    config = str(one.config)
    modules["galaxy.startup"](config=config, timeout=60)
    services = _status(modules, one)["services"]
    pids = {name: service["pids"][0] for name, service in services.items()}
    for pid in pids.values():
        os.kill(pid, signal.SIGSTOP)
    found = _status(modules, one)
    for pid in pids.values():
        os.kill(pid, signal.SIGCONT)
    assert {service["state"] for service in found["services"].values()} == {"running"}
    for name, pid in pids.items():
        assert f"{name} (PID {pid}) is stopped by a signal: kill -CONT {pid}, or restart it." in found["problems"]
    assert not any("stopped by a signal" in text for text in _status(modules, one)["problems"])


def test_a_worker_and_a_celery_that_are_killed_come_back(modules, bed):
    one = bed(celery=True)
    config = str(one.config)
    modules["galaxy.startup"](config=config, timeout=60, min_workers=2)
    found = _status(modules, one, verbose=True)
    worker, celery = found["worker_records"][0]["pid"], found["services"]["celery"]["pids"][0]
    for pid in (worker, celery):
        os.kill(pid, signal.SIGKILL)

    def is_back():
        now = _status(modules, one, verbose=True)
        pids = {record["pid"] for record in now["worker_records"]}
        has_both = now["ready_workers"] == 2 and worker not in pids
        return now if has_both and now["services"]["celery"]["restarts"] else None

    back = wait_until(is_back, Deadline(180))
    assert back["pid"] == found["pid"]
    assert any("started celery again once by itself" in text for text in back["problems"])


def test_code_that_does_not_load_is_found_before_anything_is_touched(modules, bed):
    one = bed(gunicorns=2)
    given = {"config": str(one.config), "timeout": 60, "check": True, "settle": 0.1}
    modules["galaxy.startup"](**given)

    def processes():
        # some seconds pass until supervisord calls a program RUNNING
        return {name: service["pids"] for name, service in _status(modules, one)["services"].items()}

    before = processes()
    assert all(before.values())
    one.open("broken")
    for verb, more in (("reload", {}), ("restart", {"rolling": True}), ("restart", {})):
        for test in (True, False):
            with pytest.raises(CommandExecutionError, match="does not load: RuntimeError: no database"):
                modules[f"galaxy.{verb}"](**given, **more, test=test)
    assert processes() == before
    one.close("broken")
    assert modules["galaxy.reload"](**given)["method"] == "rolling"


def test_the_states(opts, modules, bed):
    one = bed(celery=True)
    states = salt.loader.states(dict(opts, test=False), modules, {}, {}, context={})
    config = str(one.config)
    started = states["galaxy.running"]("galaxy", config=config, timeout=60)
    assert (started["result"], started["changes"]["galaxy"]["new"]) == (True, {"ready": True}), started["comment"]
    assert states["galaxy.running"]("galaxy", config=config)["changes"] == {}
    assert states["galaxy.ready"]("galaxy", config=config)["result"] is True
    dead = states["galaxy.dead"]("galaxy", config=config, timeout=30)
    assert (dead["result"], bool(dead["changes"])) == (True, True), dead["comment"]
    assert states["galaxy.dead"]("galaxy", config=config)["changes"] == {}


@pytest.mark.slow
def test_the_beacon_tells_of_gunicorn_and_of_what_is_beside_it(opts, modules, bed):
    one = bed(handlers=1, workers=1)
    beacons = salt.loader.beacons(dict(opts), modules, context={})
    given = [{"config": str(one.config)}, {"down": 0}, {"crashing": 0}, {"recovered": 0}]

    def told(tag):
        """The event with this tag, once it is due."""
        found = wait_until(
            lambda: next((event for event in beacons["galaxy.beacon"](given) if event["tag"] == tag), None),
            Deadline(180),
        )
        assert found, _status(modules, one)
        return found

    assert told("down")["reason"] == "supervisord reports supervisord is not running for gunicorn"
    modules["galaxy.startup"](config=str(one.config), timeout=60)
    assert "down" in told("recovered")["from"]
    one.open("handler_0.dies")
    assert set(told("crashing")["services"]) == {"handler"}
    one.close("handler_0.dies")
    assert "crashing" in told("recovered")["from"]
    # the second one is not accepted
    clients = [threading.Thread(target=_get, args=(one, "/block")) for _ in range(2)]
    for client in clients:
        client.start()
    (request,) = told("stuck")["requests"]
    assert request["pid"] in {record["pid"] for record in modules["galaxy.busy_workers"](config=str(one.config))}
    one.open("go")
    for client in clients:
        client.join()
    assert "stuck" in told("recovered")["from"]
