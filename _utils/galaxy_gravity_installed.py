"""
Find what Gravity wrote for its process managers (systemd's units and supervisord's programs), and to which Galaxy each
belongs.
"""

import hashlib
import logging
import os
from collections.abc import Iterable, Mapping

import galaxy_host_files
from galaxy_errors import ConfigError, FileError, FileMissing
from galaxy_gravity_instance import Instance
from galaxy_host_command import Account
from galaxy_host_pattern import Pattern
from galaxy_host_record import record
from galaxy_host_walk import describe, ours

log = logging.getLogger(__name__)

UNITS = "/etc/systemd/system"
# the same pattern as Gravity's
_HASH = Pattern(r";\s*GRAVITY=([0-9a-f]+)")
_KEY = Pattern(r"([A-Za-z_]+)\s*=\s*(.*?)\s*")
_CONFIG = Pattern(r"--config-file[ =]('[^']*'|\S+)")
_PROGRAM = Pattern(r"(?m)^\[program:([^\]]+)\]$")
_MAX_FILES, _MAX_FILE = 5000, 64 << 10


@record(frozen=True)
class Units:
    """
    Units of systemd that Gravity wrote, by file name.

    own
        texts of the units and targets that belong to this configuration file: the target says so
    taken
        texts of another Galaxy's units that are in the way: ``own`` would need the same name, or Gravity's ``update``
        of this instance would delete them
    """

    own: Mapping[str, str]
    taken: Mapping[str, str]


def user_id(instance: Instance) -> int:
    """
    Numeric ID of the user as whom Galaxy runs: the one that the configuration names for systemd's units; else the owner
    of Gravity's state directory; before this exists, the owner of Galaxy's data.

    Raises ``ConfigError`` if this cannot be told. Raises it also if somebody writes the user into the configuration who
    is not root, not this user, and not the one who wrote root's units.
    """
    if instance.user:
        return _named_user(instance, instance.user)
    directories = list(filter(None, (instance.state_dir, instance.data_dir)))
    for path in directories:
        try:
            return galaxy_host_files.owner(path)
        except FileMissing:
            continue
        except FileError as exc:
            raise ConfigError(f"{instance.path}: Galaxy's user cannot be told: {exc}") from None
    raise ConfigError(
        f"{instance.path}: Galaxy's user cannot be told: there is no {' or '.join(directories) or 'data_dir'}; make "
        "Galaxy's data_dir, and give it to that user"
    )


def _named_user(instance: Instance, name: str) -> int:
    account = Account.of(name)
    if not account:
        raise ConfigError(f"{instance.path}: there is no user {name} here (galaxy_user)")
    deciders = galaxy_host_files.deciders(instance.path) | galaxy_host_files.deciders(instance.galaxy_config)
    others = deciders - ours() - {account.uid}
    if others:
        try:
            texts = units(instance).own.values()
        except FileError as exc:
            raise ConfigError(f"{instance.path}: Galaxy's user cannot be told: {exc}") from None
        if name not in {value(text, "User") for text in texts}:
            raise ConfigError(
                f"{instance.path}: says that Galaxy runs as user {name} (galaxy_user), but {describe(min(others))} "
                "can change that, and no unit of systemd says the same; give the file to root"
            )
    return account.uid


def prefix(instance: Instance) -> str:
    """The beginning of the names of the instance's units: ``galaxy`` or ``galaxy-main``."""
    return f"galaxy-{instance.name}" if instance.is_named else "galaxy"


def marks(instance: Instance) -> set[str]:
    """What Gravity notes in a target of this configuration file, for both ways in which it may have got the path."""
    return {hashlib.sha1(os.fsencode(path), usedforsecurity=False).hexdigest() for path in _paths(instance)}


def units(instance: Instance, directory: str = UNITS, named_by: Iterable[int] = ()) -> Units:
    """
    The units in a directory of systemd's.

    named_by
        numeric IDs of the users who chose the directory, as for ``galaxy_host_files.read``

    Raises ``FileError`` if the directory cannot be read.
    """
    named_by = tuple(named_by)
    names = [name for name in galaxy_host_files.names(directory, _MAX_FILES, named_by) if name.startswith("galaxy")]
    names = [name for name in names if name.endswith((".target", ".service"))]
    texts = {}
    for name in names:
        try:
            texts.update(_read(directory, [name], named_by))
        except FileError as exc:
            # a masked unit is a link to a device. It is not ours, but its name is taken
            log.info("%s", exc)
            texts[name] = ""
    hashes = marks(instance)
    targets = {name for name, text in texts.items() if name.endswith(".target") and owner(text) in hashes}
    own = {name: text for name, text in texts.items() if name in targets or value(text, "PartOf") in targets}
    taken = {name: text for name, text in texts.items() if name not in own and name.startswith(f"{prefix(instance)}-")}
    return Units(own, taken)


def programs(instance: Instance, named_by: Iterable[int] = ()) -> dict[str, str]:
    """
    The files of supervisord's programs and groups below the instance's state directory: their text by the path below
    ``supervisord.conf.d``.

    Raises ``FileError`` if they cannot be read.
    """
    if instance.state_dir is None:
        return {}
    named_by = tuple(named_by)
    base = programs_directory(instance.state_dir)
    found = {}
    for name in galaxy_host_files.names(base, _MAX_FILES, named_by):
        if name.endswith(".d"):
            inner = galaxy_host_files.names(os.path.join(base, name), _MAX_FILES, named_by)
            found.update(_read(base, [f"{name}/{one}" for one in inner], named_by))
        elif name.endswith(".conf"):
            found.update(_read(base, [name], named_by))
    return found


def program_names(instance: Instance, named_by: Iterable[int]) -> list[str]:
    """Names of the programs that supervisord would run for the instance. Raises like ``programs``."""
    found = programs(instance, named_by)
    own = [text for name, text in found.items() if name.startswith(f"{instance.name}.d/") and _is_ours(instance, text)]
    return sorted(title for text in own for title in _PROGRAM.findall(text))


def programs_directory(state: str) -> str:
    """The directory with the files of the programs, for a state directory."""
    return os.path.join(state, "supervisor", "supervisord.conf.d")


def owner(target: str) -> str | None:
    """The hash of the configuration file's path, as Gravity's target has it."""
    found = next(filter(None, map(_HASH.match, target.splitlines())), None)
    return found and found[1]


def value(text: str, key: str) -> str | None:
    """The last value of a key in the text of a unit or program."""
    found = None
    for line in text.splitlines():
        match = _KEY.fullmatch(line)
        if match and match[1] == key:
            found = match[2]
    return found


def configuration(text: str) -> str | None:
    """The configuration file that a unit or program names; ``None`` if it has the command of the service itself."""
    match = _CONFIG.search(text)
    return match and match[1].strip("'")


def is_own_configuration(instance: Instance, path: str) -> bool:
    """Whether a path that a unit or program names is the instance's configuration file."""
    return path == instance.path or os.path.realpath(path) == os.path.realpath(instance.path)


def _is_ours(instance: Instance, text: str) -> bool:
    path = configuration(text)
    return path is None or is_own_configuration(instance, path)


def _paths(instance: Instance) -> set[str]:
    # Gravity resolves links only in a path from its command line
    return {instance.path, os.path.realpath(instance.path)}


def _read(directory: str, names: Iterable[str], named_by: Iterable[int]) -> dict[str, str]:
    texts, named_by = {}, tuple(named_by)
    for name in names:
        try:
            data = galaxy_host_files.read(os.path.join(directory, name), _MAX_FILE, named_by)
        except FileMissing:
            log.debug("%s is gone, or a link to nothing", name)
            continue
        texts[name] = data.decode(errors="replace")
    return texts
