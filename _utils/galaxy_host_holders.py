"""
Who holds a volume: the processes for which ``umount`` or ``cryptsetup close`` says that it is busy.
"""

import contextlib
import dataclasses
import os
import stat
from collections.abc import Iterable, Iterator

import galaxy_host_sysfs


@dataclasses.dataclass(frozen=True)
class Holder:
    """
    A process and how it holds the volume: ``use`` is ``cwd``, ``root``, ``exe``, a path that it has open or mapped, or
    ``mount namespace`` where the volume is mounted in a namespace other than ours.
    """

    pid: int
    name: str
    use: str

    def __str__(self) -> str:
        return f"{self.name} (PID {self.pid}: {self.use})"


def find(number: str, mount_points: Iterable[str] = ()) -> list[Holder]:
    """
    The processes that hold block device ``number`` (``major:minor``) open or use a filesystem on it, one entry each.

    mount_points
        where it is mounted; needed for filesystems with device numbers of their own, such as btrfs
    """
    major, minor = map(int, number.split(":"))
    device = os.makedev(major, minor)
    filesystems = {device}
    for path in mount_points:
        with contextlib.suppress(OSError):
            filesystems.add(os.stat(path).st_dev)
    own, seen = galaxy_host_sysfs.link("/proc/self/ns/mnt"), set()
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        use = next(_uses(pid, device, filesystems), None)
        namespace = galaxy_host_sysfs.link(f"/proc/{pid}/ns/mnt")
        if use is None and namespace not in seen | {own}:
            seen.add(namespace)
            if any(line.split()[2] == number for line in galaxy_host_sysfs.read(f"/proc/{pid}/mountinfo").splitlines()):
                use = "mount namespace"
        if use:
            found.append(Holder(int(pid), galaxy_host_sysfs.read(f"/proc/{pid}/comm"), use))
    return sorted(found, key=lambda holder: holder.pid)


def _uses(pid: str, device: int, filesystems: set[int]) -> Iterator[str]:
    for link in ("cwd", "root", "exe"):
        if _is_on(f"/proc/{pid}/{link}", device, filesystems):
            yield link
    for directory in ("fd", "map_files"):
        for name in galaxy_host_sysfs.names(f"/proc/{pid}/{directory}"):
            path = f"/proc/{pid}/{directory}/{name}"
            if _is_on(path, device, filesystems):
                yield galaxy_host_sysfs.link(path)


def _is_on(path: str, device: int, filesystems: set[int]) -> bool:
    try:
        status = os.stat(path)
    except OSError:
        return False
    return status.st_dev in filesystems or (stat.S_ISBLK(status.st_mode) and status.st_rdev == device)
