"""
Errors of the Galaxy tree.

All are a ``CommandExecutionError``. So an execution module lets them pass, and a state turns them into ``result:
False``. The facts behind a message are attributes. A message says what failed, where, and what to do.
"""

from collections.abc import Iterable, Sequence

from salt.exceptions import CommandExecutionError

import galaxy_host_pattern

# characters that move a terminal's cursor, turn the direction of text, or cannot be sent
_UNPRINTABLE = galaxy_host_pattern.Pattern(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


class GalaxyError(CommandExecutionError):
    """
    Any failure that this tree reports itself. Its message is safe on a terminal, because others choose the names of
    processes, files and mounts in it.
    """

    def __init__(self, message: object = "", info: object = None) -> None:
        super().__init__(_UNPRINTABLE.sub(lambda match: repr(match[0])[1:-1], str(message)), info=info)


class AddressError(GalaxyError):
    """A text is not a uWSGI socket address."""


class ConfigError(GalaxyError):
    """A configuration file is missing, unreadable or malformed, or lacks something that is needed."""


class IsGravitys(ConfigError):
    """The file has a ``gravity:`` section, so that gunicorn serves Galaxy, not uWSGI."""


class NotNamed(GalaxyError):
    """
    Arguments and pillar name no Galaxy server, or several. This is not a ``SaltInvocationError``, because ``salt-call``
    then shows the function's documentation.
    """


class SettingsError(GalaxyError):
    """
    Pillar is wrong below ``galaxy:``.

    problems
        a sentence for each fault
    """

    def __init__(self, problems: Iterable[str]) -> None:
        super().__init__("Nothing is done while pillar is wrong: " + "; ".join(problems))
        self.problems = list(problems)


class FileError(GalaxyError):
    """
    A file or directory is not one that we may read, write, make or trust.

    path
        the file
    user
        the user whose rights are the reason: ``user galaxy``, ``group staff``, ``everybody``; empty if there is another
        reason
    """

    def __init__(self, path: str, what: object, user: str = "") -> None:
        super().__init__(f"{path}: {what}")
        self.path = path
        self.user = user


class FileMissing(FileError):
    """There is no such file or directory."""


class StatsError(GalaxyError):
    """
    The stats server gave no usable answer. Each subclass is one way to fail.

    address
        the ``Address`` that was asked
    received
        how many bytes had come by then
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
    """The deadline passed during connecting or reading."""


class StatsClosed(StatsError):
    """The server closed the connection before the document was complete."""


class StatsTooLarge(StatsError):
    """The answer has more bytes than the limit allows."""


class StatsNotJSON(StatsError):
    """The answer is not JSON."""


class StatsNotUWSGI(StatsError):
    """The answer is JSON but not uWSGI's stats document."""


class GunicornError(GalaxyError):
    """gunicorn does not serve there, may not be looked at, or does not answer."""


class TlsRefused(GunicornError):
    """gunicorn's TLS refuses clients that it does not know."""


class CommandError(GalaxyError):
    """
    An external command failed.

    argv
        its words
    returncode
        its exit status; ``None`` if it did not run, or not to its end
    stderr, output
        what it wrote to its two streams
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
    """The process manager cannot be found or reached, or it refuses."""


class DefinitionError(GalaxyError):
    """
    A process manager's definition of Galaxy cannot be written from these settings.

    key
        the setting at fault. Its value may be a secret, so it is in no message
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
        PIDs of these workers
    """

    def __init__(self, what: str, pids: Sequence[int]) -> None:
        super().__init__(what)
        self.pids = pids


class NotMine(ProcessError):
    """
    The addresses of a configuration lead to a process of another server.

    pid
        PID of this process
    """

    def __init__(self, pid: int, what: str) -> None:
        super().__init__(f"PID {pid}, which serves there, {what}: it is not this Galaxy")
        self.pid = pid


class SharedSocket(ProcessError):
    """
    Several uWSGI masters serve the server's sockets, and nothing says which of them is meant.

    pids
        PIDs of these masters
    """

    def __init__(self, what: str, pids: Sequence[int]) -> None:
        super().__init__(what)
        self.pids = pids


class NotReady(GalaxyError):
    """
    Galaxy did not become ready.

    ended
        whether its master died, or its process manager said that the service failed
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
        name of the space
    """

    def __init__(self, name: str, what: object) -> None:
        super().__init__(f"Onedata space {name}: {what}")
        self.name = name


class VolumeError(GalaxyError):
    """
    An encrypted volume cannot be brought into the wanted state. Nothing was changed unless the message says so.

    subject
        the device, mapper name, mount point, or file at fault
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
    """The device carries something. ``signatures`` are those that libblkid recognises."""

    def __init__(self, subject: object, what: str, signatures: Sequence[object]) -> None:
        super().__init__(subject, what)
        self.signatures = signatures


class DeviceInUse(VolumeError):
    """The device is mounted, used as swap, part of another device, or opened exclusively."""


class HeaderError(VolumeError):
    """There is no valid LUKS header, or a header backup is not as it must be."""


class WrongKey(VolumeError):
    """The key opens no key slot of the volume."""


class KeySourceError(VolumeError):
    """No key can be got from the place that was named."""


class KeySlotError(VolumeError):
    """A key slot cannot be changed as asked."""


class MapperError(VolumeError):
    """The mapper name or the volume is taken by another, or its device is lost."""


class FilesystemError(VolumeError):
    """The filesystem on the volume is not the wanted one, or this machine cannot make it."""


class MountPointError(VolumeError):
    """The mount point is not empty, is not a directory, or has something else mounted."""


class VolumeBusy(VolumeError):
    """
    The volume is in use.

    processes
        the processes that hold it, as ``galaxy_host_holders.Holder``
    """

    def __init__(self, subject: object, what: str, processes: Sequence[object]) -> None:
        super().__init__(subject, what)
        self.processes = processes
