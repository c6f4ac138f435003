"""
Find out who holds a volume: the processes, and the parts of the kernel, because of which ``umount`` or ``cryptsetup
close`` calls it busy.
"""

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator

import galaxy_host_sysfs
from galaxy_host_pattern import Pattern
from galaxy_host_record import record

_OCTAL = Pattern(r"\\([0-7]{3})")


@record(frozen=True)
class Holder:
    """
    A process and how it holds the volume. ``use`` is ``cwd``, ``root``, ``exe``, a path that the process has open or
    mapped, or ``mount namespace`` if the volume is mounted in a namespace other than ours.
    """

    pid: int
    name: str
    use: str

    def __str__(self) -> str:
        return f"{self.name} (PID {self.pid}: {self.use})"


def find(number: str, mount_points: Iterable[str] = ()) -> list[Holder]:
    """
    The processes that hold block device ``number`` (``major:minor``) open or use a filesystem on it, one entry for
    each.

    mount_points
        directories on which it is mounted; needed for filesystems with device numbers of their own, such as btrfs
    """
    major, minor = map(int, number.split(":"))
    device = os.makedev(major, minor)
    filesystems = {device}
    for path in mount_points:
        with contextlib.suppress(OSError):
            filesystems.add(os.stat(path).st_dev)
    own = galaxy_host_sysfs.link("/proc/self/ns/mnt")
    seen: set[str] = set()
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


def kernel_uses(number: str, mount_points: Iterable[str] = ()) -> list[str]:
    """
    What holds block device ``number``, or a filesystem on it, without a process: mounts below ``mount_points``, loop
    devices and swap on files there, swap on the device, devices built on it. One text for each.
    """
    roots = [path.rstrip("/") + "/" for path in mount_points]

    def is_below(path: str) -> bool:
        return any(path.startswith(root) for root in roots)

    uses = []
    for name in galaxy_host_sysfs.names("/sys/class/block"):
        file = galaxy_host_sysfs.read(f"/sys/class/block/{name}/loop/backing_file")
        if file and is_below(file):
            uses.append(f"the loop device /dev/{name} (of {file})")
    for line in galaxy_host_sysfs.read("/proc/swaps").splitlines()[1:]:
        path = _unescape(line.split()[0])
        if is_below(path) or galaxy_host_sysfs.number(path) == number:
            uses.append(f"swap on {path}")
    targets = [_unescape(line.split()[4]) for line in galaxy_host_sysfs.read("/proc/self/mountinfo").splitlines()]
    uses += [f"what is mounted on {target}" for target in targets if is_below(target)]
    for name in galaxy_host_sysfs.names(f"/sys/dev/block/{number}/holders"):
        mapper = galaxy_host_sysfs.read(f"/sys/class/block/{name}/dm/name")
        uses.append(f"the mapper {mapper}" if mapper else f"the device /dev/{name}")
    return uses


def _unescape(path: str) -> str:
    """Decode a path from the kernel's tables, which write white space and backslashes in octal."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), path)


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
