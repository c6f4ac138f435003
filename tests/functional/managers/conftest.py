"""A machine with systemd, and a site that both sides see."""

import pathlib
import shutil
import tempfile

import pytest
from support.nspawn import Machine
from support.site import Site


@pytest.fixture(scope="session")
def share():
    path = pathlib.Path(tempfile.mkdtemp(prefix="galaxy-share-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def machine(share):
    # not below /tmp of the overlay's own lower side
    root = pathlib.Path(tempfile.mkdtemp(prefix="galaxy-machine-"))
    machine = Machine("galaxy-managers", root / "machine", share)
    try:
        yield machine.start()
    finally:
        machine.stop()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def shared_site(share):
    site = Site(pathlib.Path(tempfile.mkdtemp(prefix="site-", dir=share)) / "galaxy")
    yield site
    shutil.rmtree(site.root.parent)
