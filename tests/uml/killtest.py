"""
Kill test: the machine loses its power at a random moment within each operation that writes. It boots again, and must
converge. ``story.py`` has the operations, and what must hold.

Each operation gets the same number of kills, spread evenly over the kinds of external command and the flushes in it:
each kill strikes at a random moment within one of them or after it. SIGKILL is the power cut. It loses no write that
the guest's kernel has sent to the disk; ``lostwrites.py`` loses those too.

    python tests/uml/killtest.py --kills 200
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import dataclasses
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

from machine import Machine

HERE = pathlib.Path(__file__).resolve().parent
GUEST = HERE / "kill_guest.py"
DISK_SIZE = 48 << 20
BACKUPS_SIZE = 160 << 20
# seconds that a command may take until it is killed or ends
LONGEST = 600
OPERATIONS = (
    *("mounted_blank", "formatted", "encrypt", "opened", "mounted", "closed", "written", "key_present"),
    *("key_absent", "change_key", "header_backup", "header_restore", "header_replaced", "resized", "reencrypt"),
)


@dataclasses.dataclass
class Kill:
    """Where a kill struck, and what the next boot did or said."""

    version: int
    operation: str
    command: str
    steps: list[str] = dataclasses.field(default_factory=list)


class Lane:
    """One machine whose power is cut again and again."""

    def __init__(self, directory: pathlib.Path, seed: int, operations: list[str]):
        self.random = random.Random(seed)
        self.share, self.disk, self.backups = directory / "share", directory / "disk", directory / "backups"
        self.share.mkdir(parents=True)
        self.operations = operations
        self.kills, self.commands = [], {}
        for image, size in ((self.disk, DISK_SIZE), (self.backups, BACKUPS_SIZE)):
            with open(image, "wb") as file:
                file.truncate(size)
        subprocess.run(["mkfs.ext4", "-q", "-F", self.backups], check=True)

    def run(self) -> list[Kill]:
        """One kill in each operation, each with its check."""
        job = {"check": "", "version": 1, "files": 0}
        for operation in [*self.operations, ""]:
            version = 2 if operation == "reencrypt" else self.random.choice((1, 1, 2))
            following = {"next_version": version, "next_files": self.random.getrandbits(32)}
            with Machine(self.share, self.disk, self.backups) as machine:
                killed = self.kill(machine, {**job, **following, "begin": operation})
            if operation:
                self.kills.append(killed)
                print(f"LUKS{killed.version} {operation}: killed in {killed.command}", flush=True)
                job = {"check": operation, "version": version, "files": following["next_files"]}
        return self.kills

    def kill(self, machine: Machine, job: dict) -> Kill | None:
        """Check the last kill, begin the next operation, and cut the power at a random moment of a random command."""
        kind = (job["begin"], job["next_version"])
        target = self.target(kind)
        machine.start(sys.executable, str(GUEST), json.dumps(job))
        name, seen = "(after the last)", []
        for word in machine.words("@", LONGEST):
            seen.append(word)
            if len(seen) == target:
                name = word
                time.sleep(self.random.random() * self.random.choice((0.01, 0.1, 0.5)))
                break
        else:
            status, output = machine.result()
            if status:
                raise AssertionError(f"{job}, after {self.kills[-1:]}:\n{output}")
        if self.kills:
            output = (self.share / "output").read_text(errors="replace")
            self.kills[-1].steps = json.loads(output.splitlines()[0])
        machine.kill()
        if len(seen) > len(self.commands.get(kind, [])):
            self.commands[kind] = seen
        return Kill(job["next_version"], job["begin"], name) if job["begin"] else None

    def target(self, kind: tuple) -> int:
        """The number of the command to kill at. Each kind of command is chosen equally often, however often it runs."""
        known = self.commands.get(kind, [])
        if not known or self.random.random() < 0.25:
            return len(known) + self.random.randint(1, 15)
        name = self.random.choice(sorted(set(known)))
        return 1 + self.random.choice([index for index, each in enumerate(known) if each == name])


def run(
    kills: int, directory: pathlib.Path, lanes: int = 2, seed: int | None = None, operations: tuple = OPERATIONS
) -> list[Kill]:
    """Kill that often, on machines side by side; raises ``AssertionError`` when one does not converge."""
    seed = random.SystemRandom().getrandbits(32) if seed is None else seed
    print(f"seed {seed}", flush=True)
    order = [operations[number % len(operations)] for number in range(kills)]
    random.Random(seed).shuffle(order)
    with concurrent.futures.ThreadPoolExecutor(lanes) as pool:
        jobs = [
            pool.submit(Lane(directory / f"lane{number}", seed + number, order[number::lanes]).run)
            for number in range(lanes)
        ]
        return [kill for job in jobs for kill in job.result()]


def report(kills: list[Kill]) -> str:
    """A table: where kills struck, and what the next boots did or said."""
    lines = [f"{len(kills)} kills, within: " + counted(kill.operation for kill in kills)]
    lines.append("LUKS version: " + counted(str(kill.version) for kill in kills))
    lines.append("killed during: " + counted(kill.command for kill in kills))
    lines.append("the next boot: " + counted("+".join(kill.steps) or "(nothing left)" for kill in kills))
    return "\n".join(lines)


def counted(values) -> str:
    return ", ".join(f"{value} {count}" for value, count in collections.Counter(values).most_common())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--seed", type=int)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="killtest-") as scratch:
        print(report(run(options.kills, pathlib.Path(scratch), options.lanes, options.seed)))
