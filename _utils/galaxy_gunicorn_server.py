"""
Look at a gunicorn that serves Galaxy: its master and workers (found by the sockets that they hold), and what the kernel
tells of them.
"""

import contextlib
import logging
import os
import signal
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import galaxy_gunicorn_command
import galaxy_gunicorn_heartbeat
import galaxy_gunicorn_http
import galaxy_host_files
import galaxy_host_process
import galaxy_host_sockets
from galaxy_errors import GalaxyError, GunicornError, MasterGone, NotMine, ProcessError, SharedSocket, TlsRefused
from galaxy_gunicorn_command import Options
from galaxy_host_address import Address
from galaxy_host_count import counted
from galaxy_host_process import Process
from galaxy_host_sockets import Connection
from galaxy_host_wait import Deadline
from galaxy_host_walk import describe
from galaxy_webserver import Snapshot, WebServer, Worker, WorkerState

log = logging.getLogger(__name__)

# a heartbeat may be so many seconds late on a busy machine
_LATE = 2.0
# an event loop may be busy with something else for so many seconds
_PATIENCE = 10.0


class GunicornWorker(Worker):
    """A worker of gunicorn."""

    def record(self) -> dict[str, Any]:
        # the kernel walks through all pages of the process for this number, so not every look asks for it
        return {**super().record(), "pss": _pss(self.pid)}


class GunicornSnapshot(Snapshot):
    """What the kernel tells of gunicorn at one moment; also Galaxy's version, if Galaxy was asked."""

    kind, title, version = "gunicorn", "gunicorn", None

    def __init__(
        self,
        master: Process,
        workers: list[Worker],
        listen_queue: dict[str, Any],
        size: int = 0,
        loaders: Iterable[Process] = (),
    ):
        self.pid, self.owners = master.pid, master.uids or ()
        self.workers, self.listen_queue, self._size = workers, listen_queue, size
        # the processes that have loaded the application
        self._loaders = tuple(loaders)

    @property
    def loaded(self) -> float | None:
        return min((process.create_time for process in self._loaders), default=None)

    @property
    def size(self) -> int:
        return max(self._size, len(self.workers))

    @property
    def is_saturated(self) -> bool:
        return False

    @property
    def problems(self) -> list[str]:
        return super().problems + [self.answer] * bool(self.answer)


class GunicornServer(WebServer):
    """
    gunicorn.

    binds
        addresses on which it listens, as configured; the command line of a live gunicorn wins
    uid
        the user as whom it must run. A text says why the user cannot be told; then no process is accepted as this
        gunicorn
    prefix
        prefix of Galaxy's URLs
    timeout, workers, preload
        as configured; the command line of a live gunicorn wins
    logs
        paths of its logs
    """

    kind, title = "gunicorn", "gunicorn"
    stop_signal, orphans_stay = signal.SIGTERM, True

    def __init__(
        self,
        binds: tuple[Address, ...],
        uid: int | str,
        prefix: str = "",
        timeout: float = 300,
        workers: int | None = None,
        preload: bool = True,
        logs: tuple[str, ...] = (),
    ):
        self._configured = Options(tuple(binds), timeout, workers or 1, preload)
        self._live: Options | None = None
        self._live_master: Process | None = None
        self._prefix, self._uid, self._logs = prefix, uid, logs
        self._told: int | None = None
        self._believed: int | None = None

    def told(self, pid: int | None) -> None:
        self._told = pid

    def believe(self, pid: int) -> None:
        """Accept the master with this PID as this server's, whoever runs it."""
        self._believed = pid

    @property
    def options(self) -> Options:
        """The options in effect: from the live command line, or else as configured."""
        return self._live or self._configured

    @property
    def listens_on(self) -> tuple[Address, ...]:
        return self.options.binds

    @property
    def ports(self) -> set[int]:
        """The TCP ports on which it listens."""
        return {address.port for address in self.listens_on if not address.is_unix}

    def find_master(self, snapshot: Snapshot | None = None) -> Process | None:
        inodes = galaxy_host_sockets.listeners({*self._configured.binds, *self.listens_on})
        told = self._confirmed(inodes)
        masters, lost = ([told], []) if told else self._mine_of(*self._holders(inodes))
        if not masters and lost:
            pids = [process.pid for process in lost]
            raise MasterGone(
                f"{self._where}: held by gunicorn workers that outlived their master (PID {_listed(pids)}); "
                "galaxy.stop ends them",
                pids,
            )
        if len(masters) > 1:
            pids = [process.pid for process in masters]
            raise SharedSocket(f"{self._where}: {len(pids)} gunicorn masters serve it (PID {_listed(pids)})", pids)
        if not masters:
            if inodes:
                hint = "" if os.geteuid() == 0 else "; run as root to see other users' processes"
                raise ProcessError(f"{self._where}: something listens there that is not gunicorn{hint}")
            self._live = None
            return None
        (master,) = masters
        # a wait comes here a dozen times a second. The options cannot change: a gunicorn never executes another program
        if self._live is None or master != self._live_master:
            self._live, self._live_master = _options(master), master
        return master

    def snapshot(
        self,
        timeout: float,
        probe: bool = True,
        master: Process | None = None,
        connections: list[Connection] | None = None,
    ) -> Snapshot:
        """
        As for any web server. ``master`` is its master, if this look has already found it; ``connections`` are those to
        its ports and others, if this look has already asked for them.
        """
        deadline = Deadline(timeout)
        master = master or self._require_master()
        # a listener at another address of localhost is not ours
        found = galaxy_host_sockets.listeners(self.listens_on)
        family = self.family(master)
        shared = {inode: queue for inode, queue in found.items() if galaxy_host_sockets.holds(master.pid, [inode])}
        # with reuse_port, newer gunicorns let each worker open sockets of its own
        own = shared or {
            inode: queue
            for inode, queue in found.items()
            if any(galaxy_host_sockets.holds(child.pid, [inode]) for child in family)
        }
        ports, open_tcp = self.ports, connections
        if open_tcp is None:
            open_tcp = galaxy_host_sockets.connections(ports)
        paths = {address.path for address in self.listens_on if address.is_unix}
        requests = None if open_tcp is None else {one.inode: one for one in open_tcp if one.is_in_request}
        accepted = galaxy_host_sockets.accepted(paths) if paths else set()
        queues = [queue for queue in own.values() if queue]
        length = sum(queue.length for queue in queues)
        # which worker should accept a connection is known only of a socket that all share
        waiting = [one for one in open_tcp or () if one.port in ports] if shared else []
        left_waiting = _left_waiting(waiting, length)
        workers = [
            self._worker(number, child, requests, accepted, own, left_waiting) for number, child in enumerate(family, 1)
        ]
        queue = {
            "length": length if queues else None,
            "max": min((queue.max for queue in queues), default=None),
            "errors": None,
        }
        loaders = [master] if self.options.preload else family
        told = GunicornSnapshot(master, workers, queue, self.options.workers, loaders)
        if probe:
            self.probe(told, deadline.left)
        return told

    def readiness(self, timeout: float) -> Snapshot:
        master = self._require_master()
        unknown = {"length": None, "max": None, "errors": None}
        workers = [
            self._worker(number, child, None, set(), set(), 0.0) for number, child in enumerate(self.family(master), 1)
        ]
        return GunicornSnapshot(master, workers, unknown, self.options.workers)

    def _require_master(self) -> Process:
        master = self.find_master()
        if not master:
            raise GunicornError(f"{self._where}: nothing listens there; Galaxy does not run, or loads its application")
        return master

    def probe(self, snapshot: Snapshot, timeout: float) -> None:
        if not snapshot.ready or not self.listens_on:
            return
        try:
            # the owner of a live gunicorn chose the address
            assert isinstance(snapshot, GunicornSnapshot)
            who = snapshot.owners
            snapshot.galaxy_version = galaxy_gunicorn_http.version(
                self.listens_on[0], self._prefix, timeout, who, lambda uid: uid in (0, *who), self.options.tls
            )
            snapshot.answers, snapshot.answer = True, ""
        except TlsRefused as exc:
            # the server wants a certificate that we do not have; this says nothing about Galaxy
            log.info("Whether Galaxy answers cannot be told: %s", exc)
        except GunicornError as exc:
            snapshot.answers, snapshot.answer = False, f"Galaxy does not answer: {exc}."

    @property
    def gap_of_reload(self) -> str:
        if self.options.preload:
            return (
                "gunicorn has preload on: SIGHUP would keep the old code and configuration, so the reload is a "
                "restart, which refuses connections until Galaxy has loaded"
            )
        return (
            "gunicorn has preload off: at SIGHUP the old workers end before the new ones have loaded, so that nobody "
            "accepts for the time of one load, and new code that is broken takes Galaxy down"
        )

    @property
    def is_reloaded_by_restart(self) -> bool:
        return self.options.preload

    def family(self, master: Process) -> list[Process]:
        return [child for child in master.children() if _is_fork(master, child)]

    def sharers(self, master: Process | None) -> list[Process]:
        """Other masters that serve its sockets."""
        masters, _ = self._holders(galaxy_host_sockets.listeners(self.listens_on))
        return [process for process in masters if process != master]

    def orphans(self) -> list[Process]:
        """Workers of this server's user that outlived their master and hold its sockets."""
        _, lost = self._holders(galaxy_host_sockets.listeners({*self._configured.binds, *self.listens_on}))
        return [process for process in lost if self._is_mine(process)]

    def is_silent(self) -> bool | None:
        """Whether nobody listens on its addresses; ``None`` if these are not known."""
        return not galaxy_host_sockets.listeners(self.listens_on) if self.listens_on else None

    def log(self, lines: int) -> list[str]:
        return galaxy_host_files.tails(self._logs, lines, [self._uid]) if isinstance(self._uid, int) else []

    @property
    def _where(self) -> str:
        return ", ".join(map(str, self.listens_on)) or "gunicorn"

    def _confirmed(self, inodes: Collection[int]) -> Process | None:
        process = Process.of(self._told) if self._told else None
        if not process or not galaxy_gunicorn_command.is_gunicorn(process) or not self._is_mine(process):
            return None
        if galaxy_host_sockets.holds(process.pid, inodes):
            return process
        # it listens where its own command line says, now or once the application is loaded
        options = _options(process)
        if not options or not options.binds:
            return None
        own = galaxy_host_sockets.listeners(options.binds)
        return process if galaxy_host_sockets.holds(process.pid, own) or not (own or inodes) else None

    def _holders(self, inodes: Collection[int]) -> tuple[list[Process], list[Process]]:
        """The gunicorn processes that hold the sockets and that no other of them forked: masters, and lost workers."""
        if not inodes:
            return [], []
        holding = []
        for pid in galaxy_host_process.pids():
            if b"gunicorn" in galaxy_host_process.command_line(pid):
                process = Process.of(pid)
                if process and galaxy_gunicorn_command.is_gunicorn(process) and galaxy_host_sockets.holds(pid, inodes):
                    holding.append(process)
        # with reuse_port, newer gunicorns have no socket in the master
        above = {parent for process in holding if (parent := process.parent) and parent not in holding}
        holding += [
            parent
            for parent in above
            if galaxy_gunicorn_command.is_gunicorn(parent)
            and any(parent.is_parent_of(process) and _is_fork(parent, process) for process in holding)
        ]
        tops = [
            process
            for process in holding
            if not any(one.is_parent_of(process) and _is_fork(one, process) for one in holding)
        ]
        parents = [one for one in tops if any(one.is_parent_of(process) for process in holding)]
        lost = [process for process in tops if process not in parents and _is_lost(process)]
        return [process for process in tops if process not in lost], lost

    def _mine_of(self, masters: list[Process], lost: list[Process]) -> tuple[list[Process], list[Process]]:
        """The processes that belong to this server. Raises ``NotMine`` if all belong to another user."""
        mine = list(filter(self._is_mine, masters)), list(filter(self._is_mine, lost))
        if not any(mine) and (masters or lost):
            self._require_mine((masters or lost)[0])
        return mine

    def _is_mine(self, process: Process) -> bool:
        uids = process.uids
        return process.pid == self._believed or bool(uids and uids[1] == self._uid)

    def _require_mine(self, process: Process) -> None:
        if not self._is_mine(process):
            uids = process.uids
            who = describe(uids[1]) if uids else "an unknown user"
            why = f"not as {describe(self._uid)}" if isinstance(self._uid, int) else f"and {self._uid}"
            raise NotMine(process.pid, f"runs as {who}, {why}")

    def _worker(
        self,
        number: int,
        process: Process,
        requests: Mapping[int, Connection] | None,
        accepted: set[int],
        listeners: Iterable[int],
        left_waiting: float,
    ) -> Worker:
        held = galaxy_gunicorn_heartbeat.files(process.pid)
        beat = galaxy_gunicorn_heartbeat.age(held.heartbeat) if held and held.heartbeat else None
        state, reason, in_flight, oldest, untouched = WorkerState.NOT_ACCEPTING, "is loading", None, None, 0.0
        if held is None:
            reason = "ends, or may not be looked at; run as root" if os.geteuid() else "ends"
        elif requests is not None:
            own = [requests[inode] for inode in held.sockets & requests.keys()]
            in_flight = len(own) + len(held.sockets & accepted)
            oldest = max((one.since_received for one in own), default=None)
            # an event loop that runs reads at least the first bytes; later it may have a reason to wait
            untouched = max((one.since_received for one in own if one.unread >= one.received), default=0.0)
        limit = self.options.timeout / 2 + _LATE
        if process.is_suspended:
            state, reason = WorkerState.PAUSED, "was suspended"
        elif beat is not None and self.options.timeout and beat > limit:
            state, reason = WorkerState.STUCK, f"no heartbeat for {beat:.0f} s"
        elif held and beat is not None and left_waiting > _PATIENCE and not held.sockets.isdisjoint(listeners):
            # this worker listens, so an event loop that runs would have accepted the connection
            state, reason = WorkerState.STUCK, f"accepts nothing for {left_waiting:.0f} s"
        elif beat is not None and untouched > _PATIENCE:
            state, reason = WorkerState.STUCK, f"reads nothing for {untouched:.0f} s"
        elif beat is not None:
            state = WorkerState.BUSY if in_flight else WorkerState.IDLE
            reason = f"{counted(in_flight, 'request')} in flight" if in_flight else state.value
        works = state in (WorkerState.BUSY, WorkerState.IDLE)
        details = {"heartbeat_age": beat}
        return GunicornWorker(number, process.pid, state, reason, works, works, None, [], details, in_flight, oldest)


def _left_waiting(connections: Iterable[Connection], length: int) -> float:
    """
    For how many seconds at least a request has waited that no worker has accepted. 0 if there is none; also 0 if some
    of the connections that wait at the port are not among the ``length`` connections in the queues of this gunicorn.
    """
    waiting = [one for one in connections if not one.inode]
    ages = [one.since_received for one in waiting if one.received]
    return max(ages, default=0.0) if len(waiting) <= length else 0.0


def _is_fork(parent: Process, child: Process) -> bool:
    """Whether the child is a worker: it is gunicorn, and was forked without executing another program."""
    if not galaxy_gunicorn_command.is_gunicorn(child):
        return False
    images = parent.image, child.image
    return images[0] == images[1] if None not in images else parent.session == child.session


def _is_lost(process: Process) -> bool:
    """Whether a process without workers is a worker whose master is gone; the master led its process group."""
    options = _options(process)
    if process.group in (None, 0, process.pid) or (options and options.daemon):
        return False
    return not Process.of(process.group)


def _options(process: Process) -> Options | None:
    invocation = process.invocation()
    with contextlib.suppress(GalaxyError):
        return galaxy_gunicorn_command.read(invocation) if invocation else None
    return None


def _pss(pid: int) -> int | None:
    """Bytes of memory; memory that processes share counts in parts. ``None`` if this may not be looked at."""
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as text:
        for line in text:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return None


def _listed(pids: list[int]) -> str:
    return ", ".join(map(str, pids))
