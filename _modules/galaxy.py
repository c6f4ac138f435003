"""
Look after a Galaxy server that uWSGI serves
============================================

Every function takes the same optional keywords, so that one learns them once:

config
    path of the Galaxy or uWSGI configuration (``galaxy.yml``, ``galaxy.ini``, any uWSGI INI or YAML)
stats, socket
    addresses of the stats server and of the server's socket, winning over the configuration. Forms:
    ``127.0.0.1:4001``, ``:4001``, ``[::1]:4001``, ``/path/sock``, ``@abstract``, ``http://…`` with ``stats-http``
manager, service
    ``supervisord``, ``systemd``, ``upstart`` or ``sysvinit``, and the name of its program, group, unit or job, winning
    over detection
conf_file, bin_env
    supervisord's configuration file, and its ``supervisorctl`` or virtualenv, as in Salt's ``supervisord`` module
timeout
    seconds; each function says for what

What is not given comes from ``galaxy:`` in pillar, grains or minion configuration (``config.get``):

.. code-block:: yaml

    galaxy:
      config: /srv/galaxy/config/galaxy.yml

Functions that start, stop or reload need root.
"""

from __future__ import annotations

import dataclasses
import sys

from salt.exceptions import SaltInvocationError

import galaxy_control
import galaxy_server
from galaxy_errors import GalaxyError
from galaxy_server import Server
from galaxy_uwsgi_worker import WorkerState

__virtualname__ = "galaxy"

TYPE_CHECKING = False
if TYPE_CHECKING:
    __salt__: dict

_KEYWORDS = ("config", "stats", "socket", "manager", "service", "conf_file", "bin_env")
# a worker in one of these takes no further request now, or not on all its cores
_NOT_FREE = (WorkerState.NOT_ACCEPTING, WorkerState.BUSY, WorkerState.SATURATED, WorkerState.PAUSED)


def __virtual__():
    if not sys.platform.startswith("linux"):
        return False, "galaxy: uWSGI is looked after on Linux only"
    return __virtualname__


def status(
    config=None,
    stats=None,
    socket=None,
    manager=None,
    service=None,
    conf_file=None,
    bin_env=None,
    timeout=5,
    verbose=False,
):
    """
    How Galaxy is. A Galaxy that is down is an answer, never an error.

    timeout
        seconds for the stats server's answer
    verbose
        add ``worker_records``, as in :py:func:`busy_workers`, for every worker

    Returns a mapping:

    running
        its master lives, or workers that outlived it
    accepting
        a worker accepts requests (uWSGI's ``accepting``)
    ready
        such a worker has its application loaded
    pid, uptime, version
        of the master: PID, seconds since it was started, uWSGI's version; ``None`` where it is down
    workers
        ``total``, and how many are ``not_accepting``, ``idle``, ``busy`` (some core in a request), ``saturated`` (all
        cores), ``cheap``, ``paused``
    listen_queue
        connections: ``length`` now, ``max`` (``None`` until uWSGI tells, and for unix sockets), ``errors``; ``None``
        where it is down
    manager
        ``name``, ``service``, ``state`` (running, starting, stopping, stopped, retrying, failed, unknown), ``term``
        (its own word for it), ``active`` (something of it runs or will by itself); ``None`` where nothing manages it
    config, sockets, stats
        what was asked: path and addresses
    problems
        sentences; empty where all is well

    Raises ``SaltInvocationError`` where no server is named, and ``CommandExecutionError`` for a bad address.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.status config=/srv/galaxy/config/galaxy.yml
    """
    server = _server(config, stats, socket, manager, service, conf_file, bin_env)
    return galaxy_server.status(server, _seconds(timeout), verbose)


def busy_workers(
    config=None,
    stats=None,
    socket=None,
    manager=None,
    service=None,
    conf_file=None,
    bin_env=None,
    timeout=5,
    state=None,
    pids_only=False,
):
    """
    The workers that are not free, and why.

    timeout
        seconds for the stats server's answer
    state
        only workers in this state, or in one of a list: ``not_accepting``, ``busy``, ``saturated``, ``paused``, and on
        demand ``idle`` and ``cheap``
    pids_only
        the plain list of their PIDs

    Returns a list, empty where all are free. Each record has ``id, pid, state, reason, accepting, apps, cores,
    busy_cores, signal, requests, exceptions, harakiri_count, respawn_count, last_spawn`` (epoch seconds), ``rss, vsz``
    (bytes; 0 without ``memory-report``), ``avg_rt, running_time`` (microseconds), ``tx`` (bytes) and ``in_request``:
    for each busy core ``core, method, uri`` (without its query), ``remote_addr, seconds``.

    Raises ``CommandExecutionError`` where the stats server cannot be read.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.busy_workers state=saturated pids_only=True
    """
    wanted = _states(state)
    server = _server(config, stats, socket, manager, service, conf_file, bin_env)
    found = [worker for worker in server.read_stats(_seconds(timeout)).workers if worker.state in wanted]
    return [worker.pid for worker in found] if pids_only else [worker.record() for worker in found]


def accepting(
    config=None, stats=None, socket=None, manager=None, service=None, conf_file=None, bin_env=None, timeout=5
):
    """
    Whether at least one worker accepts requests (uWSGI's ``accepting``).

    timeout
        seconds for the stats server's answer

    Raises ``CommandExecutionError`` where the stats server cannot be read.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.accepting
    """
    server = _server(config, stats, socket, manager, service, conf_file, bin_env)
    return server.read_stats(_seconds(timeout)).accepting > 0


def stats(config=None, stats=None, socket=None, manager=None, service=None, conf_file=None, bin_env=None, timeout=5):
    """
    The stats server's whole document, as uWSGI gives it.

    timeout
        seconds for the stats server's answer

    Of a request's variables only method, path and remote address stay: the others hold cookies, authorization headers
    and query strings. Raises ``CommandExecutionError`` where the stats server cannot be read.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.stats stats=127.0.0.1:9191
    """
    server = _server(config, stats, socket, manager, service, conf_file, bin_env)
    return server.read_stats(_seconds(timeout)).redacted()


def master_pid(
    config=None, stats=None, socket=None, manager=None, service=None, conf_file=None, bin_env=None, timeout=5
):
    """
    The PID of uWSGI's master, ``None`` where Galaxy does not run.

    timeout
        seconds for the stats server's answer; without one the listener of the socket is looked for

    It is one PID: never a worker's, a router's or a client's. Raises ``CommandExecutionError`` where something else
    holds the socket, or workers whose master is gone.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.master_pid socket=127.0.0.1:4001
    """
    server = _server(config, stats, socket, manager, service, conf_file, bin_env)
    try:
        found = server.read_stats(_seconds(timeout))
    except GalaxyError:
        found = None
    master = server.find_master(found)
    return master.pid if master else None


def sockets(config=None, stats=None, socket=None, manager=None, service=None, conf_file=None, bin_env=None):
    """
    Where Galaxy listens.

    Returns a list of ``{"address": …, "option": …, "source": …}``: uWSGI's option (``socket``, ``http``, …, ``stats``)
    and ``file:line``, or ``given`` for an address from an argument or pillar. Raises ``CommandExecutionError`` where
    the configuration cannot be read.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.sockets config=/srv/galaxy/config/galaxy.yml
    """
    server = _server(config, stats, socket, manager, service, conf_file, bin_env)
    given = {"socket": _option("socket", socket), "stats": _option("stats", stats)}
    found = [_setting("address", one) for one in server.config.sockets] if server.path and not given["socket"] else []
    if given["socket"]:
        found = [{"address": str(server.sockets[0]), "option": "socket", "source": "given"}]
    if given["stats"]:
        return [*found, {"address": str(server.stats_address), "option": "stats", "source": "given"}]
    return [*found, _setting("address", server.config.stats)] if server.path and server.config.stats else found


def config(config=None, stats=None, socket=None, manager=None, service=None, conf_file=None, bin_env=None):
    """
    What the configuration says, by uWSGI's own reading rules.

    Returns ``path``, and ``sockets``, ``master_fifo``, ``logs`` (lists), ``stats``, ``processes``, ``threads``,
    ``mules``, ``pidfile``: each ``{"value": …, "option": …, "source": "file:line"}``, ``None`` where there is none; and
    ``unusable``, a list of sockets whose ``value`` is the text of what is wrong with them.

    Raises ``CommandExecutionError``, naming file and line, where it cannot be read.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.config config=/srv/galaxy/config/galaxy.yml
    """
    server = _server(config, stats, socket, manager, service, conf_file, bin_env)
    found = {}
    for field in dataclasses.fields(server.config):
        value = getattr(server.config, field.name)
        if isinstance(value, tuple):
            found[field.name] = [_setting("value", one) for one in value]
        else:
            found[field.name] = value if field.name == "path" or value is None else _setting("value", value)
    return found


def commands(config=None, stats=None, socket=None, manager=None, service=None, conf_file=None, bin_env=None):
    """
    How Galaxy is started and stopped by hand on this machine.

    Returns ``manager``, ``service``, and the argv lists ``start``, ``stop``, ``restart``, ``status`` and ``startup``
    (which brings the manager itself up). Raises ``CommandExecutionError`` where nothing manages Galaxy.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.commands
    """
    server = _server(config, stats, socket, manager, service, conf_file, bin_env)
    found = galaxy_control.manager_of(server)
    return {"manager": found.name, "service": found.service, **found.commands()}


def wait(
    config=None,
    stats=None,
    socket=None,
    manager=None,
    service=None,
    conf_file=None,
    bin_env=None,
    timeout=None,
    workers=1,
):
    """
    Wait until Galaxy is ready.

    timeout
        seconds at most (default: 300)
    workers
        how many must accept with their application loaded; 0 waits for the stats server alone

    Returns ``{"ready": True, "pid": …, "accepting": …, "seconds": …}``. Raises ``CommandExecutionError`` with the
    reason and the log's last lines: after ``timeout``, and at once when the master dies or the manager says that the
    service failed.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.wait timeout=60 workers=4
    """
    server = _server(config, stats, socket, manager, service, conf_file, bin_env)
    return galaxy_control.wait(server, _patience(timeout), _count("workers", workers))


def start(
    config=None,
    stats=None,
    socket=None,
    manager=None,
    service=None,
    conf_file=None,
    bin_env=None,
    timeout=None,
    workers=1,
):
    """
    Start Galaxy through its process manager and wait until it is ready.

    timeout
        seconds at most, waiting for another start or stop included (default: 300)
    workers
        how many must accept

    Returns ``{"changed": …, "manager": …, "service": …, "ready": True, "pid": …, "accepting": …, "seconds": …}``;
    ``changed`` is ``False`` where it was ready already. Raises ``CommandExecutionError`` as :py:func:`wait`.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.start
    """
    server = _server(config, stats, socket, manager, service, conf_file, bin_env)
    return galaxy_control.start(server, _patience(timeout), _count("workers", workers))


def stop(
    config=None,
    stats=None,
    socket=None,
    manager=None,
    service=None,
    conf_file=None,
    bin_env=None,
    timeout=10,
    force=False,
):
    """
    Stop Galaxy through its process manager, and end the workers that outlive that.

    timeout
        seconds that processes have to end after the manager's stop, and such a worker again after SIGTERM, before
        SIGKILL; also how long another start or stop is waited for
    force
        end the master too, by SIGINT and then SIGKILL, where it outlives the manager's stop or nothing manages it

    Only processes that were seen to be this uWSGI's are signalled, each only while it is still the same process.
    Returns ``{"changed": …, "manager": …, "service": …, "stopped": [PID, …], "signals": [{"pid": …, "signal": …},
    …]}``; ``changed`` is ``False`` where nothing ran. Raises ``CommandExecutionError`` where the master outlives the
    stop.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.stop force=True
    """
    server = _server(config, stats, socket, manager, service, conf_file, bin_env)
    return galaxy_control.stop(server, _seconds(timeout), force)


def restart(
    config=None,
    stats=None,
    socket=None,
    manager=None,
    service=None,
    conf_file=None,
    bin_env=None,
    timeout=None,
    workers=1,
    force=False,
):
    """
    Stop Galaxy and start it, as :py:func:`stop` and :py:func:`start`, with no other start or stop between.

    timeout
        seconds at most until it is ready again (default: 300)
    workers
        how many must accept
    force
        as for :py:func:`stop`

    Returns ``{"stop": …, "start": …}``.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.restart
    """
    server = _server(config, stats, socket, manager, service, conf_file, bin_env)
    return galaxy_control.restart(server, _patience(timeout), _count("workers", workers), force)


def startup(
    config=None,
    stats=None,
    socket=None,
    manager=None,
    service=None,
    conf_file=None,
    bin_env=None,
    timeout=None,
    workers=1,
    retries=None,
):
    """
    First start, as after a boot: bring the process manager up where needed, start Galaxy, wait until it is ready.

    timeout
        seconds for each try (default: 300)
    workers
        how many must accept
    retries
        how often it is stopped and started again while no worker comes to accept (default: 5)

    Returns what :py:func:`start` returns, and ``tries``. Raises ``CommandExecutionError`` with the last try's reason
    and the log's last lines.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.startup timeout=120 retries=2
    """
    retries = _get("retries", galaxy_control.RETRIES) if retries is None else retries
    server = _server(config, stats, socket, manager, service, conf_file, bin_env)
    return galaxy_control.startup(server, _patience(timeout), _count("retries", retries), _count("workers", workers))


def reload(
    config=None, stats=None, socket=None, manager=None, service=None, conf_file=None, bin_env=None, timeout=None
):
    """
    Reload Galaxy gracefully: requests under way are finished, then new workers take over.

    timeout
        seconds at most until a new worker accepts (default: 300)

    Through uWSGI's master FIFO where the configuration has one, else by SIGHUP to the master. Returns ``{"changed":
    True, "method": "master-fifo" or "SIGHUP", "ready": True, "pid": …, "accepting": …, "seconds": …}``. Raises
    ``CommandExecutionError`` where Galaxy does not run, or the new workers do not come to accept.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.reload
    """
    server = _server(config, stats, socket, manager, service, conf_file, bin_env)
    return galaxy_control.reload(server, _patience(timeout))


def _server(*given) -> Server:
    found = {key: _option(key, value) for key, value in zip(_KEYWORDS, given, strict=True)}
    if not (found["config"] or found["stats"] or found["socket"]):
        raise SaltInvocationError(
            "No Galaxy server is named: give config= (or stats= and socket=), or set galaxy:config in pillar"
        )
    return Server(__salt__, **found)


def _option(key: str, value):
    return value if value is not None else _get(key, None)


def _get(key: str, default):
    return __salt__["config.get"](f"galaxy:{key}", default)


def _patience(timeout) -> float:
    return _seconds(_get("timeout", galaxy_control.TIMEOUT) if timeout is None else timeout)


def _seconds(timeout) -> float:
    try:
        seconds = float(timeout)
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise SaltInvocationError(f"timeout is {timeout!r}; give a positive number of seconds")
    return seconds


def _count(name: str, value) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise SaltInvocationError(f"{name} is {value!r}; give a whole number, 0 or more")
    return value


def _states(state) -> tuple[WorkerState, ...]:
    if state is None:
        return _NOT_FREE
    names = state if isinstance(state, (list, tuple)) else str(state).split(",")
    try:
        return tuple(WorkerState(str(name).strip()) for name in names)
    except ValueError:
        known = ", ".join(one.value for one in WorkerState)
        raise SaltInvocationError(f"Unknown worker state {state!r}; expected one of {known}") from None


def _setting(name: str, setting) -> dict:
    value = setting.value if isinstance(setting.value, (int, str)) else str(setting.value)
    return {name: value, "option": setting.option, "source": setting.source}
