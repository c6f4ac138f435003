"""
Find the units of systemd that Gravity wrote for a Galaxy. What Gravity notes in their target proves it.
"""

import os
import re
from collections.abc import Iterable

import galaxy_gravity_installed
import galaxy_gravity_supervisor
import galaxy_host_files
import galaxy_manager_systemd
from galaxy_errors import ConfigError, FileMissing, ManagerError
from galaxy_gravity_instance import Instance, Program
from galaxy_host_command import Account
from galaxy_host_pattern import Pattern
from galaxy_manager_systemd import Systemd

# the system's manager reads units from these directories; Gravity writes into the first
PLACES = (
    *("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system"),
    *("/usr/lib/systemd/system", "/lib/systemd/system"),
)
_OF_USER = ".config/systemd/user"
_MAX_FILE, _MAX_NAMES = 1 << 16, 5000
_PART_OF, _WANTS = Pattern(r"^PartOf=(.*)$", re.MULTILINE), Pattern(r"^Wants=(.*)$", re.MULTILINE)


class Folder:
    """
    A directory of unit files.

    user
        the user whose manager reads it; ``None``: the system's manager
    """

    def __init__(self, path: str, user: Account | None = None):
        self.path, self.user = path, user
        self._named_by = () if user is None else (user.uid,)

    def names(self) -> list[str]:
        """The names of files that may be Gravity's."""
        names = galaxy_host_files.names(self.path, _MAX_NAMES, self._named_by)
        return [name for name in names if name.startswith("galaxy") and name.endswith((".service", ".target"))]

    def read(self, name: str) -> str | None:
        """The text of a unit file; ``None`` if there is none. Raises ``FileError``."""
        path = os.path.join(self.path, name)
        try:
            data = galaxy_host_files.read(path, _MAX_FILE, self._named_by, trusted=self.user is None)
        except FileMissing:
            return None
        return data.decode(errors="replace")

    def services(self, names: Iterable[str]) -> dict[str, list[str]]:
        """The services among the files, by the target that they are part of."""
        found: dict[str, list[str]] = {}
        for name in names:
            if name.endswith(".service"):
                for target in _values(_PART_OF, self.read(name)):
                    found.setdefault(target, []).append(name)
        return found


class Found:
    """
    The result of ``find``.

    units, stale
        units by the program's name; names of units that are no longer configured
    is_foreign
        whether another configuration has the target
    problems
        sentences
    """

    def __init__(self) -> None:
        self.is_foreign = False
        self.units: dict[str, Systemd] = {}
        self.stale: list[str] = []
        self.problems: list[str] = []

    def take(self, instance: Instance, folder: Folder, target: str, services: list[str], wants: list[str]) -> None:
        """Add the units of a target of ours that have a file, that the target wants, and that are configured."""
        wanted = names(instance)
        user = folder.user.name if folder.user else None
        for program, unit in wanted.items():
            if file_of(unit) in services and unit in wants:
                self.units[program] = Systemd(unit, user, namespace=instance.log_namespace)
        files = {file_of(unit) for unit in wanted.values()}
        old = [name for name in services if name not in files]
        self.stale += [name for name in old if "@." not in name]
        self.stale += [unit for unit in wants if file_of(unit) in files and unit not in wanted.values()]
        if any("@." in name for name in services):
            self._add_instances(user, services, set(wanted.values()))
        # templates without any instance left
        known = {file_of(unit) for unit in self.stale}
        self.stale += [name for name in old if "@." in name and name not in known]
        if user and not os.path.lexists(f"{folder.path}/default.target.wants/{target}"):
            self.problems.append(
                f"no default.target of user {user} wants {target}, so nothing of it starts at boot: run systemctl "
                f"--user add-wants default.target {target}, and loginctl enable-linger {user}."
            )

    def _add_instances(self, user: str | None, services: list[str], wanted: set[str]) -> None:
        """Add instances of our templates that run although nothing wants them any more."""
        templates = {name for name in services if "@." in name}
        try:
            loaded = galaxy_manager_systemd.loaded(sorted(name.replace("@.", "@*.") for name in templates), user)
        except ManagerError as exc:
            self.problems.append(f"{exc}.")
            return
        self.stale += [
            unit for unit in loaded if file_of(unit) in templates and unit not in wanted and unit not in self.stale
        ]


def find(instance: Instance) -> Found:
    """
    The units of an instance, in the first directory that has its target: of the system's manager, or of Galaxy's user.

    Raises ``FileError`` if others than root can write a unit file of root's.
    """
    hashes = galaxy_gravity_installed.marks(instance)
    found = Found()
    target = f"{galaxy_gravity_installed.prefix(instance)}.target"
    for folder in _folders(instance):
        names = folder.names()
        targets = {name: folder.read(name) or "" for name in names if name.endswith(".target")}
        ours = {name: text for name, text in targets.items() if galaxy_gravity_installed.owner(text) in hashes}
        if target in targets and target not in ours:
            found.is_foreign = True
            found.problems.append(
                f"{folder.path}/{target} belongs to another Gravity configuration than {instance.path}: its units are "
                "not this Galaxy's; give one of the two an instance_name."
            )
        if ours:
            services = folder.services(names)
            if target in ours:
                found.take(instance, folder, target, services.get(target, []), _values(_WANTS, ours[target]))
            found.stale += _old(instance, target, ours, services)
        if found.units:
            break
    return found


def names(instance: Instance) -> dict[str, str]:
    """Gravity's name for the unit of each program of an instance, by the program's name."""
    prefix = galaxy_gravity_installed.prefix(instance)
    return {program.name: f"{prefix}-{_suffix(instance, program)}.service" for program in instance.programs}


def file_of(unit: str) -> str:
    """The file of a unit. An instance has the file of its template."""
    name, at, _ = unit.removesuffix(".service").partition("@")
    return f"{name}{at}.service"


def _suffix(instance: Instance, program: Program) -> str:
    is_alone = galaxy_gravity_supervisor.siblings(instance, program) == 1
    return program.service if is_alone else f"{program.service}@{program.number}"


def _folders(instance: Instance) -> Iterable[Folder]:
    yield from map(Folder, dict.fromkeys(map(os.path.realpath, PLACES)))
    try:
        account = Account.of(galaxy_gravity_installed.user_id(instance))
    except ConfigError:
        return
    if account and account.uid:
        yield Folder(os.path.join(account.home, _OF_USER), account)


def _old(instance: Instance, target: str, ours: Iterable[str], services: dict[str, list[str]]) -> list[str]:
    """Targets of this configuration, with their services, under a name that no instance has any more."""
    if set(ours) <= {target}:
        # nothing to look for, so the file is not read again
        return []
    try:
        current = galaxy_gravity_supervisor.instance_names(instance.path)
    except ConfigError:
        return []
    known = {target, *(f"galaxy-{name}.target" for name in current), *["galaxy.target"] * ("_default_" in current)}
    return [unit for old in ours if old not in known for unit in (old, *services.get(old, []))]


def _values(pattern: re.Pattern[str], text: str | None) -> list[str]:
    return [word for line in pattern.findall(text or "") for word in line.split()]
