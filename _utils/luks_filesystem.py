"""
Filesystems on an opened volume: make, mount, grow, and look what is on one.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence

import galaxy_host_command
import galaxy_host_mounts
import galaxy_host_sysfs
import luks_device
from galaxy_errors import CommandError, FilesystemError, MountPointError
from galaxy_host_mounts import Mount

# how mkfs of each says "no questions, and over what an interrupted one left"
_MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-F"],
    "ext3": ["mkfs.ext3", "-q", "-F"],
    "ext2": ["mkfs.ext2", "-q", "-F"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
    "btrfs": ["mkfs.btrfs", "-q", "-f"],
}
# a large volume on slow storage
_TIMEOUT = 3600


def mounts(path: str) -> list[Mount]:
    """Where the filesystem on block device ``path`` is mounted, in the order of mounting."""
    number = galaxy_host_sysfs.number(path)
    return [each for each in galaxy_host_mounts.read() if number and galaxy_host_sysfs.number(each.source) == number]


def require_mountable(path: str, target: str) -> bool:
    """
    Whether device ``path`` is mounted on directory ``target`` already; ``False``: it is not, and can be.

    Raises ``MountPointError`` when something else is mounted there, or it is not an empty directory.
    """
    mount = galaxy_host_mounts.mounted_at(target)
    if mount:
        number = galaxy_host_sysfs.number(path)
        if number and galaxy_host_sysfs.number(mount.source) == number:
            return True
        raise MountPointError(target, f"{mount.source} is mounted there, not {path}. Nothing was changed")
    if os.path.lexists(target) and not os.path.isdir(target):
        raise MountPointError(target, "not a directory. Nothing was changed")
    if os.path.isdir(target) and os.listdir(target):
        raise MountPointError(
            target, "not empty; mounting would hide what is in it. Move it away first. Nothing was changed"
        )
    return False


def require_maker(fstype: str) -> None:
    """Raises ``FilesystemError`` unless this machine can make such a filesystem."""
    if fstype not in _MAKE:
        raise FilesystemError(fstype, f"not a filesystem that is made here; one of {', '.join(_MAKE)}")
    if not shutil.which(_MAKE[fstype][0]):
        raise FilesystemError(fstype, f"{_MAKE[fstype][0]} is not installed. Nothing was changed")


def make(path: str, fstype: str, options: Sequence[str]) -> None:
    """``mkfs`` on a device whose content the caller has proven to be nothing; on the medium when this returns."""
    galaxy_host_command.run([*_MAKE[fstype], *options, path], timeout=_TIMEOUT)
    luks_device.sync(path)


def mount(path: str, target: str, options: Sequence[str], fstype: str | None = None) -> None:
    """
    Mount device ``path`` on directory ``target``, which is made if missing.

    Raises ``FilesystemError`` when the device carries another filesystem than ``fstype``, or none that is known: it may
    hold data nevertheless, so nothing here would make one.
    """
    found = type_of(path)
    if found not in ([fstype] if fstype else _MAKE):
        what = f"carries {found}" if found else "an encrypted volume without a filesystem that is known"
        wanted = fstype or " or ".join(_MAKE)
        raise FilesystemError(path, f"{what}, not {wanted}; it may hold data, and was not touched")
    galaxy_host_mounts.make_directory(target)
    argv = ["mount", "-t", found, *(["-o", ",".join(options)] if options else []), path, target]
    galaxy_host_command.run(argv, timeout=_TIMEOUT)
    if not require_mountable(path, target):
        raise MountPointError(target, f"{path} is not mounted there although `mount` succeeded")


def unmount(target: str) -> None:
    """Raises ``CommandError`` when it is busy."""
    galaxy_host_command.run(["umount", target], timeout=_TIMEOUT)


def type_of(path: str) -> str:
    """The filesystem that the device carries; empty when there is none, or something else."""
    found = [each.type for each in luks_device.signatures(path)]
    return found[0] if found else ""


def files_on(path: str) -> list[str]:
    """
    The names in the root of the filesystem on device ``path``; none when there is no filesystem, or one that was made
    only half.
    """
    fstype = type_of(path)
    if not fstype:
        return []
    if fstype not in _MAKE:
        return [f"({fstype})"]
    try:
        with _mounted_readonly(path, fstype) as root:
            return sorted(set(os.listdir(root)) - {"lost+found"})
    except CommandError:
        return []


def grow(mount: Mount) -> None:
    """Let a mounted filesystem use all of its device."""
    argv = {"xfs": ["xfs_growfs", mount.target], "btrfs": ["btrfs", "filesystem", "resize", "max", mount.target]}
    galaxy_host_command.run(argv.get(mount.fstype, ["resize2fs", mount.source]), timeout=_TIMEOUT)


def size(mount: Mount) -> int:
    """Bytes that a mounted filesystem spans."""
    facts = os.statvfs(mount.target)
    return facts.f_blocks * facts.f_frsize


@contextlib.contextmanager
def _mounted_readonly(path: str, fstype: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="luks-", dir="/run") as root:
        galaxy_host_command.run(["mount", "-t", fstype, "-o", "ro,nodev,nosuid,noexec", path, root], timeout=_TIMEOUT)
        try:
            yield root
        finally:
            unmount(root)
