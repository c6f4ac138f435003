"""
Read the heartbeat of a gunicorn worker. It is an unlinked file that the worker holds open and touches.

gunicorn 22 and newer set the file's mtime to the monotonic clock. Older ones change its mode, which is 0600 at first,
to 0 and 1 in turn. The first beat says that this worker has loaded the application.
"""

import contextlib
import os
import stat
import time
from typing import NamedTuple

from galaxy_host_pattern import Pattern

_FILE = Pattern(r"/wgunicorn-\w+ \(deleted\)\Z")
_SOCKET = Pattern(r"socket:\[(\d+)\]")
# more than any uptime, and less than any date
_LONGEST_UPTIME = 10**9


class Files(NamedTuple):
    """What a worker holds open: the state of its heartbeat file (``None``: it has none), and inodes of its sockets."""

    heartbeat: os.stat_result | None
    sockets: frozenset[int]


def files(pid: int) -> Files | None:
    """What the worker holds open; ``None`` if it is gone or may not be looked at."""
    heartbeat, sockets = None, set()
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    target = os.readlink(entry.path)
                    if match := _SOCKET.fullmatch(target):
                        sockets.add(int(match[1]))
                    elif _FILE.search(target):
                        heartbeat = os.stat(entry.path)
    except OSError:
        return None
    return Files(heartbeat, frozenset(sockets))


def age(state: os.stat_result, now: float | None = None, monotonic: float | None = None) -> float | None:
    """Seconds since the last beat; ``None`` before the first."""
    if stat.S_IMODE(state.st_mode) in (0, 1):
        return max(0.0, (time.time() if now is None else now) - state.st_ctime)
    if state.st_mtime < _LONGEST_UPTIME:
        return max(0.0, (time.monotonic() if monotonic is None else monotonic) - state.st_mtime)
    return None
