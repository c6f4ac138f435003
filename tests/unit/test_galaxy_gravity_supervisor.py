"""Gravity's files below its state directory. tests/functional/test_gravity_units.py runs a real supervisord."""

import dataclasses
import logging
import os
import pwd
import socket

import pytest
from support.attacker import GALAXY, MALLORY, make, public_directory, racing
from support.bed import configured

import galaxy_gravity_supervisor
from galaxy_errors import ConfigError, FileError, FileMissing, ManagerError
from galaxy_gravity_instance import DEFAULT_NAME
from galaxy_gravity_supervisor import GravityProgram, Supervisor
from galaxy_host_wait import Deadline, wait_until
from galaxy_manager_unit import State

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")

_FILE = """[program:{section}]
command = /srv/venv/bin/galaxyctl --config-file {config} exec {name} {service}
numprocs = {count}
process_name = {process}
stopwaitsecs = 65
"""


def _install(instance):
    """Write the files that Gravity writes for an instance."""
    folder = f"{instance.state_dir}/supervisor/supervisord.conf.d"
    os.makedirs(f"{folder}/{instance.name}.d", exist_ok=True)
    sections = []
    for program in {one.service: one for one in instance.programs}.values():
        count = galaxy_gravity_supervisor.siblings(instance, program)
        section, process = program.service, "%(program_name)s" + "_%(process_num)d" * (count > 1)
        if instance.is_named:
            section = f"{instance.name}_{program.type}_{program.service}"
            process = program.service + "%(process_num)d" * (count > 1)
        sections.append(section)
        text = _FILE.format(
            section=section,
            config=instance.path,
            name=instance.name,
            service=program.service,
            count=count,
            process=process,
        )
        with open(f"{folder}/{instance.name}.d/{program.type}_{program.service}.conf", "w") as file:
            file.write(text)
    if instance.is_named:
        with open(f"{folder}/group_{instance.name}.conf", "w") as file:
            file.write(f"[group:{instance.name}]\nprograms = {','.join(sections)}\n")


@pytest.mark.parametrize(
    ("name", "counts", "titles"),
    [
        (DEFAULT_NAME, {"gunicorn": 1}, ["gunicorn"]),
        (DEFAULT_NAME, {"gunicorn": 2}, ["gunicorn:gunicorn_0", "gunicorn:gunicorn_1"]),
        (DEFAULT_NAME, {"gunicorn0": 1, "gunicorn1": 1}, ["gunicorn0", "gunicorn1"]),
        (DEFAULT_NAME, {"handler": 2}, ["handler:handler_0", "handler:handler_1"]),
        ("main", {"gunicorn": 2, "handler": 1}, ["main:gunicorn0", "main:gunicorn1", "main:handler"]),
    ],
)
def test_names_and_files(tmp_path, name, counts, titles):
    instance = configured(tmp_path, name, **counts)
    assert list(galaxy_gravity_supervisor.titles(instance).values()) == titles
    _install(instance)
    supervisor = Supervisor(instance)
    assert [program.title for program in supervisor.programs] == titles
    assert {program.stop_seconds for program in supervisor.programs} == {65}
    assert supervisor.endpoint().path == f"{tmp_path}/gravity/supervisor/supervisor.sock"
    # programs of another instance do not count
    assert [program.title for program in Supervisor(dataclasses.replace(instance, name="other")).programs] == []


def test_a_set_of_a_name_that_the_configuration_no_longer_has(tmp_path):
    old, other = configured(tmp_path, "old", handler=2), configured(tmp_path, "other", gunicorn=1)
    now = configured(tmp_path, handler=2)
    for instance in (old, now, other):
        _install(instance)
    with open(now.path, "w") as file:
        file.write("gravity: [{instance_name: _default_}, {instance_name: other}]\n")
    assert Supervisor(now).old_names() == ["old:handler0", "old:handler1"]
    with open(now.path, "w") as file:
        file.write("gravity: {}\n")
    assert Supervisor(now).old_names() == ["old:handler0", "old:handler1", "other:gunicorn"]
    assert Supervisor(dataclasses.replace(now, path="/another.yml", galaxy_config="/galaxy.yml")).old_names() == []


def test_its_own_socket_and_log(tmp_path):
    instance = configured(tmp_path, handler=1)
    _install(instance)
    home = tmp_path / "gravity" / "supervisor"
    (home / "supervisord.conf").write_text(
        f"[unix_http_server]\nfile = {tmp_path}/other.sock\n[supervisord]\nlogfile = %(here)s/a.log\n"
    )
    supervisor = Supervisor(instance)
    assert supervisor.endpoint().path == f"{tmp_path}/other.sock"
    (home / "a.log").write_text("2026-11-25 10:40:41,123 INFO spawned: 'handler' with pid 9\n")
    assert supervisor.restarts() == {"handler": 0}


_SPAWNED, _EXITED = "INFO spawned: 'x' with pid 9", "WARN exited: x (exit status 1; not expected)"


@pytest.mark.parametrize(
    ("lines", "count"),
    [
        ([], None),
        ([_SPAWNED], 0),
        ([_SPAWNED, "INFO success: x entered RUNNING state", _EXITED, _SPAWNED, _EXITED, _SPAWNED], 2),
        ([_SPAWNED, _EXITED], 0),
        # the log begins while the process runs
        ([_EXITED, _SPAWNED], 1),
        (["INFO spawned: 'y' with pid 1", _EXITED.replace("x", "y"), _SPAWNED], 0),
        ([_SPAWNED, _EXITED, _SPAWNED, "WARN stopped: x (terminated by SIGTERM)"], None),
        ([_SPAWNED, _EXITED, _SPAWNED, "WARN stopped: x (terminated by SIGTERM)", _SPAWNED], 0),
        ([_SPAWNED, _EXITED, "INFO gave up: x entered FATAL state, too many start retries too quickly", _SPAWNED], 0),
        ([_SPAWNED, _EXITED, _SPAWNED, "INFO supervisord started with pid 3", _SPAWNED], 0),
        (["junk", "spawned: '", "exited: "], None),
    ],
)
def test_restarts_by_the_log(tmp_path, lines, count):
    instance = configured(tmp_path)
    _install(instance)
    log = tmp_path / "gravity" / "supervisor" / "supervisord.log"
    log.write_text("".join(f"2026-11-25 10:40:41,123 {line}\n" for line in lines))
    assert Supervisor(instance).restarts().get("x") == count


def test_no_state_directory(tmp_path):
    with pytest.raises(FileMissing):
        Supervisor(configured(tmp_path, gunicorn=1))


@pytest.mark.parametrize("text", ["[program:x", "[program:x]\nnumprocs=5000\n"])
def test_a_file_that_cannot_be_read(tmp_path, text):
    instance = configured(tmp_path, gunicorn=1)
    _install(instance)
    with open(f"{instance.state_dir}/supervisor/supervisord.conf.d/_default_.d/x.conf", "w") as file:
        file.write(text)
    with pytest.raises(ManagerError, match=r"x\.conf"):
        _ = Supervisor(instance).programs


def _listener(path):
    """A function that listens on ``path`` when called; ``path.told`` appears if something is sent there."""
    servers = []

    def serve():
        if not servers:
            servers.append(socket.socket(socket.AF_UNIX))
            servers[0].bind(path)
            os.chmod(path, 0o777)
            servers[0].listen()
        if servers[0].accept()[0].recv(1):
            os.mkdir(f"{path}.told")

    return serve


@as_root
def test_only_the_owner_of_the_state_directory_is_spoken_to():
    with public_directory() as root:
        instance = configured(root, handler=1)
        make(instance.state_dir, GALAXY, 0o777)
        _install(instance)
        home = f"{instance.state_dir}/supervisor"
        for path in (home, f"{home}/supervisord.conf.d", f"{home}/supervisord.conf.d/_default_.d"):
            os.chown(path, GALAXY, GALAXY)
        os.chmod(instance.state_dir, 0o755)
        os.chmod(home, 0o777)
        unit = GravityProgram("handler", Supervisor(instance))
        path = f"{home}/supervisor.sock"
        with racing(MALLORY, _listener(path)):
            assert wait_until(lambda: os.path.exists(path) and os.stat(path).st_mode & 0o002, Deadline(180))
            for deed in (unit.status, unit.start, unit.stop):
                with pytest.raises(ManagerError, match=f"user {MALLORY} listens there, not user {GALAXY}"):
                    deed()
        assert not os.path.exists(f"{path}.told")
        os.unlink(path)
        assert unit.status().state is State.STOPPED
        # the owner has no name, so there is no account to run it as
        with pytest.raises(ManagerError, match="for whom there is no account here"):
            unit.bring_up(Deadline(1))


@as_root
def test_a_supervisord_that_does_not_run_is_asked_once_before_it_is_brought_up(caplog):
    with public_directory() as root:
        instance = configured(root, handler=1)
        make(instance.state_dir, GALAXY)
        make(f"{instance.state_dir}/supervisor", GALAXY)
        with caplog.at_level(logging.DEBUG), pytest.raises(ManagerError, match="for whom there is no account here"):
            Supervisor(instance).bring_up(Deadline(1))
    assert len([line for line in caplog.messages if line.startswith("supervisord is asked")]) == 1


@as_root
def test_a_supervisord_is_told_where_its_state_is_also_where_galaxys_data_is_not_known():
    with public_directory() as root:
        galaxy = pwd.getpwnam("games").pw_uid
        # galaxy: data_dir: is relative to the directory where galaxyctl is called, and GRAVITY_STATE_DIR is given
        instance = dataclasses.replace(configured(root, handler=1), data_dir=None, virtualenv=f"{root}/venv")
        make(instance.state_dir, galaxy)
        make(f"{instance.state_dir}/supervisor", galaxy)
        make(f"{root}/venv", 0)
        make(f"{root}/venv/bin", 0)
        make(
            f"{root}/venv/bin/supervisord",
            0,
            0o755,
            b'#!/bin/sh\necho "$GRAVITY_STATE_DIR" > "$GRAVITY_STATE_DIR/told"',
        )
        with pytest.raises(ManagerError, match="does not answer after it was started"):
            Supervisor(instance).bring_up(Deadline(1))
        with open(f"{instance.state_dir}/told") as file:
            assert file.read().strip() == instance.state_dir


def test_a_state_directory_that_is_not_known(tmp_path):
    with pytest.raises(ConfigError, match=r"galaxy\.yml: the directory of its supervisord's files is not known"):
        Supervisor(dataclasses.replace(configured(tmp_path, handler=1), state_dir=None))


@as_root
def test_a_state_directory_of_somebody_else():
    with public_directory() as root:
        instance = configured(root, handler=1)
        make(instance.state_dir, GALAXY)
        with pytest.raises(FileError, match=f"belongs to user {GALAXY}, not to user games"):
            Supervisor(dataclasses.replace(instance, user="games"))
        # galaxy makes a link to root's directory
        os.rename(instance.state_dir, f"{root}/galaxys")
        make(f"{root}/roots", 0)
        os.symlink(f"{root}/roots", f"{root}/galaxys/gravity")
        with pytest.raises(FileError, match="can put something else there"):
            Supervisor(dataclasses.replace(instance, state_dir=f"{root}/galaxys/gravity"))


@as_root
def test_root_is_not_made_to_list_or_read_for_the_owner():
    with public_directory() as root:
        instance = configured(root, handler=1)
        make(instance.state_dir, GALAXY)
        make(f"{root}/roots", 0, 0o700)
        make(f"{root}/roots/secret.conf", 0, 0o600, b"[program:x]\n")
        folder = make(f"{instance.state_dir}/supervisor", GALAXY)
        folder = make(f"{folder}/supervisord.conf.d", GALAXY)
        os.symlink(f"{root}/roots", f"{folder}/_default_.d")
        with pytest.raises(FileError, match="may not read it") as caught:
            Supervisor(instance)
        assert "secret" not in str(caught.value)


def test_by_hand(tmp_path):
    instance = configured(tmp_path, handler=1)
    _install(instance)
    commands = GravityProgram("handler", Supervisor(instance)).commands()
    conf = f"{instance.state_dir}/supervisor/supervisord.conf"
    assert commands["stop"] == ["/srv/venv/bin/supervisorctl", "-c", conf, "stop", "handler:"]
    assert commands["startup"] == ["/srv/venv/bin/supervisord", "-c", conf]


@as_root
def test_supervisord_is_never_brought_up_as_root(tmp_path):
    instance = configured(tmp_path, handler=1)
    _install(instance)
    with pytest.raises(ManagerError, match="not brought up as root"):
        GravityProgram("handler", Supervisor(instance)).start()
