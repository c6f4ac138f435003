"""
Look after encrypted volumes: LUKS1 and LUKS2 devices, their keys, headers and filesystems.

:depends: cryptsetup, util-linux; ``mkfs`` of each filesystem to make

**Devices** are named as in :manpage:`fstab(5)`: a path, ``/dev/disk/by-uuid/…``, ``UUID=…``, ``LABEL=…``,
``PARTUUID=…`` or ``PARTLABEL=…``. On a command line write ``device=UUID=…``, because Salt takes a bare ``UUID=…`` for a
keyword.

**Keys** are named by their place. So no key is in a command line, an SLS file, or the job cache. A place is written as:

``pillar://galaxy:storage:passphrase``
    a passphrase in pillar, plain or GPG-rendered
``sdb://profile/key``
    a passphrase in a database that Salt's :py:mod:`sdb <salt.modules.sdb>` reaches, such as Vault
``/etc/luks/galaxy.key``
    a key file with mode 0600; each of its bytes counts
``clevis://``
    a key that Clevis (Tang, TPM2) has bound to a key slot of an existing volume; see :manpage:`clevis-luks-bind(1)`
``token://``
    a LUKS2 token that cryptsetup itself can use (TPM2, FIDO2: :manpage:`systemd-cryptenroll(1)`); only opens a volume
``prompt``
    ask on the terminal of ``salt-call``

A volume that ``clevis://`` or ``token://`` opens must also have a key slot with a recovery passphrase. If a passphrase
ends in a newline, this newline is left out; in a key file it counts.

Every function with ``key`` also takes ``passphrase``: the passphrase itself, for interactive use with ``salt-call
--local`` only. Mind the history of the shell. From a master it is refused, because Salt keeps arguments in the job
cache.
"""

from __future__ import annotations

import logging
import sys

import salt.utils.path
from salt.exceptions import SaltInvocationError

TYPE_CHECKING = False

if sys.platform.startswith("linux"):
    import galaxy_host_later

    galaxy_host_later.drop_outdated()

    import galaxy_host_arguments as arguments
    import galaxy_host_key
    import galaxy_host_progress
    import luks_backup
    import luks_cryptdev_ini
    from galaxy_host_later import Later

    if TYPE_CHECKING:
        import luks_device
        import luks_encrypt
        import luks_grow
        import luks_header
        import luks_key
        import luks_mapping
        import luks_open
        import luks_reencrypt
        import luks_status
        import luks_unlock
        from galaxy_host_secret import Secret
    else:
        luks_device = Later("luks_device")
        luks_encrypt = Later("luks_encrypt")
        luks_grow = Later("luks_grow")
        luks_header = Later("luks_header")
        luks_key = Later("luks_key")
        luks_mapping = Later("luks_mapping")
        luks_open = Later("luks_open")
        luks_reencrypt = Later("luks_reencrypt")
        luks_status = Later("luks_status")
        luks_unlock = Later("luks_unlock")

    _BACKUPS, _INI = luks_backup.DIRECTORY, luks_cryptdev_ini.PATH
else:
    # the module does not load here, but its functions need defaults
    _BACKUPS = _INI = ""

log = logging.getLogger(__name__)

__virtualname__ = "luks"
__func_alias__ = {"format_": "format", "open_": "open"}

if TYPE_CHECKING:
    __salt__: dict
    __opts__: dict
    __pillar__: dict


def __virtual__():
    if not sys.platform.startswith("linux"):
        return False, "luks: this module works on Linux only"
    if not salt.utils.path.which("cryptsetup"):
        return False, "luks: cryptsetup is not installed"
    return __virtualname__


def status(device, backups=_BACKUPS):
    """
    Tell the state of an encrypted volume.

    device : str
        the device, or ``/dev/mapper/<name>`` of an open volume
    backups : str = /var/backups/luks
        directory of the header backups

    Returns a mapping:

    ``device``, ``size``
        path and bytes; ``None`` if the device of an open volume is lost
    ``luks``
        whether there is a valid LUKS header. If so, there are also ``version`` (1 or 2), ``uuid``, ``cipher``,
        ``key_size`` (bits) and ``slots``: a list of the key slots in use, each with ``number`` and ``pbkdf``
    ``signatures``
        other contents: a list of ``type``, ``uuid`` and ``offset`` (bytes)
    ``header_backup``
        path of the backup that has the present header, or ``None``
    ``unfinished``
        whether the making of the volume was interrupted. Such a volume holds no data, and ``luks.encrypt`` makes it
        again
    ``leaked_slots``
        numbers of the key slots whose removal was interrupted; ``luks.remove_key`` or ``luks.remove_slot`` completes it
    ``reencrypting``
        whether its volume key is being changed, or the change was interrupted; ``luks.reencrypt`` completes it
    ``error``
        why a fact could not be told, or ``None``. Such a fact is ``None``, or empty
    ``open``
        whether the volume is open. If so, there are also ``mapper`` (name), ``stale`` (its device was lost),
        ``filesystem`` (type), ``mounts``: a list of ``target``, ``source``, ``fstype`` and ``options``, and
        ``processes``: a list of ``pid``, ``name`` and ``use`` of the processes that hold it

    Raises ``CommandExecutionError`` if there is no such device.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.status /dev/vdb
    """
    return luks_status.read(arguments.text("device", device), arguments.absolute("backups", backups))


def open_volumes():
    """
    List the LUKS volumes that are open on this machine, also those whose device is lost.

    Returns a mapping of each mapper name to what ``luks.status`` returns. If a fact of a volume cannot be told, its
    ``error`` says why; the other volumes are listed all the same. Nothing is raised.

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
    backups=_BACKUPS,
    may_format=True,
    key_timeout=0,
    device_timeout=0,
    nonempty="refuse",
    keep=None,
    test=False,
    **options,
):
    """
    Do the whole procedure: make the device an encrypted volume with a filesystem, back up its header, open and mount
    it.

    Steps that are already done are left out. So the function also opens and mounts a volume that exists, and after an
    interruption the next run completes the volume. A device that does not read as blank is refused, even if its data is
    of an unknown kind.

    device : str
        the device
    mapper : str
        name of the open volume in ``/dev/mapper``
    mount_point : str
        an empty directory; made if missing
    key : str
        place of the key that opens the volume; read only if needed
    passphrase : str
        the key itself, instead of ``key``; only for ``salt-call --local``
    filesystem : str = ext4
        ``ext4``, ``ext3``, ``ext2``, ``xfs`` or ``btrfs``
    mkfs_options : list = []
        options of ``mkfs``
    mount_options : list = []
        options of ``mount -o``
    discard : bool = False
        pass discards on to the device: see ``--allow-discards`` in :manpage:`cryptsetup(8)`
    backups : str = /var/backups/luks
        directory of the header backups
    may_format : bool = True
        whether a blank device may be formatted
    key_timeout : float = 0
        if a database that holds the key does not answer: seconds to ask it again and again, such as a Vault that starts
        later than this machine
    device_timeout : float = 0
        if the device is not there: seconds to wait for it
    nonempty : str = refuse
        if there are files below the mount point: ``refuse`` to mount, or ``move`` them to ``<mount point>.aside-1``
    keep : int
        how many header backups of the volume to keep, the newest ones; by default all
    test : bool = False
        only say what would be done; fails if a run would fail, so the key is read and tried
    options
        of a new volume: ``version``, ``cipher``, ``key_size``, ``hash``, ``pbkdf``, ``iteration_time``, ``iterations``
        and ``memory``, as in ``luks.format``

    Returns a list of the steps that were taken: ``format``, ``mkfs``, ``header_backup``, ``open``, ``fsck`` (of ext2 to
    ext4, like ``fsck -p``), ``set_aside`` (files below the mount point), ``mount``, ``remount`` (the mount options were
    others). The list is empty if there was nothing to do.

    Raises ``CommandExecutionError`` if another filesystem is mounted at the mount point, or if the filesystem is
    read-only although ``ro`` is not one of its options.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.encrypt /dev/vdb galaxy /export key=pillar://galaxy:storage:passphrase
    """
    plan = luks_encrypt.Plan(
        device=arguments.text("device", device),
        mapper=_mapper(mapper),
        mount_point=arguments.absolute("mount_point", mount_point),
        fstype=arguments.text("filesystem", filesystem),
        mkfs_options=arguments.listed("mkfs_options", mkfs_options),
        mount_options=arguments.listed("mount_options", mount_options),
        luks=_luks_options(options),
        place=_place(backups, keep),
        discard=bool(discard),
        may_format=bool(may_format),
        may_move=_may_move(nonempty),
        device_timeout=arguments.seconds("device_timeout", device_timeout, allow_zero=True),
    )
    secret = _key(key, passphrase, device, timeout=key_timeout, tokens=True)
    with _told("luks.encrypt"):
        return luks_encrypt.run(plan, secret, bool(test))


def open_(
    device,
    mapper,
    key=None,
    passphrase=None,
    mount_point=None,
    mount_options=(),
    discard=False,
    key_timeout=0,
    device_timeout=0,
    nonempty="refuse",
    test=False,
):
    """
    Open a volume as ``/dev/mapper/<mapper>``. If a mount point is given, mount it too.

    device : str
        the volume's device
    mapper : str
        name of the open volume in ``/dev/mapper``
    key : str
        place of the key; read only if the volume is not open
    passphrase : str
        the key itself, instead of ``key``; only for ``salt-call --local``
    mount_point : str
        an empty directory; made if missing. The volume's own filesystem is mounted there. ext2 to ext4 is checked
        before, like ``fsck -p`` does
    mount_options : list = []
        options of ``mount -o``
    discard : bool = False
        pass discards on to the device: see ``--allow-discards`` in :manpage:`cryptsetup(8)`
    key_timeout : float = 0
        if a database that holds the key does not answer: seconds to ask it again and again
    device_timeout : float = 0
        if the device is not there: seconds to wait for it
    nonempty : str = refuse
        if there are files below the mount point: ``refuse`` to mount, or ``move`` them to ``<mount point>.aside-1``
    test : bool = False
        only say whether it would be opened or mounted; the key is tried

    Returns ``True`` if it was opened or mounted, ``False`` if it was open and mounted already.

    Raises ``CommandExecutionError``, with nothing changed, if the key is wrong (after one attempt), if the name or the
    mount point is taken, or if the volume is unfinished.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.open /dev/vdb galaxy key=sdb://vault/galaxy mount_point=/export
        salt '*' luks.open device=UUID=0ad6c58f-3798-440f-818c-5a5bea96859f mapper=galaxy key=/etc/luks/galaxy.key
    """
    wanted = luks_open.Wanted(
        device=arguments.text("device", device),
        mapper=_mapper(mapper),
        mount_point=None if mount_point is None else arguments.absolute("mount_point", mount_point),
        mount_options=arguments.listed("mount_options", mount_options),
        discard=bool(discard),
        may_move=_may_move(nonempty),
        device_timeout=arguments.seconds("device_timeout", device_timeout, allow_zero=True),
    )
    secret = _key(key, passphrase, device, timeout=key_timeout, tokens=True)
    with _told("luks.open"):
        return luks_open.run(wanted, secret, bool(test))


def close(mapper, test=False):
    """
    Unmount the filesystem of an open volume, and close the volume.

    mapper : str
        name of the open volume in ``/dev/mapper``
    test : bool = False
        only say whether it would be closed

    Returns ``True`` if it was closed, ``False`` if it was not open.

    Raises ``CommandExecutionError``, with nothing unmounted, if the volume is busy. The error names the processes, loop
    devices, swap files and mounts that hold it. No process is stopped.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.close galaxy
    """
    name = _mapper(mapper)
    with _told("luks.close"), luks_mapping.reserved(name):
        return luks_mapping.close_volume(name, bool(test))


def resize(mapper, key=None, passphrase=None, partition=False, test=False):
    """
    After a device has grown, let the open volume and the mounted filesystem use all of it.

    mapper : str
        name of the open volume in ``/dev/mapper``
    key : str
        place of the key that opens the volume; needed for LUKS2, not for LUKS1
    passphrase : str
        the key itself, instead of ``key``; only for ``salt-call --local``
    partition : bool = False
        if the volume is on a partition, first grow the partition into the free space behind it (needs ``growpart``)
    test : bool = False
        only say what would be done

    Returns ``before`` and ``after``: each has the bytes of ``volume`` and ``filesystem`` (``None`` if it is not
    mounted). With ``test``, returns a list of the steps that would be taken: ``partition``, ``volume``, ``filesystem``.

    Raises ``CommandExecutionError`` if the volume is not open, or if the key does not open it.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.resize galaxy key=sdb://vault/galaxy
        salt '*' luks.resize galaxy key=sdb://vault/galaxy partition=True
    """
    name = _mapper(mapper)
    if test:
        return luks_grow.remaining(name, bool(partition))
    secret = None if key is None and passphrase is None else _key(key, passphrase, f"/dev/mapper/{name}", tokens=True)()
    with _told("luks.resize"):
        return luks_grow.run(name, secret, bool(partition))


def reencrypt(
    device,
    key=None,
    passphrase=None,
    other_keys=(),
    backups=_BACKUPS,
    keep=None,
    test=False,
    **options,
):
    """
    Encrypt a LUKS2 volume with a new volume key. The volume may be open and in use, or closed. This helps if somebody
    has a copy of the old header together with a passphrase.

    It takes as long as reading and writing the whole device; events ``galaxy/<minion>/progress`` tell how far it is.
    The volume can be opened and used meanwhile. After a power cut, the same call goes on where it stopped.

    device : str
        the volume's device
    key : str
        place of the key that opens the volume now, and will open it afterwards
    passphrase : str
        the key itself, instead of ``key``; only for ``salt-call --local``
    other_keys : list = []
        places of the other keys that shall open the volume afterwards. A key that is not named no longer opens it. What
        Clevis or systemd-cryptenroll bound to the volume stays bound, and must work now
    backups : str = /var/backups/luks
        directory of the header backups. At the end the older ones are removed, because they no longer open anything
    keep : int
        how many header backups of the volume to keep, the newest ones; by default all
    test : bool = False
        only say whether it would be done
    options
        of the new key slots: ``pbkdf``, ``iteration_time``, ``iterations`` and ``memory``, as in ``luks.format``

    Returns ``True``.

    Raises ``CommandExecutionError``, with nothing changed, for LUKS1, and if a key does not open the volume.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.reencrypt /dev/vdb key=sdb://vault/galaxy other_keys='[sdb://vault/rescue]'
    """
    luks, subject = _luks_options(options), _device(device)
    places = arguments.listed("other_keys", other_keys)
    others = [_secret(device, subject, each, None, "other_keys") for each in places]
    secret = _secret(device, subject, key, passphrase)
    place = _place(backups, keep)
    with _told("luks.reencrypt"):
        return luks_reencrypt.run(subject, secret, others, luks, place, bool(test))


def format_(
    device,
    key=None,
    passphrase=None,
    force=False,
    signature=None,
    backups=_BACKUPS,
    keep=None,
    test=False,
    **options,
):
    """
    Make a blank device a LUKS volume, and back up its header. The volume is not opened, and gets no filesystem.

    device : str
        a block device that is free and reads as blank
    key : str
        place of the key that shall open the volume
    passphrase : str
        the key itself, instead of ``key``; only for ``salt-call --local``
    force : bool = False
        format a device that carries something; needs ``signature``. A device in use is refused all the same
    signature : str
        the type (such as ``ext4``) or UUID that the device carries now, as ``luks.status`` shows it; ``data`` if it
        carries data of an unknown kind
    backups : str = /var/backups/luks
        directory of the header backups
    keep : int
        how many header backups of the volume to keep, the newest ones; by default all
    test : bool = False
        change nothing; fails if a run would fail
    version : int = 2
        LUKS version
    cipher : str = aes-xts-plain64
        the cipher, as :manpage:`cryptsetup(8)` writes it
    key_size : int = 512
        size of the cipher's key, in bits
    hash : str
        hash of the key derivation; by default cryptsetup's own
    pbkdf : str = argon2id
        key derivation of a LUKS2 key slot: ``argon2id``, ``argon2i`` or ``pbkdf2``
    iteration_time : int
        milliseconds that unlocking shall take on this machine
    iterations : int
        cost of the key derivation, instead of a measurement on this machine
    memory : int
        memory of the key derivation, in KiB

    Returns ``uuid`` and ``header_backup`` (path); with ``test`` both are ``None``.

    Raises ``CommandExecutionError``, with nothing changed, if the device is in use, is too small, or carries something
    that ``signature`` does not name; and also if the header cannot be backed up.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.format /dev/vdb key=sdb://vault/galaxy
        salt '*' luks.format /dev/vdb key=sdb://vault/galaxy force=True signature=ext4
    """
    if signature is not None and not force:
        raise SaltInvocationError("`signature` needs `force=True`")
    luks, subject = _luks_options(options), _device(device)
    path = luks_encrypt.format_volume(
        subject, _key(key, passphrase, device), luks, _place(backups, keep), bool(force), signature, bool(test)
    )
    return {"uuid": None if test else luks_header.require(subject).uuid, "header_backup": path or None}


def test_key(device, key=None, passphrase=None):
    """
    Tell whether a key opens a volume. Nothing is opened or changed.

    device : str
        the volume's device
    key : str
        place of the key to try
    passphrase : str
        the key itself, instead of ``key``; only for ``salt-call --local``

    Returns ``True`` or ``False``.

    Raises ``CommandExecutionError`` if the device is not there or is no LUKS volume.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.test_key /dev/vdb key=sdb://vault/galaxy
    """
    subject = _device(device)
    luks_header.require(subject)
    return luks_header.opens(subject, _key(key, passphrase, device, device=subject, tokens=True)())


def add_key(
    device,
    new_key=None,
    key=None,
    passphrase=None,
    new_passphrase=None,
    backups=_BACKUPS,
    keep=None,
    test=False,
    **options,
):
    """
    Add a key that opens the volume. The header is backed up first.

    device : str
        the volume's device
    new_key : str
        place of the key to add
    key : str
        place of a key that opens the volume now
    passphrase : str
        the key itself, instead of ``key``; only for ``salt-call --local``
    new_passphrase : str
        the new key itself, instead of ``new_key``; only for ``salt-call --local``
    backups : str = /var/backups/luks
        directory of the header backups
    keep : int
        how many header backups of the volume to keep, the newest ones; by default all
    test : bool = False
        only say whether the key would be added; fails if a run would fail
    options
        of the new key slot: ``pbkdf``, ``iteration_time``, ``iterations`` and ``memory``, as in ``luks.format``

    Returns ``True`` if the key was added, ``False`` if it opened the volume already.

    Raises ``CommandExecutionError``, with nothing changed, if ``key`` does not open the volume, if no key slot is free,
    or if the header cannot be backed up.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.add_key /dev/vdb new_key=sdb://vault/rescue key=sdb://vault/galaxy
    """
    change = _change(device, key, passphrase, new_key, new_passphrase, backups, keep, options)
    return luks_key.add(*change, test=bool(test))


def change_key(
    device,
    new_key=None,
    key=None,
    passphrase=None,
    new_passphrase=None,
    backups=_BACKUPS,
    keep=None,
    **options,
):
    """
    Replace a key by another one. The new key is written and tried before the old key is removed. After an interruption,
    the same call completes the change.

    device : str
        the volume's device
    new_key : str
        place of the new key
    key : str
        place of the key to replace
    passphrase : str
        the key itself, instead of ``key``; only for ``salt-call --local``
    new_passphrase : str
        the new key itself, instead of ``new_key``; only for ``salt-call --local``
    backups : str = /var/backups/luks
        directory of the header backups
    keep : int
        how many header backups of the volume to keep, the newest ones; by default all
    options
        of the new key slot: ``pbkdf``, ``iteration_time``, ``iterations`` and ``memory``, as in ``luks.format``

    Returns ``True`` if the key was replaced, ``False`` if it was replaced already.

    Raises ``CommandExecutionError`` if neither key opens the volume, if both are the same, if no key slot is free, or
    if the header cannot be backed up.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.change_key /dev/vdb new_key=sdb://vault/galaxy key=pillar://galaxy:storage:passphrase
    """
    return luks_key.change(*_change(device, key, passphrase, new_key, new_passphrase, backups, keep, options))


def remove_key(device, key=None, passphrase=None, remaining=None, backups=_BACKUPS, keep=None, test=False):
    """
    Destroy the key slots that a key opens. The header is backed up first; this backup still has the key.

    device : str
        the volume's device
    key : str
        place of the key to remove; the last key is never removed
    passphrase : str
        the key itself, instead of ``key``; only for ``salt-call --local``
    remaining : str
        place of a key that stays. It is tried, because the number of key slots proves nothing: a crash during a removal
        leaves a slot that opens nothing. Such a removal is completed too
    backups : str = /var/backups/luks
        directory of the header backups, and of the record of the key slots that are being removed
    keep : int
        how many header backups of the volume to keep, the newest ones; by default all
    test : bool = False
        only say whether something would be removed; fails if a run would fail

    Returns ``True`` if the key was removed, ``False`` if there was nothing to remove.

    Raises ``CommandExecutionError``, with nothing removed, if ``remaining`` is not given, if it opens no other key
    slot, or if it opens only a key slot that a token opens too.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.remove_key /dev/vdb key=pillar://galaxy:storage:old_passphrase remaining=sdb://vault/galaxy
    """
    subject = _device(device)
    secret = _secret(device, subject, key, passphrase)
    stays = None if remaining is None else _secret(device, subject, remaining, None, "remaining")
    return luks_key.remove(subject, secret, stays, _place(backups, keep), bool(test))


def remove_slot(device, slot, remaining=None, remaining_passphrase=None, backups=_BACKUPS, keep=None):
    """
    Destroy one key slot by its number, such as a slot that ``luks.status`` lists in ``leaked_slots``. The key that
    opens this slot need not be known.

    device : str
        the volume's device
    slot : int
        number of the key slot
    remaining : str
        place of a key that stays; it must open another key slot
    remaining_passphrase : str
        the key itself, instead of ``remaining``; only for ``salt-call --local``
    backups : str = /var/backups/luks
        directory of the header backups, and of the record of the key slots that are being removed
    keep : int
        how many header backups of the volume to keep, the newest ones; by default all

    Returns ``True`` if the key slot was destroyed, ``False`` if it is not in use.

    Raises ``CommandExecutionError``, with nothing removed, if ``remaining`` opens no other key slot.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.remove_slot /dev/vdb 1 remaining=sdb://vault/galaxy
    """
    subject = _device(device)
    secret = _secret(device, subject, remaining, remaining_passphrase, "remaining")
    return luks_key.remove_slot(subject, arguments.count("slot", slot), secret, _place(backups, keep))


def generate_key(name, test=False):
    """
    Make a key file of 64 random bytes, written as hexadecimal digits, with mode 0600. An existing file is never
    overwritten.

    name : str
        absolute path of the file
    test : bool = False
        change nothing; fails if a run would fail

    Returns the path.

    Raises ``CommandExecutionError`` if the file exists, or if it cannot be written.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.generate_key /etc/luks/galaxy.key
    """
    path = arguments.absolute("name", name)
    galaxy_host_key.generate_file(path, test=bool(test))
    return path


def header_backup(device, backups=_BACKUPS, keep=None):
    """
    Back up the header of a volume. The backup is checked: it is restored to a scratch file.

    device : str
        the volume's device
    backups : str = /var/backups/luks
        directory of the header backups. The directory gets mode 0700, the file 0600
    keep : int
        how many header backups of the volume to keep, the newest ones; by default all

    Returns the path of the backup. If the header has not changed since the last backup, this is the path of the last
    one.

    Raises ``CommandExecutionError`` if the device is no LUKS volume, if its volume key is being changed, or if the file
    cannot be written.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.header_backup /dev/vdb
    """
    subject = _device(device)
    place = _place(backups, keep)
    with luks_device.claimed(subject):
        return luks_backup.make(subject, place.backups, None, place.keep)


def header_restore(device, name, force=False, backups=_BACKUPS):
    """
    Write a header backup back to its volume. Then the keys are those of the time of the backup. If a run is cut short,
    the volume has no valid header, but it never seems blank; run the function again.

    device : str
        the volume's device; the volume must be closed
    name : str
        path of the backup
    force : bool = False
        write it to a device that has no valid LUKS header (any more). It is never written over another volume or other
        data
    backups : str = /var/backups/luks
        directory for a backup of the header that is replaced

    Returns ``True``.

    Raises ``CommandExecutionError``, with nothing changed, if the file is no header backup, if the device is in use, or
    if the device carries another volume or other data.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.header_restore /dev/vdb /var/backups/luks/0ad6c58f-3798-440f-818c-5a5bea96859f-5a182e.luksheader
    """
    luks_backup.restore(
        _device(device), arguments.text("name", name), bool(force), arguments.absolute("backups", backups)
    )
    return True


def from_cryptdev_ini(name=_INI):
    """
    Read the volume that the old scripts described in ``luks-cryptdev.ini``.

    name : str = /etc/luks/luks-cryptdev.ini
        path of the file

    Returns the volume as ``galaxy:storage`` in pillar declares it: ``device``, ``mapper``, ``mount_point``,
    ``filesystem``, ``cipher``, ``key_size``, ``hash``.

    Raises ``CommandExecutionError`` if the file cannot be read, if a user other than root can write it, or if it does
    not name the device, the mapper and the mount point.

    CLI Example:

    .. code-block:: bash

        salt '*' luks.from_cryptdev_ini
    """
    return luks_cryptdev_ini.read(name).storage()


def _device(spec) -> luks_device.Device:
    return luks_device.find(arguments.text("device", spec))


def _change(
    device, key, passphrase, new_key, new_passphrase, backups, keep, options
) -> tuple[luks_device.Device, Secret, Secret, luks_header.Options, luks_key.Place]:
    luks, subject = _luks_options(options), _device(device)
    new = _secret(f"{device} (new)", subject, new_key, new_passphrase, "new_key")
    return subject, _secret(device, subject, key, passphrase), new, luks, _place(backups, keep)


def _secret(name, device, source, passphrase, parameter="key"):
    """The key itself, for an existing volume. Messages call the volume ``name``."""
    return _key(source, passphrase, name, parameter, device=device)()


def _key(source, passphrase, subject, parameter="key", timeout=0, device=None, tokens=False):
    """
    A function that reads the key when it is called, so that no key is read without need. Its place is checked now.
    ``tokens``: the key only has to open the volume, so a token will do.
    """
    seconds = arguments.seconds("key_timeout", timeout, allow_zero=True)
    if source is not None and passphrase is not None:
        raise SaltInvocationError(f"give either `{parameter}`, the place of the key, or the passphrase itself")
    if passphrase is not None:
        if __opts__.get("file_client") != "local" or __opts__.get("__cli") == "salt-minion":
            raise SaltInvocationError(
                "a passphrase as argument works with `salt-call --local` only: a master keeps it in the job cache, "
                f"and may have kept this one. Change the passphrase, and give its place as `{parameter}`"
            )
        return lambda: galaxy_host_key.passphrase(passphrase, "passphrase")
    if source is not None:
        arguments.text(parameter, source)

    def read() -> luks_header.Key:
        if source is None:
            raise SaltInvocationError(f"give either `{parameter}`, the place of the key, or the passphrase itself")
        log.debug("the key of %s is read from %s", subject, source)
        key = luks_unlock.resolve(source, __salt__, __pillar__, device, subject, parameter, seconds)
        return key if tokens else luks_unlock.require_secret(key, source)

    return read


def _luks_options(options) -> luks_header.Options:
    given = {name: value for name, value in options.items() if not name.startswith("__") and value is not None}
    try:
        return luks_header.Options.checked(**given)
    except (TypeError, ValueError) as exc:
        raise SaltInvocationError(str(exc)) from None


def _place(backups, keep) -> luks_key.Place:
    number = None if keep is None else arguments.count("keep", keep)
    if number == 0:
        raise SaltInvocationError("keep is 0; give how many header backups of a volume are kept, 1 or more")
    return luks_key.Place(arguments.absolute("backups", backups), number)


def _may_move(nonempty) -> bool:
    if nonempty not in ("refuse", "move"):
        raise SaltInvocationError(f"nonempty is {nonempty!r}; give refuse or move")
    return nonempty == "move"


def _mapper(name) -> str:
    if not luks_mapping.valid_name(name):
        raise SaltInvocationError(
            f"mapper is {name!r}; give a name for /dev/mapper, of letters, digits, _ . + -, and not `control`"
        )
    return name


def _told(step):
    """Tell the caller what is waited for."""
    return galaxy_host_progress.told(step, __opts__, __salt__)
