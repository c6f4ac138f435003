"""Starts, stops and states with a real supervisord."""

import http.server
import json
import multiprocessing
import os
import pathlib
import subprocess
import threading

import psutil
import pytest
import salt.loader
from salt.exceptions import CommandExecutionError
from support.site import BIN, listens

import galaxy_host_lock
from galaxy_host_wait import Deadline, wait_until


@pytest.fixture
def site(make_site, supervisord):
    """A Galaxy as program ``web`` of group ``galaxy``. It is stopped; supervisord runs."""
    found = make_site()
    supervisord.program("web", found.command, group="galaxy", stdout_logfile=found.log)
    supervisord.start()
    return found


def _is_up(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_the_manager_is_found_by_what_is_there(modules, site, supervisord, monkeypatch):
    monkeypatch.setenv("PATH", str(BIN), prepend=os.pathsep)
    manager = modules["galaxy.status"](**site.keywords)["manager"]
    assert manager == {
        **{"name": "supervisord", "service": "galaxy", "state": "stopped", "term": "STOPPED", "active": False},
    }
    commands = modules["galaxy.commands"](**site.keywords)
    assert commands["start"] == [str(BIN / "supervisorctl"), "-c", str(supervisord.conf_file), "start", "galaxy:"]
    # a person could type these commands
    subprocess.run(commands["start"], check=True, capture_output=True)
    assert modules["galaxy.wait"](**site.keywords, timeout=180)["ready"]
    subprocess.run(commands["restart"], check=True, capture_output=True)
    assert b"RUNNING" in subprocess.run(commands["status"], capture_output=True, check=False).stdout
    subprocess.run(commands["stop"], check=True, capture_output=True)
    assert not modules["galaxy.status"](**site.keywords)["running"]


def test_while_it_loads_test_mode_waits_for_it_and_a_stop_leaves_nothing_behind(modules, state, site, supervisord):
    """The application ignores the first SIGINT, so uWSGI goes on, and supervisord finally kills its master."""
    site.open("load-is-slow")
    commands = modules["galaxy.commands"](**site.keywords)
    subprocess.run([BIN / "supervisorctl", *commands["start"][1:]], check=True, capture_output=True)
    assert wait_until(lambda: "uwsgi" in site.log.read_text(), Deadline(180))
    assert wait_until(lambda: modules["galaxy.status"](**site.keywords)["running"], Deadline(180))
    would = state("galaxy.running", test=True, **site.keywords)
    assert (would["result"], would["changes"]["galaxy"]["new"]) == (None, {"ready": True})
    would = state("galaxy.ready", test=True, **site.keywords)
    assert (would["result"], would["changes"]) == (None, {})
    assert modules["galaxy.stop"](**site.keywords, timeout=30)["changed"]
    assert not any(listens(int(address.rpartition(":")[2])) for address in (site.socket, site.http, site.stats))


def test_start_stop_and_their_no_ops(modules, site):
    first = modules["galaxy.start"](**site.keywords, timeout=180)
    assert (first["changed"], first["ready"], first["accepting"] >= 1) == (True, True, True)
    assert (first["manager"], first["service"]) == ("supervisord", "galaxy")
    again = modules["galaxy.start"](**site.keywords)
    assert (again["changed"], again["pid"]) == (False, first["pid"])
    assert site.get() == b"Galaxy\n"
    stopped = modules["galaxy.stop"](**site.keywords)
    assert (stopped["changed"], stopped["signals"]) == (True, [])
    assert first["pid"] in stopped["stopped"]
    assert not any(map(_is_up, stopped["stopped"]))
    assert modules["galaxy.stop"](**site.keywords) == {
        "changed": False,
        "manager": "supervisord",
        "service": "galaxy",
        "stopped": [],
        "signals": [],
        "problems": [],
    }


def test_restart(modules, site):
    first = modules["galaxy.start"](**site.keywords, timeout=180)
    done = modules["galaxy.restart"](**site.keywords, timeout=180)
    assert first["pid"] in done["stop"]["stopped"]
    assert done["start"]["pid"] != first["pid"]


def test_startup_brings_supervisord_up(modules, make_site, supervisord, monkeypatch):
    site = make_site()
    supervisord.program("galaxy", site.command)
    monkeypatch.setenv("PATH", str(BIN), prepend=os.pathsep)
    keywords = {**site.keywords, "conf_file": str(supervisord.conf_file)}
    with pytest.raises(CommandExecutionError, match=r"galaxy.startup brings it up"):
        modules["galaxy.start"](**keywords)
    done = modules["galaxy.startup"](**keywords, timeout=180)
    assert (done["changed"], done["tries"], done["ready"]) == (True, 1, True)
    assert not modules["galaxy.startup"](**keywords)["changed"]


def test_a_new_and_a_changed_program_file_are_taken_up(modules, make_site, supervisord):
    supervisord.start()
    site = make_site()
    supervisord.program("galaxy", site.command)
    keywords = {**site.keywords, "conf_file": str(supervisord.conf_file)}
    assert modules["galaxy.status"](**keywords)["manager"]["term"] == "not known"
    pid = modules["galaxy.start"](**keywords, timeout=180)["pid"]
    supervisord.program("galaxy", site.command, environment='GALAXY_MARK="changed"')
    done = modules["galaxy.restart"](**keywords, timeout=180)
    assert done["start"]["pid"] != pid
    assert psutil.Process(done["start"]["pid"]).environ()["GALAXY_MARK"] == "changed"


def test_a_program_that_cannot_run_ends_the_waiting_with_its_log(modules, make_site, supervisord):
    site = make_site(need_app="true")
    site.open("broken")
    supervisord.program("galaxy", site.command, stdout_logfile=site.log)
    supervisord.start()
    with pytest.raises(CommandExecutionError) as caught:
        modules["galaxy.start"](**site.keywords, timeout=120)
    text = str(caught.value)
    # the error comes before the timeout
    assert "is not ready after" not in text
    assert "supervisord reports" in text
    assert "no app loaded" in text
    # Galaxy's own message is shown, but no secret in it
    assert "RuntimeError: no database at" in text
    assert "hunter" not in text


def test_startup_tries_again_and_says_how_often(modules, make_site, supervisord):
    site = make_site(need_app="true")
    site.open("broken")
    supervisord.program("galaxy", site.command, stdout_logfile=site.log)
    supervisord.start()
    with pytest.raises(CommandExecutionError, match="Gave up after 2 tries"):
        modules["galaxy.startup"](**site.keywords, timeout=180, retries=1)


def test_startup_succeeds_on_a_later_try(modules, make_site, supervisord, tmp_path):
    """The first start fails, as if a database came up late."""
    site = make_site()
    script = tmp_path / "galaxy-once"
    script.write_text(
        f"#!/bin/sh\nif mkdir {tmp_path}/tried 2>/dev/null; then exit 1; fi\nexec {' '.join(site.command)}\n"
    )
    script.chmod(0o755)
    supervisord.program("galaxy", [script], startretries=0, autorestart="false", stdout_logfile=site.log)
    supervisord.start()
    done = modules["galaxy.startup"](**site.keywords, timeout=180, retries=3)
    assert (done["ready"], done["tries"]) == (True, 2)


def test_a_worker_that_outlives_the_stop_is_ended(modules, make_site, supervisord):
    site = make_site(processes=2, threads=None)
    supervisord.program("galaxy", site.command, stopwaitsecs=1)
    supervisord.start()
    master = modules["galaxy.start"](**site.keywords, timeout=180, workers=2)["pid"]
    site.hold(1, kind="deaf")
    (hung,) = modules["galaxy.busy_workers"](**site.keywords, pids_only=True)
    done = modules["galaxy.stop"](**site.keywords, timeout=1)
    assert done["signals"] == [{"pid": hung, "signal": "SIGTERM"}, {"pid": hung, "signal": "SIGKILL"}]
    assert not any(map(_is_up, [*done["stopped"], master]))


def test_only_its_own_processes_are_signalled(modules, make_site, supervisord):
    """Another uWSGI and a client of the port are not touched."""
    other = make_site().start()
    site = make_site(http=None)
    supervisord.program("galaxy", site.command)
    supervisord.start()
    modules["galaxy.start"](**site.keywords, timeout=180)
    done = modules["galaxy.stop"](**site.keywords, force=True)
    assert other.process.pid not in done["stopped"]
    assert other.process.poll() is None
    assert other.get() == b"Galaxy\n"


def test_a_galaxy_that_was_started_by_hand_is_not_started_twice(modules, state, site):
    site.start()
    with pytest.raises(CommandExecutionError, match=f"PID {site.process.pid}, but supervisord did not start it"):
        modules["galaxy.start"](**site.keywords)
    assert "but Galaxy runs" in " ".join(modules["galaxy.status"](**site.keywords)["problems"])
    failed = state("galaxy.running", **site.keywords, retries=0)
    assert (failed["result"], failed["changes"]) == (False, {})
    assert site.process.poll() is None
    assert modules["galaxy.stop"](**site.keywords, force=True)["signals"][0]["signal"] == "SIGINT"
    assert modules["galaxy.start"](**site.keywords, timeout=180)["changed"]


def _startup(opts, keywords, results):
    modules = salt.loader.minion_mods(opts, context={})
    results.put((os.getpid(), modules["galaxy.startup"](**keywords, timeout=180)))


def test_two_startups_at_once_do_not_interleave(opts, modules, make_site, supervisord):
    site = make_site(lazy_apps="true")
    site.open("load-is-slow")
    supervisord.program("galaxy", site.command)
    supervisord.start()
    results = multiprocessing.Queue()
    arguments = (dict(opts), site.keywords, results)
    both = [multiprocessing.Process(target=_startup, args=arguments) for _ in range(2)]
    for process in both:
        process.start()
    lock = pathlib.Path("/run/galaxy-salt") / galaxy_host_lock.file_name(str(site.config.resolve()))
    assert wait_until(lambda: lock.exists() and "galaxy.startup" in lock.read_text(), Deadline(180))
    with pytest.raises(CommandExecutionError, match=r"galaxy.stop: galaxy.startup \(PID \d+\) is under way"):
        modules["galaxy.stop"](**site.keywords, timeout=0.2)
    site.open("load")
    found = [results.get(timeout=40)[1] for _ in both]
    for process in both:
        process.join()
    assert sorted(done["changed"] for done in found) == [False, True]
    assert found[0]["pid"] == found[1]["pid"]


def test_the_password_of_supervisord_is_never_shown(modules, site, supervisord, caplog):
    caplog.set_level(0)
    shown = [
        modules["galaxy.status"](**site.keywords, verbose=True),
        modules["galaxy.commands"](**site.keywords),
        modules["galaxy.start"](**site.keywords, timeout=180),
        modules["galaxy.stop"](**site.keywords),
    ]
    config = supervisord.conf_file.read_text().replace("password=s3cret-of-supervisord", "password=wrong-password")
    supervisord.conf_file.write_text(config)
    with pytest.raises(CommandExecutionError, match="HTTP 401") as caught:
        modules["galaxy.start"](**site.keywords)
    text = json.dumps(shown) + str(caught.value) + caplog.text
    assert "s3cret-of-supervisord" not in text
    assert "wrong-password" not in text


def test_several_candidates_are_named(modules, make_site, supervisord):
    site = make_site()
    for name in ("galaxy-web", "galaxy-main"):
        supervisord.program(name, ["sleep", "1000"])
    supervisord.start()
    with pytest.raises(CommandExecutionError, match="galaxy-main, galaxy-web; say which with service="):
        modules["galaxy.commands"](**site.keywords)
    assert modules["galaxy.commands"](**site.keywords, service="galaxy-main")["service"] == "galaxy-main"
    with pytest.raises(CommandExecutionError, match="Nothing like supervisord galaxy-c"):
        modules["galaxy.commands"](**site.keywords, manager="supervisord", service="galaxy-c")
    with pytest.raises(CommandExecutionError, match="Unknown process manager 'runit'"):
        modules["galaxy.commands"](**site.keywords, manager="runit")


class TestStates:
    def test_running_first_second_and_test(self, state, site):
        would = state("galaxy.running", test=True, **site.keywords)
        assert would["result"] is None
        assert would["changes"] == {"galaxy": {"old": {"ready": False}, "new": {"ready": True}}}
        assert site.read() is None
        first = state("galaxy.running", **site.keywords, timeout=180)
        assert first["result"] is True
        assert first["changes"]["galaxy"]["new"]["ready"] is True
        for test in (False, True):
            again = state("galaxy.running", test=test, **site.keywords)
            assert (again["result"], again["changes"]) == (True, {})

    def test_ready_and_dead_are_not_made_good_by_a_watch(self, state, site):
        failed = state("galaxy.mod_watch", sfun="ready", **site.keywords, timeout=0.3)
        assert failed["result"] is False
        state("galaxy.running", **site.keywords, timeout=180)
        assert state("galaxy.mod_watch", sfun="ready", **site.keywords)["result"] is True
        assert state("galaxy.mod_watch", sfun="dead", **site.keywords)["changes"]
        assert site.read() is None

    def test_running_starts_nothing_where_its_data_is_not_mounted(self, state, site, tmp_path):
        missing = state("galaxy.running", **site.keywords, mounts=["/proc", str(tmp_path)])
        assert (missing["result"], missing["changes"]) == (False, {})
        assert f"nothing is mounted on {tmp_path}" in missing["comment"]
        assert site.read() is None
        assert state("galaxy.running", **site.keywords, mounts=["/proc"], timeout=180)["result"] is True

    def test_dead_first_second_and_test(self, state, modules, site):
        modules["galaxy.start"](**site.keywords, timeout=180)
        would = state("galaxy.dead", test=True, **site.keywords)
        assert (would["result"], would["changes"]["galaxy"]["new"]) == (None, {"running": False})
        assert site.read()
        done = state("galaxy.dead", **site.keywords)
        assert done["result"] is True
        assert done["changes"]["galaxy"]["new"]["running"] is False
        for test in (False, True):
            again = state("galaxy.dead", test=test, **site.keywords)
            assert (again["result"], again["changes"]) == (True, {})

    def test_ready_waits_and_starts_nothing(self, state, modules, site):
        assert state("galaxy.ready", test=True, **site.keywords)["result"] is None
        late = state("galaxy.ready", **site.keywords, timeout=0.3)
        assert (late["result"], late["changes"]) == (False, {})
        assert "not ready after 0.3 s" in late["comment"]
        modules["galaxy.start"](**site.keywords, timeout=180)
        assert state("galaxy.ready", **site.keywords)["result"] is True

    def test_watch_restarts_or_reloads(self, state, modules, site):
        pid = modules["galaxy.start"](**site.keywords, timeout=180)["pid"]
        would = state("galaxy.mod_watch", test=True, sfun="running", **site.keywords)
        assert (would["result"], would["changes"]) == (None, {"galaxy": "restarted"})
        done = state("galaxy.mod_watch", sfun="running", reload=True, **site.keywords, timeout=180)
        assert (done["result"], done["changes"]) == (True, {"galaxy": "reloaded"})
        assert modules["galaxy.master_pid"](**site.keywords) == pid
        done = state("galaxy.mod_watch", sfun="running", **site.keywords, timeout=180)
        assert (done["result"], done["changes"]) == (True, {"galaxy": "restarted"})
        assert modules["galaxy.master_pid"](**site.keywords) != pid

    def test_errors_are_results_not_tracebacks(self, state, tmp_path):
        gone = state("galaxy.running", config=str(tmp_path / "galaxy.yml"))
        assert gone["result"] is False
        assert f"{tmp_path}/galaxy.yml" in gone["comment"]
        for function in ("running", "dead", "ready"):
            nothing = state(f"galaxy.{function}")
            assert nothing["result"] is False
            assert "galaxy:config" in nothing["comment"]
            assert "bad" in state(f"galaxy.{function}", stats="bad")["comment"]


@pytest.fixture
def grouped(make_site, supervisord):
    """Group ``galaxy`` with ``web`` (uWSGI) and ``handler``. Both run; the order of their starts is not fixed."""
    site = make_site(processes=2)
    handler = supervisord.root / "handler"
    handler.write_text(f"#!/bin/sh\n[ ! -e {supervisord.root}/broken ] || exit 1\nexec sleep 1000\n")
    handler.chmod(0o755)
    supervisord.program("handler", [handler], autorestart="false", startretries=0)
    supervisord.program("web", site.command, autorestart="true")
    (supervisord.programs / "group.conf").write_text("[group:galaxy]\nprograms=handler,web\n")
    supervisord.start()
    return site


def _control(supervisord, *words):
    subprocess.run([BIN / "supervisorctl", "-c", supervisord.conf_file, *words], capture_output=True, check=False)


class TestGroups:
    """The state of Galaxy is uWSGI's. A job handler beside it can only add a problem."""

    def test_a_stopped_handler_does_not_keep_galaxy_from_being_stopped(self, modules, grouped, supervisord):
        pid = modules["galaxy.start"](**grouped.keywords, timeout=180)["pid"]
        _control(supervisord, "stop", "galaxy:handler")
        status = modules["galaxy.status"](**grouped.keywords)
        assert status["ready"]
        assert status["manager"]["state"] in ("starting", "running")
        assert status["problems"] == ["supervisord reports STOPPED for galaxy:handler."]
        done = modules["galaxy.stop"](**grouped.keywords)
        assert pid in done["stopped"]
        assert done["signals"] == []
        assert not modules["galaxy.status"](**grouped.keywords)["running"]

    def test_a_broken_handler_does_not_touch_a_galaxy_that_serves(self, modules, state, grouped, supervisord):
        (supervisord.root / "broken").touch()
        first = state("galaxy.running", **grouped.keywords, timeout=180)
        assert first["result"] is True
        pid = modules["galaxy.master_pid"](**grouped.keywords)
        again = state("galaxy.running", **grouped.keywords, timeout=180)
        assert (again["result"], again["changes"]) == (True, {})
        assert modules["galaxy.master_pid"](**grouped.keywords) == pid
        problems = modules["galaxy.status"](**grouped.keywords)["problems"]
        assert len(problems) == 1
        assert "for galaxy:handler" in problems[0]

    def test_a_changed_file_with_a_stopped_handler(self, modules, state, grouped, supervisord):
        modules["galaxy.start"](**grouped.keywords, timeout=180)
        _control(supervisord, "stop", "galaxy:handler")
        supervisord.program("web", grouped.command, autorestart="true", environment='MARK="x"')
        assert state("galaxy.running", **grouped.keywords)["result"] is True
        done = modules["galaxy.restart"](**grouped.keywords, timeout=180)
        assert psutil.Process(done["start"]["pid"]).environ()["MARK"] == "x"


def test_a_galaxy_that_serves_is_not_killed_for_more_workers(modules, state, site):
    pid = modules["galaxy.start"](**site.keywords, timeout=180, workers=2)["pid"]
    more = state("galaxy.running", **site.keywords, min_workers=3, retries=2)
    assert more["result"] is False
    assert "3 workers are wanted, but uWSGI has 2" in more["comment"]
    assert modules["galaxy.master_pid"](**site.keywords) == pid


def test_without_stats_it_is_stopped_and_told_apart_but_not_started(modules, state, make_site, supervisord):
    """Galaxy's sample configuration has no stats server."""
    site = make_site(stats=None)
    supervisord.program("galaxy", site.command)
    supervisord.start()
    for function in ("start", "startup", "restart"):
        with pytest.raises(CommandExecutionError, match="no stats option; add one"):
            modules[f"galaxy.{function}"](**site.keywords)
    assert supervisord.ask("galaxy")[0].state == "STOPPED"
    assert "no stats option" in state("galaxy.running", **site.keywords)["comment"]
    _control(supervisord, "start", "galaxy")
    assert wait_until(site.get, Deadline(180)) == b"Galaxy\n"
    status = modules["galaxy.status"](**site.keywords)
    assert status["running"]
    assert status["pid"] == modules["galaxy.master_pid"](**site.keywords) == supervisord.ask("galaxy")[0].pid
    assert modules["galaxy.commands"](**site.keywords)["service"] == "galaxy"
    assert state("galaxy.dead", **site.keywords)["result"] is True
    assert supervisord.ask("galaxy")[0].state == "STOPPED"


def test_what_its_manager_retries_is_not_dead(modules, state, make_site, supervisord):
    site = make_site(need_app="true")
    site.open("broken")
    supervisord.program("galaxy", site.command, startretries=1000)
    supervisord.start()
    _control(supervisord, "start", "galaxy")
    assert wait_until(lambda: supervisord.ask("galaxy")[0].state == "BACKOFF", Deadline(180))
    assert state("galaxy.dead", test=True, **site.keywords)["result"] is None
    assert state("galaxy.dead", **site.keywords)["result"] is True
    assert supervisord.ask("galaxy")[0].state == "STOPPED"
    assert modules["galaxy.stop"](**site.keywords)["changed"] is False


def test_stopping_what_has_failed_for_good_changes_nothing(modules, make_site, supervisord):
    site = make_site(need_app="true")
    site.open("broken")
    supervisord.program("galaxy", site.command, startretries=0)
    supervisord.start()
    _control(supervisord, "start", "galaxy")
    assert wait_until(lambda: supervisord.ask("galaxy")[0].state == "FATAL", Deadline(180))
    assert modules["galaxy.stop"](**site.keywords)["changed"] is False


def test_a_wrapper_that_does_not_exec_owns_its_galaxy(modules, make_site, supervisord, tmp_path):
    site = make_site(lazy_apps="true")
    site.open("load-is-slow")
    script = tmp_path / "run.sh"
    script.write_text(f"#!/bin/sh\n{' '.join(site.command)}\n")
    script.chmod(0o755)
    supervisord.program("galaxy", [script], stopasgroup="true")
    supervisord.start()
    _control(supervisord, "start", "galaxy")
    assert wait_until(site.read, Deadline(180))
    site.open("load")
    assert modules["galaxy.startup"](**site.keywords, timeout=180)["ready"]


def test_a_graceful_hook_as_in_galaxys_sample_is_waited_for_and_then_cut_short(modules, make_site, supervisord):
    hooks = [f"unix_signal:{number} gracefully_kill_them_all" for number in (2, 15)]
    site = make_site(hook_master_start=hooks)
    supervisord.program("galaxy", site.command, stopwaitsecs=2)
    supervisord.start()
    modules["galaxy.start"](**site.keywords, timeout=180)
    site.hold(1)
    done = modules["galaxy.stop"](**site.keywords, timeout=2)
    assert not any(map(_is_up, done["stopped"]))


def test_what_answers_at_supervisords_address_may_be_anything(modules, make_site, supervisord):
    site = make_site()
    supervisord.program("galaxy", site.command)

    class Page(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</p>")

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        text = supervisord.conf_file.read_text().replace(
            f"unix://{supervisord.socket}", f"http://127.0.0.1:{server.server_port}"
        )
        supervisord.conf_file.write_text(text)
        keywords = {**site.keywords, "conf_file": str(supervisord.conf_file)}
        assert any("supervisord does not answer" in one for one in modules["galaxy.status"](**keywords)["problems"])
        with pytest.raises(CommandExecutionError, match="supervisord does not answer"):
            modules["galaxy.start"](**keywords)
        server.shutdown()
