"""The slow tests of the suites in ``guest/``."""

import pytest
from test_guest import GUEST, SUITES, run

SLOW = [name for name in SUITES if "mark.slow" in (GUEST / name).read_text()]


@pytest.mark.slow
@pytest.mark.parametrize("suite", SLOW)
def test_what_is_slow_of_a_suite(tmp_path, suite):
    run(tmp_path / "share", suite, "slow", 2400)
