"""
The whole life of a volume by ``salt-call --local`` and the formula, on a machine that is switched off in between.
"""

import json
import pathlib
import sys

import pytest
from machine import Machine

REPO = pathlib.Path(__file__).resolve().parents[2]
SALT_CALL = str(pathlib.Path(sys.executable).with_name("salt-call"))
PASSPHRASE = "correct horse battery staple"


@pytest.fixture
def share(tmp_path):
    share = tmp_path / "share"
    (share / "etc").mkdir(parents=True)
    (share / "pillar").mkdir()
    config = {
        "id": "guest",
        "file_client": "local",
        "root_dir": "/run/salt",
        "module_dirs": [str(REPO / "_modules")],
        "states_dirs": [str(REPO / "_states")],
        "utils_dirs": [str(REPO / "_utils")],
        "file_roots": {"base": [str(REPO / "formulas")]},
        "pillar_roots": {"base": ["/run/share/pillar"]},
    }
    (share / "etc/minion").write_text(json.dumps(config))
    (share / "pillar/top.sls").write_text(json.dumps({"base": {"*": ["storage"]}}))
    storage = {
        "device": "/dev/ubdb",
        "encrypt": True,
        "mapper": "galaxy",
        "mount_point": "/run/export",
        "passphrase": PASSPHRASE,
        "backups": "/run/share/backups",
        "luks": {"pbkdf": "pbkdf2", "iterations": 1000},
        # the guest's root is read-only, and it has them
        "packages": [],
        "directories": ["database"],
        "user": "nobody",
        "group": "nogroup",
        "mode": "0750",
    }
    (share / "pillar/storage.sls").write_text(json.dumps({"galaxy": {"storage": storage}}))
    return share


@pytest.fixture
def disk(tmp_path):
    disk = tmp_path / "disk"
    with open(disk, "wb") as file:
        file.truncate(64 << 20)
    return disk


def salt_call(machine, *argv):
    """Exit status and returned data."""
    status, output = machine.run(
        SALT_CALL, "--local", "--config-dir=/run/share/etc", "--out=json", "--log-level=quiet", *argv
    )
    return status, json.loads(output)["local"]


def apply(machine, sls, *argv):
    """Apply an SLS; its changes by state ID."""
    status, result = salt_call(machine, "state.apply", sls, *argv)
    assert isinstance(result, dict), result
    failed = [state["comment"] for state in result.values() if state["result"] is False]
    assert status == 0, failed
    assert failed == []
    return {state["__id__"]: state["changes"] for state in result.values() if state["changes"]}


def test_life_of_a_volume(share, disk):
    with Machine(share, disk) as machine:
        planned = apply(machine, "galaxy.storage", "test=True")
        assert list(planned["galaxy-storage-volume-mounted"]) == ["format", "mkfs", "header_backup", "open", "mount"]
        assert disk.read_bytes().count(0) == disk.stat().st_size

        made = apply(machine, "galaxy.storage")
        assert made["galaxy-storage-volume-mounted"] == planned["galaxy-storage-volume-mounted"]
        assert apply(machine, "galaxy.storage") == {}
        code, output = machine.run("sh", "-c", "stat -c '%U:%G %a' /run/export /run/export/database; mount")
        assert output.splitlines()[:2] == ["nobody:nogroup 750"] * 2
        assert code == 0
        assert "/dev/mapper/galaxy on /run/export type ext4" in output
        machine.run("sh", "-c", "seq 100000 > /run/export/database/file; sync")

        assert salt_call(machine, "luks.close", "galaxy") == (0, True)
        machine.power_off()
    assert PASSPHRASE.encode() not in disk.read_bytes()

    with Machine(share, disk) as machine:
        opened = apply(machine, "galaxy.storage")
        assert list(opened["galaxy-storage-volume-mounted"]) == ["open", "mount"]
        code, output = machine.run("sh", "-c", "seq 100000 | cmp - /run/export/database/file")
        assert (code, output) == (0, "")
        backups = list((share / "backups").iterdir())
        assert [path.stat().st_mode & 0o777 for path in backups] == [0o600]
