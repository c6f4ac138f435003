"""A real master and two real minions, each minion with a Galaxy of its own under its own supervisord."""

import json

import pytest

from .site import UWSGI, Site
from .supervisord import Supervisord

MINIONS = ("galaxy-one", "galaxy-two")


@pytest.fixture(scope="session")
def galaxies(tmp_path_factory):
    """By minion: its Galaxy's layout and its supervisord, which runs and knows no program yet."""
    found = {}
    for minion in MINIONS:
        root = tmp_path_factory.mktemp(minion)
        found[minion] = (Site(root / "galaxy"), Supervisord(root / "supervisor").start())
    yield found
    for site, supervisord in found.values():
        supervisord.stop()
        site.stop()


@pytest.fixture(scope="session")
def master(salt_factories, tree, galaxies, tmp_path_factory):
    """A running master that serves the tree and each Galaxy's pillar."""
    pillar = tmp_path_factory.mktemp("pillar")
    (pillar / "top.sls").write_text(json.dumps({"base": {name: [name] for name in galaxies}}))
    for name, (site, supervisord) in galaxies.items():
        keys = {
            **{"config": str(site.config), "manager": "supervisord", "conf_file": str(supervisord.conf_file)},
            **{"manage_service": True, "uwsgi": UWSGI, "root": str(site.root), "user": "root"},
            **{"program_file": str(supervisord.programs / "galaxy.conf"), "log": str(site.log), "timeout": 60},
        }
        (pillar / f"{name}.sls").write_text(json.dumps({"galaxy": keys}))
    overrides = {
        "file_roots": {"base": [str(tree), str(tree / "formulas")]},
        "pillar_roots": {"base": [str(pillar)]},
        "open_mode": True,
    }
    daemon = salt_factories.salt_master_daemon("galaxy-master", overrides=overrides)
    with daemon.started():
        yield daemon


@pytest.fixture(scope="session")
def minions(master):
    """Two running minions."""
    # the beacon is on: what the daemon itself has loaded must not keep jobs from using what was synced since
    overrides = {"beacons": {"galaxy": [{"interval": 5}]}}
    daemons = [master.salt_minion_daemon(name, overrides=overrides) for name in MINIONS]
    with daemons[0].started(), daemons[1].started():
        yield daemons


@pytest.fixture(scope="session")
def salt_cli(master, minions):
    """``salt_cli(function, …)`` runs ``salt '*' function …``: returns by minion; the return alone of one target."""
    client = master.salt_cli()

    def run(function, *arguments, target="*", **keywords):
        done = client.run(function, *arguments, minion_tgt=target, _timeout=120, **keywords)
        assert done.data is not None, f"{done.stdout}\n{done.stderr}"
        return done.data

    run("saltutil.sync_all")
    return run
