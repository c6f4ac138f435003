"""Many machines at a glance, with a real master and minions of all kinds."""

import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import termios

import pytest
from support.minions import Minions
from support.site import BIN, Site

from galaxy_host_wait import Deadline, wait_until

# three minutes; most of this is the start of eight minions
pytestmark = pytest.mark.slow

READY, DOWN, TWO, NONE = "galaxy-ready", "galaxy-down", "galaxy-two", "no-galaxy"
HUNG, GONE, LIAR, NAKED = "galaxy-hung", "galaxy-gone", "galaxy-liar", "galaxy-naked"
ALL = (READY, DOWN, TWO, NONE, HUNG, GONE, LIAR, NAKED)
# a minion may answer this to look harmless
LIE = "\x1b[2J\x1b]0;root\x07all is well"


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    """Galaxies by name; all run except one."""
    names = (READY, DOWN, HUNG, f"{TWO}-main", f"{TWO}-test")
    found = {name: Site(tmp_path_factory.mktemp(name), processes=1) for name in names}
    for name, site in found.items():
        if name != DOWN:
            site.start(wait=False)
    for name, site in found.items():
        if name != DOWN:
            site.wait()
    yield found
    for site in found.values():
        site.stop()


@pytest.fixture(scope="module")
def pillar(tmp_path_factory, sites):
    root = tmp_path_factory.mktemp("pillar")
    configs = {name: {"config": str(site.config)} for name, site in sites.items()}
    two = {"servers": {"main": configs[f"{TWO}-main"], "test": configs[f"{TWO}-test"]}}
    galaxies = {READY: configs[READY], DOWN: configs[DOWN], HUNG: configs[HUNG], TWO: two, NONE: {}}
    (root / "top.sls").write_text(json.dumps({"base": {name: [name] for name in galaxies}}))
    for name, keys in galaxies.items():
        (root / f"{name}.sls").write_text(json.dumps({"galaxy": keys}))
    return root


@pytest.fixture(scope="module")
def master(salt_factories, pillar, tree):
    overrides = {
        "file_roots": {"base": [str(tree)]},
        "pillar_roots": {"base": [str(pillar)]},
        "open_mode": True,
        "timeout": 5,
    }
    daemon = salt_factories.salt_master_daemon("fleet-master", overrides=overrides)
    with daemon.started():
        daemon.salt_run_cli().run("saltutil.sync_all", _timeout=60)
        yield daemon


@pytest.fixture(scope="module")
def liar(tree, tmp_path_factory):
    """A tree in which ``galaxy.status`` lies."""
    root = tmp_path_factory.mktemp("liar")
    (root / "_modules").mkdir()
    answer = {"main": {"running": True, "ready": True, "workers": [LIE], "problems": [LIE]}, LIE: {"running": LIE}}
    (root / "_modules/galaxy.py").write_text(f"def status(server=None, timeout=5):\n    return {answer!r}\n")
    return root


@pytest.fixture(scope="module")
def minions(master, tree, liar, tmp_path_factory):
    honest = Minions(master, tree, [name for name in ALL if name not in (LIAR, NAKED)])
    others = [Minions(master, liar, [LIAR]), Minions(master, tmp_path_factory.mktemp("naked"), [NAKED])]
    for some in (honest, *others):
        some.start()
    client = master.salt_cli()

    def answered():
        return set(client.run("test.ping", minion_tgt="*", _timeout=60).data or ()) >= set(ALL)

    assert wait_until(answered, Deadline(120), interval=0.5)
    honest.stop(GONE)
    honest.signal(HUNG, signal.SIGSTOP)
    yield honest
    honest.signal(HUNG, signal.SIGCONT)
    for some in (honest, *others):
        some.stop()


def _run(master, *arguments, program="salt-run"):
    """Run a command of Salt, as from a shell."""
    argv = [BIN / program, "-c", master.config_dir, *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


def test_all_kinds_of_minions(master, minions):
    # long enough for a slow machine; it ends when all have answered
    others = ",".join(name for name in ALL if name not in (HUNG, GONE))
    done = _run(master, "galaxy.fleet", others, "tgt_type=list", "timeout=90", "--out=json")
    found = json.loads(done.stdout)
    states = {(row["minion"], row["server"]): row["state"] for row in found["rows"]}
    assert states == {
        (READY, "galaxy"): "ready",
        (DOWN, "galaxy"): "down",
        (TWO, "main"): "ready",
        (TWO, "test"): "ready",
        (LIAR, "main"): "unknown",
        (LIAR, r"\x1b[2J\x1b]0;root\x07all is well"): "unknown",
        (NAKED, None): "unknown",
    }
    assert [row["state"] for row in found["rows"]] == ["down", *["unknown"] * 3, *["ready"] * 3]
    assert (found["silent"], found["without"], found["totals"]["minions"]) == ([], [NONE], 6)
    assert "saltutil.sync_all" in next(row["problems"][0] for row in found["rows"] if row["minion"] == NAKED)
    assert done.returncode == found["retcode"] == 2


def test_minions_that_do_not_answer_hide_no_other(master, minions):
    done = _run(master, "galaxy.fleet", f"{HUNG},{GONE},{READY}", "tgt_type=list", "timeout=15", "--out=json")
    found = json.loads(done.stdout)
    assert [(row["minion"], row["state"]) for row in found["rows"]] == [
        *[(GONE, "silent"), (HUNG, "silent"), (READY, "ready")],
    ]
    assert found["silent"] == [GONE, HUNG]
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("galaxy.fleet", READY, "timeout=60"), 0, "1 server on 1 minion: 1 ready"),
        (
            ("galaxy.fleet", f"{LIAR},{READY}", "tgt_type=list", "timeout=60"),
            3,
            "3 servers on 2 minions: 2 unknown, 1 ready",
        ),
        (("galaxy.fleet", "nosuch*"), 3, "No minions matched the target."),
        (("galaxy.fleet", "watch=1"), 3, "watch needs salt-run on a terminal"),
        (("galaxy.status", READY), 0, "success:\n    True"),
        (("galaxy.status", "nosuch"), 1, "nosuch does not answer"),
    ],
)
def test_the_exit_code_reaches_the_shell(master, minions, arguments, code, said):
    done = _run(master, *arguments)
    assert said in done.stdout
    assert "\x1b" not in done.stdout
    assert done.returncode == code, done.stdout


def test_what_the_outputter_makes_of_answers(master, minions):
    done = _run(
        master, "-L", f"{DOWN},{TWO},{LIAR}", "galaxy.status", "server=*", "--static", "--out=galaxy", program="salt"
    )
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines[:3]] == [["STATE", "MINION"], ["down", DOWN], ["unknown", LIAR]]
    assert "4 servers" not in done.stdout
    assert "5 servers on 3 minions: 1 down, 2 unknown, 2 ready" in lines
    assert f"{DOWN} galaxy:" in lines
    assert "\x1b" not in done.stdout


def test_a_line_for_monitoring(master, minions):
    done = _run(master, "-L", f"{READY},{DOWN}", "galaxy.check", "--out=txt", program="salt")
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert lines[READY] == "GALAXY OK - ready, 1 of 1 worker ready | workers=1;;;0;1 busy=0;;;0;1 queue=0;;;0;100"
    assert lines[DOWN].startswith("GALAXY CRITICAL - down")
    assert done.returncode != 0


def test_a_terminal_shows_the_table_again_and_again(master, minions):
    terminal, ours = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 60, 0, 0))
    argv = [
        BIN / "salt-run",
        "-c",
        master.config_dir,
        "galaxy.fleet",
        f"{READY},{DOWN}",
        "tgt_type=list",
        "watch=0.5",
        "timeout=60",
    ]
    # these variables would win over the terminal's size
    unsaid = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(argv, stdin=ours, stdout=ours, stderr=ours, env=unsaid, start_new_session=True)
    os.close(ours)
    seen = b""
    while seen.count(b"\x1b[H\x1b[J") < 2:
        seen += os.read(terminal, 4096)
    os.kill(process.pid, signal.SIGINT)
    with contextlib.suppress(OSError):
        while chunk := os.read(terminal, 4096):
            seen += chunk
    os.close(terminal)
    # the exit code of the last table
    assert process.wait(60) == 2
    pictures = seen.decode().split("\x1b[H\x1b[J")[1:]
    for picture in pictures:
        lines = picture.split("\r\n")
        assert lines[0].startswith("STATE MINION")
        assert lines[1].startswith(f"\x1b[1;31mdown  {DOWN}")
        assert lines[2].startswith(f"\x1b[32mready {READY}")
        assert max(len(line.replace("\x1b[1;31m", "").replace("\x1b[0m", "")) for line in lines[:2]) <= 60
