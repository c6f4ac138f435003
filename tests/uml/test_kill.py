"""Short forms of the kill test and of the lost writes. ``make killtest`` is the long form."""

import flushes
import killtest
import lostwrites
import pytest

# make runs two guests at a time, so one is enough here
KILLED = ("mounted_blank", "change_key")


def test_every_kill_converges_and_loses_nothing(tmp_path):
    kills = killtest.run(2, tmp_path, lanes=1, operations=KILLED)
    print(killtest.report(kills))
    assert sorted(kill.operation for kill in kills) == sorted(KILLED)


def test_every_image_converges_and_loses_nothing(tmp_path):
    boots = lostwrites.run(4, tmp_path, lanes=1, operations=("key_absent",))
    assert sum(boots.values()) == 4


# what is left out, a function or a flush (``flushes.py``): the operation that shows it, and how
NEEDED = {
    "luks_backup.record_removal": ("key_absent", "AssertionError"),
    "luks_blank.mark": ("encrypt", "not completed"),
    "luks_backup.record_removal:1": ("key_absent", "not a record of removed keys"),
    "luks_backup.record_removal:2": ("key_absent", "AssertionError"),
    "luks_backup._write:1": ("header_backup", "luksUUID"),
    "luks_backup._write:2": ("header_backup", "it was over"),
    "luks_backup._write_header:1": ("header_replaced", "AssertionError"),
    "luks_backup._write_header:2": ("header_restore", "AssertionError"),
    "luks_backup._write_header:3": ("header_restore", "it was over"),
    "galaxy_host_key.generate_file:1": ("written", "it was over"),
    "galaxy_host_key.generate_file:2": ("written", "it was over"),
}
# another test shows that these are needed
ELSEWHERE = {
    "luks_rekeyed.complete:1": "tests/unit/test_luks_rekeyed.py",
    "luks_rekeyed._erase:1": "tests/unit/test_luks_rekeyed.py",
    "luks_blank._write_last:1": "tests/unit/test_luks_blank.py",
}


def test_each_flush_is_shown_to_be_needed():
    assert {*flushes.all_of_them()} == {name for name in NEEDED if ":" in name} | {*ELSEWHERE}


@pytest.mark.slow
@pytest.mark.parametrize("without", NEEDED)
def test_each_step_is_needed(tmp_path, without):
    """Without this step, an image does not converge, has half a backup, or lacks what was promised."""
    operation, match = NEEDED[without]
    with pytest.raises(AssertionError, match=match):
        lostwrites.run(40, tmp_path, operations=(operation,), without=without, seed=4)
