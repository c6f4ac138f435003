"""
Read and write LUKS headers, and tell a finished volume from one that is still being made.

A new volume is *unfinished* until it is complete. Until then its UUID has the reserved form ``756e6669-6e69-8…`` (a
version 8 UUID, which RFC 9562 leaves to such uses; no generator makes it). LUKS1 and LUKS2 both keep the UUID in the
same sector as the magic number. So at no moment is there a header without the mark, and libblkid reads the mark even
from a header that a crash tore. See ``docs/storage.md``.
"""

import dataclasses
import hashlib
import json
import logging
import secrets
import struct
import uuid
from typing import Any

import galaxy_host_command
import luks_device
import luks_rekeyed
from galaxy_errors import CommandError, HeaderError, KeySlotError, WrongKey
from galaxy_host_record import record
from galaxy_host_secret import Secret

log = logging.getLogger(__name__)

_UNFINISHED = "756e6669-6e69-8"
_TYPE = "crypto_LUKS"
# seconds; a slow key derivation on a busy machine takes long
TIMEOUT = 300
# cryptsetup(8), return codes. 1: wrong parameters, such as a device without a valid header, or no usable token. 2: no
# permission, such as with a key that opens no key slot
_NOT_LUKS = _NO_TOKEN = 1
_NO_KEY = 2
# for a wrong key it returns 1 with this message, if the last key slot opens no data ("unbound")
_NO_SLOT = "No usable keyslot is available."
# bytes that LUKS needs in front of the data, with room for the smallest data behind
_SMALLEST = {1: 3 << 20, 2: 17 << 20}
MOST_SLOTS = {1: 8, 2: 32}
# tokens that open a volume unattended: no person has the passphrases of their key slots
CLEVIS = "clevis"
_UNATTENDED = (CLEVIS, "systemd-", "luks2-keyring")
# the one systemd token for a person: `systemd-cryptenroll --recovery-key` makes it
_RECOVERY = "systemd-recovery"
# the on-disk format of LUKS1, "phdr": magic, version, cipher, mode, hash, payload, key bytes, digest, salt, iterations,
# UUID; then eight key slots: state, iterations, salt, offset, stripes. cryptsetup has no JSON for it. Magic, version
# and UUID have the same place in LUKS2
_MAGIC = b"LUKS\xba\xbe"
_PHDR = struct.Struct(">6sH32s32s32sII20s32sI40s")
_PHDR_SLOT = struct.Struct(">II32sII")
_PHDR_SIZE = _PHDR.size + 8 * _PHDR_SLOT.size
_SLOT_ENABLED = 0x00AC71F3
# by LUKS version, the default first
PBKDFS = {1: ("pbkdf2",), 2: ("argon2id", "argon2i", "pbkdf2")}


@record(frozen=True)
class Options:
    """
    How ``cryptsetup luksFormat`` makes a volume. ``None`` leaves a choice to cryptsetup. ``iterations`` and ``memory``
    (KiB) skip its benchmark of the key derivation; ``iteration_time`` is the aim of this benchmark in milliseconds.
    """

    version: int = 2
    cipher: str = "aes-xts-plain64"
    key_size: int = 512
    hash: str | None = None
    pbkdf: str | None = None
    iteration_time: int | None = None
    iterations: int | None = None
    memory: int | None = None

    @classmethod
    def checked(cls, **given: Any) -> "Options":
        """
        The options in ``given``. Raises ``ValueError`` for an option that is unknown, has the wrong type, or does not
        fit the LUKS version.
        """
        kinds = {field.name: int if field.type in (int, int | None) else str for field in dataclasses.fields(cls)}
        for name, value in given.items():
            if name not in kinds:
                raise ValueError(f"`{name}` is no option of a volume; those are {', '.join(kinds)}")
            if type(value) is not kinds[name]:
                raise ValueError(f"`{name}` must be {'a number' if kinds[name] is int else 'a text'}, not {value!r}")
        options = cls(**given)
        if options.version not in PBKDFS:
            raise ValueError(f"`version` must be 1 or 2, not {options.version}")
        if options.pbkdf and options.pbkdf not in PBKDFS[options.version]:
            raise ValueError(f"`pbkdf` of LUKS{options.version} is one of {', '.join(PBKDFS[options.version])}")
        return options

    def argv(self) -> list[str]:
        """Words for ``cryptsetup luksFormat``."""
        hash_ = [f"--hash={self.hash}"] if self.hash else []
        cipher = [f"--cipher={self.cipher}", f"--key-size={self.key_size}"]
        return [f"--type=luks{self.version}", *cipher, *hash_, *self.slot_argv(self.version)]

    def slot_argv(self, version: int) -> list[str]:
        """Words for a key slot of a volume of this LUKS version."""
        given = {
            "pbkdf": (self.pbkdf or PBKDFS[2][0]) if version == 2 else None,
            "iter-time": self.iteration_time,
            "pbkdf-force-iterations": self.iterations,
            "pbkdf-memory": self.memory if version == 2 else None,
        }
        return [f"--{name}={value}" for name, value in given.items() if value]


DEFAULTS = Options()


class Token:
    """
    In the place of a key: something that a token in the header names (TPM2, FIDO2, a key in the kernel's keyring).
    """


TOKEN = Token()
Key = Secret | Token


@record(frozen=True)
class Slot:
    """A key slot in use. ``identity`` changes when the slot is written anew."""

    number: int
    pbkdf: str
    identity: str = dataclasses.field(default="", repr=False, compare=False)


@record(frozen=True)
class Header:
    """
    What a valid LUKS header says; ``key_size`` in bits. ``metadata`` is all of it as text: two headers are equal only
    if nothing differs. ``unattended`` are the key slots that a token of Clevis or systemd opens. ``reencrypting``: the
    volume is being encrypted with another volume key. ``volume_key`` tells two volume keys apart. ``areas`` are offset
    and size, in bytes, of what each key slot has on the medium.
    """

    version: int
    uuid: str
    cipher: str
    key_size: int
    slots: tuple[Slot, ...]
    metadata: str = dataclasses.field(repr=False)
    unattended: frozenset[int] = frozenset()
    reencrypting: bool = False
    volume_key: str = dataclasses.field(default="", repr=False)
    areas: tuple[tuple[int, int], ...] = dataclasses.field(default=(), repr=False)

    @property
    def unfinished(self) -> bool:
        """Whether the volume is still being made, or the making was interrupted."""
        return self.uuid.startswith(_UNFINISHED)


def read(path: luks_device.Device | str) -> Header | None:
    """
    The header on a device or in a header backup; ``None`` if there is no valid one.

    If one of the two copies of a LUKS2 header is torn, cryptsetup repairs it.
    """
    path = str(path)
    try:
        if _phdr(path)[6:8] == b"\0\1":
            galaxy_host_command.run(["cryptsetup", "luksUUID", path])
            return _version1(_phdr(path))
        dump = galaxy_host_command.run(["cryptsetup", "luksDump", "--dump-json-metadata", path])
    except CommandError as exc:
        if exc.returncode != _NOT_LUKS:
            raise
        return None
    return _version2(_phdr(path), dump)


def identity(path: luks_device.Device | str) -> str:
    """
    The UUID in the first copy of the header, which may be torn; empty if there is none. This costs next to nothing;
    ``read`` costs a process.
    """
    phdr = _phdr(str(path))
    return _uuid(phdr) if phdr.startswith(_MAGIC) else ""


def digest(path: luks_device.Device | str, header: Header) -> str:
    """
    A SHA-256 of this header, from a device or a backup, together with what its key slots have on the medium. No
    checksum of LUKS covers the key slots, and one flipped bit makes a key slot open nothing.
    """
    found = hashlib.sha256(header.metadata.encode())
    with luks_device.errors_of(path, "its key slots cannot be read", HeaderError), open(str(path), "rb") as file:
        for offset, size in header.areas:
            file.seek(offset)
            found.update(file.read(size))
    return found.hexdigest()


def second_copy(path: luks_device.Device | str) -> int | None:
    """The offset of the second copy of a LUKS2 header, in bytes; ``None`` for LUKS1, which has none."""
    phdr = _phdr(str(path))
    return int.from_bytes(phdr[8:16], "big") if phdr[6:8] == b"\0\2" else None


def require(path: luks_device.Device | str) -> Header:
    """The header of a finished volume. Raises ``HeaderError`` if there is none."""
    header = read(path)
    if header is None:
        found = ", ".join(map(str, luks_device.signatures(path))) or "no signature"
        raise HeaderError(
            path,
            f"not a LUKS volume, or its header is damaged (found: {found}). If it was one, "
            "`luks.header_restore` brings its header back from a backup",
        )
    require_finished(path, header.uuid)
    return header


def require_finished(path: luks_device.Device | str, identity: str) -> None:
    """Raises ``HeaderError`` if this UUID of the volume on ``path`` says that the volume is unfinished."""
    if identity.startswith(_UNFINISHED):
        raise HeaderError(
            path, "an unfinished volume: making it was interrupted and it holds no data; run `luks.encrypt` again"
        )


def is_unfinished(device: luks_device.Device, header: Header | None) -> bool:
    """Whether the device, which has this ``header``, carries an unfinished volume, torn or whole, and nothing else."""
    if header:
        return header.unfinished
    found = luks_device.signatures(device)
    return bool(found) and all(each.type == _TYPE and each.uuid.startswith(_UNFINISHED) for each in found)


def is_unattended(token_type: str) -> bool:
    """Whether a token of this type opens a volume without a person who knows a passphrase."""
    return token_type.startswith(_UNATTENDED) and token_type != _RECOVERY


def require_slot_options(path: luks_device.Device | str, options: Options, version: int) -> None:
    """Raises ``KeySlotError`` if a volume of this LUKS version has no such key slots."""
    if options.pbkdf and options.pbkdf not in PBKDFS[version]:
        raise KeySlotError(
            path,
            f"is LUKS{version}: `pbkdf` is {' or '.join(PBKDFS[version])}, not {options.pbkdf}. Nothing was changed",
        )


def require_size(device: luks_device.Device, options: Options) -> None:
    """Raises ``HeaderError`` if the device is too small for such a volume."""
    if device.size < _SMALLEST[options.version]:
        least = _SMALLEST[options.version] >> 20
        raise HeaderError(
            device,
            f"too small for a LUKS{options.version} volume: {device.size} bytes, not {least} MiB. Nothing was changed",
        )


def write(path: luks_device.Device | str, key: Secret, options: Options) -> None:
    """
    Run ``cryptsetup luksFormat``: make an unfinished volume with one key slot. It asks nothing; the caller has made
    sure (``luks_blank.require``) that nothing is lost.
    """
    mark = str(uuid.UUID(int=secrets.randbits(128), version=4))
    mark = _UNFINISHED + mark[len(_UNFINISHED) :]
    log.info("%s: luksFormat, LUKS%d, %s", path, options.version, options.cipher)
    argv = ["cryptsetup", "luksFormat", "--batch-mode", f"--uuid={mark}", *options.argv()]
    galaxy_host_command.run([*argv, "--key-file=-", str(path)], stdin=key, timeout=TIMEOUT)


def format_cheaply(path: str, key: Secret, options: Options) -> None:
    """Do the same on a file, to try the options, with as little key derivation as possible."""
    least = 4 if (options.version, options.pbkdf) in ((2, None), (2, "argon2id"), (2, "argon2i")) else 1000
    cost: dict[str, Any] = {
        "iterations": options.iterations or least,
        "memory": options.memory or 32,
        "iteration_time": None,
    }
    cheap = dataclasses.replace(options, **cost)
    argv = ["cryptsetup", "luksFormat", "--batch-mode", *cheap.argv(), "--key-file=-", path]
    galaxy_host_command.run(argv, stdin=key, timeout=TIMEOUT)


def data_offset(path: luks_device.Device | str) -> int:
    """Bytes of a volume before its data."""
    header = read(path)
    if header is None:
        raise HeaderError(path, "not a LUKS volume")
    if header.version == 1:
        return int(_PHDR.unpack_from(_phdr(str(path)))[5]) * 512
    return min(int(each["offset"]) for each in json.loads(header.metadata)["segments"].values())


def finish(path: luks_device.Device | str) -> str:
    """Give an unfinished, closed volume its final UUID. This is on the medium before it is returned."""
    final = str(uuid.uuid4())
    galaxy_host_command.run(["cryptsetup", "luksUUID", "--batch-mode", f"--uuid={final}", str(path)])
    # both copies of a LUKS2 header: the older copy must never come back and call the volume unfinished
    if any(each.uuid != final for each in luks_device.signatures(path) if each.type == _TYPE):
        raise HeaderError(path, "its final UUID could not be written; see the kernel's log for errors of the device")
    log.info("%s is finished: volume %s", path, final)
    return final


def opens(path: luks_device.Device | str, key: Key, slot: int | None = None) -> bool:
    """Whether the key opens a key slot, or this one. If ``complete`` is due, whether it opens the volume after that."""
    if _opens(path, key, slot):
        return True
    if slot is not None:
        return False
    with luks_rekeyed.trial(path) as scratch:
        return scratch is not None and _opens(scratch, key)


def complete(path: luks_device.Device | str, key: Key) -> bool:
    """
    Complete a change of the volume key if only its last step is missing (``luks_rekeyed``). ``False``: more is missing,
    or the key would not open the volume.
    """
    with luks_rekeyed.trial(path) as scratch:
        if scratch is None or not _opens(scratch, key):
            return False
    log.info("%s: the change of its volume key is brought to its end", path)
    luks_rekeyed.complete(path)
    if require(path).reencrypting:
        raise HeaderError(path, "its header could not be written; see the kernel's log for errors of the device")
    return True


def _opens(path: luks_device.Device | str, key: Key, slot: int | None = None) -> bool:
    argv = ["cryptsetup", "open", "--type=luks", "--test-passphrase"]
    argv += [] if slot is None else [f"--key-slot={slot}"]
    try:
        unlock([*argv, str(path)], key, path)
    except WrongKey:
        return False
    return True


def slots_of(path: luks_device.Device | str, header: Header, key: Key) -> list[int]:
    """The numbers of the key slots that the key opens."""
    return [slot.number for slot in header.slots if opens(path, key, slot.number)]


def require_key(path: luks_device.Device | str, key: Key) -> None:
    """Raises ``WrongKey`` unless the key opens a key slot."""
    if not opens(path, key):
        raise WrongKey(path, "no key slot opens with this key; nothing was changed")


def require_recovery(path: luks_device.Device | str, header: Header) -> None:
    """
    Raises ``KeySlotError`` if each key slot belongs to a token: without the TPM or Tang's server the data would be
    lost.
    """
    if header.unattended.issuperset(slot.number for slot in header.slots):
        raise KeySlotError(
            path,
            "only tokens open it, and no recovery passphrase; add one first (`luks.add_key`). Nothing was changed",
        )


def unlock(argv: list[str], key: Key, path: luks_device.Device | str) -> str:
    """
    Run a cryptsetup command that needs a key of the volume, and return its output. Raises ``WrongKey`` if no key slot
    opens.
    """
    if isinstance(key, Token):
        argv = [*argv, "--token-only"]
    else:
        # `cryptsetup open` tries each token first. If a token works, any key would seem to open any key slot
        argv = [*argv, *(["--token-type=none"] if argv[1] == "open" else []), "--key-file=-"]
    try:
        return galaxy_host_command.run(argv, stdin=key if isinstance(key, Secret) else None, timeout=TIMEOUT)
    except CommandError as exc:
        if isinstance(key, Token) and exc.returncode in (_NO_TOKEN, _NO_KEY):
            said = exc.stderr.splitlines()[-1:] or ["no message"]
            raise WrongKey(path, f"no token in its header opens it ({said[0]}); nothing was changed") from None
        if exc.returncode != _NO_KEY and _NO_SLOT not in exc.stderr:
            raise
        raise WrongKey(path, "no key slot opens with this key; nothing was changed") from None


def _phdr(path: str, offset: int = 0) -> bytes:
    with luks_device.errors_of(path, "its header cannot be read", HeaderError), open(path, "rb") as file:
        file.seek(offset)
        return file.read(_PHDR_SIZE).ljust(_PHDR_SIZE, b"\0")


def _version1(phdr: bytes) -> Header:
    _, _, cipher, mode, _, _, key_bytes, digest, *_ = _PHDR.unpack_from(phdr)
    slots = [_PHDR_SLOT.unpack_from(phdr, _PHDR.size + number * _PHDR_SLOT.size) for number in range(8)]
    used = tuple(
        Slot(number, "pbkdf2", hashlib.sha256(slot[2]).hexdigest())
        for number, slot in enumerate(slots)
        if slot[0] == _SLOT_ENABLED
    )
    cipher_mode = f"{_text(cipher)}-{_text(mode)}"
    areas = tuple((slot[3] * 512, slot[4] * key_bytes) for slot in slots if slot[0] == _SLOT_ENABLED)
    known_by = {"volume_key": digest.hex(), "areas": areas}
    return Header(1, _uuid(phdr), cipher_mode, key_bytes * 8, used, phdr.hex(), **known_by)


def _version2(phdr: bytes, dump: str) -> Header:
    metadata = json.loads(dump)
    # a key slot without a segment ("unbound") opens nothing
    bound = {number for digest in metadata["digests"].values() if digest["segments"] for number in digest["keyslots"]}
    slots = {int(number): slot for number, slot in metadata["keyslots"].items() if number in bound}
    used = tuple(_slot2(number, slot) for number, slot in sorted(slots.items()))
    cipher = next((each["encryption"] for each in metadata["segments"].values() if each["type"] == "crypt"), "")
    key_size = next((slot["key_size"] * 8 for slot in slots.values()), 0)
    tokens = [each for each in metadata["tokens"].values() if is_unattended(each["type"])]
    unattended = frozenset(int(number) for token in tokens for number in token["keyslots"])
    requirements = metadata["config"].get("requirements", {}).get("mandatory", [])
    reencrypting = any(each.startswith("online-reencrypt") for each in requirements)
    volume_key = json.dumps(sorted(each["digest"] for each in metadata["digests"].values() if each["segments"]))
    areas = tuple(
        (int(slot["area"]["offset"]), int(slot["area"]["size"]))
        for _, slot in sorted(metadata["keyslots"].items())
        if slot["type"] == "luks2"
    )
    return Header(2, _uuid(phdr), cipher, key_size, used, dump, unattended, reencrypting, volume_key, areas)


def _slot2(number: int, slot: dict[str, Any]) -> Slot:
    derivation = slot.get("kdf", {})
    identity = hashlib.sha256(derivation.get("salt", "").encode()).hexdigest()
    return Slot(number, derivation.get("type", ""), identity)


def _uuid(phdr: bytes) -> str:
    return _text(_PHDR.unpack_from(phdr)[-1])


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("ascii", "replace")
