"""
Open an existing volume, and mount it if this is wanted.
"""

from collections.abc import Callable

import luks_device
import luks_encrypt
import luks_filesystem
import luks_header
import luks_mapping
from galaxy_host_record import record


@record(frozen=True)
class Wanted:
    """
    What shall be: the volume on ``device`` (as ``luks_device.find`` takes it, waiting ``device_timeout`` seconds) is
    open as ``mapper``. With ``mount_point`` it is also mounted there; ``may_move`` allows to set aside what is below.
    """

    device: str
    mapper: str
    mount_point: str | None = None
    mount_options: tuple[str, ...] = ()
    discard: bool = False
    may_move: bool = False
    device_timeout: float = 0


def run(wanted: Wanted, key: Callable[[], luks_header.Key], test: bool = False) -> bool:
    """
    Open and mount the volume. ``False``: it was open and mounted already. ``key`` gives the key; it is only called if
    the volume is not open. ``test`` changes nothing, and fails if a run would fail.

    Raises a ``VolumeError`` (such as ``WrongKey``), or ``CommandError``. Then whatever was opened is closed again.
    """
    device, name, target = luks_device.find(wanted.device, wanted.device_timeout), wanted.mapper, wanted.mount_point
    path = f"/dev/mapper/{name}"
    with luks_mapping.reserved(name), luks_device.claimed(device):
        luks_mapping.close_look(device)
        uuid = luks_header.identity(device)
        luks_header.require_finished(device, uuid)
        is_open = luks_mapping.require_openable(device, name, uuid)
        is_mounted = target is None or luks_filesystem.require_mountable(path, target, wanted.may_move)
        if is_open and is_mounted:
            return False
        secret = None if is_open else key()
        if test:
            if secret is None:
                luks_filesystem.require_readable(path)
            elif is_mounted:
                luks_header.require_key(device, secret)
            else:
                luks_encrypt.require_usable(device, secret)
            return True
        if secret is not None:
            luks_mapping.open_volume(device, name, secret, wanted.discard)
        if target is not None and not is_mounted:
            check = not luks_filesystem.mounts(path)
            luks_encrypt.mount_opened(
                name, target, wanted.mount_options, None, check, wanted.may_move, close_after=not is_open
            )
    return True
