"""
Prove that a device carries nothing, by reading it; and mark a device on which a volume is being made.

It proves nothing that libblkid finds no signature. There is none on plain dm-crypt, on a volume whose header was
erased, with a database on the raw device, or with a damaged superblock; and libblkid takes a sector that cannot be read
for one without a signature. So a device is blank only if it reads as zeros, without any error, in all places where
filesystems, volumes and tables keep something, and in samples over the whole.
"""

import logging
import mmap
import os
import random
from collections.abc import Iterator

import luks_device
from galaxy_errors import DeviceError, DeviceNotBlank

log = logging.getLogger(__name__)

_MIB = 1 << 20
# devices up to this size are read wholly
WHOLE = 512 * _MIB
# of larger devices: the beginning (tables, superblocks, LUKS headers, LVM, ZFS), the end (copies of GPT, md, ZFS), and
# STOPS places of STOP bytes in between. A disk of 100 MB/s with seeks of 5 ms reads all this, and the parts for the
# probes, within 2 s
FIRST, LAST = 32 * _MIB, 4 * _MIB
STOPS, STOP = 256, 16 << 10
# bytes read at once
_CHUNK = _MIB
# with O_DIRECT, offsets and lengths must be multiples of this, also on disks with 4 KiB sectors
_BLOCK = 4096
# as much as an interrupted luksFormat can have written: by default no LUKS version has more before the data
HEADER_AREA = 16 * _MIB
# with force, this stands for the signature
DATA = "data"
_MARK = b"galaxy: a LUKS volume is being made on this device; it holds no data\n"
# (magic, its offset from a multiple of 512, what has this magic)
_MAGICS = (
    (b"\x53\xef", 1024 + 56, "a superblock of ext2, ext3 or ext4"),
    (b"\x53\xef", 56, "a superblock of ext2, ext3 or ext4"),
    (b"XFSB", 0, "a superblock of XFS"),
    (b"_BHRfS_M", 64, "a superblock of btrfs"),
    (b"LUKS\xba\xbe", 0, "a LUKS header"),
    (b"SKUL\xba\xbe", 0, "a LUKS header"),
    (b"EFI PART", 0, "a GUID partition table"),
    (b"LABELONE", 0, "an LVM label"),
)


def places(size: int) -> list[tuple[int, int]]:
    """
    What is read of a device of ``size`` bytes: ``(offset, length)`` in ascending order.

    The samples are at random places, evenly spread. So no pattern of the data can escape every look.
    """
    if size <= WHOLE:
        return [(0, size)]
    end = size - LAST
    stops = {place for place in _superblocks(size) if FIRST <= place <= end - STOP}
    left = STOPS - len(stops)
    span = (end - FIRST) // left
    for number in range(left):
        place = FIRST + number * span + random.randrange(max(1, span - STOP))  # noqa: S311
        stops.add(place // _BLOCK * _BLOCK)
    end = end // _BLOCK * _BLOCK
    return [(0, FIRST), *((place, STOP) for place in sorted(stops)), (end, size - end)]


def require(device: luks_device.Device, force: bool = False, signature: str | None = None) -> None:
    """
    Raises ``DeviceInUse``, ``DeviceNotBlank`` or ``DeviceError`` unless the device is free and proven to be blank. A
    device that is not blank passes with ``force`` if ``signature`` is the type or UUID of a signature that it carries,
    or ``data`` if it carries data without a signature.
    """
    luks_device.require_free(device)
    signatures = luks_device.signatures(device)
    if signatures:
        if force and signature and any(signature in (each.type, each.uuid) for each in signatures):
            log.info("%s is formatted over by force: it carries %s", device, ", ".join(map(str, signatures)))
            return
        carries = f"it carries {', '.join(dict.fromkeys(map(str, signatures)))}"
        advice = "repeat its current type or UUID as `signature`" if force else "its data would be lost"
        raise DeviceNotBlank(device, f"not formatted, because {carries}; {advice}. Nothing was changed", signatures)
    if force and signature == DATA:
        log.info("%s is formatted by force, whatever it holds", device)
        return
    data = first_data(device)
    if data:
        raise DeviceNotBlank(
            device,
            f"not formatted, because it carries {data[1]}, first at byte {data[0]}. If that is not needed, erase it "
            f"(`blkdiscard {device}`, or `dd if=/dev/zero of={device}`), or give `luks.format` `force=True` with "
            f"`signature={DATA}`. Nothing was changed",
            (),
        )


def first_data(device: luks_device.Device, start: int = 0) -> tuple[int, str] | None:
    """
    The first byte from ``start`` on that does not read as zero, among those that are looked at: its offset, and to what
    it belongs. ``None`` if all are zero. Our own mark counts as zero.

    Raises ``DeviceError`` if a place cannot be read, because nothing is then known of it.
    """
    size = device.size
    reads = 0
    with luks_device.errors_of(device, "cannot be opened"):
        node = os.open(device.path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    try:
        for place, length in places(size):
            for offset, data in _read(device, node, max(place, start), place + length):
                reads += 1
                at = _last(device) - offset
                if at >= 0 and _marked(data[at:]):
                    data = data[:at] + bytes(len(_MARK)) + data[at + len(_MARK) :]
                used = len(data) - len(data.lstrip(b"\0"))
                if used < len(data):
                    log.info("%s is not blank: data at byte %d", device, offset + used)
                    return offset + used, _kind(data, used)
    finally:
        os.close(node)
    log.info("%s reads as zeros: %d reads of %d bytes", device, reads, size)
    return None


def mark(device: luks_device.Device) -> None:
    """
    Write on the device itself, in its last block, that a volume is being made, before anything else is written to it.
    The mark is on the medium when this returns. ``cryptsetup luksFormat`` does not touch this block.
    """
    log.info("%s: marked as a volume in the making", device)
    _write_last(device, _MARK.ljust(_BLOCK, b"\0"))
    if not is_marked(device):
        raise DeviceError(device, "what was written to its last block does not read the same. Nothing else was changed")


def unmark(device: luks_device.Device) -> None:
    """Remove the mark; from now on the header tells the state. Anything that is not our mark is left as it is."""
    if is_marked(device):
        _write_last(device, bytes(_BLOCK))


def is_marked(device: luks_device.Device) -> bool:
    """Whether the device has the mark."""
    with luks_device.errors_of(device, "cannot be read"), open(device.path, "rb") as file:
        file.seek(_last(device))
        return _marked(file.read(_BLOCK))


def _superblocks(size: int) -> Iterator[int]:
    """Where there are copies of superblocks, other than at the beginning and the end."""
    # copies of the superblock of ext2 to ext4 ("sparse_super"): in groups 1 and the powers of 3, 5, 7. A group has 8 *
    # block size blocks
    for block in (1024, 2048, 4096):
        group = 8 * block * block
        yield group
        for base in (3, 5, 7):
            number = base
            while number * group < size:
                yield number * group
                number *= base
    # btrfs: mirrors of the superblock; Ceph's BlueStore: copies of its label
    yield from (64 * _MIB, 256 << 30, 1 << 30, 10 << 30, 100 << 30, 1000 << 30)
    # XFS: four allocation groups of at most 1 TiB. Some mkfs round the size down, some up
    group = min(-(-size // 4 // _BLOCK) * _BLOCK, 1 << 40)
    yield from (number * group - 3 * _BLOCK for number in range(1, 4))


def _read(device: luks_device.Device, node: int, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    # O_DIRECT reads from the disk, not from a cache. It needs aligned buffers, as mmap's are
    buffer = mmap.mmap(-1, _CHUNK)
    view = memoryview(buffer)
    try:
        while start < end:
            length = min(_CHUNK, end - start)
            try:
                count = os.preadv(node, [view[:length]], start)
            except OSError as exc:
                raise DeviceError(
                    device,
                    f"cannot be read at byte {start}: {exc.strerror}; so it is not proven blank. See the kernel's log, "
                    "and replace the disk or its cable. Nothing was changed",
                ) from None
            if not count:
                raise DeviceError(device, f"ends at byte {start}, before its size. Nothing was changed")
            yield start, bytes(view[:count])
            start += count
    finally:
        view.release()
        buffer.close()


def _kind(data: bytes, used: int) -> str:
    for magic, at, name in _MAGICS:
        start = used // 512 * 512
        for base in (start, start - 1024):
            if base >= 0 and data[base + at : base + at + len(magic)] == magic:
                return name
    return "data of no known kind"


def _last(device: luks_device.Device) -> int:
    return (device.size - _BLOCK) // _BLOCK * _BLOCK


def _marked(block: bytes) -> bool:
    return block.startswith(_MARK)


def _write_last(device: luks_device.Device, block: bytes) -> None:
    with luks_device.errors_of(device, "cannot be written"), open(device.path, "r+b", buffering=0) as file:
        file.seek(_last(device))
        file.write(block)
        os.fsync(file.fileno())
