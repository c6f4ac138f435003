"""``salt-run galaxy.fleet`` with thirty minions; and what it makes of a thousand answers."""

import json
import signal
import subprocess
import time
import tracemalloc

import pytest
from measure import medians, rounds
from support.answers import down, status
from support.minions import Minions
from support.site import BIN, Site

import galaxy_fleet
import galaxy_fleet_table

# seconds that the answer of a fleet may take
TIMEOUT = 10


def _table(answers):
    found = {minion: galaxy_fleet.rows(minion, answer) for minion, answer in answers.items()}
    return galaxy_fleet_table.table(galaxy_fleet.fleet(found, ["gone"]), 120, color=True)


def test_a_thousand_answers(row):
    answers = {f"galaxy-{number}": (down if number % 10 == 0 else status)() for number in range(1000)}
    seconds = medians(10, ours=lambda: _table(answers))["ours"]
    row("rows and table of 1,000 answers", f"{seconds:.2f} s", "<= 0.5 s", seconds <= 0.5)
    tracemalloc.start()
    _table(answers)
    most = tracemalloc.get_traced_memory()[1] / (1 << 20)
    tracemalloc.stop()
    row("memory for that", f"{most:.0f} MiB", "<= 50 MiB", most <= 50)


@pytest.fixture
def fleet(salt_factories, tree, tmp_path):
    """A master and its minions. All look at the same Galaxy; their jobs are threads."""
    site = Site(tmp_path / "galaxy", processes=1).start()
    names = [f"fleet-{number:02}" for number in range(rounds(30))]
    pillar = tmp_path / "pillar"
    pillar.mkdir()
    (pillar / "top.sls").write_text("base:\n  '*':\n    - galaxy\n")
    (pillar / "galaxy.sls").write_text(json.dumps({"galaxy": {"config": str(site.config)}}))
    roots = {"file_roots": {"base": [str(tree)]}, "pillar_roots": {"base": [str(pillar)]}, "open_mode": True}
    master = salt_factories.salt_master_daemon("many-master", overrides=roots, start_timeout=600)
    with master.started():
        master.salt_run_cli().run("saltutil.sync_all", _timeout=300)
        minions = Minions(master, tree, names, {"multiprocessing": False})
        minions.start()
        minions.answer(master.salt_cli())
        yield master, minions, names
        minions.stop()
    site.stop()


def test_a_fleet_at_a_glance(fleet, row):
    master, minions, names = fleet

    def salt(program, *words):
        done = subprocess.run([BIN / program, "-c", master.config_dir, *words], capture_output=True, check=False)
        return done.stdout

    def ask():
        return json.loads(salt("salt-run", "galaxy.fleet", f"timeout={TIMEOUT}", "--out=json"))

    found = medians(7, fleet=ask, ping=lambda: salt("salt", "*", "test.ping"))
    ratio = found["fleet"] / found["ping"]
    what = f"salt-run galaxy.fleet of {len(names)} minions / salt '*' test.ping"
    row(what, f"{ratio:.2f} x", "<= 1.3 x", ratio <= 1.3)
    minions.signal(names[0], signal.SIGSTOP)
    before = time.monotonic()
    answer = ask()
    beyond = time.monotonic() - before - TIMEOUT
    minions.signal(names[0], signal.SIGCONT)
    complete = [one["minion"] for one in answer["rows"] if one["state"] == "ready"]
    assert answer["silent"] == names[:1]
    row(f"the same with one silent, after its timeout of {TIMEOUT} s", f"{beyond:.1f} s", "<= 2 s", beyond <= 2)
    others = len(names) - 1
    row("rows of the others meanwhile", f"{len(complete)}", f"{others}", len(complete) == others)
