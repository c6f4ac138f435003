"""The declaration of all settings, and the files made from it."""

import json

import jsonschema
import pytest
import yaml
from support import pillar_docs
from support.pillar_docs import REPO

import galaxy_pillar
from galaxy_pillar import Kind
from galaxy_settings import Settings
from galaxy_spec import Limits

SCHEMA = json.loads(pillar_docs.schema())


def test_example_and_schema_are_in_step_with_the_declaration():
    """If this fails, run `make pillar`."""
    assert (REPO / "pillar.example").read_text() == pillar_docs.example()
    assert (REPO / "docs" / "pillar.schema.json").read_text() == pillar_docs.schema()


@pytest.mark.parametrize("name", ["pillar.example", "pillar.minimal"])
def test_what_is_shipped_is_sound(name):
    pillar = yaml.safe_load((REPO / name).read_text())
    assert Settings({"pillar": pillar["galaxy"]}, "Debian").problems == []
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(pillar, SCHEMA)


@pytest.mark.parametrize(
    "galaxy",
    [
        *({"storagee": {}}, {"timeout": "5m"}, {"min_workers": []}, {"storage": []}, {"servers": {"a b": {}}}),
        *({"force": "yes"}, {"config": "relative"}, {"manager": "runit"}, {"servers": {"a": {"boot": {}}}}),
    ],
)
def test_the_schema_refuses_what_the_check_refuses(galaxy):
    assert Settings({"pillar": galaxy}).problems
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"galaxy": galaxy}, SCHEMA)


def _all(keys):
    for key in keys:
        yield key
        yield from _all(key.keys)


def test_each_setting_says_what_it_means():
    for key in _all(galaxy_pillar.PILLAR):
        assert key.text.endswith("."), key.name
        assert bool(key.keys) == (key.kind in (Kind.SECTION, Kind.NAMED)), key.name
        if key.choices and key.default is not None:
            assert key.default in key.choices, key.name


def test_limits_have_the_defaults_of_the_declaration():
    defaults = Settings({}).servers["galaxy"]
    assert Limits(*(defaults[name] for name in ("timeout", "retries", "min_workers", "force"))) == Limits()
