"""
What the web servers that serve Galaxy have in common: their workers, one snapshot of them, and what they are told.
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
    What a worker can do now: ``BUSY`` is in a request and can take more, ``SATURATED`` cannot; ``CHEAP`` was put away
    by uWSGI's cheaper mode; the event loop of one that is ``STUCK`` does not run.
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
    A request under way: the ``core`` that it is in, ``method``, ``uri`` (path without query), ``remote_addr``,
    ``seconds`` so far; each may be ``None``, the core where the web server has none.
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
        it takes requests
    ready
        it takes them with its application loaded
    requests
        how many it has answered; ``None`` where its server does not count them
    in_request
        what is known of each request under way
    details
        what only its server tells, by the server's own names
    in_flight
        how many requests are under way; ``None`` where that cannot be told
    oldest_request
        seconds that the oldest of them has taken; ``None`` where there is none, or that cannot be told
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
        ``uwsgi``, how people write that, and its version
    pid
        of its master, as it says
    workers
        all of them, in its order
    listen_queue
        connections: ``length`` now, ``max`` (``None`` where it is not told), ``errors``
    galaxy_version
        of the Galaxy that runs, as it says itself; ``None`` where it was not asked, or does not say
    answers
        it answered an HTTP request; ``None`` where it was not asked
    answer
        why it did not; empty where it did, or was not asked
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
        """How many workers take requests."""
        return sum(worker.accepting for worker in self.workers)

    @property
    def ready(self) -> int:
        """How many workers take requests with their application loaded."""
        return sum(worker.ready for worker in self.workers)

    @property
    def size(self) -> int:
        """How many workers it has, or will have once all of them are there."""
        return len(self.workers)

    @property
    def loaded(self) -> float | None:
        """Since when all of it runs what was configured then, in seconds since the epoch; ``None``: not known."""
        return None

    @property
    def oldest_request(self) -> float | None:
        """Seconds that the oldest request under way has taken; ``None`` where none is known."""
        return max((one.oldest_request for one in self.workers if one.oldest_request is not None), default=None)

    @property
    def is_saturated(self) -> bool:
        """No worker that accepts can take one more request."""
        return self.accepting > 0 and self.count(WorkerState.SATURATED) == self.accepting

    @property
    def problems(self) -> list[str]:
        """Sentences."""
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
    One web server that serves Galaxy; what it is asked and told.

    kind
        its name
    stop_signal
        the signal that ends its master
    """

    kind: str
    stop_signal: int

    def snapshot(self, timeout: float, probe: bool = True) -> Snapshot:
        """
        What it tells now, within ``timeout`` seconds; without ``probe`` no HTTP request is sent, where one would be.

        Raises a ``GalaxyError`` with the reason where it tells nothing.
        """
        raise NotImplementedError

    def readiness(self, timeout: float) -> Snapshot:
        """As ``snapshot`` without ``probe``, for a loop: what its workers do beside being ready need not be told."""
        return self.snapshot(timeout, False)

    def learn(self, invocation: Invocation | None) -> bool:
        """Take up what it was or would be started with; whether that says more than was known."""
        return False

    def told(self, pid: int | None) -> None:
        """Take a manager's word for the master's PID as a hint, which is confirmed before it is used."""

    def probe(self, snapshot: Snapshot, timeout: float) -> None:
        """Send one HTTP request and note in the snapshot whether it was answered; nothing where none would be sent."""

    def find_master(self, snapshot: Snapshot | None) -> Process | None:
        """Its master; ``None`` where none runs. Raises ``ProcessError`` where processes have no one master."""
        raise NotImplementedError

    def family(self, master: Process) -> list[Process]:
        """Its processes that the master started; not the jobs that these started."""
        raise NotImplementedError

    @property
    def gap_of_reload(self) -> str:
        """What a reload of it costs, as a sentence without its full stop; empty where it costs nothing."""
        return ""

    @property
    def is_reloaded_by_restart(self) -> bool:
        """Whether a reload would keep the old code, so that it is restarted in its place."""
        return False

    def reload(self, master: Process) -> str:
        """
        Tell the master to replace its workers gracefully, by SIGHUP where its server has nothing better; how it was
        told. Raises ``ProcessError``.
        """
        if not master.signal(signal.SIGHUP):
            raise ProcessError(f"The master, PID {master.pid}, ended before it could be reloaded")
        return "SIGHUP"

    def is_another(self, process: Process) -> bool:
        """Whether the process is a web server of the same kind that serves something else for certain."""
        return False

    def sharers(self, master: Process | None) -> list[Process]:
        """Other masters that serve its sockets."""
        raise NotImplementedError

    def is_silent(self) -> bool | None:
        """Whether nobody listens where it would; ``None`` where it is not known where that is."""
        raise NotImplementedError

    @property
    def listens_on(self) -> tuple[Address, ...]:
        """The addresses that it takes requests on, as far as they are known."""
        raise NotImplementedError

    def log(self, lines: int) -> list[str]:
        """The last lines of the log that it writes itself."""
        raise NotImplementedError
