"""Galaxies under Gravity on two minions of a real master: the runners answer for gunicorn as for uWSGI."""

import json
import subprocess

import pytest
from support.bed import beds
from support.minions import Minions
from support.site import BIN

# it takes two minutes
pytestmark = pytest.mark.slow

ONE, TWO = "gravity-one", "gravity-two"


@pytest.fixture(scope="module")
def galaxies():
    """By minion: a Galaxy that does not run yet. The second one has two gunicorns, Celery and a handler."""
    makers = beds()
    make = next(makers)
    found = {ONE: make(), TWO: make(gunicorns=2, celery=True, handlers=1)}
    for bed in found.values():
        bed.update()
    yield found
    makers.close()


@pytest.fixture(scope="module")
def run(salt_factories, galaxies, tree, tmp_path_factory):
    """``run(function, …)`` runs ``salt-run``, and returns its exit code and answer."""
    pillar = tmp_path_factory.mktemp("pillar")
    (pillar / "top.sls").write_text(json.dumps({"base": {name: [name] for name in galaxies}}))
    for name, bed in galaxies.items():
        (pillar / f"{name}.sls").write_text(json.dumps({"galaxy": {"config": str(bed.config), "timeout": 120}}))
    roots = {"file_roots": {"base": [str(tree)]}, "pillar_roots": {"base": [str(pillar)]}, "open_mode": True}
    master = salt_factories.salt_master_daemon("gravity-fleet", overrides=roots, start_timeout=600)
    with master.started():
        master.salt_run_cli().run("saltutil.sync_all", _timeout=120)
        minions = Minions(master, tree, (ONE, TWO))
        minions.start()
        minions.answer(master.salt_cli())

        def call(*arguments):
            argv = [BIN / "salt-run", "-c", master.config_dir, *arguments, "--out=json"]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
            assert done.stdout.startswith("{"), done.stderr
            return done.returncode, json.loads(done.stdout)

        yield call
        minions.stop()


def _states(answer):
    return [(row["minion"], row["state"]) for row in answer["rows"]]


def _pids(status):
    return {service["pids"][0] for name, service in status["services"].items() if name.startswith("gunicorn")}


def test_a_fleet_is_started_seen_and_restarted_in_turn(run, galaxies):
    code, found = run("galaxy.fleet", "timeout=60")
    assert (code, _states(found)) == (2, [(ONE, "down"), (TWO, "down")])

    code, started = run("galaxy.startup", ONE)
    assert (code, started["success"], started["return"]["ready"]) == (0, True, True), started
    code, found = run("galaxy.fleet", "timeout=60")
    # the worst first
    assert (code, _states(found)) == (2, [(TWO, "down"), (ONE, "ready")])
    code, done = run("galaxy.rolling_restart", "*", "timeout=60", "settle=1")
    assert (code, done["success"]) == (3, False)
    assert TWO in done["problem"]

    assert run("galaxy.startup", TWO)[0] == 0
    before = {name: run("galaxy.status", name)[1]["return"] for name in galaxies}
    assert {status["web_server"] for status in before.values()} == {"gunicorn"}
    assert set(before[TWO]["services"]) == {"gunicorn_0", "gunicorn_1", "celery", "celery-beat", "handler"}
    code, done = run("galaxy.rolling_restart", "*", "timeout=60", "settle=1")
    assert (code, done["restarted"], done["failed"]) == (0, [ONE, TWO], {}), done
    after = {name: run("galaxy.status", name)[1]["return"] for name in galaxies}
    for name in galaxies:
        assert after[name]["ready"]
        assert _pids(before[name]).isdisjoint(_pids(after[name]))
    assert run("galaxy.fleet", "timeout=60")[0] == 0
