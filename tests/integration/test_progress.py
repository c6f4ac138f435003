"""Whoever waits is told what for: by events of a real master, and on the terminal."""

import json
import re
import subprocess

import psutil
import pytest
from support.bus import heard
from support.site import BIN

from galaxy_host_wait import Deadline, wait_until

MINION = "galaxy-one"


@pytest.fixture
def slow(salt_cli, master, galaxies):
    """A Galaxy that was stopped, and that loads until the gate ``load`` opens."""
    assert master.salt_run_cli().run("saltutil.sync_all", _timeout=120).returncode == 0
    salt_cli("state.apply", "galaxy", target=MINION)
    salt_cli("galaxy.stop", target=MINION)
    site, _ = galaxies[MINION]
    (site.gates / "load").unlink(missing_ok=True)
    site.open("load-is-slow")
    yield site
    site.open("load")
    (site.gates / "load-is-slow").unlink()


def _begin(program, directory, *words):
    argv = [BIN / program, "-c", directory, *words, "--out=json", "--log-level=error"]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _told(events):
    return [data["data"] for tag, data in list(events) if tag == f"galaxy/{MINION}/progress"]


def test_a_runner_shows_what_its_minion_waits_for(slow, master):
    with heard(master) as events:
        process = _begin("salt-run", master.config_dir, "galaxy.startup", MINION)
        assert wait_until(lambda: _told(events), Deadline(180))
        line = process.stderr.readline()
        slow.open("load")
        output, _ = process.communicate(timeout=300)
    told = _told(events)[0]
    assert (told["step"], told["try"], told["tries"]) == ("galaxy.startup", 1, 6)
    assert told["seconds"] >= 5
    assert told["waits_for"]
    assert f"{MINION} galaxy.startup: try 1 of 6, {told['seconds']} s: {told['waits_for']}" in line
    assert json.loads(output)["return"]["ready"] is True


@pytest.mark.slow
def test_salt_call_goes_on_without_its_master(slow, master, minions):
    directory = next(one for one in minions if one.id == MINION).config_dir
    everyone = [psutil.Process(master.pid), *psutil.Process(master.pid).children(recursive=True)]
    with heard(master) as events:
        process = _begin("salt-call", directory, "galaxy.startup", "timeout=300")
        assert wait_until(lambda: _told(events), Deadline(180))
    lines = [process.stderr.readline()]
    try:
        for one in everyone:
            one.suspend()
        # these lines come at once, even though the events that go with them cannot be sent
        lines += [process.stderr.readline() for _ in range(2)]
    finally:
        for one in everyone:
            one.resume()
    slow.open("load")
    output, rest = process.communicate(timeout=300)
    seconds = [int(re.search(r" galaxy.startup: try 1 of 6, (\d+) s: ", line)[1]) for line in lines]
    # a send waits for a minute if the master does not answer
    assert seconds[2] - seconds[0] < 60
    assert "Traceback" not in rest
    assert json.loads(output)["local"]["ready"] is True
