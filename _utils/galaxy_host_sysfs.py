"""
Read what the kernel tells in ``/sys`` and ``/proc``. What is not there, or vanishes during the reading, reads as empty.
"""

import os
import stat


def read(path: str) -> str:
    """The text of a file, without the newline at its end."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""


def names(path: str) -> list[str]:
    """The names in a directory."""
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


def link(path: str) -> str:
    """The target of a symbolic link."""
    try:
        return os.readlink(path)
    except OSError:
        return ""


def number(path: str) -> str:
    """``major:minor`` of the block device whose node is at ``path``."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}" if stat.S_ISBLK(status.st_mode) else ""
