"""
Find Galaxy's job handlers as Gravity does: dynamic ones below ``gravity:``, static ones in Galaxy's job configuration.
"""

import os
import string
from collections.abc import Iterable
from typing import Any, NoReturn

import galaxy_gravity_file
import galaxy_gravity_settings
import galaxy_host_files
from galaxy_errors import ConfigError, FileError, FileMissing
from galaxy_host_pattern import Pattern
from galaxy_host_record import record

# limit for one instance: each handler is a process
MAX_PROCESSES = 1000
_DEFAULT_FILES = ("job_conf.yml", "job_conf.xml")
_TEMPLATE = "{name}_{process}"
# a name needs nothing but a width, and a large width fills the memory
_FORMAT = Pattern(r"0?\d{0,2}[sd]?")
_NAME = Pattern(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}")
_MAX_TEMPLATE = 200
_MAX_DEPTH = 50


@record(frozen=True)
class Handlers:
    """
    One service of handlers.

    service
        its name
    servers
        the ``server_name`` of each process
    settings
        settings of each process: ``start_timeout``, ``stop_timeout``, ``environment``, as they are written
    is_list
        whether the processes are instances of one service, if there are several
    """

    service: str
    servers: tuple[str, ...]
    settings: dict[str, Any]
    is_list: bool = False


def dynamic(settings: dict[str, Any], where: str) -> list[Handlers]:
    """
    The handlers of ``gravity: handlers:``, from checked settings. ``where`` names this part in errors.

    Raises ``ConfigError``.
    """
    found: dict[str, Handlers] = {}
    left = MAX_PROCESSES
    for name, options in settings["handlers"].items():
        require_name(name, where)
        place = f"{where}: {name}"
        count = options.get("processes", 1)
        template = options.get("name_template")
        if not isinstance(count, int):
            raise ConfigError(f"{place}: processes: is not a whole number; give the number of processes")
        if template is not None and not isinstance(template, str):
            raise ConfigError(f"{place}: name_template: is not a text; write it as {_TEMPLATE!r}")
        left -= max(int(count), 0)
        if left < 0:
            raise ConfigError(f"{place}: processes: more than {MAX_PROCESSES} handlers in all; give fewer")
        if template is None and count == 1 and name[-1].isdigit():
            found[name] = Handlers(name, (name,), options)
            continue
        template = (template or _TEMPLATE).strip()
        if len(template) > _MAX_TEMPLATE:
            raise ConfigError(f"{place}: name_template: longer than {_MAX_TEMPLATE} characters; write {_TEMPLATE!r}")
        servers = [_expand(template, name, number, settings["instance_name"], place) for number in range(count)]
        if settings["use_service_instances"]:
            if not servers:
                raise ConfigError(f"{place}: processes: is {count}, and galaxyctl fails on it; give 1 or more")
            found[name] = Handlers(name, tuple(servers), options, is_list=True)
        else:
            for server in servers:
                require_name(server, f"{place}: name_template")
                found.setdefault(server, Handlers(server, (server,), options))
    return list(found.values())


def _expand(template: str, name: str, number: int, instance: str, place: str) -> str:
    """Fill in a template like ``str.format``, but only plain fields, because others write the template."""
    values = {"name": name, "process": number, "instance_name": instance}
    text = ""
    try:
        for literal, field, form, conversion in string.Formatter().parse(template):
            text += literal
            if field is not None:
                if conversion or not _FORMAT.fullmatch(form or ""):
                    raise ValueError
                text += format(values[field], form or "")
    except (ValueError, KeyError):
        fields = ", ".join(f"{{{key}}}" for key in values)
        raise ConfigError(f"{place}: name_template: cannot be used; write {_TEMPLATE!r}, of {fields}") from None
    return text


def require_name(name: object, place: str) -> None:
    """Raises ``ConfigError`` unless the name can be part of the name of a unit or program, and of a file."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"{place}: {str(name)[:60]!r} cannot be a service's name; use letters, digits, _, - and .")


def static(galaxy: dict[str, Any], config: str, named_by: Iterable[int]) -> list[Handlers]:
    """
    The handlers of Galaxy's job configuration.

    galaxy, config
        the ``galaxy:`` section, and the file that has it
    named_by
        numeric IDs of the users who chose the name of the job configuration

    Raises ``ConfigError`` also if Gravity or Galaxy would fail on the job configuration.
    """
    named = galaxy.get("job_config_file")
    if not named and galaxy.get("job_config"):
        return _of_mapping(galaxy["job_config"], f"{config}: galaxy: job_config")
    if named and not galaxy_gravity_settings.is_text(named):
        raise ConfigError(f"{config}: galaxy: job_config_file: is not a text; name the file")
    directory = os.path.dirname(config)
    for name in [named] if named else _DEFAULT_FILES:
        path = os.path.abspath(os.path.join(directory, name))
        try:
            return _of_file(path, named_by)
        except FileMissing:
            if named:
                place = f"{config}: galaxy: job_config_file"
                raise ConfigError(f"{place}: {path}: no such file; make it, or remove the setting") from None
    return []


def _of_file(path: str, named_by: Iterable[int]) -> list[Handlers]:
    try:
        data = galaxy_host_files.read(path, galaxy_gravity_file.MAX_FILE, named_by)
    except FileMissing:
        raise
    except FileError as exc:
        raise ConfigError(str(exc)) from None
    if path.endswith(".xml"):
        return _of_names(_xml_names(data, path), path)
    if path.endswith((".yml", ".yaml")):
        return _of_mapping(galaxy_gravity_file.read_mapping(path, named_by), path)
    raise ConfigError(
        f"{path}: Gravity does not take it for a job configuration; let its name end in .yml, .yaml or .xml"
    )


def _of_names(names: Iterable[str], place: str) -> list[Handlers]:
    found = []
    for name in names:
        require_name(name, place)
        found.append(Handlers(name, (name,), {}))
    return found


def _of_mapping(document: object, place: str) -> list[Handlers]:
    if not isinstance(document, dict):
        raise ConfigError(f"{place}: is not a mapping; write it as Galaxy's job_conf.yml")
    handling = document.get("handling") or {}
    processes = (handling.get("processes") or {}) if isinstance(handling, dict) else None
    if not isinstance(processes, dict):
        raise ConfigError(f"{place}: handling: processes: is not a mapping; write each handler as NAME:")
    found = []
    for name, options in processes.items():
        require_name(name, f"{place}: handling: processes")
        if options is not None and not isinstance(options, dict):
            raise ConfigError(f"{place}: handling: processes: {name}: is not a mapping; give its settings, or none")
        found.append(Handlers(name, (name,), {"environment": (options or {}).get("environment")}))
    return found


def _xml_names(data: bytes, path: str) -> list[str]:
    """
    The ``id`` of each element in the first ``handlers`` of a ``job_conf.xml``. The file must not declare entities.
    """
    # not imported at the top, because few Galaxies have a job_conf.xml
    from xml.parsers import expat

    names: list[str] = []
    # depth: how many elements are open; inside: in the first handlers; seen: there was a first handlers
    depth, inside, seen = 0, False, False

    def refuse(*_: object) -> NoReturn:
        raise ConfigError(f"{path}: has a DOCTYPE, which is not read; remove it")

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth, inside, seen
        if depth == 1 and tag == "handlers" and not seen:
            inside = seen = True
        elif depth == 2 and inside:
            if "id" not in attributes:
                raise ConfigError(f"{path}:{parser.CurrentLineNumber}: a handler without id; give it one")
            names.append(attributes["id"])
        depth += 1
        if depth > _MAX_DEPTH:
            raise ConfigError(f"{path}: has more than {_MAX_DEPTH} levels; make it flatter")

    def end(_: str) -> None:
        nonlocal depth, inside
        depth -= 1
        inside = inside and depth > 1

    parser = expat.ParserCreate(namespace_separator="}")
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as exc:
        raise ConfigError(f"{path}: is not XML that can be read: {exc}; correct the file") from None
    return names
