"""
Read Gravity's settings below ``gravity:``, with its environment and its defaults, by the rules of its ``settings.py``:
what Gravity refuses is refused, and what Gravity takes for a number or a switch is one.
"""

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

from galaxy_errors import ConfigError
from galaxy_gravity_instance import DEFAULT_NAME
from galaxy_host_pattern import Pattern

_PREFIX = "gravity_"
_WHOLE = Pattern(r"\s*([+-]?\d{1,18})(?:\.0*)?\s*")
_FLAGS = {
    **dict.fromkeys(("0", "off", "f", "false", "n", "no"), False),
    **dict.fromkeys(("1", "on", "t", "true", "y", "yes"), True),
}
_MOST = 1 << 31
# most parts of a variable's name; no setting is deeper
_MAX_PARTS = 20

Check = Callable[[object], object]


class _Bad(ValueError):
    """What is wrong with a value, and what to give instead."""


def _flag(value: object) -> bool:
    if isinstance(value, str) and value.lower() in _FLAGS:
        return _FLAGS[value.lower()]
    if not isinstance(value, (bool, int, float)) or value not in (0, 1):
        raise _Bad(f"is {_shown(value)}; give true or false")
    return bool(value)


def _whole(value: object, least: int | None = None) -> int:
    found = _WHOLE.fullmatch(value) if isinstance(value, str) else None
    if found:
        value = int(found[1])
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or not -_MOST < value < _MOST or (least is not None and value < least):
        more = "" if least is None else f", {least} or more"
        raise _Bad(f"is {_shown(value)}; give a whole number{more}")
    return int(value)


def _number(value: object) -> float:
    try:
        if isinstance(value, (bool, int, float, str)):
            return float(value)
    except (ValueError, OverflowError):
        pass
    raise _Bad(f"is {_shown(value)}; give a number")


def _text(value: object) -> str:
    # the value may be a secret if the key belongs to an environment
    if not isinstance(value, str) or not is_text(value):
        what = "a text with NUL or half a character" if isinstance(value, str) else _kind(value)
        raise _Bad(f"is {what}; give a text (in quotes)")
    return value


def _variables(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(is_text(part) for pair in value.items() for part in pair):
        raise _Bad("is not a mapping of texts; write each variable as NAME: 'value'")
    return dict(value)


def _handlers(value: object) -> dict[str, dict[str, Any]]:
    if not isinstance(value, dict) or not all(isinstance(one, dict) for one in value.values()):
        raise _Bad("is not a mapping of mappings; write each handler as NAME: {processes: 1}")
    if not all(isinstance(name, str) for name in value):
        raise _Bad("has a name that is not a text; write it in quotes")
    return value


def _one_of(*names: str) -> Check:
    def check(value: object) -> str:
        if value not in names:
            raise _Bad(f"is {_shown(value)}; give one of {', '.join(names)}")
        return value

    return check


def _or_none(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


_TEXT_OR_NONE = _or_none(_text)
_FROM_0, _FROM_1 = functools.partial(_whole, least=0), functools.partial(_whole, least=1)


def _service(start: int, stop: int, **fields: tuple[object, Check]) -> dict[str, tuple[object, Check]]:
    return {
        **fields,
        "umask": (None, _TEXT_OR_NONE),
        "start_timeout": (start, _whole),
        "stop_timeout": (stop, _whole),
        "memory_limit": (None, _or_none(_number)),
        "memory_high": (None, _or_none(_number)),
        "environment": ({}, _variables),
    }


# for each service: default and check of each setting
_SERVICES = {
    "gunicorn": _service(
        15,
        65,
        enable=(True, _flag),
        bind=("localhost:8080", _text),
        workers=(1, _FROM_1),
        timeout=(300, _FROM_0),
        extra_args=("", _text),
        preload=(True, _or_none(_flag)),
        restart_timeout=(300, _whole),
    ),
    "celery": _service(
        10,
        10,
        enable=(True, _flag),
        enable_beat=(True, _flag),
        concurrency=(2, _FROM_0),
        loglevel=("DEBUG", _one_of("DEBUG", "INFO", "WARNING", "ERROR")),
        queues=("celery,galaxy.internal,galaxy.external", _text),
        pool=("threads", _one_of("prefork", "eventlet", "gevent", "solo", "processes", "threads")),
        extra_args=("", _text),
    ),
    "gx_it_proxy": _service(
        10,
        10,
        enable=(False, _flag),
        version=(">=0.0.6", _text),
        ip=("localhost", _text),
        port=(4002, _whole),
        sessions=("database/interactivetools_map.sqlite", _text),
        verbose=(True, _flag),
        forward_ip=(None, _TEXT_OR_NONE),
        forward_port=(None, _or_none(_whole)),
        reverse_proxy=(False, _or_none(_flag)),
    ),
    "tusd": _service(
        10,
        10,
        enable=(False, _flag),
        tusd_path=("tusd", _text),
        host=("localhost", _text),
        port=(1080, _whole),
        upload_dir=(None, _text),
        hooks_http=("/api/upload/hooks", _text),
        hooks_enabled_events=("pre-create", _text),
        extra_args=("", _text),
    ),
    "reports": _service(
        10,
        10,
        enable=(False, _flag),
        config_file=("reports.yml", _text),
        bind=("localhost:9001", _text),
        workers=(1, _FROM_1),
        timeout=(300, _FROM_0),
        url_prefix=(None, _TEXT_OR_NONE),
        extra_args=("", _text),
    ),
}
_LISTS = ("gunicorn", "tusd")
_PLAIN: dict[str, tuple[Any, Check]] = {
    "process_manager": (None, _or_none(_one_of("supervisor", "systemd", "multiprocessing"))),
    "service_command_style": ("gravity", _one_of("gravity", "direct", "_exec")),
    "use_service_instances": (True, _flag),
    "umask": ("022", _text),
    "memory_limit": (None, _or_none(_number)),
    "memory_high": (None, _or_none(_number)),
    "app_server": ("gunicorn", _one_of("gunicorn")),
    "instance_name": (DEFAULT_NAME, _text),
    "handlers": ({}, _handlers),
    **dict.fromkeys(
        ("galaxy_config_file", "galaxy_root", "galaxy_user", "galaxy_group", "log_dir", "log_namespace", "virtualenv"),
        (None, _TEXT_OR_NONE),
    ),
}


def read(section: dict[str, Any], environment: Mapping[str, str], where: str) -> dict[str, Any]:
    """
    Read all settings of one instance.

    section
        what the file says
    environment
        environment of whoever runs Gravity. A ``GRAVITY_*`` variable counts if the section does not have the setting
    where
        names the section in errors

    Returns a dictionary of all keys. A service is a dictionary of its settings; ``gunicorn`` and ``tusd`` may also be a
    list of dictionaries. Raises ``ConfigError``.
    """
    given: dict[str, object] = {}
    for key, value in section.items():
        if not isinstance(key, str):
            raise ConfigError(f"{where}: has the key {_shown(key)}; write keys as texts")
        given.setdefault(key.lower(), value)
    added = _from_environment({name.lower(): text for name, text in environment.items()})
    merged = _merged(added, given)
    settings: dict[str, object] = {}
    for key in (*_PLAIN, *_SERVICES):
        place = f"{where}: {key}" if key in given or key not in added else f"environment: {(_PREFIX + key).upper()}"
        value = merged.get(key)
        if key in _SERVICES:
            settings[key] = _read_service(key, value, place)
        else:
            default, check = _PLAIN[key]
            settings[key] = _checked(value, check, place) if key in merged else default
    if settings["service_command_style"] != "gravity":
        settings["use_service_instances"] = False
    return settings


def _read_service(key: str, value: object, place: str) -> dict[str, Any] | list[dict[str, Any]]:
    fields = _SERVICES[key]
    if value is None:
        return {name: default for name, (default, _) in fields.items()}
    if isinstance(value, list) and key in _LISTS:
        return [_read_fields(one, fields, f"{place}[{number}]") for number, one in enumerate(value)]
    return _read_fields(value, fields, place)


def _read_fields(value: object, fields: Mapping[str, tuple[object, Check]], place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{place}: is {_kind(value)}; give a mapping of settings")
    if not all(isinstance(name, str) for name in value):
        raise ConfigError(f"{place}: has a key that is not a text; write keys as texts")
    found = {}
    for name, (default, check) in fields.items():
        # the only setting without a default
        is_needed = name == "upload_dir"
        found[name] = _checked(value.get(name), check, f"{place}: {name}") if name in value or is_needed else default
    return found


def _checked(value: object, check: Check, place: str) -> object:
    try:
        return check(value)
    except _Bad as exc:
        raise ConfigError(f"{place}: {exc}") from None


def is_text(value: object) -> bool:
    """Whether the value is a text that can be (part of) a path, an argument or a variable."""
    try:
        return isinstance(value, str) and b"\0" not in value.encode()
    except UnicodeError:
        return False


def _from_environment(variables: Mapping[str, str]) -> dict[str, Any]:
    """
    The settings in the variables, whose names are in lower case. ``gravity_gunicorn.workers`` is a setting of a
    service.
    """
    found: dict[str, object] = {}
    for key in (*_PLAIN, *_SERVICES):
        text = variables.get(f"{_PREFIX}{key}")
        if key in _PLAIN and key != "handlers":
            if text is not None:
                found[key] = text
            continue
        value: Any = None if text is None else _from_json(text, key, key in _LISTS)
        if isinstance(value, dict) and key in _SERVICES and key not in _LISTS:
            value = {str(name).lower(): inner for name, inner in value.items()}
        if text is None or isinstance(value, dict):
            value = _merged(value or {}, _parts(key, variables)) or None
        if value is not None:
            found[key] = value
    return found


def _parts(key: str, variables: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, object] = {}
    prefix = f"{_PREFIX}{key}."
    for name, text in variables.items():
        if not name.startswith(prefix):
            continue
        *parents, last = name[len(prefix) :].split(".", _MAX_PARTS)
        place: object = found
        for parent in parents:
            place = place.setdefault(parent, {}) if isinstance(place, dict) else place
        is_handler = key == "handlers" and len(parents) != 1
        value: object = text
        if text and (is_handler or (not parents and last == "environment" and key != "handlers")):
            value = _from_json(text, f"{key}.{last}", is_handler)
        if isinstance(place, dict):
            place.setdefault(last, value)
    return found


def _from_json(text: str, key: str, or_text: bool) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        if or_text:
            return text
    raise ConfigError(f"environment: {(_PREFIX + key).upper()}: is not JSON; write it as JSON")


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings together. If both have a value that is not a mapping, the second one counts."""
    found = dict(first)
    for key, value in second.items():
        old = found.get(key)
        found[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return found


def _kind(value: object) -> str:
    """The type of a value, because its text may be a secret."""
    names = {str: "a text", dict: "a mapping", list: "a list", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, (int, float)) else "a date")


def _shown(value: object) -> str:
    if isinstance(value, (list, dict)):
        return _kind(value)
    try:
        text = repr(value)
    except ValueError:
        # the number may have thousands of digits
        text = "a number"
    return text if len(text) <= 60 else f"{text[:57]}..."
