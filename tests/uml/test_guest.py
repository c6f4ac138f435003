"""
The suites in ``guest/`` run inside the guest, each in a machine of its own. test_guest_slow.py has the slow ones.
"""

import os
import pathlib
import shutil
import sys

import pytest
from machine import Machine

REPO = pathlib.Path(__file__).resolve().parents[2]
GUEST = pathlib.Path(__file__).with_name("guest")
SUITES = sorted(path.name for path in GUEST.glob("test_*.py"))


def run(share, suite, chosen, timeout):
    argv = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "-p", "no:logging"]
    argv += ["-m", chosen, "-W", "ignore::pytest.PytestUnknownMarkWarning"]
    environment = f"PYTHONPATH={REPO}/_utils:{REPO}/tests PYTEST_DISABLE_PLUGIN_AUTOLOAD=1".split()
    if "COVERAGE_PROCESS_CONFIG" in os.environ:
        # for make coverage
        environment += [f"COVERAGE_PROCESS_START={REPO}/pyproject.toml", "COVERAGE_FILE=/run/share/coverage"]
    with Machine(share, modules=("loop", "dm-log-writes")) as machine:
        # from its own directory, so that pytest does not load the conftest.py of the host's suites
        where = ["env", f"--chdir={GUEST}", *environment]
        status, output = machine.run(*where, *argv, "-c", "/dev/null", "--rootdir=.", suite, timeout=timeout)
    for path in share.glob("coverage.*"):
        shutil.copy(path, REPO / "artifacts/coverage" / path.name.replace("coverage", "data", 1))
    assert status == 0, output


@pytest.mark.parametrize("suite", SUITES)
def test_suite_in_the_guest(tmp_path, suite):
    run(tmp_path / "share", suite, "not slow", 1200)
