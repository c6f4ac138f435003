"""Machines come back together after a power cut. All get ready, but only a few boot at the same time."""

import json

import pytest
from support.bus import heard
from support.fleet import laid_out, pillar_of
from support.minions import Minions

from galaxy_host_wait import Deadline, wait_until

AT_A_TIME = 2


@pytest.fixture(params=[4, pytest.param(50, marks=pytest.mark.slow)])
def galaxies(request, tmp_path):
    """By minion: its Galaxy, which does not run."""
    names = [f"burst-{number:02}" for number in range(request.param)]
    with laid_out({name: tmp_path / name for name in names}, processes=1) as found:
        yield found


@pytest.fixture
def master(salt_factories, galaxies, tree, tmp_path):
    pillar = tmp_path / "pillar"
    pillar.mkdir()
    (pillar / "top.sls").write_text(json.dumps({"base": {name: [name] for name in galaxies}}))
    for name, (site, supervisord) in galaxies.items():
        keys = pillar_of(site, supervisord, timeout=120, boot={"enabled": True})
        (pillar / f"{name}.sls").write_text(json.dumps({"galaxy": keys}))
    overrides = {
        "file_roots": {"base": [str(tree), str(tree / "formulas")]},
        "pillar_roots": {"base": [str(pillar)]},
        "open_mode": True,
        "reactor": [{"salt/minion/*/start": ["salt://galaxy/reactor/boot.sls"]}],
        "reactor_worker_threads": AT_A_TIME,
    }
    daemon = salt_factories.salt_master_daemon(f"burst-master-{len(galaxies)}", overrides=overrides)
    with daemon.started():
        daemon.salt_run_cli().run("saltutil.sync_all", _timeout=60)
        yield daemon


@pytest.fixture
def events(master):
    """All events that came on the master's bus."""
    with heard(master) as seen:
        yield seen


@pytest.fixture
def power(master, galaxies, tree):
    """A function that starts all minions at once."""
    minions = Minions(master, tree, galaxies)
    yield minions.start
    minions.stop()


def test_all_come_back_and_only_so_many_boot_at_a_time(events, power, galaxies):
    power()

    def reported():
        return [tag for tag, _ in list(events) if tag.startswith("galaxy/") and not tag.endswith("/progress")]

    wait_until(lambda: len(reported()) >= len(galaxies), Deadline(60 + 20 * len(galaxies)))
    assert sorted(reported()) == sorted(f"galaxy/{name}/ready" for name in galaxies)
    assert all(site.get() == b"Galaxy\n" for site, _ in galaxies.values())
    under_way, most = set(), 0
    for tag, data in events:
        if data.get("fun") == "state.apply" and tag.endswith("/new"):
            under_way.add(data["jid"])
        elif data.get("fun") == "state.apply" and "/ret/" in tag:
            under_way.discard(data["jid"])
        most = max(most, len(under_way))
    assert 0 < most <= AT_A_TIME
