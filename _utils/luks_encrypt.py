"""
The procedure that makes an encrypted volume of a blank device, or finishes one that was interrupted, and mounts it.

At any moment the volume's own header tells how far it is, so a crash needs no record elsewhere: a header that says
*unfinished* (``luks_header``) has never had its filesystem mounted for use, and the procedure begins anew; any other is
never formatted again. The order of steps and why each crash point is safe: ``docs/storage.md``.
"""

import dataclasses

import luks_backup
import luks_device
import luks_filesystem
import luks_header
import luks_mapping
from galaxy_errors import DeviceNotBlank
from galaxy_host_secret import Secret

FORMAT, MKFS, BACKUP, OPEN, MOUNT = STEPS = ("format", "mkfs", "header_backup", "open", "mount")


@dataclasses.dataclass(frozen=True)
class Plan:
    """
    What a volume is to be: ``device`` (as ``luks_device.find`` takes it) open as ``mapper``, its filesystem mounted on
    ``mount_point``. ``may_format`` allows to make the volume; without it a blank device is an error.
    """

    device: str
    mapper: str
    mount_point: str
    fstype: str = "ext4"
    mkfs_options: tuple[str, ...] = ()
    mount_options: tuple[str, ...] = ()
    luks: luks_header.Options = luks_header.DEFAULTS
    backups: str = luks_backup.DIRECTORY
    discard: bool = False
    may_format: bool = False


def remaining(plan: Plan) -> list[str]:
    """
    The steps that ``run`` would take now, in order; none when all is as planned.

    Raises a ``VolumeError`` for whatever ``run`` would refuse before it has changed anything, but for a wrong key.
    """
    return _steps(plan, luks_device.find(plan.device))


def run(plan: Plan, key: Secret) -> list[str]:
    """
    Bring the volume to what is planned and return the steps taken; a second run takes none.

    Raises a ``VolumeError``, ``WrongKey`` among them, or ``CommandError``.
    """
    device = luks_device.find(plan.device)
    with luks_device.claimed(device):
        steps = _steps(plan, device)
        if FORMAT in steps:
            _make(plan, device, key)
        if BACKUP in steps:
            luks_backup.make(device, plan.backups, key)
        if MOUNT in steps:
            mount = (plan.mount_point, plan.mount_options, plan.fstype)
            luks_mapping.open_mounted(device, plan.mapper, key, *mount, plan.discard)
        elif OPEN in steps:
            luks_mapping.open_volume(device, plan.mapper, key, plan.discard)
    return steps


def format_volume(
    device: luks_device.Device,
    key: Secret,
    options: luks_header.Options = luks_header.DEFAULTS,
    backups: str = luks_backup.DIRECTORY,
    force: bool = False,
    signature: str | None = None,
) -> str:
    """
    A finished volume without a filesystem on a blank or unfinished device, its header backed up; returns the backup's
    path. ``force`` with ``signature``, as in ``luks_device.require_blank``, makes it on any other device.
    """
    with luks_device.claimed(device):
        if force:
            luks_device.require_blank(device, force, signature)
            luks_device.wipe(device)
        else:
            _require_fresh(device, key)
        luks_header.write(device, key, options)
        luks_header.finish(device)
        return luks_backup.make(device, backups, key)


def _make(plan: Plan, device: luks_device.Device, key: Secret) -> None:
    """Steps ``format`` and ``mkfs``: from a blank or unfinished device to a finished, closed volume."""
    _require_fresh(device, key)
    luks_mapping.require_openable(device, plan.mapper, "")
    luks_header.write(device, key, plan.luks)
    luks_mapping.open_volume(device, plan.mapper, key)
    try:
        luks_filesystem.make(f"/dev/mapper/{plan.mapper}", plan.fstype, plan.mkfs_options)
    finally:
        luks_mapping.close_volume(plan.mapper)
    # all that mkfs wrote is on the medium, and nobody has it open; only now the mark goes
    luks_header.finish(device)


def _require_fresh(device: luks_device.Device, key: Secret) -> None:
    """
    Raises an error unless the device is proven to hold no data: it carries no signature at all, or an unfinished
    volume, and that has no key slot yet or, opened with ``key``, no files inside. Closes an unfinished volume that is
    still open.
    """
    header = luks_header.read(device)
    if not luks_header.is_unfinished(device, header):
        luks_device.require_blank(device)
        return
    _require_unused(device)
    mapping = luks_mapping.of(device)
    if mapping:
        luks_mapping.close_volume(mapping.name)
    if header and header.slots:
        # the mark says that it is empty; this asks the content itself, should somebody have used it by hand
        name = f"unfinished-{header.uuid}"
        luks_mapping.open_volume(device, name, key)
        try:
            files = luks_filesystem.files_on(f"/dev/mapper/{name}")
        finally:
            luks_mapping.close_volume(name)
        if files:
            raise DeviceNotBlank(
                device, f"marked unfinished, yet it holds {', '.join(files[:5])}; it was not touched", ()
            )


def _require_unused(device: luks_device.Device) -> None:
    mapping = luks_mapping.of(device)
    luks_device.require_free(luks_device.Device(mapping.path, mapping.number) if mapping else device)


def _steps(plan: Plan, device: luks_device.Device) -> list[str]:
    is_mounted = luks_filesystem.require_mountable(f"/dev/mapper/{plan.mapper}", plan.mount_point)
    header = luks_header.read(device)
    if luks_header.is_unfinished(device, header):
        _require_unused(device)
    else:
        is_open = luks_mapping.require_openable(device, plan.mapper, header.uuid if header else "")
        if header:
            has_backup = bool(luks_backup.current(header, plan.backups))
            done = {FORMAT: True, MKFS: True, BACKUP: has_backup, OPEN: is_open, MOUNT: is_mounted}
            return [step for step in STEPS if not done[step]]
        if is_open:
            luks_header.require(device)
        luks_device.require_blank(device)
    if not plan.may_format:
        luks_header.require(device)
    luks_filesystem.require_maker(plan.fstype)
    return list(STEPS)
