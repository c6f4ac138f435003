"""The lines of docs/migration.md about volumes, with a volume like those of the old scripts."""

import json
import pathlib
import shutil

import pytest
import salt.client
from conftest import CHEAP, REPO, sh
from support import migration

UUID = "0ad6c58f-3798-440f-818c-5a5bea96859f"
KEY, DEVICE, EXPORT = "/etc/luks/galaxy.key", "/dev/vdb", "/export"
ROWS = migration.rows("luksctl")
# commands after which a volume is open and mounted
OPEN = [row for row in ROWS if "luksctl open" in row[0]]
REST = [row for row in ROWS if "luksctl open" not in row[0] and "fastluks" not in row[0] and "`-" not in row[0]]


@pytest.fixture
def places(device, key, mount_point, tmp_path):
    """By a path of the page: the path in this test."""
    return {KEY: key, DEVICE: device, EXPORT: mount_point, "/var/backups/luks": str(tmp_path / "backups")}


@pytest.fixture
def old(device, key, mount_point, tmp_path):
    """A volume as fastluks made it, with its ``luks-cryptdev.ini``. Returns a caller with the page's pillar."""
    options = ["--type=luks1", "--cipher=aes-xts-plain64", "--key-size=256", "--hash=sha256", "--batch-mode"]
    options += [f"--uuid={UUID}", "--pbkdf-force-iterations=1000"]
    sh("cryptsetup", "luksFormat", *options, f"--key-file={key}", device)
    sh("cryptsetup", "open", f"--key-file={key}", device, "crypt")
    sh("mkfs.ext4", "-q", "/dev/mapper/crypt")
    sh("cryptsetup", "close", "crypt")
    ini = tmp_path / "luks-cryptdev.ini"
    ini.write_text(
        f"[luks]\ncipher_algorithm = aes-xts-plain64\nhash_algorithm = sha256\nkeysize = 256\ndevice = {device}\n"
        f"uuid = {UUID}\ncryptdev = crypt\nmapper = /dev/mapper/crypt\nmountpoint = {mount_point}\nfilesystem = ext4\n"
    )
    storage = migration.pillar()["storage"]
    assert storage == {"cryptdev_ini": "/etc/luks/luks-cryptdev.ini", "key": KEY}
    storage = {"cryptdev_ini": str(ini), "key": key, "packages": [], "user": "root", "group": "root"}
    (tmp_path / "pillar").mkdir()
    (tmp_path / "pillar/top.sls").write_text(json.dumps({"base": {"*": ["galaxy"]}}))
    galaxy = {"storage": {**storage, "backups": str(tmp_path / "backups")}}
    (tmp_path / "pillar/galaxy.sls").write_text(json.dumps({"galaxy": galaxy}))
    config = {
        **{"id": "guest", "file_client": "local", "root_dir": str(tmp_path)},
        **{f"{kind}_dirs": [str(REPO / f"_{kind}")] for kind in ("states", "utils")},
        "module_dirs": [str(REPO / "_modules")],
        "file_roots": {"base": [str(REPO / "formulas")]},
        "pillar_roots": {"base": [str(tmp_path / "pillar")]},
    }
    (tmp_path / "minion").write_text(json.dumps(config))
    return salt.client.Caller(c_path=str(tmp_path / "minion")), ini


def test_all_lines_are_here():
    assert len(OPEN) == 2
    assert len(REST) == 3
    assert len(ROWS) == 9


@pytest.mark.parametrize(("before", "now"), OPEN)
def test_open(old, places, device, mount_point, before, now):
    caller, _ = old
    migration.run(caller, now, **places)
    found = caller.cmd("luks.status", device)
    assert (found["mapper"], found["filesystem"]) == ("crypt", "ext4")
    assert [mount["target"] for mount in found["mounts"]] == [mount_point]


def test_status_close_and_the_file(old, places, device, key, mount_point):
    caller, ini = old
    caller.cmd("luks.open", device, "crypt", key=key, mount_point=mount_point)
    found = [migration.run(caller, now, **places) for _, now in REST[:2]]
    assert (found[0]["open"], found[0]["version"], found[0]["device"]) == (True, 1, device)
    assert found[1] is True
    assert caller.cmd("luks.open_volumes") == {}
    assert REST[2][1] == "salt-call luks.from_cryptdev_ini"
    described = caller.cmd("luks.from_cryptdev_ini", str(ini))
    assert (described["device"], described["mapper"], described["mount_point"]) == (
        f"UUID={UUID}",
        "crypt",
        mount_point,
    )


def test_fastluks(caller, places, device, key):
    generate, *encrypt, backup = [now for before, now in ROWS if "fastluks" in before or "`-" in before]
    pathlib.Path(key).unlink()
    assert migration.run(caller, generate, **places) == key
    assert len(encrypt) == 2
    for line, version, size in zip(encrypt, (2, 1), (512, 256), strict=True):
        # a quick key derivation; LUKS1 has only pbkdf2
        cheap = CHEAP if version == 2 else {"iterations": CHEAP["iterations"]}
        words = " ".join(f"{name}={value}" for name, value in cheap.items())
        where = f"backups={places['/var/backups/luks']}"
        assert migration.run(caller, f"{line} {words} {where}", **places)[0] == "format"
        found = caller.cmd("luks.status", device)
        assert (found["version"], found["key_size"], found["mapper"]) == (version, size, "crypt")
        if version == 2:
            caller.cmd("luks.close", "crypt")
            sh("blkdiscard", device)
            shutil.rmtree(places["/var/backups/luks"])
    path = migration.run(caller, backup, **places)
    assert pathlib.Path(path).parent == pathlib.Path(places["/var/backups/luks"])
