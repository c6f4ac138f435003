"""Gravity's YAML files, whoever wrote them."""

import importlib

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import galaxy_gravity_file
from galaxy_errors import ConfigError

BOMB = "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 20)}]\n" for n in range(1, 8))
DEEP = f"a: &a {'[' * 30}{']' * 30}\nb: {'[' * 30}*a{']' * 30}\n"


@pytest.fixture(params=[True, False], ids=["libyaml", "Python"])
def path(request, tmp_path, monkeypatch):
    if request.param and not yaml.__with_libyaml__:
        pytest.skip("PyYAML was built without libyaml")
    with monkeypatch.context() as patch:
        patch.setattr(yaml, "__with_libyaml__", request.param)
        importlib.reload(galaxy_gravity_file)
        yield tmp_path / "galaxy.yml"
    importlib.reload(galaxy_gravity_file)


def test_a_file_is_a_mapping(path):
    path.write_text("gravity:\n  gunicorn: [{workers: 2}, {preload: false}]\ngalaxy: {}\n")
    assert galaxy_gravity_file.read_mapping(str(path)) == {
        "gravity": {"gunicorn": [{"workers": 2}, {"preload": False}]},
        "galaxy": {},
    }


def test_anchors_and_merges_are_followed_as_gravity_follows_them(path):
    text = "b: &b {x: 2, z: 3}\na: &a {<<: *b, x: 1}\nc: {<<: *a, y: *b}\n"
    path.write_text(text)
    document = galaxy_gravity_file.read_mapping(str(path))
    assert document == yaml.safe_load(text)
    assert document["a"] == {"x": 1, "z": 3}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: &a [*a]\n", ":1: has an alias of a value that contains it"),
        (BOMB, ":5: has more than 50 levels or 50000 values"),
        (DEEP, ":2: has more than 50 levels"),
        ("? [a]\n: 1\n", ":1: has a key that is not a text"),
        ("a: " + "[" * 60 + "]" * 60, "more than 50 levels"),
        ("a: [" + "1," * 60_000 + "]", "more than 50 levels or 50000 values"),
        ("- a\n", "is not a mapping"),
        # libyaml accepts this, Gravity's reader does not
        ("? a\t", ":1: found character"),
        ("x", "is not a mapping"),
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
