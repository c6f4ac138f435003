"""Gravity's YAML files, by whomever they are written."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import galaxy_gravity_file
from galaxy_errors import ConfigError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "galaxy.yml"


def test_a_file_is_a_mapping(path):
    path.write_text("gravity:\n  gunicorn: [{workers: 2}, {preload: false}]\ngalaxy: {}\n")
    assert galaxy_gravity_file.read_mapping(str(path)) == {
        "gravity": {"gunicorn": [{"workers": 2}, {"preload": False}]},
        "galaxy": {},
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: &a [1]\nb: *a\n", ":2: has an alias"),
        ("gravity: {}\ngravity: {}\n", ":2: has 'gravity' for the second time"),
        ("? [a]\n: 1\n", ":1: has a key that is not a text"),
        ("a: " + "[" * 60 + "]" * 60, "more than 50 levels"),
        ("a: [" + "1," * 60_000 + "]", "more than 50 levels or 50000 values"),
        ("- a\n", "is not a mapping"),
        ("", "is not a mapping"),
        ("a: !!python/object/apply:os.getpid []\n", ":1: could not determine a constructor"),
        ("a: 2026-99-99\n", "is not YAML that can be read"),
        ("#" * (galaxy_gravity_file.MAX_FILE + 1), "is larger than 1048576 bytes"),
    ],
)
def test_a_bad_file_is_one_sentence(path, text, sentence):
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        galaxy_gravity_file.read_mapping(str(path))
    assert str(caught.value).startswith(str(path))
    assert sentence in str(caught.value)


def test_a_missing_file_is_named(path):
    with pytest.raises(ConfigError, match="no such configuration file"):
        galaxy_gravity_file.read_mapping(str(path))


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(st.one_of(st.binary(max_size=100), st.text("{}[]:,-&*!?|>'\" \n\tab1.<~", max_size=60).map(str.encode)))
def test_any_bytes_are_a_mapping_or_our_error(path, data):
    path.write_bytes(data)
    try:
        assert isinstance(galaxy_gravity_file.read_mapping(str(path)), dict)
    except ConfigError as exc:
        assert str(path) in str(exc)
