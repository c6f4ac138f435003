import dataclasses
import hashlib
import os
import pwd

import pytest
from support.attacker import GALAXY, MALLORY, make, public_directory

import galaxy_gravity_installed
from galaxy_errors import ConfigError, FileError
from galaxy_gravity_instance import Instance


def instance(root, name="_default_", **more):
    path = str(root / "galaxy.yml")
    return Instance(path, name, "systemd", path, str(root), None, None, None, str(root / "state"), **more)


def target(path):
    return f"; GRAVITY={hashlib.sha1(os.fsencode(path)).hexdigest()}\n[Unit]\n"


def service(target):
    return f"[Unit]\nPartOf={target}\n"


@pytest.fixture
def units(tmp_path):
    """Units of two Galaxies in one file, of another Galaxy, and of nobody."""
    directory = tmp_path / "units"
    directory.mkdir()
    own, other = tmp_path / "galaxy.yml", tmp_path / "other.yml"
    for name, text in {
        "galaxy.target": target(own),
        "galaxy-gunicorn@.service": service("galaxy.target"),
        "galaxy-main.target": target(own),
        "galaxy-main-celery.service": service("galaxy-main.target"),
        "galaxy-other.target": target(other),
        "galaxy-other-gunicorn.service": service("galaxy-other.target"),
        "galaxy-boot.service": "[Unit]\n",
        "galaxy.service.environment": "SECRET=1\n",
        "sshd.service": service("galaxy.target"),
    }.items():
        (directory / name).write_text(text)
    (directory / "galaxy-masked.service").symlink_to("/dev/null")
    (directory / "galaxy-dangling.service").symlink_to(tmp_path / "gone")
    return directory


def test_whose_a_unit_is(tmp_path, units):
    found = galaxy_gravity_installed.units(instance(tmp_path), str(units))
    own = {"galaxy.target", "galaxy-gunicorn@.service", "galaxy-main.target", "galaxy-main-celery.service"}
    assert set(found.own) == own
    taken = {"galaxy-other.target", "galaxy-other-gunicorn.service", "galaxy-boot.service", "galaxy-masked.service"}
    assert set(found.taken) == taken
    # for a named instance, Gravity only takes names that have its name
    found = galaxy_gravity_installed.units(instance(tmp_path, "main"), str(units))
    assert set(found.own) == own
    assert found.taken == {}


def test_a_configuration_by_a_link_is_the_same(tmp_path, units):
    (tmp_path / "link").symlink_to(tmp_path)
    found = galaxy_gravity_installed.units(instance(tmp_path / "link"), str(units))
    assert "galaxy.target" in found.own


def test_no_directory(tmp_path):
    assert galaxy_gravity_installed.units(instance(tmp_path), str(tmp_path / "none")).own == {}
    assert galaxy_gravity_installed.programs(instance(tmp_path)) == {}


def test_programs(tmp_path):
    base = tmp_path / "state" / "supervisor" / "supervisord.conf.d"
    (base / "main.d").mkdir(parents=True)
    (base / "main.d" / "gunicorn_gunicorn.conf").write_text("[program:main_gunicorn_gunicorn]\n")
    (base / "group_main.conf").write_text("[group:main]\n")
    (base / "notes").write_text("")
    assert galaxy_gravity_installed.programs(instance(tmp_path, "main")) == {
        "main.d/gunicorn_gunicorn.conf": "[program:main_gunicorn_gunicorn]\n",
        "group_main.conf": "[group:main]\n",
    }
    (base / "main.d" / "huge.conf").write_text("x" * 100_000)
    with pytest.raises(FileError, match="larger"):
        galaxy_gravity_installed.programs(instance(tmp_path, "main"))


def test_what_a_text_says():
    text = "ExecStart=/v/galaxyctl --config-file '/srv/a b.yml' exec\ncommand         = x\n"
    text += "Environment=A=1\nEnvironment=B=2\n"
    assert galaxy_gravity_installed.value(text, "command") == "x"
    assert galaxy_gravity_installed.value(text, "Environment") == "B=2"
    assert galaxy_gravity_installed.value(text, "User") is None
    assert galaxy_gravity_installed.configuration(text) == "/srv/a b.yml"
    assert galaxy_gravity_installed.configuration("ExecStart=/v/gunicorn") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_galaxys_user(monkeypatch):
    daemon = pwd.getpwnam("daemon").pw_uid

    def user(**more):
        return galaxy_gravity_installed.user_id(dataclasses.replace(found, **more))

    with public_directory() as root:
        path = make(f"{root}/galaxy.yml", 0, 0o644, b"")
        data = make(f"{root}/data", GALAXY)
        found = Instance(path, "_default_", "systemd", path, None, None, data, None, f"{data}/gravity")
        # before and after Gravity has run, if the user alone controls the directory
        assert user() == GALAXY
        make(f"{data}/gravity", GALAXY)
        assert user() == GALAXY
        os.chown(data, MALLORY, MALLORY)
        with pytest.raises(ConfigError, match=f"cannot be told: {data}/gravity: user {MALLORY} can put"):
            user()
        with pytest.raises(ConfigError, match="there is no data_dir; make"):
            user(state_dir=None, data_dir=None)
        # root's file may name another user, and a user's own file may name this user
        assert user(user="daemon") == daemon
        os.chown(path, daemon, daemon)
        assert user(user="daemon") == daemon
        # the file of any other user may not: it would make another user's server Galaxy's
        os.chown(path, GALAXY, GALAXY)
        with pytest.raises(ConfigError, match=f"as user daemon .galaxy_user., but user {GALAXY} can change that"):
            user(user="daemon")
        # unless units that root installed name the user too
        folder = make(f"{root}/units", 0)
        monkeypatch.setattr(galaxy_gravity_installed.units, "__defaults__", (folder, ()))
        texts = {"target": target(path), "service": f"{service('galaxy.target')}[Service]\nUser=daemon\n"}
        for kind, text in texts.items():
            make(f"{folder}/galaxy{'-gunicorn' * (kind == 'service')}.{kind}", 0, 0o644, text.encode())
        assert user(user="daemon") == daemon
        with pytest.raises(ConfigError, match="can change that"):
            user(user="games")
