"""xfs and btrfs: made, mounted, used, busy, closed, grown."""

import pathlib
import subprocess
import sys

import pytest
from conftest import sh

from galaxy_errors import DeviceNotBlank, VolumeBusy

SIZES = {"xfs": ("340M", "380M"), "btrfs": ("280M", "320M")}


@pytest.fixture(params=[("xfs", 2), ("btrfs", 1)], ids=["xfs", "btrfs"])
def volume(request, call, new_device, plan):
    """A mounted volume with a file. Returns the arguments of ``luks.encrypt``."""
    fstype, version = request.param
    made = plan | {"device": new_device(SIZES[fstype][0]), "filesystem": fstype, "version": version}
    made.pop("pbkdf") if version == 1 else None
    assert call("luks.encrypt", **made) == ["format", "mkfs", "header_backup", "open", "mount"]
    pathlib.Path(made["mount_point"], "file").write_text("data")
    return made


def test_life(call, volume, tmp_path):
    fstype, mount_point = volume["filesystem"], volume["mount_point"]
    assert call("luks.encrypt", **volume) == []
    assert call("luks.encrypt", mount_options=["noatime"], **volume) == ["remount"]
    assert call("luks.encrypt", mount_options=["noatime"], **volume) == []
    assert call("luks.status", volume["device"])["filesystem"] == fstype
    holder = subprocess.Popen([sys.executable, "-c", "input()"], cwd=mount_point, stdin=subprocess.PIPE)
    try:
        with pytest.raises(VolumeBusy, match=f"PID {holder.pid}: cwd"):
            call("luks.close", "galaxy")
    finally:
        holder.communicate(b"\n")
    if fstype == "btrfs":
        sh("btrfs", "subvolume", "create", f"{mount_point}/sub")
        (tmp_path / "sub").mkdir()
        sh("mount", "-o", "subvol=sub", "/dev/mapper/galaxy", str(tmp_path / "sub"))
    assert call("luks.close", "galaxy") is True
    # no check before the mount: these filesystems do it themselves
    assert call("luks.encrypt", test=True, **volume) == ["open", "mount"]
    assert call("luks.encrypt", **volume) == ["open", "mount"]
    assert pathlib.Path(mount_point, "file").read_text() == "data"


def test_grown(call, state, volume, tmp_path):
    sh("truncate", "-s", SIZES[volume["filesystem"]][1], str(tmp_path / "disk1"))
    sh("losetup", "--set-capacity", volume["device"])
    announced = state("luks.resized", "galaxy", test=True, key=volume["key"])
    made = state("luks.resized", "galaxy", key=volume["key"])
    assert announced["changes"] == made["changes"] == {"volume": "grown", "filesystem": "grown"}, made["comment"]
    assert state("luks.resized", "galaxy", key=volume["key"])["changes"] == {}
    assert pathlib.Path(volume["mount_point"], "file").read_text() == "data"


@pytest.mark.slow
def test_without_its_header_it_is_not_blank(call, volume):
    call("luks.close", "galaxy")
    with open(volume["device"], "r+b") as file:
        file.write(bytes(17 << 20))
    with pytest.raises(DeviceNotBlank):
        call("luks.encrypt", **volume)
