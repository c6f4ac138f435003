"""
Describe an Onedata mount: a provider, a mount point, and the options of ``oneclient``.
"""

import configparser
import dataclasses
import logging
import os
import re
from collections.abc import Mapping
from typing import Any, NoReturn

import galaxy_host_files
from galaxy_errors import ConfigError, FileError, FileMissing
from galaxy_host_record import record
from galaxy_host_secret import Secret

log = logging.getLogger(__name__)

_TRUE = ("1", "yes", "true", "on")
_TOKEN_KEYS = ("token", "access_token")
# oneclient also accepts the beginning of a long option's name
_OWN_OPTIONS = ("--token", "--config", "--authorization_token", "--access_token")
_NO_OWNER = "is no option of oneclient: the provider's user mapping (LUMA) decides who owns the files; remove this key"


@record(frozen=True)
class Space:
    """
    One mount of a user's Onedata spaces.

    provider_host, provider_port
        the Oneprovider; without a port, oneclient chooses one
    mount_point
        an absolute path
    insecure
        the provider's certificate is not verified
    nonempty
        mount even if files lie in the mount point
    options
        more options of ``oneclient``, such as ``--force-proxy-io``
    """

    name: str
    provider_host: str
    mount_point: str
    provider_port: int | None = None
    insecure: bool = False
    nonempty: bool = False
    options: tuple[str, ...] = ()


def of(name: str, settings: Mapping[str, Any]) -> Space:
    """
    The space that ``settings`` describe. Keys are the fields of ``Space``, and those of its token, which is not looked
    at. Raises ``ConfigError``, which names the space and the key.
    """

    def fail(key: str, what: str) -> NoReturn:
        raise ConfigError(f"Onedata space {name}: {key} {what}")

    if not isinstance(settings, Mapping):
        fail("its declaration", "is not a mapping of keys to values; see pillar.example")
    fields = {field.name for field in dataclasses.fields(Space)} - {"name"}
    for key in settings:
        if key in ("uid", "gid"):
            fail(key, _NO_OWNER)
        if key not in fields and key not in _TOKEN_KEYS:
            fail(key, f"is no key of a space; known are {', '.join(sorted({*fields, *_TOKEN_KEYS}))}")
    found = {key: settings[key] for key in fields if settings.get(key) is not None}
    for key in ("provider_host", "mount_point"):
        if not isinstance(found.get(key), str) or not found[key]:
            fail(key, "is missing")
        if not found[key].isprintable():
            fail(key, "has a control character")
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
    if not isinstance(options, (list, tuple)) or not all(isinstance(each, str) for each in options):
        fail("options", "is not a list of texts")
    for option in options:
        option_name = option.partition("=")[0]
        if option[:2] in ("-t", "-c") or (
            len(option_name) > 2 and any(o.startswith(option_name) for o in _OWN_OPTIONS)
        ):
            fail("options", f"has {option_name[:20]}, which this tree gives itself: a token there would be seen")
        if not option.isprintable():
            fail("options", "has a control character")
    mount_point = os.path.normpath(found["mount_point"])
    return Space(name=name, **{**found, "options": tuple(options), "mount_point": mount_point})


def read_ini(path: str) -> dict[str, tuple[dict[str, Any], Secret | None]]:
    """
    The spaces in an ``onedatactl.ini``: settings and token, by section (``userdata``, ``refdata``). A section without a
    setting is no space; the scripts' own file has such sections.

    Raises ``ConfigError`` if the file cannot be read, or if others than root can write it: it says where root mounts.
    """
    parser = configparser.RawConfigParser(strict=False)
    try:
        # some editors write a byte order mark at the beginning
        parser.read_string(galaxy_host_files.read(path, trusted=True).decode("utf-8-sig"), path)
    except FileMissing:
        raise ConfigError(f"{path}: no such file") from None
    except FileError as exc:
        raise ConfigError(str(exc)) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8") from None
    except configparser.Error as exc:
        # the parser's message quotes the line, and the line may hold the token
        raise ConfigError(f"{path}: is not an INI file ({type(exc).__name__})") from None
    found = {}
    for section in parser.sections():
        options = {key: _value(value) for key, value in parser.items(section)}
        own = {key for key, value in parser.items(section) if parser.defaults().get(key) != value}
        if not any(options[key] for key in own):
            log.debug("%s: section %s sets nothing, so it is no space", path, section)
            continue
        for key in ("uid", "gid"):
            if options.get(key):
                log.warning("%s: [%s] %s was never in effect, and %s", path, section, key, _NO_OWNER)
        settings: dict[str, Any] = {"provider_host": options.get("provider"), "mount_point": options.get("mountpoint")}
        for key in ("insecure", "nonempty"):
            settings[key] = options.get(key, "").lower() in _TRUE
        token = options.get("token")
        found[section] = (settings, Secret(token) if token else None)
    return found


def _value(text: str) -> str:
    """
    A value without its quotes and without a comment behind it. For the scripts, a shell removed the quotes, and Python
    2's ConfigParser the comment.
    """
    quote, end = text[:1], text.find(text[:1], 1)
    rest = text[end + 1 :].strip()
    if quote in ("'", '"') and end > 0 and (not rest or rest[0] in ";#"):
        return text[1:end].strip()
    return re.split(r"\s[;#]", text, maxsplit=1)[0].strip()
