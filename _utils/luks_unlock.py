"""
Get the key of a volume: from a place that the volume itself knows, or from any other place.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import galaxy_host_key
import luks_device
import luks_header
import luks_mapping
from galaxy_errors import DeviceError, KeySourceError
from galaxy_host_secret import Secret

log = logging.getLogger(__name__)

CLEVIS, TOKEN = "clevis://", "token://"


def resolve(
    source: str,
    functions: Mapping[str, Callable[..., Any]],
    pillar: Mapping[str, Any],
    device: luks_device.Device | None,
    subject: str,
    parameter: str = "key",
    timeout: float = 0,
) -> luks_header.Key:
    """
    The key at ``source``: ``clevis://``, ``token://`` (then ``luks_header.TOKEN``), or any place that
    ``galaxy_host_key.resolve`` takes; it has the other parameters. ``device`` is the volume; without it ``subject``
    names it.

    Raises ``KeySourceError``, or ``KeySlotError`` if only tokens open the volume.
    """
    if source not in (CLEVIS, TOKEN):
        return galaxy_host_key.resolve(source, functions, pillar, subject, parameter, timeout)
    device = device or _device_of(subject)
    header = luks_header.read(device) if device else None
    if device is None or header is None:
        raise KeySourceError(
            source, f"only opens an existing volume, and {subject} is none yet; make it with a passphrase, then bind it"
        )
    luks_header.require_recovery(device, header)
    if source == TOKEN:
        return luks_header.TOKEN
    return galaxy_host_key.resolve(f"{CLEVIS}{device}", functions, pillar, subject, parameter, timeout)


def _device_of(spec: str) -> luks_device.Device | None:
    """The device of ``spec``, or of the open volume ``/dev/mapper/…``; ``None`` if there is none."""
    prefix, _, name = spec.rpartition("/")
    mapping = luks_mapping.named(name) if prefix == "/dev/mapper" else None
    if mapping:
        return None if mapping.stale else luks_device.at(mapping.backing)
    try:
        return luks_device.find(spec)
    except DeviceError:
        return None


def require_secret(key: luks_header.Key, source: str) -> Secret:
    """The key, if it is a text. Raises ``KeySourceError`` for a token."""
    if isinstance(key, luks_header.Token):
        raise KeySourceError(source, "only opens volumes; give the place of a passphrase or key file")
    return key
