"""
Encrypted volumes: LUKS1 and LUKS2 devices, their keys, headers and filesystems.

:depends: cryptsetup, util-linux; ``mkfs`` of the filesystem to be made

**Devices** are named as in :manpage:`fstab(5)`: a path, ``/dev/disk/by-uuid/…``, ``UUID=…``, ``LABEL=…``,
``PARTUUID=…`` or ``PARTLABEL=…``. On a command line write ``device=UUID=…``, since Salt takes a bare ``UUID=…`` for a
keyword.

**Keys** are named by their place, so that no key is in a command line, an SLS file, or the job cache:

``pillar://galaxy:storage:passphrase``
    a passphrase in pillar, plain or GPG-rendered
``sdb://profile/key``
    a passphrase in any database that Salt's :py:mod:`sdb <salt.modules.sdb>` reaches, Vault among them
``/etc/luks/galaxy.key``
    a key file, mode 0600, read byte for byte
``prompt``
    ask on the terminal of ``salt-call``

A single newline at the end of a passphrase (not of a key file) is left out. Every function with ``key`` takes
``passphrase`` in its place, the passphrase itself, for interactive use with ``salt-call --local`` only; mind the
shell's history. From a master it is refused, since Salt keeps arguments in the job cache.
"""

from __future__ import annotations

import os

import salt.utils.path
from salt.exceptions import SaltInvocationError

import galaxy_host_key
import luks_backup
import luks_cryptdev_ini
import luks_device
import luks_encrypt
import luks_filesystem
import luks_header
import luks_key
import luks_mapping
import luks_status
from galaxy_host_secret import Secret

__virtualname__ = "luks"
__func_alias__ = {"format_": "format", "open_": "open"}

TYPE_CHECKING = False
if TYPE_CHECKING:
    __salt__: dict
    __opts__: dict
    __pillar__: dict


def __virtual__():
    if not salt.utils.path.which("cryptsetup"):
        return False, "luks: cryptsetup is not installed"
    return __virtualname__


def status(device, backups=luks_backup.DIRECTORY):
    """
    What is known of an encrypted volume.

    device
        the device, or ``/dev/mapper/<name>`` of an open volume
    backups : /var/backups/luks
        where its header backups are

    Returns a dictionary:

    ``device``, ``size``
        path and bytes; ``None`` when the device of an open volume is lost
    ``luks``
        whether there is a valid LUKS header; if so also ``version`` (1 or 2), ``uuid``, ``cipher``, ``key_size``
        (bits), and ``slots``, a list of ``number`` and ``pbkdf`` of the key slots in use
    ``signatures``
        what else is there: a list of ``type``, ``uuid`` and ``offset`` (bytes)
    ``header_backup``
        path of the backup of the header as it now is, or ``None``
    ``unfinished``
        whether making it was interrupted: it holds no data, and ``luks.encrypt`` starts anew
    ``open``
        whether it is open; if so also ``mapper`` (name), ``stale`` (its device was lost), ``filesystem`` (type),
        ``mounts``, a list of ``target``, ``source``, ``fstype`` and ``options``, and ``processes``, a list of ``pid``,
        ``name`` and ``use`` of those that hold it

    Fails when there is no such device.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.status /dev/vdb
    """
    return luks_status.read(_text("device", device), _absolute("backups", backups))


def open_volumes():
    """
    The LUKS volumes that are open on this machine, by mapper name, those of lost devices included.

    Returns a dictionary; the value of each is as ``luks.status`` returns it.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.open_volumes
    """
    return luks_status.read_open()


def encrypt(
    device,
    mapper,
    mount_point,
    key=None,
    passphrase=None,
    filesystem="ext4",
    mkfs_options=(),
    mount_options=(),
    discard=False,
    backups=luks_backup.DIRECTORY,
    may_format=True,
    key_timeout=0,
    test=False,
    **options,
):
    """
    The whole procedure: make the device an encrypted volume with a filesystem, back up its header, open and mount it.

    What is done already is left as it is, so it serves for the volume that exists too; an interrupted run is completed
    by the next. A device that carries anything else is refused.

    device
        the device
    mapper
        name of the opened volume in ``/dev/mapper``
    mount_point
        an empty directory; made if missing
    key, passphrase
        what opens it
    filesystem : ext4
        ``ext4``, ``ext3``, ``ext2``, ``xfs`` or ``btrfs``
    mkfs_options, mount_options
        lists of options, of ``mkfs`` and of ``mount -o``
    discard : False
        pass discards on to the device, see ``--allow-discards`` in :manpage:`cryptsetup(8)`
    backups : /var/backups/luks
        directory of the header backup
    may_format : True
        whether a blank device may be formatted
    key_timeout : 0
        seconds for which a key's database that fails is asked again, such as a Vault that starts after this machine
    test : False
        only say what would be done; the key is tried on a volume that would be opened
    version, cipher, key_size, hash, pbkdf, iteration_time, iterations, memory
        of a new volume, as in ``luks.format``

    Returns the list of steps taken, of ``format``, ``mkfs``, ``header_backup``, ``open``, ``mount``; empty when there
    was nothing to do.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.encrypt /dev/vdb galaxy /export key=pillar://galaxy:storage:passphrase
    """
    plan = luks_encrypt.Plan(
        device=_text("device", device),
        mapper=_mapper(mapper),
        mount_point=_absolute("mount_point", mount_point),
        fstype=_text("filesystem", filesystem),
        mkfs_options=_list("mkfs_options", mkfs_options),
        mount_options=_list("mount_options", mount_options),
        luks=_luks_options(options),
        backups=_absolute("backups", backups),
        discard=bool(discard),
        may_format=bool(may_format),
    )
    steps = luks_encrypt.remaining(plan)
    if not steps:
        return steps
    if not test:
        return luks_encrypt.run(plan, _key(key, passphrase, device, timeout=key_timeout))
    if luks_encrypt.OPEN in steps and luks_encrypt.FORMAT not in steps:
        luks_header.require_key(_device(device), _key(key, passphrase, device, timeout=key_timeout))
    return steps


def open_(
    device,
    mapper,
    key=None,
    passphrase=None,
    mount_point=None,
    mount_options=(),
    discard=False,
    key_timeout=0,
    test=False,
):
    """
    Open a volume as ``/dev/mapper/<mapper>``, and mount it where a mount point is given.

    device, mapper, key, passphrase, mount_options, discard, key_timeout
        as in ``luks.encrypt``
    mount_point
        an empty directory; made if missing. The filesystem is the one that the volume has
    test : False
        only say whether it would be opened or mounted; the key is tried

    Returns ``True`` when it was opened or mounted, ``False`` when it was so already. Fails, with nothing changed, when
    the key is wrong (after one attempt), the name or the mount point is taken, or the volume is unfinished.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.open /dev/vdb galaxy key=sdb://vault/galaxy mount_point=/export
        salt '*' luks.open device=UUID=0ad6c58f-3798-440f-818c-5a5bea96859f mapper=galaxy key=/etc/luks/galaxy.key
    """
    found, name = _device(device), _mapper(mapper)
    target = None if mount_point is None else _absolute("mount_point", mount_point)
    options = _list("mount_options", mount_options)
    uuid = luks_header.identity(found)
    luks_header.require_finished(found, uuid)
    is_open = luks_mapping.require_openable(found, name, uuid)
    is_mounted = target is None or luks_filesystem.require_mountable(f"/dev/mapper/{name}", target)
    if is_open and is_mounted:
        return False
    secret = None if is_open else _key(key, passphrase, device, timeout=key_timeout)
    if test:
        if secret:
            luks_header.require_key(found, secret)
    elif target is None:
        luks_mapping.open_volume(found, name, secret, bool(discard))
    else:
        luks_mapping.open_mounted(found, name, secret, target, options, discard=bool(discard))
    return True


def close(mapper):
    """
    Unmount the filesystem of an open volume, and close it.

    mapper
        its name in ``/dev/mapper``

    Returns ``True`` when it was closed, ``False`` when it was not open. Fails when it is busy, naming the processes
    that hold it; none is stopped.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.close galaxy
    """
    return luks_mapping.close_volume(_mapper(mapper))


def resize(mapper, key=None, passphrase=None):
    """
    Let an open volume, and the filesystem mounted from it, use all of a device that has grown.

    mapper
        its name in ``/dev/mapper``
    key, passphrase
        what opens it; LUKS2 asks for it, LUKS1 does not

    Returns ``before`` and ``after``, each the bytes of ``volume`` and ``filesystem`` (``None`` when it is not mounted).

    CLI Example:

    .. code-block:: bash

        salt '*' luks.resize galaxy key=sdb://vault/galaxy
    """
    secret = None if key is None and passphrase is None else _key(key, passphrase, mapper)
    return luks_mapping.resize(_mapper(mapper), secret)


def format_(device, key=None, passphrase=None, force=False, signature=None, backups=luks_backup.DIRECTORY, **options):
    """
    Make a blank device a LUKS volume, and back up its header. It is not opened, and gets no filesystem.

    device
        a block device that is free and carries no signature of any kind
    key, passphrase
        what shall open it
    force : False
        format a device that carries something; requires ``signature``. Never one that is in use
    signature
        the type (``ext4``) or UUID that the device carries now, as ``luks.status`` shows it
    backups : /var/backups/luks
        directory of the header backup
    version : 2
        LUKS version
    cipher, key_size : aes-xts-plain64, 512
        cipher, and its key size in bits
    hash
        hash of the key derivation; cryptsetup's default otherwise
    pbkdf : argon2id
        key derivation of a LUKS2 key slot: ``argon2id``, ``argon2i`` or ``pbkdf2``
    iteration_time
        milliseconds that unlocking shall take on this machine
    iterations, memory
        cost of the key derivation, in place of that benchmark; memory in KiB

    Returns ``uuid`` and ``header_backup`` (path).

    CLI Example:

    .. code-block:: bash

        salt '*' luks.format /dev/vdb key=sdb://vault/galaxy
        salt '*' luks.format /dev/vdb key=sdb://vault/galaxy force=True signature=ext4
    """
    if signature is not None and not force:
        raise SaltInvocationError("`signature` goes with `force=True`")
    luks, found = _luks_options(options), _device(device)
    secret = _key(key, passphrase, device)
    path = luks_encrypt.format_volume(found, secret, luks, _absolute("backups", backups), bool(force), signature)
    return {"uuid": luks_header.require(found).uuid, "header_backup": path}


def test_key(device, key=None, passphrase=None):
    """
    Whether a key opens a volume.

    device, key, passphrase
        the volume, and the key to try

    Returns ``True`` or ``False``; nothing is opened or changed.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.test_key /dev/vdb key=sdb://vault/galaxy
    """
    found = _device(device)
    luks_header.require(found)
    return luks_header.opens(found, _key(key, passphrase, device))


def add_key(
    device, new_key=None, key=None, passphrase=None, new_passphrase=None, backups=luks_backup.DIRECTORY, **options
):
    """
    Let another key open the volume too. The header is backed up first.

    device
        the volume
    new_key, new_passphrase
        the key to add
    key, passphrase
        one that opens it now
    backups : /var/backups/luks
        directory of the header backup
    pbkdf, iteration_time, iterations, memory
        of the new key slot, as in ``luks.format``

    Returns ``True`` when it was added, ``False`` when it opened the volume already.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.add_key /dev/vdb new_key=sdb://vault/rescue key=sdb://vault/galaxy
    """
    return luks_key.add(*_change(device, key, passphrase, new_key, new_passphrase, backups, options))


def change_key(
    device, new_key=None, key=None, passphrase=None, new_passphrase=None, backups=luks_backup.DIRECTORY, **options
):
    """
    Replace a key by another. The new one is written and tried before the old one is removed.

    device, new_key, new_passphrase, key, passphrase, backups, pbkdf, iteration_time, iterations, memory
        as in ``luks.add_key``

    Returns ``True``.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.change_key /dev/vdb new_key=sdb://vault/galaxy key=pillar://galaxy:storage:passphrase
    """
    return luks_key.change(*_change(device, key, passphrase, new_key, new_passphrase, backups, options))


def remove_key(device, key=None, passphrase=None, backups=luks_backup.DIRECTORY):
    """
    Destroy the key slots that a key opens. The header is backed up first; mind that the backup still has the key.

    device
        the volume
    key, passphrase
        the key to remove; never the last one
    backups : /var/backups/luks
        directory of the header backup

    Returns ``True`` when it was removed, ``False`` when it opened nothing.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.remove_key /dev/vdb key=pillar://galaxy:storage:old_passphrase
    """
    return luks_key.remove(_device(device), _key(key, passphrase, device), _absolute("backups", backups))


def generate_key(name):
    """
    Make a key file: 64 random bytes as hexadecimal digits, mode 0600. An existing file is never overwritten.

    name
        absolute path of the file

    Returns the path.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.generate_key /etc/luks/galaxy.key
    """
    path = _absolute("name", name)
    galaxy_host_key.generate_file(path)
    return path


def header_backup(device, backups=luks_backup.DIRECTORY):
    """
    Back up the header of a volume, checked by restoring it to a scratch file.

    device
        the volume
    backups : /var/backups/luks
        directory, mode 0700, for the file, mode 0600

    Returns the path of the file; that of the one that already is there when the header has not changed since.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.header_backup /dev/vdb
    """
    found = _device(device)
    with luks_device.claimed(found):
        return luks_backup.make(found, _absolute("backups", backups))


def header_restore(device, name, force=False, backups=luks_backup.DIRECTORY):
    """
    Write a header backup back to the volume that it is of. The keys are then those of the time of the backup.

    device
        the volume, closed
    name
        path of the backup
    force : False
        write it to a device that has no valid LUKS header (any more). Never over another volume or other data
    backups : /var/backups/luks
        directory for a backup of the header that is replaced

    Returns ``True``.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.header_restore /dev/vdb /var/backups/luks/0ad6c58f-3798-440f-818c-5a5bea96859f-5a182e.luksheader
    """
    luks_backup.restore(_device(device), _text("name", name), bool(force), _absolute("backups", backups))
    return True


def from_cryptdev_ini(name=luks_cryptdev_ini.PATH):
    """
    The volume that a ``luks-cryptdev.ini`` of the scripts before this tree describes.

    name : /etc/luks/luks-cryptdev.ini
        path of the file

    Returns it as ``galaxy:storage`` in pillar declares a volume: ``device``, ``mapper``, ``mount_point``,
    ``filesystem``, ``cipher``, ``key_size``, ``hash``.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.from_cryptdev_ini
    """
    return luks_cryptdev_ini.read(name).storage()


def _device(spec) -> luks_device.Device:
    return luks_device.find(_text("device", spec))


def _change(device, key, passphrase, new_key, new_passphrase, backups, options) -> tuple:
    luks, found = _luks_options(options), _device(device)
    new = _key(new_key, new_passphrase, f"{device} (new)", "new_key")
    return found, _key(key, passphrase, device), new, luks, _absolute("backups", backups)


def _key(source, passphrase, subject, parameter="key", timeout=0) -> Secret:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 <= timeout < float("inf"):
        raise SaltInvocationError(f"`key_timeout` must be a number of seconds, not {timeout!r}")
    if (source is None) == (passphrase is None):
        raise SaltInvocationError(f"give either `{parameter}`, the place of the key, or the passphrase itself")
    if passphrase is not None:
        if __opts__.get("file_client") != "local" or __opts__.get("__cli") == "salt-minion":
            raise SaltInvocationError(
                "a passphrase as argument is for `salt-call --local`. From a master it is kept in the job cache, where "
                f"it may be by now: change it, and give its place as `{parameter}`"
            )
        return galaxy_host_key.passphrase(passphrase, "passphrase")
    return galaxy_host_key.resolve(_text(parameter, source), __salt__, __pillar__, subject, parameter, timeout)


def _luks_options(options) -> luks_header.Options:
    given = {name: value for name, value in options.items() if not name.startswith("__") and value is not None}
    try:
        return luks_header.Options.checked(**given)
    except (TypeError, ValueError) as exc:
        raise SaltInvocationError(str(exc)) from None


def _mapper(name) -> str:
    if not luks_mapping.valid_name(name):
        raise SaltInvocationError(f"`mapper` must be a name in /dev/mapper, of letters, digits, _ . + -, not {name!r}")
    return name


def _text(parameter, value) -> str:
    if not isinstance(value, str) or not value:
        raise SaltInvocationError(f"`{parameter}` must be a text, not {value!r}")
    return value


def _absolute(parameter, value) -> str:
    if not isinstance(value, str) or not os.path.isabs(value):
        raise SaltInvocationError(f"`{parameter}` must be an absolute path, not {value!r}")
    return os.path.normpath(value)


def _list(parameter, value) -> tuple[str, ...]:
    values = value.split(",") if isinstance(value, str) else value
    if not isinstance(values, (list, tuple)):
        raise SaltInvocationError(f"`{parameter}` must be a list, not {value!r}")
    return tuple(map(str, values))
