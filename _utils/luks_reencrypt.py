"""
Change the volume key of a LUKS2 volume: all of its data is encrypted anew, in place.
"""

import concurrent.futures
import json
import logging
from collections.abc import Sequence
from typing import Any

import galaxy_host_command
import luks_backup
import luks_device
import luks_header
import luks_key
import luks_token
from galaxy_errors import HeaderError
from galaxy_host_secret import Secret
from galaxy_host_wait import Deadline, wait_until

log = logging.getLogger(__name__)

# seconds; so long that even a large volume on a slow disk is done
_TIMEOUT = 14 * 24 * 3600
# seconds between two looks whether it is done
_INTERVAL = 5.0
# this token in the header says that old keys and backups must still be settled, and which tokens get a key slot again
_TOKEN_ID, _TOKEN = 31, "galaxy-reencrypt"


def run(
    device: luks_device.Device,
    key: Secret,
    others: Sequence[Secret],
    options: luks_header.Options,
    place: luks_key.Place,
    test: bool = False,
) -> bool:
    """
    Encrypt the volume with a new volume key, or go on if this was interrupted. The volume may be open, and stays open.

    key
        opens the volume, before and after
    others
        the other keys that shall open it afterwards
    options
        options of the new key slots

    Tokens of Clevis and systemd open it afterwards as before: each is tried at the beginning, and gets a key slot again
    at the end. Older header backups would only open garbage; once the new header is backed up, they are removed. Raises
    ``HeaderError`` for a LUKS1 volume; ``WrongKey`` if ``key``, or at the beginning one of ``others``, does not open
    it; and ``KeySlotError`` if a token does not open it.
    """
    with luks_device.claimed(device):
        header = luks_header.require(device)
        if header.version != 2:
            raise HeaderError(device, "LUKS1: only LUKS2 can get another volume key in place. Nothing was changed")
        luks_header.require_key(device, key)
        begun = is_begun(header)
        if not begun:
            for other in others:
                luks_header.require_key(device, other)
            tokens = luks_token.require_working(device, header)
        if test:
            return True
        if not begun:
            luks_backup.make(device, place.backups, key, place.keep)
            _begin(device, [token.number for token in tokens])
        # if only the last step is missing, cryptsetup itself cannot go on
        is_complete = header.reencrypting and luks_header.complete(device, key)
        if not is_complete and (not begun or header.reencrypting):
            _encrypt(device, header, key, options)
        for number in _tokens_left(luks_header.require(device)):
            luks_token.bind(device, number, key, options)
        for other in others:
            luks_key.add_claimed(device, key, other, options, place)
        _end(device, key, place)
    return True


def is_begun(header: luks_header.Header) -> bool:
    """Whether a change of the volume key was begun and is not complete, with all keys and backups."""
    return header.reencrypting or _note(header) is not None


def _note(header: luks_header.Header) -> dict[str, Any] | None:
    """The token that ``_begin`` left."""
    token = json.loads(header.metadata)["tokens"].get(str(_TOKEN_ID), {}) if header.version == 2 else {}
    return token if token.get("type") == _TOKEN else None


def _tokens_left(header: luks_header.Header) -> list[int]:
    tokens: list[int] = (_note(header) or {}).get("tokens", [])
    return tokens


def _begin(device: luks_device.Device, tokens: Sequence[int]) -> None:
    token = json.dumps({"type": _TOKEN, "keyslots": [], "tokens": list(tokens)}).encode()
    argv = ["cryptsetup", "token", "import", f"--token-id={_TOKEN_ID}", "--json-file=-", str(device)]
    galaxy_host_command.run(argv, stdin=token)


def _encrypt(
    device: luks_device.Device,
    header: luks_header.Header,
    key: Secret,
    options: luks_header.Options,
) -> None:
    log.info("%s: encrypted with a new volume key%s", device, ", from where it was" if header.reencrypting else "")
    argv = ["cryptsetup", "reencrypt", "--batch-mode"]
    if header.reencrypting:
        argv.append("--resume-only")
    else:
        argv += [f"--key-slot={luks_header.slots_of(device, header, key)[0]}", *options.slot_argv(header.version)]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        work = pool.submit(galaxy_host_command.run, [*argv, "--key-file=-", str(device)], stdin=key, timeout=_TIMEOUT)
        wait_until(
            work.done,
            Deadline(_TIMEOUT),
            _INTERVAL,
            lambda: f"{_percent(device)} % of {device} have the new volume key",
        )
        work.result()
    if luks_header.require(device).reencrypting:
        raise HeaderError(device, "the change of its volume key did not come to its end; run `luks.reencrypt` again")


def _percent(device: luks_device.Device) -> int:
    """How much of the data has the new volume key, by the header; 0 if the header does not tell."""
    header = luks_header.read(device)
    if header is None or header.version != 2 or not header.reencrypting:
        return 0
    segments = json.loads(header.metadata)["segments"]
    at = [each for each in segments.values() if not any(flag.startswith("backup") for flag in each.get("flags", []))]
    moving = [int(each["offset"]) for each in at if "in-reencryption" in each.get("flags", [])]
    starts = sorted(int(each["offset"]) for each in at)
    reached = moving[0] if moving else (starts[1] if len(starts) > 1 else starts[0])
    return min(99, (reached - starts[0]) * 100 // max(1, device.size - starts[0]))


def _end(device: luks_device.Device, key: Secret, place: luks_key.Place) -> None:
    luks_backup.make(device, place.backups, key, place.keep)
    luks_backup.remove_outdated(luks_header.require(device), place.backups)
    # if somebody began the change with cryptsetup by hand, there is no note
    if _note(luks_header.require(device)) is None:
        return
    galaxy_host_command.run(["cryptsetup", "token", "remove", f"--token-id={_TOKEN_ID}", str(device)])
    # the header has changed: the token is gone
    luks_backup.make(device, place.backups, key, place.keep)
