"""
Back up LUKS headers: without its header a volume is lost, even if everything else is intact.

If a key of a volume was removed, the record of the key slots to remove lies beside the backups.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Collection, Iterator

import galaxy_host_command
import galaxy_host_files
import galaxy_host_sysfs
import luks_device
import luks_header
from galaxy_errors import DeviceNotBlank, FileError, HeaderError
from galaxy_host_pattern import Pattern
from galaxy_host_secret import Secret

log = logging.getLogger(__name__)

DIRECTORY = "/var/backups/luks"
_FILE = Pattern(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-([0-9a-f]{12})\.luksheader\Z")
# luksHeaderRestore also wants room for the beginning of the volume's payload
_PAYLOAD = 4 << 20
# most bytes of a backup, and of the scratch file
_ROOM = {1: 16 << 20, 2: (40 << 20)}
_BLOCK = 4096


def current(device: luks_device.Device | str, header: luks_header.Header, directory: str = DIRECTORY) -> str | None:
    """The path of the sound backup that has the device's present header, if there is one."""
    path = _path_for(device, header, directory)
    with luks_device.errors_of(path, "header backup cannot be read", HeaderError):
        sound = _is_ours(path) and not os.stat(path).st_mode & 0o077 and luks_header.read(path) == header
    return path if sound and _path_for(path, header, directory) == path else None


def _is_ours(path: str) -> bool:
    """Whether the file is there, and nobody else has made it or can put another in its place."""
    try:
        galaxy_host_files.require_trusted(path)
    except FileError as exc:
        log.info("No header backup of ours: %s", exc)
        return False
    return os.path.isfile(path)


def make(
    device: luks_device.Device | str, directory: str = DIRECTORY, key: Secret | None = None, keep: int | None = None
) -> str:
    """
    Back up the header into ``directory`` (0700) as a file of mode 0600, and return its path.

    The file gets its name only when it is on the medium and was checked: it is restored to a scratch file, whose header
    must equal the device's, and which ``key`` (if given) must open. A sound backup of the same header is left as it is.
    The ``keep`` newest backups of the volume are kept; ``None`` keeps all. Raises ``HeaderError`` if the backup cannot
    be made.
    """
    header = luks_header.require(device)
    if header.reencrypting:
        raise HeaderError(
            device,
            "no header backup made: its volume key is being changed, and this header would later open garbage. "
            "`luks.reencrypt` backs it up at its end",
        )
    path = current(device, header, directory)
    if not path:
        with luks_device.errors_of(directory, "no header backup made", HeaderError):
            path = _write(device, header, directory, key)
        log.info("%s: its header is backed up in %s", device, path)
    if keep is not None:
        _prune(header.uuid, path, directory, keep)
    return path


def restore(device: luks_device.Device, path: str, force: bool = False, directory: str = DIRECTORY) -> None:
    """
    Write the header in file ``path`` over the device's.

    The device must be free, and must carry the volume to which the backup belongs. With ``force`` it may also have no
    valid LUKS header (this is what a backup is for); but another volume or other data is never overwritten. A valid
    header that is replaced is backed up first. Raises ``HeaderError``, ``DeviceInUse`` or ``DeviceNotBlank``.
    """
    backup = luks_header.read(path) if os.path.isfile(path) else None
    if backup is None:
        raise HeaderError(path, "not a LUKS header backup")
    if backup.unfinished:
        raise HeaderError(
            path, "the header of an unfinished volume; restored, it would say that the volume holds no data"
        )
    _require_undamaged(path, backup)
    with luks_device.claimed(device):
        luks_device.require_free(device)
        _require_replaceable(device, backup, force, directory)
        log.info("%s: header of volume %s restored from %s", device, backup.uuid, path)
        with luks_device.errors_of(device, f"its header cannot be restored from {path}; run it again", HeaderError):
            _write_header(device, path)
            _record_path(backup.uuid, directory, forget=True)
        if luks_header.read(device) != backup:
            raise HeaderError(device, f"restored from {path}, but the device now reads differently")


def orphans(directory: str = DIRECTORY) -> dict[str, str]:
    """
    The volumes that have a header backup but are on no attached device: the path of the newest backup, by UUID. The
    header of such a volume may have been erased from a device that now seems blank.
    """
    found = {}
    for path in _backups(directory):
        if match := _FILE.match(os.path.basename(path)):
            found[match[1]] = path
    if not found:
        return {}
    for name in galaxy_host_sysfs.names("/sys/class/block"):
        node = f"/sys/class/block/{name}"
        # if an open volume's header is erased, or its device is lost, its mapping still tells the UUID
        opened = galaxy_host_sysfs.read(f"{node}/dm/uuid").split("-")[2:3]
        found = {uuid: path for uuid, path in found.items() if uuid.replace("-", "") not in opened}
        # without a medium, or with a broken one, nothing on the device can be known
        with contextlib.suppress(HeaderError):
            found.pop(luks_header.identity(luks_device.at(galaxy_host_sysfs.read(f"{node}/dev"))), None)
    return found


def require_no_orphan(device: luks_device.Device, directory: str) -> None:
    """Raises ``DeviceNotBlank`` if the device may belong to a volume whose header was erased."""
    for uuid, path in orphans(directory).items():
        raise DeviceNotBlank(
            device,
            f"not formatted, because {path} is the header backup of volume {uuid}, which no attached device "
            f"carries: its header may have been erased here. `luks.header_restore {device} {path} force=True` "
            "brings it back. If that volume is gone for good, move the backup away. Nothing was changed",
            (),
        )


def remove_outdated(header: luks_header.Header, directory: str = DIRECTORY) -> None:
    """Remove the volume's backups from before the change of its volume key: they would only open garbage."""
    for path in _backups(directory):
        if not os.path.basename(path).startswith(header.uuid):
            continue
        older = luks_header.read(path)
        if older and older.volume_key != header.volume_key:
            log.info("header backup of an earlier volume key removed: %s", path)
            with luks_device.errors_of(path, "outdated header backup cannot be removed", HeaderError):
                os.unlink(path)


def require_room(directory: str, version: int) -> None:
    """Raises ``HeaderError`` if no backup of a header of this LUKS version can be written."""
    existing = directory
    while not os.path.exists(existing):
        existing = os.path.dirname(existing)
    with luks_device.errors_of(directory, "no header backup can be made", HeaderError):
        facts = os.statvfs(existing)
    if facts.f_flag & os.ST_RDONLY or not os.path.isdir(existing) or not os.access(existing, os.W_OK):
        raise HeaderError(directory, "no header backup can be made: it cannot be written. Nothing was changed")
    free = facts.f_bavail * facts.f_frsize
    if free < _ROOM[version]:
        raise HeaderError(
            directory,
            f"has {free >> 20} MiB free; a header backup needs {_ROOM[version] >> 20} MiB. Remove old backups there "
            "(`keep` does it), or make room. Nothing was changed",
        )


def being_removed(header: luks_header.Header, directory: str = DIRECTORY) -> list[int]:
    """The numbers of the key slots that are still there although their removal was begun: it was interrupted."""
    with luks_device.errors_of(directory, "its records cannot be read", HeaderError):
        recorded = _recorded(header.uuid, directory)
    return [slot.number for slot in header.slots if slot.identity in recorded]


def record_removal(header: luks_header.Header, numbers: Collection[int], directory: str = DIRECTORY) -> None:
    """
    Write down which key slots are about to be removed. The record is on the medium before this returns.

    The record stays. A key slot is known by its salt, so the record never means a key slot that is written later.
    """
    going = {slot.identity for slot in header.slots if slot.number in numbers}
    with luks_device.errors_of(directory, "the removal cannot be recorded", HeaderError):
        path = _record_path(header.uuid, directory)
        recorded = _recorded(header.uuid, directory) & {slot.identity for slot in header.slots}
        descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            json.dump(sorted(recorded | going), file)
        luks_device.sync(f"{path}.new")
        os.replace(f"{path}.new", path)
    luks_device.sync(directory)


def _write(device: luks_device.Device | str, header: luks_header.Header, directory: str, key: Secret | None) -> str:
    path = _path_for(device, header, directory)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    try:
        galaxy_host_files.require_trusted(directory)
    except FileError as exc:
        raise HeaderError(device, f"no header backup made: {exc}; give the directory to root, mode 0700") from None
    # first remove what a crash left, because it takes up room
    shutil.rmtree(os.path.join(directory, f".new-{header.uuid}"), ignore_errors=True)
    require_room(directory, header.version)
    with _scratch_directory(os.path.join(directory, f".new-{header.uuid}")) as scratch:
        new, restored = os.path.join(scratch, "header"), os.path.join(scratch, "restored")
        _run("luksHeaderBackup", device, new)
        os.chmod(new, 0o600)
        luks_device.sync(new)
        with open(restored, "wb") as file:
            file.truncate(os.path.getsize(new) + _PAYLOAD)
        _run("luksHeaderRestore", restored, new)
        if luks_header.read(restored) != header or _path_for(restored, header, directory) != path:
            raise HeaderError(device, "no header backup made: what was restored of it differs")
        if key and not luks_header.opens(restored, key):
            raise HeaderError(device, "no header backup made: its key does not open what was restored of it")
        os.replace(new, path)
    luks_device.sync(directory)
    return path


def _prune(uuid: str, newest: str, directory: str, keep: int) -> None:
    older = [path for path in _backups(directory) if os.path.basename(path).startswith(uuid) and path != newest]
    for path in older[: max(0, len(older) - max(keep, 1) + 1)]:
        log.info("older header backup removed: %s", path)
        with luks_device.errors_of(path, "older header backup cannot be removed", HeaderError):
            os.unlink(path)


def _backups(directory: str) -> list[str]:
    """Paths of the backups, the newest last."""
    paths = [os.path.join(directory, name) for name in galaxy_host_sysfs.names(directory) if _FILE.match(name)]
    with luks_device.errors_of(directory, "header backups cannot be read", HeaderError):
        return sorted(paths, key=lambda path: (os.stat(path).st_mtime_ns, path))


def _write_header(device: luks_device.Device, path: str) -> None:
    """
    Write the header so that the blocks by which it is recognised are erased first and written last, each step on the
    medium before the next. If this is cut short, there is no header, and not one that no key opens.
    """
    with open(path, "rb") as file:
        content = file.read()
    second = luks_header.second_copy(path)
    blocks = [0, second] if second else [0]
    node = os.open(device.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        for block in blocks:
            os.pwrite(node, bytes(_BLOCK), block)
        os.fsync(node)
        ends = [*blocks[1:], len(content)]
        for block, end in zip(blocks, ends, strict=True):
            _write_all(node, content[block + _BLOCK : end], block + _BLOCK)
        os.fsync(node)
        for block in blocks:
            os.pwrite(node, content[block : block + _BLOCK], block)
        os.fsync(node)
    finally:
        os.close(node)


def _write_all(node: int, content: bytes, offset: int) -> None:
    while content:
        count = os.pwrite(node, content, offset)
        content, offset = content[count:], offset + count


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
    elif current.reencrypting:
        raise HeaderError(
            device, "its volume key is being changed; run `luks.reencrypt` to its end. Nothing was changed"
        )
    elif current.volume_key != backup.volume_key:
        raise HeaderError(device, "the backup is of an earlier volume key, and would open garbage. Nothing was changed")
    else:
        make(device, directory)


def _path_for(place: luks_device.Device | str, header: luks_header.Header, directory: str) -> str:
    # the name changes with the header, so a backup never replaces another one
    return os.path.join(directory, f"{header.uuid}-{luks_header.digest(place, header)[:12]}.luksheader")


def _require_undamaged(path: str, header: luks_header.Header) -> None:
    """Raises ``HeaderError`` if the file has a name of ours that does not fit its content."""
    name = _FILE.match(os.path.basename(path))
    # the first backups of this tree are named after the metadata alone
    earlier = hashlib.sha256(header.metadata.encode()).hexdigest()
    if name and name.group(2) not in (luks_header.digest(path, header)[:12], earlier[:12]):
        raise HeaderError(
            path,
            "damaged: its header or its key slots do not fit its name. Take another backup. If there is none, copy "
            "this one to another name, which is restored without this check. Nothing was changed",
        )


def _record_path(uuid: str, directory: str, forget: bool = False) -> str:
    path = os.path.join(directory, f"{uuid}.removed")
    if forget:
        # a restored header brings its old keys back
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    return path


def _recorded(uuid: str, directory: str) -> set[str]:
    try:
        with open(_record_path(uuid, directory), encoding="ascii") as file:
            return set(json.load(file))
    except FileNotFoundError:
        return set()
    except ValueError:
        raise HeaderError(_record_path(uuid, directory), "not a record of removed keys; move it away") from None


@contextlib.contextmanager
def _scratch_directory(path: str) -> Iterator[str]:
    os.mkdir(path, mode=0o700)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _run(action: str, device: luks_device.Device | str, file: str) -> None:
    argv = ["cryptsetup", action, "--batch-mode", str(device), f"--header-backup-file={file}"]
    galaxy_host_command.run(argv, timeout=luks_header.TIMEOUT)
