"""
What all web servers of Galaxy have in common: their workers, a snapshot of them, and how to ask and tell a web server.
"""

import dataclasses
import enum
import signal
from typing import Any

from galaxy_errors import ProcessError
from galaxy_host_address import Address
from galaxy_host_count import part
from galaxy_host_process import Invocation, Process
from galaxy_host_record import record


class WorkerState(str, enum.Enum):
    """
    What a worker can do now. ``BUSY``: it has a request and can take more; ``SATURATED``: it cannot take more;
    ``CHEAP``: uWSGI's cheaper mode has put it away; ``STUCK``: its event loop does not run.
    """

    NOT_ACCEPTING = "not_accepting"
    IDLE = "idle"
    BUSY = "busy"
    SATURATED = "saturated"
    CHEAP = "cheap"
    PAUSED = "paused"
    STUCK = "stuck"


@record
class Request:
    """
    A request under way: its ``core``, ``method``, ``uri`` (path without query), ``remote_addr``, and ``seconds`` so
    far. Each may be ``None``; the core is, if the web server has no cores.
    """

    core: int | None
    method: str | None
    uri: str | None
    remote_addr: str | None
    seconds: int | None


@record
class Worker:
    """
    A worker.

    reason
        why it is not free, in a few words
    accepting
        it accepts requests
    ready
        it accepts requests and has loaded the application
    requests
        how many requests it has answered; ``None`` if its web server does not count them
    in_request
        what is known of each request under way
    details
        what only its web server tells, by the web server's own names
    in_flight
        how many requests are under way; ``None`` if this cannot be told
    oldest_request
        seconds that the oldest of them has taken; ``None`` if there is none, or if this cannot be told
    """

    id: int
    pid: int
    state: WorkerState
    reason: str
    accepting: bool
    ready: bool
    requests: int | None
    in_request: list[Request]
    details: dict[str, Any]
    in_flight: int | None = None
    oldest_request: float | None = None

    def record(self) -> dict[str, Any]:
        """Plain data for a module's return."""
        common = dataclasses.asdict(self)
        details = common.pop("details")
        return {**common, **details, "state": self.state.value}


class Snapshot:
    """
    What a web server told at one moment.

    kind, title, version
        ``uwsgi`` or ``gunicorn``, how people write this, and its version
    pid
        PID of its master, as the web server says
    workers
        all workers, in its order
    listen_queue
        connections: ``length`` now, ``max`` (``None`` if it is not told), ``errors``
    galaxy_version
        version that the running Galaxy tells; ``None`` if it was not asked, or does not tell
    answers
        whether it answered an HTTP request; ``None`` if it was not asked
    answer
        why it did not answer; empty if it did, or was not asked
    """

    kind: str
    title: str
    version: str | None
    pid: int
    workers: list[Worker]
    listen_queue: dict[str, Any]
    galaxy_version: str | None = None
    answers: bool | None = None
    answer: str = ""

    def count(self, state: WorkerState) -> int:
        """How many workers are in ``state``."""
        return sum(worker.state is state for worker in self.workers)

    @property
    def accepting(self) -> int:
        """How many workers accept requests."""
        return sum(worker.accepting for worker in self.workers)

    @property
    def ready(self) -> int:
        """How many workers are ready."""
        return sum(worker.ready for worker in self.workers)

    @property
    def size(self) -> int:
        """How many workers it has, or will have when all are started."""
        return len(self.workers)

    @property
    def loaded(self) -> float | None:
        """When its oldest part loaded the configuration, in epoch seconds; ``None`` if this is not known."""
        return None

    @property
    def oldest_request(self) -> float | None:
        """Seconds that the oldest request under way has taken; ``None`` if no request is known."""
        return max((one.oldest_request for one in self.workers if one.oldest_request is not None), default=None)

    @property
    def is_saturated(self) -> bool:
        """Whether no accepting worker can take one more request."""
        return self.accepting > 0 and self.count(WorkerState.SATURATED) == self.accepting

    @property
    def problems(self) -> list[str]:
        """What is wrong, in sentences."""
        total = len(self.workers)
        if not self.accepting:
            if total and self.count(WorkerState.CHEAP) == total:
                return []
            if self.count(WorkerState.STUCK):
                return [self._stuck]
            if not total:
                return ["There is no worker yet."]
            none = "The worker does not accept" if total == 1 else f"None of {total} workers accepts"
            return [f"{none} requests yet."]
        if not self.ready:
            accept = part(self.accepting, total, "worker", "accepts", "accept")
            return [f"{accept}, but without an application: its import failed, see the log."]
        found = []
        if self.is_saturated:
            length, limit = self.listen_queue["length"], self.listen_queue["max"]
            who = (
                "The only worker that accepts is"
                if self.accepting == 1
                else f"All {self.accepting} workers that accept are"
            )
            queue = f"{length} of at most {limit}" if limit else length
            found.append(f"{who} saturated; connections that wait in the listen queue: {queue}.")
        if self.count(WorkerState.PAUSED):
            found.append(f"{part(self.count(WorkerState.PAUSED), total, 'worker', 'is', 'are')} paused.")
        if self.count(WorkerState.STUCK):
            found.append(self._stuck)
        return found

    @property
    def _stuck(self) -> str:
        stuck = part(self.count(WorkerState.STUCK), len(self.workers), "worker", "is", "are")
        return f"{stuck} stuck: no event loop runs there."


class WebServer:
    """
    One web server of Galaxy.

    kind
        its name
    stop_signal
        the signal that ends its master
    orphans_stay
        whether workers whose master was killed keep its addresses for good
    """

    kind: str
    stop_signal: int
    orphans_stay = False

    def snapshot(self, timeout: float, probe: bool = True) -> Snapshot:
        """
        What it tells now, within ``timeout`` seconds. ``probe`` allows to send an HTTP request, if the web server needs
        one.

        Raises a ``GalaxyError``, with the reason, if it tells nothing.
        """
        raise NotImplementedError

    def readiness(self, timeout: float) -> Snapshot:
        """Like ``snapshot`` without ``probe``, for a loop: only whether workers are ready must be told."""
        return self.snapshot(timeout, False)

    def learn(self, invocation: Invocation | None) -> bool:
        """Take over what it was started with, or would be. Returns whether this says more than before."""
        return False

    def told(self, pid: int | None) -> None:
        """Take the master's PID from a process manager as a hint; it is confirmed before it is used."""

    def probe(self, snapshot: Snapshot, timeout: float) -> None:
        """
        Send one HTTP request, and note in the snapshot whether it was answered. A web server that needs none does
        nothing.
        """

    def find_master(self, snapshot: Snapshot | None) -> Process | None:
        """Its master; ``None`` if none runs. Raises ``ProcessError`` if there is no single master."""
        raise NotImplementedError

    def family(self, master: Process) -> list[Process]:
        """The processes of the web server that the master started; not the jobs that these started."""
        raise NotImplementedError

    @property
    def gap_of_reload(self) -> str:
        """What one loses by a reload, as a sentence without its full stop; empty if nothing."""
        return ""

    @property
    def is_reloaded_by_restart(self) -> bool:
        """Whether a reload would keep the old code, so that a restart is done instead."""
        return False

    def reload(self, master: Process) -> str:
        """
        Tell the master to replace its workers gracefully: by SIGHUP, if the web server has nothing better. Returns how
        it was told. Raises ``ProcessError``.
        """
        if not master.signal(signal.SIGHUP):
            raise ProcessError(f"The master, PID {master.pid}, ended before it could be reloaded")
        return "SIGHUP"

    def is_another(self, process: Process) -> bool:
        """Whether the process is certainly a web server of the same kind that serves something else."""
        return False

    def sharers(self, master: Process | None) -> list[Process]:
        """Other masters that serve its sockets."""
        raise NotImplementedError

    def is_silent(self) -> bool | None:
        """Whether nobody listens on its addresses; ``None`` if these are not known."""
        raise NotImplementedError

    @property
    def listens_on(self) -> tuple[Address, ...]:
        """The addresses on which it accepts requests, as far as they are known."""
        raise NotImplementedError

    def log(self, lines: int) -> list[str]:
        """The last lines of the log that it writes itself."""
        raise NotImplementedError
