"""What is mounted, and where root may mount."""

import os
import pathlib
import stat
import subprocess

import pytest
from support.attacker import GALAXY, make, public_directory, run_as

import galaxy_host_mounts
from galaxy_errors import MountPointError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount and to be another user")


@pytest.fixture
def place():
    with public_directory() as path:
        yield pathlib.Path(path)


def test_what_is_mounted(place):
    point = place / "a b"
    point.mkdir()
    os.symlink(point, place / "link")
    assert galaxy_host_mounts.mounted_at(str(point)) is None
    for source in ("one", "two"):
        subprocess.run(["mount", "-t", "tmpfs", source, point], check=True)
    try:
        for path in (point, place / "link", f"{point}/", f"{place}/link/../a b"):
            # the last mount is on top
            found = galaxy_host_mounts.mounted_at(str(path))
            assert (found.target, found.source, found.fstype) == (str(point), "two", "tmpfs")
        assert galaxy_host_mounts.mounted_at(str(place)) is None
    finally:
        subprocess.run(["umount", point], check=True)
        subprocess.run(["umount", point], check=True)


def test_a_new_mount_point(place):
    path = place / "export" / "galaxy"
    assert galaxy_host_mounts.make_directory(str(path)) is True
    assert galaxy_host_mounts.make_directory(str(path)) is False
    status = path.stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (0, 0o755)
    with pytest.raises(MountPointError, match="cannot be made: is not a directory"):
        galaxy_host_mounts.make_directory(str(pathlib.Path(make(place / "file", 0, 0o644, b""))))
    with pytest.raises(MountPointError, match="cannot be made: no such file or directory"):
        galaxy_host_mounts.make_directory("/proc/none/galaxy")


def test_a_link_below_galaxys_directory(place):
    """An attack: with `export -> /run/sbin`, root mounted a volume with galaxy's content there."""
    make(place / "galaxy", GALAXY)
    sbin = make(place / "sbin", 0)
    run_as(GALAXY, os.symlink, sbin, place / "galaxy" / "export")
    for path in ("galaxy/export", "galaxy/export/deeper", "galaxy/new", "galaxy/new/deeper"):
        for function in (galaxy_host_mounts.require_place, galaxy_host_mounts.make_directory):
            with pytest.raises(MountPointError, match=r"user 4001 can put something else there.*Nothing was changed"):
                function(str(place / path))
    assert os.listdir(sbin) == []
    assert os.listdir(place / "galaxy") == ["export"]
    # galaxy may own the mount point itself
    galaxy_host_mounts.require_place(str(place / "galaxy"))
    assert galaxy_host_mounts.make_directory(str(place / "galaxy")) is False
