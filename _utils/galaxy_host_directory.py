"""
Make a directory with an owner and a mode, also below a directory that belongs to another user.
"""

import grp
import os
import pwd
import stat
from typing import Any

import galaxy_host_arguments as arguments
import galaxy_host_files
from galaxy_errors import FileError


def difference(path: str, user: str, group: str, mode: str) -> dict[str, Any]:
    """
    How the directory differs from what is wanted: ``user``, ``group`` and ``mode`` that are wrong, each with ``old``
    and ``new``; or ``directory`` if there is none. Empty if all is right.

    Raises ``FileError`` if the path is no directory, or if the user, group or mode does not exist.
    """
    uid, gid, bits = _numbers(path, user, group, mode)
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return {"directory": {"old": None, "new": path}}
    except OSError as exc:
        raise FileError(path, f"cannot be looked at: {exc.strerror}") from None
    if not stat.S_ISDIR(status.st_mode):
        raise FileError(path, "is no directory, or is reached by a link; remove it")
    found = {"user": (status.st_uid, uid), "group": (status.st_gid, gid), "mode": (status.st_mode & 0o7777, bits)}
    return {
        key: {"old": f"{old:04o}" if key == "mode" else old, "new": f"{new:04o}" if key == "mode" else new}
        for key, (old, new) in found.items()
        if old != new
    }


def ensure(path: str, user: str, group: str, mode: str) -> None:
    """
    Make the directory, or set its owner and mode. Raises ``FileError`` if another user could have put something else in
    its place.
    """
    numbers = _numbers(path, user, group, mode)
    if not galaxy_host_files.make_directories(path, *numbers):
        galaxy_host_files.give(path, *numbers)


def _numbers(path: str, user: str, group: str, mode: str) -> tuple[int, int, int]:
    arguments.absolute("name", path)
    for name, value in (("user", user), ("group", group)):
        arguments.text(name, value)
    try:
        uid, gid = pwd.getpwnam(user).pw_uid, grp.getgrnam(group).gr_gid
    except KeyError as exc:
        raise FileError(path, f"cannot be given away: {exc.args[0]}") from None
    try:
        bits = int(mode, 8)
    except (TypeError, ValueError):
        bits = -1
    if not 0 <= bits <= 0o7777:
        raise FileError(path, f"mode is {mode!r}; give octal digits in quotes, such as '0755'")
    return uid, gid, bits
