"""
Find the settings in effect: what pillar, grains and minion configuration say below ``galaxy:``, checked against the
declarations in ``galaxy_pillar``, and with their defaults.
"""

import copy
import difflib
import functools
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import galaxy_host_address
import galaxy_host_arguments as arguments
import galaxy_pillar
from galaxy_errors import AddressError, SettingsError
from galaxy_host_pattern import Pattern
from galaxy_host_secret import MASK
from galaxy_pillar import Key, Kind

# the name of the server that galaxy: itself describes
OWN = "galaxy"
_DEFAULT = "default"
_NAME = Pattern(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
_NAMING = ("config", "stats", "socket")
_MACHINE = tuple(key.name for key in galaxy_pillar.MACHINE)
_MACHINE_KEYS = tuple(key for key in galaxy_pillar.MACHINE if key.name != "servers")
# where packaged supervisord reads program files
_PROGRAM_FILES = {"Debian": "/etc/supervisor/conf.d/{}.conf", "RedHat": "/etc/supervisord.d/{}.ini"}
_DIGITS = Pattern(r"[0-9]{1,9}\Z")
_MODE = Pattern(r"[0-7]{3,4}\Z")
_NUMBER = Pattern(r"[0-9]{1,9}(\.[0-9]{1,9})?\Z")


class Settings:
    """
    The settings of one machine.

    layers
        what each source says below ``galaxy:``, by the source's name. The source that wins comes first, as in Salt's
        ``config.get``: the minion's configuration, then grains, then pillar
    os_family
        the grain, for settings that differ by distribution

    problems
        a sentence for each fault. While there are any, nothing may be done
    servers
        the values in effect for each Galaxy, by its name
    machine
        those of ``onedata`` and ``boot``
    """

    def __init__(self, layers: Mapping[str, object], os_family: str = ""):
        self.problems: list[str] = []
        self._sources: dict[tuple[str, ...], str] = {}
        self._os_family = os_family
        raw = self._merge(layers)
        checked = self._section(galaxy_pillar.PILLAR, raw, ("galaxy",))
        named = checked.pop("servers")
        self.machine: dict[str, dict[str, Any]] = {name: checked.pop(name) for name in _MACHINE if name != "servers"}
        self.servers: dict[str, dict[str, Any]] = {}
        shared = None
        self.describes_own = self._describes_own(raw, bool(named))
        if self.describes_own:
            self.servers[OWN] = checked
        else:
            shared = checked["storage"]
        for name, values in named.items():
            if name == OWN and self.describes_own:
                self.problems.append(f"galaxy:servers:{name} has the name of the server that galaxy: itself describes")
                continue
            self.servers[name] = values
        for name, values in self.servers.items():
            self._complete(name, values, shared)
        self._contradictions()

    def require_sound(self) -> None:
        """Raises ``SettingsError`` with all that is wrong."""
        if self.problems:
            raise SettingsError(self.problems)

    @property
    def names(self) -> list[str]:
        """Names of the servers that have a configuration or an address."""
        return [name for name, values in self.servers.items() if any(values[key] for key in _NAMING)]

    def values(self, names: list[str]) -> dict[str, Any]:
        """
        ``servers`` (by name), ``machine`` and ``problems``, for the formula; secrets are asterisks. While there are
        problems, there is no server, so that nothing is done. ``digest`` is of all of this.
        """
        servers = (
            {} if self.problems else {name: _masked_all(galaxy_pillar.SERVER, self.servers[name]) for name in names}
        )
        found = {"servers": servers, "machine": _masked_all(_MACHINE_KEYS, self.machine), "problems": self.problems}
        return {**found, "digest": hashlib.sha256(json.dumps(found, default=str).encode()).hexdigest()}

    def path(self, server: str) -> str:
        """The key below which a server's settings are: ``galaxy`` or ``galaxy:servers:<name>``."""
        return "galaxy" if server == OWN and self.describes_own else f"galaxy:servers:{server}"

    def shown(self, server: str) -> dict[str, dict[str, Any]]:
        """Each setting of a server as ``{"value": …, "source": …}``, by its name. Secrets are asterisks."""
        base = tuple(self.path(server).split(":"))
        return {
            name: {"value": value, "source": self._source(base, name)}
            for name, value in _flat(galaxy_pillar.SERVER, self.servers[server])
        }

    def shown_machine(self) -> dict[str, dict[str, Any]]:
        """The same for the machine's settings."""
        return {
            name: {"value": value, "source": self._source(("galaxy",), name)}
            for name, value in _flat(_MACHINE_KEYS, self.machine)
        }

    def _source(self, base: tuple[str, ...], name: str) -> str:
        return self._sources.get((*base, *name.split(":")), _DEFAULT)

    # Merging.

    def _merge(self, layers: Mapping[str, object]) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for source, layer in reversed(list(layers.items())):
            if layer is None:
                continue
            if not isinstance(layer, Mapping):
                self.problems.append(f"galaxy: is {_short(layer)} in {source}; give a mapping")
                continue
            self._merge_into(merged, layer, source, ("galaxy",))
        return merged

    def _merge_into(self, merged: dict[str, Any], layer: Mapping[str, Any], source: str, path: tuple[str, ...]) -> None:
        for name, value in layer.items():
            where = (*path, str(name))
            if isinstance(value, Mapping):
                below = merged.get(name)
                merged[name] = dict(below) if isinstance(below, dict) else {}
                self._sources[where] = source
                self._merge_into(merged[name], value, source, where)
            elif value is not None or name not in merged:
                merged[name] = value
                if value is not None:
                    self._sources[where] = source

    # Checking.

    def _section(self, keys: tuple[Key, ...], given: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
        values = _defaults(keys)
        for name, value in given.items():
            if name not in values:
                self._unknown(str(name), list(values), path)
            elif value is not None:
                key = next(key for key in keys if key.name == name)
                values[name] = self._value(key, value, (*path, name))
        return values

    def _unknown(self, name: str, known: list[str], path: tuple[str, ...]) -> None:
        where = ":".join((*path, name))
        if name in _MACHINE and path[:2] == ("galaxy", "servers"):
            self.problems.append(f"{where}: {name} belongs to the machine, not to one server; move it to galaxy:{name}")
            return
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
        self.problems.append(f"{where} is not a setting{hint}")

    def _value(self, key: Key, value: object, path: tuple[str, ...]) -> object:
        if key.kind is Kind.SECTION and isinstance(value, Mapping):
            return self._section(key.keys, value, path)
        if key.kind is Kind.NAMED and isinstance(value, Mapping):
            return self._named(key, value, path)
        if key.kind in (Kind.SECTION, Kind.NAMED):
            return self._refuse(key, value, path)
        read = _READERS[key.kind](value)
        if read is None or (key.choices and read not in key.choices):
            return self._refuse(key, value, path)
        return read

    def _named(self, key: Key, value: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
        members = {}
        for name, member in value.items():
            where = (*path, str(name))
            if not isinstance(name, str) or not _NAME.match(name):
                self.problems.append(
                    f"{':'.join(where)}: a name has letters, digits, _ . and -, and begins with a letter or a digit"
                )
            elif not isinstance(member, Mapping):
                self.problems.append(f"{':'.join(where)} is {_short(member)}; give a mapping")
            else:
                members[name] = self._section(key.keys, member, where)
        return members

    def _refuse(self, key: Key, value: object, path: tuple[str, ...]) -> object:
        wanted = f"one of {', '.join(map(str, key.choices))}" if key.choices else key.kind.value
        shown = MASK if key.secret else _short(value)
        self.problems.append(f"{':'.join(path)} is {shown}; give {wanted}")
        return _default(key)

    def _describes_own(self, raw: Mapping[str, Any], has_servers: bool) -> bool:
        own = {
            str(name) for name, value in raw.items() if value is not None and name not in _MACHINE and name != "storage"
        }
        if has_servers and own and not own.intersection(_NAMING):
            self.problems.append(
                f"galaxy:{min(own)} describes a server, but galaxy: names none: give galaxy:config, or move the key to "
                "galaxy:servers:<name>"
            )
        return bool(own.intersection(_NAMING)) if has_servers else True

    # Completing.

    def _complete(self, name: str, values: dict[str, Any], shared: dict[str, Any] | None) -> None:
        path = self.path(name)
        # added to the IDs of the formula's states
        values["suffix"] = "" if path == "galaxy" else f"-{name}"
        values["storages"] = []
        for where, storage in ((path, values["storage"]), ("galaxy", shared)):
            if storage and (_is_volume(storage) or storage is values["storage"]):
                storage["suffix"] = values["suffix"] if storage is values["storage"] else ""
                storage["key"] = storage["key"] or f"pillar://{where}:storage:passphrase"
                storage["user"] = storage["user"] or values["user"]
                storage["group"] = storage["group"] or values["group"]
                if _is_volume(storage):
                    values["storages"].append(storage)
        if values["manage_service"]:
            values["service"] = values["service"] or (name if name == OWN else f"galaxy-{name}")
            place = _PROGRAM_FILES.get(self._os_family)
            if values["manager"] == "supervisord" and place and not values["program_file"]:
                values["program_file"] = place.format(values["service"])

    def _contradictions(self) -> None:
        for name, values in self.servers.items():
            path = self.path(name)
            if path != "galaxy" and not any(values[key] for key in _NAMING):
                self.problems.append(f"{path} names no server; give {path}:config, or stats and socket")
            self.problems += [f"{path}:{problem}" for problem in _server_contradictions(values)]
            storage = values["storage"]
            if storage and not _is_volume(storage) and self._says_more_than_a_passphrase(path):
                self.problems.append(f"{path}:storage names no device; give storage:device, or storage:cryptdev_ini")
        if len(self.servers) > 1:
            self._unique_configuration()
            self._unique_stats()
            self._unique_service()
            for part in ("mapper", "mount_point"):
                self._unique_storage(part)

    def _says_more_than_a_passphrase(self, path: str) -> bool:
        where = (*path.split(":"), "storage")
        return any(
            place[: len(where)] == where and place[-1] not in ("storage", "passphrase") for place in self._sources
        )

    def _unique_configuration(self) -> None:
        seen: dict[str, dict[str | None, str]] = {}
        for name, values in self.servers.items():
            if values["config"]:
                # one configuration of Gravity may hold several instances
                others = seen.setdefault(os.path.realpath(values["config"]), {})
                instance = values["instance"]
                other = next((others[one] for one in others if instance in (None, one) or one is None), None)
                others.setdefault(instance, name)
                if other:
                    self.problems.append(
                        f"{self.path(name)}:config is the same as in {self.path(other)}; give each server its own "
                        "config, or its own instance of Gravity's"
                    )

    def _unique_service(self) -> None:
        # a given service is believed, so a stop of one server would stop the other
        for index, (name, values) in enumerate(self.servers.items()):
            others = list(self.servers)[:index]
            for key in ("service", "program_file"):
                same = (
                    other
                    for other in others
                    if values[key]
                    and _service_name(values[key]) == _service_name(self.servers[other][key])
                    and (key == "program_file" or _may_be_one_manager(values, self.servers[other]))
                )
                other = next(same, None)
                if other:
                    self.problems.append(
                        f"{self.path(name)}:{key} is the same as in {self.path(other)}; give each server its own"
                    )

    def _unique_stats(self) -> None:
        # a given address is believed, so one server would be taken for the other
        seen: dict[str, str] = {}
        for name, values in self.servers.items():
            if values["stats"]:
                other = seen.setdefault(str(galaxy_host_address.parse(values["stats"])), name)
                if other != name:
                    self.problems.append(
                        f"{self.path(name)}:stats is the same as in {self.path(other)}; give each server its own"
                    )

    def _unique_storage(self, part: str) -> None:
        seen: dict[str, dict[str, Any]] = {}
        for name, values in self.servers.items():
            for storage in values["storages"]:
                if storage["cryptdev_ini"]:
                    continue
                other = seen.setdefault(storage[part], storage)
                if other is not storage:
                    self.problems.append(
                        f"{self.path(name)}:storage:{part} is {storage[part]}, which another server's volume has"
                    )


@functools.cache
def _plain_defaults(keys: tuple[Key, ...]) -> dict[str, Any]:
    return {key.name: key.default for key in keys}


@functools.cache
def _other_defaults(keys: tuple[Key, ...]) -> tuple[Key, ...]:
    """Defaults that must be made anew each time."""
    return tuple(key for key in keys if isinstance(key.default, (dict, list)))


def _defaults(keys: tuple[Key, ...]) -> dict[str, Any]:
    return {**_plain_defaults(keys), **{key.name: _default(key) for key in _other_defaults(keys)}}


def _default(key: Key) -> object:
    if key.kind is Kind.SECTION and key.default is not None:
        return _defaults(key.keys)
    return copy.copy(key.default) if isinstance(key.default, (dict, list)) else key.default


def of(opts: Mapping[str, Any], grains: Mapping[str, Any], pillar: Mapping[str, Any]) -> Settings:
    """The settings of a minion, from Salt's ``__opts__``, ``__grains__`` and ``__pillar__``."""
    layers = {
        "minion configuration": opts.get("galaxy"),
        "grains": grains.get("galaxy"),
        "pillar": pillar.get("galaxy"),
    }
    return Settings(layers, grains.get("os_family", ""))


def _is_volume(storage: Mapping[str, Any]) -> bool:
    """Whether it declares a volume. A passphrase alone is only the place of a key."""
    return bool(storage["device"] or storage["cryptdev_ini"])


def _service_name(value: str | None) -> str | None:
    return value and value.removesuffix(".service")


def _may_be_one_manager(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the services of two servers may be one process manager's."""
    return all(None in (one[key], other[key]) or one[key] == other[key] for key in ("manager", "conf_file"))


def _server_contradictions(values: dict[str, Any]) -> Iterator[str]:
    if values["conf_file"] and values["manager"] not in (None, "supervisord"):
        yield f"conf_file is for supervisord, but manager is {values['manager']}"
    if values["manage_service"] and values["gravity_update"]:
        yield (
            "gravity_update is for a Galaxy that Gravity runs, manage_service for one that uWSGI serves; remove "
            "one of them"
        )
    if values["manage_service"]:
        needed = {"manager": values["manager"], "config": values["config"], "uwsgi": values["uwsgi"]}
        missing = [key for key, value in needed.items() if not value]
        if missing:
            yield f"manage_service needs {', '.join(missing)} too"
        if values["manager"] in ("upstart", "sysvinit"):
            yield f"manage_service writes for supervisord and systemd, but manager is {values['manager']}"
        if values["manager"] == "supervisord" and not values["program_file"]:
            yield "manage_service needs program_file on this distribution: where supervisord reads its programs"
        if ":" in (values["service"] or ""):
            yield f"service is {values['service']}; manage_service needs a name without a group"
    storage = values["storage"]
    if storage is not None and storage["generate_key"] and not os.path.isabs(storage["key"]):
        yield "storage:generate_key needs the path of a key file in storage:key"


def _flat(keys: tuple[Key, ...], values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """
    Names and values of all settings. The name of a setting in a section begins with the section's name. Secrets are
    asterisks.
    """
    for key in keys:
        value = values[key.name]
        name = f"{prefix}{key.name}"
        if key.kind is Kind.SECTION and value is not None:
            yield from _flat(key.keys, value, f"{name}:")
        elif key.kind is Kind.NAMED:
            for member, settings in value.items():
                yield from _flat(key.keys, settings, f"{name}:{member}:")
        else:
            yield name, _masked(key, value)


def _masked(key: Key, value: object) -> object:
    if not key.secret or not value:
        return value
    return dict.fromkeys(value, MASK) if isinstance(value, Mapping) else MASK


def _masked_all(keys: tuple[Key, ...], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values in the same shape, with asterisks for secrets."""
    masked = dict(values)
    for key in keys:
        value = values[key.name]
        if key.kind is Kind.SECTION and value is not None:
            masked[key.name] = _masked_all(key.keys, value)
        elif key.kind is Kind.NAMED:
            masked[key.name] = {name: _masked_all(key.keys, member) for name, member in value.items()}
        else:
            masked[key.name] = _masked(key, value)
    if "storages" in masked:
        masked["storages"] = [_masked_all(galaxy_pillar.STORAGE, storage) for storage in values["storages"]]
    return masked


# Reading one value. None means that it is not of this kind.


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _path(value: object) -> str | None:
    return value if isinstance(value, str) and os.path.isabs(value) and value.isprintable() else None


def _address(value: Any) -> str | None:
    try:
        galaxy_host_address.parse(value)
    except AddressError:
        return None
    return str(value)


def _number(value: object) -> float | None:
    if isinstance(value, str) and _NUMBER.match(value):
        value = float(value) if "." in value else int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= arguments.MAX_NUMBER:
        return None
    return value


def _seconds(value: object) -> float | None:
    return _number(value) or None


def _count(value: object) -> int | None:
    if isinstance(value, str) and _DIGITS.match(value):
        value = int(value)
    return value if type(value) is int and 0 <= value <= arguments.MAX_NUMBER else None


def _mode(value: object) -> str | None:
    return value if isinstance(value, str) and _MODE.match(value) else None


def _bool(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _texts(value: object) -> list[str] | None:
    if isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value):
        return list(value)
    return None


def _variables(value: object) -> dict[str, str] | None:
    if not isinstance(value, Mapping):
        return None
    if not all(isinstance(name, str) and isinstance(each, (str, int, float)) for name, each in value.items()):
        return None
    return {name: str(each) for name, each in value.items()}


_READERS = {
    Kind.TEXT: _text,
    Kind.PATH: _path,
    Kind.ADDRESS: _address,
    Kind.SECONDS: _seconds,
    Kind.DURATION: _number,
    Kind.COUNT: _count,
    Kind.MODE: _mode,
    Kind.BOOL: _bool,
    Kind.TEXTS: _texts,
    Kind.VARIABLES: _variables,
}


def _short(value: object) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
