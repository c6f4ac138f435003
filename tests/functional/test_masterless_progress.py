"""A masterless machine shows on its terminal what it waits for."""

import json
import subprocess

import pytest
from support.masterless import Masterless


@pytest.fixture
def site(make_site, supervisord):
    """A Galaxy that loads until the gate ``load`` opens."""
    found = make_site(processes=1, mule=None, farm=None)
    found.open("load-is-slow")
    supervisord.program("galaxy", found.command)
    supervisord.start()
    return found


def test_a_state_that_takes_long_says_what_it_waits_for(site, supervisord, tree, tmp_path):
    keys = {**site.keywords, "manager": "supervisord", "conf_file": str(supervisord.conf_file), "timeout": 300}
    machine = Masterless(tmp_path / "minion", tree, keys)
    machine.call("saltutil.sync_all")
    # the usual log level, so that warnings by Salt about the event would be seen
    argv = [*machine.argv("--out=json", "--log-level=warning"), "state.single", "galaxy.running", "name=x"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    line = process.stderr.readline()
    site.open("load")
    output, rest = process.communicate(timeout=300)
    (state,) = json.loads(output)["local"].values()
    assert (state["result"], "galaxy.startup:" in output) == (True, False)
    assert " galaxy.startup: try 1 of 6, " in line
    assert [one for one in rest.splitlines() if "galaxy.startup: try" not in one] == []
