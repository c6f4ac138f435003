"""``test=True`` refuses what the run refuses, with the same words."""

import pytest
from conftest import BACKUPS, CHEAP, fails, sh

import luks_device


def test_a_device_that_is_too_small_stays_blank(state, new_device, key, mount_point):
    for size, version in (("64K", 1), ("2M", 1), ("1M", 2), ("16M", 2)):
        device = new_device(size)
        arguments = {"device": device, "key": key, "mapper": "galaxy", "backups": BACKUPS, "version": version}
        fails(state, "luks.mounted", "too small", name=mount_point, encrypt=True, **arguments, iterations=1000)
        alone = {"key": key, "backups": BACKUPS, "version": version, "iterations": 1000}
        fails(state, "luks.formatted", "too small", name=device, **alone)
        assert luks_device.signatures(device) == ()


@pytest.mark.parametrize(
    ("option", "match"),
    [
        ({"cipher": "aes-nonsense-plain64"}, "cryptsetup cannot make"),
        ({"key_size": 100}, "cryptsetup cannot make"),
        ({"hash": "nonsense"}, "cryptsetup cannot make"),
        ({"iterations": 1}, "cryptsetup cannot make"),
        ({"mkfs_options": ["--nonsense"]}, "mkfs.ext4 refuses"),
        ({"mkfs_options": ["-b", "3"]}, "mkfs.ext4 refuses"),
        ({"mount_options": ["no-such-option"]}, "mount refuses"),
        ({"filesystem": "ntfs"}, "not a filesystem that this tree makes"),
        ({"key": "/nonexistent"}, "cannot be read"),
        ({"key": "pillar://none"}, "holds nothing, not a passphrase"),
        ({"key": "pillar://empty"}, "passphrase is empty"),
        ({"key": "pillar://number"}, "quote it in YAML"),
        ({"key": "prompt"}, "no terminal"),
        ({"mapper": "control"}, "and not `control`"),
        ({"backups": "/proc/none"}, "backup"),
        ({"nonempty": "hide"}, "give refuse or move"),
        ({"keep": 0}, "keep is 0"),
    ],
)
def test_what_a_run_would_refuse_a_test_run_refuses(state, plan, option, match):
    arguments = {name: value for name, value in (plan | option).items() if name != "mount_point"}
    fails(state, "luks.mounted", match, name=plan["mount_point"], encrypt=True, **arguments)
    assert luks_device.signatures(plan["device"]) == ()


@pytest.mark.parametrize(
    ("option", "match"),
    [
        ({"cipher": "aes-nonsense-plain64"}, "cryptsetup cannot make"),
        ({"key_size": 100}, "cryptsetup cannot make"),
        ({"pbkdf": "nonsense"}, "`pbkdf` of LUKS2 is one of"),
        ({"key": "/nonexistent"}, "cannot be read"),
        ({"key": "pillar://none"}, "holds nothing, not a passphrase"),
        ({"key": "pillar://empty"}, "passphrase is empty"),
        ({"key": "prompt"}, "no terminal"),
        ({"backups": "/proc/none"}, "backup"),
    ],
)
def test_of_a_format_too(state, device, key, option, match):
    fails(state, "luks.formatted", match, name=device, **({"key": key, "backups": BACKUPS, **CHEAP} | option))
    assert luks_device.signatures(device) == ()


def test_a_device_in_use_is_not_formatted(state, device, key, tmp_path):
    wanted = {"name": device, "key": key, "backups": BACKUPS, **CHEAP}
    sh("dmsetup", "create", "linear", input=f"0 2048 linear {device} 0\n")
    fails(state, "luks.formatted", "held by the mapper linear", **wanted)
    sh("dmsetup", "remove", "linear")
    sh("mkfs.ext4", "-q", device)
    (tmp_path / "other").mkdir()
    sh("mount", device, str(tmp_path / "other"))
    fails(state, "luks.formatted", "in use: mounted", **wanted)


def test_a_last_key_stays_in_however_many_slots_it_is(state, closed):
    argv = ["cryptsetup", "luksAddKey", "-q", f"--key-file={closed['key']}", "--pbkdf-force-iterations=1000"]
    sh(*argv, closed["device"], closed["key"])
    fails(state, "luks.key_absent", "this is the last key", name=closed["device"], key=closed["key"], backups=BACKUPS)


def test_a_key_slot_that_the_version_does_not_have(state, closed, wrong_key):
    keys = {"new_key": wrong_key, "key": closed["key"], "backups": BACKUPS, "pbkdf": "argon2id"}
    fails(state, "luks.key_present", "is LUKS1: `pbkdf` is pbkdf2", name=closed["device"], **keys)


@pytest.mark.slow
def test_full_slots_of_luks2_are_told_before(state, call, device, key, wrong_key):
    call("luks.format", device, key=key, backups=BACKUPS, **CHEAP)
    cheap = ["--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"]
    for number in range(31):
        sh("cryptsetup", "luksAddKey", "-q", f"--key-file={key}", *cheap, device, "-", input=f"key {number}")
    fails(state, "luks.key_present", "all key slots", name=device, new_key=wrong_key, key=key, backups=BACKUPS)


def test_full_slots_are_told_before(state, call, device, key, wrong_key, tmp_path):
    cheap = {"backups": BACKUPS, "version": 1, "iterations": 1000}
    call("luks.format", device, key=key, **cheap)
    for number in range(7):
        argv = ["cryptsetup", "luksAddKey", "-q", f"--key-file={key}", "--pbkdf-force-iterations=1000", device, "-"]
        sh(*argv, input=f"key {number}")
    fails(state, "luks.key_present", "all key slots", name=device, new_key=wrong_key, key=key, backups=BACKUPS)


def test_key_files_that_cannot_be(state, tmp_path):
    (tmp_path / "directory").mkdir()
    (tmp_path / "dangling").symlink_to("/nonexistent/file")
    for path in ("directory", "dangling"):
        fails(state, "luks.key_file", "already is", name=str(tmp_path / path))
    for path in ("relative/key", "/proc/none/key", f"{tmp_path}/directory/../../none\0"):
        for test in (True, False):
            assert state("luks.key_file", path, test=test)["result"] is False


def test_backups_that_cannot_be_written(state, closed, wanted, wrong_key, tmp_path):
    (tmp_path / "readonly").mkdir()
    sh("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(tmp_path / "readonly"))
    try:
        for backups in (f"{tmp_path}/readonly", f"{tmp_path}/readonly/none/either", "/proc/none", closed["key"]):
            fails(state, "luks.mounted", "header backup", **(wanted | {"backups": backups}))
            keys = {"new_key": wrong_key, "key": closed["key"], "iterations": 1000, "backups": backups}
            fails(state, "luks.key_present", "header backup", name=closed["device"], **keys)
    finally:
        sh("umount", str(tmp_path / "readonly"))
