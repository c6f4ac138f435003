"""
Every line of docs/migration.md does what the old command did. tests/uml/guest runs the lines about volumes, and
tests/integration/test_remote.py those about the HTTP services.
"""

import json

import pytest
import salt.client
import yaml
from support import migration
from support.onedata import TOKEN

OLD = "/home/galaxy/galaxy/config/galaxy.yml"


def _caller(opts, root, galaxy):
    """``salt-call`` with that pillar."""
    root.mkdir()
    (root / "top.sls").write_text(json.dumps({"base": {"*": ["galaxy"]}}))
    (root / "galaxy.sls").write_text(json.dumps({"galaxy": galaxy}))
    return salt.client.Caller(mopts={**opts, "pillar_roots": {"base": [str(root)]}})


@pytest.fixture
def galaxy(opts, make_site, supervisord, tmp_path):
    """A Galaxy under supervisord, and a caller with the page's pillar, in which only paths differ."""
    site = make_site()
    supervisord.program("galaxy", site.command, stdout_logfile=site.log)
    supervisord.start()
    pillar = migration.pillar()
    assert (pillar["config"], pillar["manager"], pillar["conf_file"]) == (OLD, "supervisord", "/etc/supervisord.conf")
    own = {"config": str(site.config), "manager": "supervisord", "conf_file": str(supervisord.conf_file)}
    return site, _caller(opts, tmp_path / "pillar", own)


def test_every_section_is_run():
    assert migration.SECTIONS == ["galaxyctl", "luksctl", "onedatactl", "The HTTP services"]


@pytest.mark.parametrize(("before", "now"), [row for row in migration.rows("galaxyctl") if "galaxyctl" in row[0]])
def test_galaxyctl(galaxy, before, now):
    site, caller = galaxy
    verb = before.split()[1]
    pid = None if verb in ("start", "startup") else caller.cmd("galaxy.start")["pid"]
    done = migration.run(caller, now, **{OLD: site.config})
    if verb in ("start", "startup"):
        assert (done["changed"], done["ready"]) == (True, True)
        assert site.get() == b"Galaxy\n"
    elif verb == "restart":
        assert pid in done["stop"]["stopped"]
        assert done["start"]["pid"] == site.read().pid != pid
    elif verb == "stop":
        assert pid in done["stopped"]
        assert site.read() is None
    else:
        assert verb == "status"
        assert (done["ready"], done["pid"], done["config"]) == (True, pid, str(site.config))


def test_galaxyctl_libs(galaxy):
    site, caller = galaxy
    pid = caller.cmd("galaxy.start")["pid"]
    site.hold(1)
    expected = {
        "DetectGalaxyCommands": lambda found: found["manager"] == "supervisord" and "stop" in found["stop"],
        "UwsgiSocket": lambda found: found == pid,
        "GetUwsgiStatsServer": lambda found: found["ready"] and found["pid"] == pid,
        "CheckUwsgiWorkers": lambda found: found is True,
        "GetBusyList": lambda found: found == [one.pid for one in site.read().workers if one.details["busy_cores"]],
    }
    rows = [row for row in migration.rows("galaxyctl") if "(" in row[0]]
    assert len(rows) == len(expected)
    for (before, now), (name, holds) in zip(rows, expected.items(), strict=True):
        assert name in before
        found = migration.run(caller, now)
        assert holds(found), (now, found)


def test_onedatactl(opts, machine):
    """First the commands with the old file as it is; then the options, as keys of a space."""
    assert migration.pillar()["onedata"] == {"ini": "/etc/galaxy/onedatactl.ini"}
    ini = machine / "onedatactl.ini"
    sections = [
        f"[{name}]\nmountpoint = {machine}/{name}\nprovider = p.example.org\ntoken = {TOKEN}\n"
        for name in ("userdata", "refdata")
    ]
    ini.write_text("\n".join(sections))
    caller = _caller(opts, machine / "commands", {"onedata": {"ini": str(ini)}})
    rows = migration.rows("onedatactl")
    commands = [row for row in rows if row[1].startswith("salt-call")]
    for before, now in commands:
        found = migration.run(caller, now)
        if "--version" in before:
            assert found == "21.02.8"
            continue
        _, verb, name = before.split("`")[1].split()
        assert found["mounted"] is (verb != "umount")
        assert (machine / name / "space.txt").exists() is (verb != "umount")
    keys = {}
    for _, now in rows[len(commands) :]:
        keys.update(yaml.safe_load(now))
    assert len(keys) == len(rows) - len(commands)
    token = machine / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    mount_point = machine / "userdata"
    (mount_point / "file").touch()
    space = keys | {"mount_point": str(mount_point), "token": str(token)}
    assert set(space) == set(keys)
    caller = _caller(opts, machine / "options", {"onedata": {"spaces": {"userdata": space}}})
    assert caller.cmd("onedata.mount", "userdata")["alive"] is True
    assert caller.cmd("onedata.status", "userdata")["provider_host"] == keys["provider_host"]
    assert not (mount_point / "file").exists()
