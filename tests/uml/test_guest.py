"""
The suites in ``guest/`` run inside the guest, two machines side by side.
"""

import concurrent.futures
import pathlib
import sys

import pytest
from machine import Machine

REPO = pathlib.Path(__file__).resolve().parents[2]
SUITES = sorted(path.name for path in pathlib.Path(__file__).with_name("guest").glob("test_*.py"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Exit status and output of each suite, as they come."""

    # made here: the factory is not for threads
    root = tmp_path_factory.mktemp("share")

    def run(suite):
        argv = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "-p", "no:logging"]
        environment = f"PYTHONPATH={REPO}/_utils:{REPO}/tests PYTEST_DISABLE_PLUGIN_AUTOLOAD=1".split()
        with Machine(root / suite, modules=("loop",)) as machine:
            # from its own directory, so the conftest of the host's suites is not loaded
            where = ["env", f"--chdir={REPO}/tests/uml/guest", *environment]
            return machine.run(*where, *argv, "-c", "/dev/null", "--rootdir=.", suite, timeout=600)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        yield {suite: pool.submit(run, suite) for suite in SUITES}


@pytest.mark.parametrize("suite", SUITES)
def test_suite_in_the_guest(runs, suite):
    status, output = runs[suite].result()
    assert status == 0, output
