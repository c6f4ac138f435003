"""Options and names of a volume: which are given to cryptsetup, and which are refused."""

import pytest

import luks_device
import luks_header
import luks_mapping
from galaxy_errors import DeviceError, DeviceNotBlank


def test_defaults():
    argv = ["--type=luks2", "--cipher=aes-xts-plain64", "--key-size=512", "--pbkdf=argon2id"]
    assert luks_header.DEFAULTS.argv() == argv


def test_luks1_has_one_key_derivation():
    options = luks_header.Options.checked(version=1, key_size=256, hash="sha256", iterations=1000, memory=64)
    argv = ["--type=luks1", "--cipher=aes-xts-plain64", "--key-size=256", "--hash=sha256"]
    assert options.argv() == [*argv, "--pbkdf-force-iterations=1000"]


def test_a_key_slot_is_of_the_version_of_its_volume():
    assert luks_header.DEFAULTS.slot_argv(1) == []
    assert luks_header.Options(version=1).slot_argv(2) == ["--pbkdf=argon2id"]


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"version": 3}, "version"),
        ({"version": "2"}, "`version` must be a number"),
        ({"version": True}, "`version` must be a number"),
        ({"key_size": "512"}, "key_size"),
        ({"cipher": 256}, "`cipher` must be a text"),
        ({"pbkdf": "scrypt"}, "argon2id"),
        ({"version": 1, "pbkdf": "argon2id"}, "LUKS1"),
        ({"chipher": "aes"}, "chipher"),
    ],
)
def test_what_is_no_option_is_named(given, match):
    with pytest.raises(ValueError, match=match):
        luks_header.Options.checked(**given)


@pytest.mark.parametrize("name", ["galaxy", "a", "data_1", "vg-lv", "x.y+z", "0"])
def test_names_of_mappings(name):
    assert luks_mapping.valid_name(name)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".", "-a", "a b", "a\n", "ä", "a" * 128, "control/", None, 5])
def test_what_is_no_name_of_a_mapping(name):
    assert not luks_mapping.valid_name(name)


@pytest.mark.parametrize("spec", ["vdb", "ID=5", "", "uuid=5", "../dev/vdb"])
def test_what_names_no_device(spec):
    with pytest.raises(DeviceError, match="names no device"):
        luks_device.find(spec)


@pytest.mark.parametrize(
    "spec", ["/dev/null", "/dev", "/dev/none", "UUID=none", "/dev/disk/by-uuid/none", "LABEL=none"]
)
def test_what_is_no_block_device(spec):
    with pytest.raises(DeviceError):
        luks_device.find(spec)


def test_the_reserved_uuid_is_not_one_that_generators_make():
    """It has version 8 (RFC 9562). ``uuidgen``, libuuid and cryptsetup make version 1, 4 or another below 8."""
    header = luks_header.Header(2, "756e6669-6e69-8abc-9def-0123456789ab", "", 0, (), "")
    assert header.unfinished
    other = luks_header.Header(2, "756e6669-6e69-4abc-9def-0123456789ab", "", 0, (), "")
    assert not other.unfinished


def test_a_refusal_holds_what_was_found():
    error = DeviceNotBlank("/dev/vdb", "carries data", (luks_device.Signature("ext4", "", 0x438),))
    assert (error.subject, error.signatures[0].type) == ("/dev/vdb", "ext4")
