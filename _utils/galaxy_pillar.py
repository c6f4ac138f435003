"""
Every setting below ``galaxy:`` in pillar, declared once: name, type, default, unit, and meaning.

The check of a pillar, the settings in effect, ``pillar.example`` and ``docs/pillar.schema.json`` are all made from
these declarations.
"""

import enum
from typing import Any

from galaxy_host_record import record


class Kind(str, enum.Enum):
    """The type of a setting's value. The text follows "give" in an error."""

    TEXT = "a text"
    PATH = "an absolute path"
    ADDRESS = "an address, such as 127.0.0.1:9191 or /path/socket"
    SECONDS = "a number of seconds, more than 0"
    DURATION = "a number of seconds, 0 or more"
    COUNT = "a whole number, 0 or more"
    MODE = "octal digits in quotes, such as '0755'"
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
        its value if no source gives one, and the unit of the value
    text
        what it means, in sentences
    choices
        the only values that are allowed
    keys
        keys of a ``SECTION``, or of each member of a ``NAMED``
    example
        its value in ``pillar.example``, if this is not the default
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
        "Path of the configuration of Galaxy, Gravity or uWSGI: galaxy.yml, galaxy.ini, any uWSGI INI or YAML.",
        example="/srv/galaxy/config/galaxy.yml",
    ),
    Key(
        "stats",
        Kind.ADDRESS,
        "Address of uWSGI's stats server; null takes the one in the configuration. Forms: 127.0.0.1:9191, :9191, "
        "[::1]:9191, /path/socket, @abstract, http://127.0.0.1:9191 (stats-http).",
    ),
    Key("socket", Kind.ADDRESS, "Address of uWSGI's request socket; null takes the one in the configuration."),
)
_MANAGER = (
    Key(
        "manager",
        Kind.TEXT,
        "The process manager that starts Galaxy; null finds it out.",
        choices=("supervisord", "systemd", "upstart", "sysvinit"),
    ),
    Key(
        "service",
        Kind.TEXT,
        "What the process manager calls Galaxy: the name of a program, group, unit or job; null finds it out.",
    ),
    Key("conf_file", Kind.PATH, "supervisord's configuration file; null finds it out."),
    Key("instance", Kind.TEXT, "If Gravity's configuration has several instances: the instance_name of this one."),
)
_LIMITS = (
    Key("timeout", Kind.SECONDS, "How long to wait until Galaxy is ready, for each try to start it.", 300, "seconds"),
    Key("retries", Kind.COUNT, "If Galaxy does not come up: how often to stop it and start it again.", 5),
    Key("min_workers", Kind.COUNT, "How many workers must accept requests and have loaded Galaxy's application.", 1),
    Key(
        "force",
        Kind.BOOL,
        "Whether a stop may kill a master that does not end by itself, and whether an update of Gravity's files may "
        "stop what runs.",
        False,
    ),
    Key(
        "companions",
        Kind.TEXT,
        "If Celery, a job handler or another service beside the web server fails: require lets the start fail too, "
        "ignore does not.",
        "require",
        choices=("require", "ignore"),
    ),
    Key(
        "settle",
        Kind.DURATION,
        "How long all gunicorns must stay ready before a rolling restart touches the next one. Give more than the "
        "proxy's fail_timeout.",
        11,
        "seconds",
    ),
    Key(
        "check",
        Kind.BOOL,
        "Whether a reload or restart of a Galaxy under Gravity first loads the application on trial, as Galaxy's user. "
        "If the trial fails, nothing is touched.",
        False,
    ),
)
_DEFINITION = (
    Key(
        "gravity_update",
        Kind.BOOL,
        "For a Galaxy that Gravity runs: whether the formula updates the files that Gravity wrote for its process "
        "manager (galaxy.updated).",
        False,
    ),
    Key(
        "manage_service",
        Kind.BOOL,
        "For a Galaxy that uWSGI serves: whether the formula writes the program file of supervisord or the unit of "
        "systemd. Then give manager (one of the two), config and uwsgi. The keys from uwsgi to stop_timeout go into "
        "that file.",
        False,
    ),
    Key("uwsgi", Kind.PATH, "uWSGI's executable, such as /srv/galaxy/venv/bin/uwsgi."),
    Key("user", Kind.TEXT, "The user that runs Galaxy.", "galaxy"),
    Key("group", Kind.TEXT, "The group that runs Galaxy.", "galaxy"),
    Key("root", Kind.PATH, "The working directory of Galaxy; null takes the directory of config."),
    Key(
        "program_file",
        Kind.PATH,
        "Where to write supervisord's program file; null takes the place that the packages of Debian and RedHat use.",
    ),
    Key(
        "log",
        Kind.PATH,
        "The file for Galaxy's output, in a directory of root's; null leaves the output to the process manager.",
    ),
    Key(
        "environment",
        Kind.VARIABLES,
        "Environment variables for Galaxy's processes. They may be secrets: they go into a file that only root can "
        "read.",
        {},
        secret=True,
    ),
    Key(
        "autostart",
        Kind.BOOL,
        "Whether the process manager starts Galaxy at boot by itself. If Galaxy has a volume or Onedata spaces, it "
        "never does.",
        True,
    ),
    Key(
        "stop_timeout",
        Kind.COUNT,
        "How long the process manager waits for Galaxy to end before it kills it.",
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
    Key(
        "iteration_time",
        Kind.COUNT,
        "How long an unlock shall take on this machine; cryptsetup measures what that needs.",
        unit="milliseconds",
    ),
    Key("iterations", Kind.COUNT, "Iterations of the key derivation; null lets cryptsetup measure."),
    Key("memory", Kind.COUNT, "Memory of the key derivation; null lets cryptsetup measure.", unit="KiB"),
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
        "How long to wait for a device that is not there yet, such as a cloud disk that is attached late.",
        120,
        "seconds",
    ),
    Key(
        "cryptdev_ini", Kind.PATH, "Take device, mapper, mount_point and filesystem from this file of the old scripts."
    ),
    Key(
        "encrypt",
        Kind.BOOL,
        "Whether a blank device becomes an encrypted volume. A device that carries anything is never formatted.",
        False,
    ),
    Key("mapper", Kind.TEXT, "Name of the open volume in /dev/mapper.", "galaxy"),
    Key("mount_point", Kind.PATH, "The directory on which the volume is mounted.", "/export"),
    Key(
        "filesystem",
        Kind.TEXT,
        "The filesystem. For xfs add xfsprogs to packages, for btrfs btrfs-progs.",
        "ext4",
        choices=("ext4", "ext3", "ext2", "xfs", "btrfs"),
    ),
    Key(
        "nonempty",
        Kind.TEXT,
        "If files were written below the mount point while nothing was mounted: refuse fails and names them, move puts "
        "them aside.",
        "refuse",
        choices=("refuse", "move"),
    ),
    Key("mkfs_options", Kind.TEXTS, "Options of mkfs.", []),
    Key("mount_options", Kind.TEXTS, "Options of the mount.", [], example=["noatime"]),
    Key(
        "discard",
        Kind.BOOL,
        "Whether to pass discards (TRIM) on to the device. They show to anybody who sees the device which blocks are "
        "in use.",
        False,
    ),
    Key(
        "key",
        Kind.TEXT,
        "Place of the key: pillar://…, sdb://profile/key, clevis://, token://, or the absolute path of a key file "
        "(mode 0600). null takes the passphrase below.",
    ),
    Key(
        "passphrase",
        Kind.TEXT,
        "The passphrase, if key is null. Encrypt it for the gpg renderer.",
        example="-----BEGIN PGP MESSAGE-----\n…\n-----END PGP MESSAGE-----\n",
        secret=True,
    ),
    Key(
        "key_timeout",
        Kind.DURATION,
        "How long to ask again if the database of the key fails, such as a Vault that starts later than this machine.",
        120,
        "seconds",
    ),
    Key("generate_key", Kind.BOOL, "If key is a key file: whether to generate a missing one.", False),
    Key(
        "backups",
        Kind.PATH,
        "The directory of the header backups. Copy them to another machine.",
        "/var/backups/luks",
    ),
    Key(
        "keep", Kind.COUNT, "How many header backups of a volume to keep; null keeps all. The newest is never removed."
    ),
    Key("luks", Kind.SECTION, "Parameters of a new volume.", {}, keys=_LUKS),
    Key(
        "user",
        Kind.TEXT,
        "Owner of the volume's root directory and of the directories below; null takes the user that runs Galaxy.",
    ),
    Key(
        "group",
        Kind.TEXT,
        "Group of the volume's root directory and of the directories below; null takes Galaxy's group.",
    ),
    Key("mode", Kind.MODE, "Mode of the volume's root directory and of the directories below, in quotes.", "0755"),
    Key("directories", Kind.TEXTS, "Directories to make on the volume.", [], example=["galaxy", "database"]),
    Key("packages", Kind.TEXTS, "Packages that the volume needs.", ["cryptsetup", "e2fsprogs"]),
)
_SPACE = (
    Key("provider_host", Kind.TEXT, "Host of the Oneprovider.", example="provider.example.org"),
    Key("provider_port", Kind.COUNT, "Port of the Oneprovider; null lets oneclient choose."),
    Key("mount_point", Kind.PATH, "The directory on which the space is mounted.", example="/onedata/userdata"),
    Key(
        "token",
        Kind.TEXT,
        "Place of the token: pillar://…, sdb://profile/key, or the absolute path of a file (mode 0600).",
        example="sdb://vault/userdata",
    ),
    Key("access_token", Kind.TEXT, "The token itself, if token is null. Encrypt it for the gpg renderer.", secret=True),
    Key("insecure", Kind.BOOL, "Whether to accept any certificate of the provider.", False),
    Key("nonempty", Kind.BOOL, "Whether to mount the space even if files lie in the mount point.", False),
    Key("options", Kind.TEXTS, "More options of oneclient.", [], example=["--force-proxy-io"]),
)
_ONEDATA = (
    Key("spaces", Kind.NAMED, "The spaces, each by its name.", {}, keys=_SPACE, example="userdata"),
    Key("ini", Kind.PATH, "The old scripts' file of spaces: /etc/galaxy/onedatactl.ini."),
    Key(
        "timeout",
        Kind.SECONDS,
        "How long to wait until a mount answers, and how long to ask again if an sdb:// fails.",
        60,
        "seconds",
    ),
)
_BOOT = (
    Key(
        "enabled",
        Kind.BOOL,
        "Whether the reactor of the Salt master boots this minion. The grain `roles: [galaxy]` does the same.",
        False,
    ),
    Key(
        "services",
        Kind.TEXTS,
        "Services that Galaxy needs. They are started after Galaxy's data is mounted and before Galaxy.",
        [],
        example=["autofs", "postgresql"],
    ),
    Key(
        "salt_call",
        Kind.PATH,
        "The path of salt-call, for galaxy.boot.unit on a machine without a Salt master.",
        "/usr/bin/salt-call",
    ),
    Key("config_dir", Kind.PATH, "The configuration directory of salt-call.", "/etc/salt"),
    Key(
        "timeout",
        Kind.COUNT,
        "How long the whole boot may take. Give more than everything that it may wait for: timeout * (retries + 1), "
        "and the keys.",
        3600,
        "seconds",
    ),
)
_MONITORING = (
    Key(
        "metrics",
        Kind.PATH,
        "The file for the metrics, for node_exporter's textfile collector, in a directory that only root can write; "
        "null writes none.",
        example="/var/lib/prometheus/node-exporter/galaxy.prom",
    ),
    Key("interval", Kind.SECONDS, "How long to wait between two writes.", 30, "seconds"),
)
SERVER = (
    *_NAMING,
    *_MANAGER,
    *_LIMITS,
    *_DEFINITION,
    Key(
        "storage",
        Kind.SECTION,
        "An encrypted volume for Galaxy's data (docs/storage.md). Leave storage out if there is none.",
        None,
        keys=STORAGE,
    ),
)
SERVERS = Key(
    "servers",
    Kind.NAMED,
    "More Galaxies on this machine, each by its name. Each has the keys above except onedata, boot and monitoring, "
    "which belong to the machine. galaxy:storage is the volume of the Galaxy that galaxy: itself describes; if it "
    "describes none, all servers need this volume.",
    {},
    keys=SERVER,
)
MACHINE = (
    Key(
        "onedata",
        Kind.SECTION,
        "Onedata spaces (docs/onedata.md). Leave onedata out if there are none.",
        {},
        keys=_ONEDATA,
    ),
    Key("boot", Kind.SECTION, "How the machine comes back after a boot (docs/boot.md).", {}, keys=_BOOT),
    Key(
        "monitoring",
        Kind.SECTION,
        "Metrics of all servers of the machine, for state.apply galaxy.monitoring (docs/monitoring.md).",
        {},
        keys=_MONITORING,
    ),
    SERVERS,
)
PILLAR = (*SERVER, *MACHINE)
