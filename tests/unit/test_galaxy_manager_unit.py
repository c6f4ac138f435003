import pwd

import pytest

import galaxy_manager_unit
import galaxy_uwsgi_process
from galaxy_host_process import Invocation
from galaxy_manager_unit import BACKUP, State, UnitStatus

CONFIG = "/srv/galaxy/config/galaxy.yml"


def _own(invocation):
    return galaxy_uwsgi_process.starts(invocation, CONFIG)


def _commands(*texts, cwd="/srv/galaxy"):
    return [Invocation(tuple(text.split()), "test", cwd) for text in texts]


@pytest.mark.parametrize(
    ("name", "command", "rank"),
    [
        ("x", f"uwsgi --yaml {CONFIG}", 0),
        ("x", "uwsgi --yaml config/galaxy.yml", 0),
        ("galaxy", f"run.sh --config={CONFIG}", 1),
        ("galaxy", "run.sh", 2),
        ("galaxy", "uwsgi --socket 127.0.0.1:4001", 2),
        ("x", f"run.sh --config={CONFIG}", None),
        ("x", "run.sh", None),
        ("galaxy", "uwsgi --yaml /srv/b.yml", None),
        ("galaxy", "run.sh /srv/b.ini", None),
        ("galaxy", f"python main.py -c {CONFIG}", None),
        ("galaxy-web", "sleep 1", 2),
        ("galaxy_uwsgi", "sleep 1", 2),
        ("Galaxy.Main", "sleep 1", 2),
        ("galaxy-server@1", "sleep 1", None),
        ("galaxy-handlers", "sleep 1", None),
    ],
)
def test_how_well_a_definition_fits(name, command, rank):
    assert galaxy_manager_unit.rank([name], _commands(command), CONFIG, _own) == rank


@pytest.mark.parametrize(
    ("command", "variables", "rank"),
    [
        ("run.sh", {"GALAXY_CONFIG_FILE": "/srv/b/config/galaxy.yml"}, None),
        ("run.sh", {"GALAXY_CONFIG_FILE": CONFIG}, 1),
        ("run.sh", {"GALAXY_CONFIG_FILE": "config/galaxy.yml"}, 1),
        # an option of Galaxy, not the name of its configuration
        ("run.sh", {"GALAXY_CONFIG_JOB_CONFIG_FILE": "/srv/b/job_conf.yml"}, 2),
        ("uwsgi", {"UWSGI_YAML": "/srv/b/config/galaxy.yml"}, None),
        ("uwsgi", {"UWSGI_YAML": CONFIG}, 0),
        (f"uwsgi --yaml {CONFIG}", {"GALAXY_CONFIG_FILE": "/srv/b/config/galaxy.yml"}, 0),
    ],
)
def test_a_configuration_in_the_environment(command, variables, rank):
    commands = [Invocation(tuple(command.split()), "test", "/srv/galaxy", variables)]
    assert galaxy_manager_unit.rank(["galaxy"], commands, CONFIG, _own) == rank


def test_without_a_configuration_only_the_name_can_tell():
    def own(invocation):
        return galaxy_uwsgi_process.starts(invocation)

    commands = _commands("uwsgi --yaml /srv/b.yml")
    assert galaxy_manager_unit.rank(["galaxy"], commands, None, own) == 2
    assert galaxy_manager_unit.rank(["x"], commands, None, own) is None
    assert not galaxy_manager_unit.names_another(commands[0], None)


def test_a_relative_path_from_an_unknown_directory():
    for command, rank in (("run.sh config/galaxy.yml", 2), ("run.sh config/other.yml", None), ("run.sh $C/x.yml", 2)):
        assert galaxy_manager_unit.rank(["galaxy"], _commands(command, cwd=None), CONFIG, _own) == rank
    assert galaxy_manager_unit.names_another(_commands("run.sh other.yml", cwd=None)[0], CONFIG)


def test_the_command_that_serves():
    wrapped = [Invocation(("sh", "-c", f"install -d /run/x; exec uwsgi --yaml {CONFIG}"), "test", "/")]
    assert galaxy_manager_unit.serving(wrapped, _own).argv == ("uwsgi", "--yaml", CONFIG)
    several = _commands(f"python main.py -c {CONFIG}", "run.sh", f"uwsgi --yaml {CONFIG}")
    assert galaxy_manager_unit.serving(several, _own) == several[2]
    assert galaxy_manager_unit.serving(several[:2], _own) == several[1]
    assert galaxy_manager_unit.serving(several[:1], _own) is None
    assert galaxy_manager_unit.serving([], _own) is None


def test_the_reason_follows_in_brackets():
    assert UnitStatus(State.FAILED, "FATAL", "no such file").why == " (no such file)"
    assert UnitStatus(State.RUNNING, "RUNNING").why == ""


@pytest.mark.parametrize(
    "name", ["galaxy.dpkg-old", "galaxy.service.bak", "galaxy~", "galaxy.rpmnew", "x.ucf-dist", "galaxy.conf.orig"]
)
def test_backup_copies(name):
    assert BACKUP.fullmatch(name)
    assert not BACKUP.fullmatch("galaxy.service")
    assert not BACKUP.fullmatch("galaxy-old-web")


def test_a_definitions_user():
    assert galaxy_manager_unit.uid("daemon") == pwd.getpwnam("daemon").pw_uid
    assert galaxy_manager_unit.uid("4001") == 4001
    for name in ("no-such-user", "", "-1", "\u0661", "4" * 11):
        assert galaxy_manager_unit.uid(name) is None
