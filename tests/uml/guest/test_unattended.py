"""Another volume key, with a power cut at any point; and a partition that was made larger."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess

import pytest
from conftest import BACKUPS, CHEAP, content, sh
from support import log_writes

from galaxy_errors import HeaderError, WrongKey
from galaxy_host_wait import Deadline, wait_until

# a boot takes these steps if the volume already has a header backup
BOOT = ["open", "fsck", "mount"]


def test_another_volume_key_while_it_is_mounted(call, volume, wrong_key):
    call("luks.add_key", volume["device"], new_key=wrong_key, key=volume["key"], backups=BACKUPS, **CHEAP)
    call("luks.encrypt", **volume)
    before = sh("cryptsetup", "luksDump", "--dump-json-metadata", volume["device"])
    old = {str(path) for path in pathlib.Path(BACKUPS).glob("*.luksheader")}
    arguments = {"key": volume["key"], "other_keys": [wrong_key], "backups": BACKUPS, **CHEAP}
    assert call("luks.reencrypt", volume["device"], test=True, **arguments) is True
    assert call("luks.reencrypt", volume["device"], **arguments) is True
    after = sh("cryptsetup", "luksDump", "--dump-json-metadata", volume["device"])
    digests = [{each["digest"] for each in json.loads(dump)["digests"].values()} for dump in (before, after)]
    assert digests[0].isdisjoint(digests[1])
    for key in (volume["key"], wrong_key):
        assert call("luks.test_key", volume["device"], key=key) is True
    assert pathlib.Path(volume["mount_point"], "file").read_text() == "data"
    # no old header is kept, because it would decrypt the data wrongly
    kept = {str(path) for path in pathlib.Path(BACKUPS).glob("*.luksheader")}
    assert kept
    assert kept.isdisjoint(old)
    assert call("luks.encrypt", **volume) == []
    call("luks.close", "galaxy")
    call("luks.encrypt", **volume)
    assert pathlib.Path(volume["mount_point"], "file").read_text() == "data"


@contextlib.contextmanager
def logged(device, log):
    """``/dev/mapper/logged``, on ``device``. Each write to it is logged to the device ``log``."""
    sectors = sh("blockdev", "--getsz", device)
    sh("dmsetup", "create", "logged", input=f"0 {sectors} log-writes {device} {log}")
    sh("dmsetup", "mknodes")
    yield "/dev/mapper/logged"
    log_writes.mark("logged")
    sh("dmsetup", "remove", "--retry", "logged")
    pathlib.Path("/dev/mapper/logged").unlink(missing_ok=True)


def header_in(entry):
    """The metadata, if this write begins with that of a LUKS2 header, else ``None``."""
    with contextlib.suppress(ValueError):
        return json.loads(entry.data.split(b"\0", 1)[0])
    return None


def slots_of_old_key(header):
    """How many key slots are left for the old volume key. ``None`` if the header does not have this key any more."""
    segments = header["segments"].items()
    old = {number for number, each in segments if "backup-previous" in each.get("flags", [])}
    left = [digest["keyslots"] for digest in header["digests"].values() if old & {*digest["segments"]}]
    return sum(map(len, left)) if left else None


@pytest.fixture
def cut_short(new_device, volume, wrong_key):
    """
    The volume as after a power cut within ``cryptsetup reencrypt``, when ``slots`` of the old volume key's two key
    slots are left. Returns the header that cryptsetup would have written last.
    """
    device, key, cheap = volume["device"], volume["key"], ["--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"]
    sh("cryptsetup", "luksAddKey", *cheap, f"--key-file={key}", device, wrong_key)
    before, log = pathlib.Path(device).read_bytes(), new_device("512M")
    with logged(device, log) as path:
        sh("cryptsetup", "reencrypt", "-q", "--key-slot=0", *cheap, f"--key-file={key}", path)
    entries = log_writes.read(log)
    headers = [(number, header) for number, header in enumerate(map(header_in, entries)) if header]

    def cut(slots):
        shutil.rmtree(BACKUPS)
        # only with the block after the metadata is this copy of the header valid
        last = next(number for number, header in headers if slots_of_old_key(header) == slots) + 1
        with open(device, "r+b") as file:
            file.write(before)
            for entry in entries[: last + 1]:
                file.seek(entry.at)
                file.write(entry.data or bytes(entry.size))
            os.fsync(file.fileno())
        return headers[-1][1]

    return cut


def test_a_change_of_the_volume_key_that_cryptsetup_cannot_end(call, state, volume, wrong_key, tmp_path, cut_short):
    """The old volume key's slots are destroyed, all or some, but the header still needs this key."""
    device, key = volume["device"], volume["key"]
    neither = tmp_path / "neither"
    neither.write_text("opens nothing")
    neither.chmod(0o600)
    for slots in (1, 0):
        final = cut_short(slots)
        bare = ["cryptsetup", "open", "--test-passphrase", f"--key-file={key}", device]
        assert subprocess.run(bare, capture_output=True, check=False).returncode in (1, 2)
        torn = content(device)
        with pytest.raises(WrongKey, match="nothing was changed"):
            call("luks.open", device, "galaxy", key=str(neither))
        with pytest.raises(WrongKey, match="nothing was changed"):
            call("luks.reencrypt", device, key=wrong_key, backups=BACKUPS)
        with pytest.raises(HeaderError, match="volume key is being changed"):
            call("luks.header_backup", device, backups=BACKUPS)
        wanted = {name: value for name, value in volume.items() if name != "mount_point"}
        assert call("luks.test_key", device, key=key) is True
        assert list(state("luks.mounted", volume["mount_point"], test=True, **wanted)["changes"]) == BOOT
        assert content(device) == torn
        # a boot completes it
        made = state("luks.mounted", volume["mount_point"], **wanted)
        assert (made["result"], list(made["changes"])) == (True, [*BOOT, "header_backup"]), made
        assert pathlib.Path(volume["mount_point"], "file").read_text() == "data"
        assert json.loads(sh("cryptsetup", "luksDump", "--dump-json-metadata", device)) == final
        call("luks.close", "galaxy")
    # the same call completes it too
    cut_short(0)
    arguments = {"key": key, "other_keys": [wrong_key], "backups": BACKUPS, **CHEAP}
    assert call("luks.reencrypt", device, test=True, **arguments) is True
    assert call("luks.reencrypt", device, **arguments) is True
    assert all(call("luks.test_key", device, key=each) for each in (key, wrong_key))
    call("luks.encrypt", **volume)
    assert pathlib.Path(volume["mount_point"], "file").read_text() == "data"


def test_a_header_of_an_earlier_volume_key_is_not_restored(call, volume, tmp_path):
    backup = pathlib.Path(call("luks.header_backup", volume["device"], backups=BACKUPS))
    (tmp_path / "old").write_bytes(backup.read_bytes())
    call("luks.reencrypt", volume["device"], key=volume["key"], backups=BACKUPS, **CHEAP)
    with pytest.raises(HeaderError, match="earlier volume key"):
        call("luks.header_restore", volume["device"], str(tmp_path / "old"), force=True, backups=BACKUPS)


def test_luks1_has_no_other_volume_key(call, small):
    call("luks.encrypt", **small)
    with pytest.raises(HeaderError, match="LUKS1"):
        call("luks.reencrypt", small["device"], key=small["key"], backups=BACKUPS)


def wait_for(path):
    assert wait_until(lambda: os.path.exists(path), Deadline(180)), path


@pytest.mark.parametrize("version", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_grown_partition_is_used(call, state, new_device, key, mount_point, version):
    """The partition, the mapping and the filesystem grow. A state announces the same steps before."""
    disk = new_device("128M")
    sh("sfdisk", "-q", disk, input="label: gpt\nstart=2048, size=96M\n")
    sh("losetup", "--detach", disk)
    sh("losetup", "--partscan", disk, f"{os.path.dirname(mount_point)}/disk0")
    part = f"{disk}p1"
    wait_for(part)
    plan = {"device": part, "mapper": "galaxy", "mount_point": mount_point, "key": key, "backups": BACKUPS}
    call("luks.encrypt", **plan, version=version, **(CHEAP if version == 2 else {"iterations": 1000}))
    arguments = {"key": key, "partition": True}
    assert state("luks.resized", "galaxy", key=key)["changes"] == {}
    announced = state("luks.resized", "galaxy", test=True, **arguments)
    made = state("luks.resized", "galaxy", **arguments)
    assert announced["changes"] == made["changes"] == dict.fromkeys(("partition", "volume", "filesystem"), "grown")
    assert made["result"] is True
    assert state("luks.resized", "galaxy", **arguments)["changes"] == {}
    facts = os.statvfs(mount_point)
    assert facts.f_blocks * facts.f_frsize > 90 << 20
