"""If something cannot be told, it is never taken for an answer, and never for another server."""

import os
import signal
import subprocess

import pytest
import salt.loader
from salt.exceptions import CommandExecutionError, SaltInvocationError
from support.site import UWSGI

from galaxy_host_wait import Deadline, wait_until


@pytest.mark.parametrize("stats", ["in the file", "on the command line"])
def test_a_relative_configuration_and_chdir(modules, make_site, stats):
    """uWSGI left the directory from which the relative path in its command line starts."""
    site = make_site()
    site.write(chdir=str(site.root))
    words = []
    if stats != "in the file":
        site.write(stats=None, socket=None)
        words = ["--stats", site.stats]
    with site.log.open("ab") as log:
        site.process = subprocess.Popen(
            [UWSGI, "--yaml", "galaxy.yml", *words],
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=site.config.parent,
        )
    site.wait()
    status = modules["galaxy.status"](**site.keywords)
    assert (status["ready"], status["pid"], status["problems"]) == (True, site.process.pid, [])


def test_a_relative_configuration_of_another_server(modules, make_site):
    """A copy has production's addresses and the same file name. Production's master is never taken for the copy's."""
    production = make_site()
    production.process = subprocess.Popen(
        [UWSGI, "--yaml", "config/galaxy.yml"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd=production.root,
    )
    production.wait()
    copy = make_site(stats=production.stats, socket=production.socket, http=production.http)
    assert modules["galaxy.status"](**copy.keywords)["pid"] is None
    with pytest.raises(CommandExecutionError, match="runs another configuration"):
        modules["galaxy.stop"](**copy.keywords, force=True)
    assert production.get() == b"Galaxy\n"


def test_a_stop_says_nothing_ran_on_proof_only(modules, tmp_path):
    """The volume that holds the configuration is not mounted."""
    for test in (True, False):
        with pytest.raises(CommandExecutionError, match=r"cannot be told whether Galaxy runs: .*no such configuration"):
            modules["galaxy.stop"](config=str(tmp_path / "not-mounted" / "galaxy.yml"), test=test)


def test_a_supervisord_that_does_not_answer_is_not_none(modules, state, make_site, supervisord):
    site = make_site()
    supervisord.program("galaxy", site.command)
    supervisord.start()
    given = {**site.keywords, "conf_file": str(supervisord.conf_file)}
    assert modules["galaxy.start"](**given, timeout=180)["ready"]
    pid = int((supervisord.root / "supervisord.pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        failed = state("galaxy.dead", **given)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (failed["result"], failed["changes"]) == (False, {})
    assert "cannot be told which process manager" in failed["comment"]
    assert "supervisord does not answer" in failed["comment"]
    assert wait_until(site.get, Deadline(180)) == b"Galaxy\n"


def test_a_watch_starts_nothing_where_its_data_is_not_mounted(state, make_site, supervisord, tmp_path):
    """If a watching state fails, Salt still calls mod_watch, and takes its answer instead."""
    site = make_site()
    supervisord.program("galaxy", site.command)
    supervisord.start()
    given = {**site.keywords, "conf_file": str(supervisord.conf_file), "mounts": [str(tmp_path)]}
    for reload in (False, True):
        failed = state("galaxy.mod_watch", sfun="running", reload=reload, **given, timeout=180)
        assert (failed["result"], failed["changes"]) == (False, {})
        assert f"nothing is mounted on {tmp_path}" in failed["comment"]
    assert site.read() is None


def test_a_watch_of_another_state_restarts_nothing(state, opts, modules, make_site, tmp_path):
    site = make_site().start()
    pillar = {"galaxy": {"config": str(site.config)}}
    configured = salt.loader.minion_mods(dict(opts, pillar=pillar), context={})
    states = salt.loader.states(dict(opts, test=False), configured, {}, {}, context={})
    made = states["galaxy.mod_watch"](f"{tmp_path}/d", sfun="directory", user="root", group="root", order=1)
    assert (made["result"], list(made["changes"])) == (True, ["directory"]), made
    for name in ("undefined", "defined"):
        failed = states["galaxy.mod_watch"]("galaxy", sfun=name)
        assert "manage_service" in failed["comment"]
    assert configured["galaxy.master_pid"]() == site.process.pid


@pytest.mark.parametrize("mounts", [5, [5], [None], ["export"], {"/export": 1}])
def test_bad_mounts_are_a_sentence(state, make_site, mounts):
    failed = state("galaxy.running", **make_site().keywords, mounts=mounts)
    assert failed["result"] is False
    assert failed["comment"].startswith("mounts is ")


@pytest.mark.parametrize(
    ("function", "given"),
    [
        ("status", {"verbose": "x"}),
        ("busy_workers", {"pids_only": "no"}),
        ("stop", {"test": "false"}),
        ("start", {"test": []}),
        ("define", {"absent": "no"}),
        ("settings", {"server": ["main"]}),
        ("settings", {"values_only": 1}),
        ("status", {"config": "/srv/a\0b"}),
        ("status", {"conf_file": "/srv/a\0b"}),
    ],
)
def test_a_bad_value_is_a_sentence(modules, make_site, function, given):
    site = {} if function in ("define", "settings") else make_site().keywords
    with pytest.raises(SaltInvocationError, match=f"^{next(iter(given))} is "):
        modules[f"galaxy.{function}"](**{**site, **given})


@pytest.mark.parametrize("given", [{"user": 5}, {"group": None}, {"user": "a\0b"}, {"name": 5}, {"name": "/a\0b"}])
def test_a_bad_directory_is_a_sentence(opts, modules, given, tmp_path):
    states = salt.loader.states(dict(opts, test=False), modules, {}, {}, context={})
    failed = states["galaxy.directory"](**{"name": f"{tmp_path}/d", "user": "root", "group": "root", **given})
    assert failed["result"] is False
    assert failed["comment"].startswith(f"{next(iter(given))} is ")


def test_ready_fails_in_test_mode_where_waiting_changes_nothing(state, make_site):
    """There are too few workers in all, and then there is no stats server to ask."""
    site = make_site(processes=1).start()
    for test in (True, False):
        failed = state("galaxy.ready", test=test, **site.keywords, min_workers=2, timeout=1)
        assert (failed["result"], failed["changes"]) == (False, {})
        assert "2 workers are wanted, but uWSGI has 1" in failed["comment"]
    silent = make_site(stats=None)
    for test in (True, False):
        failed = state("galaxy.ready", test=test, **silent.keywords, timeout=1)
        assert failed["result"] is False
        assert "no stats option" in failed["comment"]


def test_a_restart_needs_its_manager_in_test_mode_too(opts, modules, make_site, supervisord):
    site = make_site()
    supervisord.program("galaxy", site.command)
    given = {**site.keywords, "conf_file": str(supervisord.conf_file), "timeout": 3}
    for test in (True, False):
        states = salt.loader.states(dict(opts, test=test), modules, {}, {}, context={})
        states.pack["__running__"] = {}
        failed = states["galaxy.restarted"]("galaxy", **given)
        assert (failed["result"], failed["changes"]) == (False, {})
        assert "is not running; galaxy.startup brings it up" in failed["comment"]
        with pytest.raises(CommandExecutionError, match="is not running; galaxy"):
            modules["galaxy.start"](**given, test=test)


def test_a_bad_timeout_is_refused_also_where_nothing_is_to_be_done(state, make_site):
    down, up = make_site(), make_site().start()
    for name, site in (("dead", down), ("ready", up)):
        failed = state(f"galaxy.{name}", **site.keywords, timeout="5m")
        assert (failed["result"], failed["comment"][:15]) == (False, "timeout is '5m'")


@pytest.mark.parametrize("setting", [{"down": float("nan")}, {"stuck": float("inf")}, {"config": ""}])
def test_the_beacon_refuses_what_would_keep_it_silent(opts, modules, setting):
    sound, text = salt.loader.beacons(dict(opts), modules, context={})["galaxy.validate"]([setting])
    assert not sound
    assert text.startswith(f"galaxy beacon: {next(iter(setting))} is ")
