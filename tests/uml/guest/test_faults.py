"""Later faults in a volume's life: disks that come late or fail, damaged filesystems, killed runs, busy volumes."""

import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import threading

import pytest
from conftest import BACKUPS, CHEAP, content, fails, sh

import luks_device
import luks_filesystem
import luks_header
import luks_mapping
from galaxy_errors import DeviceMissing, FilesystemError, KeySourceError, MapperError, VolumeBusy, VolumeError
from galaxy_host_secret import Secret
from galaxy_host_wait import Deadline, wait_until


def opened(closed, name="byhand"):
    sh("cryptsetup", "open", f"--key-file={closed['key']}", closed["device"], name)
    return f"/dev/mapper/{name}"


def test_a_device_that_comes_late_is_waited_for(call, closed, tmp_path):
    link = tmp_path / "late"
    with pytest.raises(DeviceMissing, match="is it attached"):
        call("luks.open", str(link), "galaxy", key=closed["key"])
    with pytest.raises(DeviceMissing, match="waited 1 s"):
        call("luks.encrypt", **(closed | {"device": str(link)}), device_timeout=1)
    threading.Timer(3, link.symlink_to, [closed["device"]]).start()
    assert call("luks.encrypt", **(closed | {"device": str(link)}), device_timeout=60) == ["open", "fsck", "mount"]


def test_a_filesystem_with_errors_is_repaired_before_the_mount(call, closed):
    path = opened(closed)
    # the kernel marks errors in this way; and a file's count of blocks is wrong
    sh("debugfs", "-w", "-R", "set_super_value state 2", path)
    sh("debugfs", "-w", "-R", "set_inode_field file blocks 4000", path)
    sh("cryptsetup", "close", "byhand")
    assert call("luks.encrypt", **closed) == ["open", "fsck", "mount"]
    assert pathlib.Path(closed["mount_point"], "file").read_text() == "data"
    call("luks.close", "galaxy")
    path = opened(closed)
    assert "Filesystem state:         clean\n" in sh("dumpe2fs", "-h", path) + "\n"
    assert sh("e2fsck", "-fn", path)


def test_one_that_needs_a_person_says_all_and_the_commands(call, state, closed, wanted):
    path = opened(closed)
    sh("debugfs", "-w", "-R", "clri <2>", path)
    sh("debugfs", "-w", "-R", "set_super_value state 2", path)
    sh("cryptsetup", "close", "byhand")
    fails(state, "luks.mounted", "e2fsck -f", **wanted)
    result = state("luks.mounted", **wanted)
    for said in ("UNEXPECTED INCONSISTENCY", "luks.open DEVICE galaxy", "e2fsck -f /dev/mapper/galaxy"):
        assert said in result["comment"]
    assert call("luks.open_volumes") == {}
    path = opened(closed, "galaxy")
    subprocess.run(["e2fsck", "-fy", path], check=False, capture_output=True)
    assert call("luks.encrypt", **closed) == ["fsck", "mount"]


def test_a_damaged_superblock_is_told_with_its_repair(call, closed):
    path = opened(closed)
    with open(path, "r+b") as file:
        file.seek(1024)
        file.write(os.urandom(1024))
    sh("cryptsetup", "close", "byhand")
    for test in (True, False):
        with pytest.raises(FilesystemError, match=r"it may hold data.*e2fsck -f .*-b 32768"):
            call("luks.encrypt", test=test, **closed)
    assert call("luks.open_volumes") == {}


def test_a_refused_mount_says_all_that_mount_said(call, closed):
    options = closed | {"mount_options": ["no-such-option"]}
    for test in (True, False):
        with pytest.raises(FilesystemError, match=r"(wrong fs type|bad option|superblock)"):
            call("luks.encrypt", test=test, **options)
    assert call("luks.open_volumes") == {}


def test_read_only_unasked_is_not_as_wanted(state, closed, wanted, call):
    call("luks.encrypt", **closed)
    sh("mount", "-o", "remount,ro", closed["mount_point"])
    fails(state, "luks.mounted", "read-only", **wanted)
    assert state("luks.mounted", **wanted, mount_options=["ro"])["result"] is True


def test_other_mount_options_are_brought_by_a_remount(state, closed, wanted, call):
    call("luks.encrypt", **closed)
    for options in (
        ["noatime", "nodev"],
        ["noatime", "nodev", "_netdev", "defaults", "x-any=1", "barrier=1", "commit=30"],
    ):
        announced = state("luks.mounted", test=True, **wanted, mount_options=options)
        made = state("luks.mounted", **wanted, mount_options=options)
        assert announced["changes"] == made["changes"] == {"remount": closed["mount_point"]}
        assert state("luks.mounted", **wanted, mount_options=options)["changes"] == {}
    shown = sh("findmnt", "-no", "OPTIONS", closed["mount_point"]).split(",")
    assert {"noatime", "nodev", "commit=30"} <= set(shown)


def test_another_filesystem_is_not_as_wanted(state, closed, wanted, call):
    call("luks.encrypt", **closed)
    fails(state, "luks.mounted", "mounted there is ext4, not xfs", **(wanted | {"filesystem": "xfs"}))


def test_what_lies_below_the_mount_point_is_told_or_set_aside(state, closed, wanted, call):
    stray = pathlib.Path(closed["mount_point"], "stray")
    stray.write_text("written while it was not mounted")
    fails(state, "luks.mounted", "not empty; mounting would hide stray", **wanted)
    announced = state("luks.mounted", test=True, nonempty="move", **wanted)
    assert stray.exists()
    made = state("luks.mounted", nonempty="move", **wanted)
    assert list(made["changes"]) == list(announced["changes"]) == ["open", "fsck", "set_aside", "mount"]
    moved = pathlib.Path(f"{closed['mount_point']}.aside-1", "stray")
    assert moved.read_text() == "written while it was not mounted"
    assert not stray.exists()
    assert state("luks.mounted", nonempty="move", **wanted)["changes"] == {}


def test_opened_by_other_means_needs_no_key(state, closed, wanted):
    opened(closed, "galaxy")
    missing = wanted | {"key": "/nonexistent"}
    assert list(state("luks.mounted", test=True, **missing)["changes"]) == ["fsck", "mount"]
    assert state("luks.mounted", **missing)["result"] is True


def test_one_that_is_mounted_elsewhere_too(state, closed, wanted, call, tmp_path):
    call("luks.encrypt", **closed)
    (tmp_path / "elsewhere").mkdir()
    sh("mount", "/dev/mapper/galaxy", str(tmp_path / "elsewhere"))
    sh("umount", closed["mount_point"])
    announced = state("luks.mounted", test=True, **wanted)
    made = state("luks.mounted", **wanted)
    assert announced["changes"] == made["changes"] == {"mount": closed["mount_point"]}, announced["comment"]


def test_one_bad_disk_hides_no_other(call, state, closed, new_device, key, tmp_path):
    """Under a mounted volume, the disk is replaced by one that fails."""
    call("luks.encrypt", **closed)
    below, size = new_device(), 48 << 11
    sh("dmsetup", "create", "failing", input=f"0 {size} linear {below} 0\n")
    # without udev, dmsetup must make the nodes
    sh("dmsetup", "mknodes")
    bad = closed | {"device": "/dev/mapper/failing", "mapper": "bad", "mount_point": str(tmp_path / "bad")}
    call("luks.encrypt", **bad)
    sh("dmsetup", "suspend", "--nolockfs", "--noflush", "failing")
    sh("dmsetup", "load", "failing", input=f"0 {size} error\n")
    sh("dmsetup", "resume", "failing")
    # nothing may come from a cache
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
    volumes = call("luks.open_volumes")
    assert set(volumes) == {"bad", "galaxy"}
    assert (volumes["bad"]["luks"], volumes["galaxy"]["luks"]) == (None, True)
    assert "Input/output error" in volumes["bad"]["error"]
    assert volumes["galaxy"]["error"] is None
    assert call("luks.status", "/dev/mapper/failing")["error"]
    named = {name: value for name, value in bad.items() if name != "mount_point"}
    fails(state, "luks.mounted", "Input/output error", name=bad["mount_point"], **named)
    fails(state, "luks.key_present", "", name=bad["device"], new_key=key, key=key)
    assert state("luks.closed", "galaxy")["result"] is True


def test_a_run_that_was_killed_within_its_look_blocks_no_other(call, plan):
    """The mapping is left, and its filesystem is mounted on a directory in /run."""
    device = luks_device.find(plan["device"])
    key = Secret(pathlib.Path(plan["key"]).read_bytes())
    luks_header.write(device, key, luks_header.Options(**CHEAP))
    name = f"unfinished-{luks_header.read(device).uuid}"
    luks_mapping.open_volume(device, name, key)
    luks_filesystem.make(f"/dev/mapper/{name}", "ext4", ())
    os.mkdir("/run/luks-abcd1234")
    sh("mount", "-o", "ro", f"/dev/mapper/{name}", "/run/luks-abcd1234")
    assert "format" in call("luks.encrypt", **plan)
    assert not os.path.exists("/run/luks-abcd1234")
    assert call("luks.encrypt", **plan) == []


def test_a_test_run_that_was_killed_within_its_look_blocks_no_other(call, closed):
    name = f"unfinished-{luks_header.read(closed['device']).uuid}"
    sh("cryptsetup", "open", "--readonly", f"--key-file={closed['key']}", closed["device"], name)
    os.mkdir("/run/luks-abcd1234")
    sh("mount", "-o", "ro,noload", f"/dev/mapper/{name}", "/run/luks-abcd1234")
    # another run was killed while it tried mount options
    os.makedirs("/run/luks-trial-abcd1234/mnt")
    assert call("luks.encrypt", test=True, mount_options=["noatime"], **closed) == ["open", "fsck", "mount"]
    assert call("luks.encrypt", mount_options=["noatime"], **closed) == ["open", "fsck", "mount"]
    assert [name for name in os.listdir("/run") if name.startswith("luks-") and not name.endswith(".lock")] == []
    assert pathlib.Path("/proc/mounts").read_text().count("/dev/loop") == 0


def test_a_test_run_changes_nothing_on_a_volume_whose_journal_is_to_be_replayed(call, closed, new_device):
    """The volume is as after a power cut: copied while it was mounted."""
    call("luks.encrypt", **closed)
    pathlib.Path(closed["mount_point"], "late").write_text("data")
    sh("sync")
    copy = new_device()
    sh("cp", "--sparse=always", closed["device"], copy)
    call("luks.close", "galaxy")
    sh("cp", "--sparse=always", copy, closed["device"])
    # two devices with one UUID would be a volume and its copy
    sh("blkdiscard", copy)
    before = content(closed["device"])
    assert call("luks.encrypt", test=True, **closed) == ["open", "fsck", "mount"]
    assert content(closed["device"]) == before
    assert call("luks.encrypt", **closed) == ["open", "fsck", "mount"]
    assert pathlib.Path(closed["mount_point"], "late").read_text() == "data"


CALL = """
import json, sys, salt.client
print(salt.client.Caller(c_path=sys.argv[1]).cmd(sys.argv[2], *sys.argv[4:], **json.loads(sys.argv[3])))
"""


def at_once(*calls):
    """Run each call in a process of its own, as two jobs do."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        done = [pool.submit(subprocess.run, argv, capture_output=True, text=True, check=False) for argv in calls]
        return [each.result() for each in done]


def test_two_runs_at_once_both_end_right(caller, call, plan):
    def job(function, **arguments):
        return [sys.executable, "-c", CALL, caller.opts["conf_file"], function, json.dumps(arguments)]

    both = at_once(job("luks.encrypt", **plan), job("luks.encrypt", **plan))
    assert [each.returncode for each in both] == [0, 0], [each.stderr for each in both]
    assert sorted(each.stdout.strip() == "[]" for each in both) == [False, True]
    call("luks.close", "galaxy")
    arguments = {"device": plan["device"], "mapper": "galaxy", "key": plan["key"]}
    both = at_once(job("luks.open", **arguments), job("luks.open", **arguments), job("luks.open", **arguments))
    assert sorted(each.stdout.strip() for each in both) == ["False", "False", "True"], [each.stderr for each in both]


@pytest.mark.slow
def test_two_formats_at_once_both_end_right(caller, device, key):
    arguments = json.dumps({"name": device, "key": key, "backups": BACKUPS, **CHEAP})
    job = [sys.executable, "-c", CALL, caller.opts["conf_file"], "state.single", arguments, "luks.formatted"]
    both = at_once(job, job)
    assert all("'result': True" in each.stdout for each in both), [(each.stdout, each.stderr) for each in both]


def test_two_devices_for_one_name_leave_no_mark(call, encrypted, new_device, tmp_path):
    other = new_device()
    with pytest.raises(MapperError, match="taken"):
        call("luks.encrypt", **(encrypted | {"device": other, "mount_point": str(tmp_path / "other")}))
    assert call("luks.status", other)["unfinished"] is False


def test_a_busy_volume_names_all_that_holds_it_and_stays_mounted(call, state, encrypted, tmp_path):
    inside = encrypted["mount_point"]
    sh("truncate", "-s", "4M", f"{inside}/image")
    loop = sh("losetup", "--find", "--show", f"{inside}/image")
    sh("dd", "if=/dev/zero", f"of={inside}/swap", "bs=1M", "count=2")
    os.chmod(f"{inside}/swap", 0o600)
    sh("mkswap", f"{inside}/swap")
    sh("swapon", f"{inside}/swap")
    os.mkdir(f"{inside}/sub dir")
    sh("mount", "-t", "tmpfs", "tmpfs", f"{inside}/sub dir")
    (tmp_path / "elsewhere").mkdir()
    sh("mount", "--bind", inside, str(tmp_path / "elsewhere"))
    try:
        with pytest.raises(VolumeBusy) as caught:
            call("luks.close", "galaxy")
        for held in (loop, f"swap on {inside}/swap", f"mounted on {inside}/sub dir"):
            assert held in str(caught.value)
        fails(state, "luks.closed", loop, name="galaxy")
        assert os.path.ismount(tmp_path / "elsewhere")
    finally:
        sh("swapoff", f"{inside}/swap")
        sh("losetup", "--detach", loop)
        sh("umount", f"{inside}/sub dir")
    wait_until(lambda: not pathlib.Path(f"/sys/class/block/{loop[5:]}/loop").exists(), Deadline(10))
    assert call("luks.close", "galaxy") is True


def test_a_restore_that_was_cut_short_converges(call, closed):
    """Only a part of the header is there. It is not taken for blank, and the same call completes it."""
    backup = call("luks.status", closed["device"], backups=BACKUPS)["header_backup"]
    header = pathlib.Path(backup).read_bytes()
    for written in (0, 4096, len(header) // 2):
        with open(closed["device"], "r+b") as file:
            file.write(bytes(4096) + header[4096 : 4096 + written].ljust(len(header) - 4096, b"\0"))
        with pytest.raises(VolumeError, match=r"luks\.header_restore"):
            call("luks.encrypt", **closed)
        assert call("luks.header_restore", closed["device"], backup, force=True, backups=BACKUPS) is True
        assert call("luks.test_key", closed["device"], key=closed["key"]) is True
    assert call("luks.encrypt", **closed) == ["open", "fsck", "mount"]
    assert pathlib.Path(closed["mount_point"], "file").read_text() == "data"


def test_a_place_of_a_key_that_opens_only(call, closed):
    with pytest.raises(KeySourceError, match="only opens volumes"):
        call("luks.add_key", closed["device"], new_key=closed["key"], key="token://", backups=BACKUPS)
