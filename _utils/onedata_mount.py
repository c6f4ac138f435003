"""
Mount, look at and unmount Onedata spaces with ``oneclient``.

The options are those of oneclient(1) and oneclient.conf(5). The token reaches oneclient in a configuration file without
a name, which vanishes with this process, however it ends. In oneclient's environment the token would be visible as long
as oneclient runs.
"""

import contextlib
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from typing import Any

import galaxy_host_command
import galaxy_host_files
import galaxy_host_holders
import galaxy_host_lock
import galaxy_host_mounts
import galaxy_host_walk
from galaxy_errors import CommandError, FileMissing, MountPointError, OnedataError
from galaxy_host_mounts import Mount
from galaxy_host_record import record
from galaxy_host_redaction import printable
from galaxy_host_secret import MASK, Secret
from galaxy_host_wait import Deadline, wait_until
from onedata_space import Space

log = logging.getLogger(__name__)

TIMEOUT = 60
ONECLIENT = "oneclient"
# packages put the machine's own settings here, oneclient.conf(5)
_CONFIG = "/etc/oneclient.conf"
_TOKEN_KEYS = (b"access_token", b"authorization_token", b"token")
# seconds: if a FUSE filesystem's process hangs, a look at it would never return
_LOOK = 5


@record(frozen=True)
class State:
    """
    The state of a mount point.

    mounted
        something is mounted there
    alive
        it is Onedata, and answers. ``False`` for a FUSE mount that hangs, or whose process has ended ("Transport
        endpoint is not connected")
    fstype, source, options
        facts of the mount, as ``findmnt`` shows them; empty if there is none
    problem
        why it does not answer
    hangs
        it gives no answer at all, and may come back
    foreign
        it is something other than Onedata
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
    """What ``oneclient --version`` says. Raises ``CommandError`` if oneclient is not installed."""
    said = galaxy_host_command.run([ONECLIENT, "--version"])
    return next((line.rpartition(":")[2].strip() for line in said.splitlines() if line.strip()), "")


def look(space: Space) -> State:
    """The state of the space's mount point now."""
    mount = galaxy_host_mounts.mounted_at(space.mount_point)
    if not mount:
        return State(mounted=False, alive=False)
    facts = (mount.fstype, mount.source, mount.options)
    problem = _foreign(mount)
    if problem:
        return State(True, False, *facts, problem=problem, foreign=True)
    try:
        galaxy_host_command.run(["stat", "--file-system", "--", space.mount_point], timeout=_LOOK)
    except CommandError as exc:
        last = exc.stderr.splitlines()[-1].rpartition(": ")[2] if exc.stderr else ""
        return State(True, False, *facts, problem=last or f"does not answer within {_LOOK} s", hangs=not last)
    return State(True, True, *facts)


def status(space: Space) -> dict[str, Any]:
    """The state as plain data: see ``onedata.status``."""
    state = look(space)
    return {
        **{"mounted": state.mounted, "alive": state.alive, "problem": state.problem},
        **{"provider_host": space.provider_host, "mount_point": space.mount_point},
        **{"fstype": state.fstype, "source": state.source, "options": state.options},
    }


def unknown(problem: str) -> dict[str, Any]:
    """The status of a space of which only the ``problem`` is known."""
    return {
        **{"mounted": None, "alive": None, "problem": problem, "provider_host": None, "mount_point": None},
        **{"fstype": "", "source": "", "options": ""},
    }


def require_mountable(space: Space) -> State:
    """
    The state of the mount point now, if ``mount`` would refuse nothing.

    Raises ``MountPointError`` if something else is mounted or files lie there, or if another user could put something
    else in its place.
    """
    state = require_unmountable(space)
    if not state.mounted:
        _require_empty(space)
    return state


def mount(space: Space, token: Secret, timeout: float = TIMEOUT) -> bool:
    """
    Mount the space. If there is a dead mount of it, this is detached first. ``False``: it was mounted already.

    timeout
        seconds to wait until the mount answers. A mount that hangs also has so long before it counts as dead

    Raises ``MountPointError`` like ``require_mountable``; ``OnedataError``, with oneclient's message, if oneclient
    fails; ``LockError`` if another mount or unmount of the space takes longer.
    """
    with _alone("onedata.mount", space, timeout):
        return _mount(space, token, timeout)


def _mount(space: Space, token: Secret, timeout: float) -> bool:
    state = require_mountable(space)
    waits_for = f"Onedata space {space.name} must answer on {space.mount_point}"
    if state.alive or (state.hangs and wait_until(lambda: look(space).alive, Deadline(timeout), what=waits_for)):
        return False
    if state.mounted:
        log.info("Onedata space %s is mounted, but %s: it is taken away first", space.name, state.problem)
        _unmount(space, lazy=True)
        _require_empty(space)
    galaxy_host_mounts.make_directory(space.mount_point)
    deadline = Deadline(timeout)
    with _config_file(token) as config:
        argv = _argv(space, config)
        log.info("mounting Onedata space %s on %s", space.name, space.mount_point)
        try:
            galaxy_host_command.run(argv, timeout=timeout)
        except CommandError as exc:
            raise OnedataError(space.name, _reason(exc, token)) from None
        if not wait_until(lambda: look(space).alive, deadline, what=waits_for):
            problem = look(space).problem or "nothing is mounted"
            raise OnedataError(space.name, f"oneclient returned, but after {timeout:g} s {problem}")
    return True


def require_unmountable(space: Space) -> State:
    """
    The state of the mount point now. Raises ``MountPointError`` if something else is mounted there, or if another user
    could put something else in its place.
    """
    galaxy_host_mounts.require_place(space.mount_point)
    state = look(space)
    if state.foreign:
        raise MountPointError(space.mount_point, f"{state.problem}. Nothing was changed")
    return state


def unmount(space: Space, lazy: bool = False) -> bool:
    """
    Unmount the space. ``False``: nothing was mounted.

    lazy
        detach it now, even if it is in use; for a mount whose process is gone this is the only way

    Raises ``MountPointError`` if it is busy or something else is mounted there, and ``LockError`` like ``mount``.
    """
    with _alone("onedata.unmount", space, TIMEOUT):
        return _unmount(space, lazy)


def _unmount(space: Space, lazy: bool) -> bool:
    state = require_unmountable(space)
    if not state.mounted:
        return False
    argv = ["umount", *(["--lazy"] if lazy or not state.alive else []), "--", space.mount_point]
    log.info("unmounting Onedata space %s from %s", space.name, space.mount_point)
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


def _foreign(mount: Mount) -> str:
    """
    Why the mount is not ours; empty if it is. Ours has oneclient's name, because libfuse names a mount by its program,
    and root mounted it. A user's own FUSE filesystem may take any name, but the kernel remembers whose it is.
    """
    user = next((part[8:] for part in mount.options.split(",") if part.startswith("user_id=")), "")
    if user not in ("0", str(os.geteuid())):
        whose = f" of {galaxy_host_walk.describe(int(user))}" if user.isdecimal() else ""
    elif mount.fstype == "fuse.oneclient" or (mount.fstype, mount.source) == ("fuse", ONECLIENT):
        return ""
    else:
        whose = ""
    named = mount.source if mount.source == mount.fstype else f"{mount.source} ({mount.fstype})"
    return f"{named}{whose} is mounted there, which is not Onedata"


def _require_empty(space: Space) -> None:
    path = space.mount_point
    if os.path.lexists(path) and not os.path.isdir(path):
        raise MountPointError(path, "not a directory")
    if os.path.isdir(path) and os.listdir(path) and not space.nonempty:
        raise MountPointError(path, "not empty; mounting would hide what is in it. Move it away, or set nonempty")


def _argv(space: Space, config: str) -> list[str]:
    argv = [ONECLIENT, "--config", config, "--host", space.provider_host]
    if space.provider_port:
        argv += ["--port", str(space.provider_port)]
    if space.insecure:
        argv.append("--insecure")
    argv += ["--opt", "allow_other"]
    if space.nonempty and not _mounts_over_files():
        argv += ["--opt", "nonempty"]
    return [*argv, *space.options, space.mount_point]


def _mounts_over_files() -> bool:
    """Whether its libfuse mounts over files without being told. Version 3 does, and refuses the option ``nonempty``."""
    return bool(re.search(r"(?im)^fuse library:\s*3\.", galaxy_host_command.run([ONECLIENT, "--version"])))


@contextlib.contextmanager
def _config_file(token: Secret) -> Iterator[str]:
    """
    A configuration file with the machine's settings and the token. It has no name, only the path of our descriptor.
    """
    descriptor, name = tempfile.mkstemp(prefix="onedata-", dir="/run")
    try:
        os.unlink(name)
        os.write(descriptor, b"\n".join([*_machine_settings(), b"access_token = " + token.reveal(), b""]))
        yield f"/proc/{os.getpid()}/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _machine_settings() -> list[bytes]:
    try:
        lines = galaxy_host_files.read(_CONFIG).splitlines()
    except FileMissing:
        return []
    return [line for line in lines if line.partition(b"=")[0].strip() not in _TOKEN_KEYS]


def _reason(exc: CommandError, token: Secret) -> str:
    said = exc.stderr.splitlines()[-1] if exc.stderr else str(exc)
    return f"oneclient failed: {printable(said.replace(token.reveal().decode(errors='replace'), MASK))}"
