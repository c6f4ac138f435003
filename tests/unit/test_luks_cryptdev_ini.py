"""The file ``luks-cryptdev.ini`` of the old scripts."""

import os

import pytest
from support.attacker import GALAXY, make, public_directory

import luks_cryptdev_ini
from galaxy_errors import ConfigError

INI = """\
# written by the script
[luks]
cipher_algorithm = aes-xts-plain64
hash_algorithm = sha256
keysize = 256
device = /dev/vdb
uuid = 101de0a7-e4f5-4d40-9829-541a2b34c1bf
cryptdev = crypt
mapper = /dev/mapper/crypt
mountpoint = /export
filesystem = ext4
header_path = /etc/luks/100%/luks-header.bck
"""
STORAGE = {
    "device": "UUID=101de0a7-e4f5-4d40-9829-541a2b34c1bf",
    "mapper": "crypt",
    "mount_point": "/export",
    "filesystem": "ext4",
    "cipher": "aes-xts-plain64",
    "key_size": 256,
    "hash": "sha256",
}


@pytest.fixture
def read(tmp_path):
    def read(text):
        path = tmp_path / "luks-cryptdev.ini"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return luks_cryptdev_ini.read(str(path)).storage()

    return read


def test_a_complete_file(read):
    assert read(INI) == STORAGE


def without(key):
    return "".join(line for line in INI.splitlines(keepends=True) if not line.startswith(key))


@pytest.mark.parametrize("key", ["cryptdev", "mapper", "device", "filesystem", "cipher_algorithm", "hash_algorithm"])
def test_what_other_keys_or_the_old_defaults_tell_may_be_missing(read, key):
    assert read(without(key)) == STORAGE


def test_quoted_values(read):
    assert read(INI.replace("= crypt\n", "= 'crypt'\n").replace("= /export", '= "/export"')) == STORAGE


@pytest.mark.parametrize("comment", [" ; the data disk", " # the data disk", "\t;", " ;; a", " # ; b"])
def test_a_comment_behind_a_value(read, comment):
    assert read("".join(f"{line}{comment}\n" if "=" in line else f"{line}\n" for line in INI.splitlines())) == STORAGE


def test_what_is_no_comment_stays(read):
    assert read(INI.replace("/export", "/ex;port#1"))["mount_point"] == "/ex;port#1"
    assert read(INI.replace("/export", "'/my ; #1'"))["mount_point"] == "/my ; #1"


@pytest.mark.parametrize("written", [b"\xef\xbb\xbf" + INI.encode(), INI.replace("\n", "\r\n").encode()])
def test_marks_of_editors(read, written):
    assert read(written) == STORAGE


@pytest.mark.parametrize("uuid", ["UUID=101de0a7-e4f5-4d40-9829-541a2b34c1bf", "101DE0A7-E4F5-4D40-9829-541A2B34C1BF"])
def test_a_uuid_as_people_copy_it(read, uuid):
    assert read(INI.replace("101de0a7-e4f5-4d40-9829-541a2b34c1bf", uuid)) == STORAGE


def test_a_line_of_two_is_named(read):
    with pytest.raises(ConfigError, match="cryptdev goes over several lines"):
        read(INI.replace("mapper =", "  mapper ="))


@pytest.mark.parametrize("line", ["uuid = 101de0a7-e4f5-4d40-9829-541a2b34c1bf", "uuid = other"])
def test_a_repeated_key_is_named(read, line):
    with pytest.raises(ConfigError, match=r"not an INI file: .*uuid"):
        read(f"{INI}{line}\n")


def test_the_device_serves_where_there_is_no_uuid(read):
    assert read(without("uuid"))["device"] == "/dev/vdb"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (without("mountpoint"), "mountpoint"),
        ("[luks]\nmountpoint=/export\n", "cryptdev, uuid"),
        ("[other]\n", r"\[luks\]"),
        ("no section\n", "not an INI file"),
        (INI + INI, "not an INI file"),
        (INI.replace("256", "many"), "many"),
        (b"\xff\xfe\n", "not an INI file"),
    ],
)
def test_what_is_missing_or_malformed_is_named(read, text, match):
    with pytest.raises(ConfigError, match=match):
        read(text)


def test_no_file(tmp_path):
    with pytest.raises(ConfigError, match="none: no such file"):
        luks_cryptdev_ini.read(str(tmp_path / "none"))
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="fifo: is neither a regular file"):
        luks_cryptdev_ini.read(str(tmp_path / "fifo"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
def test_a_file_that_others_can_write_does_not_say_where_root_mounts():
    with public_directory() as place:
        make(f"{place}/of-galaxy.ini", GALAXY, 0o644, INI.encode())
        make(f"{place}/shared.ini", 0, 0o666, INI.encode())
        make(f"{place}/galaxy", GALAXY)
        make(f"{place}/galaxy/luks.ini", 0, 0o644, INI.encode())
        for name, who in (("of-galaxy.ini", "user 4001"), ("shared.ini", "everybody"), ("galaxy/luks.ini", "4001")):
            with pytest.raises(ConfigError, match=rf"{place}/{name}: .*{who}"):
                luks_cryptdev_ini.read(f"{place}/{name}")
        os.chmod(f"{place}/shared.ini", 0o644)
        assert luks_cryptdev_ini.read(f"{place}/shared.ini").storage() == STORAGE
