"""Gravity's configuration file. tests/functional/test_gravity_config.py compares with the real Gravity."""

import os
import pwd

import pytest

import galaxy_gravity_config
from galaxy_errors import ConfigError


@pytest.fixture
def read(tmp_path):
    """A function that writes files into ROOT/config and reads galaxy.yml there."""
    (tmp_path / "lib" / "galaxy").mkdir(parents=True)
    (tmp_path / "config").mkdir()

    def do(text, files=(), **keywords):
        for name, content in {"galaxy.yml": text, **dict(files)}.items():
            (tmp_path / "config" / name).write_text(content)
        return galaxy_gravity_config.read(str(tmp_path / "config" / "galaxy.yml"), **keywords)

    return do


def test_a_file_without_gravity_is_not_gravitys(read):
    assert read("galaxy: {}\nuwsgi: {socket: ':80'}\n") is None


def test_a_section_of_uwsgi_does_not_matter(read, tmp_path):
    instance = read("gravity: {}\ngalaxy: {galaxy_url_prefix: galaxy/}\nuwsgi: {socket: ':80'}\n")
    assert [program.name for program in instance.programs] == ["gunicorn", "celery", "celery-beat"]
    assert (instance.manager, instance.user, instance.prefix) == ("supervisor", None, "/galaxy")
    assert (instance.galaxy_root, instance.data_dir) == (str(tmp_path), str(tmp_path / "database"))
    assert instance.state_dir == str(tmp_path / "database" / "gravity")
    assert instance.log_dir == str(tmp_path / "database" / "gravity" / "log")
    assert instance.problems == ()


def test_galaxys_own_file_is_beside_gravitys(read, tmp_path):
    instance = read("gravity: {galaxy_config_file: g.yml}\n", {"g.yml": "galaxy: {data_dir: /d}"})
    assert instance.galaxy_config == str(tmp_path / "config" / "g.yml")
    assert instance.data_dir == "/d"
    # if the galaxy: section is in this file, Gravity does not look into the other one
    instance = read("gravity: {galaxy_config_file: g.yml}\ngalaxy: {data_dir: /e}\n")
    assert instance.data_dir == "/e"


SEVERAL = "gravity: [{instance_name: a, galaxy_config_file: a.yml}, {galaxy_config_file: a.yml}]"


def test_one_of_several_is_named(read):
    files = {"a.yml": "galaxy: {}"}
    with pytest.raises(ConfigError, match="has several instances; name one of a, _default_"):
        read(SEVERAL, files)
    with pytest.raises(ConfigError, match="has no instance 'b'; name one of a, _default_"):
        read(SEVERAL, files, instance="b")
    instance = read(SEVERAL, files, instance="_default_", environment={"HOME": "/h"})
    assert instance.is_named
    assert instance.state_dir == "/h/.config/galaxy-gravity"
    assert read(SEVERAL, files, instance="a", environment={"XDG_CONFIG_HOME": "/x"}).state_dir == "/x/galaxy-gravity"


def test_the_home_of_several_may_be_known_by_what_gravity_wrote(read, tmp_path):
    files = {"a.yml": "galaxy: {}"}
    instance = read(SEVERAL, files, instance="a")
    assert instance.state_dir is None
    assert "set GRAVITY_STATE_DIR" in instance.problems[0]
    (tmp_path / "database" / "gravity").mkdir(parents=True)
    home = pwd.getpwuid(os.geteuid()).pw_dir
    assert read(SEVERAL, files, instance="a").state_dir == f"{home}/.config/galaxy-gravity"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("gravity:\n", "gravity: is not a mapping of settings"),
        ("gravity: text\ngalaxy: {}\n", "gravity: is not a mapping of settings"),
        ("gravity: [{galaxy_config_file: a.yml}]\ngalaxy: {}\n", "has a list of instances and a galaxy: section"),
        ("gravity: [{}]\n", "gravity[0]: has no galaxy_config_file"),
        ("gravity: [1]\n", "gravity[0]: is not a mapping"),
        (
            "gravity: [{galaxy_config_file: a.yml}, {galaxy_config_file: b.yml}]\n",
            "two instances have the name _default_",
        ),
        ("gravity: {galaxy_config_file: gone.yml}\n", "galaxy_config_file: "),
        ("gravity: {galaxy_config_file: galaxy.yml}\n", "has no galaxy: section"),
        ("gravity: {}\ngalaxy: [1]\n", "galaxy: is not a mapping of options"),
        ("gravity: {}\ngalaxy: {data_dir: null}\n", "galaxy: data_dir: is null"),
        ("gravity: {}\ngalaxy: {root: [1]}\n", "galaxy: root: is not a text"),
        ("gravity: {}\ngalaxy: {galaxy_url_prefix: 1}\n", "galaxy_url_prefix: is not a text"),
        ("gravity: {instance_name: ../x}\ngalaxy: {}\n", "instance_name: '../x' cannot be a service's name"),
    ],
)
def test_what_gravity_refuses_is_one_sentence(read, tmp_path, text, sentence):
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert str(caught.value).startswith(str(tmp_path))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("section", "as_root", "found"),
    [
        ("", None, ("supervisor", None)),
        ("", False, ("supervisor", None)),
        ("galaxy_user: g", None, ("systemd", "g")),
        ("galaxy_user: g", True, ("systemd", "g")),
        ("galaxy_user: g", False, ("supervisor", None)),
        ("process_manager: systemd", None, ("systemd", None)),
        ("process_manager: systemd, galaxy_user: g", False, ("systemd", None)),
        ("process_manager: supervisor, galaxy_user: g", None, ("supervisor", None)),
    ],
)
def test_the_manager_depends_on_who_runs_gravity(read, section, as_root, found):
    instance = read(f"gravity: {{{section}}}\ngalaxy: {{}}\n", as_root=as_root)
    assert (instance.manager, instance.user) == found


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ("", "galaxy_user: is not given"),
        ("process_manager: supervisor, galaxy_user: g", "is supervisor; root may not run Galaxy with it"),
    ],
)
def test_root_needs_systemd_and_a_user(read, section, sentence):
    text = f"gravity: {{{section}}}\ngalaxy: {{}}\n"
    with pytest.raises(ConfigError, match=sentence):
        read(text, as_root=True)
    assert read(text, as_root=True, environment={"GRAVITY_SKIP_SYSTEMD": "Yes"}).manager == "supervisor"


def test_an_installed_galaxy_has_no_root(read, tmp_path):
    (tmp_path / "v/lib/python3.11/site-packages/galaxy/version").mkdir(parents=True)
    (tmp_path / "v/lib/python3.11/site-packages/galaxy/version/__init__.py").write_text("")
    text = f"gravity: {{virtualenv: {tmp_path}/v, gunicorn: {{bind: 'unix:s'}}}}\ngalaxy: {{}}\n"
    instance = read(text)
    assert (instance.galaxy_root, instance.data_dir, instance.state_dir, instance.log_dir) == (None,) * 4
    assert instance.programs[0].web.binds == ()
    assert len(instance.problems) == 2
    assert all("relative to where galaxyctl is called" in problem for problem in instance.problems)
    instance = read(text, directory="/run/here")
    assert (instance.data_dir, instance.programs[0].web.binds[0].path) == ("/run/here/data", "/run/here/s")
    assert instance.problems == ()


def test_the_directory_that_is_there_counts(read, tmp_path):
    (tmp_path / "data" / "gravity").mkdir(parents=True)
    assert read("gravity: {}\ngalaxy: {}\n").data_dir == str(tmp_path / "data")


def test_what_is_missing_is_a_problem_and_the_rest_is_known(read, tmp_path):
    text = (
        "gravity: {reports: {enable: true}, gx_it_proxy: {enable: true}, tusd: {enable: true, upload_dir: /u},"
        " handlers: {h: {}}}\ngalaxy: {job_config_file: gone.yml}\n"
    )
    instance = read(text)
    names = [program.name for program in instance.programs]
    assert names == ["gunicorn", "celery", "celery-beat", "tusd", "gx-it-proxy", "reports", "h"]
    text = "\n".join(instance.problems)
    for part in (
        "gone.yml: no such file",
        "interactivetools_enable",
        "galaxy_infrastructure_url",
        "reports.yml: no such",
    ):
        assert part in text
    assert len(instance.problems) == 4


def test_the_environment_moves_what_gravity_writes(read, tmp_path):
    environment = {
        "GRAVITY_STATE_DIR": "/s",
        "GRAVITY_INSTANCE_NAME": "main",
        "GALAXY_ROOT_DIR": "/r",
        "VIRTUAL_ENV": "/v",
    }
    instance = read("gravity: {}\ngalaxy: {}\n", environment=environment)
    assert (instance.state_dir, instance.log_dir, instance.name) == ("/s", "/s/log", "main")
    assert (instance.galaxy_root, instance.virtualenv) == ("/r", "/v")
    assert instance.data_dir == "/r/data"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can read what another user cannot")
def test_galaxys_file_is_not_read_for_a_user_who_may_not(read, tmp_path):
    secret = tmp_path / "secret.yml"
    secret.write_text("galaxy: {data_dir: /hidden}")
    secret.chmod(0o600)
    (tmp_path / "config" / "galaxy.yml").write_text("")
    os.chown(tmp_path / "config" / "galaxy.yml", 65534, 65534)
    with pytest.raises(ConfigError, match="may not read it") as caught:
        read(f"gravity: {{galaxy_config_file: {secret}}}\n")
    assert "hidden" not in str(caught.value)
