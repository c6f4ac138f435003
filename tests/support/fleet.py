"""A real master and two real minions, each minion with a Galaxy of its own under its own supervisord."""

import contextlib
import json

import pytest

from .site import UWSGI, Site
from .supervisord import Supervisord

MINIONS = ("galaxy-one", "galaxy-two")


@contextlib.contextmanager
def laid_out(roots, **options):
    """The Galaxies by minion, each in its own directory. Galaxy is down, and supervisord knows no program yet."""
    found = {
        minion: (Site(root / "galaxy", **options), Supervisord(root / "supervisor").start())
        for minion, root in roots.items()
    }
    yield found
    for site, supervisord in found.values():
        supervisord.stop()
        site.stop()


def pillar_of(site, supervisord, **more):
    """``galaxy:`` in the pillar of such a minion: the formula writes supervisord's program file."""
    return {
        **{"config": str(site.config), "manager": "supervisord", "conf_file": str(supervisord.conf_file)},
        **{"manage_service": True, "uwsgi": UWSGI, "root": str(site.root), "user": "root", "timeout": 60},
        **{"program_file": str(supervisord.programs / "galaxy.conf"), "log": str(site.log), **more},
    }


@pytest.fixture(scope="session")
def galaxies(tmp_path_factory):
    with laid_out({minion: tmp_path_factory.mktemp(minion) for minion in MINIONS}) as found:
        yield found


@pytest.fixture(scope="session")
def master(salt_factories, tree, galaxies, tmp_path_factory):
    """A running master. It serves the tree, and the pillar of each Galaxy."""
    pillar = tmp_path_factory.mktemp("pillar")
    (pillar / "top.sls").write_text(json.dumps({"base": {name: [name] for name in galaxies}}))
    for name, (site, supervisord) in galaxies.items():
        (pillar / f"{name}.sls").write_text(json.dumps({"galaxy": pillar_of(site, supervisord)}))
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
    # the beacon is on: what the daemon loaded for it must not keep jobs from the utils that were synced later
    overrides = {"beacons": {"galaxy": [{"interval": 5}]}}
    daemons = [master.salt_minion_daemon(name, overrides=overrides) for name in MINIONS]
    with daemons[0].started(), daemons[1].started():
        yield daemons


@pytest.fixture(scope="session")
def salt_cli(master, minions):
    """``salt_cli(function, …)`` runs ``salt`` and returns the returns by minion; with one target, its return."""
    client = master.salt_cli()

    def run(function, *arguments, target="*", **keywords):
        done = client.run(function, *arguments, minion_tgt=target, _timeout=120, **keywords)
        assert done.data is not None, f"{done.stdout}\n{done.stderr}"
        return done.data

    run("saltutil.sync_all")
    return run
