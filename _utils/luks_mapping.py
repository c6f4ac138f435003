"""
Open and close volumes. An open volume is a device-mapper mapping, through which the plain data is reached.
"""

import contextlib
import logging
import os
from collections.abc import Iterator

import galaxy_host_command
import galaxy_host_holders
import galaxy_host_lock
import galaxy_host_sysfs
import luks_device
import luks_filesystem
import luks_header
from galaxy_errors import CommandError, MapperError, VolumeBusy, WrongKey
from galaxy_host_pattern import Pattern
from galaxy_host_record import record
from galaxy_host_wait import Deadline, wait_until

log = logging.getLogger(__name__)

# the mapping for looking into a volume, before anything is decided
LOOK = "unfinished-"
_LOCKS = "/run/luks-mapper-{}.lock"
_NAME = Pattern(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,126}\Z")


@record(frozen=True)
class Mapping:
    """
    A dm-crypt mapping: its ``name`` in ``/dev/mapper``, kernel ``number`` (``major:minor``), ``uuid`` of the LUKS
    volume (without dashes, as device-mapper keeps it), and ``backing``, the number of the device that it reads (empty
    if this is gone).
    """

    name: str
    number: str
    uuid: str
    backing: str

    def __str__(self) -> str:
        return self.name

    @property
    def path(self) -> str:
        """The device on which a filesystem is made, and from which it is mounted."""
        return f"/dev/mapper/{self.name}"

    @property
    def stale(self) -> bool:
        """Whether its device is lost. What is written to it goes nowhere."""
        return not self.backing or not os.path.exists(f"/sys/dev/block/{self.backing}")

    def serves(self, device: luks_device.Device) -> bool:
        """Whether it belongs to this device."""
        return self.backing == device.number and not self.stale


def valid_name(name: str) -> bool:
    """Whether ``name`` can name a mapping in ``/dev/mapper`` without any quoting."""
    # "control" is device-mapper's own node there
    return isinstance(name, str) and bool(_NAME.match(name)) and name != "control"


@contextlib.contextmanager
def reserved(name: str) -> Iterator[None]:
    """
    Hold the mapper name, so that two runs never decide on it at once. The second run waits for the first.

    Raises ``MapperError`` if this takes longer than ``luks_device.PATIENCE`` seconds.
    """
    with luks_device.errors_of(name, "its lock cannot be taken", MapperError):
        node = os.open(_LOCKS.format(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        busy = f"{name}: another run works on it"
        if not wait_until(lambda: galaxy_host_lock.take(node), Deadline(luks_device.PATIENCE), what=busy):
            raise MapperError(name, "another run works on it; try again later")
        yield
    finally:
        os.close(node)


def all_open() -> list[Mapping]:
    """Every dm-crypt mapping of a LUKS volume on this machine."""
    nodes = [f"/sys/class/block/{name}" for name in galaxy_host_sysfs.names("/sys/class/block")]
    return [mapping for mapping in map(_mapping, nodes) if mapping]


def named(name: str) -> Mapping | None:
    """The open volume with this mapper name."""
    return next((each for each in all_open() if each.name == name), None)


def of(device: luks_device.Device) -> Mapping | None:
    """The mapping of this device."""
    return next((each for each in all_open() if each.serves(device)), None)


def require_openable(device: luks_device.Device, name: str, uuid: str) -> bool:
    """
    Whether the device (with volume ``uuid``, if any) is open as ``name`` already. ``False``: it is not, and can be.

    Raises ``MapperError`` if the name, or the device, is taken.
    """
    present = named(name)
    if present and present.stale:
        raise MapperError(
            name, "stale: its device was lost while it was open. Stop what uses it, `luks.close` it, then open it again"
        )
    if present and not present.serves(device):
        node = os.path.basename(os.path.realpath(f"/sys/dev/block/{present.backing}"))
        raise MapperError(name, f"taken: it is open for /dev/{node}, not for {device}. Nothing was changed")
    if present and uuid and uuid.replace("-", "") != present.uuid:
        raise MapperError(name, f"stale: open for volume {present.uuid}, but {device} now holds {uuid}")
    if not present and name in _names():
        raise MapperError(name, "taken by a device-mapper device that is no LUKS volume. Nothing was changed")
    other = of(device)
    if other and other.name != name:
        raise MapperError(name, f"{device} is already open, as {other.name}. Nothing was changed")
    return bool(present)


def open_volume(
    device: luks_device.Device, name: str, key: luks_header.Key, discard: bool = False, read_only: bool = False
) -> None:
    """
    Open the volume on ``device`` as ``/dev/mapper/<name>``. The caller has made sure that this is possible
    (``require_openable``).

    Raises ``MapperError``, ``WrongKey``, or ``CommandError``.
    """
    argv = ["cryptsetup", "open", "--type=luks"]
    argv += ["--allow-discards"] if discard else []
    argv += ["--readonly"] if read_only else []
    argv += [device.path, name]
    try:
        luks_header.unlock(argv, key, device)
    except WrongKey:
        if not luks_header.complete(device, key):
            raise
        luks_header.unlock(argv, key, device)
    except CommandError:
        # for a damaged header, this raises a better message
        luks_header.require(device)
        raise
    log.info("%s: opened as %s", device, name)
    mapping = named(name)
    if not mapping or not mapping.serves(device):
        raise MapperError(name, f"cryptsetup opened {device}, but no mapping of it is there")


def close_volume(name: str, test: bool = False) -> bool:
    """
    Unmount what is mounted from the volume, and close it. ``False``: it was not open. ``test`` changes nothing, and
    fails if a run would fail.

    Raises ``VolumeBusy``, with the processes that hold the volume. They are looked for before anything is unmounted.
    Nothing is killed, and no unmount is lazy or forced.
    """
    mapping = named(name)
    if not mapping:
        return False
    mounts = luks_filesystem.mounts(mapping.path)
    if test or mounts:
        _require_idle(mapping)
    if test:
        return True
    for mount in reversed(mounts):
        try:
            luks_filesystem.unmount(mount.target)
        except CommandError as exc:
            raise _busy(mapping, f"{mount.target} cannot be unmounted") or exc from None
    try:
        galaxy_host_command.run(["cryptsetup", "close", name], timeout=luks_header.TIMEOUT)
    except CommandError as exc:
        raise _busy(mapping, "the volume cannot be closed") or exc from None
    if named(name):
        raise MapperError(name, "still open after `cryptsetup close`")
    log.info("%s: closed", name)
    return True


@contextlib.contextmanager
def look(device: luks_device.Device, uuid: str, key: luks_header.Key, read_only: bool) -> Iterator[str]:
    """The path through which a closed volume can be looked into for a moment."""
    name = f"{LOOK}{uuid}"
    open_volume(device, name, key, read_only=read_only)
    try:
        yield f"/dev/mapper/{name}"
    finally:
        close_volume(name)


def close_look(device: luks_device.Device) -> None:
    """Unmount and close what is still open of a volume because a run was killed within its look."""
    mapping = of(device)
    if mapping and mapping.name.startswith(LOOK):
        log.info("%s: left open by a run that was killed", mapping)
        luks_filesystem.end_look(mapping.path)
        close_volume(mapping.name)


def holders(mapping: Mapping) -> list[galaxy_host_holders.Holder]:
    """The processes that hold the volume."""
    return galaxy_host_holders.find(mapping.number, _targets(mapping))


def _mapping(node: str) -> Mapping | None:
    # the form of dm-crypt's UUIDs: CRYPT-LUKS2-<uuid without dashes>-<name>
    kind, _, rest = galaxy_host_sysfs.read(f"{node}/dm/uuid").partition("-")
    if kind != "CRYPT" or not rest.startswith("LUKS"):
        return None
    backing = [
        galaxy_host_sysfs.read(f"{node}/slaves/{name}/dev") for name in galaxy_host_sysfs.names(f"{node}/slaves")
    ]
    name, number = galaxy_host_sysfs.read(f"{node}/dm/name"), galaxy_host_sysfs.read(f"{node}/dev")
    return Mapping(name, number, rest.split("-")[1], backing[0] if backing else "")


def _names() -> list[str]:
    """The names of all device-mapper devices, LUKS or not."""
    return [
        galaxy_host_sysfs.read(f"/sys/class/block/{node}/dm/name")
        for node in galaxy_host_sysfs.names("/sys/class/block")
    ]


def _targets(mapping: Mapping) -> list[str]:
    return [each.target for each in luks_filesystem.mounts(mapping.path)]


def _require_idle(mapping: Mapping) -> None:
    busy = _busy(mapping, "not closed, because it is in use")
    if busy:
        raise busy


def _busy(mapping: Mapping, failure: str) -> VolumeBusy | None:
    """The error that names everything that holds the volume; ``None`` if nothing is visible."""
    processes = holders(mapping)
    held = [*map(str, processes), *galaxy_host_holders.kernel_uses(mapping.number, _targets(mapping))]
    if not held:
        return None
    return VolumeBusy(mapping, f"{failure}; held by {', '.join(held)}. Stop that first", processes)
