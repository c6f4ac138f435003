"""
Read a Galaxy or uWSGI configuration by uWSGI's own rules (``core/ini.c``, ``core/yaml.c``, ``core/config.c``).

Forms: ``galaxy.ini`` and any uWSGI INI (section ``[uwsgi]``), ``galaxy.yml`` and any uWSGI YAML (key ``uwsgi:``), where
a repeated key is a list. Other sections, Galaxy's own among them, are not looked at.
"""

import dataclasses
import os
import pathlib
import re
import socket
from collections.abc import Iterable, Iterator, Mapping

import galaxy_host_address
from galaxy_errors import AddressError, ConfigError
from galaxy_host_address import Address

SECTION = "uwsgi"
# options that make uWSGI listen: its own sockets, then the HTTP router's
_SOCKETS = {
    *("socket", "uwsgi-socket", "s", "suwsgi-socket", "ssl-socket", "http-socket", "https-socket"),
    *("fastcgi-socket", "scgi-socket", "raw-socket", "puwsgi-socket"),
}
_ROUTERS = {"http", "https", "http-to-https"}
_STATS = {"stats", "stats-server"}
_PROCESSES = {"processes", "workers", "p"}
_PIDFILES = {"pidfile", "pidfile2", "safe-pidfile", "safe-pidfile2"}
_LOGS = {"logto", "logto2", "daemonize", "d", "daemonize2"}
_INCLUDES = {"include", "inherit", "ini", "yaml", "yml", "y"}
_ENDS = {"end", "endfor", "endif", "end-for", "end-if"}
_PERSONAL = ("HOME", "USER", "LOGNAME", "SHELL", "PATH", "PWD", "OLDPWD", "MAIL", "TMPDIR", "LANG")
_FALSE = ("false", "no", "off", "n", "0")
_PLACEHOLDER = re.compile(r"([$%])\(([^()]+)\)")
_MAX_INCLUDES = 16


@dataclasses.dataclass(frozen=True)
class Setting:
    """A value and where it came from: uWSGI's option, and ``file:line``."""

    value: object
    option: str
    source: str


@dataclasses.dataclass(frozen=True)
class Config:
    """
    What a configuration says about the running server; what it does not say is ``None`` or empty.

    sockets
        addresses it listens on, in the order of the file: ``Setting`` of ``Address``
    stats
        address of the stats server: ``Setting`` of ``Address``
    processes, threads, mules
        ``Setting`` of int; uWSGI's defaults where the file is silent (source ``uWSGI default``)
    pidfile, master_fifo, logs
        ``Setting`` of an absolute path; others are relative to a directory that only the running server knows
    unusable
        settings of sockets and stats that are no address, such as a relative path, ``value`` being the ``AddressError``
    """

    path: str
    sockets: tuple[Setting, ...]
    stats: Setting | None
    processes: Setting
    threads: Setting
    mules: Setting
    pidfile: Setting | None
    master_fifo: tuple[Setting, ...]
    logs: tuple[Setting, ...]
    unusable: tuple[Setting, ...] = ()


@dataclasses.dataclass
class _Option:
    key: str
    value: str
    source: str


def read(path: str, environment: Mapping[str, str] = os.environ) -> Config:
    """
    The configuration in the file ``path``.

    environment
        resolves ``$(NAME)``; what cannot be resolved stays as it is, as in uWSGI. What differs from user to user, such
        as ``HOME``, is not resolved: it is Galaxy's that counts

    Raises ``ConfigError`` (missing, unreadable, no uWSGI section, bad number, include loop), naming file and line. A
    bad address is kept, so that the rest can be used.
    """
    environment = {name: value for name, value in environment.items() if name not in _PERSONAL}
    options: list[_Option] = []
    _collect(os.path.abspath(path), options, environment, 0)
    _resolve(options, environment)
    return _interpret(path, options)


# Reading: every option in the order in which uWSGI would see it.


def _collect(path: str, options: list[_Option], environment: Mapping[str, str], depth: int) -> None:
    if depth > _MAX_INCLUDES:
        raise ConfigError(f"{path}: included more than {_MAX_INCLUDES} levels deep; remove the loop of include options")
    text = _magic(_read_text(path), path)
    is_ini = path.endswith(".ini") or (not path.endswith((".yml", ".yaml")) and re.search(r"(?m)^\s*\[", text))
    found = False
    logic = None
    for line, key, value in _ini_options(text) if is_ini else _yaml_options(text):
        found = True
        if key is None:
            continue
        source = f"{path}:{line}"
        if key in _ENDS:
            logic = None
            continue
        if logic:
            values = _apply_logic(logic, value, options, environment, source)
        elif key in ("for", "for-times") or key.startswith("if-"):
            logic = (key, value)
            continue
        else:
            values = [value]
        for one in values:
            if key in _INCLUDES:
                _collect(_included(path, _substitute(one, options, environment)), options, environment, depth + 1)
            elif key in ("set", "S", "set-placeholder", "set-ph"):
                name, _, content = one.partition("=")
                options.append(_Option(name, content, source))
            else:
                options.append(_Option(key, one, source))
    if not found:
        raise ConfigError(_no_section(path, text, is_ini))


def _included(path: str, target: str) -> str:
    """
    Where an included file is. uWSGI looks from the directory that it was started in, which is Galaxy's root: the parent
    of the configuration's directory, or that directory itself.
    """
    directory = os.path.dirname(path)
    candidates = [os.path.join(base, target) for base in (os.path.dirname(directory), directory)]
    return next(filter(os.path.exists, candidates), candidates[-1])


def _read_text(path: str) -> str:
    try:
        return pathlib.Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a directory; name the configuration file in it") from None
    except PermissionError:
        raise ConfigError(f"{path}: not readable by this user; run as root") from None
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{path}: cannot be read: {exc}") from None


def _no_section(path: str, text: str, is_ini: bool) -> str:
    if not is_ini and re.search(r"(?m)^gravity:", text):
        return f"{path}: has a gravity: section but no {SECTION}: section, so Gunicorn serves this Galaxy, not uWSGI"
    wanted = f"[{SECTION}] section" if is_ini else f"{SECTION}: section"
    return f"{path}: has no {wanted}; name the file with uWSGI's options"


def _ini_options(text: str) -> Iterator[tuple[int, str | None, str]]:
    """Line number, key and value of each option of ``[uwsgi]``; key ``None`` says that the section is there."""
    inside = False
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip(" \t\r")
        if line.startswith("["):
            inside = line[1:-1] == SECTION
            if inside:
                yield number, None, ""
        elif inside and line and not line.startswith((";", "#")):
            key, _, value = line.partition("=")
            yield number, key.rstrip(" \t\r"), value.strip(" \t\r")


def _yaml_options(text: str) -> Iterator[tuple[int, str | None, str]]:
    """
    As ``_ini_options`` for ``uwsgi:``; uWSGI takes values that strict YAML refuses, such as ``%(x)`` and ``*:80``.
    """
    inside = None
    key = ""
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.partition("#")[0].expandtabs().rstrip()
        content = line.lstrip()
        if not content or content in ("---", "..."):
            continue
        depth = len(line) - len(content)
        if inside is None or (depth <= inside and not content.startswith("- ")):
            if inside is not None:
                return
            if content == f"{SECTION}:":
                inside = depth
                yield number, None, ""
            continue
        if content.startswith("- ") and key:
            yield number, key, _unquote(content[2:].strip())
            continue
        key, colon, value = content.partition(": ")
        key = key.rstrip(" :") if not colon else key.rstrip()
        value = _unquote(value.strip())
        if value.startswith("[") and value.endswith("]") and not re.match(r"\[[0-9a-fA-F:.]*\]$", value):
            for item in value[1:-1].split(","):
                yield number, key, _unquote(item.strip())
        elif colon and value:
            yield number, key, value


def _unquote(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


# Placeholders: %d and its like are replaced while a file is read, $(ENV) and %(option) once all options are known.


def _magic(text: str, path: str) -> str:
    """uWSGI's magic variables that depend on the file (``config_magic_table_fill``); others stay."""
    directory, name = os.path.split(path)
    stem, dot, extension = name.rpartition(".")
    table = {
        **{str(index): part for index, part in enumerate(directory.strip("/").split("/")[:10])},
        **{"o": path, "p": path, "s": name, "d": f"{directory.rstrip('/')}/", "c": os.path.basename(directory)},
        **{"e": extension if dot else "", "n": stem if dot else name, "x": ""},
        **{"h": socket.gethostname(), "k": str(os.cpu_count() or 1), "%": "%"},
    }
    table.update({letter.upper(): table[letter] for letter in "opsdcenx"})
    return re.sub(r"%([A-Za-z0-9%])", lambda match: table.get(match[1], match[0]), text)


def _resolve(options: list[_Option], environment: Mapping[str, str]) -> None:
    for option in options:
        option.value = _substitute(option.value, options, environment)


def _substitute(value: str, options: list[_Option], environment: Mapping[str, str]) -> str:
    def replace(match: re.Match) -> str:
        symbol, name = match.groups()
        found = environment.get(name) if symbol == "$" else _placeholder(name, options)
        return match[0] if found is None else found

    return _PLACEHOLDER.sub(replace, value)


def _placeholder(expression: str, options: list[_Option]) -> str | None:
    """``%(name)``, or uWSGI's left-to-right arithmetic ``%(name + 1)``; ``None`` where a name is unknown."""
    result, operator = None, ""
    for token in expression.split():
        if token in ("+", "-", "*", "/"):
            operator = token
            continue
        if token in ("++", "--"):
            result = str(_leading_int(result or "") + (1 if token == "++" else -1))
            continue
        value = token if token.isdecimal() else next((o.value for o in options if o.key == token), None)
        if value is None:
            return None
        if result is None or not operator:
            result = (result or "") + value
            continue
        left, right = _leading_int(result), _leading_int(value)
        if operator == "/" and not right:
            return None
        result = str({"+": left + right, "-": left - right, "*": left * right, "/": left // (right or 1)}[operator])
        operator = ""
    return result


def _leading_int(text: str) -> int:
    match = re.match(r"\s*[+-]?\d+", text)
    return int(match[0]) if match else 0


def _apply_logic(logic, value: str, options, environment, source: str) -> list[str]:
    """The values that an option inside ``for = …`` or ``if-… = …`` takes: none where the condition does not hold."""
    kind, argument = logic
    argument = _substitute(argument, options, environment)
    if kind == "for":
        items = argument.split()
    elif kind == "for-times":
        items = [str(number) for number in range(1, _leading_int(argument) + 1)]
    else:
        negated = kind.startswith("if-not-")
        found = _condition(kind.removeprefix("if-not-").removeprefix("if-"), argument, options, environment)
        if found is None:
            raise ConfigError(f"{source}: {kind} cannot be decided outside uWSGI; give stats= and socket= instead")
        holds = found is not False
        items = [] if holds == negated else [found if isinstance(found, str) else argument]
    return [value.replace("%(_)", item) for item in items]


def _condition(kind: str, argument: str, options, environment) -> bool | str | None:
    if kind in ("exists", "file", "dir"):
        return {"exists": os.path.exists, "file": os.path.isfile, "dir": os.path.isdir}[kind](argument)
    if kind == "hostname":
        return argument == socket.gethostname()
    if kind in ("env", "opt"):
        name, equal, wanted = argument.partition("=")
        value = environment.get(name) if kind == "env" else next((o.value for o in options if o.key == name), None)
        return False if value is None or (equal and value != wanted) else value
    return None


# Interpreting.


def _interpret(path: str, options: list[_Option]) -> Config:
    def listed(names: set[str]) -> tuple[Setting, ...]:
        return tuple(Setting(o.value, o.key, o.source) for o in options if o.key in names)

    def last(names: set[str]) -> Setting | None:
        found = listed(names)
        return found[-1] if found else None

    def number(names: set[str], default: int) -> Setting:
        found = last(names)
        return _number(found) if found else Setting(default, min(names), "uWSGI default")

    shared = [option.value for option in options if option.key == "shared-socket"]
    unusable: list[Setting] = []

    def addresses(settings: Iterable[Setting], http: bool = False) -> tuple[Setting, ...]:
        found = []
        for setting in settings:
            try:
                found.append(_address(setting, shared, http))
            except AddressError as exc:
                unusable.append(dataclasses.replace(setting, value=exc))
        return tuple(found)

    def absolute(settings: Iterable[Setting]) -> tuple[Setting, ...]:
        return tuple(setting for setting in settings if os.path.isabs(setting.value))

    stats_http = any(option.key == "stats-http" and option.value.lower() not in _FALSE for option in options)
    stats = addresses([setting for setting in [last(_STATS)] if setting], stats_http)
    mules = listed({"mule"})
    total = len(mules) + sum(_number(setting).value for setting in listed({"mules"}))
    mule_source = last({"mule", "mules"}) or Setting(0, "mules", "uWSGI default")
    return Config(
        path=path,
        sockets=addresses(listed(_SOCKETS | _ROUTERS)),
        stats=stats[0] if stats else None,
        processes=number(_PROCESSES, 1),
        threads=number({"threads"}, 1),
        mules=dataclasses.replace(mule_source, value=total),
        pidfile=next(reversed(absolute(listed(_PIDFILES))), None),
        master_fifo=absolute(listed({"master-fifo"})),
        logs=absolute(listed(_LOGS)),
        unusable=tuple(unusable),
    )


def _number(setting: Setting) -> Setting:
    if not re.match(r"\d{1,9}\Z", setting.value):
        raise ConfigError(f"{setting.source}: {setting.option} = {setting.value!r} is not a number")
    return dataclasses.replace(setting, value=int(setting.value))


def _address(setting: Setting, shared: list[str], http: bool = False) -> Setting:
    text = setting.value
    if setting.option not in _STATS:
        # https = address,certificate,key
        text = text.partition(",")[0]
    if re.match(r"=\d+\Z", text) and int(text[1:]) < len(shared):
        text = shared[int(text[1:])]
    try:
        address: Address = galaxy_host_address.parse(text)
    except AddressError as exc:
        raise AddressError(f"{setting.source}: {setting.option}: {exc}") from None
    return dataclasses.replace(setting, value=dataclasses.replace(address, http=address.http or http))
