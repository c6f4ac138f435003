"""Whether a mounted filesystem is as declared, and where the files that are in the way go."""

import os

import pytest
from support.attacker import GALAXY, make, public_directory

import luks_filesystem
from galaxy_errors import FilesystemError, MountPointError
from galaxy_host_mounts import Mount


def mount(options, fstype="xfs"):
    return Mount("/export", "/dev/mapper/no-such-mapper", fstype, options)


@pytest.mark.parametrize(
    ("effective", "wanted", "missing"),
    [
        ("rw,relatime", [], []),
        ("rw,relatime", ["defaults", "_netdev", "nofail", "noauto", "x-systemd.device-timeout=9", "comment=x"], []),
        ("rw,relatime", ["rw", "suid", "dev", "exec", "async", "relatime"], []),
        ("rw,relatime", ["noatime"], ["noatime"]),
        ("rw,noatime", ["atime"], ["atime"]),
        ("rw,nosuid,noatime", ["noatime", "suid"], ["suid"]),
        ("rw,commit=5", ["commit=30"], ["commit=30"]),
        ("rw,barrier", ["barrier=1"], []),
        ("rw,nobarrier", ["barrier=0"], []),
        ("rw,nobarrier", ["barrier=1"], ["barrier=1"]),
        ("ro,noatime", ["ro", "noatime"], []),
    ],
)
def test_mount_options(effective, wanted, missing):
    assert luks_filesystem.require_as_wanted(mount(effective), "xfs", wanted) == missing


def test_read_only_unasked_and_another_filesystem():
    with pytest.raises(FilesystemError, match=r"/export: .*read-only.*luks\.close"):
        luks_filesystem.require_as_wanted(mount("ro,relatime"), "xfs", ["noatime"])
    with pytest.raises(FilesystemError, match="is xfs, not ext4"):
        luks_filesystem.require_as_wanted(mount("rw"), "ext4", [])


def test_what_is_in_the_way_is_set_aside_and_nothing_is_overwritten(tmp_path):
    target = tmp_path / "export"
    target.mkdir(mode=0o750)
    for number in (1, 2):
        (target / "file").write_text(f"{number}")
        assert luks_filesystem.is_occupied(str(target))
        assert luks_filesystem.aside(str(target)) == f"{target}.aside-{number}"
        assert luks_filesystem.set_aside(f"{target}/") == f"{target}.aside-{number}"
        assert not luks_filesystem.is_occupied(str(target))
        assert target.stat().st_mode & 0o777 == 0o750
    assert [(tmp_path / f"export.aside-{number}" / "file").read_text() for number in (1, 2)] == ["1", "2"]


def test_a_mount_point_that_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "stray").touch()
    for name, match in (("file", "not a directory"), ("full", "nonempty: move")):
        with pytest.raises(MountPointError, match=match):
            luks_filesystem.require_mountable("/dev/mapper/none", str(tmp_path / name))
    assert luks_filesystem.require_mountable("/dev/mapper/none", str(tmp_path / "full"), may_move=True) is None
    assert os.listdir(tmp_path / "full") == ["stray"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
def test_a_mount_point_where_another_user_could_put_a_link():
    with public_directory() as place:
        make(f"{place}/galaxy", GALAXY)
        make(f"{place}/galaxy/full", GALAXY)
        make(f"{place}/galaxy/full/stray", GALAXY, 0o644, b"")
        for name in ("new", "full", "full/stray"):
            for may_move in (True, False):
                with pytest.raises(MountPointError, match=r"user 4001 can put .*Nothing was changed"):
                    luks_filesystem.require_mountable("/dev/mapper/none", f"{place}/galaxy/{name}", may_move)
        # the owner of the mount point itself does not matter
        assert luks_filesystem.require_mountable("/dev/mapper/none", f"{place}/galaxy", may_move=True) is None


def test_filesystems_that_are_not_made_here():
    with pytest.raises(FilesystemError, match="one of ext4"):
        luks_filesystem.require_maker("ntfs")
