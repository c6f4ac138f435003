"""Galaxy's job handlers, from Gravity's settings and from the job configuration."""

import os

import pytest

import galaxy_gravity_handlers
from galaxy_errors import ConfigError
from galaxy_gravity_handlers import MAX_PROCESSES

ENTITIES = (
    '<!DOCTYPE job_conf [<!ENTITY a "x"><!ENTITY b "&a;&a;">]><job_conf><handlers><h id="&b;"/></handlers></job_conf>'
)
EXTERNAL = '<!DOCTYPE job_conf SYSTEM "file:///etc/passwd"><job_conf/>'


def dynamic(handlers, use_service_instances=True, name="main"):
    settings = {"handlers": handlers, "use_service_instances": use_service_instances, "instance_name": name}
    return galaxy_gravity_handlers.dynamic(settings, "/g.yml: gravity: handlers")


def static(tmp_path, galaxy=None, **files):
    for name, text in files.items():
        (tmp_path / name.replace("_xml", ".xml").replace("_yml", ".yml")).write_text(text)
    found = galaxy_gravity_handlers.static(galaxy or {}, str(tmp_path / "galaxy.yml"), ())
    return [handlers.service for handlers in found]


def names(found):
    return {handlers.service: handlers.servers for handlers in found}


def test_several_processes_are_one_service():
    assert names(dynamic({"h": {"processes": 2}})) == {"h": ("h_0", "h_1")}
    assert names(dynamic({"h": {"processes": 2}}, False)) == {"h_0": ("h_0",), "h_1": ("h_1",)}


def test_a_single_process_keeps_a_name_that_ends_in_a_digit():
    assert names(dynamic({"h": {}, "h7": {}})) == {"h": ("h_0",), "h7": ("h7",)}
    assert names(dynamic({"h7": {"processes": 2}})) == {"h7": ("h7_0", "h7_1")}


def test_a_template_names_the_processes():
    template = {"processes": 2, "name_template": " {instance_name}-{name}{process:02d} "}
    assert names(dynamic({"h": template})) == {"h": ("main-h00", "main-h01")}
    # two processes with the same name are one service
    assert names(dynamic({"h": {"processes": 2, "name_template": "x"}}, False)) == {"x": ("x",)}


@pytest.mark.parametrize(
    "template",
    ["{name.__class__}", "{process:999999999d}", "{other}", "{", "{0}", "{name!r}", "{name:{process}}", "x" * 201],
)
def test_a_template_is_of_plain_fields(template):
    with pytest.raises(ConfigError, match=r"/g.yml: gravity: handlers: h: name_template: "):
        dynamic({"h": {"processes": 1, "name_template": template}})


@pytest.mark.parametrize(
    ("handlers", "sentence"),
    [
        ({"h": {"processes": "2"}}, "h: processes: is not a whole number"),
        ({"h": {"processes": 0}}, "h: processes: is 0, and galaxyctl fails on it"),
        ({"h": {"processes": MAX_PROCESSES}, "i": {}}, "i: processes: more than 1000 handlers"),
        ({"h": {"processes": 10**30}}, "more than 1000 handlers"),
        ({"../h": {}}, "'../h' cannot be a service's name"),
        ({"": {}}, "'' cannot be a service's name"),
        ({"h": {"name_template": 1}}, "name_template: is not a text"),
    ],
)
def test_bad_handlers_are_one_sentence(handlers, sentence):
    with pytest.raises(ConfigError) as caught:
        dynamic(handlers)
    assert str(caught.value).startswith("/g.yml: gravity: handlers: ")
    assert sentence in str(caught.value)


def test_the_job_configuration_is_in_galaxys_file_or_beside_it(tmp_path):
    inline = {"job_config": {"handling": {"processes": {"a": None}}}}
    handlers = "<handlers><!-- c --><handler id='x'><plugin id='p'/></handler></handlers>"
    xml = f"<job_conf>{handlers}<handlers><handler id='no'/></handlers></job_conf>"
    assert static(tmp_path) == []
    assert static(tmp_path, job_conf_xml=xml) == ["x"]
    # job_conf.yml wins over job_conf.xml
    assert static(tmp_path, job_conf_yml="handling: {processes: {y: {}}}") == ["y"]
    assert static(tmp_path, inline) == ["a"]
    assert static(tmp_path, {**inline, "job_config_file": "other.yml"}, other_yml="{}") == []


@pytest.mark.parametrize(
    ("galaxy", "sentence"),
    [
        ({"job_config_file": "gone.yml"}, "/gone.yml: no such file; make it, or remove the setting"),
        ({"job_config_file": "galaxy.ini"}, "Gravity does not take it for a job configuration"),
        ({"job_config_file": ["x"]}, "job_config_file: is not a text"),
        ({"job_config": "text"}, "job_config: is not a mapping"),
        ({"job_config": {"handling": [1]}}, "handling: processes: is not a mapping"),
        ({"job_config": {"handling": {"processes": ["a"]}}}, "handling: processes: is not a mapping"),
        ({"job_config": {"handling": {"processes": {"a": 1}}}}, "handling: processes: a: is not a mapping"),
        ({"job_config": {"handling": {"processes": {"a b": None}}}}, "'a b' cannot be a service's name"),
    ],
)
def test_a_bad_job_configuration_is_one_sentence(tmp_path, galaxy, sentence):
    (tmp_path / "galaxy.ini").write_text("")
    with pytest.raises(ConfigError) as caught:
        static(tmp_path, galaxy)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (ENTITIES, "has a DOCTYPE"),
        (EXTERNAL, "has a DOCTYPE"),
        ("<job_conf><handlers><handler/></handlers></job_conf>", ":1: a handler without id"),
        ("<a>" * 60, "has more than 50 levels"),
        ("<job_conf>", "is not XML that can be read"),
        ("<?xml version='1.0' encoding='klingon'?><a/>", "is not XML that can be read"),
        ("<!-- " + "x" * (1 << 20) + " --><a/>", "is larger than 1048576 bytes"),
    ],
)
def test_bad_xml_is_one_sentence(tmp_path, text, sentence):
    with pytest.raises(ConfigError) as caught:
        static(tmp_path, job_conf_xml=text)
    assert str(caught.value).startswith(str(tmp_path / "job_conf.xml"))
    assert sentence in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can read what another user cannot")
def test_no_file_is_read_for_a_user_who_may_not(tmp_path):
    (tmp_path / "job_conf.yml").write_text("handling: {processes: {secret: {}}}")
    (tmp_path / "job_conf.yml").chmod(0o600)
    with pytest.raises(ConfigError, match="may not read it"):
        galaxy_gravity_handlers.static({}, str(tmp_path / "galaxy.yml"), [65534])
