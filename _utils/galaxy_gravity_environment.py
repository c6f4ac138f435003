"""
Find the units of the system's systemd that start Gravity's supervisord, and Gravity's settings that only they have.
"""

import logging
import os
from collections.abc import Iterator

import galaxy_gravity_installed
from galaxy_errors import GalaxyError
from galaxy_gravity_instance import Instance
from galaxy_host_later import Later
from galaxy_host_process import Invocation

TYPE_CHECKING = False
if TYPE_CHECKING:
    import galaxy_manager_systemd
else:
    galaxy_manager_systemd = Later("galaxy_manager_systemd")

log = logging.getLogger(__name__)

_PROGRAMS = ("galaxyctl", "galaxy", "supervisord")
_PREFIX = "GRAVITY_"


def variables(instance: Instance) -> dict[str, str]:
    """
    The ``GRAVITY_*`` variables of the unit that starts the instance's supervisord. Empty if no unit has any. Empty too
    if the programs are where the configuration alone says: then no unit needs to be looked for.
    """
    if instance.manager != "supervisor" or _is_installed(instance) or not galaxy_manager_systemd.runs():
        return {}
    try:
        every = [invocation.environment or {} for _, invocation in starters(instance, secrets=True)]
    except GalaxyError as exc:
        log.debug("galaxy: %s", exc)
        return {}
    found = ({name: text for name, text in one.items() if name.startswith(_PREFIX)} for one in every)
    return next(filter(None, found), {})


def starters(instance: Instance, secrets: bool = False) -> Iterator[tuple[str, Invocation]]:
    """
    The units that start the instance's supervisord, under its own name or through Gravity, each with its command.

    secrets
        ``True``: read ``EnvironmentFile=`` too

    Raises ``ManagerError`` if systemd does not answer.
    """
    names = {instance.path, os.path.realpath(instance.path), instance.galaxy_config}
    if instance.state_dir:
        names.add(os.path.join(instance.state_dir, "supervisor", "supervisord.conf"))
    for definition, shown in galaxy_manager_systemd.candidates():
        command = next((one for one in definition.commands(secrets) if _starts(one, instance, names)), None)
        if command:
            yield shown["Id"], command


def _is_installed(instance: Instance) -> bool:
    if instance.state_dir is None:
        return False
    return os.path.isdir(
        os.path.join(galaxy_gravity_installed.programs_directory(instance.state_dir), f"{instance.name}.d")
    )


def _starts(invocation: Invocation, instance: Instance, names: set[str]) -> bool:
    """Whether a command starts Galaxy's supervisord: under its own name or through Gravity."""
    # an argument of a shell may be a whole command
    words = [word for argument in invocation.argv for word in argument.split()]
    programs = [place for place, word in enumerate(words) if os.path.basename(word) in _PROGRAMS]
    if not programs:
        return False
    environment = invocation.environment or {}
    named = [environment[key] for key in ("GRAVITY_CONFIG_FILE", "GALAXY_CONFIG_FILE") if key in environment]
    told = {word.rpartition("=")[2] for word in words} | set(named)
    # without a file on its command line, Gravity looks for one in the directory where it is called
    is_told = named or any(word == "-c" or word.startswith("--config-file") for word in words[programs[0] :])
    is_there = instance.galaxy_root is not None and invocation.cwd == instance.galaxy_root
    return not names.isdisjoint(told) or (is_there and not is_told)
