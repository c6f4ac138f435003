"""
What is mounted, and who uses it.
"""

import dataclasses
import json
import os

import galaxy_host_command
from galaxy_errors import MountPointError


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
    listed = galaxy_host_command.run(["findmnt", "--json", "--list", "--nofsroot", f"--output={','.join(columns)}"])
    return [Mount(*(each[name.lower()] or "" for name in columns)) for each in json.loads(listed)["filesystems"]]


def mounted_at(target: str) -> Mount | None:
    """What is mounted on the directory; the topmost, where several are."""
    mounts = {each.target: each for each in read()}
    target = os.path.normpath(target)
    # the path itself is resolved last: that asks the filesystem there, which may hang
    for resolve in (str, _resolve_parent, os.path.realpath):
        found = mounts.get(resolve(target))
        if found:
            return found
    return None


def make_directory(path: str) -> bool:
    """Make a mount point and what is above it; ``False``: it is there. Raises ``MountPointError``."""
    if os.path.isdir(path):
        return False
    try:
        os.makedirs(path)
    except OSError as exc:
        raise MountPointError(path, f"cannot be made: {exc.strerror}") from None
    return True


def _resolve_parent(path: str) -> str:
    parent, name = os.path.split(path)
    return os.path.join(os.path.realpath(parent), name)
