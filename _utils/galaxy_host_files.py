"""
Read, make and give away files whose path another user chose, with no more rights than this user has.

A path is walked directory by directory, by descriptor, and symbolic links are resolved here. A user *controls* the path
if this user owns a directory or a link on the way, or can write to a directory there; then the user can choose what
lies at its end. Root, and the user as whom we run, do not count as such. In a sticky directory such as /tmp, users who
can only add files do not count either.
"""

import contextlib
import errno
import itertools
import logging
import os
import pwd
import stat
from collections.abc import Iterable, Iterator

from galaxy_errors import FileError, FileMissing
from galaxy_host_walk import MAX_LINKS, Entry, Group, User, describe, ours, require_path, walk, writers

log = logging.getLogger(__name__)

LIMIT = 1 << 20
TAIL = 64 << 10
# here the kernel checks more than the mode says: /proc/PID/maps is 0444, and only root may read it
_KERNEL = ("proc", "sysfs", "debugfs", "tracefs", "securityfs", "cgroup", "cgroup2", "bpf", "configfs", "efivarfs")


def read(
    path: str,
    limit: int = LIMIT,
    named_by: Iterable[int] = (),
    trusted: bool = False,
    deciders: set[int] | None = None,
) -> bytes:
    """
    Read a regular file.

    limit
        bytes; a larger file is refused
    named_by
        numeric IDs of the users who chose the path, such as the owner of the configuration that has it
    trusted
        refuse also what ``require_trusted`` refuses
    deciders
        a set to which the result of the function ``deciders`` is added, for the very file that is read

    Raises ``FileMissing``, or ``FileError``. It does so also if a user in ``named_by``, or one who controls the path,
    could not read the file. Of access control lists only the mask counts.
    """
    with walk(path) as entry:
        if trusted:
            _require_trusted(entry)
        descriptor = _open_readable(entry, named_by)
        if deciders is not None:
            deciders |= _deciders(entry)
        try:
            # most files are small, and each read allocates as much as it may get
            pieces, left, size = [], limit + 1, 1 << 14
            while left:
                piece = os.read(descriptor, min(left, size))
                if not piece:
                    break
                pieces.append(piece)
                left -= len(piece)
                size = 1 << 18
        finally:
            os.close(descriptor)
    if not left:
        raise FileError(path, f"is larger than {limit} bytes")
    return b"".join(pieces)


def tail(path: str, lines: int, named_by: Iterable[int] = ()) -> list[str]:
    """The last ``lines`` of a regular file, from at most its last 64 KiB. Parameters and errors are as for ``read``."""
    with walk(path) as entry:
        descriptor = _open_readable(entry, named_by)
        try:
            start = max(0, os.fstat(descriptor).st_size - TAIL)
            text = os.pread(descriptor, TAIL, start).decode(errors="replace")
        finally:
            os.close(descriptor)
    return text.splitlines()[1 if start else 0 :][-lines:] if lines > 0 else []


def tails(paths: Iterable[str], lines: int, named_by: Iterable[int] = ()) -> list[str]:
    """The last ``lines`` of several files together, in their order. A file that cannot be read is left out."""
    named_by = tuple(named_by)
    text: list[str] = []
    for path in paths:
        try:
            text += tail(path, lines, named_by)
        except FileError as exc:
            log.info("A log is not shown: %s", exc)
    return text[-lines:]


def names(path: str, limit: int = 1000, named_by: Iterable[int] = ()) -> list[str]:
    """
    The names in a directory, sorted; empty if there is no such directory.

    limit
        how many names a directory may have; a larger one is refused
    named_by
        as for ``read``

    Raises ``FileError``, also if a user who chose the path could not list the directory.
    """
    with walk(path) as entry:
        if entry.status is None:
            return []
        descriptor = _open_readable(entry, named_by, directory=True)
        try:
            with os.scandir(descriptor) as entries:
                found = [one.name for one in itertools.islice(entries, limit + 1)]
        finally:
            os.close(descriptor)
    if len(found) > limit:
        raise FileError(path, f"has more than {limit} names in it")
    return sorted(found)


def owner(path: str) -> int:
    """
    Numeric ID of the user who owns the file or directory.

    Raises ``FileMissing``. Raises ``FileError`` if another user, who is in no group with the owner, can put something
    else there.
    """
    with walk(path) as entry:
        uid = entry.require_there().st_uid
        # asked only if a group has the right: this takes a hundred system calls, or asks a directory server
        asks = uid not in ours() and any(isinstance(user, Group) for user in entry.controllers)
        entry.require_none_but(uid, *(map(Group, _groups(uid)) if asks else ()))
        return uid


def changed(path: str) -> float | None:
    """When the file was changed, in epoch seconds; ``None`` if this cannot be told."""
    try:
        with walk(path) as entry:
            return entry.require_there().st_mtime
    except FileError as exc:
        log.info("%s", exc)
        return None


def deciders(path: str) -> set[int]:
    """
    Numeric IDs of the users who decide what a file says: its owner, and those who can put another file in its place.
    Empty if the file cannot be reached.
    """
    with contextlib.suppress(FileError), walk(os.path.abspath(path)) as entry:
        return _deciders(entry)
    return set()


def require_trusted(path: str, *others: User) -> None:
    """
    Raises ``FileError`` unless only root, ourselves and the ``others`` (by number, or as ``Group``) can write the file
    (or directory) or put another in its place. This is for files that root, or another user, runs or obeys.
    """
    with walk(path) as entry:
        _require_trusted(entry, *others)


def require_place(path: str) -> None:
    """
    Raises ``FileError`` if another user can put something else there. This is for a place on which root mounts, or
    where a program that starts as root writes. The file or directory at its end does not matter and is not looked at,
    because what is mounted there may hang.
    """
    require_path(path)
    place = path
    for _ in range(MAX_LINKS):
        directory = os.path.dirname(place.rstrip("/")) or "/"
        with walk(directory) as entry:
            users = [*entry.controllers, *(writers(entry.status) if entry.status else ())]
        for user in users:
            who = describe(user)
            raise FileError(path, f"{who} can put something else there: a directory above is theirs", who)
        try:
            target = os.readlink(place.rstrip("/"))
        except OSError:
            return
        place = os.path.join(directory, target)
    raise FileError(path, f"leads through more than {MAX_LINKS} symbolic links")


@contextlib.contextmanager
def socket_at(path: str, named_by: Iterable[int] = (), trusted: bool = False) -> Iterator[str]:
    """
    A path for a connection to the very unix socket that lies at ``path``.

    trusted
        refuse also a socket that another user can have put there

    Raises ``FileNotFoundError``. Raises ``FileError`` if a user in ``named_by``, or one who controls the path, may not
    connect to the socket.
    """
    try:
        with walk(path) as entry:
            entry.require_there()
            if trusted:
                entry.require_none_but()
            for user, behind in _namers(entry, named_by).items():
                _require_may(entry, user, behind, 2, "connect to it, so root does not for them")
            assert entry.descriptor is not None
            descriptor = os.dup(entry.descriptor)
    except FileMissing:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from None
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def may_put(path: str, uid: int) -> bool:
    """
    Whether a process of this user can have put there what lies at the path: the user owns it, or can write to its
    directory. The groups of a process are not known from its user, so a directory that a group can write to counts.
    Raises ``FileError``.
    """
    if uid in ours():
        return True
    with walk(os.path.dirname(path) or "/") as entry:
        status = entry.require_there()
        if status.st_uid == uid or status.st_mode & 0o022:
            return True
    with walk(path, last_link=False) as entry:
        return entry.status is not None and entry.status.st_uid == uid


def make_directories(path: str, uid: int, gid: int, mode: int) -> bool:
    """
    Make a directory and the missing ones above it, each with this owner and mode. ``False``: it is there, and is not
    touched.

    Raises ``FileError`` if a user other than ``uid`` controls the path, or if a part that others control has a link.
    """
    made = []

    def make(entry: Entry) -> None:
        entry.require_none_but(uid)
        with contextlib.suppress(FileExistsError):
            os.mkdir(entry.name, 0o700, dir_fd=entry.directory)
            made.append(_own_new_directory(entry, uid, gid, mode))

    with walk(path, make, links=False) as entry:
        if not stat.S_ISDIR(entry.require_there().st_mode):
            raise FileError(path, "is not a directory")
    if made:
        log.info("made %s, %04o, for user %d and group %d", path, mode, uid, gid)
    return bool(made)


def give(path: str, uid: int, gid: int, mode: int) -> bool:
    """
    Set owner and mode of a file or directory that already belongs to root, to us, or to this owner. ``False``: it has
    them.

    Raises ``FileError`` if it belongs to another user, if another user may have put it there, or if a part that others
    control has a link.
    """
    with walk(path, links=False) as entry:
        status = entry.require_there()
        if (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (uid, gid, mode):
            return False
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise FileError(path, "is neither a regular file nor a directory")
        if status.st_uid != uid:
            entry.require_none_but()
            if status.st_uid not in ours():
                who = describe(status.st_uid)
                raise FileError(path, f"belongs to {who}, and is not given to somebody else; do that by hand", who)
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            raise FileError(path, "has another name too (a hard link), so its owner is left as it is")
        os.chown(entry.link, uid, gid)
        os.chmod(entry.link, mode)
    log.info("gave %s to user %d and group %d, %04o", path, uid, gid, mode)
    return True


def write_fifo(path: str, data: bytes, uid: int) -> None:
    """
    Write ``data`` to a FIFO of user ``uid``, without waiting. Some process must read it.

    Raises ``FileError`` if it is anything else (also a link to one), or if nobody reads it.
    """
    with walk(path, last_link=False) as entry:
        status = entry.require_there()
        if not stat.S_ISFIFO(status.st_mode):
            raise FileError(path, "is not a FIFO")
        if status.st_uid != uid:
            who = describe(status.st_uid)
            raise FileError(path, f"is the FIFO of {who}, not of {describe(uid)}", who)
        entry.require_none_but(uid)
        try:
            descriptor = os.open(entry.link, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as exc:
            reason = "nobody reads it" if exc.errno == errno.ENXIO else exc.strerror
            raise FileError(path, f"cannot be written to: {reason}") from None
        try:
            if os.write(descriptor, data) != len(data):
                raise FileError(path, "is full; nobody reads it")
        except BlockingIOError:
            raise FileError(path, "is full; nobody reads it") from None
        except OSError as exc:
            raise FileError(path, f"cannot be written to: {exc.strerror}") from None
        finally:
            os.close(descriptor)


def write_atomic(path: str, data: bytes, mode: int) -> None:
    """
    Write a file with this content and mode, owned by us. Whoever reads it meanwhile, or after a crash, has the whole
    old file or the whole new one. A link of this name is replaced, not followed.

    Raises ``FileError`` if another user controls the directory, or if the file cannot be written.
    """
    directory, name = os.path.split(path)
    with walk(directory) as entry:
        status = entry.require_there()
        entry.require_none_but()
        for user in writers(status):
            who = describe(user)
            raise FileError(path, f"{who} can write the directory; root puts nothing there", who)
        folder = os.open(entry.link, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        temporary = f".{name}.{os.urandom(4).hex()}"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(temporary, flags, 0o600, dir_fd=folder), "wb") as file:
                file.write(data)
                os.fchmod(file.fileno(), mode)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
            log.info("wrote %s, %04o", path, mode)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
        finally:
            os.close(folder)


def _deciders(entry: Entry) -> set[int]:
    users = {user for user in entry.controllers if not isinstance(user, Group)}
    return users | {entry.status.st_uid} if entry.status else users


def _require_trusted(entry: Entry, *others: User) -> None:
    status = entry.require_there()
    entry.require_none_but(*others)
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise FileError(entry.path, "is neither a regular file nor a directory")
    for user in writers(status):
        if user not in others:
            who, owners = describe(user), " or ".join(["root", *map(describe, others[:1])])
            raise FileError(entry.path, f"{who} can write it; only {owners} may be able to (chown, chmod go-w)", who)


def _open_readable(entry: Entry, named_by: Iterable[int], directory: bool = False) -> int:
    """Open the regular file, or the directory, if all who had a part in choosing the path can read it."""
    status = entry.require_there()
    if not (stat.S_ISDIR if directory else stat.S_ISREG)(status.st_mode):
        raise FileError(entry.path, f"is not a {'directory' if directory else 'regular file'}")
    for user, behind in _namers(entry, named_by).items():
        _require_readable(entry, user, behind)
    # opened through the descriptor, so nobody can exchange the name meanwhile
    return os.open(entry.link, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)


def _namers(entry: Entry, named_by: Iterable[int]) -> dict[User, int]:
    """The users who had a part in choosing the path, and from where on the way each of them counts."""
    return {**entry.controllers, **dict.fromkeys(set(named_by) - ours(), 0)}


def _require_readable(entry: Entry, user: User, behind: int) -> None:
    if entry.filesystem not in _KERNEL:
        _require_may(entry, user, behind, 4, "read it, so root does not read it for them")
        return
    who = describe(user)
    reason = f"could not read as much of it as root: it is a file of {entry.filesystem}"
    raise FileError(entry.path, f"{who} controls its path, but {reason}", who)


def _require_may(entry: Entry, user: User, behind: int, bit: int, what: str) -> None:
    end = entry.require_there()
    if all(_may(user, status, 1) for status in entry.passed[behind:]) and _may(user, end, bit):
        return
    who = describe(user)
    raise FileError(entry.path, f"{who} controls its path, but may not {what}", who)


def _may(user: User, status: os.stat_result, bit: int) -> bool:
    """Whether the mode grants ``bit`` (4 to read, 2 to write, 1 to search a directory)."""
    mode = status.st_mode
    of_owner, of_group, of_rest = bool(mode & bit << 6), bool(mode & bit << 3), bool(mode & bit)
    if isinstance(user, Group):
        return of_group and (of_rest or user.gid == status.st_gid)
    if user == status.st_uid:
        return of_owner
    if of_group == of_rest:
        return of_rest
    return of_group if status.st_gid in _groups(user) else of_rest


def _groups(uid: int) -> list[int]:
    try:
        user = pwd.getpwuid(uid)
    except (KeyError, OverflowError):
        return []
    return os.getgrouplist(user.pw_name, user.pw_gid)


def _own_new_directory(entry: Entry, uid: int, gid: int, mode: int) -> bool:
    """
    Give away the directory that we have just made. The owner of the directory above may have exchanged it. So it is
    only given away if it is empty, ours and in the same filesystem; this owner could as well have removed such a
    directory.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(entry.name, flags, dir_fd=entry.directory)
    try:
        status = os.fstat(descriptor)
        same = status.st_dev == entry.passed[-1].st_dev
        if status.st_uid != os.geteuid() or not same or os.listdir(descriptor):
            raise FileError(entry.path, f"{entry.name} was exchanged for another while it was made")
        os.fchown(descriptor, uid, gid)
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)
    return True
