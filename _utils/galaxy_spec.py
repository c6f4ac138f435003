"""
Find out which Galaxy is meant, and how long to wait. All arguments and all of pillar come in here.
"""

import dataclasses
import difflib
import logging
import os
from collections.abc import Mapping
from typing import Any

from salt.exceptions import SaltInvocationError

import galaxy_host_address
import galaxy_host_arguments as arguments
from galaxy_errors import NotNamed
from galaxy_host_record import record
from galaxy_settings import Settings

log = logging.getLogger(__name__)

# each of these names a server completely: pillar then adds nothing of another server
_NAMING = ("config", "stats", "socket")
_ALIASES = {"workers": "min_workers"}
ALL = "*"


@record(frozen=True)
class Spec:
    """
    Which Galaxy is meant.

    server
        its name in pillar; ``None`` if only arguments describe it
    config
        path of the configuration of Galaxy or uWSGI
    stats, socket
        addresses; they win over the configuration
    manager, service, conf_file
        its process manager, its service there, and supervisord's configuration file; they win over detection
    instance
        ``instance_name`` in Gravity's configuration, if that has several instances
    """

    server: str | None = None
    config: str | None = None
    stats: str | None = None
    socket: str | None = None
    manager: str | None = None
    service: str | None = None
    conf_file: str | None = None
    instance: str | None = None

    def __str__(self) -> str:
        return next(filter(None, (self.server, self.config, self.stats, self.socket)), "no server")

    @property
    def identity(self) -> str:
        """The same text for the same server, however it is named. The lock of the server has this name."""
        if self.config:
            return os.path.realpath(self.config) + (f"#{self.instance}" if self.instance else "")
        address = self.stats or self.socket
        return str(galaxy_host_address.parse(address)) if address else str(self)


@record(frozen=True)
class Limits:
    """
    How long to wait, and for what.

    timeout
        seconds until Galaxy must be ready, for each try
    retries
        if Galaxy does not become ready: how often to stop it and start it again
    min_workers
        how many workers must be ready
    force
        a stop may end, by signal, a master that outlives its process manager's stop
    companions
        whether a start fails if a service beside the web server fails: ``require`` or ``ignore``
    settle
        seconds that all gunicorns must stay ready before a rolling restart touches the next one
    check
        a reload or restart first loads the application on trial; if this fails, nothing is touched
    """

    timeout: float = 300
    retries: int = 5
    min_workers: int = 1
    force: bool = False
    companions: str = "require"
    settle: float = 11
    check: bool = False


COMPANIONS = ("require", "ignore")
_SPEC = tuple(field.name for field in dataclasses.fields(Spec))
_LIMITS = tuple(field.name for field in dataclasses.fields(Limits))
KEYWORDS = (*_SPEC, *_LIMITS, *_ALIASES)


def resolve(given: Mapping[str, object], settings: Settings) -> tuple[Spec, Limits]:
    """
    The server and the limits that a call means.

    given
        the call's keywords. ``None`` counts as not given; names that begin with ``__`` are Salt's own
    settings
        what pillar says; only used if the keywords do not name a server completely

    Raises ``SaltInvocationError`` for an unknown or wrong keyword, ``NotNamed`` if no single server is meant, and
    ``SettingsError`` if pillar is wrong.
    """
    keywords = _checked(given)
    base = _base(keywords, settings)
    values = {**base, **keywords}
    spec = Spec(**{name: values.get(name) for name in _SPEC})
    if not (spec.config or spec.stats or spec.socket):
        raise NotNamed(
            "No Galaxy server is named: give config= (or stats= and socket=), or set galaxy:config in pillar"
        )
    limits = Limits(**{name: values[name] for name in _LIMITS if values.get(name) is not None})
    log.debug("Meant is %r with %r", spec, limits)
    return spec, limits


def resolve_all(given: Mapping[str, object], settings: Settings) -> dict[str, tuple[Spec, Limits]]:
    """Like ``resolve``, for every server in pillar, by name. Raises ``NotNamed`` if pillar has none."""
    keywords = _checked(given)
    extra = [name for name in keywords if name not in ("server", *_LIMITS)]
    if extra:
        raise SaltInvocationError(f"{extra[0]} goes with one server, not with server='*'")
    settings.require_sound()
    names = settings.names
    if not names:
        raise NotNamed("pillar names no Galaxy server: set galaxy:config, or galaxy:servers:<name>:config")
    return {name: resolve({**keywords, "server": name}, settings) for name in names}


def _base(keywords: Mapping[str, object], settings: Settings) -> dict[str, Any]:
    """What pillar adds to the keywords: all settings of the server that they mean, or none."""
    name = keywords.get("server")
    if name is None and any(keywords.get(key) for key in _NAMING):
        name = _same_server(keywords.get("config"), keywords.get("instance"), settings)
        if name is None:
            return {}
    settings.require_sound()
    if name is None:
        name = _only(settings)
    elif name not in settings.servers:
        known = ", ".join(settings.servers) or "none"
        raise SaltInvocationError(f"No Galaxy server {name!r} is declared in galaxy:servers; known: {known}")
    return {**settings.servers[name], "server": name}


def _same_server(config: Any, instance: object, settings: Settings) -> str | None:
    """The server in pillar that has this very configuration."""
    if not config:
        return None
    if not any(values["config"] for values in settings.servers.values()):
        return None
    path = os.path.realpath(config)
    same = [
        name
        for name, values in settings.servers.items()
        if values["config"] and os.path.realpath(values["config"]) == path and instance in (None, values["instance"])
    ]
    if len(same) > 1:
        raise NotNamed(f"Several Galaxy servers have {config}: {', '.join(same)}; say which with server=")
    return same[0] if same else None


def _only(settings: Settings) -> str:
    names = list(settings.servers)
    if settings.describes_own:
        return names[0]
    if len(names) == 1:
        return names[0]
    if not names:
        raise NotNamed("galaxy:servers declares no server: give galaxy:servers:<name>:config, or config=")
    raise NotNamed(f"Several Galaxy servers are declared: {', '.join(names)}; say which with server=")


def _checked(given: Mapping[str, object]) -> dict[str, Any]:
    """The keywords with values in the right types; an alias has the name that it stands for."""
    keywords: dict[str, Any] = {}
    for key, value in given.items():
        if key.startswith("__"):
            continue
        name = _ALIASES.get(key, key)
        if name not in _SPEC and name not in _LIMITS:
            near = difflib.get_close_matches(key, KEYWORDS, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise SaltInvocationError(f"Unknown keyword {key!r}: {hint}Known are {', '.join(KEYWORDS)}")
        if value is None:
            continue
        if name in keywords:
            other = next(alias for alias, known in _ALIASES.items() if known == name)
            raise SaltInvocationError(f"{other} is another name of {name}; give one of them")
        keywords[name] = _READERS.get(name, arguments.text)(name, value)
    if "config" in keywords:
        keywords["config"] = os.path.abspath(keywords["config"])
    return keywords


def _address(name: str, value: Any) -> object:
    galaxy_host_address.parse(value)
    return value


def _companions(name: str, value: object) -> object:
    if value not in COMPANIONS:
        raise SaltInvocationError(f"{name} is {value!r}; give {' or '.join(COMPANIONS)}")
    return value


def _settle(name: str, value: object) -> float:
    return arguments.seconds(name, value, allow_zero=True)


_READERS = {
    "stats": _address,
    "socket": _address,
    "timeout": arguments.seconds,
    "retries": arguments.count,
    "min_workers": arguments.count,
    "force": arguments.flag,
    "companions": _companions,
    "settle": _settle,
    "check": arguments.flag,
}
