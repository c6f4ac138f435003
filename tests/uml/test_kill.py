"""The short forms of the kill test and of the lost writes; ``make killtest`` is the long one."""

import killtest
import lostwrites
import pytest

# make runs two guests at a time; so one is enough here
KILLED = ("mounted_blank", "change_key")


def test_every_kill_converges_and_loses_nothing(tmp_path):
    kills = killtest.run(2, tmp_path, lanes=1, operations=KILLED)
    print(killtest.report(kills))
    assert sorted(kill.operation for kill in kills) == sorted(KILLED)


def test_every_image_converges_and_loses_nothing(tmp_path):
    boots = lostwrites.run(4, tmp_path, lanes=1, operations=("key_absent",))
    assert sum(boots.values()) == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("operation", "without", "match"),
    [
        ("header_backup", "luks_device.sync", "luksUUID"),
        ("key_absent", "luks_backup.record_removal", "AssertionError"),
        ("encrypt", "luks_blank.mark", "not completed"),
    ],
)
def test_each_step_is_needed(tmp_path, operation, without, match):
    """Without it, one of the images does not converge, or has half a backup."""
    with pytest.raises(AssertionError, match=match):
        lostwrites.run(40, tmp_path, operations=(operation,), without=without, seed=4)
