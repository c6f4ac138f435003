"""
Lost writes: what a real power cut can leave, for every operation that writes. Writes that were not flushed are lost,
reordered or torn. The product runs on each such image (``lostwrites_guest.py``).

    python tests/uml/lostwrites.py --images 200
    python tests/uml/lostwrites.py --images 20 --operations key_absent --without luks_device.sync
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import json
import pathlib
import random
import sys
import tempfile

from killtest import OPERATIONS, counted
from machine import Machine

GUEST = pathlib.Path(__file__).with_name("lostwrites_guest.py")
DISK_SIZE, LOG_SIZE = 160 << 20, 2 << 30
# this operation writes nothing that a crash could tear, or only data that the filesystem itself protects
QUIET = ("closed",)


def one(directory: pathlib.Path, operation: str, version: int, images: int, seed: int, without: str = "") -> dict:
    """So many crash images of one operation. Raises ``AssertionError`` if one does not converge."""
    directory.mkdir(parents=True)
    disks = [directory / "disk", directory / "log"]
    for image, size in zip(disks, (DISK_SIZE, LOG_SIZE), strict=True):
        with open(image, "wb") as file:
            file.truncate(size)
    job = {
        "operation": operation,
        "version": version,
        "files": seed,
        "images": images,
        "seed": seed,
        "without": without,
    }
    with Machine(directory / "share", *disks, modules=("dm-log-writes",)) as machine:
        status, output = machine.run(sys.executable, str(GUEST), json.dumps(job), timeout=3600)
    for image in (*disks, directory / "share/base"):
        image.unlink(missing_ok=True)
    if status:
        raise AssertionError(f"{job}:\n{output}")
    done = json.loads(output.splitlines()[-1])
    print(f"LUKS{version} {operation}: {images} images of {done['writes']} writes: {done['boots']}", flush=True)
    return done


def run(images: int, directory: pathlib.Path, operations=OPERATIONS, lanes=2, seed=None, without="") -> dict:
    """So many images, spread over the operations, on several machines. Returns how often the boots did or said what."""
    seed = random.SystemRandom().getrandbits(32) if seed is None else seed
    print(f"seed {seed}", flush=True)
    chosen = [operation for operation in operations if operation not in QUIET]
    boots = collections.Counter()
    with concurrent.futures.ThreadPoolExecutor(lanes) as pool:
        jobs = []
        for number, operation in enumerate(chosen):
            version = 2 if operation == "reencrypt" else 1 + (seed + number) % 2
            share = images // len(chosen) + (number < images % len(chosen))
            if share:
                where = directory / operation
                jobs.append(pool.submit(one, where, operation, version, share, seed + number, without))
        for job in jobs:
            boots.update(job.result()["boots"])
    return boots


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--operations", nargs="+", choices=OPERATIONS, default=OPERATIONS)
    parser.add_argument("--without", default="", help="a function or flush of the product that then does nothing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lostwrites-") as scratch:
        where = pathlib.Path(scratch)
        boots = run(options.images, where, options.operations, options.lanes, options.seed, options.without)
    print(f"{sum(boots.values())} images; the next boot: " + counted(boots.elements()))
