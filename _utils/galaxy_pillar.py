"""
Every setting below ``galaxy:`` in pillar, declared once: name, type, default, unit, and what it means.

The check of a pillar, the effective settings, ``pillar.example`` and ``docs/pillar.schema.json`` all come from here.
"""

import enum
from typing import Any

from galaxy_host_record import record


class Kind(str, enum.Enum):
    """The type of a setting's value; the text follows "give" in an error."""

    TEXT = "a text"
    PATH = "an absolute path"
    ADDRESS = "an address, such as 127.0.0.1:9191 or /path/socket"
    SECONDS = "a number of seconds, more than 0"
    DURATION = "a number of seconds, 0 or more"
    COUNT = "a whole number, 0 or more"
    BOOL = "True or False"
    TEXTS = "a list of texts"
    VARIABLES = "a mapping of names to texts or numbers"
    SECTION = "a mapping"
    NAMED = "a mapping of names to mappings"


@record(frozen=True, eq=False)
class Key:
    """
    One setting.

    default, unit
        its value where nothing gives one, and the unit of the value
    text
        what it means, in sentences
    choices
        the only values that it may have
    keys
        of a ``SECTION``, or of each member of a ``NAMED``
    example
        its value in ``pillar.example``, where that is not the default
    secret
        its value is never shown
    """

    name: str
    kind: Kind
    text: str
    default: object = None
    unit: str = ""
    choices: tuple[object, ...] = ()
    keys: tuple[Any, ...] = ()
    example: object = None
    secret: bool = False


_NAMING = (
    Key(
        "config",
        Kind.PATH,
        "Path of Galaxy's or uWSGI's configuration: galaxy.yml, galaxy.ini, any uWSGI INI or YAML.",
        example="/srv/galaxy/config/galaxy.yml",
    ),
    Key(
        "stats",
        Kind.ADDRESS,
        "Address of uWSGI's stats server, where something else than the configuration says is to be asked: "
        "127.0.0.1:9191, :9191, [::1]:9191, /path/socket, @abstract, http://127.0.0.1:9191 (stats-http).",
    ),
    Key("socket", Kind.ADDRESS, "Address of uWSGI's request socket, where the configuration does not say it."),
)
_MANAGER = (
    Key(
        "manager",
        Kind.TEXT,
        "The process manager; null finds it out.",
        choices=("supervisord", "systemd", "upstart", "sysvinit"),
    ),
    Key("service", Kind.TEXT, "The name of its program, group, unit or job; null finds it out."),
    Key("conf_file", Kind.PATH, "supervisord's configuration file; null finds it out."),
    Key("instance", Kind.TEXT, "instance_name in Gravity's configuration, where that has several instances."),
)
_LIMITS = (
    Key("timeout", Kind.SECONDS, "How long to wait until Galaxy is ready, for each try.", 300, "seconds"),
    Key("retries", Kind.COUNT, "How often to stop and start a Galaxy that does not come up.", 5),
    Key("min_workers", Kind.COUNT, "How many workers must accept requests with their application.", 1),
    Key(
        "force",
        Kind.BOOL,
        "Let a stop end a master that outlives its manager's stop, by signal, and an update of Gravity's files stop "
        "what runs.",
        False,
    ),
    Key(
        "companions",
        Kind.TEXT,
        "Whether a start fails where Celery, a job handler or another service beside the web server does.",
        "require",
        choices=("require", "ignore"),
    ),
    Key(
        "settle",
        Kind.DURATION,
        "How long all gunicorns must stay ready before a rolling restart touches the next one: longer than the proxy's "
        "fail_timeout.",
        11,
        "seconds",
    ),
    Key(
        "check",
        Kind.BOOL,
        "Whether a reload or restart of a Galaxy under Gravity first loads its application once on trial, as Galaxy's "
        "user, and touches nothing where that fails.",
        False,
    ),
)
_DEFINITION = (
    Key(
        "gravity_update",
        Kind.BOOL,
        "Whether the formula brings the files that Gravity wrote for its process manager up to date (galaxy.updated). "
        "For a Galaxy that Gravity runs, in place of manage_service.",
        False,
    ),
    Key(
        "manage_service",
        Kind.BOOL,
        "Whether the formula writes the program file of supervisord or the unit of systemd. It then needs manager (one "
        "of the two), config and uwsgi; the keys below go into that file.",
        False,
    ),
    Key("uwsgi", Kind.PATH, "uWSGI's executable, such as /srv/galaxy/venv/bin/uwsgi."),
    Key("user", Kind.TEXT, "The user that runs Galaxy.", "galaxy"),
    Key("group", Kind.TEXT, "The group that runs Galaxy.", "galaxy"),
    Key("root", Kind.PATH, "Working directory; null is the directory of config."),
    Key(
        "program_file",
        Kind.PATH,
        "Where supervisord's program file goes; null is the packaged place by os_family.",
    ),
    Key(
        "log",
        Kind.PATH,
        "The file that takes Galaxy's output, in a directory of root's; null leaves it to the manager.",
    ),
    Key(
        "environment",
        Kind.VARIABLES,
        "Variables for Galaxy's processes. They may be secrets: they go into a file that only root reads.",
        {},
        secret=True,
    ),
    Key("autostart", Kind.BOOL, "Whether the manager starts Galaxy at boot by itself.", True),
    Key(
        "stop_timeout",
        Kind.COUNT,
        "How long the manager waits for Galaxy to end before it kills it.",
        60,
        "seconds",
    ),
)
_LUKS = (
    Key("version", Kind.COUNT, "LUKS version of a new volume.", choices=(1, 2), example=2),
    Key("cipher", Kind.TEXT, "Cipher of a new volume.", example="aes-xts-plain64"),
    Key("key_size", Kind.COUNT, "Key size of a new volume.", unit="bits", example=512),
    Key("hash", Kind.TEXT, "Hash of the key derivation."),
    Key("pbkdf", Kind.TEXT, "Key derivation.", choices=("pbkdf2", "argon2i", "argon2id"), example="argon2id"),
    Key("iteration_time", Kind.COUNT, "How long an unlock shall take on this machine.", unit="milliseconds"),
    Key("iterations", Kind.COUNT, "Iterations of the key derivation, in place of that benchmark."),
    Key("memory", Kind.COUNT, "Memory of the key derivation, in place of that benchmark.", unit="KiB"),
)
STORAGE = (
    Key(
        "device",
        Kind.TEXT,
        "The device, as in fstab: a path, /dev/disk/by-id/…, UUID=…, LABEL=….",
        example="/dev/disk/by-id/virtio-galaxy-data",
    ),
    Key(
        "device_timeout",
        Kind.DURATION,
        "How long a device that is not there yet is waited for, such as a cloud disk that is attached late.",
        120,
        "seconds",
    ),
    Key(
        "cryptdev_ini", Kind.PATH, "Take device, mapper, mount point and filesystem from this file of the old scripts."
    ),
    Key(
        "encrypt",
        Kind.BOOL,
        "Make a blank device an encrypted volume; a device that carries anything is refused, never formatted.",
        False,
    ),
    Key("mapper", Kind.TEXT, "Name of the opened volume in /dev/mapper.", "galaxy"),
    Key("mount_point", Kind.PATH, "Where the volume is mounted.", "/export"),
    Key(
        "filesystem",
        Kind.TEXT,
        "The filesystem; xfs and btrfs need xfsprogs or btrfs-progs among packages.",
        "ext4",
        choices=("ext4", "ext3", "ext2", "xfs", "btrfs"),
    ),
    Key(
        "nonempty",
        Kind.TEXT,
        "What becomes of files that were written below the mount point while nothing was mounted: refuse fails and "
        "names them, move sets them aside.",
        "refuse",
        choices=("refuse", "move"),
    ),
    Key("mkfs_options", Kind.TEXTS, "Options of mkfs.", []),
    Key("mount_options", Kind.TEXTS, "Options of the mount.", [], example=["noatime"]),
    Key(
        "discard",
        Kind.BOOL,
        "Pass discards (TRIM) on to the device; that tells who sees the device which blocks are in use.",
        False,
    ),
    Key(
        "key",
        Kind.TEXT,
        "Place of the key: pillar://…, sdb://profile/key, or the absolute path of a key file (mode 0600). null is the "
        "passphrase below.",
    ),
    Key(
        "passphrase",
        Kind.TEXT,
        "The passphrase, where no other place of the key is named; keep it encrypted by the gpg renderer.",
        example="-----BEGIN PGP MESSAGE-----\n…\n-----END PGP MESSAGE-----\n",
        secret=True,
    ),
    Key(
        "key_timeout",
        Kind.DURATION,
        "How long a key's database that fails is asked again, such as a Vault that comes up later than this machine.",
        120,
        "seconds",
    ),
    Key("generate_key", Kind.BOOL, "Only where key is a key file: generate it when it is missing.", False),
    Key(
        "backups",
        Kind.PATH,
        "Directory of the header backups; copy them to another machine.",
        "/var/backups/luks",
    ),
    Key(
        "keep", Kind.COUNT, "How many header backups of a volume to keep; the newest is never removed. null keeps all."
    ),
    Key("luks", Kind.SECTION, "Parameters of a new volume.", {}, keys=_LUKS),
    Key("user", Kind.TEXT, "Owner of the volume's root and of the directories; null is the user that runs Galaxy."),
    Key("group", Kind.TEXT, "Group of the volume's root and of the directories; null is Galaxy's group."),
    Key("mode", Kind.TEXT, "Mode of the volume's root and of the directories, in quotes.", "0755"),
    Key("directories", Kind.TEXTS, "Directories to make on the volume.", [], example=["galaxy", "database"]),
    Key("packages", Kind.TEXTS, "Packages that the volume needs.", ["cryptsetup", "e2fsprogs"]),
)
_SPACE = (
    Key("provider_host", Kind.TEXT, "Host of the Oneprovider.", example="provider.example.org"),
    Key("provider_port", Kind.COUNT, "Its port; null lets oneclient choose."),
    Key("mount_point", Kind.PATH, "Where the space is mounted.", example="/onedata/userdata"),
    Key(
        "token",
        Kind.TEXT,
        "Place of the token: pillar://…, sdb://profile/key, or the absolute path of a file (mode 0600).",
        example="sdb://vault/userdata",
    ),
    Key("access_token", Kind.TEXT, "The token itself; keep it encrypted by the gpg renderer.", secret=True),
    Key("insecure", Kind.BOOL, "Do not verify the provider's certificate.", False),
    Key("nonempty", Kind.BOOL, "Mount over files that lie in the mount point.", False),
    Key("options", Kind.TEXTS, "More options of oneclient.", [], example=["--force-proxy-io"]),
)
_ONEDATA = (
    Key("spaces", Kind.NAMED, "The spaces, by name.", {}, keys=_SPACE, example="userdata"),
    Key("ini", Kind.PATH, "Spaces of the old scripts: /etc/galaxy/onedatactl.ini."),
    Key(
        "timeout",
        Kind.SECONDS,
        "How long a mount may take to answer; an sdb:// that fails is asked again for as long.",
        60,
        "seconds",
    ),
)
_BOOT = (
    Key(
        "enabled",
        Kind.BOOL,
        "Whether the master's reactor boots this minion; a grain `roles: [galaxy]` does the same.",
        False,
    ),
    Key(
        "services",
        Kind.TEXTS,
        "Services that Galaxy needs, started after its data is there and before it starts.",
        [],
        example=["autofs", "postgresql"],
    ),
    Key("salt_call", Kind.PATH, "salt-call, for galaxy.boot.unit on a masterless machine.", "/usr/bin/salt-call"),
    Key("config_dir", Kind.PATH, "Its configuration directory.", "/etc/salt"),
    Key(
        "timeout",
        Kind.COUNT,
        "How long the whole boot may take: more than all that it may wait for, timeout * (retries + 1) and the keys.",
        3600,
        "seconds",
    ),
)
_MONITORING = (
    Key(
        "metrics",
        Kind.PATH,
        "The file that metrics are written to, for node_exporter's textfile collector, in a directory that root alone "
        "can write; null writes none.",
        example="/var/lib/prometheus/node-exporter/galaxy.prom",
    ),
    Key("interval", Kind.COUNT, "How often they are written.", 30, "seconds"),
)
SERVER = (
    *_NAMING,
    *_MANAGER,
    *_LIMITS,
    *_DEFINITION,
    Key(
        "storage",
        Kind.SECTION,
        "An encrypted volume for Galaxy's data (docs/storage.md); leave it out for none.",
        None,
        keys=STORAGE,
    ),
)
SERVERS = Key(
    "servers",
    Kind.NAMED,
    "More Galaxies on this machine, by name. Each has the keys above but onedata, boot and monitoring, which are the "
    "machine's. galaxy:storage is the volume of the Galaxy that galaxy: itself describes, or, where it describes none, "
    "of all servers.",
    {},
    keys=SERVER,
)
MACHINE = (
    Key("onedata", Kind.SECTION, "Onedata spaces (docs/onedata.md); leave them out for none.", {}, keys=_ONEDATA),
    Key("boot", Kind.SECTION, "How the machine comes back after a boot (docs/boot.md).", {}, keys=_BOOT),
    Key(
        "monitoring",
        Kind.SECTION,
        "Metrics of all servers of the machine, by state.apply galaxy.monitoring (docs/monitoring.md).",
        {},
        keys=_MONITORING,
    ),
    SERVERS,
)
PILLAR = (*SERVER, *MACHINE)
