"""
One Galaxy server: what is known of it, and one look at how it is.
"""

import functools
import os
import re
import time
from collections.abc import Callable, Mapping

import galaxy_host_address
import galaxy_host_process
import galaxy_manager_detection
import galaxy_manager_unit
import galaxy_uwsgi_config
import galaxy_uwsgi_stats
from galaxy_errors import ConfigError, GalaxyError, MasterGone
from galaxy_host_address import Address
from galaxy_host_process import Process
from galaxy_host_secret import MASK
from galaxy_manager_unit import Manager, State
from galaxy_uwsgi_config import Config
from galaxy_uwsgi_stats import Stats
from galaxy_uwsgi_worker import WorkerState

# what a log line may give away: a query, the password of a URL, a setting that is called secret
_SECRETS = (
    (re.compile(r"\?[^\s\"']+"), f"?{MASK}"),
    (re.compile(r"(://[^\s/:@]*:)[^\s/@]+@"), rf"\1{MASK}@"),
    (re.compile(r"(?i)(\w*(?:password|passwd|secret|token|api_?key)\w*[\"']?\s*[=:]\s*)\S+"), rf"\1{MASK}"),
)


class Server:
    """
    Where a Galaxy server is described, and how to reach it.

    functions
        Salt's execution modules (``__salt__``), for the process manager
    config
        path of its Galaxy or uWSGI configuration
    stats, socket
        addresses, winning over the configuration
    manager, service, conf_file, bin_env
        as in ``galaxy_manager_detection.detect``, winning over detection

    Nothing is read before it is asked for, so a server whose volume is not mounted has a ``Server`` too.
    """

    def __init__(
        self,
        functions: Mapping[str, Callable],
        config: str | None = None,
        stats: str | None = None,
        socket: str | None = None,
        manager: str | None = None,
        service: str | None = None,
        conf_file: str | None = None,
        bin_env: str | None = None,
    ):
        self.path = os.path.abspath(config) if config else None
        self._stats = galaxy_host_address.parse(stats) if stats else None
        self._socket = galaxy_host_address.parse(socket) if socket else None
        self._functions = functions
        self._given = {"manager": manager, "service": service, "conf_file": conf_file, "bin_env": bin_env}

    @property
    def is_given(self) -> bool:
        """Whether both addresses were given, so that what the configuration says of them is not asked."""
        return bool(self._stats and self._socket)

    @functools.cached_property
    def config(self) -> Config:
        """Its configuration. Raises ``ConfigError``."""
        if not self.path:
            raise ConfigError("No Galaxy configuration is known: give config=, or set galaxy:config in pillar")
        return galaxy_uwsgi_config.read(self.path)

    @property
    def stats_address(self) -> Address:
        """Where its stats server listens. Raises ``ConfigError`` where nothing says so."""
        if self._stats:
            return self._stats
        if self.config.stats:
            return self.config.stats.value
        for setting in self.config.unusable:
            if setting.option in ("stats", "stats-server"):
                raise setting.value
        raise ConfigError(f"{self.path}: no stats option; add one such as stats = 127.0.0.1:9191, or give stats=")

    def require_stats(self) -> None:
        """
        Raises ``ConfigError`` where nothing says where the stats server is: without it nobody can tell when Galaxy is
        ready, so what waits for that does not begin.
        """
        _ = self.stats_address

    @property
    def sockets(self) -> tuple[Address, ...]:
        """Where it listens for requests. Raises ``ConfigError`` where nothing says so."""
        if self._socket:
            return (self._socket,)
        found = tuple(setting.value for setting in self.config.sockets) if self.path else ()
        # the master listens at its stats server's address too
        return found or (self.stats_address,)

    def read_stats(self, timeout: float = galaxy_uwsgi_stats.TIMEOUT) -> Stats:
        """What its stats server says now. Raises ``StatsError`` or ``ConfigError``."""
        return galaxy_uwsgi_stats.read(self.stats_address, timeout)

    def find_master(self, stats: Stats | None = None) -> Process | None:
        """Its master; ``None`` where nothing listens. Raises ``ProcessError``."""
        pidfile = self.config.pidfile.value if self.path and self.config.pidfile else None
        return galaxy_host_process.find_master(self.sockets, stats.pid if stats else None, pidfile)

    def find_manager(self, master: Process | None = None) -> Manager | None:
        """What manages it. Raises ``ManagerError`` as ``galaxy_manager_detection.detect``."""
        return galaxy_manager_detection.detect(self._functions, config=self.path, master=master, **self._given)

    def log(self, manager: Manager | None, lines: int = 10) -> list[str]:
        """
        The last lines of its log: what uWSGI writes to a file, or else what the manager keeps; secrets blanked out.
        """
        try:
            paths = [setting.value for setting in self.config.logs]
        except GalaxyError:
            paths = []
        found = [line for path in paths for line in galaxy_manager_unit.tail(path, lines)]
        if not found and manager:
            found = manager.log(lines)
        return [_blank(line) for line in found[-lines:]]


def _blank(line: str) -> str:
    for pattern, replacement in _SECRETS:
        line = pattern.sub(replacement, line)
    return line


def status(server: Server, timeout: float, verbose: bool = False) -> dict:
    """
    How the server is, as plain data; every failure becomes a sentence in ``problems``.

    See ``galaxy.status`` for the shape.
    """
    problems: list[str] = []

    survivors = False

    def attempt(look: Callable, *args):
        nonlocal survivors
        try:
            return look(*args)
        except GalaxyError as exc:
            survivors = survivors or isinstance(exc, MasterGone)
            if str(exc) not in problems:
                problems.append(str(exc))
            return None

    stats = attempt(server.read_stats, timeout)
    master = attempt(server.find_master, stats)
    manager = attempt(server.find_manager, master)
    word = attempt(manager.word) if manager else None
    if stats and not master and not problems:
        problems.append(
            f"The stats server {stats.address} names PID {stats.pid}, which holds none of the server's sockets here."
        )
    if server.path and not server.is_given:
        config = attempt(lambda: server.config)
        problems += [str(one.value) for one in config.unusable if str(one.value) not in problems] if config else []
    if stats:
        problems += _worker_problems(stats)
    if word:
        problems += _manager_problems(manager, word, running=bool(master or stats))
    workers = stats.workers if stats else []
    result = {
        "running": bool(master or stats or survivors),
        "accepting": bool(stats and stats.accepting),
        "ready": bool(stats and stats.ready),
        "pid": master.pid if master else None,
        "uptime": max(0, round(time.time() - master.create_time)) if master else None,
        "version": stats.version if stats else None,
        "workers": {
            "total": len(workers),
            **{state.value: stats.count(state) if stats else 0 for state in WorkerState},
        },
        "listen_queue": stats.listen_queue if stats else None,
        "manager": {
            "name": manager.name,
            "service": manager.service,
            "state": word.state.value if word else State.UNKNOWN.value,
            "term": word.term if word else "",
            "active": bool(word and word.active),
        }
        if manager
        else None,
        "config": server.path,
        "sockets": [str(address) for address in _quietly(lambda: server.sockets) or ()],
        "stats": _quietly(lambda: str(server.stats_address)),
        "problems": problems,
    }
    if verbose:
        result["worker_records"] = [worker.record() for worker in workers]
    return result


def _quietly(look: Callable):
    """What ``look`` gives, ``None`` where it cannot: the failure is among the problems already."""
    try:
        return look()
    except GalaxyError:
        return None


def _worker_problems(stats: Stats) -> list[str]:
    workers, accepting = stats.workers, stats.accepting
    total = len(workers)
    if not accepting:
        if workers and stats.count(WorkerState.CHEAP) == total:
            return []
        return [f"None of {total} workers accepts requests yet."]
    if not stats.ready:
        return [f"{accepting} of {total} workers accept, but without an application: its import failed, see the log."]
    found = []
    if stats.count(WorkerState.SATURATED) == accepting:
        queue = stats.listen_queue
        limit = f" of at most {queue['max']}" if queue["max"] else ""
        found.append(
            f"All {accepting} accepting workers are saturated; {queue['length']}{limit} connections wait in the listen "
            "queue."
        )
    if stats.count(WorkerState.PAUSED):
        found.append(f"{stats.count(WorkerState.PAUSED)} of {total} workers are paused.")
    return found


def _manager_problems(manager: Manager, word, running: bool) -> list[str]:
    others = list(word.others)
    what = f"{manager.name} says {word.term} of {manager.service}{word.why}"
    if word.state is State.RUNNING:
        return others if running else [f"{what}, but Galaxy does not answer.", *others]
    if running:
        return [f"{what}, but Galaxy runs.", *others] if word.state is not State.STARTING else others
    return [f"{what}.", *others]
