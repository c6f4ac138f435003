"""
Look at a uWSGI that serves Galaxy, through the options in effect, its stats server, its sockets, and its processes.

What is known grows (``learn``). First there is only the configuration file; then also what the live master, or else the
process manager's definition, was started with.
"""

import contextlib
import logging
import signal
from collections.abc import Callable, Iterable
from typing import Any

import galaxy_host_address
import galaxy_host_files
import galaxy_host_sockets
import galaxy_uwsgi_config
import galaxy_uwsgi_process
import galaxy_uwsgi_stats
from galaxy_errors import ConfigError, FileError, GalaxyError, NotMine, ProcessError
from galaxy_host_address import Address
from galaxy_host_process import Invocation, Process
from galaxy_host_walk import describe, ours
from galaxy_manager_unit import Unit
from galaxy_manager_unit import uid as uid_of
from galaxy_uwsgi_config import Config
from galaxy_uwsgi_stats import Stats
from galaxy_webserver import Snapshot, WebServer

log = logging.getLogger(__name__)

_STATS_OPTIONS = ("stats", "stats-server")


class UwsgiServer(WebServer):
    """
    uWSGI.

    config
        path of its configuration
    stats, socket
        addresses; they win over the options in effect
    find_unit
        gives the unit of one of its processes; for ``None``, the unit that is defined to start it. It is only called if
        nothing else tells to whom a process belongs
    """

    kind = "uwsgi"
    # SIGTERM reloads it, unless it has die-on-term
    stop_signal = signal.SIGINT

    def __init__(
        self,
        config: str | None = None,
        stats: str | None = None,
        socket: str | None = None,
        find_unit: Callable[[Process | None], Unit | None] = lambda process: None,
    ):
        self.path = config
        self._find_unit = find_unit
        self._units: dict[Process | None, Unit | None] = {}
        self._stats = galaxy_host_address.parse(stats) if stats else None
        self._socket = galaxy_host_address.parse(socket) if socket else None
        self._believed: int | None = None
        self._invocation: Invocation | None = None
        self._options: Config | GalaxyError | None = None

    def believe(self, pid: int) -> None:
        """Accept the master with this PID as this server's if its addresses lead to it, whoever runs it."""
        self._believed = pid

    @property
    def is_given(self) -> bool:
        """Whether both addresses were given, so that the options do not matter."""
        return bool(self._stats and self._socket)

    def learn(self, invocation: Invocation | None) -> bool:
        if invocation is None or invocation == self._invocation:
            return False
        before = self._addresses()
        self._invocation, self._options = invocation, None
        log.debug("Options of uWSGI by %s", invocation.source)
        return self._addresses() != before

    @property
    def options(self) -> Config:
        """The options in effect, as far as they are known. Raises ``ConfigError`` if nothing tells them."""
        if self._options is None:
            self._options = self._read()
        if isinstance(self._options, GalaxyError):
            raise self._options
        return self._options

    def _read(self) -> Config | GalaxyError:
        if not self.path and not self._invocation:
            return ConfigError("No Galaxy configuration is known: give config=, or set galaxy:config in pillar")
        try:
            return galaxy_uwsgi_config.read(self.path, self._invocation)
        except GalaxyError as exc:
            return exc

    @property
    def stats_address(self) -> Address:
        """
        The address of its stats server. Raises ``ConfigError`` if nothing tells the address, or if there is no stats
        server.
        """
        if self._stats:
            return self._stats
        options = self.options
        if options.stats_off:
            raise ConfigError(options.stats_off)
        if options.stats:
            address: Address = options.stats.value
            return address
        for setting in options.unusable:
            if setting.option in _STATS_OPTIONS:
                raise setting.value
        raise ConfigError(
            f"{self._source}: no stats option; add one such as stats = 127.0.0.1:9191, restart Galaxy, or give stats="
        )

    @property
    def _source(self) -> str:
        return " and ".join(filter(None, (self.path, self._invocation.source if self._invocation else "")))

    @property
    def listens_on(self) -> tuple[Address, ...]:
        if self._socket:
            return (self._socket,)
        try:
            return tuple(setting.value for setting in self.options.sockets)
        except GalaxyError:
            return ()

    def _addresses(self) -> tuple[Any, ...]:
        """All of its known addresses, with that of the stats server at the end."""
        try:
            stats = self.stats_address
        except GalaxyError:
            stats = None
        return (*self.listens_on, stats)

    @property
    def known_addresses(self) -> tuple[Address, ...]:
        """The known addresses on which its master listens; that of the stats server is one of them."""
        return tuple(filter(None, self._addresses()))

    def read_stats(self, timeout: float) -> Stats:
        """What its stats server says now. Raises ``StatsError``, ``ConfigError`` or ``NotMine``."""
        named_by, may_listen = ((), None) if self._is_believed else (self._named_by, self._may_listen)
        stats = galaxy_uwsgi_stats.read(self.stats_address, timeout, named_by=named_by, may_listen=may_listen)
        process = Process.of(stats.pid)
        if process:
            self._require_mine(process)
        return stats

    def snapshot(self, timeout: float, probe: bool = True) -> Snapshot:
        return self.read_stats(timeout)

    def is_another(self, process: Process) -> bool:
        """Whether it is a uWSGI whose command line names another configuration, and not this one."""
        return (
            self.path is not None
            and galaxy_uwsgi_process.is_uwsgi(process)
            and galaxy_uwsgi_process.names(process, self.path) is False
        )

    def masters(self) -> list[Process]:
        """Its live masters that name its configuration, wherever they listen."""
        named = galaxy_uwsgi_process.masters(self.path) if self.path else []
        return [process for process in named if self._is_mine(process)]

    @property
    def _is_believed(self) -> bool:
        """Whether an address was given by hand, so that any process there is meant."""
        return not self.path or bool(self._stats or self._socket)

    def _is_mine(self, process: Process) -> bool:
        return not self._stranger(process)

    def _require_mine(self, process: Process) -> None:
        """
        Raises ``NotMine`` for a process to which the configuration leads, but which belongs to another server: it runs
        another configuration, or runs as a user who has nothing to do with this one.
        """
        stranger = self._stranger(process)
        if stranger:
            raise NotMine(process.pid, stranger)

    def _stranger(self, process: Process) -> str:
        """Why a process does not belong to this server; empty if it does."""
        if not self.path or self._is_believed or process.pid == self._believed:
            return ""
        named = galaxy_uwsgi_process.names(process, self.path)
        if not named and not galaxy_uwsgi_process.is_uwsgi(process):
            return ""
        if named is False:
            return f"runs another configuration than {self.path}"
        uids, deciders = process.uids, self._deciders - ours()
        # root may run a server that belongs to Galaxy's user
        if not uids or uids[1] in deciders or (uids[1] in ours() and (named or not deciders)):
            return ""
        unit = self._unit_of(process)
        if unit:
            user = unit.runs_as
            # root may keep another user's server running, which is not Galaxy; but a server that root starts for Galaxy
            # is Galaxy
            if user == uids[1] or (not user and unit.owns(process)):
                return ""
            if user:
                return f"runs as {describe(uids[1])}, but {unit!r} runs Galaxy as {describe(user)}"
        if deciders:
            return f"runs as {describe(uids[1])}, but {describe(min(deciders))} decides what {self.path} says"
        if uids[1] == self._declared(unit):
            return ""
        return (
            f"runs as {describe(uids[1])}, and no file of root's says that Galaxy runs so: set uid in {self.path}, or "
            "the user in the service that starts it"
        )

    def _may_listen(self, uid: int) -> bool:
        """Whether a socket that a user made may be this server's."""
        if uid in ours() | self._deciders:
            return True
        unit = self._unit_of(None)
        if uid == (unit.runs_as if unit else None) or uid == self._declared(unit):
            return True
        with contextlib.suppress(GalaxyError):
            master = self.find_master(None)
            return master is not None and (master.uids or (None,))[-1] == uid
        return False

    def _unit_of(self, process: Process | None) -> Unit | None:
        if process not in self._units:
            self._units[process] = self._find_unit(process)
        return self._units[process]

    def _declared(self, unit: Unit | None) -> int | None:
        """The user that uWSGI becomes by root's own options."""
        if not self.path:
            return None
        with contextlib.suppress(GalaxyError):
            command = unit.invocation() if unit else None
            options = galaxy_uwsgi_config.read(self.path, command or Invocation(("uwsgi", self.path), self.path))
            if options.user and options.owners <= ours():
                return uid_of(options.user)
        return None

    def find_master(self, snapshot: Snapshot | None) -> Process | None:
        hints: list[int | None] = [snapshot.pid] if snapshot else []
        try:
            pidfile = self.options.pidfile
            hints += [_pid_in(pidfile.value, self._named_by)] if pidfile else []
        except GalaxyError as exc:
            log.debug("No PID file: %s", exc)
        master = galaxy_uwsgi_process.find_master(self.known_addresses, hints, self.path, self._is_mine)
        if not master and self.path and not self.is_given:
            # it listens at an address that the file does not have, or does not listen yet
            masters = self.masters()
            if len(masters) > 1:
                pids = ", ".join(str(process.pid) for process in masters)
                raise ProcessError(
                    f"Several uWSGI masters run {self.path}: PID {pids}; say which with stats= or socket="
                )
            master = masters[0] if masters else None
        if master:
            self._require_mine(master)
        return master

    def is_silent(self) -> bool | None:
        """Whether nobody listens on its addresses; ``None`` if these are not known."""
        addresses = self.listens_on or self.known_addresses
        return not galaxy_host_sockets.listeners(addresses) if addresses else None

    def sharers(self, master: Process | None) -> list[Process]:
        """Other masters that serve its sockets."""
        addresses = self.known_addresses
        return galaxy_uwsgi_process.sharers(addresses, master) if addresses else []

    def family(self, master: Process) -> list[Process]:
        return galaxy_uwsgi_process.family(master)

    def reload(self, master: Process) -> str:
        uids = master.uids
        for setting in self._fifos():
            if not uids:
                break
            try:
                galaxy_host_files.write_fifo(setting.value, b"r", uids[1])
                return "master-fifo"
            except FileError as exc:
                log.info("Not told by its FIFO: %s", exc)
        return super().reload(master)

    def _fifos(self) -> tuple[Any, ...]:
        try:
            return self.options.master_fifo
        except GalaxyError:
            return ()

    def log(self, lines: int) -> list[str]:
        try:
            paths = [setting.value for setting in self.options.logs]
        except GalaxyError:
            return []
        return galaxy_host_files.tails(paths, lines, self._named_by)

    @property
    def _deciders(self) -> set[int]:
        """The users who decide what the configuration says, as it was read: numeric IDs."""
        try:
            return self.options.deciders
        except GalaxyError:
            return galaxy_host_files.deciders(self.path) if self.path else set()

    @property
    def _named_by(self) -> frozenset[int]:
        """The users who chose the paths and addresses in the options."""
        return self.options.owners


def _pid_in(path: str, named_by: Iterable[int]) -> int | None:
    text = galaxy_host_files.read(path, 64, named_by).strip()
    return int(text) if text.isdigit() and len(text) < 10 else None
