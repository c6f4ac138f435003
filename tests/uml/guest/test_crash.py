"""States that a crash can leave, each one made on purpose. The kill test finds the same ones by chance."""

import os
import pathlib
import re

import pytest
from conftest import BACKUPS, CHEAP, content, sh

import luks_device
import luks_header
import luks_mapping
from galaxy_errors import (
    DeviceInUse,
    DeviceNotBlank,
    HeaderError,
    WrongKey,
)
from galaxy_host_secret import Secret


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


def test_a_torn_header_of_a_finished_volume_is_never_made_anew(call, plan):
    call("luks.encrypt", **plan)
    pathlib.Path(plan["mount_point"], "file").write_text("data")
    call("luks.close", "galaxy")
    status = call("luks.status", plan["device"], backups=BACKUPS)
    with open(plan["device"], "r+b") as file:
        for copy in (0, 0x4000):
            file.seek(copy + 5000)
            file.write(os.urandom(600))
    with pytest.raises(DeviceNotBlank, match=r"crypto_LUKS|header_restore"):
        call("luks.encrypt", **plan)
    assert call("luks.header_restore", plan["device"], status["header_backup"], force=True) is True
    assert call("luks.encrypt", **plan) == ["open", "fsck", "mount"]
    assert pathlib.Path(plan["mount_point"], "file").read_text() == "data"


def test_a_half_made_filesystem_is_made_anew(call, plan, unfinished):
    key = Secret(pathlib.Path(plan["key"]).read_bytes())
    luks_mapping.open_volume(unfinished, "galaxy", key)
    sh("mkfs.ext4", "-q", "/dev/mapper/galaxy")
    with open("/dev/mapper/galaxy", "r+b") as file:
        file.seek(4096)
        file.write(os.urandom(65536))
    # the mapping is still open: only the minion was killed
    assert "format" in call("luks.encrypt", **plan)
    assert call("luks.encrypt", **plan) == []


def test_a_filesystem_without_its_root_is_made_anew(call, plan, unfinished):
    """mkfs wrote the superblock and the root's inode, but not yet the root directory."""
    key = Secret(pathlib.Path(plan["key"]).read_bytes())
    luks_mapping.open_volume(unfinished, "galaxy", key)
    sh("mkfs.ext4", "-q", "/dev/mapper/galaxy")
    (block,) = re.findall(r"^\(0\):(\d+)", sh("debugfs", "-R", "stat <2>", "/dev/mapper/galaxy"), re.MULTILINE)
    size = int(re.search(r"Block size:\s+(\d+)", sh("dumpe2fs", "-h", "/dev/mapper/galaxy"))[1])
    with open("/dev/mapper/galaxy", "r+b") as file:
        file.seek(int(block) * size)
        file.write(bytes(size))
    assert "format" in call("luks.encrypt", **plan)
    assert call("luks.encrypt", **plan) == []


def test_files_on_an_unfinished_volume_are_not_lost(call, plan, unfinished, tmp_path):
    """Nobody should have used the volume, but somebody did."""
    key = Secret(pathlib.Path(plan["key"]).read_bytes())
    luks_mapping.open_volume(unfinished, "byhand", key)
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
    assert call("luks.encrypt", **encrypted) == ["header_backup", "open", "fsck", "mount"]
