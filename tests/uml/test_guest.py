"""
The suites in ``guest/`` run inside the guest, each in a machine of its own.
"""

import pathlib
import sys

import pytest
from machine import Machine

REPO = pathlib.Path(__file__).resolve().parents[2]
SUITES = sorted(path.name for path in pathlib.Path(__file__).with_name("guest").glob("test_*.py"))


@pytest.mark.parametrize("suite", SUITES)
def test_suite_in_the_guest(tmp_path, suite):
    argv = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "-p", "no:logging"]
    environment = f"PYTHONPATH={REPO}/_utils:{REPO}/tests PYTEST_DISABLE_PLUGIN_AUTOLOAD=1".split()
    with Machine(tmp_path / "share", modules=("loop", "dm-log-writes")) as machine:
        # from its own directory, so the conftest of the host's suites is not loaded
        where = ["env", f"--chdir={REPO}/tests/uml/guest", *environment]
        status, output = machine.run(*where, *argv, "-c", "/dev/null", "--rootdir=.", suite, timeout=1200)
    assert status == 0, output
