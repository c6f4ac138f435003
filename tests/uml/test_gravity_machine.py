"""
A whole machine without a master, whose Galaxy runs under Gravity: systemd is PID 1, Galaxy's data is on a LUKS volume,
and after a boot nothing of it starts before that is mounted.
"""

import functools
import json
import os
import subprocess

import masterless
import pytest
from machine import Machine
from masterless import SALT_CALL
from support.bed import beds, virtualenv

from galaxy_host_wait import Deadline, wait_until

pytestmark = pytest.mark.slow

KEY_FILE = "/etc/luks/galaxy.key"
UNITS = ("galaxy-gunicorn", "galaxy-handler")
salt_call = functools.partial(masterless.salt_call, config_dir="/etc/salt")
apply = functools.partial(masterless.apply, config_dir="/etc/salt")


@pytest.fixture(scope="module")
def bed():
    # the guest sees what is there before it is
    virtualenv("bed")
    makers = beds()
    yield next(makers)(manager="systemd", handlers=1, galaxy={"data_dir": "/export/database"})
    makers.close()


@pytest.fixture(scope="module")
def machine(tmp_path_factory, bed, tree):
    root = tmp_path_factory.mktemp("gravity")
    system, disk, share = (root / name for name in ("system", "disk", "share"))
    for image, size in ((system, 512 << 20), (disk, 64 << 20)):
        with open(image, "wb") as file:
            file.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-F", system], check=True)
    storage = {
        **{"device": "/dev/ubdb", "encrypt": True, "key": KEY_FILE, "directories": ["database"]},
        **{"luks": {"pbkdf": "pbkdf2", "iterations": 1000}, "packages": ["cryptsetup-bin", "e2fsprogs"]},
        **{"user": bed.user, "group": bed.user},
    }
    galaxy = {
        **{"config": str(bed.config), "gravity_update": True, "timeout": 300, "retries": 0, "storage": storage},
        "boot": {"salt_call": SALT_CALL},
    }
    minion = {
        **{"id": "gravity", "file_client": "local", "pillar_roots": {"base": ["/etc/salt/pillar"]}},
        "file_roots": {"base": [str(tree), str(tree / "formulas")]},
    }
    top = {"base": {"*": ["galaxy"]}}
    for name, content in (("minion", minion), ("pillar/top.sls", top), ("pillar/galaxy.sls", {"galaxy": galaxy})):
        path = share / "salt" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    (share / "key").write_bytes(os.urandom(64))
    with Machine(share, disk, system=system) as found:
        _run(found, "cp", "-r", "/run/share/salt", "/etc")
        _run(found, "install", "-D", "-m", "600", "/run/share/key", KEY_FILE)
        yield found


def _run(machine, *argv):
    status, output = machine.run(*argv)
    assert status == 0, output
    return output


def _show(machine, unit, *properties):
    lines = _run(machine, "systemctl", "show", f"--property={','.join(properties)}", unit).splitlines()
    found = dict(line.split("=", 1) for line in lines)
    return [found[name] for name in properties]


def test_volume_update_start_and_boot(machine, bed):
    assert salt_call(machine, "saltutil.sync_all")[0] == 0
    made = apply(machine, "galaxy,galaxy.boot.unit")
    # in this order
    names = [name for name in made if name.startswith(("galaxy-storage-volume", "galaxy-service"))]
    assert names == [
        *("galaxy-storage-volume-mounted", "galaxy-service-updated"),
        *("galaxy-service-running", "galaxy-service-held"),
    ]
    assert set(made["galaxy-service-held"]) == {
        f"/etc/systemd/system/{name}.service.d/salt-galaxy.conf" for name in UNITS
    }
    assert salt_call(machine, "galaxy.status")[1]["ready"] is True
    assert apply(machine, "galaxy,galaxy.boot.unit") == {}
    machine.reboot()
    _run(machine, "systemctl", "is-system-running", "--wait")
    status = salt_call(machine, "galaxy.status")[1]
    assert (status["ready"], status["problems"]) == (True, [])
    # it did not run before its data was there
    (mounted,) = _show(machine, "export.mount", "ActiveEnterTimestampMonotonic")
    for unit in UNITS:
        (started,) = _show(machine, unit, "InactiveExitTimestampMonotonic")
        assert 0 < int(mounted) < int(started)
    # nor does it where the volume cannot be opened
    _run(machine, "mv", KEY_FILE, "/root/key")
    machine.reboot()
    machine.run("systemctl", "is-system-running", "--wait")
    assert wait_until(lambda: _show(machine, "salt-galaxy-boot", "SubState") == ["auto-restart"], Deadline(300), 2)
    for unit in UNITS:
        assert _show(machine, unit, "ActiveState", "AssertResult") == ["inactive", "no"]
    _run(machine, "mv", "/root/key", KEY_FILE)
    _run(machine, "systemctl", "restart", "salt-galaxy-boot")
    assert salt_call(machine, "galaxy.status")[1]["ready"] is True
