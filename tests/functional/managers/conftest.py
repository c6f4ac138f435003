"""A machine with systemd, and a site that this machine and the container both see."""

import pathlib
import shutil
import tempfile

import pytest
from support.nspawn import machines, shares
from support.site import Site


@pytest.fixture(scope="session")
def share():
    yield from shares()


@pytest.fixture(scope="session")
def machine(share):
    yield from machines("galaxy-managers", share)


@pytest.fixture
def shared_site(share):
    site = Site(pathlib.Path(tempfile.mkdtemp(prefix="site-", dir=share)) / "galaxy")
    yield site
    shutil.rmtree(site.root.parent)
