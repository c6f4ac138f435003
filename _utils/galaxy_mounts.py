"""
What is mounted, and who uses it.
"""

from __future__ import annotations

import dataclasses
import json
import os

import galaxy_command


@dataclasses.dataclass(frozen=True)
class Mount:
    """A mounted filesystem, as ``findmnt`` lists it."""

    target: str
    source: str
    fstype: str
    options: str


def read() -> list[Mount]:
    """Every mounted filesystem, in the order of mounting."""
    columns = ["TARGET", "SOURCE", "FSTYPE", "OPTIONS"]
    listed = galaxy_command.run(["findmnt", "--json", "--list", "--nofsroot", f"--output={','.join(columns)}"])
    return [Mount(*(each[name.lower()] or "" for name in columns)) for each in json.loads(listed)["filesystems"]]


def mounted_at(target: str) -> Mount | None:
    """What is mounted on the directory; the topmost, where several are."""
    target = os.path.realpath(target)
    return next((each for each in reversed(read()) if each.target == target), None)
