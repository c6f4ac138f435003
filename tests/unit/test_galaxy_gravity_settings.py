"""Gravity's settings from a file and an environment; test_gravity_config.py compares with the real Gravity."""

import pytest

import galaxy_gravity_settings
from galaxy_errors import ConfigError


def read(section=None, **environment):
    return galaxy_gravity_settings.read(section or {}, environment, "/g.yml: gravity")


def test_what_is_not_given_has_gravitys_default():
    settings = read()
    assert settings["gunicorn"]["bind"] == "localhost:8080"
    assert settings["celery"]["enable"] is settings["celery"]["enable_beat"] is True
    assert not any(settings[name]["enable"] for name in ("tusd", "gx_it_proxy", "reports"))
    assert settings["process_manager"] is None
    assert settings["use_service_instances"] is True


def test_the_file_wins_over_the_environment_which_adds_to_it():
    settings = read(
        {"gunicorn": {"workers": 2}, "umask": "077"},
        GRAVITY_UMASK="022",
        GRAVITY_LOG_DIR="/l",
        GRAVITY_GUNICORN='{"workers": 9, "timeout": 7}',
    )
    assert (settings["umask"], settings["log_dir"]) == ("077", "/l")
    assert (settings["gunicorn"]["workers"], settings["gunicorn"]["timeout"]) == (2, 7)


def test_a_variable_can_be_of_one_part():
    settings = galaxy_gravity_settings.read({}, {"GRAVITY_GUNICORN.Workers": "3", "gravity_handlers.A": "{}"}, "g")
    assert settings["gunicorn"]["workers"] == 3
    assert settings["handlers"] == {"a": {}}


def test_direct_commands_have_no_service_instances():
    assert read({"service_command_style": "direct", "use_service_instances": True})["use_service_instances"] is False


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"gunicorn": {"workers": 0}}, "gunicorn: workers: is 0; give a whole number, 1 or more"),
        ({"gunicorn": [{}, {"workers": "x"}]}, "gunicorn[1]: workers: is 'x'; give a whole number"),
        ({"gunicorn": 3}, "gunicorn: is a number; give a mapping"),
        ({"gunicorn": {1: 2}}, "gunicorn: has a key that is not a text"),
        ({"gunicorn": {"workers": 10**5000}}, "gunicorn: workers: is a number; give"),
        ({"celery": [{}]}, "celery: is a list; give a mapping"),
        ({"celery": {"pool": "swim"}}, "celery: pool: is 'swim'; give one of prefork, "),
        ({"celery": {"enable": "perhaps"}}, "celery: enable: is 'perhaps'; give true or false"),
        ({"tusd": {"enable": True}}, "tusd: upload_dir: is null; give a text"),
        ({"umask": 18}, "umask: is a number; give a text (in quotes)"),
        ({"process_manager": "upstart"}, "process_manager: is 'upstart'; give one of supervisor, "),
        ({"log_dir": "a\0b"}, "log_dir: is a text with NUL or half a character; give"),
        ({"log_dir": "\ud800"}, "log_dir: is a text with NUL or half a character; give"),
        ({"process_manager": ["s"]}, "process_manager: is a list; give one of"),
        ({"memory_limit": "much"}, "memory_limit: is 'much'; give a number"),
        ({"handlers": None}, "handlers: is not a mapping of mappings"),
        ({"handlers": {"h": None}}, "handlers: is not a mapping of mappings"),
        ({"handlers": {1: {}}}, "handlers: has a name that is not a text"),
        ({1: 2}, "has the key 1; write keys as texts"),
    ],
)
def test_a_bad_value_is_one_sentence(section, sentence):
    with pytest.raises(ConfigError) as caught:
        read(section)
    assert str(caught.value).startswith("/g.yml: gravity: ")
    assert sentence in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("variable", "sentence"),
    [
        ({"GRAVITY_CELERY": "x"}, "environment: GRAVITY_CELERY: is not JSON"),
        ({"GRAVITY_GUNICORN": "x"}, "environment: GRAVITY_GUNICORN: is a text; give a mapping"),
        ({"GRAVITY_UMASK": "1", "GRAVITY_USE_SERVICE_INSTANCES": ""}, "GRAVITY_USE_SERVICE_INSTANCES: is ''; give"),
        ({"GRAVITY_HANDLERS": "[" * 5000}, "environment: GRAVITY_HANDLERS: is not JSON"),
    ],
)
def test_a_bad_variable_is_named(variable, sentence):
    with pytest.raises(ConfigError, match="environment: GRAVITY_") as caught:
        read(**variable)
    assert sentence in str(caught.value)


def test_no_error_shows_an_environment():
    with pytest.raises(ConfigError) as caught:
        read({"gunicorn": {"environment": {"TOKEN": ["hunter2"]}}})
    assert "hunter2" not in str(caught.value)
    assert "gunicorn: environment: is not a mapping of texts" in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        read(GRAVITY_GUNICORN='{"environment": {"TOKEN": "hunter2"')
    assert "hunter2" not in str(caught.value)
