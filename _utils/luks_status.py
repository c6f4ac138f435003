"""
Collect what is known of encrypted volumes, without changing anything. ``luks.status`` describes the shape.
"""

import dataclasses
import logging
from typing import Any

import luks_backup
import luks_device
import luks_filesystem
import luks_header
import luks_mapping
import luks_reencrypt
from galaxy_errors import CommandError, VolumeError

log = logging.getLogger(__name__)


def read(spec: str, backups: str = luks_backup.DIRECTORY) -> dict[str, Any]:
    """
    The state of the volume on the device ``spec`` (as ``luks_device.find`` takes it), or of the open volume
    ``/dev/mapper/<name>``, as plain data.
    """
    prefix, _, name = spec.rpartition("/")
    mapping = luks_mapping.named(name) if prefix == "/dev/mapper" else None
    if mapping:
        return _facts(_backing(mapping), mapping, backups)
    device = luks_device.find(spec)
    return _facts(device, luks_mapping.of(device), backups)


def read_open(backups: str = luks_backup.DIRECTORY) -> dict[str, Any]:
    """The same for every open volume, by its mapper name."""
    return {mapping.name: _facts(_backing(mapping), mapping, backups) for mapping in luks_mapping.all_open()}


def _backing(mapping: luks_mapping.Mapping) -> luks_device.Device | None:
    return None if mapping.stale else luks_device.at(mapping.backing)


def _facts(device: luks_device.Device | None, mapping: luks_mapping.Mapping | None, backups: str) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "device": device and device.path,
        "size": None,
        "luks": None if device else False,
        "unfinished": None if device else False,
        "signatures": [],
        "header_backup": None,
        "leaked_slots": [],
        "reencrypting": False,
        "open": mapping is not None,
        "error": None,
    }
    if mapping:
        facts.update(mapper=mapping.name, stale=mapping.stale, filesystem="", mounts=[], processes=[])
    # a disk that fails answers only some of these; a missing answer must not hide the other facts, or another volume
    for part in (_of_device, _of_mapping):
        try:
            part(facts, device, mapping, backups)
        except (VolumeError, CommandError) as exc:
            log.info("%s: cannot tell all of it: %s", mapping or device, exc)
            facts["error"] = facts["error"] or str(exc)
    return facts


def _of_device(
    facts: dict[str, Any], device: luks_device.Device | None, mapping: luks_mapping.Mapping | None, backups: str
) -> None:
    if not device:
        return
    facts["size"] = device.size
    header = luks_header.read(device)
    facts["unfinished"] = luks_header.is_unfinished(device, header)
    facts["luks"] = header is not None
    if not header:
        facts["signatures"] = [dataclasses.asdict(each) for each in luks_device.signatures(device)]
        return
    facts.update({name: getattr(header, name) for name in ("version", "uuid", "cipher", "key_size")})
    facts["reencrypting"] = luks_reencrypt.is_begun(header)
    facts["slots"] = [{"number": slot.number, "pbkdf": slot.pbkdf} for slot in header.slots]
    if not header.unfinished:
        facts["header_backup"] = luks_backup.current(device, header, backups)
        facts["leaked_slots"] = luks_backup.being_removed(header, backups)


def _of_mapping(
    facts: dict[str, Any], device: luks_device.Device | None, mapping: luks_mapping.Mapping | None, backups: str
) -> None:
    if not mapping:
        return
    facts["mounts"] = [dataclasses.asdict(each) for each in luks_filesystem.mounts(mapping.path)]
    facts["processes"] = [dataclasses.asdict(each) for each in luks_mapping.holders(mapping)]
    facts["filesystem"] = "" if mapping.stale else luks_filesystem.type_of(mapping.path)
