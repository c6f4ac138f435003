"""
The writes to a block device in their order, as the kernel's dm-log-writes logs them.
"""

import collections
import struct
import subprocess

SECTOR = 512
# from drivers/md/dm-log-writes.c
_MAGIC = 0x6A736677736872
FLUSH, FUA, _DISCARD, _MARK = 1, 2, 4, 8

Entry = collections.namedtuple("Entry", "at size flags data")


def mark(name: str) -> None:
    """Write the mark that ends the log, for the device-mapper device ``name``."""
    subprocess.run(["dmsetup", "message", name, "0", "mark", "end"], check=True)


def read(path: str) -> list[Entry]:
    """The logged writes up to the mark. ``at`` and ``size`` are in bytes; a discard has no data."""
    entries = []
    with open(path, "rb") as log:
        magic, _, count, size = struct.unpack("<QQQI", log.read(28))
        assert (magic, size) == (_MAGIC, SECTOR), "no log of dm-log-writes"
        log.seek(SECTOR)
        for _ in range(count):
            at, sectors, flags, _ = struct.unpack("<QQQQ", log.read(SECTOR)[:32])
            if flags & _MARK:
                break
            data = b"" if flags & _DISCARD else log.read(sectors * SECTOR)
            entries.append(Entry(at * SECTOR, sectors * SECTOR, flags, data))
    return entries
