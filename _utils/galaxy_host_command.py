"""
The one runner of external commands.
"""

import contextlib
import logging
import os
import subprocess

from galaxy_errors import CommandError
from galaxy_host_secret import Secret, forbid_core_dump

log = logging.getLogger(__name__)

# of standard error, in a message
_LINES = 12


def run(argv: list[str], stdin: Secret | bytes | None = None, timeout: float = 30, check: bool = True) -> str:
    """
    Run ``argv`` (never through a shell) in the C locale and return its standard output.

    stdin
        bytes for its standard input; a ``Secret`` reaches a command this way only
    timeout
        seconds, after which it is killed
    check
        a non-zero exit status is a failure; ``False`` where the output alone tells

    Raises ``CommandError`` when it is not there, fails, or does not end in time.
    """
    environment = {**os.environ, "LC_ALL": "C", "LANG": "C", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"}
    is_secret = isinstance(stdin, Secret)
    if is_secret:
        stdin = stdin.reveal()
    source = subprocess.DEVNULL if stdin is None else subprocess.PIPE
    log.debug("running %s", " ".join(argv))
    try:
        process = subprocess.Popen(argv, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    except FileNotFoundError:
        raise CommandError(argv, "not installed, or not on PATH") from None
    except PermissionError:
        raise CommandError(argv, "not permitted; run as root") from None
    except OSError as exc:
        raise CommandError(argv, f"cannot be run: {exc.strerror}") from None
    if is_secret:
        forbid_core_dump(process.pid)
    try:
        output, errors = process.communicate(stdin, timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        # one that the kernel holds, on a filesystem that hangs, does not end before that lets go: nobody waits for it
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=1)
        raise CommandError(argv, f"did not end within {timeout:g} s") from None
    except BaseException:
        process.kill()
        raise
    stderr, text = errors.decode(errors="replace").strip(), output.decode(errors="replace")
    log.debug("%s: exit status %d", argv[0], process.returncode)
    if check and process.returncode:
        message = f"exit status {process.returncode}: {_told(stderr)}"
        raise CommandError(argv, message, process.returncode, stderr, text)
    return text


def _told(stderr: str) -> str:
    """All lines of it, the last, which mostly is the failure, first; the cause often is in one before."""
    *before, last = [line.strip() for line in stderr.splitlines() if line.strip()][-_LINES:] or ["no message"]
    return f"{last} (and before: {'; '.join(before)})" if before else last
