"""Fixtures: Salt's real loader with the synced tree, as on a masterless minion."""

import subprocess

import pytest
import salt.loader
from support import onedata
from support.loader import minion_config, modules, opts  # noqa: F401


@pytest.fixture
def state(opts, modules):  # noqa: F811
    """Run one state: ``state("galaxy.running", test=True, …)`` returns what the state returns."""

    def run(function, test=False, **kwargs):
        states = salt.loader.states(dict(opts, test=test), modules, {}, {}, context={})
        return states[function]("galaxy", **kwargs)

    return run


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """``oneclient`` is on PATH. At the end, every mount below ``tmp_path`` is removed."""
    monkeypatch.setenv("PATH", onedata.install(tmp_path / "bin"))
    yield tmp_path
    for name in ["userdata", "refdata"] * 3:
        subprocess.run(["umount", "--lazy", tmp_path / name], capture_output=True, check=False)
