"""
Work with filesystems on an open volume: make, check, mount and grow one, and see what is on it.
"""

import contextlib
import errno
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence

import galaxy_host_command
import galaxy_host_mounts
import galaxy_host_sysfs
import luks_device
import luks_trial
from galaxy_errors import CommandError, FilesystemError, MountPointError
from galaxy_host_mounts import Mount
from galaxy_host_pattern import Pattern

log = logging.getLogger(__name__)

# for each mkfs: the options for "ask no questions, and write over what an interrupted mkfs left"
_MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-F"],
    "ext3": ["mkfs.ext3", "-q", "-F"],
    "ext2": ["mkfs.ext2", "-q", "-F"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
    "btrfs": ["mkfs.btrfs", "-q", "-f"],
}
# seconds; a large volume may be on slow storage
_TIMEOUT = 3600
_EXT = ("ext2", "ext3", "ext4")
# mount options for looking without writing
_UNREPLAYED = {
    **dict.fromkeys(_EXT, "noload"),
    "xfs": "norecovery,nouuid",
    "btrfs": "rescue=nologreplay",
}
# the ext family: the byte of the superblock with incompatible features, and the feature "the journal must be replayed"
_INCOMPATIBLE, _RECOVER = 1024 + 0x60, 4
# fsck(8): 1 means that all errors were corrected
_CORRECTED = 1
_LOOK = "luks-"
# most files that an error names
_NAMED = 5
# mount options that the kernel does not list: they are for mount(8) or systemd, or are defaults
_UNLISTED = Pattern(r"defaults|_netdev|no?auto|nofail|no?user|users|owner|group|loop|comment=.*|[xX]-.*")
_OPPOSITES = {
    "rw": "ro", "suid": "nosuid", "dev": "nodev", "exec": "noexec", "async": "sync", "diratime": "nodiratime",
    "atime": "noatime", "norelatime": "relatime", "strictatime": "relatime",
}  # fmt: skip


def is_ext(fstype: str) -> bool:
    """Whether it belongs to the ext family, which is checked before each mount. xfs and btrfs check themselves."""
    return fstype in _EXT


def mounts(path: str) -> list[Mount]:
    """The mounts of the filesystem on block device ``path``, in the order of mounting."""
    number = galaxy_host_sysfs.number(path)
    return [each for each in galaxy_host_mounts.read() if number and galaxy_host_sysfs.number(each.source) == number]


def require_mountable(path: str, target: str, may_move: bool = False) -> Mount | None:
    """
    The mount of device ``path`` on directory ``target``. ``None``: it is not mounted there, and can be.

    Raises ``MountPointError`` if another user could put something else in the place of ``target``, if something else is
    mounted there, if it is not a directory, or if it is not empty (``may_move`` allows this: see ``set_aside``).
    """
    galaxy_host_mounts.require_place(target)
    mount = galaxy_host_mounts.mounted_at(target)
    if mount:
        number = galaxy_host_sysfs.number(path)
        if number and galaxy_host_sysfs.number(mount.source) == number:
            return mount
        raise MountPointError(target, f"{mount.source} is mounted there, not {path}. Nothing was changed")
    with luks_device.errors_of(target, "cannot be looked at", MountPointError):
        if os.path.lexists(target) and not os.path.isdir(target):
            raise MountPointError(target, "not a directory. Nothing was changed")
        hidden = sorted(os.listdir(target)) if not may_move and os.path.isdir(target) else []
        if hidden:
            named = ", ".join(hidden[:_NAMED]) + (f", and {len(hidden) - _NAMED} more" if len(hidden) > _NAMED else "")
            raise MountPointError(
                target,
                f"not empty; mounting would hide {named}. Move that away first, or let `nonempty: move` do so. "
                "Nothing was changed",
            )
    return None


def is_occupied(target: str) -> bool:
    """Whether mounting on the directory would hide files."""
    with luks_device.errors_of(target, "cannot be looked at", MountPointError):
        return os.path.isdir(target) and bool(os.listdir(target))


def aside(target: str) -> str:
    """Where ``set_aside`` puts what is below the mount point: a new directory beside it."""
    number = 1
    while os.path.lexists(f"{os.path.normpath(target)}.aside-{number}"):
        number += 1
    return f"{os.path.normpath(target)}.aside-{number}"


def set_aside(target: str) -> str:
    """Move what was written below the mount point while nothing was mounted there. Returns where it is now."""
    path = aside(target)
    with luks_device.errors_of(target, "what is in it cannot be set aside", MountPointError):
        status = os.stat(target)
        os.rename(os.path.realpath(target), path)
        os.mkdir(os.path.realpath(target), status.st_mode & 0o7777)
        os.chown(target, status.st_uid, status.st_gid)
    log.info("%s was not empty; what was in it is in %s", target, path)
    return path


def require_as_wanted(mount: Mount, fstype: str, options: Sequence[str]) -> list[str]:
    """
    The mount options that are wanted and not in effect; a remount brings them into effect.

    Raises ``FilesystemError`` if another filesystem is mounted, or if it is read-only although this is not wanted.
    """
    if mount.fstype != fstype:
        raise FilesystemError(mount.target, f"the filesystem mounted there is {mount.fstype}, not {fstype}")
    effective = _effective(mount)
    if "ro" in effective and "ro" not in options:
        raise FilesystemError(
            mount.target,
            "the filesystem is read-only, though `mount_options` has no `ro`: the kernel does that after errors of "
            "the disk or the filesystem (see its log). Stop what uses it, `luks.close` the volume and open it again, "
            "which checks the filesystem",
        )
    return [each for each in options if not _is_in_effect(each, effective)]


def require_maker(fstype: str) -> None:
    """Raises ``FilesystemError`` unless this machine can make such a filesystem."""
    if fstype not in _MAKE:
        raise FilesystemError(fstype, f"not a filesystem that this tree makes; give one of {', '.join(_MAKE)}")
    if not shutil.which(_MAKE[fstype][0]):
        raise FilesystemError(fstype, f"{_MAKE[fstype][0]} is not installed. Nothing was changed")


def require_options(fstype: str, mkfs_options: Sequence[str], mount_options: Sequence[str], size: int) -> None:
    """Raises ``FilesystemError`` if ``mkfs``, on ``size`` bytes, or ``mount`` would refuse the options."""
    luks_trial.require_mkfs(_MAKE[fstype], fstype, mkfs_options, size)
    luks_trial.require_mount(_MAKE[fstype], fstype, mount_options)


def require_mount_options(fstype: str, options: Sequence[str]) -> None:
    """The same for ``mount`` alone."""
    if fstype in _MAKE and shutil.which(_MAKE[fstype][0]):
        luks_trial.require_mount(_MAKE[fstype], fstype, options)


def make(path: str, fstype: str, options: Sequence[str]) -> None:
    """
    Run ``mkfs`` on a device. The caller has proven that it carries nothing. The filesystem is on the medium when this
    returns.
    """
    log.info("%s: mkfs, %s", path, fstype)
    galaxy_host_command.run([*_MAKE[fstype], *options, path], timeout=_TIMEOUT)


def check(path: str, fstype: str) -> bool:
    """
    Check a filesystem of the ext family before it is mounted, as the machine checks those in fstab at boot (``fsck -p``
    repairs what is safe to repair). ``True``: something was repaired.

    Raises ``FilesystemError``, with all output of the check, if a person must decide.
    """
    if not is_ext(fstype):
        return False
    try:
        galaxy_host_command.run(["e2fsck", "-p", path], timeout=_TIMEOUT)
    except CommandError as exc:
        if exc.returncode is None:
            raise
        said = "; ".join(line.strip() for line in f"{exc.output}\n{exc.stderr}".splitlines() if line.strip())
        if exc.returncode == _CORRECTED:
            log.info("%s: e2fsck repaired: %s", path, said)
            return True
        raise FilesystemError(path, f"e2fsck cannot repair it by itself: {said}. {_advice(path)}") from None
    return False


def mount(path: str, target: str, options: Sequence[str], fstype: str | None = None) -> None:
    """
    Mount device ``path`` on directory ``target``, which is made if missing.

    Raises ``FilesystemError`` if the device carries another filesystem than ``fstype``, or none that is known: it may
    hold data nevertheless, so no filesystem is made. Raises it also, with all output of mount, if mount fails.
    """
    kind = require_type(path, fstype)
    galaxy_host_mounts.make_directory(target)
    argv = ["mount", "-t", kind, *(["-o", ",".join(options)] if options else []), path, target]
    log.info("%s: mounted on %s", path, target)
    try:
        galaxy_host_command.run(argv, timeout=_TIMEOUT)
    except CommandError as exc:
        raise FilesystemError(path, f"cannot be mounted on {target}: {_said(exc)}. {_advice(path, kind)}") from None
    if not require_mountable(path, target):
        raise MountPointError(target, f"{path} is not mounted there although `mount` succeeded")


def require_type(path: str, fstype: str | None = None) -> str:
    """
    The filesystem on the device, if it is ``fstype`` or one that this tree makes; else raises ``FilesystemError``.
    """
    kind = type_of(path)
    if kind in ([fstype] if fstype else _MAKE):
        return kind
    carries = f"carries {kind}" if kind else "an encrypted volume without a filesystem that is known"
    wanted = fstype or " or ".join(_MAKE)
    advice = "" if kind else f" If it had one of the ext family, its superblock is damaged: {_advice(path)}"
    raise FilesystemError(path, f"{carries}, not {wanted}; it may hold data, and was not touched.{advice}")


def require_readable(path: str, fstype: str | None = None) -> None:
    """
    Raises ``FilesystemError`` if the device has no such filesystem, or if the kernel cannot mount it. Nothing is
    written: no journal is replayed, and a filesystem that has one to replay, or that is mounted, is not tried.
    """
    kind = require_type(path, fstype)
    if mounts(path) or (is_ext(kind) and _needs_recovery(path)):
        return
    try:
        with _mounted_readonly(path, kind, _UNREPLAYED[kind]):
            pass
    except CommandError as exc:
        raise FilesystemError(path, f"cannot be mounted: {_said(exc)}. {_advice(path, kind)}") from None


def remount(mount: Mount, options: Sequence[str]) -> None:
    """Bring mount options into effect. Raises ``FilesystemError`` with all output of mount."""
    log.info("%s: remounted with %s", mount.target, ",".join(options))
    try:
        galaxy_host_command.run(["mount", "-o", f"remount,{','.join(options)}", mount.target], timeout=_TIMEOUT)
    except CommandError as exc:
        said = exc.stderr.replace("\n", "; ") or str(exc)
        raise FilesystemError(
            mount.target, f"cannot be remounted with {','.join(options)}: {said}. Close the volume, and open it again"
        ) from None


def unmount(target: str) -> None:
    """Unmount it. Raises ``CommandError`` if it is busy."""
    log.info("%s: unmounted", target)
    galaxy_host_command.run(["umount", target], timeout=_TIMEOUT)


def type_of(path: str) -> str:
    """The filesystem that the device carries; empty if there is none, or if it is something else."""
    listed = [each.type for each in luks_device.signatures(path)]
    return listed[0] if listed else ""


def files_on(path: str) -> list[str]:
    """
    The names in the root of the filesystem on device ``path``; empty if there is no filesystem, or only a half-made
    one.
    """
    fstype = type_of(path)
    if not fstype:
        return []
    if fstype not in _MAKE:
        return [f"({fstype})"]
    try:
        with _mounted_readonly(path, fstype) as root:
            try:
                return sorted(set(os.listdir(root)) - {"lost+found"})
            except OSError as exc:
                # the filesystem's root was not written yet; but if the disk fails, nothing can be told
                if exc.errno == errno.EIO:
                    raise FilesystemError(path, f"its files cannot be listed: {exc.strerror}; not touched") from None
                return []
    except CommandError:
        return []


def end_look(path: str) -> None:
    """Unmount what is still mounted from the device because a run was killed within ``files_on``."""
    for each in mounts(path):
        if os.path.dirname(each.target) == "/run" and os.path.basename(each.target).startswith(_LOOK):
            log.info("%s: left by a run that was killed", each.target)
            unmount(each.target)
            with contextlib.suppress(OSError):
                os.rmdir(each.target)


def grow(mount: Mount) -> None:
    """Let a mounted filesystem use all of its device."""
    log.info("%s: grown to the size of %s", mount.target, mount.source)
    argv = {"xfs": ["xfs_growfs", mount.target], "btrfs": ["btrfs", "filesystem", "resize", "max", mount.target]}
    galaxy_host_command.run(argv.get(mount.fstype, ["resize2fs", mount.source]), timeout=_TIMEOUT)


def size(mount: Mount) -> int:
    """Bytes that a mounted filesystem offers, with those in use."""
    with luks_device.errors_of(mount.target, "its size cannot be read", FilesystemError):
        facts = os.statvfs(mount.target)
    return facts.f_blocks * facts.f_frsize


def span(mount: Mount) -> int | None:
    """Bytes of its device that a mounted filesystem takes; ``None`` if it does not tell."""
    if is_ext(mount.fstype):
        told = galaxy_host_command.run(["dumpe2fs", "-h", mount.source])
        facts = dict(re.findall(r"^(Block count|Block size):\s+(\d+)$", told, re.MULTILINE))
        return int(facts["Block count"]) * int(facts["Block size"]) if len(facts) == 2 else None
    if mount.fstype == "xfs":
        told = galaxy_host_command.run(["xfs_info", mount.target])
        match = re.search(r"^data\s+=\s+bsize=(\d+)\s+blocks=(\d+)", told, re.MULTILINE)
        return int(match[1]) * int(match[2]) if match else None
    if mount.fstype == "btrfs":
        told = galaxy_host_command.run(["btrfs", "filesystem", "show", "--raw", mount.target])
        sizes = re.findall(r"\bsize (\d+) used", told)
        return int(sizes[0]) if len(sizes) == 1 else None
    return None


def _effective(mount: Mount) -> set[str]:
    """The mount options in effect. ext4 tells its default options too, in another place."""
    listed = set(mount.options.split(","))
    number = galaxy_host_sysfs.number(mount.source)
    name = os.path.basename(os.path.realpath(f"/sys/dev/block/{number}"))
    listed.update(galaxy_host_sysfs.read(f"/proc/fs/ext4/{name}/options").splitlines())
    return listed


def _is_in_effect(option: str, effective: set[str]) -> bool:
    if _UNLISTED.fullmatch(option) or option in effective:
        return True
    if option in _OPPOSITES:
        return _OPPOSITES[option] not in effective
    name, _, value = option.partition("=")
    return value in ("0", "1") and (name if value == "1" else f"no{name}") in effective


def _needs_recovery(path: str) -> bool:
    """Whether a filesystem of the ext family has a journal to replay; a flag in its superblock tells it."""
    with luks_device.errors_of(path, "cannot be read", FilesystemError), open(path, "rb") as file:
        file.seek(_INCOMPATIBLE)
        return bool(file.read(1)[0] & _RECOVER)


def _said(exc: CommandError) -> str:
    return "; ".join(line.strip() for line in exc.stderr.splitlines() if line.strip()) or str(exc)


def _advice(path: str, fstype: str = "ext4") -> str:
    name = os.path.basename(path)
    repair = {"xfs": f"xfs_repair {path}", "btrfs": f"btrfs check {path}"}.get(fstype, f"e2fsck -f {path}")
    more = " (`-b 32768`, or `-b 8193` on a small one, if its superblock is damaged)" if is_ext(fstype) else ""
    return f"Open it by hand and repair it: `salt-call luks.open DEVICE {name} key=KEY`, then `{repair}`{more}"


@contextlib.contextmanager
def _mounted_readonly(path: str, fstype: str, *options: str) -> Iterator[str]:
    with luks_device.errors_of("/run", "nothing can be mounted there", MountPointError):
        root = tempfile.mkdtemp(prefix=_LOOK, dir="/run")
    try:
        chosen = ",".join(["ro,nodev,nosuid,noexec", *options])
        galaxy_host_command.run(["mount", "-t", fstype, "-o", chosen, path, root], timeout=_TIMEOUT)
        try:
            yield root
        finally:
            unmount(root)
    finally:
        os.rmdir(root)
