"""
Errors of the Galaxy tree.

All are ``CommandExecutionError``, so an execution module lets them pass and a state turns them into ``result: False``;
the facts behind a message are attributes. A message says what failed, where, and what to do.
"""

from collections.abc import Iterable, Sequence

from salt.exceptions import CommandExecutionError

import galaxy_host_pattern

# what moves a terminal's cursor, turns the direction of text, or cannot be sent on
_UNPRINTABLE = galaxy_host_pattern.Pattern(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


class GalaxyError(CommandExecutionError):
    """
    Any failure that this tree reports itself. Its message is fit for a terminal: names of processes, files and mounts
    are their makers' choice.
    """

    def __init__(self, message: object = "", info: object = None) -> None:
        super().__init__(_UNPRINTABLE.sub(lambda match: repr(match[0])[1:-1], str(message)), info=info)


class AddressError(GalaxyError):
    """A text is not a uWSGI socket address."""


class ConfigError(GalaxyError):
    """A configuration file is missing, unreadable, malformed, or lacks what is asked of it."""


class IsGravitys(ConfigError):
    """The file has a ``gravity:`` section, so that gunicorn serves Galaxy, not uWSGI."""


class NotNamed(GalaxyError):
    """
    Neither arguments nor pillar name a Galaxy server, or no single one. No ``SaltInvocationError``, of which
    ``salt-call`` shows the function's documentation.
    """


class SettingsError(GalaxyError):
    """
    Pillar says something below ``galaxy:`` that cannot be meant so.

    problems
        a sentence for each fault
    """

    def __init__(self, problems: Iterable[str]) -> None:
        super().__init__("Nothing is done while pillar is wrong: " + "; ".join(problems))
        self.problems = list(problems)


class FileError(GalaxyError):
    """
    A file or directory is not one that we may read, write, make or trust.

    path, user
        which, and whose part of the path or lacking right is the reason: ``user galaxy``, ``group staff``,
        ``everybody``; empty where the reason is another
    """

    def __init__(self, path: str, what: object, user: str = "") -> None:
        super().__init__(f"{path}: {what}")
        self.path = path
        self.user = user


class FileMissing(FileError):
    """There is no such file or directory."""


class StatsError(GalaxyError):
    """
    The stats server gave no usable answer; each subclass is one way to fail.

    address
        the ``Address`` that was asked
    received
        bytes that had come when it failed
    """

    def __init__(self, address: object, what: str, received: int = 0) -> None:
        super().__init__(f"uWSGI stats server {address}: {what}")
        self.address = address
        self.received = received


class StatsRefused(StatsError):
    """Nothing listens there."""


class StatsUnreachable(StatsError):
    """No route, no such socket file, no permission, unknown host."""


class StatsTimeout(StatsError):
    """The deadline passed while connecting or reading."""


class StatsClosed(StatsError):
    """The server closed the connection before the document was complete."""


class StatsTooLarge(StatsError):
    """More bytes came than the size cap allows."""


class StatsNotJSON(StatsError):
    """The answer is not JSON."""


class StatsNotUWSGI(StatsError):
    """The answer is JSON but not uWSGI's stats document."""


class GunicornError(GalaxyError):
    """gunicorn serves nothing there, may not be looked at, or does not answer."""


class TlsRefused(GunicornError):
    """gunicorn's TLS lets nobody in who is not known to it."""


class CommandError(GalaxyError):
    """
    An external command failed.

    argv, returncode, stderr, output
        what ran, how it ended (``None``: not at all, or past its timeout), and what it said on its two streams
    """

    def __init__(
        self, argv: list[str], what: str, returncode: int | None = None, stderr: str = "", output: str = ""
    ) -> None:
        super().__init__(f"{argv[0]}: {what} (command: {' '.join(argv)})")
        self.argv = argv
        self.returncode = returncode
        self.stderr = stderr
        self.output = output


class ManagerError(GalaxyError):
    """The process manager cannot be found, reached, or refuses."""


class DefinitionError(GalaxyError):
    """
    A process manager's definition of Galaxy cannot be written from these settings.

    key
        of the setting at fault; its value may be a secret and is in no message
    """

    def __init__(self, key: str, what: str) -> None:
        super().__init__(f"{key} {what}")
        self.key = key


class ProcessError(GalaxyError):
    """The master cannot be identified, or a process cannot be signalled."""


class MasterGone(ProcessError):
    """
    Only uWSGI workers that outlived their master hold the server's sockets.

    pids
        of those processes
    """

    def __init__(self, what: str, pids: Sequence[int]) -> None:
        super().__init__(what)
        self.pids = pids


class NotMine(ProcessError):
    """
    The addresses of a configuration lead to another server's process.

    pid
        of that process
    """

    def __init__(self, pid: int, what: str) -> None:
        super().__init__(f"PID {pid}, which serves there, {what}: it is not this Galaxy")
        self.pid = pid


class SharedSocket(ProcessError):
    """
    Several uWSGI masters serve the server's sockets, and nothing says which is meant.

    pids
        of those masters
    """

    def __init__(self, what: str, pids: Sequence[int]) -> None:
        super().__init__(what)
        self.pids = pids


class NotReady(GalaxyError):
    """
    Galaxy did not come to accept requests, or ended on the way there.

    ended
        its master died, or its process manager said that the service failed
    """

    def __init__(self, what: object, ended: bool = False) -> None:
        super().__init__(what)
        self.ended = ended


class LockError(GalaxyError):
    """Another start or stop of the same Galaxy is under way."""


class OnedataError(GalaxyError):
    """
    An Onedata space cannot be mounted.

    name
        of the space
    """

    def __init__(self, name: str, what: object) -> None:
        super().__init__(f"Onedata space {name}: {what}")
        self.name = name


class VolumeError(GalaxyError):
    """
    An encrypted volume cannot be what is asked of it; nothing was changed unless the message says so.

    subject
        the device, mapper, mount point, or file at fault
    """

    def __init__(self, subject: object, what: object) -> None:
        super().__init__(f"{subject}: {what}")
        self.subject = str(subject)
        self.what = what


class DeviceError(VolumeError):
    """The device is missing, ambiguous, or not a block device."""


class DeviceMissing(DeviceError):
    """The device is not there (yet)."""


class DeviceNotBlank(VolumeError):
    """The device carries something; ``signatures`` are those that libblkid knows of it."""

    def __init__(self, subject: object, what: str, signatures: Sequence[object]) -> None:
        super().__init__(subject, what)
        self.signatures = signatures


class DeviceInUse(VolumeError):
    """The device is mounted, used as swap, part of another device, or opened exclusively."""


class HeaderError(VolumeError):
    """There is no valid LUKS header, or a header backup is not what it must be."""


class WrongKey(VolumeError):
    """The key opens no key slot of the volume."""


class KeySourceError(VolumeError):
    """The place named as the source of a key gives none."""


class KeySlotError(VolumeError):
    """A key slot cannot be changed as asked."""


class MapperError(VolumeError):
    """The mapper name, or the volume, is taken by another; or its device is lost."""


class FilesystemError(VolumeError):
    """The filesystem on the volume, or what is needed to make it, is not what was asked."""


class MountPointError(VolumeError):
    """The mount point is not empty, not a directory, or has something else mounted."""


class VolumeBusy(VolumeError):
    """
    The volume is in use.

    processes
        those that hold it, as ``galaxy_host_holders.Holder``
    """

    def __init__(self, subject: object, what: str, processes: Sequence[object]) -> None:
        super().__init__(subject, what)
        self.processes = processes
