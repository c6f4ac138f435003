"""Onedata spaces on a real FUSE filesystem. A stand-in with oneclient's options serves it."""

import concurrent.futures
import contextlib
import json
import logging
import multiprocessing
import os
import pathlib
import re
import shutil
import signal
import stat
import subprocess

import psutil
import pytest
import salt.loader
from salt.exceptions import CommandExecutionError, SaltInvocationError
from support import fuse, onedata
from support.attacker import GALAXY, MALLORY, make, public_directory, run_as
from support.keystore import KeyStore
from support.onedata import TOKEN

import onedata_mount
import onedata_space
from galaxy_host_secret import Secret
from galaxy_host_wait import Deadline, wait_until

WRONG = "MDAxNWxvY2F00aW9uIHdyb25n"


@pytest.fixture
def load(opts, machine):
    """``load(key=value)``: modules and states of a minion with the space ``userdata``. Keywords change the space."""

    def make(test=False, **more):
        space = {
            **{"provider_host": "provider.example.org", "access_token": TOKEN},
            **{"mount_point": str(machine / "userdata"), **more},
        }
        given = {**opts, "test": test, "pillar": {"galaxy": {"onedata": {"spaces": {"userdata": space}}}}}
        modules = salt.loader.minion_mods(given, utils=salt.loader.utils(given), context={})
        return modules, salt.loader.states(given, modules, {}, {}, context={})

    return make


def _daemon(machine):
    """The process that serves the filesystem."""
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
    config = pathlib.Path(words[words.index("--config") + 1])
    assert not config.is_file() or TOKEN.encode() not in config.read_bytes()
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
    assert wait_until(lambda: not modules["onedata.status"]("userdata")["alive"], Deadline(180))
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
        # else Galaxy would write to the disk below
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
        # the space can still be unmounted and mounted again
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
            # the first look has been given up, and the next one runs
            assert wait_until(lambda: len(_looks()) > 1, Deadline(180))
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
    looks = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            looks += [child] if "--file-system" in child.cmdline() else []
    return looks


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


def test_owners_are_the_providers_affair(load, machine):
    """oneclient has no such options, and libfuse ends because of them: no space could be mounted."""
    for key in ("uid", "gid"):
        for value in ("galaxy", 4001):
            modules, states = load(**{key: value})
            sentence = rf"Onedata space userdata: {key} is no option of oneclient: .*LUMA.*remove this key"
            with pytest.raises(CommandExecutionError, match=sentence):
                modules["onedata.mount"]("userdata")
            failed = states["onedata.mounted"]("userdata")
            assert (failed["result"], failed["changes"]) == (False, {})
            assert "remove this key" in failed["comment"]
    assert not (machine / "userdata").exists()
    modules, _ = load(options=["--opt", "uid=4001"])
    with pytest.raises(CommandExecutionError, match="oneclient failed: fuse: unknown option `uid'"):
        modules["onedata.mount"]("userdata")


def test_nonempty_is_not_told_to_libfuse_3(load, machine, monkeypatch):
    (machine / "userdata").mkdir()
    (machine / "userdata" / "mine.txt").touch()
    modules, _ = load(nonempty=True)
    for version in ("3", "2"):
        monkeypatch.setenv("ONECLIENT_FUSE", version)
        assert modules["onedata.mount"]("userdata")["alive"]
        assert ("nonempty" in _daemon(machine).cmdline()) is (version == "2")
        modules["onedata.unmount"]("userdata")


def test_a_section_that_sets_nothing_and_one_that_is_wrong(opts, machine):
    ini = machine / "onedatactl.ini"
    ini.write_text(
        f"[userdata]\nmountpoint = {machine}/userdata\nprovider = provider.example.org\ntoken = {TOKEN}\n\n"
        "[refdata]\n# not used here\n#mountpoint = /refdata\n#provider = refdata.example.org\n"
    )

    def load(spaces, ini=str(ini)):
        pillar = {"galaxy": {"onedata": {"ini": ini, "spaces": spaces}}}
        given = {**opts, "pillar": pillar}
        modules = salt.loader.minion_mods(given, utils=salt.loader.utils(given), context={})
        return modules, salt.loader.states({**given, "test": True}, modules, {}, {}, context={})

    modules, states = load({})
    assert modules["onedata.spaces"]() == ["userdata"]
    assert list(modules["onedata.status"]()) == ["userdata"]
    # faults of other spaces hide nothing of this one
    modules, states = load({"wrong": {"mount_point": "/x"}, "list": [], "empty": None, 7: {"uid": 1}})
    status = modules["onedata.status"]()
    assert list(status) == ["userdata", "wrong", "list", "empty", "7"]
    assert (status["userdata"]["mounted"], status["userdata"]["problem"]) == (False, "")
    assert (status["wrong"]["mounted"], status["wrong"]["alive"]) == (None, None)
    assert status["wrong"]["problem"] == "Onedata space wrong: provider_host is missing"
    assert "is not a mapping" in status["list"]["problem"]
    assert "is not a mapping" in status["empty"]["problem"]
    assert "uid is no option" in status["7"]["problem"]
    assert all(each.keys() == status["userdata"].keys() for each in status.values())
    assert states["onedata.mounted"]("userdata")["result"] is None
    assert states["onedata.mounted"]("wrong")["result"] is False
    # an INI that cannot be read does not hide what pillar has
    modules, _ = load({"other": {"mount_point": "/x", "provider_host": "p"}}, ini="/gone.ini")
    status = modules["onedata.status"]()
    assert status["/gone.ini"]["problem"] == "/gone.ini: no such file"
    assert status["other"]["mounted"] is False
    assert modules["onedata.status"]("other")["mounted"] is False
    with pytest.raises(CommandExecutionError, match="no such file"):
        modules["onedata.spaces"]()


def test_any_fuse_is_not_onedata(load, machine):
    """The user who mounts a FUSE filesystem chooses its name, but the kernel tells who this user is."""
    path = machine / "userdata"
    path.mkdir()
    for uid, kind, source, named in (
        (MALLORY, "fuse.sshfs", "evil", r"evil \(fuse.sshfs\) of user 4002 is"),
        (MALLORY, "fuse.oneclient", "oneclient", r"oneclient \(fuse.oneclient\) of user 4002 is"),
        (0, "fuse.sshfs", "host:", r"host: \(fuse.sshfs\) is"),
        (0, "fuse.cvmfs2", "cvmfs2", r"cvmfs2 \(fuse.cvmfs2\) is"),
        (0, "fuse", "glusterfs", r"glusterfs \(fuse\) is"),
    ):
        # nobody serves it, so looking into it would hang
        with fuse.mounted(path, uid, kind, source, answers=False):
            modules, states = load()
            status = modules["onedata.status"]("userdata")
            assert (status["mounted"], status["alive"]) == (True, False)
            assert re.match(f"{named} mounted there, which is not Onedata$", status["problem"])
            for function in ("mount", "unmount"):
                with pytest.raises(CommandExecutionError, match=named):
                    modules[f"onedata.{function}"]("userdata")
                failed = states[f"onedata.{function}ed"]("userdata")
                assert (failed["result"], failed["changes"]) == (False, {})


def _mount_and_wait(machine):
    """Call ``onedata_mount.mount`` with a oneclient that reads its configuration and then takes long."""
    script = machine / "bin" / "oneclient"
    script.write_text(
        f'#!/bin/sh\ncat "$2" >{machine}/read.new; mv {machine}/read.new {machine}/read; exec sleep 1000\n'
    )
    space = onedata_space.of("userdata", {"provider_host": "p", "mount_point": str(machine / "userdata")})
    onedata_mount.mount(space, Secret(TOKEN))


def test_a_killed_mount_leaves_no_token(machine):
    process = multiprocessing.Process(target=_mount_and_wait, args=(machine,))
    process.start()
    assert wait_until((machine / "read").exists, Deadline(180))
    children = psutil.Process(process.pid).children()
    process.kill()
    process.join()
    for child in children:
        child.kill()
    assert f"access_token = {TOKEN}" in (machine / "read").read_text()
    for directory, _, names in os.walk("/run"):
        for name in names:
            path = pathlib.Path(directory, name)
            assert not path.is_file() or TOKEN.encode() not in path.read_bytes()
    # the next mount works
    onedata.install(machine / "again")
    shutil.copy(machine / "again" / "oneclient", machine / "bin" / "oneclient")
    space = onedata_space.of("userdata", {"provider_host": "p", "mount_point": str(machine / "userdata")})
    assert onedata_mount.mount(space, Secret(TOKEN)) is True


def test_mount_points_that_others_could_exchange(load, machine):
    with public_directory() as place:
        make(f"{place}/galaxy", GALAXY)
        make(f"{place}/sbin", 0)
        run_as(GALAXY, os.symlink, f"{place}/sbin", f"{place}/galaxy/export")
        make(f"{place}/tmp", 0, 0o1777)
        os.symlink(f"{place}/galaxy/deeper", f"{place}/link")
        for path in ("galaxy/export", "galaxy/new", "galaxy/new/userdata", "tmp/userdata", "link", "galaxy/export/x"):
            for test in (True, False):
                modules, states = load(test, mount_point=f"{place}/{path}")
                failed = states["onedata.mounted"]("userdata")
                assert (failed["result"], failed["changes"]) == (False, {})
                assert re.search("(user 4001|everybody) can put something else there", failed["comment"])
            for function in ("mount", "unmount"):
                with pytest.raises(CommandExecutionError, match="root mounts only below directories of root's"):
                    modules[f"onedata.{function}"]("userdata")
        assert os.listdir(f"{place}/sbin") == []
        assert sorted(os.listdir(f"{place}/galaxy")) == ["export"]
        # the owner of the mount point itself does not matter
        modules, _ = load(mount_point=f"{place}/galaxy")
        os.unlink(f"{place}/galaxy/export")
        assert modules["onedata.mount"]("userdata")["alive"]
        assert modules["onedata.unmount"]("userdata")["changed"]


def test_an_ini_that_others_can_write(opts, machine):
    """The file decides where root mounts."""
    with public_directory() as place:
        make(f"{place}/galaxy", GALAXY)
        section = f"[userdata]\nmountpoint = {machine}/userdata\nprovider = p\ntoken = {TOKEN}\n".encode()
        for path in (make(f"{place}/galaxy/o.ini", 0, 0o600, section), make(f"{place}/o.ini", GALAXY, 0o600, section)):
            given = {**opts, "pillar": {"galaxy": {"onedata": {"ini": path}}}}
            modules = salt.loader.minion_mods(given, utils=salt.loader.utils(given), context={})
            with pytest.raises(CommandExecutionError, match="user 4001 can"):
                modules["onedata.mount"]("userdata")
            assert "user 4001 can" in modules["onedata.status"]()[path]["problem"]


def test_tokens_that_are_none(load, machine):
    for token, reason in ((" \n ", "empty or more than one line"), ("a\nfuse_mount_opt = x", "more than one line")):
        for test in (True, False):
            failed = load(test, access_token=token)[1]["onedata.mounted"]("userdata")
            assert (failed["result"], failed["changes"]) == (False, {})
            assert reason in failed["comment"]
            assert "fuse_mount_opt" not in failed["comment"]
    modules, _ = load(token=7)
    with pytest.raises(CommandExecutionError, match="token is not the place of a token"):
        modules["onedata.mount"]("userdata")


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
