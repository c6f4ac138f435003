"""Salt in the layout of its own packages: a Python of its own below /opt, and none of it on the PATH."""

import json
import subprocess
import sys
import sysconfig

import pytest
from support.masterless import Masterless


@pytest.fixture
def onedir(tmp_path):
    """``python3`` of a Salt in its own directory."""
    home = tmp_path / "opt" / "saltstack" / "salt"
    subprocess.run([sys.executable, "-m", "venv", "--copies", "--without-pip", home], check=True)
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "salt.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return home / "bin" / "python3"


def test_galaxy_is_declared_by_a_salt_of_its_own_python(onedir, make_site, supervisord, tree, tmp_path):
    site = make_site(processes=1, mule=None, farm=None)
    supervisord.program("galaxy", site.command)
    supervisord.start()
    keys = {**site.keywords, "manager": "supervisord", "conf_file": str(supervisord.conf_file), "timeout": 300}
    machine = Masterless(tmp_path / "minion", tree, keys)

    def call(*words):
        argv = [onedir, *machine.argv("--out=json", *words)]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        done = subprocess.run(argv, check=True, capture_output=True, text=True, env=environment)
        return json.loads(done.stdout)["local"]

    call("saltutil.sync_all")
    assert call("grains.get", "pythonexecutable") == str(onedir)
    assert call("galaxy.status")["running"] is False
    first, second = (list(call("state.apply", "galaxy").values()) for _ in range(2))
    assert {state["result"] for state in (*first, *second)} == {True}
    assert [state["changes"] for state in second if state["changes"]] == []
    assert call("galaxy.status")["ready"] is True
