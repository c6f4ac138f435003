"""galaxyctl and Galaxy's Python are found, and run as Galaxy's user. The small Galaxy is under the real Gravity."""

import dataclasses
import json
import os
import pathlib
import pwd
import shutil

import pytest
from support.attacker import MALLORY

import galaxy_gravity_command
import galaxy_gravity_config
from galaxy_errors import CommandError, ConfigError, FileError
from galaxy_gravity_command import Commands
from galaxy_service import Role

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs as others, and gives files away")
_ENVIRONMENT = "import json, os; print(json.dumps([os.getuid(), os.getcwd(), dict(os.environ)]))"


@pytest.fixture
def bed(make_bed):
    return make_bed(celery=True)


def read(bed, **changes):
    return dataclasses.replace(galaxy_gravity_config.read(str(bed.config)), **changes)


def ask(commands, **more):
    return json.loads(commands.python(_ENVIRONMENT, **more))


def test_it_runs_as_galaxys_user_with_galaxys_own_variables(bed, monkeypatch):
    monkeypatch.setenv("VAULT_TOKEN", "hvs.TOPSECRET")
    commands = Commands(read(bed))
    assert "hvs" not in str(ask(commands))
    uid, cwd, variables = ask(commands)
    assert (uid, cwd) == (pwd.getpwnam(bed.user).pw_uid, str(bed.root))
    assert variables["GALAXY_CONFIG_FILE"] == str(bed.config)
    assert variables["VIRTUAL_ENV"] == str(bed.venv)
    assert commands.python("import galaxy.version; print(galaxy.version.VERSION)") == "26.1.1\n"
    assert "gunicorn" in commands.galaxyctl("show", "_default_")


def test_variables_are_those_of_the_role(bed):
    bed.write(celery={"enable": True, "environment": {"BROKER": "amqp://u:TOPSECRET@h"}})
    commands = Commands(read(bed))
    assert ask(commands, role=Role.CELERY)[2]["BROKER"] == "amqp://u:TOPSECRET@h"
    assert "BROKER" not in ask(commands, role=Role.WEB)[2]


def test_a_failing_galaxyctl_says_why_and_no_secret(bed):
    bed.write(no_such_manager=1, gunicorn={"workers": "password=hunter2"})
    with pytest.raises(CommandError, match="exit status 1: ") as caught:
        # only galaxyctl reads the file that is wrong by now: our reader would refuse it before
        Commands(read_before(bed)).galaxyctl("show", "_default_")
    assert "hunter2" not in str(caught.value)
    assert "workers" in str(caught.value)


def read_before(bed):
    """The instance, read as it was before its file went wrong."""
    text = bed.config.read_text()
    bed.settings.clear()
    bed.write()
    instance = read(bed)
    bed.config.write_text(text)
    return instance


def test_a_script_that_fails_is_no_error(bed):
    commands = Commands(read(bed))
    assert commands.python("print('so far', flush=True); raise SystemExit(3)") == "so far\n"
    with pytest.raises(CommandError, match="did not end"):
        commands.python("import time; time.sleep(60)", timeout=1)
    with pytest.raises(CommandError, match="wrote more"):
        commands.python("print('x' * 5_000_000)")


@as_root
@pytest.mark.parametrize("what", ["virtualenv/bin/python", "config/galaxy.yml", "config"])
def test_what_somebody_else_can_write_is_not_run(bed, what):
    venv = pathlib.Path(shutil.copytree(bed.venv, bed.root / "virtualenv", symlinks=True))
    for path in (venv, *venv.rglob("*")):
        os.chown(path, *pwd.getpwnam(bed.user)[2:4], follow_symlinks=False)
    instance = read(bed, virtualenv=str(venv))
    assert ask(Commands(instance))[1] == str(bed.root)
    os.chown(bed.root / what, MALLORY, MALLORY, follow_symlinks=False)
    with pytest.raises(FileError, match=f"user {MALLORY} can"):
        Commands(instance).python("")


@as_root
def test_a_configuration_names_no_other_user(bed):
    # Galaxy's user can change this file, and could so become root or another user
    for user in ("root", "daemon"):
        with pytest.raises(ConfigError, match=f"as user {user} .galaxy_user., but user {bed.user} can change that"):
            Commands(read(bed, manager="systemd", user=user))
    with pytest.raises(ConfigError, match="no group no-such-group"):
        Commands(read(bed, manager="systemd", user=bed.user, group="no-such-group"))


def test_the_user_by_the_directory(bed):
    account = galaxy_gravity_command.account(read(bed))
    assert account.name == bed.user
    # also before Gravity has ever run
    assert galaxy_gravity_command.account(read(bed, state_dir=str(bed.root / "none"))) == account
    with pytest.raises(ConfigError, match="there is no /nowhere; make"):
        galaxy_gravity_command.account(read(bed, state_dir=None, data_dir="/nowhere"))
    with pytest.raises(ConfigError, match="runs as root"):
        galaxy_gravity_command.account(read(bed, state_dir="/etc"))


def test_galaxyctl_is_the_one_that_its_units_run(bed, tmp_path):
    instance = read(bed, virtualenv=None)
    with pytest.raises(ConfigError, match="no virtualenv, and nothing that Gravity wrote"):
        Commands(instance).galaxyctl("show")
    text = f"ExecStart={bed.venv}/bin/galaxyctl --config-file /x exec\nWorkingDirectory={bed.root}/config\n"
    commands = Commands(instance, ["ExecStart='", "ExecStart=/bin/sh", text])
    assert commands.galaxyctl("--version")
    # Galaxy's Python is in the same directory
    assert ask(commands)[0] == pwd.getpwnam(bed.user).pw_uid
    installed = dataclasses.replace(instance, galaxy_root=None)
    assert Commands(installed, [text]).directory == f"{bed.root}/config"
    assert Commands(installed).directory == str(bed.data)
