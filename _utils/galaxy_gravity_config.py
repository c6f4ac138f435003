"""
Read Gravity's configuration: which Galaxy it runs, where, and as which processes.

If Gravity would refuse the whole configuration, this is an error. If only one of its files or services is wrong, this
is a problem of the instance, and the rest is still known.
"""

import dataclasses
import os
import pwd
from collections.abc import Iterator, Mapping
from typing import Any

import galaxy_gravity_file
import galaxy_gravity_handlers
import galaxy_gravity_programs
import galaxy_gravity_settings
import galaxy_host_files
import galaxy_host_walk
from galaxy_errors import ConfigError, FileError
from galaxy_gravity_instance import Instance, Program

_TRUE = ("1", "true", "yes")
# names of Python's directories in virtualenvs: the versions of Python that Gravity 1 may have
_PYTHONS = range(7, 20)


def read(
    path: str,
    instance: str | None = None,
    environment: Mapping[str, str] | None = None,
    as_root: bool | None = None,
    directory: str | None = None,
) -> Instance | None:
    """
    Read what Gravity makes of a configuration file.

    path
        absolute path of the file that has the ``gravity:`` section
    instance
        ``instance_name`` of one of several instances
    environment
        environment of whoever runs Gravity, as far as it is known
    as_root
        whether root runs Gravity. ``None``: not known. Then a file that names no process manager means systemd if it
        names a ``galaxy_user``, which it must do for root
    directory
        directory in which Gravity is called; ``None``: not known

    Returns ``None`` if the file has no ``gravity:`` section. Raises ``ConfigError``.
    """
    path = os.path.abspath(path)
    document = galaxy_gravity_file.read_mapping(path)
    if "gravity" not in document:
        return None
    is_text = galaxy_gravity_settings.is_text
    environment = {name: text for name, text in (environment or {}).items() if is_text(name) and is_text(text)}
    if environment.get("GRAVITY_SKIP_SYSTEMD", "").lower() in _TRUE:
        as_root = False
    reader = _Reader(path, document, environment, as_root, directory)
    every = reader.settings()
    return reader.instance(_chosen(every, instance, path), len(every) > 1)


def _chosen(every: list[dict[str, Any]], name: str | None, path: str) -> dict[str, Any]:
    names = [settings["instance_name"] for settings in every]
    for one in names:
        galaxy_gravity_handlers.require_name(one, f"{path}: gravity: instance_name")
    listed = ", ".join(names)
    twice = next((one for one in names if names.count(one) > 1), None)
    if twice is not None:
        raise ConfigError(f"{path}: gravity: instance_name: two instances have the name {twice}; give each its own")
    if name is None:
        if len(every) > 1:
            raise ConfigError(f"{path}: has several instances; name one of {listed}")
        return every[0]
    if name not in names:
        raise ConfigError(f"{path}: has no instance {name!r}; name one of {listed}")
    return every[names.index(name)]


class _Reader:
    """One file, and what is known of whoever runs Gravity with it."""

    def __init__(
        self,
        path: str,
        document: dict[str, Any],
        environment: Mapping[str, str],
        as_root: bool | None,
        directory: str | None,
    ):
        self._path = path
        # Gravity's units name the file by its real path, and relative paths start from that
        self._real = os.path.realpath(path)
        self._document = document
        self._environment = environment
        self._as_root = as_root
        self._directory = directory
        self._problems: list[str] = []

    def settings(self) -> list[dict[str, Any]]:
        """The settings of each instance."""
        section, where = self._document["gravity"], f"{self._path}: gravity"
        if isinstance(section, list) and section:
            if "galaxy" in self._document:
                raise ConfigError(
                    f"{self._path}: has a list of instances and a galaxy: section; move this section into a file of "
                    "its own, and name it by galaxy_config_file in each instance"
                )
            found = []
            for number, one in enumerate(section):
                place = f"{where}[{number}]"
                if not isinstance(one, dict):
                    raise ConfigError(f"{place}: is not a mapping; write an instance's settings there")
                if "galaxy_config_file" not in one:
                    raise ConfigError(f"{place}: has no galaxy_config_file; name the file with the galaxy: section")
                found.append(galaxy_gravity_settings.read(one, self._environment, place))
            return found
        is_alone = "galaxy" not in self._document
        if not isinstance(section, dict) and (section or is_alone):
            raise ConfigError(f"{where}: is not a mapping of settings; write it as in Galaxy's galaxy.yml.sample")
        return [galaxy_gravity_settings.read(section or {}, self._environment, where)]

    def instance(self, settings: dict[str, Any], is_one_of_several: bool) -> Instance:
        galaxy_config, galaxy = self._galaxy(settings)
        name = settings["instance_name"]
        manager, user = self._manager(settings)
        root, base = self._root(settings, galaxy, galaxy_config)
        virtualenv = settings["virtualenv"] or self._environment.get("VIRTUAL_ENV")
        data_dir, gravity_dir = self._data_dirs(settings, galaxy, galaxy_config, root, base)
        log_dir = settings["log_dir"] and self._absolute("log_dir", settings["log_dir"], base)
        result = Instance(
            path=self._path,
            name=name,
            manager=manager,
            galaxy_config=galaxy_config,
            galaxy_root=root,
            virtualenv=virtualenv and self._absolute("virtualenv", virtualenv, base),
            data_dir=data_dir,
            log_dir=log_dir if settings["log_dir"] else gravity_dir and os.path.join(gravity_dir, "log"),
            state_dir=self._shared_state(gravity_dir, manager) if is_one_of_several else gravity_dir,
            user=user,
            group=settings["galaxy_group"] if user else None,
            prefix=self._prefix(galaxy, galaxy_config),
            command_style=settings["service_command_style"],
            umask=settings["umask"],
            log_namespace=settings["log_namespace"],
            is_one_of_several=is_one_of_several,
            variables={name: text for name, text in self._environment.items() if name.startswith("GRAVITY_")},
        )
        programs = self._programs(result, settings, galaxy, base)
        return dataclasses.replace(result, programs=programs, problems=tuple(self._problems))

    def _galaxy(self, settings: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Galaxy's configuration file and what it says."""
        named = settings["galaxy_config_file"]
        if "galaxy" in self._document or (not named and not isinstance(self._document["gravity"], list)):
            path, document = self._real, self._document
        else:
            path = os.path.normpath(os.path.join(os.path.dirname(self._real), named or ""))
            if not self._exists(path):
                raise ConfigError(f"{self._path}: gravity: galaxy_config_file: {path}: no such file; correct the name")
            document = galaxy_gravity_file.read_mapping(path, self._owners(self._path))
            if "galaxy" not in document:
                raise ConfigError(f"{path}: has no galaxy: section; name Galaxy's file as galaxy_config_file")
        section = document.get("galaxy") or {}
        if not isinstance(section, dict):
            raise ConfigError(f"{path}: galaxy: is not a mapping of options; write each as option: value")
        return path, section

    def _owners(self, *paths: str) -> set[int]:
        """The users who decide what the files say."""
        owners = set()
        for path in dict.fromkeys(paths):
            try:
                owners |= galaxy_host_files.deciders(path) or {os.stat(path).st_uid}
            except OSError as exc:
                raise ConfigError(f"{path}: cannot be read: {exc.strerror}") from None
        return owners

    def _manager(self, settings: dict[str, Any]) -> tuple[str, str | None]:
        """The process manager, and the user as whom Galaxy runs (if this is not the user who runs Gravity)."""
        manager, user = settings["process_manager"], settings["galaxy_user"]
        if manager is None:
            manager = "systemd" if self._as_root or (self._as_root is None and user) else "supervisor"
        if self._as_root and manager != "systemd":
            raise ConfigError(f"{self._path}: gravity: process_manager: is {manager}; root may not run Galaxy with it")
        if self._as_root and not user:
            raise ConfigError(f"{self._path}: gravity: galaxy_user: is not given; root needs it to run Galaxy")
        return manager, user if manager == "systemd" and self._as_root is not False else None

    def _root(
        self, settings: dict[str, Any], galaxy: dict[str, Any], galaxy_config: str
    ) -> tuple[str | None, str | None]:
        """Galaxy's root, and the directory to which relative paths belong."""
        given = settings["galaxy_root"] or _text_of(galaxy, "root", galaxy_config)
        named = self._environment.get("GALAXY_ROOT_DIR")
        if given is not None or named:
            root = self._absolute("galaxy_root", given if given is not None else named or "", self._directory)
            return root, root
        above = os.path.dirname(os.path.dirname(galaxy_config))
        if not self._has_galaxy(settings) and self._exists(os.path.join(above, "lib", "galaxy")):
            return above, above
        return None, self._directory

    def _has_galaxy(self, settings: dict[str, Any]) -> bool:
        """Whether Galaxy is installed as a package in the virtualenv."""
        virtualenv = settings["virtualenv"] or self._environment.get("VIRTUAL_ENV")
        if not virtualenv or not os.path.isabs(virtualenv):
            return False
        places = (f"{virtualenv}/lib/python3.{minor}/site-packages/galaxy/version" for minor in _PYTHONS)
        return any(self._exists(place + ending) for place in places for ending in (".py", "/__init__.py"))

    def _data_dirs(
        self, settings: dict[str, Any], galaxy: dict[str, Any], galaxy_config: str, root: str | None, base: str | None
    ) -> tuple[str | None, str | None]:
        """Galaxy's data directory, and Gravity's own, which is inside it or elsewhere."""
        given = _text_of(galaxy, "data_dir", galaxy_config)
        if given is None and "data_dir" in galaxy:
            raise ConfigError(f"{galaxy_config}: galaxy: data_dir: is null; give the path of a directory, or remove it")
        state = self._environment.get("GRAVITY_STATE_DIR")
        if given is None:
            # an installed package has data, a source tree has database; if that directory does not exist, the other one
            # counts
            is_source = root and not self._has_galaxy(settings) and self._exists(os.path.join(root, "lib", "galaxy"))
            names = ["database", "data"] if is_source else ["data", "database"]
            if base:
                names.sort(key=lambda name: not self._exists(os.path.join(base, name, "gravity")))
            given = names[0]
        data_dir = self._absolute("data_dir", given, base)
        if state:
            return data_dir, self._absolute("GRAVITY_STATE_DIR", state, self._directory)
        return data_dir, data_dir and os.path.join(data_dir, "gravity")

    def _shared_state(self, gravity_dir: str | None, manager: str) -> str | None:
        """The directory of several instances, in the home of whoever runs Gravity."""
        if self._environment.get("GRAVITY_STATE_DIR"):
            return gravity_dir
        home = self._environment.get("XDG_CONFIG_HOME")
        if not home:
            home = self._environment.get("HOME") or _owners_home(gravity_dir)
            # before Gravity has been there
            home = home or _owners_home(gravity_dir and os.path.dirname(gravity_dir))
            home = home and os.path.join(home, ".config")
        if home and os.path.isabs(home):
            return os.path.join(home, "galaxy-gravity")
        if manager == "supervisor":
            self._problems.append(
                f"{self._path}: has several instances, so supervisord's files are in the home directory of the user "
                "who runs Gravity; this user is not known; set GRAVITY_STATE_DIR"
            )
        return None

    def _prefix(self, galaxy: dict[str, Any], galaxy_config: str) -> str:
        prefix = (_text_of(galaxy, "galaxy_url_prefix", galaxy_config) or "").strip("/")
        return f"/{prefix}" if prefix else ""

    def _absolute(self, key: str, path: str, base: str | None) -> str | None:
        if os.path.isabs(path) or base:
            return os.path.normpath(os.path.join(base or "/", path))
        self._problems.append(
            f"{self._path}: {key}: {path!r} is relative to where galaxyctl is called, which is not known; write the "
            "whole path"
        )
        return None

    def _exists(self, path: str) -> bool:
        try:
            with galaxy_host_walk.walk(path) as entry:
                return entry.status is not None
        except FileError:
            return False

    def _programs(
        self, instance: Instance, settings: dict[str, Any], galaxy: dict[str, Any], base: str | None
    ) -> tuple[Program, ...]:
        static = []
        try:
            owners = self._owners(self._path, instance.galaxy_config)
            static = galaxy_gravity_handlers.static(galaxy, instance.galaxy_config, owners)
        except ConfigError as exc:
            self._problems.append(f"{exc}; handlers of the job configuration are not known")
        handlers = static + galaxy_gravity_handlers.dynamic(settings, f"{self._path}: gravity: handlers")
        maker = galaxy_gravity_programs.Maker(instance, settings, self._environment, base)
        self._problems += self._refusals(settings, galaxy, instance.galaxy_config)
        programs = maker.programs(handlers)
        self._problems += maker.problems
        return programs

    def _refusals(self, settings: dict[str, Any], galaxy: dict[str, Any], galaxy_config: str) -> Iterator[str]:
        """Why galaxyctl would fail on a service."""
        if settings["gx_it_proxy"]["enable"] and not galaxy.get("interactivetools_enable"):
            yield f"{galaxy_config}: galaxy: interactivetools_enable: is not set, which gx_it_proxy needs"
        tusd = settings["tusd"] if isinstance(settings["tusd"], list) else [settings["tusd"]]
        needs_url = any(one["enable"] and one["hooks_http"].startswith("/") for one in tusd)
        if needs_url and not galaxy.get("galaxy_infrastructure_url"):
            yield f"{galaxy_config}: galaxy: galaxy_infrastructure_url: is not set, which tusd needs"
        reports = settings["reports"]
        path = os.path.join(os.path.dirname(galaxy_config), reports["config_file"])
        if reports["enable"] and not self._exists(path):
            yield f"{self._path}: gravity: reports: config_file: {path}: no such file; make it, or disable reports"


def _owners_home(path: str | None) -> str | None:
    """The home of the user whose directory that is."""
    try:
        return pwd.getpwuid(os.stat(path).st_uid).pw_dir if path else None
    except (OSError, KeyError):
        return None


def _text_of(galaxy: dict[str, Any], key: str, galaxy_config: str) -> str | None:
    """What Galaxy's section says; ``None`` if it says nothing. Raises ``ConfigError`` if it is no text."""
    value = galaxy.get(key)
    if value is not None and not galaxy_gravity_settings.is_text(value):
        raise ConfigError(f"{galaxy_config}: galaxy: {key}: is not a text; write it in quotes")
    return value
