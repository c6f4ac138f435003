"""Fixtures: Salt's real loader with the synced tree, as on a masterless minion."""

import pytest
import salt.config
import salt.loader

from .masterless import Masterless


@pytest.fixture(scope="session")
def minion_config(tmp_path_factory, tree):
    """The configuration directory of a masterless minion. The tree is synced in the way that users do it."""
    minion = Masterless(tmp_path_factory.mktemp("minion"), tree)
    minion.call("saltutil.sync_all")
    return minion.root


@pytest.fixture(scope="session")
def opts(minion_config):
    """Salt's options of that minion."""
    found = salt.config.minion_config(str(minion_config / "minion"))
    found["grains"] = salt.loader.grains(found)
    return found


@pytest.fixture
def modules(opts):
    """``__salt__`` of that minion."""
    return salt.loader.minion_mods(dict(opts), utils=salt.loader.utils(dict(opts)), context={})
