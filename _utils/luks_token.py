"""
Work with LUKS2 tokens that open a volume unattended: what Clevis and ``systemd-cryptenroll`` leave in its header.

A change of the volume key destroys the key slots of all keys but one, so their tokens have none. But each token still
gives the same passphrase. So it gets another key slot with this passphrase.
"""

import json
import logging

import galaxy_host_command
import luks_device
import luks_header
from galaxy_errors import CommandError, KeySlotError
from galaxy_host_record import record
from galaxy_host_secret import Secret

log = logging.getLogger(__name__)

# seconds to wait for a Tang server, a TPM or a busy machine
_TIMEOUT = 120


@record(frozen=True)
class Token:
    """A token: its number, its ``type`` (``clevis``, ``systemd-tpm2``, …), and the key slots that it opens."""

    number: int
    type: str
    slots: tuple[int, ...]
    content: str

    def __str__(self) -> str:
        return f"token {self.number} ({self.type})"


def of(header: luks_header.Header) -> list[Token]:
    """The tokens of the header that open a volume unattended, with or without a key slot."""
    if header.version != 2:
        return []
    return [
        Token(int(number), each["type"], tuple(sorted(map(int, each["keyslots"]))), json.dumps(each))
        for number, each in sorted(json.loads(header.metadata)["tokens"].items())
        if luks_header.is_unattended(each["type"])
    ]


def require_working(device: luks_device.Device, header: luks_header.Header) -> list[Token]:
    """
    The tokens that open a key slot. Each is tried. Raises ``KeySlotError`` for one that does not open it now, because
    it could not be bound anew.
    """
    bound = [token for token in of(header) if token.slots]
    for token in bound:
        reason = _failure(device, token)
        if reason:
            slots = ", ".join(map(str, token.slots))
            raise KeySlotError(
                device,
                f"{token} does not open key slot {slots} now, and would not open the volume after the change: "
                f"{reason}. Repair it first, or remove it: `luks.remove_slot {device} {token.slots[0]}`. Nothing "
                "was changed",
            )
    return bound


def bind(device: luks_device.Device, number: int, key: Secret, options: luks_header.Options) -> None:
    """
    Give the token a key slot again, with the passphrase that the token gives, unless it has one. ``key`` opens the
    volume. Raises ``KeySlotError``, with nothing lost, if the token gives no passphrase.
    """
    found = [token for token in of(luks_header.require(device)) if token.number == number]
    if not found or found[0].slots:
        return
    (token,) = found
    log.info("%s: %s gets a key slot", device, token)
    argv = ["cryptsetup", "luksAddKey", "--batch-mode", *options.slot_argv(2)]
    try:
        if token.type != luks_header.CLEVIS:
            # cryptsetup asks for the new passphrase, and gives the token the key slot
            luks_header.unlock([*argv, f"--new-token-id={number}", str(device)], key, device)
        else:
            _bind_clevis(device, token, key, argv)
    except CommandError as exc:
        said = exc.stderr.splitlines()[-1] if exc.stderr else str(exc)
        raise KeySlotError(device, f"{token} does not open it any more: {said}. Run `luks.reencrypt` again") from None


def _bind_clevis(device: luks_device.Device, token: Token, key: Secret, argv: list[str]) -> None:
    secret = _decrypted(token)
    slots = luks_header.slots_of(device, luks_header.require(device), secret)
    if not slots:
        both = Secret(key.reveal() + secret.reveal())
        luks_header.unlock([*argv, f"--keyfile-size={len(key.reveal())}", str(device), "-"], both, device)
        slots = luks_header.slots_of(device, luks_header.require(device), secret)
    content = json.dumps({**json.loads(token.content), "keyslots": [str(slots[0])]}).encode()
    argv = ["cryptsetup", "token", "import", f"--token-id={token.number}", "--token-replace", "--json-file=-"]
    galaxy_host_command.run([*argv, str(device)], stdin=content)


def _failure(device: luks_device.Device, token: Token) -> str:
    """Why the token does not open the volume; empty if it does."""
    argv = ["cryptsetup", "open", "--test-passphrase", "--type=luks", "--token-only", f"--token-id={token.number}"]
    try:
        if token.type == luks_header.CLEVIS:
            return "" if luks_header.opens(device, _decrypted(token)) else "its passphrase opens no key slot"
        galaxy_host_command.run([*argv, str(device)], timeout=luks_header.TIMEOUT)
    except CommandError as exc:
        return exc.stderr.splitlines()[-1] if exc.stderr else str(exc)
    return ""


def _decrypted(token: Token) -> Secret:
    """The passphrase that Clevis gives, with or without a key slot; ``clevis luks pass`` needs a key slot."""
    jwe = json.dumps(json.loads(token.content)["jwe"]).encode()
    compact = galaxy_host_command.run(["jose", "jwe", "fmt", "--input=-", "--compact"], stdin=jwe)
    return Secret(galaxy_host_command.run(["clevis", "decrypt"], stdin=compact.encode(), timeout=_TIMEOUT).encode())
