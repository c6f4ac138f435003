"""
Get a key, passphrase or token from its place. It is read only when it is needed.
"""

import getpass
import logging
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from salt.exceptions import CommandExecutionError

import galaxy_host_command
from galaxy_errors import CommandError, KeySourceError
from galaxy_host_secret import MASK, Secret
from galaxy_host_wait import Deadline, wait_until

log = logging.getLogger(__name__)

# cryptsetup's own limit for a key file
MAX_KEY_FILE = 8 << 20
# longest file name on Linux's filesystems, in bytes
_LONGEST_NAME = 255
# seconds to wait for a Tang server, a TPM, or a machine that is busy with its boot
_CLEVIS = 120
# seconds between two questions to a database that fails; other machines ask it too
_INTERVAL = 2


def resolve(
    source: str,
    functions: Mapping[str, Callable[..., Any]],
    pillar: Mapping[str, Any],
    subject: str,
    parameter: str = "key",
    timeout: float = 0,
) -> Secret:
    """
    The secret at the place ``source``: ``pillar://path:to:it``, ``sdb://profile/key``, ``clevis:///path/of/device``,
    the absolute path of a key file, or ``prompt`` for the terminal.

    functions, pillar
        Salt's execution modules (``__salt__``) and the minion's pillar
    subject
        what the key opens, for the prompt
    parameter
        name of the parameter that has the place, for errors
    timeout
        if a database fails: seconds to ask it again and again. If it answers that it has no such key, this is final

    Raises ``KeySourceError``, which names the place and never what is there.
    """
    if source == "prompt":
        return prompt(subject)
    scheme, _, name = source.rpartition("://")
    if scheme == "pillar":
        # not pillar.get: since Salt 3008 it returns asterisks instead of secrets
        return passphrase(_traverse(pillar, name), source)
    if scheme == "sdb":
        value = _ask(functions["sdb.get"], source, timeout)
        # if Salt does not know the profile, it returns the address itself
        return passphrase(None if value == source else value, source)
    if scheme == "clevis":
        return clevis(name, timeout)
    if os.path.isabs(source):
        return read_file(source)
    raise KeySourceError(
        f"`{parameter}`", "names no place of a key: pillar://…, sdb://…, clevis://, an absolute path, or prompt"
    )


def read_file(path: str) -> Secret:
    """
    The key in file ``path``, byte for byte as cryptsetup reads key files.

    Raises ``KeySourceError`` unless it is a regular, non-empty file that only its owner (root or ourselves) can read.
    """
    try:
        with open(path, "rb", opener=_open_plain) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise KeySourceError(path, "key file is not a regular file")
            if status.st_mode & 0o077:
                mode = f"{status.st_mode & 0o777:04o}"
                raise KeySourceError(path, f"key file has mode {mode}, open to others; chmod 0600 it")
            if status.st_uid not in (0, os.geteuid()):
                raise KeySourceError(path, f"key file belongs to user {status.st_uid}; chown it to root")
            key = file.read(MAX_KEY_FILE + 1)
    except OSError as exc:
        raise KeySourceError(path, f"key file cannot be read: {exc.strerror}") from None
    if not 0 < len(key) <= MAX_KEY_FILE:
        raise KeySourceError(path, "key file is longer than cryptsetup reads" if key else "key file is empty")
    return Secret(key)


def clevis(device: str, timeout: float = 0) -> Secret:
    """
    The passphrase that Clevis has bound to a key slot of the volume on ``device``, from Tang or the TPM. They are asked
    again for ``timeout`` seconds, because a Tang server may start later than this machine. Raises ``KeySourceError``.
    """
    failures = ["it is empty"]

    def ask() -> str:
        try:
            listed = galaxy_host_command.run(["clevis", "luks", "list", "-d", device], timeout=_CLEVIS)
        except CommandError as exc:
            failures.append(exc.stderr.splitlines()[-1] if exc.stderr else str(exc))
            return ""
        slots = re.findall(r"^(\d+): (\S+)", listed, re.MULTILINE)
        if not slots:
            failures.append("no key slot is bound to anything; see clevis-luks-bind(1)")
        for slot, pin in slots:
            try:
                return galaxy_host_command.run(["clevis", "luks", "pass", "-d", device, "-s", slot], timeout=_CLEVIS)
            except CommandError as exc:
                log.info("%s: clevis gives no passphrase for key slot %s (%s)", device, slot, pin)
                failures.append(
                    f"key slot {slot} ({pin}) gives none: {exc.stderr.splitlines()[0] if exc.stderr else exc}"
                )
        return ""

    value = wait_until(ask, Deadline(timeout), _INTERVAL, lambda: f"clevis:// of {device}: {failures[-1]}")
    if not value:
        raise KeySourceError("clevis://", f"gives no passphrase of {device}: {failures[-1]}")
    return Secret(value)


def passphrase(value: object, source: str) -> Secret:
    """
    Take ``value`` as a passphrase. One newline at its end is not part of it: an editor or a YAML block leaves it there.

    Raises ``KeySourceError``, which names the ``source``, if the value is no text or is empty.
    """
    if isinstance(value, bytes):
        value = value.decode(errors="surrogateescape")
    if not isinstance(value, str):
        found = "nothing" if value is None else f"a {type(value).__name__} (quote it in YAML)"
        raise KeySourceError(source, f"holds {found}, not a passphrase")
    value = value.removesuffix("\n")
    if not value:
        raise KeySourceError(source, "the passphrase is empty")
    if value == MASK:
        raise KeySourceError(source, "gives asterisks, which Salt puts in the place of a secret, not the passphrase")
    return Secret(value.encode(errors="surrogateescape"))


def prompt(subject: str) -> Secret:
    """Ask for a passphrase on the terminal, without echo. Raises ``KeySourceError`` if there is no terminal."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        raise KeySourceError("prompt", "there is no terminal to ask on; name another source of the key") from None
    os.close(terminal)
    return passphrase(getpass.getpass(f"Passphrase for {subject}: "), "prompt")


def generate_file(path: str, size: int = 64, test: bool = False) -> None:
    """
    Make a key file of ``size`` random bytes (``secrets``), as hexadecimal digits, with mode 0600. It is on the medium
    before this returns. With ``test`` nothing is made. Raises ``KeySourceError`` if the file exists, because a key is
    never overwritten, or if it cannot be made.
    """
    # a temporary file beside it has a name that is 13 bytes longer
    if "\0" in path or any(len(os.fsencode(part)) > _LONGEST_NAME - 13 for part in path.split("/")):
        raise KeySourceError(repr(path), "is not the path of a file: it holds a NUL, or a name that is too long")
    if os.path.lexists(path):
        raise KeySourceError(path, "there already is a key file; it was left as it is")
    directory = os.path.dirname(path) or "."
    existing = directory
    while not os.path.lexists(existing):
        existing = os.path.dirname(existing)
    try:
        # some directories look writable but are not
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as exc:
        raise KeySourceError(path, f"key file cannot be written: {existing}: {exc.strerror}") from None
    if test:
        return
    log.info("a key file is made: %s", path)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
    except OSError as exc:
        raise KeySourceError(path, f"key file cannot be written: {exc.strerror}") from None
    temporary = f"{path}.new-{secrets.token_hex(4)}"
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_hex(size))
            file.flush()
            os.fsync(file.fileno())
        # rename would replace a file, link never does. A crash leaves the whole key or none, and no run replaces
        # another's key
        os.link(temporary, path)
    except FileExistsError:
        raise KeySourceError(path, "there already is a key file; it was left as it is") from None
    except OSError as exc:
        raise KeySourceError(path, f"key file cannot be written: {exc.strerror}") from None
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
    _sync(directory)


def _ask(get: Callable[[str], object], source: str, timeout: float) -> object:
    """Ask the database at ``source`` until it gives something."""
    failures = []

    def answer() -> list[Any]:
        try:
            return [get(source)]
        except CommandExecutionError as exc:
            failures.append(str(exc))
        except Exception as exc:
            # a driver may raise any exception, and its message may quote a secret
            failures.append(type(exc).__name__)
        return []

    found = wait_until(answer, Deadline(timeout), _INTERVAL, lambda: f"{source} cannot be read: {failures[-1]}")
    if not found:
        tried = f" ({len(failures)} times within {timeout:g} s)" if len(failures) > 1 else ""
        raise KeySourceError(source, f"cannot be read{tried}: {failures[-1]}")
    return found[0]


def _traverse(pillar: Mapping[str, Any], path: str) -> object:
    found: object = pillar
    for name in path.split(":"):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _sync(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_plain(path: str, flags: int) -> int:
    # do not follow a link, and do not wait for the other end of a pipe
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
