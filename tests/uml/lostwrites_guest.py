"""
The guest's side of the lost writes: ``lostwrites_guest.py JOB``, a JSON object of

``operation, version, files, images, seed``
    what is done, with which volume, and how many crash images are made
``without``
    a function of the product (``module.function``), or a flush (``flushes.py``), that does nothing: this shows whether
    it is needed

The volume, and an ext4 for its header backups, are side by side on /dev/ubdb. During the operation, dm-log-writes logs
every write and flush to /dev/ubdc. Crash images are made from this log: all that was flushed before a moment, and any
part of the later writes, whole or torn. The product runs on each image, and ``story.py`` has what must hold. Prints
the number of writes, and what the boots said, as JSON.
"""

import collections
import contextlib
import importlib
import json
import os
import pathlib
import random
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "_utils"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import flushes
import story
from story import MIB, sh
from support import log_writes
from support.log_writes import SECTOR

DISK, LOG, BASE = "/dev/ubdb", "/dev/ubdc", "/run/share/base"
VOLUME, BACKUPS = "volume", "backups"
VOLUME_SIZE, BACKUPS_SIZE = 40 * MIB, 120 * MIB
SIZE = VOLUME_SIZE + BACKUPS_SIZE
# a header is written sector by sector; filesystems protect what they write, block by block
HEADER, BLOCK = 16 * MIB, 4096


def tables(lower):
    """The two devices on top of ``lower``, as tables for dmsetup."""
    volume = f"0 {VOLUME_SIZE // SECTOR} linear {lower} 0"
    return {VOLUME: volume, BACKUPS: f"0 {BACKUPS_SIZE // SECTOR} linear {lower} {VOLUME_SIZE // SECTOR}"}


def set_up():
    for name, table in tables(DISK).items():
        sh("dmsetup", "create", name, input=table)
    # without udev, dmsetup must make the nodes
    sh("dmsetup", "mknodes")


def mount_backups():
    os.makedirs(story.BACKUPS, exist_ok=True)
    sh("mount", f"/dev/mapper/{BACKUPS}", story.BACKUPS)


def tear_down(volume):
    volume.close()
    sh("umount", story.BACKUPS, check=False)
    for name in (VOLUME, BACKUPS):
        sh("dmsetup", "remove", "--retry", name)
        pathlib.Path("/dev/mapper", name).unlink(missing_ok=True)


def log_operation(act, volume):
    """Run the operation and log its writes. The disk's content before it is copied to ``BASE``."""
    names = (BACKUPS, VOLUME)
    for name in names:
        sh("dmsetup", "suspend", name)
    copy(DISK, BASE)
    sh("dmsetup", "create", "logged", input=f"0 {SIZE // SECTOR} log-writes {DISK} {LOG}")
    sh("dmsetup", "mknodes")
    for name in names:
        sh("dmsetup", "load", name, input=tables("/dev/mapper/logged")[name])
    for name in reversed(names):
        sh("dmsetup", "resume", name)
    act(volume)
    log_writes.mark("logged")
    tear_down(volume)
    sh("dmsetup", "remove", "--retry", "logged")
    pathlib.Path("/dev/mapper/logged").unlink(missing_ok=True)


def copy(source, target):
    with open(source, "rb") as read, open(target, "r+b" if os.path.exists(target) else "w+b") as write:
        zeros = bytes(MIB)
        for at in range(0, SIZE, MIB):
            data = read.read(MIB)
            write.seek(at)
            if data == zeros and not target.startswith("/dev/"):
                write.truncate(at + MIB)
            else:
                write.write(data)
        write.flush()
        os.fsync(write.fileno())


def crash(entries, source, done):
    """
    The writes that a power cut at a random moment leaves, as (offset, data). With ``done``, the power is cut right
    after the operation, which leaves all that was flushed.
    """
    flushes = [0] + [number for number, entry in enumerate(entries) if entry.flags & log_writes.FLUSH]
    bounds = [*flushes, len(entries)]
    epoch = len(bounds) - 2 if done else source.randrange(len(bounds) - 1)
    # a flush completes the logged writes before it, so all writes before the last flush are on the medium
    kept = [(entry.at, entry.data or bytes(entry.size)) for entry in entries[: bounds[epoch]]]
    cut = bounds[-1] if done else source.randint(bounds[epoch], bounds[epoch + 1])
    chance = 0 if done else source.choice((0, 0.1, 0.5, 0.9, 1))
    for entry in entries[bounds[epoch] : cut]:
        if entry.flags & log_writes.FUA:
            kept.append((entry.at, entry.data or bytes(entry.size)))
        elif source.random() < chance:
            kept += torn(entry, source) if source.random() < 0.3 else [(entry.at, entry.data or bytes(entry.size))]
    return kept


def torn(entry, source):
    step = SECTOR if entry.at + entry.size <= HEADER else BLOCK
    pieces = [(entry.at + at, entry.data[at : at + step]) for at in range(0, len(entry.data), step)]
    return [piece for piece in pieces if source.random() < 0.5]


def make_image(writes):
    copy(BASE, DISK)
    with open(DISK, "r+b") as disk:
        for at, data in writes:
            disk.seek(at)
            disk.write(data)
        disk.flush()
        os.fsync(disk.fileno())


@contextlib.contextmanager
def without(name):
    if not name or ":" in name:
        with flushes.without(name) if name else contextlib.nullcontext():
            yield
        return
    module, function = name.split(".")
    found = importlib.import_module(module)
    kept = getattr(found, function)
    setattr(found, function, lambda *args: None)
    yield
    setattr(found, function, kept)


def main():
    job = json.loads(sys.argv[1])
    source = random.Random(job["seed"])
    volume = story.Volume(f"/dev/mapper/{VOLUME}", job["version"], job["files"])
    set_up()
    sh("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", f"/dev/mapper/{BACKUPS}")
    mount_backups()
    prepare, act, *_ = story.OPERATIONS[job["operation"]]
    getattr(volume, prepare)()
    sh("sync")
    with without(job["without"]):
        log_operation(act, volume)
    entries = log_writes.read(LOG)
    assert entries, "nothing was written"
    boots = collections.Counter()
    for number in range(job["images"]):
        # in every fourth image the operation is over, so what it promised must be there
        done = number % 4 == 3
        make_image(crash(entries, source, done))
        set_up()
        mount_backups()
        try:
            boots["+".join(volume.check(job["operation"], done)) or "(nothing left)"] += 1
        except BaseException:
            print(f"image {number} of {job}, {len(entries)} writes{', it was over' * done}", file=sys.stderr)
            raise
        tear_down(volume)
    print(json.dumps({"writes": len(entries), "boots": boots}))


main()
