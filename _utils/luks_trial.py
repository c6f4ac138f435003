"""
Try on scratch files, in memory, what a run would do to a device, so that a wrong option is noticed before anything is
changed.
"""

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence

import galaxy_host_command
import galaxy_host_lock
import galaxy_host_sysfs
import luks_device
import luks_header
from galaxy_errors import CommandError, FilesystemError, HeaderError
from galaxy_host_secret import Secret

log = logging.getLogger(__name__)

# a tmpfs: no backup takes what is tried there, and the next boot removes it
_DIRECTORY, _PREFIX = "/run", "luks-trial-"
_TIMEOUT = 600
# for each mkfs: the option to only say what it would do. The smallest filesystems are below
_DRY = {"ext4": ["-n"], "ext3": ["-n"], "ext2": ["-n"], "xfs": ["-N"], "btrfs": []}
_SMALLEST = {"ext4": 8 << 20, "ext3": 8 << 20, "ext2": 8 << 20, "xfs": 320 << 20, "btrfs": 128 << 20}
_PAYLOAD = 4 << 20


@contextlib.contextmanager
def header_copy(device: luks_device.Device | str) -> Iterator[str]:
    """A file with the same LUKS header and key slots."""
    with _scratch() as directory:
        backup, image = os.path.join(directory, "backup"), os.path.join(directory, "image")
        for action, path in (("luksHeaderBackup", str(device)), ("luksHeaderRestore", image)):
            if path == image:
                _sparse(image, os.path.getsize(backup) + _PAYLOAD)
            argv = ["cryptsetup", action, "--batch-mode", path, f"--header-backup-file={backup}"]
            galaxy_host_command.run(argv, timeout=_TIMEOUT)
        yield image


def require_formattable(device: luks_device.Device, options: luks_header.Options) -> int:
    """Bytes for data that such a volume would have. Raises ``HeaderError`` if cryptsetup cannot make it."""
    luks_header.require_size(device, options)
    with _scratch() as directory:
        image = os.path.join(directory, "image")
        _sparse(image, device.size)
        try:
            luks_header.format_cheaply(image, Secret(b"a key for a trial"), options)
        except CommandError as exc:
            said = exc.stderr.replace("\n", "; ") or str(exc)
            raise HeaderError(device, f"cryptsetup cannot make such a volume: {said}. Nothing was changed") from None
        return device.size - luks_header.data_offset(image)


def require_mkfs(argv: Sequence[str], fstype: str, options: Sequence[str], size: int) -> None:
    """Raises ``FilesystemError`` if ``mkfs`` refuses these options, or so small a device."""
    with _scratch() as directory:
        image = os.path.join(directory, "image")
        _sparse(image, size)
        _make([*argv, *_DRY[fstype], *options, image], fstype)


def require_mount(argv: Sequence[str], fstype: str, options: Sequence[str]) -> None:
    """Raises ``FilesystemError`` if the kernel refuses these mount options."""
    options = [each for each in options if each]
    if not options:
        return
    with _scratch() as directory:
        image, target = os.path.join(directory, "image"), os.path.join(directory, "mnt")
        _sparse(image, _SMALLEST[fstype])
        _make([*argv, image], fstype)
        os.mkdir(target)
        # in a mount namespace of its own: even if it is killed, it leaves no mount and no loop device
        argv = ["unshare", "--mount", "mount", "-t", fstype, "-o", ",".join(["loop", *options]), image, target]
        try:
            galaxy_host_command.run(argv, timeout=_TIMEOUT)
        except CommandError as exc:
            if "loop device" in exc.stderr:
                log.info("the mount options are not tried: no loop device on this machine")
                return
            said = exc.stderr.replace(image, "…").replace("\n", "; ") or str(exc)
            raise FilesystemError(
                fstype, f"mount refuses the options {','.join(options)}: {said}. Nothing was changed"
            ) from None


def _make(argv: list[str], fstype: str) -> None:
    try:
        galaxy_host_command.run(argv, timeout=_TIMEOUT)
    except CommandError as exc:
        said = (exc.stderr or exc.output).strip().replace("\n", "; ")
        raise FilesystemError(fstype, f"{argv[0]} refuses: {said}. Nothing was changed") from None


def _sparse(path: str, size: int) -> None:
    with open(path, "wb") as file:
        file.truncate(size)


@contextlib.contextmanager
def _scratch() -> Iterator[str]:
    with luks_device.errors_of(_DIRECTORY, "nothing can be tried there", HeaderError):
        for name in galaxy_host_sysfs.names(_DIRECTORY):
            if name.startswith(_PREFIX):
                _remove_stale(os.path.join(_DIRECTORY, name))
        scratch = tempfile.TemporaryDirectory(prefix=_PREFIX, dir=_DIRECTORY)
        node = os.open(scratch.name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with scratch as directory:
        try:
            galaxy_host_lock.take(node)
            yield directory
        finally:
            os.close(node)


def _remove_stale(directory: str) -> None:
    """Remove what killed runs left. The directory of a live run is locked."""
    try:
        node = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        # a directory that is being made has no lock yet, and is empty
        if os.listdir(node) and galaxy_host_lock.take(node):
            log.info("%s: left by a run that was killed", directory)
            shutil.rmtree(directory, ignore_errors=True)
    finally:
        os.close(node)
