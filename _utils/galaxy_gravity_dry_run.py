"""
Find out what ``galaxyctl update`` would write: run the real Gravity as Galaxy's user, in a directory made for this.
"""

import contextlib
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping

import galaxy_gravity_installed
import galaxy_host_files
from galaxy_gravity_command import Commands
from galaxy_gravity_instance import Instance
from galaxy_host_command import SYSTEM_PATH
from galaxy_host_record import record

# Gravity's systemctl in a dry run: it enables, stops and reloads nothing, and answers only the question for the PATH
_SYSTEMCTL = """#!/bin/sh
case " $* " in
*" show-environment "*) {real} show-environment 2>/dev/null || echo PATH={path} ;;
esac
exit 0
"""
# Gravity's own name of the shared directory
_SHARED = "galaxy-gravity"
_MAX_FILE = 64 << 10


@record(frozen=True)
class Written:
    """
    The files that Gravity wrote, for all instances of the configuration file.

    units
        text by name
    programs
        text by path below ``supervisord.conf.d``
    """

    units: Mapping[str, str]
    programs: Mapping[str, str]


@record(frozen=True)
class Place:
    """A directory of Galaxy's user. Its ``units`` and ``state`` take the place of the real ones."""

    root: str
    units: str
    state: str
    environment: Mapping[str, str]


def run(commands: Commands, is_system: bool, timeout: float = 60) -> Written:
    """
    Let Gravity write into an empty place, and read the result.

    is_system
        units for the system's manager, and not for a user's

    Raises ``CommandError`` if Gravity refuses the configuration, and like ``Commands.galaxyctl``.
    """
    instance, uid = commands.instance, commands.account.uid
    shares = has_shared_state(instance)
    with place(commands) as here:
        # instances that share a directory each have logs of their own there, so only the shared directory is replaced
        where = {"XDG_CONFIG_HOME": here.root} if shares else {"GRAVITY_STATE_DIR": here.state}
        state = os.path.join(here.root, _SHARED) if shares else here.state
        variables = {**here.environment, **where}
        commands.galaxyctl(*options(is_system), "update", environment=variables, timeout=timeout)
        units = {
            name: galaxy_host_files.read(os.path.join(here.units, name), _MAX_FILE, [uid])
            for name in galaxy_host_files.names(here.units, named_by=[uid])
        }
        there = dataclasses.replace(instance, state_dir=state)
        programs = galaxy_gravity_installed.programs(there, [uid])

    def real(text: str) -> str:
        return text.replace(state, instance.state_dir or state)

    return Written(
        {name: real(data.decode(errors="replace")) for name, data in units.items()},
        {name: real(text) for name, text in programs.items()},
    )


@contextlib.contextmanager
def place(commands: Commands) -> Iterator[Place]:
    """Make a place for Gravity to write to; it is removed afterwards."""
    base = tempfile.mkdtemp(prefix="galaxy-update-", dir=_base())
    try:
        root, tools = os.path.join(base, "files"), os.path.join(base, "bin")
        units, state = os.path.join(root, "units"), os.path.join(root, "state")
        os.mkdir(tools)
        program = os.path.join(tools, "systemctl")
        _write_systemctl(program)
        for path in (base, tools, program):
            # root owns it, and Galaxy's user runs it
            os.chmod(path, 0o755)  # noqa: S103
        for directory in (root, units, state):
            os.mkdir(directory, 0o700)
        if os.geteuid() == 0:
            for directory in (units, state, root):
                os.chown(directory, commands.account.uid, commands.account.gid)
        environment = {"PATH": f"{tools}:{SYSTEM_PATH}", "GRAVITY_SYSTEMD_UNIT_PATH": units}
        yield Place(root, units, state, environment)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def options(is_system: bool) -> list[str]:
    """Options of galaxyctl that make the same units, whoever runs it."""
    return ["--no-user"] if is_system else ["--user"]


def has_shared_state(instance: Instance) -> bool:
    """
    Whether Gravity keeps the state of several instances of the file in one directory of the user, because no other
    directory was named.
    """
    return instance.is_one_of_several and os.path.basename(instance.state_dir or _SHARED) == _SHARED


def _base() -> str | None:
    """A directory on a filesystem from which programs can be run."""
    for directory in (tempfile.gettempdir(), "/var/tmp", "/var/lib"):  # noqa: S108
        with contextlib.suppress(OSError):
            if not os.statvfs(directory).f_flag & os.ST_NOEXEC and os.access(directory, os.W_OK):
                return directory
    return None


def _write_systemctl(path: str) -> None:
    real = shutil.which("systemctl", path=SYSTEM_PATH) or "false"
    with open(path, "w", encoding="utf-8") as file:
        file.write(_SYSTEMCTL.format(real=real, path=SYSTEM_PATH))
