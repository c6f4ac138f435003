"""For all suites: where the tree is, ``_utils`` on the path, as Salt's loader has it, and real servers."""

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
    """The tree as the master serves it. It is a copy, so that a test may change it."""
    return copy_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="session")
def salt_factories_default_root_dir():
    """A directory of this run alone, since salt-factories writes scripts of one Salt there. Short, for unix sockets."""
    with tempfile.TemporaryDirectory(prefix="salt-") as path:
        yield pathlib.Path(path).resolve()


@pytest.fixture
def make_site(tmp_path):
    """A function that makes a Galaxy with the given uWSGI options. What it starts ends with the test."""
    yield from makers(tmp_path, Site)


@pytest.fixture
def make_bed():
    """A function that makes a small Galaxy under the real Gravity. What it starts ends with the test."""
    yield from beds()


@pytest.fixture
def supervisord(tmp_path):
    """A real supervisord, which is not started yet."""
    found = Supervisord(tmp_path / "supervisor")
    yield found
    found.stop()


def pytest_unconfigure():
    # Salt keeps records for a console that is never set up. At the end it would write them to pytest's closed stream
    logging.raiseExceptions = False
