"""
What an Onedata mount is: a provider, a mount point, and the options of ``oneclient``.
"""

import configparser
import dataclasses
import grp
import os
import pwd
from collections.abc import Callable, Mapping

from galaxy_errors import ConfigError
from galaxy_host_secret import Secret

# oneclient.conf(5); 5555 before version 18.02
DEFAULT_PORT = 443
_TRUE = ("1", "yes", "true", "on")


@dataclasses.dataclass(frozen=True)
class Space:
    """
    One mount of a user's Onedata spaces.

    provider_host, provider_port
        the Oneprovider; no port lets oneclient choose
    mount_point
        an absolute path
    uid, gid
        numeric owner of all files there as this machine sees them; ``None``: the mounting user
    insecure
        the provider's certificate is not verified
    nonempty
        mount over files that lie in the mount point
    options
        further words for ``oneclient``, such as ``--force-proxy-io``
    """

    name: str
    provider_host: str
    mount_point: str
    provider_port: int | None = None
    uid: int | None = None
    gid: int | None = None
    insecure: bool = False
    nonempty: bool = False
    options: tuple[str, ...] = ()


def of(name: str, settings: Mapping) -> Space:
    """
    The space that ``settings`` describe; keys are the fields of ``Space``, ``uid`` and ``gid`` may be names.

    Raises ``ConfigError``, naming the space and the key.
    """

    def fail(key: str, what: str):
        raise ConfigError(f"Onedata space {name}: {key} {what}")

    fields = {field.name for field in dataclasses.fields(Space)} - {"name"}
    for key in settings:
        if key not in fields:
            fail(key, f"is no key of a space; known are {', '.join(sorted(fields))}")
    found = {key: value for key, value in settings.items() if value is not None}
    for key in ("provider_host", "mount_point"):
        if not isinstance(found.get(key), str) or not found[key]:
            fail(key, "is missing")
    if not os.path.isabs(found["mount_point"]):
        fail("mount_point", f"is {found['mount_point']!r}, not an absolute path")
    if found["provider_host"].startswith("-"):
        fail("provider_host", f"is {found['provider_host']!r}, not a host name")
    port = found.get("provider_port")
    if port is not None and (type(port) is not int or not 0 < port < 65536):
        fail("provider_port", f"is {port!r}, not a number from 1 to 65535")
    for key in ("insecure", "nonempty"):
        if not isinstance(found.get(key, False), bool):
            fail(key, f"is {found[key]!r}, not true or false")
    options = found.get("options", ())
    if not isinstance(options, (list, tuple)) or not all(isinstance(word, str) for word in options):
        fail("options", "is not a list of texts")
    for word in options:
        if word.partition("=")[0] in ("-t", "--token", "-c", "--config") or word.startswith("-t"):
            fail("options", f"has {word.partition('=')[0]}, which this tree gives itself: a token there would be seen")
    for key, lookup in (("uid", _uid), ("gid", _gid)):
        if key in found:
            try:
                found[key] = lookup(found[key])
            except (KeyError, ValueError, OverflowError):
                fail(key, f"is {found[key]!r}, which this machine does not know")
    mount_point = os.path.normpath(found["mount_point"])
    return Space(name=name, **{**found, "options": tuple(options), "mount_point": mount_point})


def read_ini(path: str) -> dict[str, tuple[dict, Secret | None]]:
    """
    The spaces of an ``onedatactl.ini``: by section (``userdata``, ``refdata``) the settings and the token.

    Raises ``ConfigError`` where the file cannot be read.
    """
    parser = configparser.RawConfigParser()
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file, path)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: cannot be read: {exc}") from None
    except configparser.Error as exc:
        # the parser quotes the line, and that may be the token's
        raise ConfigError(f"{path}: is not an INI file ({type(exc).__name__})") from None
    found = {}
    for section in parser.sections():
        options = dict(parser.items(section))
        token = options.pop("token", "")
        settings = {"provider_host": options.get("provider"), "mount_point": options.get("mountpoint")}
        for key in ("uid", "gid"):
            settings[key] = options.get(key) or None
        for key in ("insecure", "nonempty"):
            settings[key] = options.get(key, "").lower() in _TRUE
        found[section] = (settings, Secret(token) if token else None)
    return found


def _uid(value: int | str) -> int:
    return _number(value, lambda name: pwd.getpwnam(name).pw_uid)


def _gid(value: int | str) -> int:
    return _number(value, lambda name: grp.getgrnam(name).gr_gid)


def _number(value: int | str, lookup: Callable[[str], int]) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(value)
    if isinstance(value, str) and not value.isdecimal():
        return lookup(value)
    number = int(value)
    if number < 0:
        raise ValueError(value)
    return number
