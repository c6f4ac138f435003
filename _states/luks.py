"""
Declare encrypted volumes: LUKS devices that are formatted, opened, mounted or closed, and their keys.

Devices and keys are named as in the execution module ``luks``. A key is named by its place (``pillar://…``,
``sdb://…``, ``clevis://``, ``token://``, a path), so no key is in an SLS file. ``luks.mounted`` does everything:

.. code-block:: yaml

    galaxy data is mounted:
      luks.mounted:
        - name: /export
        - device: /dev/disk/by-id/virtio-galaxy-data
        - mapper: galaxy
        - key: pillar://galaxy:storage:passphrase
        - encrypt: True

Name the device by something that belongs to the disk. A name such as ``/dev/vdb`` may come to mean another disk, and
then the permission to format it does too.
"""

from __future__ import annotations

import galaxy_host_later

galaxy_host_later.drop_outdated()

import galaxy_host_returns as returns

__virtualname__ = "luks"

TYPE_CHECKING = False
if TYPE_CHECKING:
    __salt__: dict
    __opts__: dict

_BACKUPS = "/var/backups/luks"


def __virtual__():
    if "luks.status" not in __salt__:
        return False, "luks: its execution module is not loaded: it needs Linux and cryptsetup; run saltutil.sync_all"
    return __virtualname__


def mounted(
    name,
    device,
    mapper,
    key,
    encrypt=False,
    filesystem="ext4",
    mkfs_options=(),
    mount_options=(),
    discard=False,
    backups=_BACKUPS,
    key_timeout=0,
    device_timeout=0,
    nonempty="refuse",
    keep=None,
    **options,
):
    """
    The volume is open, its filesystem is mounted, and its header is backed up.

    name : str
        the mount point: an empty directory; made if missing
    device : str
        the device
    mapper : str
        name of the open volume in ``/dev/mapper``
    key : str
        place of the key
    encrypt : bool = False
        if the device reads as blank, first make it an encrypted volume. A device that carries anything is never
        touched. After an interruption the next run completes the volume
    filesystem : str = ext4
        ``ext4``, ``ext3``, ``ext2``, ``xfs`` or ``btrfs``
    mkfs_options : list = []
        options of ``mkfs``
    mount_options : list = []
        options of ``mount -o``. If the volume is mounted with other options, it is remounted
    discard : bool = False
        pass discards on to the device: see ``--allow-discards`` in :manpage:`cryptsetup(8)`
    backups : str = /var/backups/luks
        directory of the header backups
    key_timeout : float = 0
        if a database that holds the key does not answer: seconds to ask it again and again
    device_timeout : float = 0
        if the device is not there: seconds to wait for it
    nonempty : str = refuse
        if there are files below the mount point: ``refuse`` to mount, or ``move`` them to ``<mount point>.aside-1``
    keep : int
        how many header backups of the volume to keep, the newest ones; by default all
    options
        of a new volume: ``version``, ``cipher``, ``key_size``, ``hash``, ``pbkdf``, ``iteration_time``, ``iterations``
        and ``memory``, as in ``luks.format``

    ``changes`` has each step that was taken, under its name in ``luks.encrypt``, with the object that it changed.

    .. code-block:: yaml

        /export:
          luks.mounted:
            - device: /dev/disk/by-id/virtio-galaxy-data
            - mapper: galaxy
            - key: pillar://galaxy:storage:passphrase
            - encrypt: True
    """
    wanted = {
        "device": device,
        "mapper": mapper,
        "mount_point": name,
        "key": key,
        "filesystem": filesystem,
        "mkfs_options": mkfs_options,
        "mount_options": mount_options,
        "discard": discard,
        "backups": backups,
        "may_format": encrypt,
        "key_timeout": key_timeout,
        "device_timeout": device_timeout,
        "nonempty": nonempty,
        "keep": keep,
        **options,
    }
    subjects = {
        "format": device,
        "mkfs": filesystem,
        "header_backup": backups,
        "open": f"/dev/mapper/{mapper}",
        "fsck": f"/dev/mapper/{mapper}",
        "set_aside": f"beside {name}",
        "mount": name,
        "remount": name,
    }
    try:
        steps = __salt__["luks.encrypt"](test=bool(__opts__["test"]), **wanted)
        changes = {step: subjects[step] for step in steps}
        if not steps:
            return returns.same(name, f"{device} is open as {mapper} and mounted")
        if __opts__["test"]:
            return returns.would(name, f"These steps would be taken: {', '.join(steps)}", changes)
        left = __salt__["luks.encrypt"](test=True, **wanted)
    except returns.ERRORS as exc:
        return returns.failed(name, exc)
    if left:
        return returns.failed(name, f"These steps were taken, but would be taken again: {', '.join(left)}", changes)
    return returns.changed(name, f"{device} is open as {mapper} and mounted", changes)


def formatted(name, key, backups=_BACKUPS, keep=None, **options):
    """
    The device is a LUKS volume, and its header is backed up. If the device is a volume already, it keeps its
    parameters. If it carries anything else, the state fails; it does not take ``force``.

    name : str
        the device
    key : str
        place of the key that shall open a new volume
    backups : str = /var/backups/luks
        directory of the header backups
    keep : int
        how many header backups of the volume to keep, the newest ones; by default all
    options
        of a new volume: ``version``, ``cipher``, ``key_size``, ``hash``, ``pbkdf``, ``iteration_time``, ``iterations``
        and ``memory``, as in ``luks.format``

    ``changes`` has ``format`` with the device; if only the backup was missing, ``header_backup`` with the directory.

    .. code-block:: yaml

        /dev/disk/by-id/virtio-galaxy-data:
          luks.formatted:
            - key: sdb://vault/galaxy
    """
    insisting = sorted({"force", "signature", "test"}.intersection(options))
    if insisting:
        return returns.failed(name, f"No state formats over data: {', '.join(insisting)} is for `luks.format`, by hand")
    change = {"format": name}
    try:
        found = __salt__["luks.status"](name, backups=backups)
        if found["error"]:
            return returns.failed(name, found["error"])
        is_volume = found["luks"] and not found["unfinished"]
        if is_volume and found["header_backup"]:
            return returns.same(name, f"The device is LUKS{found['version']} volume {found['uuid']}")
        if is_volume:
            change = {"header_backup": backups}
        if __opts__["test"]:
            if is_volume:
                return returns.would(name, "The header would be backed up", change)
            __salt__["luks.format"](name, key=key, backups=backups, test=True, **options)
            return returns.would(name, "The device would be made a LUKS volume", change)
        if is_volume:
            __salt__["luks.header_backup"](name, backups=backups, keep=keep)
        else:
            try:
                __salt__["luks.format"](name, key=key, backups=backups, keep=keep, **options)
            except returns.ERRORS:
                # another run may have made it meanwhile
                found = __salt__["luks.status"](name, backups=backups)
                if found["unfinished"] is not False or not found["header_backup"]:
                    raise
                return returns.same(name, f"The device is LUKS{found['version']} volume {found['uuid']}")
        found = __salt__["luks.status"](name, backups=backups)
    except returns.ERRORS as exc:
        return returns.failed(name, exc)
    if not found["luks"] or not found["header_backup"]:
        return returns.failed(
            name, "The device is still no LUKS volume, or there is still no backup of its header", change
        )
    return returns.changed(name, f"The device is LUKS{found['version']} volume {found['uuid']}", change)


def opened(name, device, key, discard=False, key_timeout=0, device_timeout=0):
    """
    The volume is open.

    name : str
        name of the open volume in ``/dev/mapper``
    device : str
        the volume's device
    key : str
        place of the key; read only if the volume is not open
    discard : bool = False
        pass discards on to the device: see ``--allow-discards`` in :manpage:`cryptsetup(8)`
    key_timeout : float = 0
        if a database that holds the key does not answer: seconds to ask it again and again
    device_timeout : float = 0
        if the device is not there: seconds to wait for it

    ``changes`` has the mapper name with ``old``: none, and ``new``: the device.

    .. code-block:: yaml

        galaxy:
          luks.opened:
            - device: /dev/disk/by-id/virtio-galaxy-data
            - key: sdb://vault/galaxy
    """
    change = {name: {"old": None, "new": device}}
    wanted = {"key": key, "discard": discard, "key_timeout": key_timeout, "device_timeout": device_timeout}
    try:
        if not __salt__["luks.open"](device, name, test=bool(__opts__["test"]), **wanted):
            return returns.same(name, f"{device} is open")
        if __opts__["test"]:
            return returns.would(name, f"{device} would be opened", change)
        found = __salt__["luks.status"](device)
    except returns.ERRORS as exc:
        return returns.failed(name, exc)
    if not found["open"] or found["mapper"] != name:
        return returns.failed(name, f"{device} was opened, but is not open as {name}", change)
    return returns.changed(name, f"{device} was opened", change)


def closed(name):
    """
    The volume is not open, and nothing is mounted from it. If it is busy, the state fails: nothing is unmounted, and
    the comment names what holds the volume.

    name : str
        name of the open volume in ``/dev/mapper``

    ``changes`` has the mapper name with ``old``: the device, and ``new``: none. It also has each mount point, with what
    was mounted there as ``old``.

    .. code-block:: yaml

        galaxy:
          luks.closed: []
    """
    try:
        volume = __salt__["luks.open_volumes"]().get(name)
        if not volume:
            return returns.same(name, "The volume is not open")
        changes = {name: {"old": volume["device"], "new": None}}
        changes.update({mount["target"]: {"old": mount["source"], "new": None} for mount in volume["mounts"]})
        __salt__["luks.close"](name, test=bool(__opts__["test"]))
        if __opts__["test"]:
            return returns.would(name, "The volume would be closed", changes)
        if name in __salt__["luks.open_volumes"]():
            return returns.failed(name, "The volume was closed, but is open again", changes)
    except returns.ERRORS as exc:
        return returns.failed(name, exc)
    return returns.changed(name, "The volume was closed", changes)


def resized(name, key=None, partition=False):
    """
    An open volume, and the filesystem mounted from it, use all of the device, also after the device has grown.

    name : str
        name of the open volume in ``/dev/mapper``
    key : str
        place of the key; needed for LUKS2, not for LUKS1
    partition : bool = False
        first grow the volume's partition, as in ``luks.resize``

    ``changes`` has those of ``partition``, ``volume`` and ``filesystem`` that have grown, each with the word ``grown``.

    .. code-block:: yaml

        galaxy:
          luks.resized:
            - key: sdb://vault/galaxy
            - partition: True
    """
    try:
        steps = __salt__["luks.resize"](name, partition=partition, test=True)
        changes = dict.fromkeys(steps, "grown")
        if not steps:
            return returns.same(name, "The volume and its filesystem use all of the device")
        if __opts__["test"]:
            return returns.would(name, f"These would grow: {', '.join(steps)}", changes)
        sizes = __salt__["luks.resize"](name, key=key, partition=partition)
        left = __salt__["luks.resize"](name, partition=partition, test=True)
    except returns.ERRORS as exc:
        return returns.failed(name, exc)
    if left:
        return returns.failed(name, f"These did not grow: {', '.join(left)}", changes)
    before, after = (sizes[when]["volume"] for when in ("before", "after"))
    return returns.changed(name, f"The volume grew from {before} to {after} bytes", changes)


def key_present(name, new_key, key, backups=_BACKUPS, keep=None, **options):
    """
    A key opens the volume.

    name : str
        the volume's device
    new_key : str
        place of the key that shall open the volume
    key : str
        place of a key that opens the volume now
    backups : str = /var/backups/luks
        directory of the header backups
    keep : int
        how many header backups of the volume to keep, the newest ones; by default all
    options
        of the new key slot: ``pbkdf``, ``iteration_time``, ``iterations`` and ``memory``, as in ``luks.format``

    ``changes`` has ``key`` with ``old``: none, and ``new``: the place of the key.

    .. code-block:: yaml

        /dev/disk/by-id/virtio-galaxy-data:
          luks.key_present:
            - new_key: sdb://vault/rescue
            - key: sdb://vault/galaxy
    """
    change = {"key": {"old": None, "new": new_key}}
    try:
        if __salt__["luks.test_key"](name, key=new_key):
            return returns.same(name, f"{new_key} opens the volume")
        wanted = {"new_key": new_key, "key": key, "backups": backups, "keep": keep, **options}
        __salt__["luks.add_key"](name, **{**wanted, "test": bool(__opts__["test"])})
        if __opts__["test"]:
            return returns.would(name, f"{new_key} would be added", change)
        opens = __salt__["luks.test_key"](name, key=new_key)
    except returns.ERRORS as exc:
        return returns.failed(name, exc)
    return (
        returns.changed(name, f"{new_key} was added", change)
        if opens
        else returns.failed(name, f"{new_key} does not open the volume")
    )


def key_absent(name, key, remaining=None, backups=_BACKUPS, keep=None):
    """
    A key does not open the volume (any more). The last key is never removed. No key is removed without the proof that
    another key opens the volume.

    name : str
        the volume's device
    key : str
        place of the key to remove
    remaining : str
        place of a key that stays. It is tried. It is needed if ``key`` opens the volume. If it is given, an interrupted
        removal is completed
    backups : str = /var/backups/luks
        directory of the header backups. A backup made before the removal still has the key
    keep : int
        how many header backups of the volume to keep, the newest ones; by default all

    ``changes`` has ``key`` with ``old``: the place of the key, and ``new``: none.

    .. code-block:: yaml

        /dev/disk/by-id/virtio-galaxy-data:
          luks.key_absent:
            - key: pillar://galaxy:storage:old_passphrase
            - remaining: sdb://vault/galaxy
    """
    change = {"key": {"old": key, "new": None}}
    wanted = {"key": key, "remaining": remaining, "backups": backups, "keep": keep}
    try:
        if not __salt__["luks.remove_key"](name, test=bool(__opts__["test"]), **wanted):
            return returns.same(name, f"{key} does not open the volume")
        if __opts__["test"]:
            return returns.would(name, f"{key} would be removed", change)
        opens = __salt__["luks.test_key"](name, key=key)
    except returns.ERRORS as exc:
        return returns.failed(name, exc)
    return (
        returns.failed(name, f"{key} still opens the volume")
        if opens
        else returns.changed(name, f"{key} was removed", change)
    )


def key_file(name):
    """
    There is a key file. If it is missing, it is made of random bytes. An existing file is never changed.

    name : str
        absolute path of the file

    ``changes`` has the path with ``new key file``.

    .. code-block:: yaml

        /etc/luks/galaxy.key:
          luks.key_file: []
    """
    try:
        if __salt__["file.file_exists"](name):
            return returns.same(name, "The key file is there")
        __salt__["luks.generate_key"](name, test=bool(__opts__["test"]))
    except returns.ERRORS as exc:
        return returns.failed(name, exc)
    if __opts__["test"]:
        return returns.would(name, "A key would be generated", {name: "new key file"})
    return returns.changed(name, "A key was generated", {name: "new key file"})
