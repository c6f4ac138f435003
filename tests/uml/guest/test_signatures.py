"""
Devices with content of every kind, known to libblkid or not. None is formatted, and not one byte changes.
"""

import hashlib
import os
import random
import struct
import subprocess
import zlib

import pytest
from conftest import BACKUPS, CHEAP, sh

from galaxy_errors import DeviceNotBlank, VolumeError

MIB = 1 << 20
SIZE = 48 * MIB
RANDOM = random.Random(4711)


def write(device, *pieces):
    """Write each (offset, data). A negative offset counts from the end."""
    with open(device, "r+b") as file:
        for offset, data in pieces:
            file.seek(offset, os.SEEK_END if offset < 0 else os.SEEK_SET)
            file.write(data)


def mkfs(*argv, then=()):
    def make(device):
        sh(*argv, device)
        write(device, *then)

    return make


def files(*argv, then=()):
    """A function that makes a filesystem with files on it."""

    def make(device):
        sh(*argv, "-d", "/etc/salt" if os.path.isdir("/etc/salt") else os.path.dirname(__file__), device)
        write(device, *then)

    return make


def put(*pieces):
    return lambda device: write(device, *pieces)


def luks(version, then=(), options=()):
    """A function that makes somebody's volume, with ciphertext on it."""

    def make(device):
        argv = ["cryptsetup", "luksFormat", "-q", f"--type=luks{version}", "--pbkdf=pbkdf2"]
        argv += ["--pbkdf-force-iterations=1000", "--key-file=-", *options, device]
        sh(*argv, input="theirs")
        write(device, (20 * MIB, RANDOM.randbytes(MIB)), *then)

    return make


def gpt(device, primary=True, backup=True, entries=b""):
    sectors = SIZE // 512
    table = entries.ljust(128 * 128, b"\0")

    def header(at, other, first):
        fields = struct.pack(
            "<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, at, other, 34, sectors - 34, os.urandom(16), first,
            128, 128, zlib.crc32(table),
        )  # fmt: skip
        return fields[:16] + struct.pack("<I", zlib.crc32(fields)) + fields[20:]

    if primary:
        write(device, (512, header(1, sectors - 1, 2)), (1024, table))
        write(device, (446, bytes([0, 0, 2, 0, 0xEE, 255, 255, 255]) + struct.pack("<II", 1, sectors - 1)))
        write(device, (510, b"\x55\xaa"))
    if backup:
        write(device, (-512 - len(table), table), (-512, header(sectors - 1, 1, sectors - 33)))


def mbr(device, code=b""):
    entry = bytes([0, 0, 0, 0, 0x83, 0, 0, 0]) + struct.pack("<II", 2048, 4096)
    write(device, (0, code.ljust(446, b"\0") + entry + bytes(48) + b"\x55\xaa"))


def raid(sector):
    """A superblock of version 1, md(4): magic number, version, place, and a checksum of all of it."""
    block = bytearray(256)
    block[0:8] = struct.pack("<II", 0xA92B4EFC, 1)
    block[144:152] = struct.pack("<Q", sector)
    total = sum(struct.unpack("<64I", block))
    block[216:220] = struct.pack("<I", (total & 0xFFFFFFFF) + (total >> 32))
    return bytes(block)


def lvm():
    uuid = b"abcdefghijklmnopqrstuvwxyz012345"
    header = struct.pack("<I8s32sQ", 32, b"LVM2 001", uuid, SIZE)
    checksum = 0xF597A6CF
    for byte in (header + bytes(512 - 20 - len(header)))[:492]:
        checksum ^= byte
        for _ in range(8):
            checksum = (checksum >> 1) ^ (0xEDB88320 if checksum & 1 else 0)
    return b"LABELONE" + struct.pack("<QI", 1, checksum) + header


ZFS = struct.pack("<QQQQQ", 0x00BAB10C, 5000, 1, 1, 1).ljust(1024, b"\0") * 8
ISO = b"\1CD001\1\0".ljust(2048, b"\0") + b"\xffCD001\1".ljust(2048, b"\0")
ERASED = bytes(4 * MIB)
CARRIED = {
    "ext4": files("mkfs.ext4", "-q", "-F"),
    "ext3": mkfs("mkfs.ext3", "-q", "-F"),
    "ext2": mkfs("mkfs.ext2", "-q", "-F"),
    "xfs": lambda device: sh("mkfs.xfs", "-q", "-f", device),
    "btrfs": lambda device: sh("mkfs.btrfs", "-q", "-f", "--mixed", device),
    "swap": mkfs("mkswap"),
    "GPT, empty": lambda device: gpt(device),
    "GPT, with a partition": lambda device: gpt(device, entries=os.urandom(128)),
    "GPT, its copy only": lambda device: gpt(device, primary=False),
    "GPT, without its copy": lambda device: gpt(device, backup=False),
    "MBR": lambda device: mbr(device),
    "MBR, boot code": lambda device: mbr(device, b"\xeb\x63\x90boot"),
    "LVM": put((512, lvm())),
    "md 1.0": put((-8192, raid(SIZE // 512 - 16))),
    "md 1.1": put((0, raid(0))),
    "md 1.2": put((4096, raid(8))),
    "ZFS": put((128 << 10, ZFS), (384 << 10, ZFS), (-(128 << 10), ZFS), (-(384 << 10), ZFS)),
    "ZFS, its end only": put((-(128 << 10), ZFS), (-(384 << 10), ZFS)),
    "ISO 9660": put((32768, ISO)),
    "vfat": put(
        (0, b"\xeb\x3c\x90MSDOS5.0\0\2\1\1\0\2\xe0\0\0\0\xf8\x20\0".ljust(54, b"\0") + b"FAT16   "), (510, b"\x55\xaa")
    ),
    "exFAT": put((0, b"\xeb\x76\x90EXFAT   "), (510, b"\x55\xaa")),
    "BitLocker": put((0, b"\xeb\x58\x90-FVE-FS-"), (510, b"\x55\xaa")),
    "BlueStore": put((0, b"bluestore block device\nabcd\n")),
    "LUKS1": luks(1),
    "LUKS2": luks(2),
    "LUKS1, its header erased": luks(1, [(0, ERASED)]),
    "LUKS2, its header erased": luks(2, [(0, bytes(17 * MIB))]),
    "LUKS2, both copies erased": luks(2, [(0, bytes(32768))]),
    "LUKS2, its first sector erased": luks(2, [(0, bytes(4096))]),
    "ext4, its superblock erased": files("mkfs.ext4", "-q", "-F", then=[(1024, bytes(1024))]),
    "ext4, its magic damaged": files("mkfs.ext4", "-q", "-F", then=[(1024 + 56, bytes(2))]),
    "ext4, its first MiB erased": files("mkfs.ext4", "-q", "-F", then=[(0, bytes(MIB))]),
    "ext4 of 1 KiB blocks, its superblock erased": files(
        "mkfs.ext4", "-q", "-F", "-b", "1024", then=[(1024, bytes(1024))]
    ),
    "XFS, its first sector erased": lambda device: (sh("mkfs.xfs", "-q", "-f", device), write(device, (0, bytes(512)))),
    "btrfs, its first superblock erased": lambda device: (
        sh("mkfs.btrfs", "-q", "-f", "--mixed", device),
        write(device, (65536, bytes(4096))),
    ),
    "plain dm-crypt": lambda device: write(device, *((MIB * at, RANDOM.randbytes(MIB)) for at in range(48))),
    "LUKS with a detached header": put((0, RANDOM.randbytes(2 * MIB))),
    "a database on the raw device": put((8192, b"\0\x82\0\0" + RANDOM.randbytes(8188))),
    "an ASM disk": put((32, b"ORCLDISK"), (4096, RANDOM.randbytes(4096))),
    "a tar": lambda device: subprocess.run(["tar", "-cf", device, "-C", "/etc", "passwd"], check=True),
    "text": put((0, b"the only copy of the results\n")),
    "one byte": put((12_345_678, b"\1")),
    "one byte in the last sector": put((-1, b"\1")),
    "a MiB of garbage": put((10 * MIB, RANDOM.randbytes(MIB))),
    "data in the last MiB": put((-MIB, RANDOM.randbytes(MIB))),
    "4 MiB far behind": put((36 * MIB, RANDOM.randbytes(4 * MIB))),
    "a log that begins with zeros": put((4096, b"log")),
    "a mark of ours that is not whole": put((-4096, b"galaxy: a LUKS volume")),
    "our mark, and data": put(
        (-4096, b"galaxy: a LUKS volume is being made on this device; it holds no data\n"), (30 * MIB, b"data")
    ),
}
# kinds that need a larger device, and its size
LARGE = {
    "xfs": "320M",
    "XFS, its first sector erased": "320M",
    "btrfs": "128M",
    "btrfs, its first superblock erased": "128M",
}


def test_there_are_enough_of_them():
    assert len(CARRIED) >= 42


# when cryptsetup reads such a header, it repairs the first copy from the second
REPAIRED = {"LUKS2, its first sector erased"}
# these are LUKS volumes already, so `luks.formatted` would only make a header backup
VOLUMES = {"LUKS1", "LUKS2", *REPAIRED}


def digest(kind, device):
    with open(device, "rb") as file:
        file.seek(32768 if kind in REPAIRED else 0)
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.fixture
def carrying(new_device):
    def make(kind):
        device = new_device(LARGE.get(kind, str(SIZE)))
        CARRIED[kind](device)
        sh("sync")
        return device, digest(kind, device)

    return make


@pytest.mark.parametrize("kind", CARRIED)
def test_it_is_refused_and_not_one_byte_changes(call, carrying, key, mount_point, kind):
    device, before = carrying(kind)
    with pytest.raises(VolumeError, match=device):
        call("luks.encrypt", device, "galaxy", mount_point, key=key, backups=BACKUPS, **CHEAP)
    sh("sync")
    assert digest(kind, device) == before


def some(kinds, number):
    """Every so many kinds one, and the others in slow tests."""
    return [each if not at % number else pytest.param(each, marks=pytest.mark.slow) for at, each in enumerate(kinds)]


@pytest.mark.parametrize("kind", some([kind for kind in CARRIED if kind not in VOLUMES], 8))
def test_luks_format_refuses_it_too(call, carrying, key, kind):
    device, before = carrying(kind)
    with pytest.raises(VolumeError, match=device):
        call("luks.format", device, key=key, backups=BACKUPS, **CHEAP)
    sh("sync")
    assert digest(kind, device) == before


@pytest.mark.parametrize("kind", some(list(CARRIED)[::4], 5))
def test_the_states_refuse_it_before_and_in_the_run(state, carrying, key, mount_point, kind):
    device, before = carrying(kind)
    wanted = {"device": device, "mapper": "galaxy", "key": key, "backups": BACKUPS, **CHEAP}
    for test in (True, False):
        result = state("luks.mounted", mount_point, test=test, encrypt=True, **wanted)
        assert (result["result"], result["changes"]) == (False, {}), result
        assert device in result["comment"]
        if kind not in VOLUMES:
            result = state("luks.formatted", device, test=test, key=key, backups=BACKUPS, **CHEAP)
            assert (result["result"], result["changes"]) == (False, {}), result
    insisting = state("luks.formatted", device, key=key, backups=BACKUPS, force=True, signature="data", **CHEAP)
    assert insisting["result"] is False
    assert "No state formats over data" in insisting["comment"]
    sh("sync")
    assert digest(kind, device) == before


def test_force_repeats_that_it_is_data(call, carrying, key):
    device, before = carrying("text")
    for signature in (None, "ext4", "text"):
        with pytest.raises(DeviceNotBlank, match="no known kind"):
            call("luks.format", device, key=key, force=True, signature=signature, backups=BACKUPS, **CHEAP)
    assert digest("text", device) == before
    assert call("luks.format", device, key=key, force=True, signature="data", backups=BACKUPS, **CHEAP)["uuid"]


def bad_block(device, offset, name="bad"):
    """The device with one block that cannot be read."""
    sectors, at = int(sh("blockdev", "--getsz", device)), offset // 512
    table = f"0 {at} linear {device} 0\n{at} 8 error\n{at + 8} {sectors - at - 8} linear {device} {at + 8}\n"
    sh("dmsetup", "create", name, input=table)
    # without udev, dmsetup must make the nodes
    sh("dmsetup", "mknodes")
    return f"/dev/mapper/{name}"


@pytest.mark.parametrize(
    ("kind", "offset"), [("ext4", 4096), ("ext4", SIZE - 65536), ("blank", 65536), ("blank", 20 * MIB)]
)
def test_a_block_that_cannot_be_read_proves_nothing(call, new_device, key, mount_point, kind, offset):
    """wipefs then says "no signature", and succeeds."""
    device = new_device(str(SIZE))
    if kind == "ext4":
        CARRIED[kind](device)
    before = digest(kind, device)
    bad = bad_block(device, offset)
    with pytest.raises(VolumeError, match=r"cannot be read at byte|carries (ext4|a superblock of ext)"):
        call("luks.format", bad, key=key, backups=BACKUPS, **CHEAP)
    assert digest(kind, device) == before


def test_a_backup_of_a_volume_that_is_nowhere_refuses(call, new_device, key, mount_point):
    """The header may have been erased from this very device. The other attached device has a backup of its own."""
    lost, other = new_device(), new_device()
    backup = call("luks.format", lost, key=key, backups=BACKUPS, **CHEAP)["header_backup"]
    call("luks.format", other, key=key, backups=BACKUPS, **CHEAP)
    write(lost, (0, bytes(48 * MIB)))
    for _ in range(2):
        with pytest.raises(DeviceNotBlank, match=f"{backup} is the header backup.*luks.header_restore {lost} {backup}"):
            call("luks.encrypt", lost, "galaxy", mount_point, key=key, backups=BACKUPS, **CHEAP)
    # saying that the ciphertext is only data does not help
    write(lost, (20 * MIB, b"ciphertext"))
    insisting = {"force": True, "signature": "data"}
    with pytest.raises(DeviceNotBlank, match=f"{backup} is the header backup"):
        call("luks.format", lost, key=key, backups=BACKUPS, **insisting, **CHEAP)
    write(lost, (20 * MIB, bytes(10)))
    os.unlink(backup)
    assert call("luks.encrypt", lost, "galaxy", mount_point, key=key, backups=BACKUPS, **CHEAP)[0] == "format"
