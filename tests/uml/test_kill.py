"""The short form of the kill test; ``make killtest`` is the long one."""

import killtest


def test_every_kill_converges_and_loses_nothing(tmp_path):
    kills = killtest.run(12, tmp_path)
    print(killtest.report(kills))
    assert len(kills) == 12
    assert sum(kill.held != "nothing" for kill in kills) >= 5
