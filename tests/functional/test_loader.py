"""Salt's loader has nothing to say about this tree."""

import subprocess

import pytest
from support.site import BIN


@pytest.mark.parametrize(
    "words",
    [
        *(["sys.doc"], ["sys.state_doc"], ["sys.doc", "galaxy"], ["sys.list_modules"], ["sys.list_state_functions"]),
        *(["galaxy.no_such_function"], ["saltutil.sync_all"], ["sys.runner_doc"]),
    ],
    ids=" ".join,
)
def test_the_log_has_no_line_of_ours(minion_config, words):
    argv = [BIN / "salt-call", "--local", "-c", minion_config, "-l", "warning", "--out=quiet", *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert [
        line for line in done.stderr.splitlines() if "galaxy_" in line or "luks_" in line or "onedata_" in line
    ] == []


def test_docs_are_there(minion_config):
    argv = [BIN / "salt-call", "--local", "-c", minion_config, "sys.doc", "galaxy", "luks", "onedata"]
    shown = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    for function in ("galaxy.status", "galaxy.startup", "luks.open", "onedata.mount"):
        assert f"{function}:" in shown
