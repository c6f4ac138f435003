"""Shared by all suites: where the tree is, its ``_utils`` on the path as Salt's loader puts them, real servers."""

import logging
import pathlib
import sys
import tempfile

import pytest

_TESTS = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(_TESTS.parent / "_utils"), str(_TESTS)]

from support.bed import beds  # noqa: E402
from support.masterless import copy_tree  # noqa: E402
from support.site import Site, makers  # noqa: E402
from support.supervisord import Supervisord  # noqa: E402


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """The tree as the master serves it: a copy, so that a test may change it."""
    return copy_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="session")
def salt_factories_default_root_dir():
    """Of this run alone: the scripts that salt-factories writes there belong to one Salt. Short, for unix sockets."""
    with tempfile.TemporaryDirectory(prefix="salt-") as path:
        yield pathlib.Path(path).resolve()


@pytest.fixture
def make_site(tmp_path):
    """A function that lays out a Galaxy with the given uWSGI options; what it starts ends with the test."""
    yield from makers(tmp_path, Site)


@pytest.fixture
def make_bed():
    """A function that lays out a small Galaxy under the real Gravity; what it starts ends with the test."""
    yield from beds()


@pytest.fixture
def supervisord(tmp_path):
    """A real supervisord, not started yet."""
    found = Supervisord(tmp_path / "supervisor")
    yield found
    found.stop()


def pytest_unconfigure():
    # Salt keeps records for a console that is never set up, and would flush them into pytest's closed stream
    logging.raiseExceptions = False
