"""
Kill test: the machine loses its power at random moments within ``encrypt``, is booted again, and must converge.

A disk's story: blank, killed while it is encrypted; booted, converged, given known files; killed again while the volume
with those files is encrypted (opened, mounted) once more; booted, converged, and every file compared byte for byte.
Every eighth disk carries a plain filesystem instead, of which not one byte may change. Kills are spread evenly over the
kinds of command that the procedure runs: each at a random moment within, or after, one of them. Every fourth
convergence is a ``state.apply galaxy.storage``, the others call the procedure without Salt around it, to be quick.

    python tests/uml/killtest.py --kills 200
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import dataclasses
import hashlib
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

from machine import Machine
from masterless import apply, configure

HERE = pathlib.Path(__file__).resolve().parent
REPO = HERE.parents[1]
GUEST = HERE / "kill_guest.py"
DISK_SIZE = 64 << 20
# no command may take longer before the kill; a kill at the end of the last one counts too
LONGEST = 60
PLAIN = "a plain filesystem"


@dataclasses.dataclass
class Kill:
    """Where one struck, what the disk held, and the steps that converged it."""

    version: int
    held: str
    command: str
    steps: list[str] = dataclasses.field(default_factory=list)


class Lane:
    """One machine and its disk after another."""

    def __init__(self, directory: pathlib.Path, seed: int):
        self.random = random.Random(seed)
        self.share, self.disk = directory / "share", directory / "disk"
        self.share.mkdir(parents=True)
        self.kills = []
        self.disks = 0
        self.commands, self.ended = {}, set()
        self.converged = 0

    def run(self, kills: int) -> list[Kill]:
        """That many kills."""
        while len(self.kills) < kills:
            if self.disks % 8 == 7:
                self.plain_filesystem()
            else:
                self.encrypted_volume(kills)
            self.disks += 1
        return self.kills

    def plain_filesystem(self) -> None:
        self.new_disk(2 - self.disks % 2)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-d", HERE, self.disk], check=True)
        before = self.digest()
        self.kill(PLAIN, {"do": "encrypt", **self.job})
        if self.digest() != before:
            raise AssertionError("the plain filesystem changed")

    def encrypted_volume(self, kills: int) -> None:
        self.new_disk(2 - self.disks % 2)
        self.kill("nothing", {"do": "encrypt", **self.job})
        while True:
            with Machine(self.share, self.disk) as machine:
                self.converge(machine)
                if self.job["holds_data"] or len(self.kills) >= kills:
                    return
                self.job["holds_data"] = True
                if self.random.random() < 0.5:
                    shutil.rmtree(self.share / "backups")
                self.kill("files", {"do": "encrypt", **self.job}, machine)

    def new_disk(self, version: int) -> None:
        self.disk.unlink(missing_ok=True)
        with open(self.disk, "wb") as file:
            file.truncate(DISK_SIZE)
        shutil.rmtree(self.share / "backups", ignore_errors=True)
        self.job = {
            "device": "/dev/ubdb",
            "version": version,
            "mapper": "galaxy",
            "mount_point": "/run/export",
            "backups": "/run/share/backups",
            "files": self.random.getrandbits(32),
            "holds_data": False,
        }
        luks = {"version": version, "iterations": 1000, **({"pbkdf": "pbkdf2"} if version == 2 else {})}
        storage = {"device": "/dev/ubdb", "encrypt": True, "mount_point": "/run/export", "luks": luks}
        owner = {"user": "root", "group": "root", "passphrase": "the key of the kill test"}
        configure(self.share, {**storage, **owner})

    def kill(self, held: str, job: dict, machine: Machine | None = None) -> None:
        """Let the job begin, and cut the power at a random moment of a random command of it."""
        if machine is None:
            with Machine(self.share, self.disk) as machine:
                return self.kill(held, job, machine)
        kind = (held, job["version"])
        target = self.target(kind)
        machine.start(sys.executable, str(GUEST), json.dumps(job))
        name = "(after the last)"
        seen = []
        for word in machine.words("@", LONGEST):
            seen.append(word)
            if len(seen) == target:
                name = word
                time.sleep(self.random.random() * self.random.choice((0.02, 0.3, 1.0)))
                break
        else:
            self.check_end(held, machine)
            self.ended.add(kind)
        machine.kill()
        if len(seen) > len(self.commands.get(kind, [])):
            self.commands[kind] = seen
        self.kills.append(Kill(job["version"], held, name))
        print(f"killed in {name}; the disk held {held}", flush=True)

    def check_end(self, held: str, machine: Machine) -> None:
        """The command ended before it was killed: as it must."""
        status, output = machine.result()
        refused = "DeviceNotBlank" in output
        if (status != 0, refused) != (held == PLAIN, held == PLAIN):
            raise AssertionError(f"encrypt, where the disk held {held}, ended with status {status}:\n{output}")

    def target(self, kind: tuple) -> int:
        """The number of the command to kill at: each kind of command as often, however often it runs."""
        known = self.commands.get(kind, [])
        # beyond what is known, as long as no command has run to its end
        if not known or (kind not in self.ended and self.random.random() < 0.25):
            return len(known) + self.random.randint(1, 12)
        name = self.random.choice(sorted(set(known)))
        return 1 + self.random.choice([index for index, each in enumerate(known) if each == name])

    def converge(self, machine: Machine) -> None:
        """Run again, and check all that must hold (``kill_guest.py``)."""
        self.converged += 1
        steps = []
        if self.converged % 4 == 0:
            changes = apply(machine, "galaxy.storage")
            steps = list(changes.get("galaxy-storage-volume-mounted", {}))
        job = {"do": "converge", **self.job}
        status, output = machine.run(sys.executable, str(GUEST), json.dumps(job))
        if status:
            raise AssertionError(f"not converged after {self.kills[-1]}, {job}:\n{output}")
        self.kills[-1].steps = steps or json.loads(output.splitlines()[-1])

    def digest(self) -> str:
        with open(self.disk, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def run(kills: int, directory: pathlib.Path, lanes: int = 2, seed: int | None = None) -> list[Kill]:
    """Kill that often, on machines side by side; raises ``AssertionError`` when one does not converge."""
    seed = random.SystemRandom().getrandbits(32) if seed is None else seed
    print(f"seed {seed}", flush=True)
    shares = [kills // lanes + (number < kills % lanes) for number in range(lanes)]
    with concurrent.futures.ThreadPoolExecutor(lanes) as pool:
        jobs = [
            pool.submit(Lane(directory / f"lane{number}", seed + number).run, share)
            for number, share in enumerate(shares)
        ]
        return [kill for job in jobs for kill in job.result()]


def report(kills: list[Kill]) -> str:
    """Where they struck, and what brought the volume to its end, as a table."""
    lines = [f"{len(kills)} kills; the disk held: " + _counted(kill.held for kill in kills)]
    lines.append("LUKS version: " + _counted(str(kill.version) for kill in kills))
    lines.append("killed during: " + _counted(kill.command for kill in kills))
    lines.append("converged by: " + _counted("+".join(kill.steps) or "(nothing left)" for kill in kills))
    return "\n".join(lines)


def _counted(values) -> str:
    return ", ".join(f"{value} {count}" for value, count in collections.Counter(values).most_common())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--seed", type=int)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="killtest-") as scratch:
        print(report(run(options.kills, pathlib.Path(scratch), options.lanes, options.seed)))
