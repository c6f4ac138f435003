"""
Change the keys of a LUKS volume: the key slots that they open.

Before every change of a key slot there is a verified backup of the header. A key slot is removed only if it is proven
that another key opens the volume. The number of key slots proves nothing: cryptsetup erases the slot's content before
its entry in the header, so after a crash there may be a slot that opens nothing.
"""

import logging

import galaxy_host_command
import luks_backup
import luks_device
import luks_header
import luks_trial
from galaxy_errors import KeySlotError, WrongKey
from galaxy_host_record import record
from galaxy_host_secret import Secret

log = logging.getLogger(__name__)


@record(frozen=True)
class Place:
    """The directory of the header backups, and how many of a volume to keep (``None``: all)."""

    backups: str = luks_backup.DIRECTORY
    keep: int | None = None


_DEFAULT_PLACE = Place()


def add(
    device: luks_device.Device | str,
    key: Secret,
    new: Secret,
    options: luks_header.Options = luks_header.DEFAULTS,
    place: Place = _DEFAULT_PLACE,
    test: bool = False,
) -> bool:
    """
    Add ``new`` to the volume, in a free key slot. ``key`` opens it now. ``False``: ``new`` opened it already. ``test``
    changes nothing, and fails if a run would fail.

    Raises ``WrongKey``, ``HeaderError``, or ``KeySlotError`` if no key slot is free.
    """
    with luks_device.claimed(device):
        return _add(device, key, new, options, place, test)


def add_claimed(
    device: luks_device.Device, key: Secret, new: Secret, options: luks_header.Options, place: Place
) -> bool:
    """Like ``add``, for a caller that has already claimed the device."""
    return _add(device, key, new, options, place)


def change(
    device: luks_device.Device | str,
    key: Secret,
    new: Secret,
    options: luks_header.Options = luks_header.DEFAULTS,
    place: Place = _DEFAULT_PLACE,
) -> bool:
    """
    Replace ``key`` by ``new``. For a moment both open the volume, and at no moment neither: the new key slot is written
    and tried before the old one is removed. ``False``: this was done already. An interrupted change is completed.
    Raises like ``add`` and ``remove``.
    """
    if key.reveal() == new.reveal():
        raise KeySlotError(device, "the new key is the old one")
    with luks_device.claimed(device):
        if not luks_header.opens(device, key):
            if not luks_header.opens(device, new):
                raise WrongKey(device, "no key slot opens with either key; nothing was changed")
            return _remove(device, key, new, place)
        _add(device, key, new, options, place)
        return _remove(device, key, new, place)


def remove(
    device: luks_device.Device | str,
    key: Secret,
    remaining: Secret | None,
    place: Place = _DEFAULT_PLACE,
    test: bool = False,
) -> bool:
    """
    Destroy every key slot that ``key`` opens, and those whose removal was interrupted. ``False``: there is none.
    ``test`` changes nothing, and fails if a run would fail.

    remaining
        a key that stays; it is tried

    Raises ``KeySlotError`` if ``remaining`` is not given, if it opens no other key slot, or if it opens only a key slot
    that a token opens too. Then the data would be lost, at once or together with the token's TPM or server.
    """
    with luks_device.claimed(device):
        return _remove(device, key, remaining, place, test)


def remove_slot(
    device: luks_device.Device | str,
    number: int,
    remaining: Secret,
    place: Place = _DEFAULT_PLACE,
) -> bool:
    """
    Destroy one key slot, whichever key opens it. ``False``: it is not in use. ``remaining`` is a key that stays.

    Raises ``KeySlotError`` if ``remaining`` opens no other key slot.
    """
    with luks_device.claimed(device):
        header = luks_header.require(device)
        if number not in [slot.number for slot in header.slots]:
            return False
        _require_other(device, header, [number], remaining)
        _destroy(device, header, [number], remaining, place)
    return True


def _add(
    device: luks_device.Device | str,
    key: Secret,
    new: Secret,
    options: luks_header.Options,
    place: Place,
    test: bool = False,
) -> bool:
    header = _settled(device)
    luks_header.require_key(device, key)
    if luks_header.opens(device, new):
        return False
    if len(header.slots) >= luks_header.MOST_SLOTS[header.version]:
        leaked = luks_backup.being_removed(header, place.backups)
        dead = f" (the removal of {', '.join(map(str, leaked))} was interrupted: finish it)" if leaked else ""
        raise KeySlotError(device, f"all key slots are in use; remove one first{dead}. Nothing was changed")
    luks_header.require_slot_options(device, options, header.version)
    if test:
        luks_backup.require_room(place.backups, header.version)
        with luks_trial.header_copy(device) as copy:
            _write_slot(copy, header.version, key, new, options)
        return True
    luks_backup.make(device, place.backups, key, place.keep)
    log.info("%s: a key is added", device)
    _write_slot(device, header.version, key, new, options)
    if not luks_header.opens(device, new):
        raise KeySlotError(device, "the new key was written but does not open the volume; the old one still does")
    return True


def _write_slot(
    path: luks_device.Device | str, version: int, key: Secret, new: Secret, options: luks_header.Options
) -> None:
    # cryptsetup first reads the old key, with the length that it is told; the rest of its input is the new key
    argv = ["cryptsetup", "luksAddKey", "--batch-mode", *options.slot_argv(version)]
    argv += [f"--keyfile-size={len(key.reveal())}", str(path), "-"]
    luks_header.unlock(argv, Secret(key.reveal() + new.reveal()), path)


def _remove(
    device: luks_device.Device | str, key: Secret, remaining: Secret | None, place: Place, test: bool = False
) -> bool:
    header = _settled(device)
    slots = luks_header.slots_of(device, header, key)
    leaked = luks_backup.being_removed(header, place.backups)
    if slots and len(slots) == len(header.slots):
        raise KeySlotError(device, "this is the last key; without it the data is lost. Add another key first")
    if remaining is None:
        if not slots:
            return False
        raise KeySlotError(
            device,
            "a key is removed only if another is proven to open the volume: give `remaining`, the place of a key "
            "that stays. Nothing was changed",
        )
    doomed = sorted({*slots, *leaked})
    if not doomed:
        return False
    kept = _require_other(device, header, slots, remaining)
    doomed = [number for number in doomed if number not in kept]
    if test or not doomed:
        return bool(doomed)
    _destroy(device, header, doomed, remaining, place)
    if luks_header.opens(device, key):
        raise KeySlotError(device, "the key still opens the volume")
    return True


def _settled(device: luks_device.Device | str) -> luks_header.Header:
    """The header, if its key slots may change now."""
    header = luks_header.require(device)
    if header.reencrypting:
        raise KeySlotError(
            device, "its volume key is being changed; let `luks.reencrypt` finish first. Nothing was changed"
        )
    return header


def _require_other(
    device: luks_device.Device | str, header: luks_header.Header, going: list[int], remaining: Secret
) -> list[int]:
    """The key slots that stay and that ``remaining`` opens."""
    kept = [number for number in luks_header.slots_of(device, header, remaining) if number not in going]
    if not kept:
        raise KeySlotError(
            device,
            "`remaining` opens no other key slot; without another key the data would be lost. Nothing was changed",
        )
    if header.unattended.issuperset(kept):
        raise KeySlotError(
            device,
            "`remaining` is the key of a token (Clevis, TPM2): if the token is lost, the data would be lost. Keep "
            "a passphrase. Nothing was changed",
        )
    return kept


def _destroy(
    device: luks_device.Device | str, header: luks_header.Header, numbers: list[int], remaining: Secret, place: Place
) -> None:
    luks_backup.make(device, place.backups, remaining, place.keep)
    luks_backup.record_removal(header, numbers, place.backups)
    for number in numbers:
        log.info("%s: key slot %d is destroyed", device, number)
        # the key was checked before; with --batch-mode cryptsetup does not check again
        argv = ["cryptsetup", "luksKillSlot", "--batch-mode", str(device), str(number)]
        galaxy_host_command.run(argv, timeout=luks_header.TIMEOUT)
    left = {slot.number for slot in luks_header.require(device).slots}
    if left.intersection(numbers):
        raise KeySlotError(device, "a key slot is still there after it was destroyed")
    if not luks_header.opens(device, remaining):
        raise KeySlotError(
            device,
            "the key that had to stay does not open it any more; restore the header backup (`luks.header_restore`)",
        )
