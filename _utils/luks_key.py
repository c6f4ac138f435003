"""
Keys of a LUKS volume: where they come from, and the key slots that they open.

Every change of a key slot is preceded by a verified backup of the header.
"""

from __future__ import annotations

import getpass
import os
import secrets
import stat

import luks_backup
import luks_device
import luks_header
from galaxy_errors import KeySlotError, KeySourceError
from galaxy_secret import MASK, Secret

# cryptsetup's own limit of a key file
MAX_KEY_FILE = 8 << 20
_MOST_SLOTS = {1: 8, 2: 32}


def read_file(path: str) -> Secret:
    """
    The key in file ``path``, byte for byte as cryptsetup reads key files.

    Raises ``KeySourceError`` unless it is a regular, non-empty file that only its owner, root or ourselves, can read.
    """
    try:
        with open(path, "rb", opener=_open_plain) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise KeySourceError(path, "key file is not a regular file")
            if status.st_mode & 0o077:
                mode = f"{status.st_mode & 0o777:04o}"
                raise KeySourceError(path, f"key file has mode {mode}, open to others; chmod 0600 it")
            if status.st_uid not in (0, os.geteuid()):
                raise KeySourceError(path, f"key file belongs to user {status.st_uid}; chown it to root")
            key = file.read(MAX_KEY_FILE + 1)
    except OSError as exc:
        raise KeySourceError(path, f"key file cannot be read: {exc.strerror}") from None
    if not 0 < len(key) <= MAX_KEY_FILE:
        raise KeySourceError(path, "key file is longer than cryptsetup reads" if key else "key file is empty")
    return Secret(key)


def passphrase(value: object, source: str) -> Secret:
    """
    ``value`` as a passphrase; one newline at its end, left by an editor or a YAML block, is not part of it.

    Raises ``KeySourceError``, naming the ``source``, when it is no text or empty.
    """
    if isinstance(value, bytes):
        value = value.decode(errors="surrogateescape")
    if not isinstance(value, str):
        found = "nothing" if value is None else f"a {type(value).__name__} (quote it in YAML)"
        raise KeySourceError(source, f"holds no passphrase but {found}")
    value = value.removesuffix("\n")
    if not value:
        raise KeySourceError(source, "the passphrase is empty")
    if value == MASK:
        raise KeySourceError(source, "gives asterisks, which Salt puts in the place of a secret, not the passphrase")
    return Secret(value.encode(errors="surrogateescape"))


def prompt(subject: str) -> Secret:
    """Ask for a passphrase on the terminal, without echo. Raises ``KeySourceError`` where there is no terminal."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        raise KeySourceError("prompt", "there is no terminal to ask on; name another source of the key") from None
    os.close(terminal)
    return passphrase(getpass.getpass(f"Passphrase for {subject}: "), "prompt")


def generate_file(path: str, size: int = 64) -> None:
    """
    A new key file of ``size`` random bytes (``secrets``), as hexadecimal digits, mode 0600, on the medium before this
    returns. Raises ``KeySourceError`` when there already is a file: a key is never overwritten.
    """
    directory = os.path.dirname(path) or "."
    os.makedirs(directory, mode=0o700, exist_ok=True)
    temporary = f"{path}.new-{secrets.token_hex(4)}"
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_hex(size))
            file.flush()
            os.fsync(file.fileno())
        # link, unlike rename, never replaces: a crash leaves the whole key or none, and no run another's key
        os.link(temporary, path)
    except FileExistsError:
        raise KeySourceError(path, "there already is a key file; it was left as it is") from None
    except OSError as exc:
        raise KeySourceError(path, f"key file cannot be written: {exc.strerror}") from None
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
    luks_device.sync(directory)


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


def _open_plain(path: str, flags: int) -> int:
    # neither through a link, nor waiting for the other end of a pipe
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
