"""
``pillar.example`` and ``docs/pillar.schema.json``, made from the declaration of all settings (``galaxy_pillar``).

    make pillar
"""

import json
import pathlib
import sys
import textwrap

REPO = pathlib.Path(__file__).resolve().parent.parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(REPO / "_utils"))

import yaml  # noqa: E402

import galaxy_pillar  # noqa: E402
from galaxy_host_arguments import MAX_NUMBER  # noqa: E402
from galaxy_pillar import Key, Kind  # noqa: E402

_HEAD = """\
# Every key of the galaxy formula with its default. If the comment names the default, the value is an example. Execution
# modules and states read the same keys, so `salt '*' galaxy.status` needs no argument. `salt '*' galaxy.settings` shows
# what is in effect. docs/pillar.schema.json has the same as a JSON Schema. docs/glossary.md explains the words.
"""


def example() -> str:
    """The text of ``pillar.example``."""
    return _HEAD + "galaxy:\n" + "\n".join(_lines(galaxy_pillar.PILLAR, 1)) + "\n"


def schema() -> str:
    """The text of ``docs/pillar.schema.json``."""
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "galaxy: in pillar",
        "type": "object",
        "properties": {"galaxy": _mapping(galaxy_pillar.PILLAR)},
        "required": ["galaxy"],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _lines(keys: tuple[Key, ...], depth: int):
    indent = "  " * depth
    for key in keys:
        if key is galaxy_pillar.SERVERS:
            yield from _servers(key, indent)
            continue
        yield from _comment(key, indent)
        if key.kind is Kind.SECTION:
            yield f"{indent}{key.name}:"
            yield from _lines(key.keys, depth + 1)
        elif key.kind is Kind.NAMED:
            yield f"{indent}{key.name}:"
            yield f"{indent}  {key.example}:"
            yield from _lines(key.keys, depth + 2)
        else:
            value = key.default if key.example is None else key.example
            yield from textwrap.indent(_dump({key.name: value}), indent).splitlines()


def _servers(key: Key, indent: str):
    yield from _comment(key, indent)
    yield f"{indent}servers:"
    yield f"{indent}  test:"
    yield f"{indent}    config: /srv/test/config/galaxy.yml"


def _comment(key: Key, indent: str):
    unit = f" In {key.unit}." if key.unit else ""
    choices = f" One of: {', '.join(map(str, key.choices))}." if key.choices else ""
    text = f"{key.text}{choices}{unit}"
    if key.example is not None and key.kind is not Kind.NAMED:
        text += " The default is " + ("null" if key.default is None else json.dumps(key.default)) + "."
    return textwrap.wrap(text, 120 - len(indent) - 2, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


class _Dumper(yaml.SafeDumper):
    pass


def _text(dumper, value):
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def _dump(value: dict) -> str:
    text = yaml.dump(value, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=100)
    (name,) = value
    if isinstance(value[name], (list, dict)):
        return f"{name}: {json.dumps(value[name])}\n".replace('"', "")
    return text


def _mapping(keys: tuple[Key, ...]) -> dict:
    return {
        "type": ["object", "null"],
        "properties": {key.name: _schema(key) for key in keys},
        "additionalProperties": False,
    }


def _schema(key: Key) -> dict:
    found = {"description": key.text + (f" In {key.unit}." if key.unit else "")}
    if key.kind is Kind.SECTION:
        return {**found, **_mapping(key.keys)}
    if key.kind is Kind.NAMED:
        members = _mapping(key.keys)
        members["type"] = "object"
        names = {"pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"}
        return {**found, "type": ["object", "null"], "propertyNames": names, "additionalProperties": members}
    if key.choices:
        return {**found, "enum": [*key.choices, None], "default": key.default}
    return {**found, **_TYPES[key.kind], "default": key.default}


_DIGITS = {"type": "string", "pattern": "^[0-9]{1,9}$"}
_NUMBER = {"type": "string", "pattern": r"^[0-9]{1,9}(\.[0-9]{1,9})?$"}
_TYPES = {
    Kind.TEXT: {"type": ["string", "null"], "pattern": r"\S"},
    Kind.PATH: {"type": ["string", "null"], "pattern": "^/"},
    Kind.ADDRESS: {"type": ["string", "null"], "minLength": 1},
    Kind.SECONDS: {
        "anyOf": [{"type": "number", "exclusiveMinimum": 0, "maximum": MAX_NUMBER}, _NUMBER, {"type": "null"}]
    },
    Kind.DURATION: {"anyOf": [{"type": "number", "minimum": 0, "maximum": MAX_NUMBER}, _NUMBER, {"type": "null"}]},
    Kind.COUNT: {"anyOf": [{"type": "integer", "minimum": 0, "maximum": MAX_NUMBER}, _DIGITS, {"type": "null"}]},
    Kind.MODE: {"type": ["string", "null"], "pattern": "^[0-7]{3,4}$"},
    Kind.BOOL: {"type": ["boolean", "null"]},
    Kind.TEXTS: {"type": ["array", "null"], "items": {"type": "string"}},
    Kind.VARIABLES: {"type": ["object", "null"], "additionalProperties": {"type": ["string", "number", "boolean"]}},
}


if __name__ == "__main__":
    (REPO / "pillar.example").write_text(example())
    (REPO / "docs" / "pillar.schema.json").write_text(schema())
