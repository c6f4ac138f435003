"""
Mount, look at and unmount Onedata spaces with ``oneclient``.

Options are those of oneclient(1) and oneclient.conf(5). The token reaches it in a configuration file that only root
can read and that is gone when the mount is there: its environment would show the token for as long as it runs.
"""

import contextlib
import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Iterator

import galaxy_host_command
import galaxy_host_holders
import galaxy_host_lock
import galaxy_host_mounts
from galaxy_errors import CommandError, MountPointError, OnedataError
from galaxy_host_secret import MASK, Secret
from galaxy_host_wait import Deadline, wait_until
from onedata_space import Space

TIMEOUT = 60
ONECLIENT = "oneclient"
# where packages put the machine's own settings, oneclient.conf(5)
_CONFIG = "/etc/oneclient.conf"
_TOKEN_KEYS = ("access_token", "authorization_token", "token")
# a look at a FUSE filesystem whose process hangs would never return
_LOOK = 5


@dataclasses.dataclass(frozen=True)
class State:
    """
    How a mount point is.

    mounted
        something is mounted there
    alive
        it is Onedata, and answers; ``False`` for a FUSE mount whose process has ended ("Transport endpoint is not
        connected") or hangs
    fstype, source, options
        of the mount, as ``findmnt`` shows them; empty where there is none
    problem
        why it does not answer
    hangs
        it gives no answer at all, and may come back
    foreign
        it is something else than Onedata
    """

    mounted: bool
    alive: bool
    fstype: str = ""
    source: str = ""
    options: str = ""
    problem: str = ""
    hangs: bool = False
    foreign: bool = False


def version() -> str:
    """What ``oneclient --version`` says. Raises ``CommandError`` where it is not installed."""
    said = galaxy_host_command.run([ONECLIENT, "--version"])
    return next((line.rpartition(":")[2].strip() for line in said.splitlines() if line.strip()), "")


def look(space: Space) -> State:
    """How the space's mount point is now."""
    mount = galaxy_host_mounts.mounted_at(space.mount_point)
    if not mount:
        return State(mounted=False, alive=False)
    facts = (mount.fstype, mount.source, mount.options)
    if mount.fstype.split(".")[0] != "fuse":
        return State(
            True, False, *facts, problem=f"{mount.source} is mounted there, which is not Onedata", foreign=True
        )
    try:
        galaxy_host_command.run(["stat", "--file-system", "--", space.mount_point], timeout=_LOOK)
    except CommandError as exc:
        last = exc.stderr.splitlines()[-1].rpartition(": ")[2] if exc.stderr else ""
        return State(True, False, *facts, problem=last or f"does not answer within {_LOOK} s", hangs=not last)
    return State(True, True, *facts)


def require_mountable(space: Space) -> State:
    """
    How the mount point is now, where ``mount`` would find nothing to refuse.

    Raises ``MountPointError`` where something else is mounted or files lie there.
    """
    state = require_unmountable(space)
    if not state.mounted:
        _require_empty(space)
    return state


def mount(space: Space, token: Secret, timeout: float = TIMEOUT) -> bool:
    """
    Mount the space; a dead mount of it is taken away first. ``False``: it was mounted already.

    timeout
        seconds until the mount answers; also those that a mount which hangs is given before it counts as dead

    Raises ``MountPointError`` where something else is mounted or files lie there, ``OnedataError`` where oneclient
    fails, with its own words, ``LockError`` where another mount or unmount of the space takes longer.
    """
    with _alone("onedata.mount", space, timeout):
        return _mount(space, token, timeout)


def _mount(space: Space, token: Secret, timeout: float) -> bool:
    state = require_mountable(space)
    if state.alive or (state.hangs and wait_until(lambda: look(space).alive, Deadline(timeout))):
        return False
    if state.mounted:
        _unmount(space, lazy=True)
        _require_empty(space)
    _make_mount_point(space)
    deadline = Deadline(timeout)
    with _config_file(token) as config:
        argv = _argv(space, config)
        try:
            galaxy_host_command.run(argv, timeout=timeout)
        except CommandError as exc:
            raise OnedataError(space.name, _reason(exc, token)) from None
        if not wait_until(lambda: look(space).alive, deadline):
            problem = look(space).problem or "nothing is mounted"
            raise OnedataError(space.name, f"oneclient returned, but after {timeout:g} s {problem}")
    return True


def require_unmountable(space: Space) -> State:
    """How the mount point is now. Raises ``MountPointError`` where something else is mounted there."""
    state = look(space)
    if state.foreign:
        raise MountPointError(space.mount_point, f"{state.problem}. Nothing was changed")
    return state


def unmount(space: Space, lazy: bool = False) -> bool:
    """
    Unmount the space. ``False``: nothing was mounted.

    lazy
        detach it now, whoever uses it; the only way with a mount whose process is gone

    Raises ``MountPointError`` where it is busy, or something else is mounted there, ``LockError`` as ``mount`` does.
    """
    with _alone("onedata.unmount", space, TIMEOUT):
        return _unmount(space, lazy)


def _unmount(space: Space, lazy: bool) -> bool:
    state = require_unmountable(space)
    if not state.mounted:
        return False
    argv = ["umount", *(["--lazy"] if lazy or not state.alive else []), "--", space.mount_point]
    try:
        galaxy_host_command.run(argv, timeout=TIMEOUT)
    except CommandError as exc:
        raise MountPointError(space.mount_point, f"cannot be unmounted{_users(space) or f': {exc}'}") from None
    if galaxy_host_mounts.mounted_at(space.mount_point):
        raise MountPointError(space.mount_point, "another filesystem is mounted under the one that was unmounted")
    return True


def _alone(action: str, space: Space, timeout: float) -> contextlib.AbstractContextManager[None]:
    return galaxy_host_lock.hold(f"{action} {space.name}", f"onedata:{space.name}", Deadline(timeout))


def _users(space: Space) -> str:
    device = os.stat(space.mount_point).st_dev
    found = galaxy_host_holders.find(f"{os.major(device)}:{os.minor(device)}", [space.mount_point])
    return f", it is in use by {', '.join(map(str, found))}" if found else ""


def _require_empty(space: Space) -> None:
    path = space.mount_point
    if os.path.lexists(path) and not os.path.isdir(path):
        raise MountPointError(path, "not a directory")
    if os.path.isdir(path) and os.listdir(path) and not space.nonempty:
        raise MountPointError(path, "not empty; mounting would hide what is in it. Move it away, or set nonempty")


def _make_mount_point(space: Space) -> None:
    owner = (-1 if space.uid is None else space.uid, -1 if space.gid is None else space.gid)
    if galaxy_host_mounts.make_directory(space.mount_point) and owner != (-1, -1):
        os.chown(space.mount_point, *owner)


def _argv(space: Space, config: str) -> list[str]:
    argv = [ONECLIENT, "--config", config, "--host", space.provider_host]
    if space.provider_port:
        argv += ["--port", str(space.provider_port)]
    if space.insecure:
        argv.append("--insecure")
    fuse = ["allow_other"]
    fuse += [f"{key}={value}" for key, value in (("uid", space.uid), ("gid", space.gid)) if value is not None]
    fuse += ["nonempty"] if space.nonempty else []
    for option in fuse:
        argv += ["--opt", option]
    return [*argv, *space.options, space.mount_point]


@contextlib.contextmanager
def _config_file(token: Secret) -> Iterator[str]:
    """A configuration file with the machine's settings and the token: mode 0600, on tmpfs, gone after the mount."""
    with tempfile.TemporaryDirectory(prefix="onedata-", dir="/run") as directory:
        path = os.path.join(directory, "oneclient.conf")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            for line in _machine_settings():
                file.write(line.encode(errors="surrogateescape") + b"\n")
            file.write(b"access_token = " + token.reveal() + b"\n")
        yield path


def _machine_settings() -> list[str]:
    try:
        text = pathlib.Path(_CONFIG).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.partition("=")[0].strip() not in _TOKEN_KEYS]


def _reason(exc: CommandError, token: Secret) -> str:
    said = exc.stderr.splitlines()[-1] if exc.stderr else str(exc)
    return f"oneclient failed: {said.replace(token.reveal().decode(errors='replace'), MASK)}"
