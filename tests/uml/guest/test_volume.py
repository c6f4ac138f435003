"""Volumes from blank device to closed, by the execution module."""

import hashlib
import os
import pathlib
import subprocess
import sys

import pytest
from conftest import BACKUPS, CHEAP, sh

import luks_device
import luks_encrypt
import luks_header
from galaxy_errors import (
    DeviceInUse,
    DeviceNotBlank,
    FilesystemError,
    HeaderError,
    MapperError,
    MountPointError,
    VolumeBusy,
    WrongKey,
)
from galaxy_secret import Secret


def content(device):
    """What is on the whole device, for comparison."""
    with open(device, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    assert call("luks.encrypt", **encrypted) == ["mount"]
    assert pathlib.Path(encrypted["mount_point"], "file").read_text() == "data"


def test_old_scripts_luks1_volume(call, device, key, mount_point):
    options = ["--type=luks1", "--cipher=aes-xts-plain64", "--key-size=256", "--hash=sha256", "--batch-mode"]
    sh("cryptsetup", "luksFormat", *options, "--pbkdf-force-iterations=1000", f"--key-file={key}", device)
    sh("cryptsetup", "open", f"--key-file={key}", device, "crypt")
    sh("mkfs.ext4", "-q", "/dev/mapper/crypt")
    sh("cryptsetup", "close", "crypt")
    uuid = sh("cryptsetup", "luksUUID", device)
    plan = {"device": f"UUID={uuid}", "mapper": "crypt", "mount_point": mount_point, "key": key, "backups": BACKUPS}
    assert call("luks.encrypt", may_format=False, **plan) == ["header_backup", "open", "mount"]
    assert call("luks.encrypt", may_format=False, **plan) == []
    status = call("luks.status", f"/dev/disk/by-uuid/{uuid}")
    assert (status["version"], status["key_size"], status["device"]) == (1, 256, device)
    assert call("luks.status", "/dev/mapper/crypt") == status


@pytest.mark.parametrize("version", [1, 2])
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


@pytest.mark.parametrize("version", [1, 2])
def test_resize_uses_the_grown_device(call, plan, tmp_path, version):
    call("luks.encrypt", **(plan | {"version": version}))
    sh("truncate", "-s", "96M", str(tmp_path / "disk0"))
    sh("losetup", "--set-capacity", plan["device"])
    sizes = call("luks.resize", "galaxy", key=plan["key"])
    assert sizes["after"]["volume"] - sizes["before"]["volume"] == 48 << 20
    assert sizes["after"]["filesystem"] > sizes["before"]["filesystem"] + (40 << 20)
    assert call("luks.resize", "galaxy", key=plan["key"])["before"] == sizes["after"]


def refused(call, plan, error, match):
    """The procedure refuses, and not one byte of the device changes."""
    before = content(plan["device"])
    for function, arguments in (
        ("luks.encrypt", plan),
        ("luks.format", {name: plan[name] for name in ("device", "key", "backups")}),
    ):
        with pytest.raises(error, match=match):
            call(function, **arguments)
    assert content(plan["device"]) == before


@pytest.mark.parametrize("fstype", ["ext4", "ext2"])
def test_a_filesystem_is_refused(call, plan, fstype):
    sh(f"mkfs.{fstype}", "-q", plan["device"])
    refused(call, plan, DeviceNotBlank, fstype)


def test_a_partition_table_is_refused(call, plan):
    sh("sfdisk", "--quiet", plan["device"], input="label: gpt\n,,L\n")
    refused(call, plan, DeviceNotBlank, "gpt")


def test_swap_is_refused(call, plan):
    sh("mkswap", plan["device"])
    refused(call, plan, DeviceNotBlank, "swap")


def test_a_raid_member_is_refused(call, plan):
    # linux-raid version 1.2 superblock, as in md(4): magic, major version, checksum over 256 bytes
    block = bytearray(256)
    block[0:8] = (0xA92B4EFC).to_bytes(4, "little") + (1).to_bytes(4, "little")
    block[128:136] = (8).to_bytes(8, "little")
    block[144:152] = (8).to_bytes(8, "little")
    total = sum(int.from_bytes(block[i : i + 4], "little") for i in range(0, 256, 4))
    block[216:220] = ((total & 0xFFFFFFFF) + (total >> 32)).to_bytes(4, "little")
    with open(plan["device"], "r+b") as file:
        file.seek(4096)
        file.write(block)
    refused(call, plan, DeviceNotBlank, "linux_raid_member")


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
    (disk,) = pathlib.Path("/sys/bus/pseudo/drivers/scsi_debug").glob("adapter*/host*/target*/*/block/*")
    plan = {"device": f"/dev/{disk.name}", "mapper": "lost", "mount_point": mount_point, "key": key, "backups": BACKUPS}
    call("luks.encrypt", **plan, **CHEAP)
    (disk / "device/delete").write_text("1")
    with pytest.raises(luks_device.DeviceError, match="no such device"):
        call("luks.encrypt", **plan)
    status = call("luks.status", "/dev/mapper/lost")
    assert (status["device"], status["open"], status["stale"]) == (None, True, True)
    pathlib.Path("/sys/class/scsi_host/host0/scan").write_text("- - -")
    with pytest.raises(MapperError, match="stale"):
        call("luks.encrypt", **plan)
    assert call("luks.close", "lost") is True


# a crash at each step leaves one of these; the kill test finds the same by chance


@pytest.fixture
def unfinished(plan):
    """A device whose encryption was interrupted right after luksFormat."""
    device = luks_device.find(plan["device"])
    luks_header.write(device, Secret(pathlib.Path(plan["key"]).read_bytes()), luks_header.Options(**CHEAP))
    return device


def test_an_unfinished_volume_is_known_and_not_used(call, plan, unfinished):
    assert call("luks.status", plan["device"])["unfinished"] is True
    with pytest.raises(HeaderError, match="unfinished"):
        call("luks.open", plan["device"], "galaxy", key=plan["key"])
    with pytest.raises(HeaderError, match="unfinished"):
        call("luks.encrypt", may_format=False, **plan)


def test_an_unfinished_volume_is_completed(call, plan, unfinished):
    assert call("luks.encrypt", **plan) == ["format", "mkfs", "header_backup", "open", "mount"]
    assert call("luks.status", plan["device"])["unfinished"] is False


def test_a_torn_header_is_made_anew(call, plan, unfinished):
    with open(plan["device"], "r+b") as file:
        for copy in (0, 0x4000):
            file.seek(copy + 5000)
            file.write(os.urandom(600))
    assert luks_header.read(unfinished) is None
    assert call("luks.status", plan["device"])["unfinished"] is True
    assert call("luks.encrypt", **plan) == ["format", "mkfs", "header_backup", "open", "mount"]


def test_a_torn_header_of_a_finished_volume_is_never_made_anew(call, encrypted):
    call("luks.close", "galaxy")
    status = call("luks.status", encrypted["device"], backups=BACKUPS)
    with open(encrypted["device"], "r+b") as file:
        for copy in (0, 0x4000):
            file.seek(copy + 5000)
            file.write(os.urandom(600))
    with pytest.raises(DeviceNotBlank, match="crypto_LUKS"):
        call("luks.encrypt", **encrypted)
    assert call("luks.header_restore", encrypted["device"], status["header_backup"], force=True) is True
    assert call("luks.encrypt", **encrypted) == ["open", "mount"]
    assert pathlib.Path(encrypted["mount_point"], "file").read_text() == "data"


def test_a_half_made_filesystem_is_made_anew(call, plan, unfinished):
    key = Secret(pathlib.Path(plan["key"]).read_bytes())
    luks_encrypt.luks_mapping.open_volume(unfinished, "galaxy", key)
    sh("mkfs.ext4", "-q", "/dev/mapper/galaxy")
    with open("/dev/mapper/galaxy", "r+b") as file:
        file.seek(4096)
        file.write(os.urandom(65536))
    # the mapping is still open, as after a kill of the minion alone
    assert "format" in call("luks.encrypt", **plan)
    assert call("luks.encrypt", **plan) == []


def test_files_on_an_unfinished_volume_are_not_lost(call, plan, unfinished, tmp_path):
    """Nobody should have used it; somebody did."""
    key = Secret(pathlib.Path(plan["key"]).read_bytes())
    luks_encrypt.luks_mapping.open_volume(unfinished, "byhand", key)
    sh("mkfs.ext4", "-q", "/dev/mapper/byhand")
    (tmp_path / "byhand").mkdir()
    sh("mount", "/dev/mapper/byhand", str(tmp_path / "byhand"))
    (tmp_path / "byhand/precious").write_text("data")
    with pytest.raises(DeviceInUse, match="byhand"):
        call("luks.encrypt", **plan)
    sh("umount", str(tmp_path / "byhand"))
    sh("cryptsetup", "close", "byhand")
    for function in ("luks.encrypt", "luks.format"):
        arguments = plan if function == "luks.encrypt" else {name: plan[name] for name in ("device", "key", "backups")}
        with pytest.raises(DeviceNotBlank, match="precious"):
            call(function, **arguments)


def test_an_unfinished_volume_of_another_key_is_left(call, plan, unfinished, wrong_key):
    before = content(plan["device"])
    with pytest.raises(WrongKey):
        call("luks.encrypt", **(plan | {"key": wrong_key}))
    assert content(plan["device"]) == before


def test_backup_comes_before_the_mount(call, encrypted):
    call("luks.close", "galaxy")
    os.unlink(call("luks.status", encrypted["device"], backups=BACKUPS)["header_backup"])
    assert call("luks.encrypt", **encrypted) == ["header_backup", "open", "mount"]
