"""The real loader over the synced tree, as a masterless minion has it: fixtures."""

import subprocess

import pytest
import salt.config
import salt.loader

from .site import BIN


@pytest.fixture(scope="session")
def minion_config(tmp_path_factory, tree):
    """A masterless minion's configuration directory; the tree is synced as a user does it."""
    root = tmp_path_factory.mktemp("minion")
    (root / "pillar").mkdir()
    (root / "pillar" / "top.sls").write_text("base:\n  '*':\n    - galaxy\n")
    (root / "pillar" / "galaxy.sls").write_text("{}\n")
    (root / "minion").write_text(
        f"root_dir: {root}\nfile_client: local\nid: functional\n"
        f"file_roots:\n  base:\n    - {tree}\n    - {tree / 'formulas'}\n"
        f"pillar_roots:\n  base:\n    - {root / 'pillar'}\n"
    )
    argv = [BIN / "salt-call", "--local", "-c", root, "saltutil.sync_all", "--out=quiet"]
    subprocess.run(argv, check=True, capture_output=True)
    return root


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
