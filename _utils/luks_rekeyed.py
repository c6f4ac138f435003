"""
Take the last step of a change of the volume key, if cryptsetup cannot take it.

Once all data has the new volume key, cryptsetup destroys the key slots of the old one, and only then removes the change
from the header. If it is cut short in between, it asks for the old volume key, which no key slot gives any more: it
neither opens the volume nor goes on. Only the header that it was about to write is missing.
"""

import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Iterator
from typing import Any

import luks_device
from galaxy_errors import HeaderError

# the on-disk format of LUKS2, "Binary Header": magic, version, size, sequence number; then label, name of the checksum,
# salt, UUID, subsystem, offset, padding, and the checksum of everything, with zeros in its own place. Then comes JSON
_BEGINNING = struct.Struct(">6sHQQ")
_MAGICS = (b"LUKS\xba\xbe", b"SKUL\xba\xbe")
_SEQUENCE, _ALGORITHM, _CHECKSUM, _JSON = slice(16, 24), slice(72, 104), slice(448, 512), 4096
_MOST = 4 << 20
# flags of the segments that describe the volume after and before the change
_KEPT = ("backup-final", "backup-previous")
_PAYLOAD = 4 << 20


def completed(metadata: dict[str, Any]) -> dict[str, Any] | None:
    """
    The metadata of a LUKS2 header as they are after this step. ``None`` if the step is not due: the volume key is not
    being changed, data still has the old one, or something other than the key is being changed.
    """
    slots, segments, digests = (metadata[name] for name in ("keyslots", "segments", "digests"))
    changes = {number: slot for number, slot in slots.items() if slot["type"] == "reencrypt"}
    if not changes or any(
        each["mode"] != "reencrypt" or each["area"]["type"].startswith("datashift") for each in changes.values()
    ):
        return None
    final, previous = ([_plain(each) for each in segments.values() if name in each.get("flags", [])] for name in _KEPT)
    current = {number: each for number, each in segments.items() if not _is_backup(each)}
    # there is one segment, in its final form
    if list(current.values()) != final or not previous:
        return None
    old = {number for number, each in digests.items() if _covers(each, segments, "backup-previous")}
    if any(current.keys() & set(digests[number]["segments"]) for number in old):
        return None
    going = {*changes, *(slot for number in old for slot in digests[number]["keyslots"])}
    left = {
        number: {
            **digest,
            "keyslots": [each for each in digest["keyslots"] if each not in going],
            "segments": [each for each in digest["segments"] if each in current],
        }
        for number, digest in digests.items()
    }
    config = dict(metadata["config"])
    required = config.pop("requirements", {}).get("mandatory", [])
    required = [each for each in required if not each.startswith("online-reencrypt")]
    return {
        **metadata,
        "keyslots": {number: slot for number, slot in slots.items() if number not in going},
        "tokens": {
            number: {**token, "keyslots": [each for each in token["keyslots"] if each not in going]}
            for number, token in metadata["tokens"].items()
        },
        "segments": current,
        "digests": {number: digest for number, digest in left.items() if digest["keyslots"] or digest["segments"]},
        "config": {**config, **({"requirements": {"mandatory": required}} if required else {})},
    }


@contextlib.contextmanager
def trial(path: luks_device.Device | str) -> Iterator[str | None]:
    """A scratch file with the header of ``path`` after this step, to try a key on; ``None`` if the step is not due."""
    with _opened(path, os.O_RDONLY) as node:
        copies = _completed_copies(path, node)
        if not copies:
            yield None
            return
        # the file is in memory, and gone with this process
        with open(os.memfd_create("luks-rekeyed"), "w+b") as file:
            size = _data_offset(copies[0])
            file.write(os.pread(node, size, 0))
            for offset, copy in copies.items():
                file.seek(offset)
                file.write(copy)
            file.truncate(size + _PAYLOAD)
            file.flush()
            yield f"/proc/{os.getpid()}/fd/{file.fileno()}"


def complete(path: luks_device.Device | str) -> None:
    """
    Take this step. The caller has proven on a ``trial`` that a key then opens the volume. The key slots of the old
    volume key are erased first. Each copy of the header is on the medium before the other is written.
    """
    with _opened(path, os.O_RDWR) as node:
        for offset, copy in _completed_copies(path, node).items():
            if not offset:
                _erase(node, _metadata(os.pread(node, len(copy), 0)), _metadata(copy))
            os.pwrite(node, copy, offset)
            os.fsync(node)


def _is_backup(segment: dict[str, Any]) -> bool:
    return any(flag.startswith("backup") for flag in segment.get("flags", []))


def _plain(segment: dict[str, Any]) -> dict[str, Any]:
    """The segment without the flag that says for what it is kept."""
    flags = [flag for flag in segment.get("flags", []) if not flag.startswith("backup")]
    return {**{key: value for key, value in segment.items() if key != "flags"}, **({"flags": flags} if flags else {})}


def _covers(digest: dict[str, Any], segments: dict[str, Any], flag: str) -> bool:
    """Whether the digest belongs to the volume key of a segment with this flag."""
    return any(flag in segments[number].get("flags", []) for number in digest["segments"])


def _erase(node: int, before: dict[str, Any], after: dict[str, Any]) -> None:
    for number, slot in before["keyslots"].items():
        if slot["type"] == "luks2" and number not in after["keyslots"]:
            os.pwrite(node, os.urandom(int(slot["area"]["size"])), int(slot["area"]["offset"]))
    os.fsync(node)


@contextlib.contextmanager
def _opened(path: luks_device.Device | str, flags: int) -> Iterator[int]:
    with luks_device.errors_of(path, "its header cannot be read or written", HeaderError):
        node = os.open(str(path), flags | os.O_CLOEXEC)
        try:
            yield node
        finally:
            os.close(node)


def _completed_copies(path: luks_device.Device | str, node: int) -> dict[int, bytes]:
    """Both copies of the header after the step, by their offsets; empty if the step is not due."""
    first = _read_copy(path, node, 0, _MAGICS[0])
    after = first and completed(_metadata(first))
    if not after:
        return {}
    second = _read_copy(path, node, len(first), _MAGICS[1])
    if not second or _metadata(second) != _metadata(first):
        raise HeaderError(path, "the two copies of its header differ; run `cryptsetup repair` on it")
    return {0: _written(first, after), len(first): _written(second, after)}


def _read_copy(path: luks_device.Device | str, node: int, offset: int, magic: bytes) -> bytes:
    """A valid copy of a LUKS2 header; empty if there is none."""
    found, version, size, _ = _BEGINNING.unpack(os.pread(node, _BEGINNING.size, offset).ljust(_BEGINNING.size, b"\0"))
    if (found, version) != (magic, 2) or not _JSON < size <= _MOST:
        return b""
    copy = os.pread(node, size, offset)
    return copy if len(copy) == size and copy == _checked(copy) else b""


def _metadata(copy: bytes) -> dict[str, Any]:
    metadata: dict[str, Any] = json.loads(copy[_JSON:].split(b"\0", 1)[0])
    return metadata


def _written(copy: bytes, metadata: dict[str, Any]) -> bytes:
    text = json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode()
    content = bytearray(copy[:_JSON] + text.ljust(len(copy) - _JSON, b"\0"))
    content[_SEQUENCE] = (int.from_bytes(content[_SEQUENCE], "big") + 1).to_bytes(8, "big")
    return _checked(bytes(content))


def _checked(copy: bytes) -> bytes:
    """The same with its checksum."""
    content = bytearray(copy)
    content[_CHECKSUM] = bytes(64)
    algorithm = content[_ALGORITHM].split(b"\0", 1)[0].decode("ascii", "replace")
    with contextlib.suppress(ValueError):
        content[_CHECKSUM] = hashlib.new(algorithm, content).digest().ljust(64, b"\0")
    return bytes(content)


def _data_offset(copy: bytes) -> int:
    """Bytes of the headers and key slots, before the data."""
    return min(int(segment["offset"]) for segment in _metadata(copy)["segments"].values())
