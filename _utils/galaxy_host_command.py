"""
Run external commands. Nothing else in this tree starts a command.
"""

import contextlib
import grp
import logging
import os
import pwd
import selectors
import subprocess
from collections.abc import Mapping
from typing import Any

import galaxy_host_process
import galaxy_host_progress
from galaxy_errors import CommandError
from galaxy_host_record import record
from galaxy_host_secret import Secret, forbid_core_dump
from galaxy_host_wait import Deadline

log = logging.getLogger(__name__)

# lines of standard error that a message shows
_LINES = 12
# bytes of both streams together; no command of ours writes nearly as much
LIMIT = 32 << 20
_CHUNK = 1 << 16
# seconds between two looks whether to report that the command still runs
_TICK = 1.0
_C_LOCALE = {"LC_ALL": "C", "LANG": "C", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"}
_PATH = "/usr/local/bin:/usr/bin:/bin"
# the PATH of root's login and of systemd's services
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@record(frozen=True)
class Account:
    """The user as whom a command runs. ``groups`` are all groups of the user, ``home`` is the user's directory."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str

    @classmethod
    def of(cls, user: str | int, group: str | None = None) -> "Account | None":
        """
        The account of a user, by name or number, with ``group`` as its first group; ``None`` if there is no such user
        or group.
        """
        try:
            entry = pwd.getpwuid(user) if isinstance(user, int) else pwd.getpwnam(user)
            gid = grp.getgrnam(group).gr_gid if group else entry.pw_gid
        except (KeyError, OverflowError):
            return None
        groups = tuple(os.getgrouplist(entry.pw_name, gid))
        return cls(entry.pw_name, entry.pw_uid, gid, groups, entry.pw_dir)


def run(
    argv: list[str],
    stdin: Secret | bytes | None = None,
    timeout: float = 30,
    check: bool = True,
    account: Account | None = None,
    cwd: str | None = None,
    environment: Mapping[str, str] | None = None,
    limit: int = LIMIT,
) -> str:
    """
    Run ``argv`` (never through a shell) in the C locale, and return its standard output.

    stdin
        bytes for its standard input. A ``Secret`` reaches a command in no other way
    timeout
        seconds; then the command is killed
    check
        whether a non-zero exit status is a failure; ``False`` if the output alone tells
    account
        run it as this user, without our variables and our terminal. Whatever the command leaves in its process group is
        killed with it
    cwd
        its working directory; ``None``: ours, or ``/`` for an ``account``
    environment
        variables for it, beside the usual ones
    limit
        how many bytes it may write; beyond this it is killed

    Raises ``CommandError`` if the command is not there, fails, does not end in time, or writes too much.
    """
    usual = os.environ if account is None else _usual(account)
    variables = {**usual, **_C_LOCALE, **(environment or {})}
    given = stdin.reveal() if isinstance(stdin, Secret) else stdin
    source = subprocess.DEVNULL if given is None else subprocess.PIPE
    log.debug("running %s%s", " ".join(argv), f" as {account.name}" if account else "")
    options = {} if account is None else _become(argv, account)
    try:
        process = subprocess.Popen(
            argv,
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=variables,
            cwd=cwd or ("/" if account else None),
            **options,
        )
    except FileNotFoundError as exc:
        is_place = cwd is not None and exc.filename == cwd
        raise CommandError(argv, f"no directory {cwd}" if is_place else "not installed, or not on PATH") from None
    except PermissionError:
        advice = f"user {account.name} may not run it, or not in {cwd}" if account else "run as root"
        raise CommandError(argv, f"not permitted; {advice}") from None
    except OSError as exc:
        raise CommandError(argv, f"cannot be run: {exc.strerror}") from None
    if isinstance(stdin, Secret):
        forbid_core_dump(process.pid)
    try:
        output, errors = _exchange(process, " ".join(argv), given, Deadline(timeout), limit)
    except (subprocess.TimeoutExpired, OverflowError) as exc:
        _kill(process, account)
        # a process on a hanging filesystem ends only when the kernel releases it: do not wait for that
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)
        is_late = isinstance(exc, subprocess.TimeoutExpired)
        what = f"did not end within {timeout:g} s" if is_late else f"wrote more than {limit} bytes"
        raise CommandError(argv, what) from None
    except BaseException:
        _kill(process, account)
        raise
    stderr, text = errors.decode(errors="replace").strip(), output.decode(errors="replace")
    log.debug("%s: exit status %d", argv[0], process.returncode)
    if check and process.returncode:
        message = f"exit status {process.returncode}: {_told(stderr)}"
        raise CommandError(argv, message, process.returncode, stderr, text)
    return text


def _usual(account: Account) -> dict[str, str]:
    return {"PATH": _PATH, "HOME": account.home, "USER": account.name, "LOGNAME": account.name}


def _become(argv: list[str], account: Account) -> dict[str, Any]:
    """The options that make a new process run as the account."""
    # a session of its own has no terminal where the command could type for us, and a process group that ends as a whole
    options = {"start_new_session": True, "umask": 0o022}
    if os.geteuid() == 0:
        return {**options, "user": account.uid, "group": account.gid, "extra_groups": account.groups}
    if os.geteuid() != account.uid:
        raise CommandError(argv, f"not permitted to run it as user {account.name}; run as root")
    return options


def _kill(process: subprocess.Popen[bytes], account: Account | None) -> None:
    if account is not None:
        # nobody has waited for the process yet, so its PID still names its group
        galaxy_host_process.kill_group(process.pid)
    process.kill()


def _exchange(
    process: subprocess.Popen[bytes], command: str, data: bytes | None, deadline: Deadline, limit: int
) -> tuple[bytes, bytes]:
    """
    Give ``data`` to a process of that command, and return what it writes to its two streams until it ends. Raises
    ``TimeoutExpired``, and ``OverflowError`` beyond ``limit`` bytes.
    """
    streams = {stream.fileno(): stream for stream in (process.stdin, process.stdout, process.stderr) if stream}
    heard: tuple[list[bytes], list[bytes]] = ([], [])
    total = 0
    left = memoryview(data or b"")
    try:
        with selectors.DefaultSelector() as selector:
            for descriptor, stream in streams.items():
                os.set_blocking(descriptor, False)
                selector.register(stream, selectors.EVENT_WRITE if stream is process.stdin else selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(min(deadline.left, _TICK))
                if deadline.passed:
                    raise subprocess.TimeoutExpired(process.args, deadline.seconds)
                # only longer commands are reported: a short one is just a part of the work
                if deadline.spent > galaxy_host_progress.SHORTEST:
                    galaxy_host_progress.tick(command)
                for key, _ in ready:
                    if key.fileobj is process.stdin:
                        left = _write(key.fd, left)
                        is_done = not left
                    else:
                        piece = os.read(key.fd, _CHUNK)
                        heard[key.fileobj is process.stderr].append(piece)
                        total += len(piece)
                        is_done = not piece
                    if total > limit:
                        raise OverflowError
                    if is_done:
                        selector.unregister(key.fileobj)
                        streams[key.fd].close()
        process.wait(deadline.left)
    finally:
        for stream in streams.values():
            with contextlib.suppress(OSError):
                stream.close()
    return b"".join(heard[0]), b"".join(heard[1])


def _write(descriptor: int, data: memoryview) -> memoryview:
    """Write a part of ``data``; return what is left, or nothing if nobody reads it."""
    try:
        return data[os.write(descriptor, data[:_CHUNK]) :]
    except BrokenPipeError:
        return data[:0]


def _told(stderr: str) -> str:
    """
    All lines of ``stderr``. The last one comes first: it mostly names the failure, and a line before it often the
    cause.
    """
    *before, last = [line.strip() for line in stderr.splitlines() if line.strip()][-_LINES:] or ["no message"]
    return f"{last} (and before: {'; '.join(before)})" if before else last
