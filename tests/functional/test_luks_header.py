"""Headers and keys with the real cryptsetup, on image files."""

import dataclasses
import json
import os
import pathlib
import subprocess

import pytest

import luks_backup
import luks_header
import luks_key
from galaxy_errors import CommandError, DeviceNotBlank, HeaderError, KeySlotError, WrongKey
from galaxy_host_secret import Secret

# a newline and a NUL are in the key, and must not end it
KEY = Secret(b"first\n\0key \xff")
OTHER = Secret("second key\n")
# the cheapest key derivation of each version
LUKS1 = luks_header.Options(version=1, iterations=1000)
LUKS2 = luks_header.Options(pbkdf="pbkdf2", iterations=1000)
OLD_SCRIPTS = luks_header.Options(version=1, key_size=256, hash="sha256", iterations=1000)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image"
    with open(path, "wb") as file:
        file.truncate(32 << 20)
    return str(path)


@pytest.fixture
def backups(tmp_path):
    return str(tmp_path / "backups")


@pytest.fixture
def place(backups):
    return luks_key.Place(backups)


@pytest.fixture(params=[LUKS1, LUKS2], ids=["luks1", "luks2"])
def volume(request, image):
    """A finished volume that KEY opens. ``request.param`` has its options."""
    luks_header.write(image, KEY, request.param)
    luks_header.finish(image)
    return image


@pytest.fixture
def options(request):
    return LUKS1 if "luks1" in request.node.name else LUKS2


@pytest.mark.parametrize(
    ("options", "version", "key_size", "pbkdf"),
    [(LUKS1, 1, 512, "pbkdf2"), (LUKS2, 2, 512, "pbkdf2"), (OLD_SCRIPTS, 1, 256, "pbkdf2")],
)
def test_a_new_volume_is_unfinished_until_it_is_finished(image, options, version, key_size, pbkdf):
    assert luks_header.read(image) is None
    luks_header.write(image, KEY, options)
    header = luks_header.read(image)
    assert (header.version, header.cipher, header.key_size) == (version, "aes-xts-plain64", key_size)
    assert header.slots == (luks_header.Slot(0, pbkdf),)
    assert header.unfinished
    with pytest.raises(HeaderError, match="unfinished"):
        luks_header.require(image)
    final = luks_header.finish(image)
    assert luks_header.require(image).uuid == final
    assert luks_header.opens(image, KEY)
    assert not luks_header.opens(image, OTHER)


def test_argon2id_is_the_default(image):
    luks_header.write(image, KEY, luks_header.Options(iterations=4, memory=32))
    assert luks_header.read(image).slots == (luks_header.Slot(0, "argon2id"),)


def test_one_torn_copy_of_a_luks2_header_is_repaired(image):
    luks_header.write(image, KEY, LUKS2)
    before = luks_header.read(image)
    with open(image, "r+b") as file:
        file.write(os.urandom(8192))
    assert luks_header.read(image) == before


def test_an_older_copy_never_calls_a_finished_volume_unfinished(image):
    """The power may fail between the writes of the two copies."""
    luks_header.write(image, KEY, LUKS2)
    with open(image, "rb") as file:
        file.seek(0x4000)
        copy = file.read(0x4000)
    final = luks_header.finish(image)
    with open(image, "r+b") as file:
        file.seek(0x4000)
        file.write(copy)
    assert luks_header.read(image).uuid == final
    # reading repaired the second copy, so it is right even if the first copy is lost
    with open(image, "r+b") as file:
        file.write(bytes(4096))
    assert luks_header.read(image).uuid == final


def test_key_slots_that_open_nothing_do_not_count(image, place):
    luks_header.write(image, KEY, LUKS2)
    luks_header.finish(image)
    unbound = ["cryptsetup", "luksAddKey", "--unbound", "--key-size=512", "--batch-mode", *LUKS2.slot_argv(2)]
    luks_header.unlock([*unbound, image, "-"], OTHER, image)
    assert len(luks_header.read(image).slots) == 1
    with pytest.raises(KeySlotError, match="last key"):
        luks_key.remove(image, KEY, None, place)


def test_add_change_remove(volume, options, backups, place):
    assert luks_key.add(volume, KEY, OTHER, options, place) is True
    assert luks_key.add(volume, KEY, OTHER, options, place) is False
    assert luks_header.opens(volume, KEY)
    assert luks_header.opens(volume, OTHER)
    third = Secret("third")
    assert luks_key.change(volume, KEY, third, options, place) is True
    assert [luks_header.opens(volume, key) for key in (KEY, OTHER, third)] == [False, True, True]
    assert luks_key.change(volume, KEY, third, options, place) is False
    assert luks_key.remove(volume, KEY, third, place) is False
    assert luks_key.remove(volume, OTHER, third, place, test=True) is True
    assert luks_header.opens(volume, OTHER)
    assert luks_key.remove(volume, OTHER, third, place) is True
    assert len(luks_header.read(volume).slots) == 1
    # one backup before each change; the first one still has all keys
    headers = [luks_header.read(str(path)) for path in pathlib.Path(backups).glob("*.luksheader")]
    assert sorted(len(header.slots) for header in headers) == [1, 2, 2, 3]


def test_the_last_key_is_never_removed(volume, options, place):
    before = pathlib.Path(volume).read_bytes()
    with pytest.raises(KeySlotError, match="last key"):
        luks_key.remove(volume, KEY, None, place)
    assert pathlib.Path(volume).read_bytes() == before


def test_a_key_in_two_slots_is_removed_from_both(volume, options, place):
    argv = ["cryptsetup", "luksAddKey", "--batch-mode", f"--keyfile-size={len(KEY.reveal())}"]
    luks_header.unlock(
        [*argv, *options.slot_argv(options.version), volume, "-"], Secret(KEY.reveal() + KEY.reveal()), volume
    )
    assert len(luks_header.read(volume).slots) == 2
    with pytest.raises(KeySlotError, match="last key"):
        luks_key.remove(volume, KEY, None, place)
    luks_key.add(volume, KEY, OTHER, options, place)
    assert luks_key.remove(volume, KEY, OTHER, place) is True
    assert not luks_header.opens(volume, KEY)
    assert luks_header.opens(volume, OTHER)


def kill_halfway(image, slot):
    """What a power cut during a removal leaves: the slot's entry in the header, but not its key material."""
    header = luks_header.read(image)
    with open(image, "r+b") as file:
        if header.version == 2:
            area = json.loads(header.metadata)["keyslots"][str(slot)]["area"]
            file.seek(int(area["offset"]))
            file.write(os.urandom(int(area["size"])))
        else:
            file.seek(208 + slot * 48 + 40)
            offset = int.from_bytes(file.read(4), "big") * 512
            file.seek(offset)
            file.write(os.urandom(header.key_size // 8 * 4000))


def test_a_slot_that_opens_nothing_is_no_other_key(volume, options, place):
    luks_key.add(volume, KEY, OTHER, options, place)
    kill_halfway(volume, 1)
    assert not luks_header.opens(volume, OTHER)
    before = pathlib.Path(volume).read_bytes()
    for remaining, match in ((None, "give `remaining`"), (OTHER, "no other key slot"), (KEY, "no other key slot")):
        for test in (True, False):
            with pytest.raises(KeySlotError, match=match):
                luks_key.remove(volume, KEY, remaining, place, test)
    assert pathlib.Path(volume).read_bytes() == before


def test_an_interrupted_removal_is_completed(volume, options, place):
    luks_key.add(volume, KEY, OTHER, options, place)
    luks_backup.record_removal(luks_header.read(volume), [1], place.backups)
    kill_halfway(volume, 1)
    assert luks_backup.being_removed(luks_header.read(volume), place.backups) == [1]
    assert luks_key.remove(volume, OTHER, KEY, place, test=True) is True
    assert luks_key.remove(volume, OTHER, KEY, place) is True
    assert luks_key.remove(volume, OTHER, KEY, place) is False
    header = luks_header.read(volume)
    assert [slot.number for slot in header.slots] == [0]
    # the slot has the same number but another key, so it is not the one to remove
    luks_key.add(volume, KEY, OTHER, options, place)
    assert luks_backup.being_removed(luks_header.read(volume), place.backups) == []
    assert luks_key.remove(volume, Secret("none"), KEY, place) is False
    assert luks_header.opens(volume, OTHER)


def test_a_leaked_slot_is_removed_by_its_number(volume, options, place):
    luks_key.add(volume, KEY, OTHER, options, place)
    kill_halfway(volume, 1)
    with pytest.raises(KeySlotError, match="no other key slot"):
        luks_key.remove_slot(volume, 0, KEY, place)
    assert luks_key.remove_slot(volume, 1, KEY, place) is True
    assert luks_key.remove_slot(volume, 1, KEY, place) is False
    assert luks_header.opens(volume, KEY)


def test_an_interrupted_change_is_completed(volume, options, place):
    luks_key.add(volume, KEY, OTHER, options, place)
    luks_backup.record_removal(luks_header.read(volume), [0], place.backups)
    kill_halfway(volume, 0)
    assert luks_key.change(volume, KEY, OTHER, options, place) is True
    assert len(luks_header.read(volume).slots) == 1
    assert luks_header.opens(volume, OTHER)


def test_a_trial_of_adding_says_what_the_run_would(volume, options, place):
    bad = dataclasses.replace(options, iterations=1)
    before = pathlib.Path(volume).read_bytes()
    for test in (True, False):
        with pytest.raises(CommandError, match="iteration"):
            luks_key.add(volume, KEY, OTHER, bad, place, test)
    assert luks_key.add(volume, KEY, OTHER, options, place, test=True) is True
    assert pathlib.Path(volume).read_bytes() == before


def test_only_the_newest_backups_are_kept(volume, options, place):
    few = dataclasses.replace(place, keep=2)
    for number in range(4):
        luks_key.add(volume, KEY, Secret(f"key {number}"), options, few)
    luks_backup.make(volume, few.backups, KEY, few.keep)
    kept = list(pathlib.Path(few.backups).glob("*.luksheader"))
    assert len(kept) == 2
    assert luks_backup.current(volume, luks_header.read(volume), few.backups) in map(str, kept)


def test_a_directory_of_backups_that_cannot_be(volume, tmp_path):
    (tmp_path / "file").touch()
    for path in (str(tmp_path / "file"), "/proc/backups"):
        with pytest.raises(HeaderError, match="backup"):
            luks_backup.make(volume, path)


@pytest.mark.parametrize("change", [luks_key.add, luks_key.change])
def test_a_wrong_key_changes_nothing(volume, options, backups, place, change):
    before = pathlib.Path(volume).read_bytes()
    with pytest.raises(WrongKey, match=volume):
        change(volume, OTHER, Secret("new"), options, place)
    assert pathlib.Path(volume).read_bytes() == before
    assert not os.path.exists(backups)


def test_no_free_key_slot(image, place):
    luks_header.write(image, KEY, LUKS1)
    luks_header.finish(image)
    for number in range(7):
        luks_key.add(image, KEY, Secret(f"key {number}"), LUKS1, place)
    with pytest.raises(KeySlotError, match="all key slots"):
        luks_key.add(image, KEY, OTHER, LUKS1, place)


def test_backup_is_private_verified_and_made_once(volume, backups):
    path = pathlib.Path(luks_backup.make(volume, backups, KEY))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    header = luks_header.read(volume)
    assert luks_header.read(str(path)) == header
    assert luks_backup.current(volume, header, backups) == str(path)
    made = path.stat().st_mtime_ns
    assert luks_backup.make(volume, backups) == str(path)
    assert path.stat().st_mtime_ns == made
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_damaged_or_readable_backup_is_none(volume, backups):
    header = luks_header.read(volume)
    path = pathlib.Path(luks_backup.make(volume, backups))
    path.chmod(0o644)
    assert luks_backup.current(volume, header, backups) is None
    luks_backup.make(volume, backups)
    assert path.stat().st_mode & 0o777 == 0o600
    with open(path, "r+b") as file:
        file.write(bytes(64 << 10))
    assert luks_backup.current(volume, header, backups) is None
    luks_backup.make(volume, backups)
    assert luks_backup.current(volume, header, backups) == str(path)


def _flip(path, header):
    """Flip one bit of the key material of the first key slot."""
    with open(path, "r+b") as file:
        file.seek(header.areas[0][0] + 1000)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def test_a_flipped_bit_in_a_key_slot_is_noticed(volume, backups):
    """In the backup: the backup does not count, and is made again. On the device: the good backup stays."""
    header = luks_header.read(volume)
    path = luks_backup.make(volume, backups, KEY)
    _flip(path, header)
    assert luks_header.read(path) == header
    assert luks_backup.current(volume, header, backups) is None
    before = pathlib.Path(volume).read_bytes()
    with pytest.raises(HeaderError, match=f"{path}.*damaged.*Nothing was changed"):
        luks_backup.restore(volume, path, directory=backups)
    assert pathlib.Path(volume).read_bytes() == before
    assert luks_backup.make(volume, backups, KEY) == path
    assert luks_backup.current(volume, header, backups) == path
    _flip(volume, header)
    assert not luks_header.opens(volume, KEY)
    assert luks_backup.current(volume, header, backups) is None
    # the damaged header gets its own backup, beside the good one
    assert luks_backup.make(volume, backups) != path
    assert luks_header.opens(path, KEY)


def test_what_is_not_restored(image, tmp_path, backups):
    other = tmp_path / "other"
    other.write_bytes(bytes(32 << 20))
    with pytest.raises(HeaderError, match="not a LUKS header backup"):
        luks_backup.restore(image, str(other), force=True, directory=backups)
    luks_header.write(str(other), KEY, LUKS2)
    with pytest.raises(HeaderError, match="would say that the volume holds no data"):
        luks_backup.restore(image, str(other), force=True, directory=backups)


def test_what_no_header_replaces(image, tmp_path, backups):
    other = str(tmp_path / "other")
    with open(other, "wb") as file:
        file.truncate(32 << 20)
    for path in (image, other):
        luks_header.write(path, KEY, LUKS2)
        luks_header.finish(path)
    backup = luks_header.read(image)
    with pytest.raises(HeaderError, match=f"holds volume .*; the backup is of {backup.uuid}"):
        luks_backup._require_replaceable(other, backup, True, backups)
    subprocess.run(["wipefs", "--all", "--quiet", other], check=True)
    with pytest.raises(HeaderError, match="no valid LUKS header to compare with"):
        luks_backup._require_replaceable(other, backup, False, backups)
    luks_backup._require_replaceable(other, backup, True, backups)
    subprocess.run(["mkfs.ext4", "-q", "-F", other], check=True)
    with pytest.raises(DeviceNotBlank, match=r"it carries ext4.*Nothing was changed"):
        luks_backup._require_replaceable(other, backup, True, backups)


def test_a_broken_record_of_removed_keys(volume, backups):
    header = luks_header.read(volume)
    path = pathlib.Path(backups, f"{header.uuid}.removed")
    path.parent.mkdir()
    path.write_text("[")
    with pytest.raises(HeaderError, match=f"{path}: not a record of removed keys; move it away"):
        luks_backup.being_removed(header, backups)


def test_the_new_key_is_the_old_one(volume, options, place):
    before = luks_header.read(volume)
    with pytest.raises(KeySlotError, match="the new key is the old one"):
        luks_key.change(volume, KEY, Secret(KEY.reveal()), options, place)
    assert luks_header.read(volume) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_a_backup_that_others_made_or_can_exchange_is_none(volume, backups):
    header = luks_header.read(volume)
    path = luks_backup.make(volume, backups)
    os.chown(path, 4001, 4001)
    assert luks_backup.current(volume, header, backups) is None
    # a new backup is made, which root owns
    assert os.stat(luks_backup.make(volume, backups)).st_uid == 0
    os.chown(backups, 4001, 4001)
    assert luks_backup.current(volume, header, backups) is None
    with pytest.raises(HeaderError, match=r"no header backup made: .*; give the directory to root"):
        luks_backup.make(volume, backups)


def test_no_backup_of_an_unfinished_volume(image, backups):
    """If it were restored later, it would say that the volume has no data."""
    luks_header.write(image, KEY, LUKS2)
    with pytest.raises(HeaderError, match="unfinished"):
        luks_backup.make(image, backups)


def test_a_backup_that_its_key_does_not_open_is_none(volume, backups):
    with pytest.raises(HeaderError, match="does not open"):
        luks_backup.make(volume, backups, OTHER)
    assert os.listdir(backups) == []


def test_errors_do_not_hold_the_key(volume, place):
    with pytest.raises(WrongKey) as caught:
        luks_key.add(volume, Secret("hidden words"), OTHER, LUKS2, place)
    with pytest.raises(CommandError) as failed:
        luks_header.write("/nonexistent", Secret("hidden words"), LUKS2)
    for error in (caught.value, failed.value):
        assert "hidden words" not in f"{error} {error!r} {vars(error)}"
