"""
Read ``luks-cryptdev.ini``, in which the old scripts kept a machine's encrypted volume.
"""

import configparser
from typing import Any

import galaxy_host_files
from galaxy_errors import ConfigError, FileError
from galaxy_host_pattern import Pattern
from galaxy_host_record import record

PATH = "/etc/luks/luks-cryptdev.ini"
_SECTION = "luks"
_QUOTED = Pattern(r"(?P<quote>[\"'])(?P<value>.*?)(?P=quote)\s*(?:[;#].*)?\Z")
_BARE = Pattern(r"(?P<value>.*?)(?:(?:^|\s+)[;#].*)?\Z")


@record(frozen=True)
class CryptDev:
    """
    The ``[luks]`` section; ``keysize`` in bits. If there is a UUID, it finds the volume, because device names change.
    """

    device: str
    uuid: str
    cryptdev: str
    mountpoint: str
    filesystem: str
    cipher_algorithm: str
    keysize: int
    hash_algorithm: str

    def storage(self) -> dict[str, Any]:
        """The same volume as ``galaxy:storage`` in pillar declares it, without its key."""
        return {
            "device": f"UUID={self.uuid}" if self.uuid else self.device,
            "mapper": self.cryptdev,
            "mount_point": self.mountpoint,
            "filesystem": self.filesystem,
            "cipher": self.cipher_algorithm,
            "key_size": self.keysize,
            "hash": self.hash_algorithm,
        }


def read(path: str = PATH) -> CryptDev:
    """
    The volume that the file describes.

    Raises ``ConfigError`` if the file cannot be read, if others can write it (it says where root mounts), or if it does
    not name the device or its UUID, the mapper, and the mount point.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        # some editors write a byte order mark at the beginning
        parser.read_string(galaxy_host_files.read(path, trusted=True).decode("utf-8-sig"), path)
        section = {key: _value(path, key, value) for key, value in parser[_SECTION].items()}
    except FileError as exc:
        raise ConfigError(str(exc)) from None
    except (configparser.Error, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: not an INI file: {str(exc).splitlines()[0]}") from None
    except KeyError:
        raise ConfigError(f"{path}: has no section [{_SECTION}]") from None
    section["cryptdev"] = section.get("cryptdev") or section.get("mapper", "").removeprefix("/dev/mapper/")
    missing = [key for key in ("cryptdev", "mountpoint") if not section.get(key)]
    missing += [] if section.get("uuid") or section.get("device") else ["uuid"]
    if missing:
        raise ConfigError(f"{path}: [{_SECTION}] lacks {', '.join(missing)}")
    keysize = section.get("keysize") or "256"
    if not keysize.isdecimal():
        raise ConfigError(f"{path}: [{_SECTION}] keysize {keysize!r} is no number of bits")
    return CryptDev(
        device=section.get("device", ""),
        uuid=section.get("uuid", "").removeprefix("UUID=").lower(),
        cryptdev=section["cryptdev"],
        mountpoint=section["mountpoint"],
        filesystem=section.get("filesystem") or "ext4",
        cipher_algorithm=section.get("cipher_algorithm") or "aes-xts-plain64",
        keysize=int(keysize),
        hash_algorithm=section.get("hash_algorithm") or "sha256",
    )


def _value(path: str, key: str, text: str) -> str:
    """
    A value without its quotes, and without a comment behind it, as Python 2's ConfigParser read it for the scripts.
    """
    if "\n" in text:
        raise ConfigError(f"{path}: [{_SECTION}] {key} goes over several lines; begin each line with its key")
    match = _QUOTED.match(text) or _BARE.match(text)
    return match["value"].strip() if match else ""
