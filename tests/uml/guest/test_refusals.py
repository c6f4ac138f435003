"""What is refused, without a change of one byte. test_signatures.py tests each kind of content."""

import os
import pathlib

import pytest
from conftest import BACKUPS, CHEAP, content, sh

import luks_device
from galaxy_errors import (
    DeviceInUse,
    DeviceNotBlank,
    FilesystemError,
    MapperError,
    MountPointError,
    WrongKey,
)
from galaxy_host_wait import Deadline, wait_until


def refused(call, plan, error, match):
    """The call refuses, and not one byte of the device changes."""
    before = content(plan["device"])
    for function, arguments in (
        ("luks.encrypt", plan),
        ("luks.format", {name: plan[name] for name in ("device", "key", "backups")}),
    ):
        with pytest.raises(error, match=match):
            call(function, **arguments)
    assert content(plan["device"]) == before


def raid_superblock(sector):
    """A superblock of version 1, md(4): magic number, version, place, and a checksum of all of it."""
    block = bytearray(256)
    block[0:8] = (0xA92B4EFC).to_bytes(4, "little") + (1).to_bytes(4, "little")
    block[144:152] = sector.to_bytes(8, "little")
    total = sum(int.from_bytes(block[i : i + 4], "little") for i in range(0, 256, 4))
    block[216:220] = ((total & 0xFFFFFFFF) + (total >> 32)).to_bytes(4, "little")
    return block


def test_a_mounted_device_is_refused(call, plan, tmp_path):
    sh("mkfs.ext4", "-q", plan["device"])
    (tmp_path / "other").mkdir()
    sh("mount", plan["device"], str(tmp_path / "other"))
    with pytest.raises(DeviceInUse, match=f"mounted on {tmp_path}/other"):
        call("luks.format", plan["device"], key=plan["key"], force=True, signature="ext4")
    with pytest.raises(DeviceInUse):
        call("luks.encrypt", **plan)


def test_a_device_under_another_is_refused(call, plan):
    sh("dmsetup", "create", "linear", input=f"0 2048 linear {plan['device']} 0\n")
    refused(call, plan, DeviceInUse, "held by the mapper linear")


def test_a_device_that_another_program_works_on_is_refused(call, plan, monkeypatch):
    monkeypatch.setattr(luks_device, "PATIENCE", 0.2)
    with luks_device.claimed(luks_device.find(plan["device"])):
        refused(call, plan, DeviceInUse, "holds the lock")


def test_no_block_device_is_refused(call, plan, tmp_path):
    (tmp_path / "file").write_bytes(b"\0" * 4096)
    for path in (tmp_path / "file", tmp_path / "missing"):
        with pytest.raises(luks_device.DeviceError, match=str(path)):
            call("luks.encrypt", **(plan | {"device": str(path)}))


def test_another_encrypted_volume_is_refused(call, plan, wrong_key):
    call("luks.format", plan["device"], key=wrong_key, backups=BACKUPS, **CHEAP)
    before = content(plan["device"])
    with pytest.raises(DeviceNotBlank, match="crypto_LUKS"):
        call("luks.format", plan["device"], key=plan["key"])
    with pytest.raises(WrongKey):
        call("luks.encrypt", **plan)
    assert content(plan["device"]) == before


def test_a_volume_without_filesystem_is_not_given_one(call, plan):
    call("luks.format", plan["device"], key=plan["key"], backups=BACKUPS, **CHEAP)
    before = content(plan["device"])
    with pytest.raises(FilesystemError, match="may hold data"):
        call("luks.encrypt", **plan)
    assert call("luks.status", plan["device"])["open"] is False
    assert content(plan["device"]) == before


def test_force_needs_the_signature_repeated(call, plan):
    sh("mkfs.ext4", "-q", plan["device"])
    before = content(plan["device"])
    for signature in (None, "xfs", ""):
        with pytest.raises(DeviceNotBlank, match="ext4"):
            call("luks.format", plan["device"], key=plan["key"], force=True, signature=signature)
    assert content(plan["device"]) == before
    call("luks.format", plan["device"], key=plan["key"], force=True, signature="ext4", backups=BACKUPS, **CHEAP)
    assert {each.type for each in luks_device.signatures(plan["device"])} == {"crypto_LUKS"}


def test_a_forced_format_leaves_no_signature_at_the_end(call, plan):
    """The kernel would use such a copy, as it does with a GPT."""
    sh("mkswap", plan["device"])
    with open(plan["device"], "r+b") as file:
        # md(4), version 1.0: the superblock is 8 KiB before the end
        file.seek(-8192, os.SEEK_END)
        file.write(raid_superblock(file.tell() // 512))
    assert {each.type for each in luks_device.signatures(plan["device"])} == {"swap", "linux_raid_member"}
    call("luks.format", plan["device"], key=plan["key"], force=True, signature="swap", backups=BACKUPS, **CHEAP)
    assert {each.type for each in luks_device.signatures(plan["device"])} == {"crypto_LUKS"}


def test_mapper_taken_by_another_device(call, encrypted, new_device, tmp_path):
    other = new_device()
    plan = encrypted | {"device": other, "mount_point": str(tmp_path / "other")}
    before = content(other)
    with pytest.raises(MapperError, match=f"taken.*{encrypted['device']}"):
        call("luks.encrypt", **plan)
    assert content(other) == before


def test_device_open_under_another_name(call, encrypted, tmp_path):
    with pytest.raises(MapperError, match="already open, as galaxy"):
        call("luks.encrypt", **(encrypted | {"mapper": "other", "mount_point": str(tmp_path / "other")}))


def test_mount_point_not_empty(call, plan):
    os.makedirs(plan["mount_point"])
    pathlib.Path(plan["mount_point"], "precious").touch()
    before = content(plan["device"])
    with pytest.raises(MountPointError, match="not empty"):
        call("luks.encrypt", **plan)
    assert content(plan["device"]) == before


def test_mount_point_taken(call, plan):
    os.makedirs(plan["mount_point"])
    sh("mount", "-t", "tmpfs", "tmpfs", plan["mount_point"])
    before = content(plan["device"])
    try:
        with pytest.raises(MountPointError, match="tmpfs is mounted there"):
            call("luks.encrypt", **plan)
    finally:
        sh("umount", plan["mount_point"])
    assert content(plan["device"]) == before


def test_another_filesystem_is_not_mounted(call, encrypted):
    call("luks.close", "galaxy")
    with pytest.raises(FilesystemError, match="carries ext4, not xfs"):
        call("luks.encrypt", **(encrypted | {"filesystem": "xfs"}))


def test_two_devices_with_one_uuid_are_ambiguous(call, encrypted, new_device):
    uuid = call("luks.status", encrypted["device"])["uuid"]
    copy = new_device()
    sh("cp", "--sparse=always", encrypted["device"], copy)
    with pytest.raises(luks_device.DeviceError, match=f"{encrypted['device']} and {copy}"):
        call("luks.status", f"UUID={uuid}")


def test_stale_mapper_of_a_lost_device(call, key, mount_point):
    sh("modprobe", "-d", "/run/modules", "sd_mod")
    sh("modprobe", "-d", "/run/modules", "scsi_debug", "dev_size_mb=48")
    disks = pathlib.Path("/sys/bus/pseudo/drivers/scsi_debug")
    pattern = "adapter*/host*/target*/*/block/*"

    def scanned():
        return [disk for disk in disks.glob(pattern) if os.path.exists(f"/dev/{disk.name}")]

    (disk,) = wait_until(scanned, Deadline(180))
    plan = {"device": f"/dev/{disk.name}", "mapper": "lost", "mount_point": mount_point, "key": key, "backups": BACKUPS}
    call("luks.encrypt", **plan, **CHEAP)
    (disk / "device/delete").write_text("1")
    with pytest.raises(luks_device.DeviceError, match="no such device"):
        call("luks.encrypt", **plan)
    status = call("luks.status", "/dev/mapper/lost")
    assert (status["device"], status["open"], status["stale"]) == (None, True, True)
    pathlib.Path("/sys/class/scsi_host/host0/scan").write_text("- - -")
    (disk,) = wait_until(scanned, Deadline(180))
    plan["device"] = f"/dev/{disk.name}"
    with pytest.raises(MapperError, match="stale"):
        call("luks.encrypt", **plan)
    assert call("luks.close", "lost") is True
