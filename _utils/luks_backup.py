"""
Backups of LUKS headers: without its header a volume is lost, whatever else is intact.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator

import galaxy_host_command
import luks_device
import luks_header
from galaxy_errors import DeviceNotBlank, HeaderError
from galaxy_host_secret import Secret

DIRECTORY = "/var/backups/luks"


def current(header: luks_header.Header, directory: str = DIRECTORY) -> str | None:
    """The path of the backup of that very header, when there is one and it is sound."""
    path = _path_for(header, directory)
    sound = os.path.isfile(path) and not os.stat(path).st_mode & 0o077 and luks_header.read(path) == header
    return path if sound else None


def make(device: luks_device.Device | str, directory: str = DIRECTORY, key: Secret | None = None) -> str:
    """
    Back up the header into ``directory`` (0700) as a file of mode 0600, and return its path.

    The file gets its name only after it is on the medium and was restored to a scratch file whose header equals the
    device's, and which ``key`` opens where it is given. A sound backup of the same header is left as it is. Raises
    ``HeaderError`` otherwise.
    """
    header = luks_header.require(device)
    path = _path_for(header, directory)
    if current(header, directory):
        return path
    os.makedirs(directory, mode=0o700, exist_ok=True)
    luks_device.sync(os.path.dirname(directory))
    with _scratch_directory(os.path.join(directory, f".new-{header.uuid}")) as scratch:
        new, restored = os.path.join(scratch, "header"), os.path.join(scratch, "restored")
        _run("luksHeaderBackup", device, new)
        os.chmod(new, 0o600)
        luks_device.sync(new)
        with open(restored, "wb") as file:
            # luksHeaderRestore wants room for the beginning of the volume's payload too
            file.truncate(os.path.getsize(new) + (4 << 20))
        _run("luksHeaderRestore", restored, new)
        if luks_header.read(restored) != header:
            raise HeaderError(device, "no header backup made: what was restored of it differs")
        if key and not luks_header.opens(restored, key):
            raise HeaderError(device, "no header backup made: its key does not open what was restored of it")
        os.replace(new, path)
    luks_device.sync(directory)
    return path


def restore(device: luks_device.Device, path: str, force: bool = False, directory: str = DIRECTORY) -> None:
    """
    Write the header in file ``path`` over the device's.

    The device must be free, and carry the volume that the backup is of. ``force`` writes it to a device without any
    valid LUKS header too (which is what a backup is for), yet never over another volume or other data. A valid header
    that would be replaced is backed up first. Raises ``HeaderError``, ``DeviceInUse`` or ``DeviceNotBlank``.
    """
    backup = luks_header.read(path) if os.path.isfile(path) else None
    if backup is None:
        raise HeaderError(path, "not a LUKS header backup")
    if backup.unfinished:
        raise HeaderError(path, "the header of an unfinished volume; restored, it would call the volume's data absent")
    with luks_device.claimed(device):
        luks_device.require_free(device)
        _require_replaceable(device, backup, force, directory)
        _run("luksHeaderRestore", device, path)
        luks_device.sync(device)
        if luks_header.read(device) != backup:
            raise HeaderError(device, f"restored from {path}, but what it reads now differs from that")


def _require_replaceable(device: luks_device.Device, backup: luks_header.Header, force: bool, directory: str) -> None:
    current = luks_header.read(device)
    if current is None:
        if not force:
            raise HeaderError(device, "no valid LUKS header to compare with; `force` restores to it nevertheless")
        others = [each for each in luks_device.signatures(device) if each.uuid != backup.uuid]
        if others:
            raise DeviceNotBlank(device, f"it carries {', '.join(map(str, others))}. Nothing was changed", others)
    elif current.uuid != backup.uuid:
        raise HeaderError(device, f"holds volume {current.uuid}; the backup is of {backup.uuid}. Nothing was changed")
    else:
        make(device, directory)


def _path_for(header: luks_header.Header, directory: str) -> str:
    # the name changes with the header, so no backup ever replaces an earlier one
    digest = hashlib.sha256(header.metadata.encode()).hexdigest()
    return os.path.join(directory, f"{header.uuid}-{digest[:12]}.luksheader")


@contextlib.contextmanager
def _scratch_directory(path: str) -> Iterator[str]:
    # what a crash left there goes first: it is a header, with all its key slots
    shutil.rmtree(path, ignore_errors=True)
    os.mkdir(path, mode=0o700)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def _run(action: str, device: luks_device.Device | str, file: str) -> None:
    argv = ["cryptsetup", action, "--batch-mode", str(device), f"--header-backup-file={file}"]
    galaxy_host_command.run(argv, timeout=luks_header.TIMEOUT)
