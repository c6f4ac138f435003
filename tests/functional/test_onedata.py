"""Onedata spaces on a real FUSE filesystem, behind a command that takes oneclient's options."""

import concurrent.futures
import json
import logging
import os
import pathlib
import signal
import stat
import subprocess

import psutil
import pytest
import salt.loader
from salt.exceptions import CommandExecutionError, SaltInvocationError
from support.keystore import KeyStore
from support.onedata import TOKEN

from galaxy_host_wait import Deadline, wait_until

WRONG = "MDAxNWxvY2F00aW9uIHdyb25n"


@pytest.fixture
def load(opts, machine):
    """``load(key=value)``: modules and states of a minion with the space ``userdata``, changed by the keywords."""

    def make(test=False, **more):
        space = {
            **{"provider_host": "provider.example.org", "access_token": TOKEN, "uid": 4001, "gid": 4002},
            **{"mount_point": str(machine / "userdata"), **more},
        }
        given = {**opts, "test": test, "pillar": {"galaxy": {"onedata": {"spaces": {"userdata": space}}}}}
        modules = salt.loader.minion_mods(given, utils=salt.loader.utils(given), context={})
        return modules, salt.loader.states(given, modules, {}, {}, context={})

    return make


def _daemon(machine):
    """The process of the filesystem."""
    path = str(machine / "userdata")
    return next(one for one in psutil.process_iter(["cmdline"]) if path in (one.info["cmdline"] or [])[-1:])


def test_mount_status_unmount(load, machine):
    modules, _ = load()
    assert modules["onedata.version"]() == "21.02.8"
    down = modules["onedata.status"]()
    assert (down["userdata"]["mounted"], down["userdata"]["alive"]) == (False, False)
    done = modules["onedata.mount"]("userdata")
    assert (done["changed"], done["mounted"], done["alive"], done["problem"]) == (True, True, True, "")
    file = machine / "userdata" / "space.txt"
    assert file.read_text() == "onedata\n"
    assert (file.stat().st_uid, file.stat().st_gid) == (4001, 4002)
    assert modules["onedata.mount"]("userdata")["changed"] is False
    assert modules["onedata.unmount"]("userdata")["changed"] is True
    assert not file.exists()
    assert modules["onedata.unmount"]("userdata")["changed"] is False


def test_the_token_is_seen_nowhere(load, machine, caplog):
    caplog.set_level(logging.NOTSET)
    modules, states = load(options=["--force-proxy-io"], insecure=True)
    done = states["onedata.mounted"]("userdata")
    assert done["result"] is True, done
    daemon = _daemon(machine)
    words = daemon.cmdline()
    assert {"--insecure", "--force-proxy-io", "provider.example.org"} <= set(words)
    assert not os.path.exists(words[words.index("--config") + 1])
    seen = json.dumps([done, modules["onedata.status"](), words, daemon.environ()]) + caplog.text
    modules, states = load(access_token=WRONG, mount_point=str(machine / "other"))
    failed = states["onedata.mounted"]("userdata")
    assert failed["result"] is False
    assert "Authentication error" in failed["comment"]
    assert "'**********'" in failed["comment"]
    seen += json.dumps(failed) + caplog.text
    assert TOKEN not in seen
    assert WRONG not in seen


def test_a_dead_mount_is_seen_and_repaired(load, machine):
    modules, states = load()
    modules["onedata.mount"]("userdata")
    _daemon(machine).send_signal(signal.SIGKILL)
    assert wait_until(lambda: not modules["onedata.status"]("userdata")["alive"], Deadline(10))
    dead = modules["onedata.status"]("userdata")
    assert (dead["mounted"], dead["alive"]) == (True, False)
    assert dead["problem"] == "Transport endpoint is not connected"
    _, would = load(test=True)
    shown = would["onedata.mounted"]("userdata")
    assert (shown["result"], shown["changes"]) == (None, {"userdata": {"old": "dead", "new": "mounted"}})
    done = states["onedata.mounted"]("userdata")
    assert (done["result"], done["changes"]) == (True, {"userdata": {"old": "dead", "new": "mounted"}})
    assert (machine / "userdata" / "space.txt").read_text() == "onedata\n"


def test_states_first_second_and_test(load, machine):
    _, would = load(test=True)
    modules, states = load()
    shown = would["onedata.mounted"]("userdata")
    assert (shown["result"], shown["changes"]) == (None, {"userdata": {"old": "unmounted", "new": "mounted"}})
    assert not (machine / "userdata").exists()
    assert states["onedata.mounted"]("userdata")["changes"] == {"userdata": {"old": "unmounted", "new": "mounted"}}
    for again in (states, would):
        assert again["onedata.mounted"]("userdata")["changes"] == {}
    shown = would["onedata.unmounted"]("userdata")
    assert (shown["result"], shown["changes"]) == (None, {"userdata": {"old": "mounted", "new": "unmounted"}})
    assert modules["onedata.status"]("userdata")["alive"]
    assert states["onedata.unmounted"]("userdata")["result"] is True
    assert states["onedata.unmounted"]("userdata")["changes"] == {}


def test_files_in_the_mount_point_are_not_hidden(load, machine):
    (machine / "userdata").mkdir()
    mine = machine / "userdata" / "mine.txt"
    mine.touch()
    for test in (True, False):
        refused = load(test=test)[1]["onedata.mounted"]("userdata")
        assert (refused["result"], refused["changes"]) == (False, {})
        assert "not empty" in refused["comment"]
    modules, states = load(nonempty=True)
    assert states["onedata.mounted"]("userdata")["result"] is True
    assert not mine.exists()
    modules["onedata.unmount"]("userdata")
    assert mine.exists()


def test_what_else_is_mounted_there_is_left_alone(load, machine):
    (machine / "userdata").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", machine / "userdata"], check=True)
    reason = "tmpfs is mounted there, which is not Onedata"
    modules, _ = load()
    for function in ("mount", "unmount"):
        with pytest.raises(CommandExecutionError, match=reason):
            modules[f"onedata.{function}"]("userdata")
        # Galaxy would write to the disk below
        for test in (True, False):
            refused = load(test=test)[1][f"onedata.{function}ed"]("userdata")
            assert (refused["result"], refused["changes"]) == (False, {})
            assert reason in refused["comment"]
    status = modules["onedata.status"]("userdata")
    assert (status["fstype"], status["alive"]) == ("tmpfs", False)
    assert reason in status["problem"]


def test_a_mount_point_that_cannot_be_made_is_an_error(load):
    result = load(mount_point="/proc/none/userdata")[1]["onedata.mounted"]("userdata")
    assert (result["result"], result["changes"]) == (False, {})
    assert "/proc/none/userdata: cannot be made" in result["comment"]


def test_a_busy_space_names_who_uses_it(load, machine):
    modules, _ = load()
    modules["onedata.mount"]("userdata")
    with subprocess.Popen(["sleep", "1000"], cwd=machine / "userdata") as user:
        try:
            with pytest.raises(CommandExecutionError, match=rf"sleep \(PID {user.pid}"):
                modules["onedata.unmount"]("userdata")
            assert modules["onedata.status"]("userdata")["alive"]
            assert modules["onedata.unmount"]("userdata", lazy=True)["mounted"] is False
        finally:
            user.kill()


def test_a_mount_that_hangs_does_not_hang_the_minion(load, machine):
    modules, _ = load()
    modules["onedata.mount"]("userdata")
    hangs = machine / "userdata.hangs"
    hangs.touch()
    try:
        status = modules["onedata.status"]("userdata")
        assert (status["mounted"], status["alive"]) == (True, False)
        assert "does not answer" in status["problem"]
        # and it is mounted anew all the same
        assert modules["onedata.unmount"]("userdata")["changed"] is True
    finally:
        hangs.unlink()
    assert modules["onedata.mount"]("userdata")["alive"] is True


def test_a_mount_that_hangs_for_a_moment_is_not_taken_away(load, machine):
    modules, _ = load()
    modules["onedata.mount"]("userdata")
    daemon = _daemon(machine)
    hangs = machine / "userdata.hangs"
    hangs.touch()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        mounting = pool.submit(modules["onedata.mount"], "userdata", timeout=60)
        try:
            # a first look has been given up, and the next one is under way
            assert wait_until(lambda: len(_looks()) > 1, Deadline(30))
        finally:
            hangs.unlink()
        done = mounting.result()
    assert (done["changed"], done["alive"]) == (False, True)
    assert _daemon(machine) == daemon


def test_two_mounts_at_once_mount_once(load, machine):
    modules, _ = load()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        done = [each.result() for each in [pool.submit(modules["onedata.mount"], "userdata") for _ in range(2)]]
    assert sorted(each["changed"] for each in done) == [False, True]
    modules["onedata.unmount"]("userdata")
    assert modules["onedata.status"]("userdata")["mounted"] is False


def _looks():
    return [one for one in psutil.Process().children() if "--file-system" in one.cmdline()]


def test_token_from_a_file_and_from_the_old_ini(load, opts, machine):
    file = machine / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o644)
    modules, _ = load(access_token=None, token=str(file))
    with pytest.raises(CommandExecutionError, match="0644, open to others"):
        modules["onedata.mount"]("userdata")
    file.chmod(stat.S_IRUSR)
    assert modules["onedata.mount"]("userdata")["alive"]
    modules["onedata.unmount"]("userdata")
    ini = machine / "onedatactl.ini"
    ini.write_text(f"[refdata]\nmountpoint = {machine}/userdata\nprovider = p.example.org\ntoken = {TOKEN}\n")
    given = {**opts, "pillar": {"galaxy": {"onedata": {"ini": str(ini)}}}}
    modules = salt.loader.minion_mods(given, utils=salt.loader.utils(given), context={})
    assert modules["onedata.mount"]("refdata")["alive"]


def test_a_token_whose_database_comes_up_later(opts, machine):
    store = KeyStore(machine, userdata=TOKEN)
    space = {"provider_host": "p.example.org", "mount_point": str(machine / "userdata"), "token": "sdb://keys/userdata"}
    given = {**opts, **store.opts, "pillar": {"galaxy": {"onedata": {"spaces": {"userdata": space}}}}}
    modules = salt.loader.minion_mods(given, utils=salt.loader.utils(given), context={})
    with pytest.raises(CommandExecutionError, match=r"sdb://keys/userdata: cannot be read.*FileNotFoundError"):
        modules["onedata.mount"]("userdata", timeout=0.2)
    store.sealed = 2
    store.start()
    assert modules["onedata.mount"]("userdata", timeout=30)["alive"]
    assert store.asked == 3
    store.stop()


def test_bad_input_is_named(load):
    modules, states = load()
    with pytest.raises(SaltInvocationError, match="No Onedata space 'other' is declared"):
        modules["onedata.status"]("other")
    with pytest.raises(SaltInvocationError, match=r"No Onedata space \['userdata'\]"):
        modules["onedata.status"](["userdata"])
    assert "known: userdata" in states["onedata.mounted"]("other")["comment"]
    modules, states = load(provider_port="x")
    assert "provider_port is 'x'" in states["onedata.mounted"]("userdata")["comment"]
    modules, states = load(access_token=None)
    assert "access_token" in states["onedata.mounted"]("userdata")["comment"]


def test_without_oneclient(load, machine):
    pathlib.Path(machine / "bin" / "oneclient").unlink()
    modules, states = load()
    with pytest.raises(CommandExecutionError, match="oneclient: not installed"):
        modules["onedata.version"]()
    failed = states["onedata.mounted"]("userdata")
    assert (failed["result"], failed["changes"]) == (False, {})
    assert "not installed" in failed["comment"]
