"""Where a device is read before it is taken for blank, and how long this takes."""

import itertools
import os
import subprocess

import pytest

import luks_blank
import luks_device
from galaxy_errors import DeviceError

MIB, GIB, TB = 1 << 20, 1 << 30, 10**12


class File(luks_device.Device):
    """A file instead of a device."""

    @property
    def size(self):
        return os.path.getsize(self.path)


@pytest.fixture
def device(tmp_path):
    """A sparse file of 2 GiB: too large to be read wholly."""
    path = tmp_path / "image"
    with open(path, "wb") as file:
        file.truncate(2 * GIB)
    return File(str(path), "0:0")


def write(device, offset, data=b"x"):
    with open(device.path, "r+b") as file:
        file.seek(offset, os.SEEK_END if offset < 0 else os.SEEK_SET)
        file.write(data)


@pytest.mark.parametrize("size", [4096, 100 * MIB, luks_blank.WHOLE])
def test_a_small_device_is_read_wholly(size):
    assert luks_blank.places(size) == [(0, size)]


@pytest.mark.parametrize("size", [GIB, 100 * GIB, TB, 20 * TB + 512])
def test_of_a_large_one_beginning_end_and_samples_of_all(size):
    places = luks_blank.places(size)
    assert places[0] == (0, 32 * MIB)
    assert places[-1][0] + places[-1][1] == size
    assert places[-1][1] >= MIB
    assert places == sorted(places)
    assert all(place % 4096 == 0 and length > 0 and place + length <= size for place, length in places)
    samples = sum(length // 4096 for _, length in places[1:-1])
    assert samples >= 1000
    # no gap is much wider than an even share
    starts = [place for place, _ in places]
    widest = max(after - before for before, after in itertools.pairwise(starts))
    assert widest <= 32 * MIB + 3 * size / 200


def reads_of(argv, path):
    """``(offset, length)`` of each read of the file by a command, in their order."""
    trace = path.with_name("trace")
    traced = ["strace", "--trace=openat,lseek,read,pread64", f"--output={trace}", *argv, str(path)]
    # blkid(8): 2 means that nothing was found
    assert subprocess.run(traced, capture_output=True, check=False).returncode in (0, 2)
    found, node, place = [], None, 0
    for line in trace.read_text().splitlines():
        call, _, result = line.rpartition(" = ")
        if call.startswith("openat(") and f'"{path}"' in call:
            node, place = result, 0
        words = call.rstrip(" )").split("(", 1)[-1].split(", ")
        if node is None or words[0] != node:
            continue
        if call.startswith("lseek("):
            place = int(result)
        elif call.startswith("read("):
            found.append((place, int(result)))
            place += int(result)
        elif call.startswith("pread64("):
            found.append((int(words[-1]), int(result)))
    assert found
    return found


def test_a_terabyte_is_proven_within_two_seconds_on_a_disk(tmp_path):
    """Calculated: 100 MB/s, and 5 ms for each seek. Both probes read the same places; the second finds a cache."""
    path = tmp_path / "terabyte"
    with open(path, "wb") as file:
        file.truncate(TB)
    probes = [reads_of(argv, path) for argv in (["wipefs", "--json"], ["blkid", "--probe", "--output", "export"])]
    assert set(probes[1]) <= set(probes[0])
    places = luks_blank.places(TB)
    assert len(places) <= luks_blank.STOPS + 2
    end, seconds = None, 0
    for place, length in [*probes[0], *places]:
        seconds += 0.005 * (place != end) + length / 100e6
        end = place + length
    assert 1 < seconds <= 2, seconds


@pytest.mark.parametrize(
    "offset",
    [
        *(8 * MIB * 3**power + 1024 for power in range(2, 9)),  # ext4, blocks of 1 KiB
        *(128 * MIB * number for number in (1, 3, 5, 7, 9, 25, 27, 49, 81, 125, 343, 2401, 3125, 6561)),  # of 4 KiB
        *(64 * MIB, 256 * GIB),  # btrfs
        *(TB // 4 // 4096 * 4096 * number for number in (1, 2, 3)),  # xfs
    ],
)
def test_copies_of_superblocks_are_looked_at(offset):
    assert any(place <= offset < place + length for place, length in luks_blank.places(TB // 4096 * 4096))


@pytest.mark.parametrize("offset", [0, 1024, 32 * MIB - 1, 64 * MIB + 64, 128 * MIB + 56, 384 * MIB, -1, -8192, -65536])
def test_one_byte_there_is_data(device, offset):
    assert luks_blank.first_data(device) is None
    write(device, offset)
    assert luks_blank.first_data(device)[0] == (offset if offset >= 0 else device.size + offset)


def test_data_of_some_size_anywhere_is_met(device):
    write(device, 1000 * MIB, b"x" * (8 * MIB))
    assert luks_blank.first_data(device) is not None


@pytest.mark.parametrize(
    ("offset", "data", "kind"),
    [
        (128 * MIB, b"\1" + bytes(55) + b"\x53\xef", "ext2, ext3 or ext4"),
        (0, b"XFSB", "XFS"),
        (64 * MIB, b"\1" * 64 + b"_BHRfS_M", "btrfs"),
        (16384, b"SKUL\xba\xbe", "LUKS"),
        (100, b"text", "no known kind"),
    ],
)
def test_what_is_there_is_named(device, offset, data, kind):
    write(device, offset, data)
    assert kind in luks_blank.first_data(device)[1]


def test_the_mark_is_on_the_medium_before_anything_else_is_written(device, monkeypatch):
    """Without this flush, all of 80 crash images were still repaired, so this test looks at the flush itself."""
    flushed, fsync = [], os.fsync

    def look(descriptor):
        flushed.append((os.readlink(f"/proc/self/fd/{descriptor}"), luks_blank.is_marked(device)))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    luks_blank.mark(device)
    assert flushed == [(device.path, True)]
    luks_blank.unmark(device)
    assert flushed[1:] == [(device.path, False)]


def test_the_mark(device):
    assert not luks_blank.is_marked(device)
    luks_blank.mark(device)
    assert luks_blank.is_marked(device)
    assert luks_blank.first_data(device) is None
    write(device, -100)
    assert luks_blank.first_data(device)[0] == device.size - 100
    write(device, -100, b"\0")
    luks_blank.unmark(device)
    assert not luks_blank.is_marked(device)
    # data that is not the mark is not removed
    write(device, -4096, b"data")
    luks_blank.unmark(device)
    assert luks_blank.first_data(device)[0] == device.size - 4096


def test_outside_of_the_header_area(device):
    write(device, luks_blank.HEADER_AREA - 1)
    assert luks_blank.first_data(device, start=luks_blank.HEADER_AREA) is None
    write(device, luks_blank.HEADER_AREA)
    assert luks_blank.first_data(device, start=luks_blank.HEADER_AREA)[0] == luks_blank.HEADER_AREA


def test_a_device_that_is_not_there():
    with pytest.raises(DeviceError, match="cannot be opened: No such file"):
        luks_blank.first_data(type("Gone", (luks_device.Device,), {"size": 4096})("/nonexistent", "0:0"))
