"""
Keep a Galaxy under Gravity from starting at boot before its data is there: by a drop-in beside each unit of systemd
that starts it.

Gravity writes its units anew, and deletes units whose name fits ``galaxy-*.service``. It does not touch their drop-ins.
"""

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator
from typing import Any

import galaxy_definition
import galaxy_gravity_environment
import galaxy_gravity_installed
import galaxy_host_command
import galaxy_host_files
import galaxy_manager_systemd
from galaxy_definition import File
from galaxy_errors import FileError, ManagerError
from galaxy_gravity_instance import Instance

log = logging.getLogger(__name__)

NAME = "salt-galaxy.conf"
_MANAGED = "# Managed by Salt (formula galaxy) for "
_MAX_DIRECTORIES = 5000


def hold(
    instance: Instance,
    mounts: Iterable[str] | None,
    test: bool = False,
    directory: str = galaxy_gravity_installed.UNITS,
) -> dict[str, dict[str, Any]]:
    """
    Write the drop-ins, and remove our drop-ins that are no longer needed.

    mounts
        directories on which a filesystem must be mounted before anything starts. If there are none, the drop-ins of
        this Galaxy are removed. ``None``: the directories that its drop-ins already name
    test
        change nothing
    directory
        directory of the system's units

    Returns what changed, or would change, like ``galaxy_definition.apply``. Raises ``ManagerError`` if the units are
    not root's, and ``FileError``.
    """
    present = dict(_present(instance, directory))
    if mounts is None:
        mounts = _mounts(next(iter(present.values()), ""))
    mounts = list(mounts)
    units = set(_units(instance, directory, mounts)) if mounts else set()
    text = _text(instance, mounts)
    files: dict[str, File | None] = {
        os.path.join(directory, f"{unit}.d", NAME): File(0o644, text) for unit in sorted(units)
    }
    files.update(dict.fromkeys(path for path in present if path not in files))
    changes = galaxy_definition.apply(files, test)
    if changes and not test:
        for path in changes:
            if files[path] is None:
                # the directory stays if it has another drop-in
                with contextlib.suppress(OSError):
                    os.rmdir(os.path.dirname(path))
        if galaxy_manager_systemd.runs():
            galaxy_host_command.run(["systemctl", "daemon-reload"])
    return changes


def _text(instance: Instance, mounts: Iterable[str]) -> str:
    head = [_mark(instance), "[Unit]", "After=remote-fs.target"]
    return "\n".join([*head, *galaxy_definition.mount_lines(mounts), ""])


def _mounts(text: str) -> list[str]:
    """The mount points that a drop-in names."""
    lines = [line.partition("=") for line in text.splitlines()]
    return [value.replace("%%", "%") for key, _, value in lines if key == "AssertPathIsMountPoint"]


def _mark(instance: Instance) -> str:
    """The first line of the instance's drop-ins."""
    return f"{_MANAGED}{galaxy_gravity_installed.prefix(instance)}{_of(instance)}"


def _of(instance: Instance) -> str:
    return f" of {os.path.realpath(instance.path)}"


def _units(instance: Instance, directory: str, mounts: list[str]) -> Iterator[str]:
    """The system's units that start this Galaxy, or a part of it."""
    if instance.manager == "systemd" and instance.user:
        target = f"{galaxy_gravity_installed.prefix(instance)}.target"
        for name, text in galaxy_gravity_installed.units(instance, directory).own.items():
            if galaxy_gravity_installed.value(text, "PartOf") == target:
                yield name
    elif instance.manager == "systemd":
        raise ManagerError(
            f"{instance.path}: the units are a user's systemd's, and root cannot keep them from starting before "
            f"{', '.join(mounts)} is mounted; set galaxy_user, so that the system's systemd has the units"
        )
    elif galaxy_manager_systemd.runs():
        yield from (unit for unit, _ in galaxy_gravity_environment.starters(instance))


def _present(instance: Instance, directory: str) -> Iterator[tuple[str, str]]:
    """Path and text of the drop-ins that were written for this Galaxy, also under an older name whose unit is gone."""
    for name in galaxy_host_files.names(directory, _MAX_DIRECTORIES):
        path = os.path.join(directory, name, NAME)
        if name.endswith(".service.d"):
            try:
                text = galaxy_host_files.read(path).decode(errors="replace")
            except FileError as exc:
                log.debug("No drop-in: %s", exc)
                continue
            first = text.partition("\n")[0]
            is_old = first.startswith(_MANAGED) and first.endswith(_of(instance))
            if first == _mark(instance) or (is_old and not os.path.lexists(os.path.join(directory, name[:-2]))):
                yield path, text
