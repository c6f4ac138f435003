"""
After a device has grown, let an open volume use all of it: grow the partition, the mapping, and the filesystem.
"""

import dataclasses
import logging
import os
import re
from typing import Any

import galaxy_host_command
import galaxy_host_sysfs
import luks_device
import luks_filesystem
import luks_header
import luks_mapping
from galaxy_errors import CommandError, MapperError
from galaxy_host_record import record

log = logging.getLogger(__name__)

PARTITION, VOLUME, FILESYSTEM = "partition", "volume", "filesystem"
# growpart(1): 1 means that there is nothing to do. cryptsetup and the kernel round sizes down to _ROUNDING
_NO_CHANGE = 1
_ROUNDING = 1 << 20


@record(frozen=True)
class Sizes:
    """Bytes of the volume's data, and of the filesystem mounted from it (``None``: not mounted)."""

    volume: int
    filesystem: int | None


def remaining(name: str, partition: bool = False) -> list[str]:
    """
    The steps that ``run`` would take: ``partition`` (only if this is allowed), ``volume`` and ``filesystem``.

    Raises ``MapperError`` if the volume is not open.
    """
    mapping = _require_open(name)
    device = luks_device.at(mapping.backing)
    steps = [PARTITION] if partition and _grow_partition(device, test=True) else []
    room = device.size - _offset(name)
    volume = luks_device.Device(mapping.path, mapping.number).size
    if steps or room - volume >= _ROUNDING:
        steps.append(VOLUME)
    for mount in luks_filesystem.mounts(mapping.path)[:1]:
        span = luks_filesystem.span(mount)
        if VOLUME in steps or (span is not None and volume - span >= _ROUNDING):
            steps.append(FILESYSTEM)
    return steps


def run(name: str, key: luks_header.Key | None, partition: bool = False) -> dict[str, Any]:
    """
    Grow what can be grown. ``key`` opens the volume; LUKS2 asks for it again.

    Returns the sizes ``before`` and ``after``, each with ``volume`` and ``filesystem`` in bytes. Raises ``MapperError``
    if the volume is not open, or ``WrongKey``.
    """
    with luks_mapping.reserved(name):
        mapping = _require_open(name)
        before = _sizes(mapping)
        if partition:
            _grow_partition(luks_device.at(mapping.backing))
        log.info("%s: resized to its device", name)
        argv = ["cryptsetup", "resize", name]
        if key is None:
            galaxy_host_command.run(argv, timeout=luks_header.TIMEOUT)
        else:
            luks_header.unlock(argv, key, name)
        for mount in luks_filesystem.mounts(mapping.path)[:1]:
            luks_filesystem.grow(mount)
        return {"before": before, "after": _sizes(mapping)}


def _require_open(name: str) -> luks_mapping.Mapping:
    mapping = luks_mapping.named(name)
    if not mapping or mapping.stale:
        raise MapperError(name, "stale: its device was lost" if mapping else "not open; open it first")
    return mapping


def _grow_partition(device: luks_device.Device, test: bool = False) -> bool:
    """Let a partition use the free space behind it. ``False``: there is none, or it is no partition."""
    number = galaxy_host_sysfs.read(f"{device.sysfs}/partition")
    if not number:
        return False
    disk = f"/dev/{os.path.basename(os.path.dirname(os.path.realpath(device.sysfs)))}"
    try:
        galaxy_host_command.run(["growpart", *(["--dry-run"] if test else []), disk, number], timeout=120)
    except CommandError as exc:
        if exc.returncode == _NO_CHANGE and "NOCHANGE" in exc.output + exc.stderr:
            return False
        raise
    if not test:
        log.info("%s: its partition was grown", device)
    return True


def _offset(name: str) -> int:
    """Bytes on the device before the volume's data."""
    told = galaxy_host_command.run(["cryptsetup", "status", name])
    match = re.search(r"^\s+offset:\s+(\d+) sectors", told, re.MULTILINE)
    if not match:
        raise MapperError(name, "`cryptsetup status` does not tell its offset")
    return int(match[1]) * 512


def _sizes(mapping: luks_mapping.Mapping) -> dict[str, Any]:
    mounts = luks_filesystem.mounts(mapping.path)
    volume = luks_device.Device(mapping.path, mapping.number).size
    return dataclasses.asdict(Sizes(volume, luks_filesystem.size(mounts[0]) if mounts else None))
