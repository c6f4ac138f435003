"""
Read uWSGI's configuration files by its own rules (``core/ini.c``, ``core/yaml.c``, ``core/uwsgi.c``): INI and YAML, and
the magic variables in them. Other sections are ignored.
"""

import os
import re
import socket
from collections.abc import Iterable, Iterator

import galaxy_host_files
from galaxy_errors import ConfigError, FileError, FileMissing
from galaxy_host_pattern import Pattern

SECTION = "uwsgi"
MAX_FILE = 1 << 20
# limit of a file's text with its magic variables, and of all values together
MAX_TEXT = 4 << 20
# replaces the percent sign of a magic variable that only uWSGI knows
UNKNOWN = "\0"
_MAGIC = Pattern(r"%(.)", re.DOTALL)
# letters for its start time, user, group, version, binary, and the file's inode and hash
_UNKNOWN_MAGIC = "tTuUgGVbBiIjJ"
_IPV6 = Pattern(r"\[[0-9a-fA-F:.]*\]\Z")
# JSON is YAML too
_GRAVITY = Pattern(r"""^(gravity|'gravity'|[ \t{]*"gravity")[ \t]*:""", re.MULTILINE)
GRAVITYS = (
    "{}: has a gravity: section, so gunicorn serves this Galaxy, and uwsgi: is ignored; if uWSGI serves it, remove the "
    "gravity: section"
)
_NO_ROOM = "is not a mapping of options, one to a line; write each as option: value, indented, below {}:"
_LIST = "uWSGI's own YAML reader stops at a list, only libyaml's reads on; repeat the option instead"
_NO_VALUE = "uWSGI's own YAML reader stops at a line without option: value, only libyaml's reads on; remove it"
_QUOTED = "uWSGI's own YAML reader takes the quotes as part of the value, only libyaml's does not; remove them"

Line = tuple[int, str | None, str]
Remark = tuple[str, str, str]


def read_text(path: str, named_by: Iterable[int] = (), deciders: set[int] | None = None) -> str:
    """
    The text of a file whose path another user chose: a regular file of at most ``MAX_FILE`` bytes.

    named_by
        owners of the files that name it; it is read with no more rights than they have
    deciders
        a set to which those who decide what the file says are added, as for ``galaxy_host_files.read``

    Raises ``ConfigError``.
    """
    try:
        data = galaxy_host_files.read(path, MAX_FILE, named_by, deciders=deciders)
    except FileMissing:
        raise ConfigError(f"{path}: no such configuration file") from None
    except FileError as exc:
        if os.path.isdir(path):
            raise ConfigError(f"{path}: is a directory; name the configuration file in it") from None
        raise ConfigError(str(exc)) from None
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{path!r}: cannot be read: {getattr(exc, 'strerror', None) or exc}") from None
    text = data.decode("utf-8", "replace")
    # uWSGI is written in C, where a text ends at a NUL
    return re.sub(r"\0[^\n]*", "", text) if "\0" in text else text


def kind_of(path: str, text: str) -> str:
    """``ini`` or ``yaml``, by the name, or else by the text."""
    if path.endswith(".ini"):
        return "ini"
    if path.endswith((".yml", ".yaml")):
        return "yaml"
    return "ini" if re.search(r"(?m)^[ \t\r]*\[", text) else "yaml"


def ini_lines(text: str, section: str) -> Iterator[Line]:
    """Line number, key and value of each option of the section. The key ``None`` says that the section is there."""
    inside = False
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip(" \t\r")
        if not line or line[0] in ";#":
            continue
        if line[0] == "[":
            inside = line[1:-1] == section
            if inside:
                yield number, None, ""
        elif inside:
            key, _, value = line.partition("=")
            yield number, key.rstrip(" \t\r"), value.strip(" \t\r")


def yaml_lines(text: str, section: str, path: str, problems: list[Remark], doubts: list[Remark]) -> Iterator[Line]:
    """
    Like ``ini_lines``. uWSGI is built with its own reader of YAML (the build that pip installs), or with libyaml
    (Debian's). If the two read a text differently, the one that can use it counts, and ``doubts`` say so.
    """
    inside = stopped = False
    key = ""
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.partition("#")[0] if "#" in raw else raw
        content = line.strip(" \t\r")
        if not content:
            continue
        top = line[0] not in " \t\r"
        if not inside:
            name, colon, rest = content.partition(":")
            if top and colon and name == section:
                inside = True
                yield number, None, ""
                if rest.strip():
                    problems.append((section, f"{path}:{number}", _NO_ROOM.format(section)))
            continue
        first = content[0]
        listed = first == "-" and content[1:2] in ("", " ")
        if top and not (listed and key):
            if listed:
                problems.append((section, f"{path}:{number}", _NO_ROOM.format(section)))
            return
        if listed or first in "-[{":
            if not key and not stopped:
                problems.append((section, f"{path}:{number}", _NO_ROOM.format(section)))
                return
            if not stopped:
                stopped = True
                doubts.append((key, f"{path}:{number}", _LIST))
            item = content[1:].strip(" \t\r")
            if key and ": " in item and item[0] not in "\"'":
                problems.append((key, f"{path}:{number}", "is a list of mappings, of which uWSGI reads no value"))
                # one sentence for the whole list is enough
                key = ""
            elif key and listed and item:
                yield number, key, _unquote(item)
            continue
        key, colon, value = content.partition(": ")
        if not colon:
            key, colon, value = content.partition(":\t")
        if not colon:
            # a list may follow; its lines are checked themselves
            key = key[:-1].rstrip(" \t") if key.endswith(":") else ""
            if not key and not stopped:
                stopped = True
                doubts.append((content[:40], f"{path}:{number}", _NO_VALUE))
            continue
        key = key.rstrip(" \t")
        value = value.lstrip(" \t\r")
        if len(value) > 1 and value[0] in "\"'" and value[-1] == value[0]:
            value = value[1:-1]
            doubts.append((key, f"{path}:{number}", _QUOTED))
        elif line[-1] == "\r":
            # uWSGI's own reader keeps the carriage return if a line ends in CR LF
            value += "\r"
        if value[:1] == "[" and value[-1] == "]" and not _IPV6.match(value):
            doubts.append((key, f"{path}:{number}", _LIST))
            for item in value[1:-1].split(","):
                yield number, key, _unquote(item.strip())
        else:
            yield number, key, value


def _unquote(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


def is_gravitys(text: str) -> bool:
    """
    Whether a YAML file has a ``gravity:`` section. If it has one, Gravity starts gunicorn, whatever else is in the
    file.
    """
    return _GRAVITY.search(text) is not None


def no_section(path: str, text: str, kind: str, section: str) -> str:
    """The sentence for a file that does not have the wanted section."""
    if kind == "yaml" and is_gravitys(text):
        return GRAVITYS.format(path)
    wanted = f"[{section}] section" if kind == "ini" else f"{section}: section"
    if text.startswith("\ufeff"):
        return f"{path}: has no {wanted} that uWSGI sees: it begins with a byte order mark; remove that"
    return f"{path}: has no {wanted}; name the file with uWSGI's options"


def magic(text: str, path: str, section: str, written: str, top: tuple[str, str, str] | None, cwd: str | None) -> str:
    """
    The text with its magic variables replaced (``config_magic_table_fill``).

    written
        the path as it was given to uWSGI
    top
        path, section and written path of the file that was read first, which capital letters name; ``None``: none
    """
    first = _variables(*top) if top else {}
    directory = os.path.dirname(_full(path))
    table = {
        **_variables(path, section, written),
        **{letter.upper(): value for letter, value in first.items()},
        **{str(index): part for index, part in enumerate(directory.strip("/").split("/")[:10])},
        **{letter: UNKNOWN + letter for letter in _UNKNOWN_MAGIC},
        **{"h": socket.gethostname(), "k": str(os.cpu_count() or 1), "%": "%", "(": "%(", "[": "\033"},
        "v": cwd or f"{UNKNOWN}v",
    }
    if text.count("%") * max(map(len, table.values())) + len(text) > MAX_TEXT:
        raise ConfigError(f"{path}: with its magic variables it is longer than {MAX_TEXT} characters; remove some")
    # other letters mean nothing
    return _MAGIC.sub(lambda match: table.get(match[1], ""), text)


def _full(path: str) -> str:
    return path if os.path.islink(path) else os.path.realpath(path)


def _variables(path: str, section: str, written: str) -> dict[str, str]:
    """The magic variables of a file. The first file has them too, as capital letters."""
    full = _full(path)
    directory, name = os.path.split(full)
    stem, dot, extension = name.rpartition(".")
    return {
        **{"o": written, "p": full, "s": name, "d": f"{directory.rstrip('/')}/", "c": os.path.basename(directory)},
        **{"e": extension if dot else "", "n": stem if dot else name, "x": "" if section == SECTION else section},
    }
