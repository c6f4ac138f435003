"""The types that describe an instance of Gravity."""

import pytest

from galaxy_gravity_instance import DEFAULT_NAME, Instance, Program
from galaxy_service import Role

PATHS = dict.fromkeys(("galaxy_root", "virtualenv", "data_dir", "log_dir", "state_dir"))


@pytest.mark.parametrize(
    ("name", "several", "is_named"),
    [(DEFAULT_NAME, False, False), (DEFAULT_NAME, True, True), ("main", False, True), ("main", True, True)],
)
def test_a_name_counts_where_it_is_given_or_one_of_several(name, several, is_named):
    instance = Instance("/g.yml", name, "systemd", "/g.yml", **PATHS, is_one_of_several=several)
    assert instance.is_named is is_named


def test_no_text_shows_an_environment():
    program = Program("celery", Role.CELERY, "celery", "celery", environment={"BROKER": "redis://:hunter2@h"})
    assert "hunter2" not in f"{program} {program!r}"
    assert program.environment["BROKER"].endswith("hunter2@h")
    assert len({program, program}) == 1
