"""
Find a block device, tell what it carries and what uses it, and claim it.
"""

import contextlib
import errno
import json
import logging
import os
from collections.abc import Iterator

import galaxy_host_command
import galaxy_host_lock
import galaxy_host_sysfs
from galaxy_errors import CommandError, DeviceError, DeviceInUse, DeviceMissing, VolumeError
from galaxy_host_record import record
from galaxy_host_wait import Deadline, wait_until

log = logging.getLogger(__name__)

# seconds to wait for another run on the same device; a key derivation and mkfs may take long
PATIENCE = 300
# seconds between two looks for a device that is not there yet
_INTERVAL = 1.0
_TAGS = ("UUID", "LABEL", "PARTUUID", "PARTLABEL")
# udev's links; here each is resolved as a tag, so that it works without udev
_BY = {f"/dev/disk/by-{tag.lower()}/": tag for tag in _TAGS}


@record(frozen=True)
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
        """Its size in bytes."""
        sectors = galaxy_host_sysfs.read(f"{self.sysfs}/size")
        if not sectors:
            raise DeviceMissing(self, "it went away")
        return int(sectors) * 512


@record(frozen=True)
class Signature:
    """What ``wipefs`` finds at ``offset``: ``type`` is ``ext4``, ``crypto_LUKS``, ``gpt``, ``LVM2_member``, …"""

    type: str
    uuid: str
    offset: int

    def __str__(self) -> str:
        return f"{self.type} ({self.uuid})" if self.uuid else self.type


def find(spec: str, timeout: float = 0) -> Device:
    """
    The block device that ``spec`` names: a path, or ``UUID=``, ``LABEL=``, ``PARTUUID=``, ``PARTLABEL=`` as in
    :manpage:`fstab(5)`. ``/dev/disk/by-uuid/…`` and the like work without udev too.

    timeout
        if the device is not there: seconds to wait for it, because a cloud may attach it late

    Raises ``DeviceMissing`` if there is still none then. Raises ``DeviceError`` if there are several, or if it is no
    block device.
    """
    missing: list[DeviceMissing] = []

    def look() -> Device | None:
        try:
            return _find(spec)
        except DeviceMissing as exc:
            if not missing and timeout:
                log.info("%s is not there yet; waiting up to %g s", spec, timeout)
            missing.append(exc)
        return None

    device = wait_until(look, Deadline(timeout), _INTERVAL, lambda: str(missing[-1]))
    if device is None:
        waited = f" (waited {timeout:g} s)" if timeout else ""
        raise DeviceMissing(spec, f"{missing[-1].what}{waited}")
    log.debug("%s is %s (%s)", spec, device, device.number)
    return device


def at(number: str) -> Device:
    """The block device with this ``major:minor``."""
    return Device(f"/dev/{os.path.basename(os.path.realpath(f'/sys/dev/block/{number}'))}", number)


def _find(spec: str) -> Device:
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
    if number:
        return Device(path, number)
    if os.path.exists(path):
        raise DeviceError(spec, "not a block device")
    raise DeviceMissing(spec, "no such device; is it attached?")


def _find_tagged(spec: str, token: str) -> str:
    # without a cache, and with all matches: two devices with one UUID are a volume and its copy, which must not be
    # confused
    argv = ["blkid", "--cache-file", "/dev/null", "--match-token", token, "--output", "device"]
    paths = sorted(set(galaxy_host_command.run(argv, check=False).split()))
    if not paths:
        raise DeviceMissing(spec, "no device has it; is it attached?")
    if len(paths) > 1:
        raise DeviceError(spec, f"{' and '.join(paths)} both have it; detach the copy, or name the device by its path")
    return os.path.realpath(paths[0])


@contextlib.contextmanager
def errors_of(subject: object, failure: str, error: type[VolumeError] = DeviceError) -> Iterator[None]:
    """Turn an ``OSError`` of the body into ``error``: the subject, the failure, and the system's reason."""
    try:
        yield
    except OSError as exc:
        where = f" ({exc.filename})" if exc.filename and str(exc.filename) != str(subject) else ""
        raise error(subject, f"{failure}: {exc.strerror or exc}{where}") from None


def signatures(path: Device | str) -> tuple[Signature, ...]:
    """
    Everything that libblkid recognises on it: filesystems, partition tables, RAID, LVM, LUKS, swap.

    libblkid is asked in both of its ways, because each knows what the other leaves out. Raises ``DeviceError`` if it
    cannot be asked. "None" may also mean that nothing could be read, so it proves nothing by itself (``luks_blank``).
    """
    try:
        wiped = json.loads(galaxy_host_command.run(["wipefs", "--json", str(path)]) or "{}").get("signatures", [])
        listed = [Signature(each["type"], each["uuid"] or "", int(each["offset"], 16)) for each in wiped]
        return tuple(listed or _probe(str(path)))
    except CommandError as exc:
        raise DeviceError(path, f"cannot be looked at: {exc}") from None


def _probe(path: str) -> list[Signature]:
    """What ``blkid``'s low-level probing tells when ``wipefs`` lists nothing."""
    try:
        output = galaxy_host_command.run(["blkid", "--probe", "--output", "export", path])
    except CommandError as exc:
        # blkid(8): 2, nothing was found; 8, more than one
        if exc.returncode == 2:
            return []
        if exc.returncode == 8:
            return [Signature("several types", "", 0)]
        raise
    facts = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
    kind = facts.get("TYPE") or facts.get("PTTYPE")
    return [Signature(kind, facts.get("UUID") or facts.get("PTUUID", ""), 0)] if kind else []


def uses(device: Device) -> list[str]:
    """Why the device is in use, one text for each use: its mounts, swap, devices built on it. Empty if it is free."""
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
    """Raises ``DeviceInUse``, which names the uses, if anything uses the device."""
    found = uses(device)
    if found:
        raise DeviceInUse(device, f"in use: {'; '.join(found)}. Nothing was changed")


def wipe(device: Device) -> None:
    """
    Erase every signature, also those at the end of the device: else a partition table could come back from its copy
    there.
    """
    log.info("%s: its signatures are erased", device)
    galaxy_host_command.run(["wipefs", "--all", device.path])


@contextlib.contextmanager
def claimed(device: Device | str) -> Iterator[None]:
    """
    Hold the advisory lock on the device that udev and systemd's tools respect, so that two runs never work on it at
    once. The second run waits for the first, and only then decides what to do. For an image file, cryptsetup takes this
    lock itself.

    Raises ``DeviceInUse`` if another program holds it for longer than ``PATIENCE`` seconds.
    """
    if not isinstance(device, Device):
        yield
        return
    with errors_of(device, "cannot be opened"):
        node = os.open(device.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        busy = f"{device}: another program works on it"
        if not wait_until(lambda: galaxy_host_lock.take(node), Deadline(PATIENCE), what=busy):
            raise DeviceInUse(device, "another program works on it (it holds the lock); try again later")
        log.debug("%s is claimed", device)
        yield
    finally:
        os.close(node)


def sync(path: str) -> None:
    """
    Return once all that was written to this file or directory is on the medium. cryptsetup, mkfs and wipefs flush what
    they write to a device before they end.
    """
    with errors_of(path, "cannot be flushed to its medium"):
        node = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(node)
        finally:
            os.close(node)


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
