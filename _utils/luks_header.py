"""
LUKS headers: read one, write one, and tell a finished volume from one that is still being made.

A new volume is *unfinished* until it is complete; meanwhile its UUID has the reserved form ``756e6669-6e69-8…`` (a
version 8 UUID, which RFC 9562 leaves to such uses; no generator makes it). Why the UUID: LUKS1 and LUKS2 both keep it
in the same sector as the magic number, so there is no moment in which a header exists without the mark, and libblkid
reads it even from a header that was torn by a crash. See ``docs/storage.md``.
"""

import dataclasses
import json
import secrets
import struct
import uuid

import galaxy_host_command
import luks_device
from galaxy_errors import CommandError, HeaderError, WrongKey
from galaxy_host_secret import Secret

_UNFINISHED = "756e6669-6e69-8"
_TYPE = "crypto_LUKS"
# a slow key derivation on a busy machine takes its time
TIMEOUT = 300
# cryptsetup(8), return codes: wrong parameters, such as a device without a valid header; no permission, such as with a
# key that opens no key slot
_NOT_LUKS, _NO_KEY = 1, 2
# on-disk format of LUKS1, "phdr": magic, version, cipher, mode, hash, payload, key bytes, digest, salt, iterations,
# UUID, then eight key slots of state, iterations, salt, offset, stripes; cryptsetup has no JSON of it. Magic, version
# and UUID are at the same place in LUKS2
_MAGIC = b"LUKS\xba\xbe"
_PHDR = struct.Struct(">6sH32s32s32sII20s32sI40s")
_PHDR_SLOT = struct.Struct(">II32sII")
_PHDR_SIZE = _PHDR.size + 8 * _PHDR_SLOT.size
_SLOT_ENABLED = 0x00AC71F3
# by LUKS version, the default first
_PBKDFS = {1: ("pbkdf2",), 2: ("argon2id", "argon2i", "pbkdf2")}


@dataclasses.dataclass(frozen=True)
class Options:
    """
    How ``cryptsetup luksFormat`` makes a volume. ``None`` leaves a choice to cryptsetup; ``iterations`` and ``memory``
    (KiB) skip its benchmark of the key derivation, ``iteration_time`` is that benchmark's aim in milliseconds.
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
    def checked(cls, **given: object) -> "Options":
        """The options given; raises ``ValueError`` for what is none, of the wrong type, or not of that version."""
        kinds = {field.name: int if field.type in (int, int | None) else str for field in dataclasses.fields(cls)}
        for name, value in given.items():
            if name not in kinds:
                raise ValueError(f"`{name}` is no option of a volume; those are {', '.join(kinds)}")
            if type(value) is not kinds[name]:
                raise ValueError(f"`{name}` must be {'a number' if kinds[name] is int else 'a text'}, not {value!r}")
        options = cls(**given)
        if options.version not in _PBKDFS:
            raise ValueError(f"`version` must be 1 or 2, not {options.version}")
        if options.pbkdf and options.pbkdf not in _PBKDFS[options.version]:
            raise ValueError(f"`pbkdf` of LUKS{options.version} is one of {', '.join(_PBKDFS[options.version])}")
        return options

    def argv(self) -> list[str]:
        """For ``cryptsetup luksFormat``."""
        hash_ = [f"--hash={self.hash}"] if self.hash else []
        cipher = [f"--cipher={self.cipher}", f"--key-size={self.key_size}"]
        return [f"--type=luks{self.version}", *cipher, *hash_, *self.slot_argv(self.version)]

    def slot_argv(self, version: int) -> list[str]:
        """For a key slot of a volume of that version."""
        given = {
            "pbkdf": (self.pbkdf or _PBKDFS[2][0]) if version == 2 else None,
            "iter-time": self.iteration_time,
            "pbkdf-force-iterations": self.iterations,
            "pbkdf-memory": self.memory if version == 2 else None,
        }
        return [f"--{name}={value}" for name, value in given.items() if value]


DEFAULTS = Options()


@dataclasses.dataclass(frozen=True)
class Slot:
    """A key slot in use."""

    number: int
    pbkdf: str


@dataclasses.dataclass(frozen=True)
class Header:
    """
    What a valid LUKS header says; ``key_size`` in bits. ``metadata`` is all of it as text: two headers are equal only
    when nothing differs.
    """

    version: int
    uuid: str
    cipher: str
    key_size: int
    slots: tuple[Slot, ...]
    metadata: str = dataclasses.field(repr=False)

    @property
    def unfinished(self) -> bool:
        """Whether the volume is still being made, or making it was interrupted."""
        return self.uuid.startswith(_UNFINISHED)


def read(path: luks_device.Device | str) -> Header | None:
    """
    The header on a device or in a header backup; ``None`` when there is no valid one.

    cryptsetup repairs a LUKS2 header of which one of its two copies was torn.
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
    The UUID in the first copy of the header, which may be torn; empty when there is none. It costs next to nothing,
    where ``read`` costs a process.
    """
    phdr = _phdr(str(path))
    return _uuid(phdr) if phdr.startswith(_MAGIC) else ""


def require(path: luks_device.Device | str) -> Header:
    """The header of a finished volume; raises ``HeaderError`` when there is none."""
    header = read(path)
    if header is None:
        found = ", ".join(map(str, luks_device.signatures(path))) or "no signature"
        raise HeaderError(path, f"not a LUKS volume, or its header is damaged (found: {found})")
    require_finished(path, header.uuid)
    return header


def require_finished(path: luks_device.Device | str, identity: str) -> None:
    """Raises ``HeaderError`` when that UUID, of the volume on ``path``, says that the volume is unfinished."""
    if identity.startswith(_UNFINISHED):
        raise HeaderError(
            path, "an unfinished volume: making it was interrupted and it holds no data; run `luks.encrypt` again"
        )


def is_unfinished(device: luks_device.Device, header: Header | None) -> bool:
    """Whether the device, of that ``header``, carries an unfinished volume, torn or whole, and nothing else."""
    if header:
        return header.unfinished
    found = luks_device.signatures(device)
    return bool(found) and all(each.type == _TYPE and each.uuid.startswith(_UNFINISHED) for each in found)


def write(path: luks_device.Device | str, key: Secret, options: Options) -> None:
    """
    ``cryptsetup luksFormat``: an unfinished volume with one key slot. It asks nothing; the caller has made sure
    (``luks_device.require_blank``) that nothing is lost.
    """
    mark = str(uuid.UUID(int=secrets.randbits(128), version=4))
    mark = _UNFINISHED + mark[len(_UNFINISHED) :]
    argv = ["cryptsetup", "luksFormat", "--batch-mode", f"--uuid={mark}", *options.argv()]
    galaxy_host_command.run([*argv, "--key-file=-", str(path)], stdin=key, timeout=TIMEOUT)
    luks_device.sync(path)


def finish(path: luks_device.Device | str) -> str:
    """Give an unfinished, closed volume its final UUID, which is returned once it is on the medium."""
    final = str(uuid.uuid4())
    galaxy_host_command.run(["cryptsetup", "luksUUID", "--batch-mode", f"--uuid={final}", str(path)])
    luks_device.sync(path)
    # both copies of a LUKS2 header: an older one must never come back and call the volume unfinished
    if any(each.uuid != final for each in luks_device.signatures(path) if each.type == _TYPE):
        raise HeaderError(path, "its final UUID could not be written; see the kernel's log for errors of the device")
    return final


def opens(path: luks_device.Device | str, key: Secret, slot: int | None = None) -> bool:
    """Whether the key opens a key slot, or that one."""
    argv = ["cryptsetup", "open", "--type=luks", "--test-passphrase", "--key-file=-"]
    argv += [] if slot is None else [f"--key-slot={slot}"]
    try:
        unlock([*argv, str(path)], key, path)
    except WrongKey:
        return False
    return True


def require_key(path: luks_device.Device | str, key: Secret) -> None:
    """Raises ``WrongKey`` unless the key opens a key slot."""
    if not opens(path, key):
        raise WrongKey(path, "no key slot opens with this key; nothing was changed")


def unlock(argv: list[str], stdin: Secret, path: luks_device.Device | str) -> None:
    """Run a cryptsetup command that needs a key of the volume; raises ``WrongKey`` when no key slot opens."""
    try:
        galaxy_host_command.run(argv, stdin=stdin, timeout=TIMEOUT)
    except CommandError as exc:
        if exc.returncode != _NO_KEY:
            raise
        raise WrongKey(path, "no key slot opens with this key; nothing was changed") from None


def _phdr(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(_PHDR_SIZE).ljust(_PHDR_SIZE, b"\0")


def _version1(phdr: bytes) -> Header:
    _, _, cipher, mode, _, _, key_bytes, *_ = _PHDR.unpack_from(phdr)
    slots = [_PHDR_SLOT.unpack_from(phdr, _PHDR.size + number * _PHDR_SLOT.size) for number in range(8)]
    used = tuple(Slot(number, "pbkdf2") for number, slot in enumerate(slots) if slot[0] == _SLOT_ENABLED)
    return Header(1, _uuid(phdr), f"{_text(cipher)}-{_text(mode)}", key_bytes * 8, used, phdr.hex())


def _version2(phdr: bytes, dump: str) -> Header:
    metadata = json.loads(dump)
    # a key slot that no segment uses ("unbound") opens nothing
    bound = {number for digest in metadata["digests"].values() if digest["segments"] for number in digest["keyslots"]}
    slots = {int(number): slot for number, slot in metadata["keyslots"].items() if number in bound}
    used = tuple(Slot(number, slot.get("kdf", {}).get("type", "")) for number, slot in sorted(slots.items()))
    cipher = next((each["encryption"] for each in metadata["segments"].values() if each["type"] == "crypt"), "")
    key_size = next((slot["key_size"] * 8 for slot in slots.values()), 0)
    return Header(2, _uuid(phdr), cipher, key_size, used, dump)


def _uuid(phdr: bytes) -> str:
    return _text(_PHDR.unpack_from(phdr)[-1])


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("ascii", "replace")
