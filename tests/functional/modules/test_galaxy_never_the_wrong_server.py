"""Configurations of real sites, and two Galaxies on one machine: a guess never stops or restarts the wrong one."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

import psutil
import pytest
import salt.loader
from salt.exceptions import CommandExecutionError, SaltInvocationError
from support.site import UWSGI, free_port

from galaxy_host_wait import Deadline, wait_until


@pytest.fixture
def keywords(supervisord):
    """A function that returns the keywords of a site under ``supervisord``."""
    return lambda site: {**site.keywords, "conf_file": str(supervisord.conf_file)}


def _spawned(supervisord):
    return (supervisord.root / "supervisord.log").read_text().count("spawned:")


@pytest.fixture
def on_the_command_line(make_site, supervisord):
    """The stats address is only on the command line, as in the systemd role of the training material."""
    site = make_site(stats=None)
    supervisord.program("galaxy", [*site.command, "--stats", site.stats])
    supervisord.start()
    return site


def test_stats_on_the_command_line(modules, state, on_the_command_line, keywords, supervisord):
    site = on_the_command_line
    before = modules["galaxy.config"](**keywords(site))
    assert before["stats"]["value"] == site.stats
    assert "galaxy" in before["stats"]["source"]
    assert modules["galaxy.start"](**keywords(site), timeout=180)["ready"]
    status = modules["galaxy.status"](**keywords(site))
    assert (status["running"], status["accepting"], status["ready"]) == (True, True, True)
    assert (status["stats"], status["problems"]) == (site.stats, [])
    assert modules["galaxy.config"](**keywords(site))["stats"]["source"] == f"command line of PID {status['pid']}"
    assert modules["galaxy.stats"](**keywords(site))["pid"] == status["pid"]
    assert modules["galaxy.busy_workers"](**keywords(site)) == []
    assert modules["galaxy.accepting"](**keywords(site))
    again = state("galaxy.running", **keywords(site))
    assert (again["result"], again["changes"]) == (True, {})


def test_the_last_of_file_and_command_line_wins(modules, make_site, supervisord, keywords):
    """``--yaml F --stats X`` means X; ``--stats X --yaml F`` means what F says."""
    first, second = make_site(), make_site()
    command_line = f"127.0.0.1:{free_port()}"
    supervisord.program("first", [*first.command, "--stats", command_line])
    supervisord.program("second", [second.command[0], "--stats", f"127.0.0.1:{free_port()}", *second.command[1:]])
    supervisord.start()
    for site, expected in ((first, command_line), (second, second.stats)):
        assert modules["galaxy.startup"](**keywords(site), timeout=180)["ready"]
        assert modules["galaxy.status"](**keywords(site))["stats"] == expected


def test_everything_on_the_command_line(modules, state, make_site, supervisord, keywords):
    site = make_site()
    words = [f"--{name}={value}" for name, value in site.options.items() if name in ("socket", "stats", "pidfile")]
    site.write(socket=None, stats=None, http=None, master=None, processes=None, threads=None, pidfile=None)
    words += ["--master", "--processes", "2", "--threads", "2", "--http", site.http, "--logto", str(site.log)]
    supervisord.program("galaxy_web", [*site.command, *words], group="galaxy")
    supervisord.start()
    given = keywords(site)
    would = state("galaxy.running", test=True, **given)
    assert (would["result"], would["changes"]) == (None, {"galaxy": {"old": {"ready": False}, "new": {"ready": True}}})
    done = state("galaxy.running", **given, timeout=180)
    assert (done["result"], done["changes"]) == (True, would["changes"])
    config = modules["galaxy.config"](**given)
    assert (config["processes"]["value"], config["threads"]["value"]) == (2, 2)
    assert config["pidfile"]["value"] == f"{site.root}/galaxy.pid"
    status = modules["galaxy.status"](**given)
    assert (status["ready"], status["sockets"], status["problems"]) == (True, [site.socket, site.http], [])
    assert modules["galaxy.master_pid"](**given) == status["pid"]
    assert modules["galaxy.reload"](**given, timeout=180)["ready"]
    assert modules["galaxy.restart"](**given, timeout=180)["start"]["ready"]
    would = state("galaxy.dead", test=True, **given)
    done = state("galaxy.dead", **given)
    assert (would["result"], done["result"], done["changes"]) == (None, True, would["changes"])


def test_a_healthy_galaxy_whose_stats_are_elsewhere_is_not_stopped(modules, state, make_site, supervisord, keywords):
    """The file names one address. The live master listens at another one, which nothing tells any more."""
    site = make_site()
    supervisord.program("galaxy", site.command)
    supervisord.start()
    pid = modules["galaxy.start"](**keywords(site), timeout=180)["pid"]
    elsewhere = f"127.0.0.1:{free_port()}"
    # somebody edited the file after the start
    site.write(stats=elsewhere)
    for test in (True, False):
        failed = state("galaxy.running", test=test, **keywords(site), timeout=1, retries=2)
        assert (failed["result"], failed["changes"]) == (False, {}), failed
        assert f"PID {pid}" in failed["comment"]
        assert elsewhere in failed["comment"]
    for function in ("start", "startup"):
        with pytest.raises(CommandExecutionError, match=elsewhere):
            modules[f"galaxy.{function}"](**keywords(site), timeout=1)
    assert _spawned(supervisord) == 1
    assert site.get() == b"Galaxy\n"


def test_a_silent_stats_server_stops_nothing(modules, state, make_site, supervisord, keywords):
    """The master is suspended for a while (a dead disk, a debugger): it lives, but answers nothing."""
    site = make_site()
    supervisord.program("galaxy", site.command)
    supervisord.start()
    pid = modules["galaxy.start"](**keywords(site), timeout=180)["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        status = modules["galaxy.status"](**keywords(site), timeout=0.3)
        assert (status["running"], status["ready"], status["ready_workers"]) == (True, None, None)
        for test in (True, False):
            failed = state("galaxy.running", test=test, **keywords(site), timeout=1, retries=2)
            assert (failed["result"], failed["changes"]) == (False, {}), failed
    finally:
        os.kill(pid, signal.SIGCONT)
    assert _spawned(supervisord) == 1
    assert modules["galaxy.status"](**keywords(site))["ready"]


def test_stats_without_a_master_is_said(modules, state, make_site, supervisord, keywords):
    site = make_site(master="false", mule=None, farm=None, processes=1)
    supervisord.program("galaxy", site.command)
    supervisord.start()
    subprocess.run(
        [sys.executable, "-m", "supervisor.supervisorctl", "-c", supervisord.conf_file, "start", "galaxy"], check=True
    )
    assert wait_until(site.get, Deadline(180)) == b"Galaxy\n"
    line = site.config.read_text().splitlines().index("  master: false") + 1
    status = modules["galaxy.status"](**keywords(site))
    assert status["running"] is True
    assert status["ready"] is None
    assert f"{site.config}:{line}" in " ".join(status["problems"])
    assert modules["galaxy.config"](**keywords(site))["master"]["value"] is False
    for test in (True, False):
        failed = state("galaxy.running", test=test, **keywords(site), timeout=1, retries=2)
        assert (failed["result"], failed["changes"]) == (False, {})
        assert f"{site.config}:{line}" in failed["comment"]
    assert _spawned(supervisord) == 1


@pytest.fixture
def zergs(make_site, supervisord):
    """A zerg pool: two masters serve one socket that a third has opened. usegalaxy.org had this."""
    pool = make_site(socket=None, http=None, stats=None, pidfile=None, mule=None, farm=None)
    address, shared = pool.socket, f"/tmp/zerg-{os.getpid()}-{free_port()}.sock"
    pool.write(zerg=shared)
    stats = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    supervisord.program("zergpool", [UWSGI, "--master", "--zerg-pool", f"{shared}:{address}"])
    for number in range(2):
        supervisord.program(f"zergling{number}", [*pool.command, "--stats", stats[number]])
    (supervisord.programs / "group.conf").write_text("[group:gx]\nprograms=zergpool,zergling0,zergling1\n")
    supervisord.start()
    yield pool, address, stats
    with contextlib.suppress(FileNotFoundError):
        os.unlink(shared)


def _pids(supervisord):
    return {process.name: process.pid for process in supervisord.ask("gx")}


def test_the_stop_of_one_zergling_leaves_the_pool_alone(modules, zergs, supervisord):
    _, address, stats = zergs
    common = {"socket": address, "conf_file": str(supervisord.conf_file)}
    control = [sys.executable, "-m", "supervisor.supervisorctl", "-c", supervisord.conf_file]
    for name in ("zergpool", "zergling0", "zergling1"):
        subprocess.run([*control, "start", f"gx:{name}"], check=True)
    for number in range(2):
        given = {**common, "stats": stats[number], "service": f"gx:zergling{number}"}
        assert modules["galaxy.wait"](**given, timeout=180)["ready"]
    before = _pids(supervisord)
    others = [psutil.Process(before["zergpool"]), psutil.Process(before["zergling1"])]
    others += [child for process in others for child in process.children(recursive=True)]
    done = modules["galaxy.stop"](stats=stats[0], **common, service="gx:zergling0", timeout=3)
    assert before["zergling0"] in done["stopped"]
    assert not {process.pid for process in others} & set(done["stopped"])
    assert done["signals"] == []
    assert "still served" in " ".join(done["problems"])
    assert all(process.is_running() for process in others)
    after = _pids(supervisord)
    assert (after["zergpool"], after["zergling1"]) == (before["zergpool"], before["zergling1"])
    assert modules["galaxy.status"](stats=stats[1], socket=address, conf_file=common["conf_file"])["ready"]


@pytest.fixture
def neighbours(make_site, supervisord):
    """Galaxy A is in group ``galaxy`` under supervisord, with its own handler. Galaxy B was started by hand."""
    a, b = make_site(), make_site()
    supervisord.program("galaxy_web", a.command)
    handler = ["sh", "-c", "'exec sleep 1000'", "./lib/galaxy/main.py", "-c", str(a.config), "--server-name=handler0"]
    supervisord.program("handler", handler, directory=a.root)
    (supervisord.programs / "group.conf").write_text("[group:galaxy]\nprograms=galaxy_web,handler\n")
    supervisord.start()
    return a, b


def test_another_galaxys_group_is_never_this_ones(modules, neighbours, keywords, supervisord):
    a, b = neighbours
    assert modules["galaxy.start"](**keywords(a), timeout=180)["ready"]
    b.start()
    status = modules["galaxy.status"](**keywords(b))
    assert (status["manager"], status["ready"], status["pid"]) == (None, True, b.process.pid)
    for force in (False, True):
        with contextlib.suppress(CommandExecutionError):
            assert not force or modules["galaxy.stop"](**keywords(b), timeout=3, force=force)["manager"] is None
        assert {process.state for process in supervisord.ask("galaxy")} <= {"STARTING", "RUNNING"}
        assert a.get() == b"Galaxy\n"
    # B is gone, and still has no manager
    assert b.process.wait(5) is not None
    with pytest.raises(CommandExecutionError, match="Nothing like supervisord manages Galaxy here"):
        modules["galaxy.start"](**keywords(b))
    assert modules["galaxy.status"](**keywords(b))["running"] is False


def test_an_emperor_is_not_stopped_for_one_of_its_vassals(modules, state, make_site, keywords, supervisord, tmp_path):
    main, test = make_site(), make_site()
    (tmp_path / "vassals").mkdir()
    for name, site in {"main": main, "test": test}.items():
        (tmp_path / "vassals" / f"{name}.yml").symlink_to(site.config)
    words = [UWSGI, "--emperor", tmp_path / "vassals", "--emperor-wrapper", UWSGI]
    supervisord.program("emperor", words, autostart="true", stopasgroup="true")
    supervisord.start()
    main.wait()
    test.wait()
    assert modules["galaxy.status"](**keywords(main))["manager"]["service"] == "emperor"
    for function in ("galaxy.dead", "galaxy.restarted"):
        for dry in (True, False):
            failed = state(function, test=dry, **keywords(main), force=True)
            assert (failed["result"], failed["changes"]) == (False, {}), failed
            assert "which serves another configuration than" in failed["comment"]
    assert (main.get(), test.get()) == (b"Galaxy\n", b"Galaxy\n")
    assert modules["galaxy.reload"](**keywords(main), timeout=180)["ready"]
    assert main.get() == b"Galaxy\n"


def test_a_restart_starts_what_it_has_stopped(modules, make_site, keywords, supervisord, tmp_path):
    """The definition does not show that it starts Galaxy."""
    site = make_site()
    script = tmp_path / "serve"
    script.write_text(f"#!/bin/sh\nexec {' '.join(site.command)}\n")
    script.chmod(0o755)
    supervisord.program("portal", [script], autostart="true")
    supervisord.start()
    site.wait()
    done = modules["galaxy.restart"](**keywords(site), timeout=180)
    assert (done["start"]["service"], done["start"]["ready"]) == ("portal", True)
    assert modules["galaxy.stop"](**keywords(site))["changed"]
    with pytest.raises(CommandExecutionError, match="manager="):
        modules["galaxy.start"](**keywords(site))


def test_a_stop_of_the_test_instance_stops_nothing_of_production(opts, neighbours, keywords, supervisord):
    """Pillar describes production. The argument names the test instance, and nothing of production is added to it."""
    a, b = neighbours
    pillar = {"galaxy": {"config": str(a.config), "service": "galaxy", "manager": "supervisord", **_conf(supervisord)}}
    configured = salt.loader.minion_mods(dict(opts, pillar=pillar), context={})
    assert configured["galaxy.start"](timeout=180)["ready"]
    done = configured["galaxy.stop"](config=str(b.config), force=True)
    assert (done["changed"], done["manager"], done["stopped"]) == (False, None, [])
    assert a.get() == b"Galaxy\n"


def _conf(supervisord):
    return {"conf_file": str(supervisord.conf_file)}


def test_two_servers_of_pillar_and_all_of_them(opts, neighbours, supervisord):
    a, b = neighbours
    supervisord.program("b", b.command)
    servers = {name: {"config": str(site.config), **_conf(supervisord)} for name, site in (("main", a), ("test", b))}
    configured = salt.loader.minion_mods(dict(opts, pillar={"galaxy": {"servers": servers}}), context={})
    assert configured["galaxy.servers"]() == ["main", "test"]
    with pytest.raises(CommandExecutionError, match="main, test; say which with server="):
        configured["galaxy.status"]()
    assert configured["galaxy.startup"](server="test", timeout=180)["service"] == "b"
    found = configured["galaxy.status"](server="*")
    assert {name: (one["server"], one["running"]) for name, one in found.items()} == {
        **{"main": ("main", False), "test": ("test", True)},
    }
    assert configured["galaxy.busy_workers"](server="test") == []
    workers = configured["galaxy.busy_workers"](server="*")
    assert workers["test"] == []
    assert "connection refused" in workers["main"]
    with pytest.raises(CommandExecutionError, match="main: Galaxy is not ready"):
        configured["galaxy.wait"](server="*", timeout=0.3)
    assert configured["galaxy.stop"](server="test")["changed"]


@pytest.mark.parametrize("options", [{"processes": "$(GX_PROCESSES)"}, {"socket": None, "http": None, "stats": None}])
def test_dead_is_said_on_proof_only(modules, state, make_site, options):
    """A Galaxy that was started by hand. Its configuration alone does not tell where it listens."""
    site = make_site(**options)
    words = [] if "processes" in options else ["--socket", site.socket, "--stats", site.stats, "--http", site.http]
    environment = {**os.environ, "GX_PROCESSES": "2"}
    with site.log.open("ab") as log:
        site.process = subprocess.Popen(
            [*site.command, *words], stdout=log, stderr=log, start_new_session=True, env=environment
        )
    assert wait_until(site.get, Deadline(180)) == b"Galaxy\n"
    for test in (True, False):
        failed = state("galaxy.dead", test=test, **site.keywords)
        assert (failed["result"], failed["changes"]) == (False, {})
        assert f"PID {site.process.pid}; force=True" in failed["comment"]
    assert modules["galaxy.status"](**site.keywords)["ready"]


def test_where_nothing_can_be_asked_dead_fails(modules, state, make_site, tmp_path):
    site = make_site(socket=None, http=None, stats=None, pidfile=None)
    for given in (site.keywords, {"config": str(tmp_path / "not-mounted" / "galaxy.yml")}):
        status = modules["galaxy.status"](**given)
        assert (status["running"], status["accepting"], status["ready"], status["ready_workers"]) == (None,) * 4
        assert status["problems"]
        for test in (True, False):
            failed = state("galaxy.dead", test=test, **given)
            assert (failed["result"], failed["changes"]) == (False, {})
            assert "cannot be told" in failed["comment"]


def test_numbers_as_uwsgi_reads_them_hide_nothing(modules, make_site):
    site = make_site(processes="3 ; web workers", threads="2 # each")
    site.start(wait=False)
    site.wait(accepting=3)
    status = modules["galaxy.status"](**site.keywords)
    assert (status["ready"], status["workers"]["total"], status["pid"]) == (True, 3, site.process.pid)
    config = modules["galaxy.config"](**site.keywords)
    assert (config["processes"]["value"], config["threads"]["value"]) == (3, 2)


def test_the_process_that_runs_uwsgi_decides(modules, state, make_site, supervisord, keywords):
    """The program has a ``process_name``, and its group has a handler that is stopped."""
    site = make_site()
    supervisord.program("galaxy_uwsgi", site.command, process_name="web", priority=999)
    supervisord.program("handler", ["sleep", "1000"], process_name="handler%(process_num)s", numprocs=2)
    (supervisord.programs / "group.conf").write_text("[group:galaxy]\nprograms=handler,galaxy_uwsgi\n")
    supervisord.start()
    assert state("galaxy.running", **keywords(site), timeout=180)["result"] is True
    control = [sys.executable, "-m", "supervisor.supervisorctl", "-c", supervisord.conf_file]
    subprocess.run([*control, "stop", "galaxy:handler0"], check=True)
    status = modules["galaxy.status"](**keywords(site))
    assert status["manager"]["state"] in ("starting", "running")
    assert status["ready"] is True
    assert status["problems"] == ["supervisord reports STOPPED for galaxy:handler0."]
    again = state("galaxy.running", **keywords(site))
    assert (again["result"], again["changes"]) == (True, {})
    done = modules["galaxy.stop"](**keywords(site), service="galaxy:galaxy_uwsgi")
    assert status["pid"] in done["stopped"]
    assert {one.name: one.state for one in supervisord.ask("galaxy")}["handler1"] in ("STARTING", "RUNNING")


def test_a_unix_prefix_in_a_configuration(modules, make_site, tmp_path):
    """uWSGI then opens a TCP socket that it chooses itself. The master is still found, by the stats server."""
    site = make_site(socket=f"unix://{tmp_path}/uwsgi.sock").start()
    status = modules["galaxy.status"](**site.keywords)
    assert (status["ready"], status["pid"]) == (True, site.process.pid)
    assert "bare path" in " ".join(status["problems"])
    assert modules["galaxy.reload"](**site.keywords, timeout=180)["pid"] == site.process.pid


def test_the_answer_of_another_server_is_not_believed(modules, state, make_site):
    """The test instance's configuration is a copy of production's, with the same stats address."""
    production = make_site().start()
    copy = make_site(stats=production.stats)
    status = modules["galaxy.status"](**copy.keywords)
    assert (status["running"], status["ready"], status["pid"]) == (False, False, None)
    assert f"PID {production.process.pid}, which serves there, runs another configuration" in " ".join(
        status["problems"]
    )
    assert modules["galaxy.stop"](**copy.keywords, force=True)["stopped"] == []
    assert production.get() == b"Galaxy\n"


def test_ready_workers_are_a_number(modules, state, make_site):
    site = make_site(processes=2).start()
    status = modules["galaxy.status"](**site.keywords, min_workers=3)
    assert (status["ready"], status["ready_workers"]) == (False, 2)
    assert "2 of 3 wanted workers are ready" in " ".join(status["problems"])
    assert modules["galaxy.status"](**site.keywords, workers=2)["ready"] is True
    assert state("galaxy.ready", **site.keywords, min_workers=2)["result"] is True


def test_limits_of_pillar_reach_every_function(opts, make_site):
    site = make_site(processes=2).start()
    pillar = {"galaxy": {"config": str(site.config), "min_workers": "3", "timeout": 1}}
    configured = salt.loader.minion_mods(dict(opts, pillar=pillar), context={})
    assert configured["galaxy.status"]()["ready"] is False
    with pytest.raises(CommandExecutionError, match="3 workers are wanted, but uWSGI has 2"):
        configured["galaxy.wait"]()
    assert configured["galaxy.wait"](min_workers=2)["ready"]


@pytest.mark.skipif(os.geteuid() != 0, reason="runs a uWSGI as another user")
def test_another_users_uwsgi_is_ended_only_by_its_pid_and_by_force(modules, make_site):
    """Galaxy's configuration names sockets of another user's server."""
    site = make_site()
    words = ["--http", site.http, "--socket", site.socket, "--stats", site.stats, "--master", "--die-on-term"]
    wsgi = "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'theirs']\n"
    with tempfile.TemporaryDirectory(prefix="theirs-") as directory:
        os.chmod(directory, 0o755)
        (pathlib.Path(directory) / "theirs.py").write_text(wsgi)
        argv = [UWSGI, *words, "--pythonpath", directory, "--module", "theirs", "--uid", "65534"]
        with site.log.open("ab") as log:
            site.process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
        assert wait_until(site.get, Deadline(180)) == b"theirs"
        os.chown(site.config, 1000, 1000)
        status = modules["galaxy.status"](**site.keywords)
        assert (status["pid"], status["ready"]) == (None, None)
        assert f"PID {site.process.pid}, which serves there, runs as user nobody, but" in " ".join(status["problems"])
        for given in ({}, {"force": True}):
            with pytest.raises(CommandExecutionError, match="It cannot be told"):
                modules["galaxy.stop"](**site.keywords, **given)
        with pytest.raises(CommandExecutionError, match=r"runs as user nobody|does not run"):
            modules["galaxy.reload"](**site.keywords)
        with pytest.raises(SaltInvocationError, match="pid needs force=True"):
            modules["galaxy.stop"](**site.keywords, pid=site.process.pid)
        assert site.process.poll() is None
        done = modules["galaxy.stop"](**site.keywords, force=True, pid=site.process.pid, timeout=5)
        assert {"pid": site.process.pid, "signal": "SIGINT"} in done["signals"]
        assert site.process.wait(5) is not None
