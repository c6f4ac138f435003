"""
Tell what is mounted, and make mount points.
"""

import json
import os

import galaxy_host_command
import galaxy_host_files
from galaxy_errors import FileError, MountPointError
from galaxy_host_record import record


@record(frozen=True)
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
    """What is mounted on the directory; if there are several mounts, the topmost."""
    mounts = {each.target: each for each in read()}
    target = os.path.normpath(target)
    # realpath comes last: it asks the filesystem at the path, which may hang
    for resolve in (str, _resolve_parent, os.path.realpath):
        found = mounts.get(resolve(target))
        if found:
            return found
    return None


def require_place(path: str) -> None:
    """
    Raises ``MountPointError`` if another user could put something else in the place of the mount point, such as a link
    to a directory of the system. The owner of the mount point itself does not matter, and it is not looked at.
    """
    try:
        galaxy_host_files.require_place(path)
    except FileError as exc:
        reason = str(exc).removeprefix(f"{path}: ")
        raise MountPointError(
            path, f"{reason}; root mounts only below directories of root's. Nothing was changed"
        ) from None


def make_directory(path: str) -> bool:
    """
    Make a mount point and the directories above it. ``False``: it is there. Raises ``MountPointError``, also like
    ``require_place``.
    """
    require_place(path)
    try:
        return galaxy_host_files.make_directories(path, os.geteuid(), os.getegid(), 0o755)
    except FileError as exc:
        reason = str(exc).removeprefix(f"{path}: ")
        raise MountPointError(path, f"cannot be made: {reason}") from None


def _resolve_parent(path: str) -> str:
    parent, name = os.path.split(path)
    return os.path.join(os.path.realpath(parent), name)
