"""
Wait for a Galaxy server, start it, stop it.
"""

import os
import signal
import stat

import galaxy_host_lock
import galaxy_host_process
from galaxy_errors import GalaxyError, ManagerError, NotReady, ProcessError, StatsError
from galaxy_host_process import Process
from galaxy_host_wait import Deadline, Sparingly, wait_until
from galaxy_manager_unit import Manager, State
from galaxy_server import Server
from galaxy_uwsgi_stats import Stats

TIMEOUT = 300
RETRIES = 5
GRACE = 10
# a stats server that accepts and then says nothing must not hide that the master died
_LOOK = 2
_LOG_LINES = 10


def wait(server: Server, timeout: float = TIMEOUT, workers: int = 1) -> dict:
    """
    Wait until ``workers`` workers accept requests with their application loaded.

    Returns ``{"ready": True, "pid": …, "accepting": …, "seconds": …}``. Raises ``NotReady`` with the reason and the
    log's last lines: at ``timeout``, and at once when the master dies or the manager says that the service failed.
    """
    return _wait(server, server.find_manager(), Deadline(timeout), workers)


def start(server: Server, timeout: float = TIMEOUT, workers: int = 1) -> dict:
    """
    Start the service through its manager and wait; nothing is done where it is ready.

    Returns ``{"changed": …, "manager": …, "service": …}`` and what ``wait`` returns.
    """
    deadline = Deadline(timeout)
    server.require_stats()
    with galaxy_host_lock.hold("galaxy.start", "galaxy", deadline):
        manager = manager_of(server)
        return _start(server, manager, deadline, workers)


def startup(server: Server, timeout: float = TIMEOUT, retries: int = RETRIES, workers: int = 1) -> dict:
    """
    Bring the manager up where needed, start, wait; restart up to ``retries`` times while no worker comes to accept.

    timeout
        seconds for each try

    Returns what ``start`` returns, and ``tries``. Raises ``NotReady`` for the last try, and at once where some workers
    came to accept, but not as many as wanted: they serve.
    """
    server.require_stats()
    with galaxy_host_lock.hold("galaxy.startup", "galaxy", Deadline(timeout)):
        manager = manager_of(server)
        brought_up = manager.bring_up(Deadline(timeout))
        for tried in range(1, retries + 2):
            try:
                done = _start(server, manager, Deadline(timeout), workers)
                return {**done, "changed": done["changed"] or brought_up, "tries": tried}
            except NotReady as exc:
                stats = _read(server)
                if stats and stats.ready:
                    raise
                if tried > retries:
                    raise NotReady(f"Gave up after {tried} tries. {exc}") from None
                _stop(server, manager, GRACE, force=True)
        raise AssertionError("unreachable")


def stop(server: Server, timeout: float = GRACE, force: bool = False) -> dict:
    """
    Stop the service through its manager; end the workers that outlive it.

    timeout
        seconds that processes have to end after the manager's stop, and again after SIGTERM, before SIGKILL
    force
        the master too, where it outlives the manager's stop, by SIGINT (SIGTERM reloads it, unless ``die-on-term``)

    Returns ``{"changed": …, "manager": …, "service": …, "stopped": [pid, …], "signals": [{"pid": …, "signal": …},
    …]}``.
    """
    with galaxy_host_lock.hold("galaxy.stop", "galaxy", Deadline(timeout)):
        return _stop(server, server.find_manager(_quiet_master(server)), timeout, force)


def restart(server: Server, timeout: float = TIMEOUT, workers: int = 1, force: bool = False) -> dict:
    """``stop``, then ``start``, with nothing in between. Returns both, as ``{"stop": …, "start": …}``."""
    deadline = Deadline(timeout)
    server.require_stats()
    with galaxy_host_lock.hold("galaxy.restart", "galaxy", deadline):
        manager = manager_of(server)
        stopped = _stop(server, manager, GRACE, force)
        return {"stop": stopped, "start": _start(server, manager, deadline, workers)}


def reload(server: Server, timeout: float = TIMEOUT) -> dict:
    """
    Reload gracefully, through the master FIFO where the configuration has one, else by SIGHUP; wait for new workers.

    Returns ``{"changed": True, "method": "master-fifo"|"SIGHUP", "pid": …, "accepting": …, "seconds": …}``. Raises
    ``ProcessError`` where Galaxy does not run, ``NotReady`` where the new workers do not come to accept.
    """
    deadline = Deadline(timeout)
    with galaxy_host_lock.hold("galaxy.reload", "galaxy", deadline):
        stats = server.read_stats(min(timeout, _LOOK))
        master = server.find_master(stats)
        if not master:
            raise ProcessError("Galaxy does not run on this machine, so it cannot be reloaded; start it instead")
        old = {worker.pid for worker in stats.workers}
        fifo = _fifo(server)
        if fifo:
            _write_fifo(fifo)
        elif not master.signal(signal.SIGHUP):
            raise ProcessError(f"The master, PID {master.pid}, ended before it could be reloaded")

        def is_new(now: Stats) -> bool:
            return old.isdisjoint(worker.pid for worker in now.workers if worker.pid)

        done = _wait(server, server.find_manager(master), deadline, 1, is_new)
        return {"changed": True, "method": "master-fifo" if fifo else "SIGHUP", **done}


def _read(server: Server, timeout: float = _LOOK) -> Stats | None:
    """What its stats server says; ``None`` where it says nothing or there is none."""
    try:
        return server.read_stats(timeout)
    except GalaxyError:
        return None


def _start(server: Server, manager: Manager, deadline: Deadline, workers: int) -> dict:
    about = {"manager": manager.name, "service": manager.service}
    stats = _read(server, min(deadline.left, _LOOK))
    if stats and stats.ready >= workers and manager.word().state in (State.RUNNING, State.STARTING):
        ready = {"ready": True, "pid": stats.pid, "accepting": stats.accepting, "seconds": 0.0}
        return {"changed": False, **about, **ready}
    master = server.find_master(stats)
    if master and not manager.owns(master):
        raise ManagerError(
            f"Galaxy runs already, PID {master.pid}, but {manager.name} did not start it as {manager.service}: a "
            "second one would find its sockets taken. galaxy.stop force=True ends it; where it is right as it is, say "
            "which manager= and service= have it"
        )
    manager.start()
    return {"changed": True, **about, **_wait(server, manager, deadline, workers)}


def _stop(server: Server, manager: Manager | None, grace: float, force: bool) -> dict:
    master = _quiet_master(server)
    # those whose master is gone hold the sockets still
    inodes = galaxy_host_process.listeners(server.sockets)
    known = [Process.of(pid) for pid in galaxy_host_process.holders(inodes)] if inodes else []
    rest = {process for process in known if process} | set(galaxy_host_process.family(master) if master else ())
    rest.discard(master)
    everyone = [*rest, master] if master else list(rest)
    tell = manager is not None and manager.word().active
    if tell:
        manager.stop()
        # an init script may only have sent a signal, and a worker ends a moment after its master
        wait_until(lambda: not any(process.is_alive for process in everyone), Deadline(grace))
    signals = []
    if master and master.is_alive:
        if not force:
            raise ProcessError(_unstoppable(master, manager))
        signals += galaxy_host_process.end([master], signal.SIGINT, grace)
    signals += galaxy_host_process.end([process for process in rest if process.is_alive], signal.SIGTERM, grace)
    alive = [str(process.pid) for process in everyone if process.is_alive]
    if alive:
        raise ProcessError(f"PID {', '.join(alive)} outlived SIGKILL; it waits for a device, look at its wchan")
    return {
        "changed": bool(tell or everyone),
        "manager": manager.name if manager else None,
        "service": manager.service if manager else None,
        "stopped": sorted(process.pid for process in everyone),
        "signals": signals,
    }


def _unstoppable(master: Process, manager: Manager | None) -> str:
    if not manager:
        return f"No process manager has Galaxy's master, PID {master.pid}; force=True ends it by signal"
    return (
        f"Galaxy's master, PID {master.pid}, outlived the stop of {manager.service} by {manager.name}; "
        "force=True ends it by signal"
    )


def _wait(server: Server, manager: Manager | None, deadline: Deadline, workers: int, also=lambda stats: True) -> dict:
    watch = _Watch(server, manager, deadline, workers, also)
    stats = wait_until(watch.look, deadline)
    if stats is None:
        raise NotReady(watch.with_log(f"Galaxy is not ready after {deadline.seconds:g} s: {watch.last}"))
    seconds = round(deadline.seconds - deadline.left, 2)
    return {"ready": True, "pid": stats.pid, "accepting": stats.accepting, "seconds": seconds}


class _Watch:
    """What one waiting has seen so far; ``look`` is cheap enough to be called a dozen times a second."""

    def __init__(self, server: Server, manager: Manager | None, deadline: Deadline, workers: int, also):
        self.last = "no look yet"
        self._server, self._manager, self._deadline = server, manager, deadline
        self._workers, self._also = workers, also
        self._master: Process | None = None
        self._came_up = False
        self._ask_manager = Sparingly(self._look_at_manager)
        self._find_master = Sparingly(self._look_for_master)

    def look(self) -> Stats | None:
        stats = None
        try:
            stats = self._server.read_stats(max(0.05, min(self._deadline.left, _LOOK)))
        except StatsError as exc:
            self.last = str(exc)
        if stats:
            if stats.ready >= self._workers and self._also(stats):
                return stats
            self._judge(stats)
        if self._master and not self._master.is_alive:
            self._fail(f"Galaxy's master, PID {self._master.pid}, died: {self._reason()}")
        if not self._master:
            self._master = self._find_master(stats)
        self._ask_manager()
        return None

    def with_log(self, text: str) -> str:
        lines = self._server.log(self._manager, _LOG_LINES)
        return "\n".join([text, "Last lines of the log:", *lines]) if lines else text

    def _judge(self, stats: Stats) -> None:
        total = len(stats.workers)
        if total < self._workers:
            self._fail(f"{self._workers} workers are wanted, but uWSGI has {total}")
        self.last = f"{stats.ready} of {total} workers accept, {self._workers} wanted"
        if stats.accepting == total and not stats.ready and self._also(stats):
            self._fail(f"All {total} workers accept, but none has an application: its import failed")

    def _look_for_master(self, stats: Stats | None) -> Process | None:
        try:
            return self._server.find_master(stats)
        except GalaxyError:
            # not its own sockets yet, or still those of the server before: the next look tells
            return None

    def _look_at_manager(self) -> None:
        if not self._manager:
            return
        word = self._manager.word()
        if word.state in (State.RUNNING, State.STARTING):
            self._came_up = True
        if word.state in (State.FAILED, State.RETRYING) or (self._came_up and word.state is State.STOPPED):
            self._fail(f"{self._manager.name} says {word.term} of {self._manager.service}{word.why}")

    def _reason(self) -> str:
        if not self._manager:
            return "nothing manages it"
        word = self._manager.word()
        return f"{self._manager.name} says {word.term}{word.why}"

    def _fail(self, text: str) -> None:
        raise NotReady(self.with_log(text))


def manager_of(server: Server) -> Manager:
    """What manages the server. Raises ``ManagerError`` where nothing does."""
    manager = server.find_manager(_quiet_master(server))
    if not manager:
        where = f" ({server.path})" if server.path else ""
        raise ManagerError(
            f"No process manager has this Galaxy{where}: no program of supervisord, unit of systemd, Upstart job or "
            "init script names it; give manager= and service="
        )
    return manager


def _quiet_master(server: Server) -> Process | None:
    """Its master; ``None`` also where several processes hold the sockets with no master among them."""
    try:
        return server.find_master(_read(server))
    except ProcessError:
        return None


def _fifo(server: Server) -> str | None:
    paths = [setting.value for setting in server.config.master_fifo] if server.path else []
    return next((path for path in paths if _is_fifo(path)), None)


def _is_fifo(path: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        return False


def _write_fifo(path: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        raise ProcessError(f"{path}: the master does not read its FIFO: {exc.strerror}") from None
    try:
        os.write(descriptor, b"r")
    finally:
        os.close(descriptor)
