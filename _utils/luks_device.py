"""
Block devices: find one, say what it carries and who uses it, claim it.
"""

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
from collections.abc import Iterator

import galaxy_host_command
import galaxy_host_sysfs
from galaxy_errors import DeviceError, DeviceInUse, DeviceNotBlank
from galaxy_host_wait import Deadline, wait_until

PATIENCE = 30
_TAGS = ("UUID", "LABEL", "PARTUUID", "PARTLABEL")
# what udev links; resolved here as tags, so that they work where no udev runs
_BY = {f"/dev/disk/by-{tag.lower()}/": tag for tag in _TAGS}


@dataclasses.dataclass(frozen=True)
class Device:
    """A block device: the path of its node, and ``number``, the kernel's ``major:minor``."""

    path: str
    number: str

    def __str__(self) -> str:
        return self.path

    @property
    def sysfs(self) -> str:
        """Its directory below /sys."""
        return f"/sys/dev/block/{self.number}"

    @property
    def size(self) -> int:
        """Bytes."""
        return int(galaxy_host_sysfs.read(f"{self.sysfs}/size")) * 512


@dataclasses.dataclass(frozen=True)
class Signature:
    """What ``wipefs`` finds at ``offset``: ``type`` is ``ext4``, ``crypto_LUKS``, ``gpt``, ``LVM2_member``, …"""

    type: str
    uuid: str
    offset: int

    def __str__(self) -> str:
        return f"{self.type} ({self.uuid})" if self.uuid else self.type


def find(spec: str) -> Device:
    """
    The block device that ``spec`` names: a path, or ``UUID=``, ``LABEL=``, ``PARTUUID=``, ``PARTLABEL=`` as in
    :manpage:`fstab(5)`; ``/dev/disk/by-uuid/…`` and its siblings work without udev too.

    Raises ``DeviceError`` when there is none, more than one, or it is not a block device.
    """
    for prefix, tag in _BY.items():
        if spec.startswith(prefix):
            spec = f"{tag}={spec[len(prefix) :]}"
    tag, equals, value = spec.partition("=")
    if equals and tag in _TAGS:
        path = _find_tagged(spec, f"{tag}={value}")
    elif spec.startswith("/"):
        path = os.path.realpath(spec)
    else:
        raise DeviceError(spec, "names no device; give a path, UUID=… or LABEL=…")
    number = galaxy_host_sysfs.number(path)
    if not number:
        raise DeviceError(spec, "not a block device" if os.path.exists(path) else "no such device; is it attached?")
    return Device(path, number)


def at(number: str) -> Device:
    """The block device of that ``major:minor``."""
    return Device(f"/dev/{os.path.basename(os.path.realpath(f'/sys/dev/block/{number}'))}", number)


def _find_tagged(spec: str, token: str) -> str:
    # no cache, and all that match: two devices of one UUID are a volume and its copy, which must not be mistaken
    argv = ["blkid", "--cache-file", "/dev/null", "--match-token", token, "--output", "device"]
    paths = sorted(set(galaxy_host_command.run(argv, check=False).split()))
    if not paths:
        raise DeviceError(spec, "no device has it; is it attached?")
    if len(paths) > 1:
        raise DeviceError(spec, f"{' and '.join(paths)} both have it; detach the copy, or name the device by its path")
    return os.path.realpath(paths[0])


def signatures(path: Device | str) -> tuple[Signature, ...]:
    """Everything that libblkid recognises on it: filesystems, partition tables, RAID, LVM, LUKS, swap."""
    found = json.loads(galaxy_host_command.run(["wipefs", "--json", str(path)]) or "{}").get("signatures", [])
    return tuple(Signature(each["type"], each["uuid"] or "", int(each["offset"], 16)) for each in found)


def uses(device: Device) -> list[str]:
    """Why the device is in use, one text a use: its mounts, swap, devices built on it. Empty: it is free."""
    found = []
    parts = [device.number, *(galaxy_host_sysfs.read(f"{device.sysfs}/{part}/dev") for part in _partitions(device))]
    for line in galaxy_host_sysfs.read("/proc/self/mountinfo").splitlines():
        fields = line.split()
        if fields[2] in parts:
            found.append(f"mounted on {fields[4]}")
    for line in galaxy_host_sysfs.read("/proc/swaps").splitlines()[1:]:
        if galaxy_host_sysfs.number(line.split()[0]) in parts:
            found.append("used as swap")
    for number in parts:
        for holder in galaxy_host_sysfs.names(f"/sys/dev/block/{number}/holders"):
            name = galaxy_host_sysfs.read(f"/sys/class/block/{holder}/dm/name")
            found.append(f"held by the mapper {name}" if name else f"part of {holder}")
    if not found and _is_exclusive(device):
        found.append("opened exclusively by another program")
    return found


def require_free(device: Device) -> None:
    """Raises ``DeviceInUse``, naming the uses, unless nothing uses the device."""
    found = uses(device)
    if found:
        raise DeviceInUse(device, f"in use: {'; '.join(found)}. Nothing was changed")


def require_blank(device: Device, force: bool = False, signature: str | None = None) -> None:
    """
    Raises ``DeviceInUse`` or ``DeviceNotBlank``, naming what was found, unless the device is free and carries no
    signature; or ``force`` is set and ``signature`` repeats the type or UUID of one that it carries.
    """
    require_free(device)
    found = signatures(device)
    if not found:
        return
    if force and signature and any(signature in (each.type, each.uuid) for each in found):
        return
    carries = f"it carries {', '.join(dict.fromkeys(map(str, found)))}"
    what = "repeat its current type or UUID as `signature`" if force else "its data would be lost"
    raise DeviceNotBlank(device, f"not formatted, for {carries}; {what}. Nothing was changed", found)


def wipe(device: Device) -> None:
    """
    Erase every signature, those at the end of the device too: a partition table's copy there would come back to life.
    """
    galaxy_host_command.run(["wipefs", "--all", device.path])
    sync(device)


@contextlib.contextmanager
def claimed(device: Device | str) -> Iterator[None]:
    """
    Hold the advisory lock on the device that udev and systemd's tools respect, so that two runs never meet on it.
    Of an image file cryptsetup takes that lock itself.

    Raises ``DeviceInUse`` when another program holds it for longer than ``PATIENCE`` seconds; udev does for a moment.
    """
    if not isinstance(device, Device):
        yield
        return
    node = os.open(device.path, os.O_RDONLY)
    try:
        if not wait_until(lambda: _lock(node), Deadline(PATIENCE)):
            raise DeviceInUse(device, "another program works on it (it holds the lock); try again later")
        yield
    finally:
        os.close(node)


def sync(path: Device | str) -> None:
    """Return once all that was written to this file, directory or block device is on the medium."""
    node = os.open(str(path), os.O_RDONLY)
    try:
        os.fsync(node)
    finally:
        os.close(node)


def _lock(node: int) -> bool:
    try:
        fcntl.flock(node, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_exclusive(device: Device) -> bool:
    try:
        os.close(os.open(device.path, os.O_RDONLY | os.O_EXCL))
    except OSError as exc:
        if exc.errno == errno.EBUSY:
            return True
        raise DeviceError(device, f"cannot be read: {exc.strerror}") from None
    return False


def _partitions(device: Device) -> list[str]:
    return [
        name for name in galaxy_host_sysfs.names(device.sysfs) if os.path.exists(f"{device.sysfs}/{name}/partition")
    ]
