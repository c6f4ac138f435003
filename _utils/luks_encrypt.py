"""
Make an encrypted volume on a blank device, or finish one that was interrupted, and mount it.

At any moment the device itself tells how far it is, so a crash needs no record elsewhere. A device with a mark in its
last block, or with a header that says *unfinished* (``luks_header``), has never had its filesystem mounted for use: the
procedure begins anew. Any other device is never formatted again. ``docs/storage.md`` has the order of steps, and says
why each crash point is safe.
"""

import contextlib
import logging
from collections.abc import Callable

import luks_backup
import luks_blank
import luks_device
import luks_filesystem
import luks_header
import luks_key
import luks_mapping
import luks_trial
from galaxy_errors import DeviceNotBlank, KeySourceError
from galaxy_host_mounts import Mount
from galaxy_host_record import record
from galaxy_host_secret import Secret

log = logging.getLogger(__name__)

FORMAT, MKFS, BACKUP, OPEN, FSCK, ASIDE, MOUNT, REMOUNT = STEPS = (
    "format",
    "mkfs",
    "header_backup",
    "open",
    "fsck",
    "set_aside",
    "mount",
    "remount",
)


@record(frozen=True)
class Plan:
    """
    What a volume shall be: ``device`` (as ``luks_device.find`` takes it, waiting ``device_timeout`` seconds) is open as
    ``mapper``, and its filesystem is mounted on ``mount_point``. ``may_format`` allows to make the volume; without it a
    blank device is an error. ``may_move`` allows to set aside what is below the mount point.
    """

    device: str
    mapper: str
    mount_point: str
    fstype: str = "ext4"
    mkfs_options: tuple[str, ...] = ()
    mount_options: tuple[str, ...] = ()
    luks: luks_header.Options = luks_header.DEFAULTS
    place: luks_key.Place = luks_key.Place()
    discard: bool = False
    may_format: bool = False
    may_move: bool = False
    device_timeout: float = 0


def run(plan: Plan, key: Callable[[], luks_header.Key], test: bool = False) -> list[str]:
    """
    Bring the volume into the planned state, and return the steps that were taken, a part of ``STEPS``. A second run
    takes none.

    key
        gives the key; it is only called if a step needs the key
    test
        change nothing: return the steps that would be taken, and fail if a run would fail

    Two runs at once come one after the other: the second decides what is left to do when the first is over. Raises a
    ``VolumeError`` (such as ``WrongKey``), or ``CommandError``.
    """
    device = luks_device.find(plan.device, plan.device_timeout)
    with luks_mapping.reserved(plan.mapper), luks_device.claimed(device):
        luks_mapping.close_look(device)
        header = luks_header.read(device)
        steps = _steps(plan, device, header)
        log.info("%s as %s on %s: %s", device, plan.mapper, plan.mount_point, ", ".join(steps) or "nothing to do")
        secret = key() if {FORMAT, BACKUP, OPEN}.intersection(steps) else None
        if FORMAT in steps:
            if isinstance(secret, luks_header.Token):
                raise KeySourceError(
                    "token://", "only opens volumes; make the volume with a passphrase, and enroll the token then"
                )
            assert secret is not None
            _require_fresh(device, secret, plan.place.backups, test)
            _require_makeable(plan, device)
        elif test:
            _require_possible(plan, device, steps, secret)
        if not test:
            _take(plan, device, steps, secret)
            if header and header.reencrypting and _back_up_settled(plan, device):
                steps.append(BACKUP)
    return steps


def format_volume(
    device: luks_device.Device,
    key: Callable[[], Secret],
    options: luks_header.Options = luks_header.DEFAULTS,
    place: luks_key.Place = luks_key.Place(),  # noqa: B008
    force: bool = False,
    signature: str | None = None,
    test: bool = False,
) -> str:
    """
    Make a finished volume without a filesystem on a blank or unfinished device, and back up its header. Returns the
    backup's path. ``force`` with ``signature`` makes it on any other device, as in ``luks_blank.require``. ``test``
    changes nothing, returns an empty path, and fails if a run would fail.
    """
    with luks_device.claimed(device):
        secret = key()
        if force:
            luks_blank.require(device, force, signature)
            # data of an unknown kind may belong to a volume whose header was erased
            if signature == luks_blank.DATA:
                luks_backup.require_no_orphan(device, place.backups)
        else:
            _require_fresh(device, secret, place.backups, test)
        luks_trial.require_formattable(device, options)
        luks_backup.require_room(place.backups, options.version)
        if test:
            return ""
        if force:
            luks_device.wipe(device)
        _write_header(device, secret, options)
        luks_header.finish(device)
        return luks_backup.make(device, place.backups, secret, place.keep)


def _steps(plan: Plan, device: luks_device.Device, header: luks_header.Header | None) -> list[str]:
    path = f"/dev/mapper/{plan.mapper}"
    mount = luks_filesystem.require_mountable(path, plan.mount_point, plan.may_move)
    if luks_header.is_unfinished(device, header):
        if not plan.may_format:
            luks_header.require_finished(device, header.uuid if header else luks_header.identity(device))
            luks_header.require(device)
    else:
        is_open = luks_mapping.require_openable(device, plan.mapper, header.uuid if header else "")
        if header:
            return _steps_of_finished(plan, device, header, is_open, mount)
        if is_open or not plan.may_format:
            luks_header.require(device)
    luks_filesystem.require_maker(plan.fstype)
    aside = [ASIDE] if luks_filesystem.is_occupied(plan.mount_point) else []
    return [FORMAT, MKFS, BACKUP, OPEN, *aside, MOUNT]


def _steps_of_finished(
    plan: Plan, device: luks_device.Device, header: luks_header.Header, is_open: bool, mount: Mount | None
) -> list[str]:
    path = f"/dev/mapper/{plan.mapper}"
    # while the volume key changes, the header changes with the data: a backup made now would be wrong later
    steps = [] if header.reencrypting or luks_backup.current(device, header, plan.place.backups) else [BACKUP]
    if not is_open:
        steps.append(OPEN)
    if mount:
        missing = luks_filesystem.require_as_wanted(mount, plan.fstype, plan.mount_options)
        return steps + ([REMOUNT] if missing else [])
    # if the filesystem is mounted elsewhere too, it was checked before that mount
    if luks_filesystem.is_ext(plan.fstype) and not (is_open and luks_filesystem.mounts(path)):
        steps.append(FSCK)
    if luks_filesystem.is_occupied(plan.mount_point):
        steps.append(ASIDE)
    return [*steps, MOUNT]


def _take(plan: Plan, device: luks_device.Device, steps: list[str], secret: luks_header.Key | None) -> None:
    path = f"/dev/mapper/{plan.mapper}"
    if FORMAT in steps:
        assert isinstance(secret, Secret)
        _make(plan, device, secret)
    if BACKUP in steps:
        proof = secret if isinstance(secret, Secret) else None
        luks_backup.make(device, plan.place.backups, proof, plan.place.keep)
    if OPEN in steps:
        assert secret is not None
        luks_mapping.open_volume(device, plan.mapper, secret, plan.discard)
    if MOUNT in steps:
        mount_opened(
            plan.mapper, plan.mount_point, plan.mount_options, plan.fstype, FSCK in steps, ASIDE in steps, OPEN in steps
        )
    if REMOUNT in steps:
        mount = luks_filesystem.require_mountable(path, plan.mount_point)
        assert mount
        luks_filesystem.remount(mount, plan.mount_options)


def _back_up_settled(plan: Plan, device: luks_device.Device) -> bool:
    """Back up the header, if opening the volume has completed an interrupted change of its volume key."""
    header = luks_header.require(device)
    if header.reencrypting or luks_backup.current(device, header, plan.place.backups):
        return False
    luks_backup.make(device, plan.place.backups, None, plan.place.keep)
    return True


def mount_opened(
    mapper: str,
    target: str,
    options: tuple[str, ...],
    fstype: str | None = None,
    check: bool = True,
    may_move: bool = False,
    close_after: bool = False,
) -> None:
    """
    Check and mount the filesystem of an open volume. With ``may_move``, what is below the mount point is set aside. If
    it cannot be mounted after all, ``close_after`` closes the volume again.
    """
    path = f"/dev/mapper/{mapper}"
    done = False
    try:
        kind = luks_filesystem.require_type(path, fstype)
        if check:
            luks_filesystem.check(path, kind)
        if may_move and luks_filesystem.is_occupied(target):
            luks_filesystem.set_aside(target)
        luks_filesystem.mount(path, target, options, kind)
        done = True
    finally:
        if close_after and not done:
            luks_mapping.close_volume(mapper)


def _make(plan: Plan, device: luks_device.Device, key: Secret) -> None:
    """Take the steps ``format`` and ``mkfs``: from a blank or unfinished device to a finished, closed volume."""
    luks_mapping.require_openable(device, plan.mapper, "")
    _write_header(device, key, plan.luks)
    luks_mapping.open_volume(device, plan.mapper, key)
    try:
        luks_filesystem.make(f"/dev/mapper/{plan.mapper}", plan.fstype, plan.mkfs_options)
    finally:
        luks_mapping.close_volume(plan.mapper)
    # everything that mkfs wrote is on the medium, and nobody has the volume open. Only now the header says "finished"
    luks_header.finish(device)


def _write_header(device: luks_device.Device, key: Secret, options: luks_header.Options) -> None:
    # luksFormat writes its key slot area before the header. After a crash in between, only the mark says what this data
    # is. Once the header says the same, the mark goes, before the filesystem gets that block
    luks_blank.mark(device)
    luks_header.write(device, key, options)
    luks_blank.unmark(device)


def _require_makeable(plan: Plan, device: luks_device.Device) -> None:
    """Raises an error for whatever luksFormat, mkfs or mount would refuse later, or the directory of the backups."""
    size = luks_trial.require_formattable(device, plan.luks)
    luks_filesystem.require_options(plan.fstype, plan.mkfs_options, plan.mount_options, size)
    luks_backup.require_room(plan.place.backups, plan.luks.version)


def _require_possible(plan: Plan, device: luks_device.Device, steps: list[str], secret: luks_header.Key | None) -> None:
    """Check what a test run can know of steps on a finished volume before they are taken."""
    if BACKUP in steps:
        luks_backup.require_room(plan.place.backups, luks_header.require(device).version)
    if OPEN in steps:
        assert secret is not None
        require_usable(device, secret, plan.fstype)
    elif MOUNT in steps:
        luks_filesystem.require_readable(f"/dev/mapper/{plan.mapper}", plan.fstype)
    if MOUNT in steps or REMOUNT in steps:
        luks_filesystem.require_mount_options(plan.fstype, plan.mount_options)


def require_usable(device: luks_device.Device, key: luks_header.Key, fstype: str | None = None) -> None:
    """
    Raises ``WrongKey`` if the key does not open the volume. Raises ``FilesystemError`` if the volume, opened read-only
    for a look, has no filesystem that can be mounted. While its volume key is being changed, only the key is tried.
    """
    header = luks_header.require(device)
    if header.reencrypting:
        luks_header.require_key(device, key)
        return
    with luks_mapping.look(device, header.uuid, key, read_only=True) as path:
        luks_filesystem.require_readable(path, fstype)


def _require_fresh(device: luks_device.Device, key: luks_header.Key, backups: str, test: bool) -> None:
    """
    Raises an error unless the device is proven to hold no data. Proof is one of these: it reads as blank; it carries an
    unfinished volume that has no key slot yet or, opened with ``key``, no files inside; it has the mark of a volume in
    the making, and nothing outside of what luksFormat writes. An unfinished volume that is still open is closed.
    """
    header = luks_header.read(device)
    if luks_header.is_unfinished(device, header):
        log.info("%s: a volume whose making was interrupted", device)
        _require_empty(device, header, key, test)
        return
    luks_backup.require_no_orphan(device, backups)
    luks_device.require_free(device)
    if header is None and luks_blank.is_marked(device) and not luks_device.signatures(device):
        log.info("%s: marked as a volume in the making; luksFormat was interrupted", device)
        data = luks_blank.first_data(device, start=luks_blank.HEADER_AREA)
        if data:
            raise DeviceNotBlank(
                device, f"marked as a volume in the making, yet it carries {data[1]} at byte {data[0]}; not touched", ()
            )
        return
    luks_blank.require(device)


def _require_empty(
    device: luks_device.Device, header: luks_header.Header | None, key: luks_header.Key, test: bool
) -> None:
    luks_mapping.close_look(device)
    mapping = luks_mapping.of(device)
    luks_device.require_free(luks_device.Device(mapping.path, mapping.number) if mapping else device)
    if mapping and not test:
        luks_mapping.close_volume(mapping.name)
    if header and header.slots:
        # the header says "empty", but somebody may have used the volume by hand: look at the content too
        path = mapping.path if mapping and test else None
        # not read-only: a journal that must be replayed would hide the filesystem
        shown = contextlib.nullcontext(path) if path else luks_mapping.look(device, header.uuid, key, read_only=False)
        with shown as look:
            files = luks_filesystem.files_on(look)
        if files:
            raise DeviceNotBlank(
                device, f"marked unfinished, yet it holds {', '.join(files[:5])}; it was not touched", ()
            )
