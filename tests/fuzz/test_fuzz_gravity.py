"""
Any text in Gravity's configuration, in Galaxy's job configuration, or in the environment of Gravity: no exception but
ours, a quick end, and names that files and units can have.
"""

import dataclasses
import json
import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from test_fuzz_inputs import _BYTES, EXAMPLES, attempt

import galaxy_gravity_config
import galaxy_gravity_handlers
from galaxy_errors import ConfigError

WORDS = st.sampled_from(
    [
        *(
            "localhost:1",
            "unix:s",
            "fd://1",
            "-b",
            "--timeout x",
            "'",
            "{name}_{process}",
            "{process:999999999}",
            "{a.b}",
        ),
        *("../../x", "/etc/shadow", "/dev/zero", "a\nb", "a\0b", "\ud800", "systemd", "direct", "main", "", "9" * 5000),
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | WORDS
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | WORDS | SCALARS, inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = st.sampled_from(
    [
        *("gunicorn", "celery", "tusd", "gx_it_proxy", "reports", "handlers", "instance_name", "galaxy_config_file"),
        *("galaxy_root", "virtualenv", "log_dir", "umask", "process_manager", "service_command_style", "galaxy_user"),
        *(
            "enable",
            "bind",
            "workers",
            "extra_args",
            "environment",
            "processes",
            "name_template",
            "upload_dir",
            "preload",
        ),
        *(
            "data_dir",
            "root",
            "galaxy_url_prefix",
            "job_config_file",
            "job_config",
            "handling",
            "use_service_instances",
        ),
    ]
)
SECTIONS = st.dictionaries(
    KEYS,
    VALUES | st.dictionaries(KEYS, VALUES, max_size=4) | st.lists(st.dictionaries(KEYS, VALUES, max_size=4)),
    max_size=5,
)
VARIABLES = st.dictionaries(
    KEYS.map(lambda key: f"GRAVITY_{key}".upper())
    | st.sampled_from(["GRAVITY_STATE_DIR", "HOME", "XDG_CONFIG_HOME", "VIRTUAL_ENV", "GALAXY_ROOT_DIR", "PORT"])
    | st.tuples(KEYS, KEYS).map(lambda keys: f"GRAVITY_{'.'.join(keys)}"),
    st.text(max_size=10) | WORDS | VALUES.map(lambda value: json.dumps(value, default=str, skipkeys=True)),
    max_size=3,
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("gravity")


def read(path, environment=None, directory=None):
    instance = attempt(
        lambda: galaxy_gravity_config.read(str(path), None, environment, None, directory), errors=ConfigError
    )
    for program in instance.programs if instance else ():
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", program.name)
        assert program.number is None or program.name == f"{program.service}_{program.number}"
    if instance:
        assert len({program.name for program in instance.programs}) == len(instance.programs)
        # in the form in which Salt sends it
        json.dumps(dataclasses.asdict(instance), ensure_ascii=False, default=str).encode()
    return instance


@EXAMPLES
@given(SECTIONS | VALUES, SECTIONS | VALUES, VARIABLES, st.booleans())
def test_any_values(directory, section, galaxy, environment, is_directory_known):
    path = directory / "galaxy.yml"
    path.write_text(yaml.safe_dump({"gravity": section, "galaxy": galaxy}))
    read(path, environment, "/here" if is_directory_known else None)


@EXAMPLES
@given(st.lists(SECTIONS, max_size=3))
def test_any_instances(directory, sections):
    path = directory / "several.yml"
    path.write_text(yaml.safe_dump({"gravity": [{"galaxy_config_file": "several.yml", **one} for one in sections]}))
    read(path)


@EXAMPLES
@given(_BYTES)
def test_any_file(directory, data):
    path = directory / "any.yml"
    path.write_bytes(b"gravity: {}\n" + data)
    read(path)


XML = st.lists(
    st.sampled_from(
        [
            *(
                "<job_conf>",
                "</job_conf>",
                "<handlers>",
                "</handlers>",
                '<handler id="h0"/>',
                "<handler/>",
                "<!--",
                "-->",
            ),
            *(
                "<!DOCTYPE a [",
                '<!ENTITY x "y">',
                "]>",
                "&x;",
                "<![CDATA[",
                "]]>",
                "<?xml version='1.0' encoding='utf-16'?>",
            ),
            *('<handler id="', '"/>', "&#0;", "&#x1F600;", "\ufeff", "a", " ", "<a xmlns='b'>", "<?pi ?>"),
        ]
    ),
    max_size=30,
).map("".join)


@EXAMPLES
@given(_BYTES | XML.map(str.encode))
def test_any_job_configuration(directory, data):
    (directory / "xml").mkdir(exist_ok=True)
    (directory / "xml" / "job_conf.xml").write_bytes(data)
    config = str(directory / "xml" / "galaxy.yml")
    for handlers in attempt(galaxy_gravity_handlers.static, {}, config, (), errors=ConfigError) or ():
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", handlers.service)
