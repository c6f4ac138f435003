"""
Keys of a LUKS volume: the key slots that they open.

Every change of a key slot is preceded by a verified backup of the header.
"""

import luks_backup
import luks_device
import luks_header
from galaxy_errors import KeySlotError
from galaxy_host_secret import Secret

_MOST_SLOTS = {1: 8, 2: 32}


def add(
    device: luks_device.Device | str,
    key: Secret,
    new: Secret,
    options: luks_header.Options = luks_header.DEFAULTS,
    backups: str = luks_backup.DIRECTORY,
) -> bool:
    """
    Let ``new`` open the volume too, by a free key slot; ``key`` is one that opens it now. ``False``: it did
    so already.

    Raises ``WrongKey``, ``HeaderError``, or ``KeySlotError`` when no key slot is free.
    """
    with luks_device.claimed(device):
        header = luks_header.require(device)
        luks_header.require_key(device, key)
        if luks_header.opens(device, new):
            return False
        if len(header.slots) >= _MOST_SLOTS[header.version]:
            raise KeySlotError(device, "all key slots are in use; remove one first")
        luks_backup.make(device, backups, key)
        # cryptsetup reads the old key first, of the size that it is told, and the new one from the rest of its input
        argv = ["cryptsetup", "luksAddKey", "--batch-mode", *options.slot_argv(header.version)]
        argv += ["--key-file=-", f"--keyfile-size={len(key.reveal())}", str(device), "-"]
        luks_header.unlock(argv, Secret(key.reveal() + new.reveal()), device)
        luks_device.sync(device)
        if not luks_header.opens(device, new):
            raise KeySlotError(device, "the new key was written but does not open the volume; the old one still does")
    return True


def change(
    device: luks_device.Device | str,
    key: Secret,
    new: Secret,
    options: luks_header.Options = luks_header.DEFAULTS,
    backups: str = luks_backup.DIRECTORY,
) -> bool:
    """
    Replace ``key`` by ``new``. Both open the volume for a moment, never neither: the new key slot is written and tried
    before the old one goes. Raises as ``add`` and ``remove`` do.
    """
    if key.reveal() == new.reveal():
        raise KeySlotError(device, "the new key is the old one")
    add(device, key, new, options, backups)
    return remove(device, key, backups)


def remove(device: luks_device.Device | str, key: Secret, backups: str = luks_backup.DIRECTORY) -> bool:
    """
    Destroy every key slot that ``key`` opens; ``False`` when there is none.

    Raises ``KeySlotError`` when no other key slot would be left, since the data would be lost.
    """
    with luks_device.claimed(device):
        header = luks_header.require(device)
        slots = [slot.number for slot in header.slots if luks_header.opens(device, key, slot.number)]
        if not slots:
            return False
        if len(slots) == len(header.slots):
            raise KeySlotError(device, "this is the last key; without it the data is lost. Add another key first")
        luks_backup.make(device, backups, key)
        argv = ["cryptsetup", "luksRemoveKey", "--batch-mode", "--key-file=-", str(device)]
        for _ in slots:
            luks_header.unlock(argv, key, device)
        luks_device.sync(device)
        if luks_header.opens(device, key):
            raise KeySlotError(device, "the key still opens the volume")
    return True
