"""
Walk to a file whose path another user may have chosen, and find out who controls the path: see ``galaxy_host_files``.
"""

import contextlib
import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from galaxy_errors import FileError, FileMissing

# path_resolution(7)
MAX_LINKS = 40
_PATH_MAX = 4096
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Group(NamedTuple):
    """Any member of a group; without a number, everybody."""

    gid: int | None


EVERYBODY = Group(None)
User = int | Group


class Entry:
    """
    The end of a path.

    directory, name
        descriptor of the last directory, and the name in it
    descriptor, status
        of the file with this name; ``None`` if there is none
    controllers
        users who control the path, each with the number of directories in ``passed`` before the user's control begins
    passed
        the status of each directory on the way
    filesystem
        the type of a filesystem without a device of its own, as mountinfo names it; else empty
    """

    __slots__ = ("controllers", "descriptor", "directory", "filesystem", "name", "passed", "path", "status")

    def __init__(self, path: str):
        self.path = path
        self.directory: int | None = None
        self.descriptor: int | None = None
        self.status: os.stat_result | None = None
        self.name = self.filesystem = ""
        self.controllers: dict[User, int] = {}
        self.passed: list[os.stat_result] = []

    def close(self) -> None:
        for descriptor in (self.directory, self.descriptor):
            if descriptor is not None:
                os.close(descriptor)
        self.directory = self.descriptor = None

    @property
    def link(self) -> str:
        """A path of the very same file, even if something else has its name by now."""
        return f"/proc/self/fd/{self.descriptor}"

    def require_there(self) -> os.stat_result:
        """The status. Raises ``FileMissing`` if there is nothing at the end of the path."""
        if self.status is None:
            raise FileMissing(self.path, "no such file or directory")
        return self.status

    def require_none_but(self, *allowed: User) -> None:
        """Raises ``FileError`` if users or groups other than the ``allowed`` ones control the path."""
        for user in self.controllers:
            if user not in allowed:
                who = describe(user)
                raise FileError(self.path, f"{who} can put something else there: a directory above is theirs", who)


@contextlib.contextmanager
def walk(
    path: str, make: Callable[[Entry], object] | None = None, links: bool = True, last_link: bool = True
) -> Iterator[Entry]:
    """
    Walk ``path`` to its end.

    make
        called if nothing has the next name; without it the walk ends there
    links, last_link
        ``False``: refuse a link in a part of the path that others control, or at its end

    Raises ``FileError``. An ``OSError`` of the caller, while the walk is open, becomes one too.
    """
    entry = Entry(path)
    try:
        _go(entry, make, links, last_link)
        yield entry
    except FileNotFoundError:
        raise FileMissing(path, "no such file or directory") from None
    except OSError as exc:
        raise FileError(path, f"cannot be used: {exc.strerror}") from None
    finally:
        entry.close()


def _go(entry: Entry, make: Callable[[Entry], object] | None, links: bool, last_link: bool) -> None:
    path = entry.path
    require_path(path)
    followed, names = 0, _names(path)
    entry.directory = os.open("/", _LOOK | os.O_DIRECTORY)
    status = root = os.fstat(entry.directory)
    while names:
        entry.name = names.pop()
        entry.passed.append(status)
        entry.descriptor = _open(entry, status, make, last=not names)
        if entry.descriptor is None:
            return
        inner = os.fstat(entry.descriptor)
        _add_controllers(entry, status, inner.st_uid)
        if inner.st_dev != status.st_dev:
            entry.filesystem = _filesystem(entry, inner) if inner.st_dev != root.st_dev else ""
        if not stat.S_ISLNK(inner.st_mode):
            if not names:
                entry.status = inner
                return
            os.close(entry.directory)
            entry.directory, entry.descriptor, status = entry.descriptor, None, inner
            continue
        followed += 1
        if followed > MAX_LINKS:
            raise FileError(path, f"leads through more than {MAX_LINKS} symbolic links")
        if not last_link and not names:
            raise FileError(path, "is a symbolic link, which is not followed here")
        if inner.st_uid not in ours():
            entry.controllers.setdefault(inner.st_uid, len(entry.passed))
        if not links:
            for user in entry.controllers:
                who = describe(user)
                raise FileError(path, f"{entry.name} is a symbolic link that {who} may have made; not followed", who)
        target = os.readlink("", dir_fd=entry.descriptor)
        os.close(entry.descriptor)
        entry.descriptor = None
        names += _names(target)
        if target.startswith("/"):
            os.close(entry.directory)
            entry.directory, entry.filesystem = None, ""
            entry.directory, status = os.open("/", _LOOK | os.O_DIRECTORY), root
    # the root directory, or a link to the directory where we are
    entry.descriptor, entry.status = os.dup(entry.directory), status


def require_path(path: object) -> None:
    """Raises ``FileError`` unless it is an absolute path that is not longer than the kernel allows."""
    try:
        good = (
            isinstance(path, str) and path.startswith("/") and "\0" not in path and len(os.fsencode(path)) < _PATH_MAX
        )
    except UnicodeError:
        good = False
    if not good:
        raise FileError(repr(path)[:200], "is not an absolute path")


def _names(path: str) -> list[str]:
    """The names in a path, the last one first."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _open(entry: Entry, status: os.stat_result, make: Callable[[Entry], object] | None, last: bool) -> int | None:
    try:
        return _open_name(entry, last)
    except FileNotFoundError:
        # each user who can write to the directory can make the missing name; but if we make it, it is ours
        _add_controllers(entry, status, os.geteuid() if make else None)
        if not make:
            return None
    make(entry)
    return _open_name(entry, last)


def _open_name(entry: Entry, last: bool) -> int:
    if not last:
        # opening it as a directory makes autofs mount what belongs there
        try:
            return os.open(entry.name, _LOOK | os.O_DIRECTORY, dir_fd=entry.directory)
        except NotADirectoryError:
            descriptor = os.open(entry.name, _LOOK, dir_fd=entry.directory)
        if stat.S_ISLNK(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise FileError(entry.path, f"{entry.name} is not a directory")
    return os.open(entry.name, _LOOK, dir_fd=entry.directory)


def _add_controllers(entry: Entry, directory: os.stat_result, owner: int | None) -> None:
    """
    Add those who can put something into the directory in place of what ``owner`` has there (``None``: nothing is
    there).
    """
    if directory.st_uid in ours() and not directory.st_mode & 0o022:
        return
    users = list(writers(directory))
    if directory.st_mode & stat.S_ISVTX and owner is not None:
        users = [user for user in (directory.st_uid, owner) if user not in ours()]
    for user in users:
        entry.controllers.setdefault(user, len(entry.passed))


def _filesystem(entry: Entry, status: os.stat_result) -> str:
    """
    The type of a filesystem without a device. Raises ``FileError`` if a process of another user answers for it (FUSE):
    it may report any owner and mode, or never answer.
    """
    if os.major(status.st_dev):
        return ""
    with open(f"/proc/self/fdinfo/{entry.descriptor}", encoding="ascii") as file:
        number = next((line.split()[1] for line in file if line.startswith("mnt_id:")), "")
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        line = next((line for line in file if line.split(" ", 1)[0] == number), "")
    # proc(5): … - type source options
    kind, _, options = line.rpartition(" - ")[2].partition(" ")
    if kind.split(".")[0] in ("fuse", "fuseblk"):
        owner = next((part[8:] for part in options.strip().split(",") if part.startswith("user_id=")), "0")
        if int(owner) not in ours():
            who = describe(int(owner))
            raise FileError(entry.path, f"is on a filesystem that a process of {who} serves", who)
    return kind


def describe(user: User) -> str:
    """The name of a user, for a message."""
    kind, number = ("group", user.gid) if isinstance(user, Group) else ("user", user)
    if number is None:
        return "everybody"
    try:
        return f"{kind} {grp.getgrgid(number).gr_name if kind == 'group' else pwd.getpwuid(number).pw_name}"
    except (KeyError, OverflowError):
        return f"{kind} {number}"


def ours() -> set[int]:
    """Root, and the user as whom we run."""
    return {0, os.geteuid()}


def writers(status: os.stat_result) -> Iterator[User]:
    """Those other than root and ourselves who can write the file or directory."""
    if status.st_uid not in ours():
        yield status.st_uid
    if status.st_mode & 0o020 and status.st_gid != 0:
        yield Group(status.st_gid)
    if status.st_mode & 0o002:
        yield EVERYBODY
