"""
Read the version of the Galaxy on disk.
"""

import glob
import logging
import os
from collections.abc import Iterable

import galaxy_host_files
from galaxy_errors import FileError
from galaxy_host_pattern import Pattern

log = logging.getLogger(__name__)

_LIMIT = 64 << 10
# Galaxy 26.1 and newer have the second one
_FILES = ("version.py", "version/__init__.py")
_ASSIGNMENT = Pattern(rb"^(VERSION_MAJOR|VERSION_MINOR)\s*=\s*[\"']([\w.]{1,32})[\"']")


def on_disk(root: str | None, virtualenv: str | None, named_by: Iterable[int] = ()) -> str | None:
    """
    Galaxy's version, such as ``26.1.1``: of the source tree ``root``, or else of the package in ``virtualenv``.

    named_by
        numeric IDs of the users who chose the two directories

    ``None`` if neither has a version that can be read.
    """
    packages = [os.path.join(root, "lib/galaxy")] if root else []
    if virtualenv:
        packages += sorted(glob.glob(os.path.join(glob.escape(virtualenv), "lib/python3*/site-packages/galaxy")))
    for path in (os.path.join(package, file) for package in packages for file in _FILES):
        try:
            text = galaxy_host_files.read(path, _LIMIT, named_by)
        except FileError as exc:
            log.debug("No version of Galaxy: %s", exc)
            continue
        found = {match[1]: match[2] for line in text.splitlines() if (match := _ASSIGNMENT.match(line))}
        if b"VERSION_MAJOR" in found:
            minor = found.get(b"VERSION_MINOR")
            return b".".join(filter(None, (found[b"VERSION_MAJOR"], minor))).decode()
    return None
