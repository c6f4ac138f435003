"""Volumes from a blank device until they are closed, with the execution module."""

import os
import pathlib
import subprocess
import sys

import pytest
from conftest import BACKUPS, CHEAP, content, sh

from galaxy_errors import (
    DeviceInUse,
    FilesystemError,
    HeaderError,
    MountPointError,
    VolumeBusy,
    WrongKey,
)


def test_encrypt_takes_every_step_once(call, plan):
    assert call("luks.encrypt", test=True, **plan) == ["format", "mkfs", "header_backup", "open", "mount"]
    assert call("luks.status", plan["device"])["luks"] is False
    assert call("luks.encrypt", **plan) == ["format", "mkfs", "header_backup", "open", "mount"]
    assert call("luks.encrypt", **plan) == []
    status = call("luks.status", plan["device"], backups=BACKUPS)
    assert (status["luks"], status["version"], status["cipher"], status["key_size"]) == (
        True,
        2,
        "aes-xts-plain64",
        512,
    )
    assert (status["open"], status["mapper"], status["stale"], status["filesystem"]) == (True, "galaxy", False, "ext4")
    assert [mount["target"] for mount in status["mounts"]] == [plan["mount_point"]]
    assert status["slots"] == [{"number": 0, "pbkdf": "pbkdf2"}]
    assert status["unfinished"] is False
    assert status["processes"] == []
    assert os.stat(status["header_backup"]).st_mode & 0o777 == 0o600


def test_data_survives_close_and_open(call, encrypted):
    assert call("luks.close", "galaxy") is True
    assert call("luks.close", "galaxy") is False
    assert not os.path.exists("/dev/mapper/galaxy")
    assert call("luks.open", encrypted["device"], "galaxy", key=encrypted["key"]) is True
    assert call("luks.open", encrypted["device"], "galaxy", key=encrypted["key"]) is False
    assert call("luks.encrypt", **encrypted) == ["fsck", "mount"]
    assert pathlib.Path(encrypted["mount_point"], "file").read_text() == "data"


def test_open_mounts_where_it_is_told(call, encrypted, new_device, tmp_path):
    arguments = [encrypted["device"], "galaxy"]
    wanted = {"key": encrypted["key"], "mount_point": encrypted["mount_point"], "mount_options": "noatime"}
    file = pathlib.Path(encrypted["mount_point"], "file")
    assert call("luks.open", *arguments, **wanted) is False
    call("luks.close", "galaxy")
    assert call("luks.open", *arguments, **wanted, test=True) is True
    assert call("luks.open_volumes") == {}
    assert call("luks.open", *arguments, **wanted) is True
    assert file.read_text() == "data"
    assert "noatime" in call("luks.status", encrypted["device"])["mounts"][0]["options"]
    sh("umount", encrypted["mount_point"])
    # the volume is open, so no key is needed
    assert call("luks.open", *arguments, **(wanted | {"key": "/nonexistent"})) is True
    assert file.read_text() == "data"
    call("luks.close", "galaxy")
    file.write_text("in the way")
    with pytest.raises(MountPointError, match="not empty"):
        call("luks.open", *arguments, **wanted)
    assert call("luks.open_volumes") == {}
    # if a volume cannot be mounted, it is not left open
    with pytest.raises(MountPointError, match="/proc/export: cannot be made"):
        call("luks.open", *arguments, **(wanted | {"mount_point": "/proc/export"}))
    assert call("luks.open_volumes") == {}
    bare = new_device()
    call("luks.format", bare, key=encrypted["key"], backups=BACKUPS, **CHEAP)
    with pytest.raises(FilesystemError, match="without a filesystem"):
        call("luks.open", bare, "bare", key=encrypted["key"], mount_point=str(tmp_path / "bare"))
    assert call("luks.open_volumes") == {}


def test_old_scripts_luks1_volume(call, device, key, mount_point):
    options = ["--type=luks1", "--cipher=aes-xts-plain64", "--key-size=256", "--hash=sha256", "--batch-mode"]
    sh("cryptsetup", "luksFormat", *options, "--pbkdf-force-iterations=1000", f"--key-file={key}", device)
    sh("cryptsetup", "open", f"--key-file={key}", device, "crypt")
    sh("mkfs.ext4", "-q", "/dev/mapper/crypt")
    sh("cryptsetup", "close", "crypt")
    uuid = sh("cryptsetup", "luksUUID", device)
    plan = {"device": f"UUID={uuid}", "mapper": "crypt", "mount_point": mount_point, "key": key, "backups": BACKUPS}
    assert call("luks.encrypt", may_format=False, **plan) == ["header_backup", "open", "fsck", "mount"]
    assert call("luks.encrypt", may_format=False, **plan) == []
    status = call("luks.status", f"/dev/disk/by-uuid/{uuid}")
    assert (status["version"], status["key_size"], status["device"]) == (1, 256, device)
    assert call("luks.status", "/dev/mapper/crypt") == status


@pytest.mark.parametrize("version", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_wrong_key_changes_nothing(call, plan, wrong_key, version):
    call("luks.encrypt", **(plan | {"version": version}))
    call("luks.close", "galaxy")
    before = content(plan["device"])
    with pytest.raises(WrongKey, match=plan["device"]):
        call("luks.open", plan["device"], "galaxy", key=wrong_key)
    with pytest.raises(WrongKey):
        call("luks.encrypt", **(plan | {"key": wrong_key}))
    assert content(plan["device"]) == before
    assert call("luks.status", plan["device"])["open"] is False


def test_close_names_the_processes_that_hold_it(call, encrypted):
    holder = subprocess.Popen([sys.executable, "-c", "input()"], cwd=encrypted["mount_point"], stdin=subprocess.PIPE)
    try:
        with pytest.raises(VolumeBusy, match=rf"PID {holder.pid}: cwd"):
            call("luks.close", "galaxy")
        assert [each["pid"] for each in call("luks.status", encrypted["device"])["processes"]] == [holder.pid]
        assert pathlib.Path(encrypted["mount_point"], "file").read_text() == "data"
    finally:
        holder.communicate(b"\n")
    assert call("luks.close", "galaxy") is True


def test_close_names_the_process_that_reads_the_mapper_itself(call, encrypted):
    sh("umount", encrypted["mount_point"])
    with open("/dev/mapper/galaxy", "rb"), pytest.raises(VolumeBusy, match=rf"PID {os.getpid()}: /dev/mapper/galaxy"):
        call("luks.close", "galaxy")


def test_close_names_the_holder_in_another_mount_namespace(call, encrypted):
    command = "echo; read _"
    holder = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    holder.stdout.readline()
    try:
        with pytest.raises(VolumeBusy, match=rf"PID {holder.pid}: mount namespace"):
            call("luks.close", "galaxy")
    finally:
        holder.communicate(b"\n")


@pytest.mark.parametrize("version", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_resize_uses_the_grown_device(call, plan, tmp_path, version):
    call("luks.encrypt", **(plan | {"version": version}))
    sh("truncate", "-s", "96M", str(tmp_path / "disk0"))
    sh("losetup", "--set-capacity", plan["device"])
    sizes = call("luks.resize", "galaxy", key=plan["key"])
    assert sizes["after"]["volume"] - sizes["before"]["volume"] == 48 << 20
    assert sizes["after"]["filesystem"] > sizes["before"]["filesystem"] + (40 << 20)
    assert call("luks.resize", "galaxy", key=plan["key"])["before"] == sizes["after"]


def test_header_restore_brings_back_the_keys_of_then(call, device, key, wrong_key, new_device):
    cheap = {"backups": BACKUPS, "version": 1, "iterations": 1000}
    backup = call("luks.format", device, key=key, **cheap)["header_backup"]
    call("luks.change_key", device, new_key=wrong_key, key=key, **cheap)
    assert call("luks.test_key", device, key=key) is False
    other = new_device()
    call("luks.format", other, key=key, **cheap)
    before = content(other)
    with pytest.raises(HeaderError, match="the backup is of"):
        call("luks.header_restore", other, backup, backups=BACKUPS)
    assert content(other) == before
    assert call("luks.header_restore", device, backup, backups=BACKUPS) is True
    assert call("luks.test_key", device, key=key) is True


def test_a_lost_header_is_restored(call, encrypted):
    backup = call("luks.header_backup", encrypted["device"], backups=BACKUPS)
    with pytest.raises(DeviceInUse):
        call("luks.header_restore", encrypted["device"], backup)
    call("luks.close", "galaxy")
    with open(encrypted["device"], "r+b") as file:
        file.write(bytes(1 << 20))
    with pytest.raises(HeaderError, match="force"):
        call("luks.header_restore", encrypted["device"], backup)
    assert call("luks.header_restore", encrypted["device"], backup, force=True) is True
    assert call("luks.encrypt", **encrypted) == ["open", "fsck", "mount"]
    assert pathlib.Path(encrypted["mount_point"], "file").read_text() == "data"
