"""The owner of each unit, by the files alone. tests/functional/test_gravity_units.py runs a real systemd."""

import hashlib
import os
import pwd

import pytest
from support.bed import USER, configured

import galaxy_gravity_systemd
from galaxy_errors import FileError
from galaxy_gravity_instance import DEFAULT_NAME
from galaxy_host_command import Account

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The directory where the system's manager would read units."""
    path = tmp_path / "units"
    path.mkdir()
    monkeypatch.setattr(galaxy_gravity_systemd, "PLACES", (str(path),))
    # systemd is not asked: none of these units runs
    monkeypatch.setattr(galaxy_gravity_systemd.galaxy_manager_systemd, "loaded", lambda patterns, user: [])
    return path


def _install(place, instance, config=None):
    """Write the files that Gravity writes for an instance, as far as they matter here."""
    target = f"galaxy-{instance.name}.target" if instance.is_named else "galaxy.target"
    units = galaxy_gravity_systemd.names(instance).values()
    digest = hashlib.sha1((config or instance.path).encode()).hexdigest()
    (place / target).write_text(f"; GRAVITY={digest}\n\n[Unit]\nWants={' '.join(units)}\n")
    for unit in units:
        (place / galaxy_gravity_systemd.file_of(unit)).write_text(f"[Unit]\nAfter=network.target\nPartOf={target}\n")


def _services(found):
    return [unit.service for unit in found.units.values()]


@pytest.mark.parametrize(
    ("name", "counts", "units"),
    [
        (DEFAULT_NAME, {"gunicorn": 1}, ["galaxy-gunicorn"]),
        (DEFAULT_NAME, {"gunicorn": 2}, ["galaxy-gunicorn@0", "galaxy-gunicorn@1"]),
        (DEFAULT_NAME, {"gunicorn0": 1, "gunicorn1": 1}, ["galaxy-gunicorn0", "galaxy-gunicorn1"]),
        (DEFAULT_NAME, {"special": 1}, ["galaxy-special"]),
        (
            "main",
            {"gunicorn": 1, "handler": 2},
            ["galaxy-main-gunicorn", "galaxy-main-handler@0", "galaxy-main-handler@1"],
        ),
    ],
)
def test_names(place, tmp_path, name, counts, units):
    instance = configured(tmp_path, name, "systemd", **counts)
    assert galaxy_gravity_systemd.find(instance).units == {}
    _install(place, instance)
    found = galaxy_gravity_systemd.find(instance)
    assert (_services(found), found.stale, found.problems, found.is_foreign) == (units, [], [], False)


def test_a_path_with_links_is_noted_resolved_or_not(place, tmp_path):
    (tmp_path / "real").mkdir()
    os.symlink("real", tmp_path / "link")
    instance = configured(tmp_path / "link", manager="systemd", gunicorn=1)
    for config in (instance.path, f"{tmp_path}/real/galaxy.yml"):
        _install(place, instance, config)
        assert _services(galaxy_gravity_systemd.find(instance)) == ["galaxy-gunicorn"]


def test_another_galaxys(place, tmp_path):
    instance = configured(tmp_path, manager="systemd", gunicorn=1)
    _install(place, instance, "/etc/galaxy/other.yml")
    found = galaxy_gravity_systemd.find(instance)
    assert (found.units, found.stale, found.is_foreign) == ({}, [], True)
    assert "belongs to another Gravity configuration" in found.problems[0]
    # a unit that is part of another target is not ours, whatever its name
    _install(place, instance)
    (place / "galaxy-gunicorn.service").write_text("[Unit]\n; PartOf=galaxy.target\nPartOf=galaxy-other.target\n")
    assert galaxy_gravity_systemd.find(instance).units == {}
    # a unit that the target does not want is not ours either
    _install(place, instance)
    target = place / "galaxy.target"
    target.write_text(target.read_text().replace("Wants=galaxy-gunicorn.service", "Wants="))
    assert galaxy_gravity_systemd.find(instance).units == {}


def test_what_is_no_longer_configured(place, tmp_path):
    before = configured(tmp_path, manager="systemd", gunicorn=1, celery=1, handler=3)
    _install(place, before)
    found = galaxy_gravity_systemd.find(configured(tmp_path, manager="systemd", gunicorn=2, handler=2))
    assert list(found.units) == ["handler_0", "handler_1"]
    assert found.stale == ["galaxy-celery.service", "galaxy-gunicorn.service", "galaxy-handler@2.service"]


def test_an_old_set(place, tmp_path):
    old, now = (configured(tmp_path, name, "systemd", gunicorn=1) for name in ("old", DEFAULT_NAME))
    _install(place, old)
    _install(place, now)
    with open(now.path, "w") as file:
        file.write("gravity: {}\n")
    found = galaxy_gravity_systemd.find(now)
    assert (_services(found), found.stale) == (
        ["galaxy-gunicorn"],
        ["galaxy-old.target", "galaxy-old-gunicorn.service"],
    )
    # a name that a second instance has is not old
    with open(now.path, "w") as file:
        file.write("gravity: [{}, {instance_name: old}]\n")
    assert galaxy_gravity_systemd.find(now).stale == []


def test_what_systemd_still_runs(place, tmp_path, monkeypatch):
    asked = []

    def loaded(patterns, user):
        asked.append((patterns, user))
        return ["galaxy-handler@0.service", "galaxy-handler@2.service", "galaxy-x@1.service"]

    monkeypatch.setattr(galaxy_gravity_systemd.galaxy_manager_systemd, "loaded", loaded)
    instance = configured(tmp_path, manager="systemd", handler=2)
    _install(place, instance)
    assert galaxy_gravity_systemd.find(instance).stale == ["galaxy-handler@2.service"]
    assert asked == [(["galaxy-handler@*.service"], None)]


@as_root
def test_units_that_others_can_write(place, tmp_path):
    instance = configured(tmp_path, manager="systemd", gunicorn=1)
    _install(place, instance)
    (place / "galaxy-gunicorn.service").chmod(0o666)
    with pytest.raises(FileError, match="everybody can write it"):
        galaxy_gravity_systemd.find(instance)


@as_root
def test_units_of_galaxys_own_manager(place, tmp_path, monkeypatch):
    entry = pwd.getpwnam(USER)
    home = tmp_path / "home"
    account = Account(USER, entry.pw_uid, entry.pw_gid, (entry.pw_gid,), str(home))
    monkeypatch.setattr(Account, "of", lambda user: account)
    folder = home / ".config" / "systemd" / "user"
    folder.mkdir(parents=True)
    for path in (tmp_path.parent.parent, tmp_path.parent, tmp_path):
        path.chmod(0o755)
    instance = configured(tmp_path, manager="systemd", gunicorn=1)
    _install(folder, instance)
    for path in (home, *home.rglob("*")):
        os.chown(path, entry.pw_uid, entry.pw_gid)
    os.mkdir(instance.state_dir)
    found = galaxy_gravity_systemd.find(instance)
    assert [unit.user for unit in found.units.values()] == [USER]
    assert "wants galaxy.target, so nothing of it starts at boot" in found.problems[0]
    (folder / "default.target.wants").mkdir()
    os.symlink("../galaxy.target", folder / "default.target.wants" / "galaxy.target")
    assert galaxy_gravity_systemd.find(instance).problems == []
    # the system's units come first
    _install(place, instance)
    assert [unit.user for unit in galaxy_gravity_systemd.find(instance).units.values()] == [None]
