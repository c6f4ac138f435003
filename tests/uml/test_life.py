"""
The whole life of a volume, with ``salt-call --local`` and the formula. The machine is switched off in between.
"""

import pytest
from machine import Machine
from masterless import apply, configure, salt_call

PASSPHRASE = "correct horse battery staple"


@pytest.fixture
def share(tmp_path):
    share = tmp_path / "share"
    storage = {
        "device": "/dev/ubdb",
        "encrypt": True,
        "mount_point": "/run/export",
        "passphrase": PASSPHRASE,
        "luks": {"pbkdf": "pbkdf2", "iterations": 1000},
        "directories": ["database"],
        "user": "nobody",
        "group": "nogroup",
        "mode": "0750",
    }
    configure(share, storage)
    return share


@pytest.fixture
def disk(tmp_path):
    disk = tmp_path / "disk"
    with open(disk, "wb") as file:
        file.truncate(64 << 20)
    return disk


def test_a_volume_is_made(share, disk):
    with Machine(share, disk) as machine:
        planned = apply(machine, "galaxy.storage", "test=True")
        assert list(planned["galaxy-storage-volume-mounted"]) == ["format", "mkfs", "header_backup", "open", "mount"]
        assert disk.read_bytes().count(0) == disk.stat().st_size

        made = apply(machine, "galaxy.storage")
        assert made["galaxy-storage-volume-mounted"] == planned["galaxy-storage-volume-mounted"]
        code, output = machine.run("sh", "-c", "stat -c '%U:%G %a' /run/export /run/export/database; mount")
        assert output.splitlines()[:2] == ["nobody:nogroup 750"] * 2
        assert code == 0
        assert "/dev/mapper/galaxy on /run/export type ext4" in output
        machine.run("sync")
    assert PASSPHRASE.encode() not in disk.read_bytes()


@pytest.mark.slow
def test_life_of_a_volume(share, disk):
    with Machine(share, disk) as machine:
        apply(machine, "galaxy.storage")
        assert apply(machine, "galaxy.storage") == {}
        opens = f"printf '{PASSPHRASE}' | cryptsetup open --test-passphrase --key-file=- /dev/ubdb"
        assert machine.run("sh", "-c", opens) == (0, "")
        machine.run("sh", "-c", "seq 100000 > /run/export/database/file; sync")

        assert salt_call(machine, "luks.close", "galaxy") == (0, True)
        machine.power_off()

    with Machine(share, disk) as machine:
        opened = apply(machine, "galaxy.storage")
        assert list(opened["galaxy-storage-volume-mounted"]) == ["open", "fsck", "mount"]
        code, output = machine.run("sh", "-c", "seq 100000 | cmp - /run/export/database/file")
        assert (code, output) == (0, "")
        backups = list((share / "backups").iterdir())
        assert [path.stat().st_mode & 0o777 for path in backups] == [0o600]
