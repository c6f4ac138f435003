"""The last step of a change of the volume key: when it is due, and what it writes. tests/uml/guest has a real one."""

import copy
import hashlib
import itertools
import json
import os
import struct

import pytest

import luks_rekeyed
from galaxy_errors import HeaderError

SIZE, DATA = 16384, 1 << 20
NAME = "online-reencrypt-v2"


def slot(number):
    return {"type": "luks2", "area": {"type": "raw", "offset": str(32768 + number * 4096), "size": "4096"}}


def segment(cipher, *flags):
    segment = {"type": "crypt", "offset": str(DATA), "size": "dynamic", "encryption": cipher}
    return {**segment, **({"flags": list(flags)} if flags else {})}


# as cryptsetup 2.6.1 leaves it: key slot 0 of the old volume key is gone, 1 is still there, 2 belongs to the new key. 5
# opens nothing here, and belongs to somebody else
DUE = {
    "keyslots": {
        **{str(number): slot(number) for number in (1, 2, 5)},
        "3": {
            "type": "reencrypt",
            "mode": "reencrypt",
            "area": {"type": "checksum", "offset": "65536", "size": "4096"},
        },
    },
    "tokens": {"0": {"type": "clevis", "keyslots": ["1"]}},
    "segments": {"0": segment("new"), "1": segment("old", "backup-previous"), "2": segment("new", "backup-final")},
    "digests": {
        "0": {"keyslots": ["1"], "segments": ["1"]},
        "1": {"keyslots": ["2"], "segments": ["0", "2"]},
        "2": {"keyslots": ["3"], "segments": []},
        "3": {"keyslots": ["5"], "segments": []},
    },
    "config": {"json_size": "12288", "requirements": {"mandatory": [NAME]}},
}


def changed(**parts):
    metadata = copy.deepcopy(DUE)
    for part, change in parts.items():
        change(metadata[part])
    return metadata


def test_what_the_header_says_then():
    after = luks_rekeyed.completed(DUE)
    assert after == {
        "keyslots": {number: slot(int(number)) for number in "25"},
        "tokens": {"0": {"type": "clevis", "keyslots": []}},
        "segments": {"0": segment("new")},
        "digests": {
            "1": {"keyslots": ["2"], "segments": ["0"]},
            "3": {"keyslots": ["5"], "segments": []},
        },
        "config": {"json_size": "12288"},
    }
    assert luks_rekeyed.completed(after) is None


@pytest.mark.parametrize(
    "metadata",
    [
        # no data has the new key yet; some has; the last part is being changed
        changed(segments=lambda each: each.update({"0": segment("old")})),
        changed(segments=lambda each: each.update({"3": segment("old")})),
        changed(segments=lambda each: each.update({"0": segment("new", "in-reencryption")})),
        # the volume key stays; it is a decryption; data is moved; nothing is being changed; the old segment is missing
        changed(digests=lambda each: each.update({"1": {"keyslots": ["2"], "segments": ["0", "1", "2"]}})),
        changed(keyslots=lambda each: each["3"].update(mode="decrypt")),
        changed(keyslots=lambda each: each["3"]["area"].update(type="datashift-checksum")),
        changed(keyslots=lambda each: each.pop("3")),
        changed(segments=lambda each: each.pop("1"), digests=lambda each: each.pop("0")),
    ],
)
def test_it_is_not_due(metadata):
    assert luks_rekeyed.completed(metadata) is None


def header(magic, metadata, sequence=7):
    beginning = struct.pack(">6sHQQ", magic, 2, SIZE, sequence).ljust(72, b"\0") + b"sha256".ljust(32, b"\0") + b"salt"
    content = beginning.ljust(4096, b"\0") + json.dumps(metadata).encode().ljust(SIZE - 4096, b"\0")
    return content[:448] + hashlib.sha256(content).digest() + content[480:]


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "volume"
    content = header(b"LUKS\xba\xbe", DUE) + header(b"SKUL\xba\xbe", DUE)
    path.write_bytes(content.ljust(DATA, b"k") + b"data")
    return path


def after():
    return [header(magic, luks_rekeyed.completed(DUE), 8) for magic in (b"LUKS\xba\xbe", b"SKUL\xba\xbe")]


def parsed(content):
    return content[:448], content[480:4096], json.loads(content[4096:].split(b"\0", 1)[0])


def test_both_copies_are_written_and_the_old_key_slots_erased(volume):
    luks_rekeyed.complete(volume)
    content = volume.read_bytes()
    for number, wanted in enumerate(after()):
        copied = content[number * SIZE : (number + 1) * SIZE]
        assert parsed(copied) == parsed(wanted)
        assert copied[448:480] == hashlib.sha256(copied[:448] + bytes(64) + copied[512:]).digest()
    erased = [number for number in range(20) if content[32768 + number * 4096 :][:4096] != b"k" * 4096]
    assert erased == [1]
    assert content[DATA:] == b"data"
    luks_rekeyed.complete(volume)
    assert volume.read_bytes() == content


def test_a_trial_changes_nothing(volume):
    before = volume.read_bytes()
    with luks_rekeyed.trial(volume) as scratch, open(scratch, "rb") as file:
        assert parsed(file.read(SIZE)) == parsed(after()[0])
        assert b"data" not in file.read()
    assert volume.read_bytes() == before
    volume.write_bytes(bytes(DATA))
    with luks_rekeyed.trial(volume) as scratch:
        assert scratch is None


@pytest.mark.parametrize("damage", [b"\0", header(b"SKUL\xba\xbe", luks_rekeyed.completed(DUE))])
def test_a_damaged_second_copy_is_refused(volume, damage):
    content = volume.read_bytes()
    volume.write_bytes(content[:SIZE] + damage + content[SIZE + len(damage) :])
    before = volume.read_bytes()
    with pytest.raises(HeaderError, match="copies of its header differ"):
        luks_rekeyed.complete(volume)
    assert volume.read_bytes() == before


def epochs(volume, monkeypatch):
    """What ``complete`` writes: for each flush a list of (offset, data)."""
    found, write = [[]], os.pwrite

    def pwrite(node, data, offset):
        found[-1].append((offset, data))
        return write(node, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        patch.setattr(os, "fsync", lambda _: found.append([]))
        luks_rekeyed.complete(volume)
    assert found[-1] == []
    return found[:-1]


def crashed(before, epochs):
    """What the medium can hold after a power cut: all that was flushed, and any of the later writes, whole or half."""
    for number, last in enumerate(epochs):
        flushed = [each for epoch in epochs[:number] for each in epoch]
        cuts = [(offset, data, min(4096, len(data) // 2)) for offset, data in last]
        pieces = [each for offset, data, at in cuts for each in ((offset, data[:at]), (offset + at, data[at:]))]
        for kept in itertools.product((False, True), repeat=len(pieces)):
            content = bytearray(before)
            for offset, data in [*flushed, *itertools.compress(pieces, kept)]:
                content[offset : offset + len(data)] = data
            yield bytes(content)


def copies(content):
    """The valid copies of the header, newest first."""
    found = []
    for number in (0, 1):
        copied = content[number * SIZE : (number + 1) * SIZE]
        if copied[448:480] == hashlib.sha256(copied[:448] + bytes(64) + copied[512:]).digest():
            found.append(copied)
    return sorted(found, key=lambda copied: copied[16:24], reverse=True)


def survives(volume, content):
    """Whether the old key slots are gone if the header says so, and whether the same call ends it after a repair."""
    if not copies(content):
        return False
    newest = copies(content)[0]
    metadata = parsed(newest)[2]
    if metadata == luks_rekeyed.completed(DUE) and b"k" * 512 in content[32768 + 4096 : 32768 + 8192]:
        return False
    # cryptsetup repairs a header in this way if one copy is torn or older
    repaired = [header(magic, metadata, newest[23]) for magic in (b"LUKS\xba\xbe", b"SKUL\xba\xbe")]
    volume.write_bytes(b"".join(repaired) + content[2 * SIZE :])
    luks_rekeyed.complete(volume)
    return [parsed(copied)[2] for copied in copies(volume.read_bytes())] == [luks_rekeyed.completed(DUE)] * 2


def test_a_power_cut_at_any_moment_is_survived_and_each_flush_is_needed(volume, monkeypatch):
    before = volume.read_bytes()
    written = epochs(volume, monkeypatch)
    assert len(written) == 3
    assert all(survives(volume, content) for content in crashed(before, written))
    for number in range(len(written) - 1):
        without = [*written[:number], written[number] + written[number + 1], *written[number + 2 :]]
        assert not all(survives(volume, content) for content in crashed(before, without)), number
