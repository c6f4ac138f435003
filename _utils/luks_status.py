"""
What is known of encrypted volumes, gathered without changing anything; ``luks.status`` documents the shape.
"""

import dataclasses

import luks_backup
import luks_device
import luks_filesystem
import luks_header
import luks_mapping


def read(spec: str, backups: str = luks_backup.DIRECTORY) -> dict:
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


def read_open(backups: str = luks_backup.DIRECTORY) -> dict:
    """The same of every open volume, by its mapper name."""
    return {mapping.name: _facts(_backing(mapping), mapping, backups) for mapping in luks_mapping.all_open()}


def _backing(mapping: luks_mapping.Mapping) -> luks_device.Device | None:
    return None if mapping.stale else luks_device.at(mapping.backing)


def _facts(device: luks_device.Device | None, mapping: luks_mapping.Mapping | None, backups: str) -> dict:
    header = luks_header.read(device) if device else None
    facts = {
        "device": device and device.path,
        "size": device and device.size,
        "luks": header is not None,
        "unfinished": bool(device) and luks_header.is_unfinished(device, header),
        "signatures": _plain(luks_device.signatures(device)) if device and not header else [],
        "header_backup": None,
        "open": mapping is not None,
    }
    if header:
        facts.update({name: getattr(header, name) for name in ("version", "uuid", "cipher", "key_size")})
        facts["slots"] = _plain(header.slots)
        if not header.unfinished:
            facts["header_backup"] = luks_backup.current(header, backups)
    if mapping:
        facts.update(
            mapper=mapping.name,
            stale=mapping.stale,
            filesystem="" if mapping.stale else luks_filesystem.type_of(mapping.path),
            mounts=_plain(luks_filesystem.mounts(mapping.path)),
            processes=_plain(luks_mapping.holders(mapping)),
        )
    return facts


def _plain(values) -> list[dict]:
    return [dataclasses.asdict(value) for value in values]
