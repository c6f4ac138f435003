"""The states: what they announce, what they do, and that a second run does nothing."""

import pathlib
import subprocess
import sys

import pytest
from conftest import BACKUPS, CHEAP

import luks_device


@pytest.fixture
def wanted(small):
    """The arguments of ``luks.mounted``."""
    arguments = {name: value for name, value in small.items() if name != "mount_point"}
    return {"name": small["mount_point"], "encrypt": True, **arguments}


def settled(state, function, changes, **arguments):
    """The state announces the changes, makes them, and does nothing the second time."""
    announced = state(function, test=True, **arguments)
    assert (announced["result"], announced["changes"]) == (None, changes), announced["comment"]
    made = state(function, **arguments)
    assert made["result"] is True, made["comment"]
    again = state(function, **arguments)
    assert (again["result"], again["changes"]) == (True, {})
    assert (state(function, test=True, **arguments)["result"]) is True
    return made


def test_mounted(state, wanted, device):
    changes = {
        "format": device,
        "mkfs": "ext4",
        "header_backup": BACKUPS,
        "open": "/dev/mapper/galaxy",
        "mount": wanted["name"],
    }
    assert settled(state, "luks.mounted", changes, **wanted)["changes"] == changes


def test_mounted_does_not_format_unless_told(state, wanted, device):
    for test in (True, False):
        result = state("luks.mounted", test=test, **(wanted | {"encrypt": False}))
        assert result["result"] is False
        assert "not a LUKS volume" in result["comment"]
    assert luks_device.signatures(device) == ()


def test_mounted_with_the_wrong_key(state, call, wanted, encrypted, wrong_key):
    call("luks.close", "galaxy")
    for test in (True, False):
        result = state("luks.mounted", test=test, **(wanted | {"key": wrong_key}))
        assert (result["result"], result["changes"]) == (False, {})
        assert "no key slot opens" in result["comment"]


def test_formatted_opened_closed(state, device, key):
    formatted = {"name": device, "key": key, "backups": BACKUPS, "version": 1, "iterations": 1000}
    opened = {"name": "galaxy", "device": device, "key": key}
    assert state("luks.opened", test=True, **opened)["result"] is False
    settled(state, "luks.formatted", {"format": device}, **formatted)
    settled(state, "luks.opened", {"galaxy": {"old": None, "new": device}}, **opened)
    settled(state, "luks.closed", {"galaxy": {"old": device, "new": None}}, name="galaxy")


def test_formatted_backs_up_the_header_that_has_no_backup(call, state, device, key, tmp_path):
    call("luks.format", device, key=key, backups=BACKUPS, version=1, iterations=1000)
    backups = str(tmp_path / "backups")
    settled(state, "luks.formatted", {"header_backup": backups}, name=device, key=key, backups=backups)


def test_opened_with_the_wrong_key(state, call, device, key, wrong_key):
    call("luks.format", device, key=key, backups=BACKUPS, version=1, iterations=1000)
    for test in (True, False):
        result = state("luks.opened", "galaxy", test=test, device=device, key=wrong_key)
        assert (result["result"], result["changes"]) == (False, {})
        assert "no key slot opens" in result["comment"]


def test_opened_once_the_database_of_the_key_is_up(state, call, device, key, store):
    state("luks.formatted", device, key=key, backups=BACKUPS, **CHEAP)
    arguments = {"name": "galaxy", "device": device, "key": "sdb://keys/galaxy"}
    for test in (True, False):
        result = state("luks.opened", test=test, **arguments, key_timeout=1)
        assert (result["result"], result["changes"]) == (False, {})
        assert "sdb://keys/galaxy: cannot be read" in result["comment"]
    store.keys["galaxy"] = pathlib.Path(key).read_text()
    store.sealed = 2
    store.start()
    result = state("luks.opened", **arguments, key_timeout=60)
    assert result["result"] is True, result["comment"]
    assert store.asked == 3
    # the key is asked for once, and tried once
    call("luks.close", "galaxy")
    store.keys["galaxy"] = "another"
    result = state("luks.opened", **arguments, key_timeout=60)
    assert "no key slot opens" in result["comment"]
    assert store.asked == 4
    store.stop()


def test_closed_unmounts_and_names_who_holds_it(state, encrypted):
    holder = subprocess.Popen([sys.executable, "-c", "input()"], cwd=encrypted["mount_point"], stdin=subprocess.PIPE)
    try:
        announced = state("luks.closed", "galaxy", test=True)
        assert (announced["result"], announced["changes"]) == (False, {})
        assert f"PID {holder.pid}" in announced["comment"]
        result = state("luks.closed", "galaxy")
        assert (result["result"], result["changes"]) == (False, {})
        assert f"PID {holder.pid}" in result["comment"]
    finally:
        holder.communicate(b"\n")
    changes = {
        "galaxy": {"old": encrypted["device"], "new": None},
        encrypted["mount_point"]: {"old": "/dev/mapper/galaxy", "new": None},
    }
    settled(state, "luks.closed", changes, name="galaxy")


def test_keys(state, call, device, key, wrong_key):
    call("luks.format", device, key=key, backups=BACKUPS, version=1, iterations=1000)
    last = state("luks.key_absent", device, key=key, backups=BACKUPS)
    assert (last["result"], last["changes"]) == (False, {})
    assert "last key" in last["comment"]
    present = {"name": device, "new_key": wrong_key, "key": key, "backups": BACKUPS, "iterations": 1000}
    settled(state, "luks.key_present", {"key": {"old": None, "new": wrong_key}}, **present)
    absent = {"name": device, "key": key, "backups": BACKUPS}
    unproven = state("luks.key_absent", **absent)
    assert (unproven["result"], unproven["changes"]) == (False, {})
    assert "give `remaining`" in unproven["comment"]
    settled(state, "luks.key_absent", {"key": {"old": key, "new": None}}, remaining=wrong_key, **absent)
    assert call("luks.test_key", device, key=key) is False


def test_key_file(state, tmp_path):
    path = tmp_path / "keys" / "galaxy"
    settled(state, "luks.key_file", {str(path): "new key file"}, name=str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(pathlib.Path(path).read_text()) == 128
