"""Shared by all suites: where the tree is, its ``_utils`` on the path as Salt's loader puts them, real servers."""

import logging
import pathlib
import sys

import pytest

_TESTS = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(_TESTS.parent / "_utils"), str(_TESTS)]

from support.site import Site  # noqa: E402
from support.supervisord import Supervisord  # noqa: E402


@pytest.fixture
def make_site(tmp_path):
    """A function that lays out a Galaxy with the given uWSGI options; what it starts ends with the test."""
    made = []

    def make(**options):
        made.append(Site(tmp_path / f"galaxy{len(made)}", **options))
        return made[-1]

    yield make
    for site in made:
        site.stop()


@pytest.fixture
def supervisord(tmp_path):
    """A real supervisord, not started yet."""
    found = Supervisord(tmp_path / "supervisor")
    yield found
    found.stop()


def pytest_unconfigure():
    # Salt keeps records for a console that is never set up, and would flush them into pytest's closed stream
    logging.raiseExceptions = False
