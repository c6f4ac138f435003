"""
Encrypted volumes: LUKS devices formatted, opened, mounted and closed, and their keys.

Devices and keys are named as in the execution module ``luks``; a key by its place (``pillar://…``, ``sdb://…``, a
path), so that no key is in an SLS file. One state has it all:

.. code-block:: yaml

    galaxy data is mounted:
      luks.mounted:
        - name: /export
        - device: /dev/vdb
        - mapper: galaxy
        - key: pillar://galaxy:storage:passphrase
        - encrypt: True
"""

from __future__ import annotations

import galaxy_host_returns as returns

__virtualname__ = "luks"

TYPE_CHECKING = False
if TYPE_CHECKING:
    __salt__: dict
    __opts__: dict

_BACKUPS = "/var/backups/luks"


def __virtual__():
    if "luks.status" not in __salt__:
        return False, "luks: the luks execution module is not loaded; install cryptsetup, and run saltutil.sync_all"
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
    **options,
):
    """
    The volume is open, and its filesystem mounted; its header is backed up.

    name
        the mount point: an empty directory, made if missing
    device, mapper, key
        the device, the name in ``/dev/mapper``, and the place of the key
    encrypt : False
        make a blank device an encrypted volume first; a device that carries anything is never touched. An interrupted
        run is completed by the next
    filesystem, mkfs_options, mount_options, discard, backups, key_timeout
        as in ``luks.encrypt``; the options of the mount hold from the next mount on
    version, cipher, key_size, hash, pbkdf, iteration_time, iterations, memory
        of a new volume, as in ``luks.format``
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
        **options,
    }
    subjects = {
        "format": device,
        "mkfs": filesystem,
        "header_backup": backups,
        "open": f"/dev/mapper/{mapper}",
        "mount": name,
    }
    try:
        steps = __salt__["luks.encrypt"](test=__opts__["test"], **wanted)
        changes = {step: subjects[step] for step in steps}
        if not steps:
            return returns.same(name, f"{device} is open as {mapper} and mounted")
        if __opts__["test"]:
            return returns.would(name, f"Steps to be taken: {', '.join(steps)}", changes)
        left = __salt__["luks.encrypt"](test=True, **wanted)
    except returns.ERRORS as exc:
        return returns.failed(name, exc)
    if left:
        return returns.failed(name, f"Steps that did not last: {', '.join(left)}", changes)
    return returns.changed(name, f"{device} is open as {mapper} and mounted", changes)


def formatted(name, key, backups=_BACKUPS, **options):
    """
    The device is a LUKS volume, and its header is backed up. One that is a volume already keeps its parameters; one
    that carries anything else is refused.

    name
        the device
    key
        place of the key that shall open a new volume
    backups : /var/backups/luks
        directory of the header backup
    version, cipher, key_size, hash, pbkdf, iteration_time, iterations, memory
        of a new volume, as in ``luks.format``
    """
    try:
        found = __salt__["luks.status"](name, backups=backups)
        is_volume = found["luks"] and not found["unfinished"]
        if is_volume and found["header_backup"]:
            return returns.same(name, f"It is LUKS{found['version']} volume {found['uuid']}")
        if __opts__["test"]:
            if found["signatures"] and not found["unfinished"]:
                carried = ", ".join(signature["type"] for signature in found["signatures"])
                return returns.failed(name, f"It carries {carried} and would be refused")
            what = "The header would be backed up" if is_volume else "It would be made a LUKS volume"
            return returns.would(name, what, {"header_backup": backups} if is_volume else {"format": name})
        if is_volume:
            changes = {"header_backup": __salt__["luks.header_backup"](name, backups=backups)}
        else:
            changes = __salt__["luks.format"](name, key=key, backups=backups, **options)
        found = __salt__["luks.status"](name, backups=backups)
    except returns.ERRORS as exc:
        return returns.failed(name, exc)
    if not found["luks"] or not found["header_backup"]:
        return returns.failed(name, "It is no LUKS volume, or has no header backup, after all", changes)
    return returns.changed(name, f"It is LUKS{found['version']} volume {found['uuid']}", changes)


def opened(name, device, key, discard=False, key_timeout=0):
    """
    The volume is open.

    name
        mapper: its name in ``/dev/mapper``
    device, key, discard, key_timeout
        as in ``luks.open``
    """
    change = {name: {"old": None, "new": device}}
    try:
        found = __salt__["luks.status"](device)
        if found["open"] and found["mapper"] == name and not found["unfinished"]:
            return returns.same(name, f"{device} is open")
        if __opts__["test"]:
            if found["luks"] or found["signatures"]:
                __salt__["luks.open"](device, name, key=key, key_timeout=key_timeout, test=True)
            return returns.would(name, f"{device} would be opened", change)
        __salt__["luks.open"](device, name, key=key, discard=discard, key_timeout=key_timeout)
        found = __salt__["luks.status"](device)
    except returns.ERRORS as exc:
        return returns.failed(name, exc)
    if not found["open"] or found["mapper"] != name:
        return returns.failed(name, f"{device} is not open after all", change)
    return returns.changed(name, f"{device} was opened", change)


def closed(name):
    """
    The volume is not open, and nothing is mounted from it. Fails, naming the processes, when some hold it.

    name
        mapper: its name in ``/dev/mapper``
    """
    try:
        found = __salt__["luks.open_volumes"]().get(name)
        if not found:
            return returns.same(name, "It is not open")
        changes = {name: {"old": found["device"], "new": None}}
        changes.update({mount["target"]: {"old": mount["source"], "new": None} for mount in found["mounts"]})
        if __opts__["test"]:
            holders = ", ".join(f"{process['name']} (PID {process['pid']})" for process in found["processes"])
            comment = f"It would be closed; now held by {holders}" if holders else "It would be closed"
            return returns.would(name, comment, changes)
        __salt__["luks.close"](name)
        if name in __salt__["luks.open_volumes"]():
            return returns.failed(name, "It is open after all", changes)
    except returns.ERRORS as exc:
        return returns.failed(name, exc)
    return returns.changed(name, "It was closed", changes)


def key_present(name, new_key, key, backups=_BACKUPS, **options):
    """
    A key opens the volume.

    name
        the device
    new_key
        place of the key that shall open it
    key
        place of one that opens it now
    backups : /var/backups/luks
        directory of the header backup
    pbkdf, iteration_time, iterations, memory
        of the new key slot, as in ``luks.format``
    """
    change = {"key": {"old": None, "new": new_key}}
    try:
        if __salt__["luks.test_key"](name, key=new_key):
            return returns.same(name, f"{new_key} opens it")
        if __opts__["test"]:
            if not __salt__["luks.test_key"](name, key=key):
                return returns.failed(name, f"Neither {new_key} nor {key} opens it")
            return returns.would(name, f"{new_key} would be added", change)
        __salt__["luks.add_key"](name, new_key=new_key, key=key, backups=backups, **options)
        opens = __salt__["luks.test_key"](name, key=new_key)
    except returns.ERRORS as exc:
        return returns.failed(name, exc)
    return (
        returns.changed(name, f"{new_key} was added", change)
        if opens
        else returns.failed(name, f"{new_key} does not open it")
    )


def key_absent(name, key, backups=_BACKUPS):
    """
    A key does not open the volume (any more). The last key is never removed.

    name
        the device
    key
        place of the key to remove
    backups : /var/backups/luks
        directory of the header backup, which still has the key
    """
    change = {"key": {"old": key, "new": None}}
    try:
        if not __salt__["luks.test_key"](name, key=key):
            return returns.same(name, f"{key} does not open it")
        if __opts__["test"]:
            if len(__salt__["luks.status"](name)["slots"]) == 1:
                return returns.failed(name, f"{key} is the last key; it would not be removed")
            return returns.would(name, f"{key} would be removed", change)
        __salt__["luks.remove_key"](name, key=key, backups=backups)
        opens = __salt__["luks.test_key"](name, key=key)
    except returns.ERRORS as exc:
        return returns.failed(name, exc)
    return (
        returns.failed(name, f"{key} still opens it") if opens else returns.changed(name, f"{key} was removed", change)
    )


def key_file(name):
    """
    There is a key file; a missing one is generated at random, an existing one is never changed.

    name
        its absolute path
    """
    try:
        if __salt__["file.file_exists"](name):
            return returns.same(name, "The key file is there")
        if __opts__["test"]:
            return returns.would(name, "A key would be generated", {name: "new key file"})
        __salt__["luks.generate_key"](name)
    except returns.ERRORS as exc:
        return returns.failed(name, exc)
    return returns.changed(name, "A key was generated", {name: "new key file"})
