"""
Opened volumes: the device-mapper mapping through which the plain data of a volume is reached.
"""

import dataclasses
import os
import re
from collections.abc import Sequence

import galaxy_host_command
import galaxy_host_holders
import galaxy_host_sysfs
import luks_device
import luks_filesystem
import luks_header
from galaxy_errors import CommandError, MapperError, VolumeBusy, VolumeError
from galaxy_host_secret import Secret

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,126}\Z")


@dataclasses.dataclass(frozen=True)
class Mapping:
    """
    A dm-crypt mapping: ``name`` in ``/dev/mapper``, kernel ``number`` (``major:minor``), ``uuid`` of the LUKS volume
    (without dashes, as device-mapper keeps it), and ``backing``, the number of the device that it reads; empty when
    that is gone.
    """

    name: str
    number: str
    uuid: str
    backing: str

    def __str__(self) -> str:
        return self.name

    @property
    def path(self) -> str:
        """The device that a filesystem is made on and mounted from."""
        return f"/dev/mapper/{self.name}"

    @property
    def stale(self) -> bool:
        """Its device was lost; what is written to it goes nowhere."""
        return not self.backing or not os.path.exists(f"/sys/dev/block/{self.backing}")

    def serves(self, device: luks_device.Device) -> bool:
        """Whether it is of that device."""
        return self.backing == device.number and not self.stale


def valid_name(name: str) -> bool:
    """Whether ``name`` can name a mapping in ``/dev/mapper`` without quoting of any kind."""
    return isinstance(name, str) and bool(_NAME.match(name))


def all_open() -> list[Mapping]:
    """Every dm-crypt mapping of a LUKS volume on this machine."""
    nodes = [f"/sys/class/block/{name}" for name in galaxy_host_sysfs.names("/sys/class/block")]
    return [mapping for mapping in map(_mapping, nodes) if mapping]


def named(name: str) -> Mapping | None:
    """The open volume of that mapper name."""
    return next((each for each in all_open() if each.name == name), None)


def of(device: luks_device.Device) -> Mapping | None:
    """The mapping that serves the device."""
    return next((each for each in all_open() if each.serves(device)), None)


def require_openable(device: luks_device.Device, name: str, uuid: str) -> bool:
    """
    Whether the device, with volume ``uuid`` if any, is open as ``name`` already; ``False``: it is not, and can be.

    Raises ``MapperError`` when the name, or the device, is taken.
    """
    present = named(name)
    if present and present.stale:
        raise MapperError(
            name, "stale: its device was lost while it was open. Stop what uses it, `luks.close` it, then open it again"
        )
    if present and not present.serves(device):
        other = os.path.basename(os.path.realpath(f"/sys/dev/block/{present.backing}"))
        raise MapperError(name, f"taken: it is open for /dev/{other}, not for {device}. Nothing was changed")
    if present and uuid and uuid.replace("-", "") != present.uuid:
        raise MapperError(name, f"stale: open for volume {present.uuid}, but {device} now holds {uuid}")
    if not present and name in _names():
        raise MapperError(name, "taken by a device-mapper device that is no LUKS volume. Nothing was changed")
    other = of(device)
    if other and other.name != name:
        raise MapperError(name, f"{device} is already open, as {other.name}. Nothing was changed")
    return bool(present)


def open_volume(device: luks_device.Device, name: str, key: Secret, discard: bool = False) -> None:
    """
    Open the volume on ``device`` as ``/dev/mapper/<name>``; the caller has made sure that it can be
    (``require_openable``).

    Raises ``MapperError``, ``WrongKey``, or ``CommandError``.
    """
    argv = ["cryptsetup", "open", "--type=luks", "--key-file=-"]
    argv += ["--allow-discards"] if discard else []
    try:
        luks_header.unlock([*argv, device.path, name], key, device)
    except CommandError:
        # a header that is damaged has a better message
        luks_header.require(device)
        raise
    mapping = named(name)
    if not mapping or not mapping.serves(device):
        raise MapperError(name, f"cryptsetup opened {device}, but no mapping of it is there")


def open_mounted(
    device: luks_device.Device,
    name: str,
    key: Secret | None,
    target: str,
    options: Sequence[str] = (),
    fstype: str | None = None,
    discard: bool = False,
) -> None:
    """
    Open the volume unless it is open (then without ``key``), and mount its filesystem on ``target``; the caller has
    made sure that both can be. When it cannot be mounted after all, what was opened is closed again.

    Raises as ``open_volume`` and ``luks_filesystem.mount`` do.
    """
    was_open = bool(named(name))
    if not was_open:
        open_volume(device, name, key, discard)
    try:
        luks_filesystem.mount(f"/dev/mapper/{name}", target, options, fstype)
    except (VolumeError, CommandError):
        if not was_open:
            close_volume(name)
        raise


def close_volume(name: str) -> bool:
    """
    Unmount what is mounted from the volume, and close it; ``False`` when it was not open.

    Raises ``VolumeBusy``, with the processes that hold it, when they do; a filesystem that was unmounted before stays
    so. Nothing is killed, and no unmount is lazy or forced.
    """
    mapping = named(name)
    if not mapping:
        return False
    for mount in reversed(luks_filesystem.mounts(mapping.path)):
        try:
            luks_filesystem.unmount(mount.target)
        except CommandError as exc:
            raise _busy(mapping, f"{mount.target} cannot be unmounted", exc) from None
    try:
        galaxy_host_command.run(["cryptsetup", "close", name], timeout=luks_header.TIMEOUT)
    except CommandError as exc:
        raise _busy(mapping, "the volume cannot be closed", exc) from None
    if named(name):
        raise MapperError(name, "still open after `cryptsetup close`")
    return True


def resize(name: str, key: Secret | None) -> dict:
    """
    Let the open volume, and the filesystem mounted from it, use all of its device, which has grown.

    ``key`` opens it; LUKS2 asks for that again. Returns the sizes ``before`` and ``after`` in bytes. Raises
    ``MapperError`` when it is not open, or ``WrongKey``.
    """
    mapping = named(name)
    if not mapping or mapping.stale:
        raise MapperError(name, "stale: its device was lost" if mapping else "not open; open it first")
    before = _sizes(mapping)
    argv = ["cryptsetup", "resize", name]
    if key is None:
        galaxy_host_command.run(argv, timeout=luks_header.TIMEOUT)
    else:
        luks_header.unlock([*argv, "--key-file=-"], key, name)
    for mount in luks_filesystem.mounts(mapping.path)[:1]:
        luks_filesystem.grow(mount)
    return {"before": before, "after": _sizes(mapping)}


def holders(mapping: Mapping) -> list[galaxy_host_holders.Holder]:
    """The processes that hold the volume."""
    return galaxy_host_holders.find(mapping.number, [each.target for each in luks_filesystem.mounts(mapping.path)])


def _mapping(node: str) -> Mapping | None:
    # dm-crypt's own form: CRYPT-LUKS2-<uuid without dashes>-<name>
    kind, _, rest = galaxy_host_sysfs.read(f"{node}/dm/uuid").partition("-")
    if kind != "CRYPT" or not rest.startswith("LUKS"):
        return None
    backing = [
        galaxy_host_sysfs.read(f"{node}/slaves/{name}/dev") for name in galaxy_host_sysfs.names(f"{node}/slaves")
    ]
    name, number = galaxy_host_sysfs.read(f"{node}/dm/name"), galaxy_host_sysfs.read(f"{node}/dev")
    return Mapping(name, number, rest.split("-")[1], backing[0] if backing else "")


def _names() -> list[str]:
    """Of every device-mapper device, LUKS or not."""
    return [
        galaxy_host_sysfs.read(f"/sys/class/block/{node}/dm/name")
        for node in galaxy_host_sysfs.names("/sys/class/block")
    ]


def _sizes(mapping: Mapping) -> dict:
    mounts = luks_filesystem.mounts(mapping.path)
    return {
        "volume": luks_device.Device(mapping.path, mapping.number).size,
        "filesystem": luks_filesystem.size(mounts[0]) if mounts else None,
    }


def _busy(mapping: Mapping, what: str, exc: CommandError) -> Exception:
    found = holders(mapping)
    if not found:
        return exc
    return VolumeBusy(mapping, f"{what}; held by {', '.join(map(str, found))}. Stop them first", found)
