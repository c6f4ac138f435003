"""
Make the list of an instance's processes from its checked settings: the name of each, where gunicorn listens, and the
environment of each.
"""

import os
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

import galaxy_gravity_settings
import galaxy_gunicorn_command
from galaxy_errors import AddressError, ConfigError
from galaxy_gravity_handlers import Handlers
from galaxy_gravity_instance import Instance, Program, Web
from galaxy_host_pattern import Pattern
from galaxy_host_process import Invocation
from galaxy_service import Role

# in Gravity's order: type, role, and key of the settings
_SERVICES = (
    ("gunicorn", Role.WEB, "gunicorn"),
    ("celery", Role.CELERY, "celery"),
    ("celery-beat", Role.CELERY_BEAT, "celery"),
    ("tusd", Role.TUSD, "tusd"),
    ("gx-it-proxy", Role.GX_IT_PROXY, "gx_it_proxy"),
    ("reports", Role.REPORTS, "reports"),
)
_HANDLER = {"start_timeout": 20, "stop_timeout": 65}
_FIELD = Pattern(r"\{\{|\}\}|\{([a-z_]+)\}")


class Maker:
    """
    Makes the programs of an instance.

    problems
        what in a service cannot be used: sentences
    """

    def __init__(self, instance: Instance, settings: dict[str, Any], environment: Mapping[str, str], base: str | None):
        self._instance = instance
        self._settings = settings
        self._environment = environment
        self._base = base
        self._where = f"{instance.path}: gravity"
        self._programs: dict[str, Program] = {}
        self.problems: list[str] = []

    def programs(self, handlers: Iterable[Handlers]) -> tuple[Program, ...]:
        """The programs, in Gravity's order. Raises ``ConfigError``."""
        for type_, role, key in _SERVICES:
            switch = "enable_beat" if role is Role.CELERY_BEAT else "enable"
            settings = self._settings[key]
            is_list = isinstance(settings, list)
            members = [(number, one) for number, one in enumerate(settings if is_list else [settings]) if one[switch]]
            if not is_list or not self._settings["use_service_instances"]:
                for number, one in members:
                    self._add(f"{type_}{number}" if is_list else type_, role, type_, [one])
            elif members:
                self._add(type_, role, type_, [one for _, one in members])
            else:
                raise ConfigError(f"{self._where}: {key}: is a list without an enabled one; enable one of them")
        for handler in handlers:
            settings = [self._handler(handler, server) for server in handler.servers]
            self._add(handler.service, Role.HANDLER, "standalone", settings)
        return tuple(self._programs.values())

    def _add(self, service: str, role: Role, type_: str, members: list[dict[str, Any]]) -> None:
        for number, settings in enumerate(members):
            is_one = len(members) == 1
            name = service if is_one else f"{service}_{number}"
            if name in self._programs:
                self.problems.append(f"{self._where}: two services are called {name}; rename one of them")
                continue
            environment = self._variables(service, type_, settings)
            self._programs[name] = Program(
                name=name,
                role=role,
                service=service,
                type=type_,
                number=None if is_one else number,
                web=self._web(name, settings, environment) if role is Role.WEB else None,
                # one unit stands for all of them, and has the settings of the first
                start_timeout=members[0]["start_timeout"],
                stop_timeout=members[0]["stop_timeout"],
                server_name=settings.get("server_name"),
                environment=environment,
            )

    def _handler(self, handler: Handlers, server: str) -> dict[str, Any]:
        settings = {**_HANDLER, "server_name": server, "environment": {}}
        place = f"{self._where}: handlers: {handler.service}"
        for key in _HANDLER:
            value = handler.settings.get(key, settings[key])
            if isinstance(value, (int, float)):
                settings[key] = value
            else:
                self.problems.append(f"{place}: {key}: is not a number of seconds; {settings[key]} is used")
        variables = handler.settings.get("environment") or {}
        is_good = isinstance(variables, dict) and all(
            galaxy_gravity_settings.is_text(one) for pair in variables.items() for one in pair
        )
        if is_good:
            settings["environment"] = variables
        else:
            self.problems.append(f"{place}: environment: is not a mapping of texts, and galaxyctl fails on it")
        return settings

    def _variables(self, service: str, type_: str, settings: dict[str, Any]) -> dict[str, str]:
        """The environment that Gravity adds to its own."""
        found = {}
        if type_ in ("gunicorn", "celery", "celery-beat"):
            found = {"PYTHONPATH": "lib", "GALAXY_CONFIG_FILE": self._instance.galaxy_config}
        elif type_ == "reports":
            directory = os.path.dirname(self._instance.galaxy_config)
            found = {"PYTHONPATH": "lib", "GALAXY_REPORTS_CONFIG": os.path.join(directory, settings["config_file"])}
        elif type_ == "gx-it-proxy":
            found = {"npm_config_yes": "true"}
        if self._settings["virtualenv"]:
            found["VIRTUAL_ENV"] = self._instance.virtualenv or self._settings["virtualenv"]
        values = {
            "galaxy_conf": self._instance.galaxy_config,
            "galaxy_root": self._base,
            "galaxy_umask": settings.get("umask") or self._instance.umask,
            "server_name": service,
            "virtualenv_bin": shlex.quote(f"{found['VIRTUAL_ENV']}/bin/") if "VIRTUAL_ENV" in found else "",
        }
        own = settings["environment"].items()
        return {**found, **{name: _filled(text, values) for name, text in own if name != "PATH"}}

    def _web(self, name: str, settings: dict[str, Any], environment: Mapping[str, str]) -> Web:
        place = f"{self._where}: {name}"
        # as Gravity writes the command: a value may become several words
        text = (
            f"gunicorn --timeout {settings['timeout']} -b {settings['bind']} --workers={settings['workers']} "
            f"{'--preload' if settings['preload'] else ''} {settings['extra_args']}"
        )
        try:
            words = tuple(shlex.split(text))
        except ValueError as exc:
            raise ConfigError(f"{place}: bind, extra_args: cannot be read: {exc}; correct the quotes") from None
        around = {**self._environment, **environment}

        def options(directory: str) -> galaxy_gunicorn_command.Options:
            found = galaxy_gunicorn_command.read(Invocation(words, place, directory, around))
            assert found
            return found

        try:
            found = options(self._base or "/")
            elsewhere = found if self._base else options("/elsewhere")
        except AddressError as exc:
            raise ConfigError(f"{place}: bind: {exc}") from None
        binds = tuple(bind for bind, other in zip(found.binds, elsewhere.binds, strict=True) if bind == other)
        if len(binds) < len(found.binds):
            self.problems.append(
                f"{place}: bind: is relative to where galaxyctl is called, which is not known; write the whole path"
            )
        if found.inherits and not found.binds:
            self.problems.append(
                f"{place}: bind: is a socket that something else opens (fd://), so it cannot be told where Galaxy "
                "listens, and whether it is ready; write an address or unix:PATH"
            )
        return Web(binds, found.workers, found.timeout, found.preload, found.inherits and not found.binds)


def _filled(text: str, values: Mapping[str, str | None]) -> str:
    """A variable's value, with the fields that Gravity fills in. Other fields, on which Gravity fails, stay."""

    def fill(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0][:1]
        value = values.get(found[1])
        return found[0] if value is None else value

    return _FIELD.sub(fill, text)
