"""
Look after a Galaxy server: uWSGI's, or gunicorn and all beside it under Gravity
================================================================================

Every function takes the same optional keywords:

server
    the name of a Galaxy that ``galaxy:servers`` in pillar declares; not needed where there is one Galaxy
config
    path of the Galaxy, Gravity or uWSGI configuration (``galaxy.yml``, ``gravity.yml``, ``galaxy.ini``, any uWSGI INI
    or YAML). Where it has a ``gravity:`` section, gunicorn serves Galaxy, unless a uWSGI runs with this file
instance
    ``instance_name`` in Gravity's configuration, where that has several
stats, socket
    addresses of the stats server and of the request socket; they win over the configuration. Forms: ``127.0.0.1:4001``,
    ``:4001``, ``[::1]:4001``, ``/path/sock``, ``@abstract``, ``http://…`` with ``stats-http``
manager, service
    ``supervisord``, ``systemd``, ``upstart`` or ``sysvinit``, and the name of its program, group, unit or job; they win
    over detection
conf_file
    supervisord's configuration file
timeout
    seconds; each function says for what
retries, min_workers, force, companions, settle, check
    as the functions that use them say; ``workers`` is another name of ``min_workers``

What is not given comes from ``galaxy:`` in minion configuration, grains or pillar. A call that names a server by
``config``, ``stats``, ``socket`` or ``server`` means that server alone: nothing of another server comes from pillar.

.. code-block:: yaml

    galaxy:
      config: /srv/galaxy/config/galaxy.yml

Several Galaxies on one machine have names:

.. code-block:: yaml

    galaxy:
      servers:
        main:
          config: /srv/main/config/galaxy.yml
        test:
          config: /srv/test/config/galaxy.yml

Functions that start, stop or reload need root.
"""

from __future__ import annotations

import sys

from salt.exceptions import CommandExecutionError, SaltInvocationError

TYPE_CHECKING = False

if sys.platform.startswith("linux"):
    import galaxy_host_later

    galaxy_host_later.drop_outdated()

    import galaxy_host_arguments as arguments
    import galaxy_host_files
    import galaxy_host_progress
    import galaxy_settings
    import galaxy_spec
    import galaxy_status
    import galaxy_uwsgi_config
    from galaxy_host_later import Later
    from galaxy_host_wait import Deadline
    from galaxy_server import Galaxy
    from galaxy_webserver import WorkerState

    if TYPE_CHECKING:
        import galaxy_control
        import galaxy_definition
        import galaxy_fleet
        import galaxy_fleet_table
        import galaxy_gravity_hold
        import galaxy_gravity_update
        import galaxy_health
        import galaxy_host_lock
        import galaxy_metrics
        import galaxy_reload
        import galaxy_wait
        import onedata_declared
    else:
        galaxy_control = Later("galaxy_control")
        galaxy_definition = Later("galaxy_definition")
        galaxy_fleet = Later("galaxy_fleet")
        galaxy_fleet_table = Later("galaxy_fleet_table")
        galaxy_gravity_hold = Later("galaxy_gravity_hold")
        galaxy_gravity_update = Later("galaxy_gravity_update")
        galaxy_health = Later("galaxy_health")
        galaxy_host_lock = Later("galaxy_host_lock")
        galaxy_metrics = Later("galaxy_metrics")
        galaxy_reload = Later("galaxy_reload")
        galaxy_wait = Later("galaxy_wait")
        onedata_declared = Later("onedata_declared")

__virtualname__ = "galaxy"

if TYPE_CHECKING:
    __salt__: dict
    __opts__: dict
    __grains__: dict
    __pillar__: dict
    __context__: dict

_LOOK = 5
_STOP = 10
_HEALTH = 120


def __virtual__():
    if not sys.platform.startswith("linux"):
        return False, "galaxy: Galaxy servers are looked after on Linux only"
    return __virtualname__


def status(config=None, server=None, timeout=_LOOK, verbose=False, **keywords):
    """
    How Galaxy is. A Galaxy that is down is an answer, never an error.

    config : str
        path of the configuration of Galaxy, Gravity or uWSGI, in place of the one in pillar
    server : str
        a name in pillar; ``'*'`` asks all
    timeout : float = 5
        seconds for the web server's answer
    verbose : bool = False
        add ``worker_records``, as in :py:func:`busy_workers`, for every worker
    min_workers : int = 1
        how many workers must be ready for ``ready``
    keywords
        others that name the server, such as ``stats``, or set limits: see the top of this module

    Returns a mapping, with ``server='*'`` one for each server by its name:

    server
        its name in pillar; ``None`` for a server that pillar does not declare
    web_server
        ``uwsgi`` or ``gunicorn``
    running
        its master lives, or workers that outlived it; ``None`` where that cannot be told, with the reason in
        ``problems``
    accepting
        a worker accepts requests (uWSGI's ``accepting``); ``None`` where that cannot be told
    ready, ready_workers
        as many workers as wanted accept with their application loaded, and how many do; ``None`` where that cannot be
        told. Of several gunicorns each has one at least, and each has answered ``GET /api/version``
    pid, uptime, version
        of the master (of several the first, and the longest uptime): PID, seconds since it was started, uWSGI's
        version; ``None`` where it is down, and where gunicorn does not tell
    galaxy_version
        ``running`` (as Galaxy answers) and ``on_disk`` (of Gravity's ``galaxy_root`` or ``virtualenv``); ``None`` where
        that is not known, and for uWSGI
    workers
        ``total``, and how many are ``not_accepting``, ``idle``, ``busy`` (some core in a request), ``saturated`` (all
        cores), ``cheap``, ``paused``, ``stuck`` (the event loop does not run)
    oldest_request
        seconds that the oldest request under way has taken; ``None`` where there is none, or that cannot be told
    listen_queue
        connections: ``length`` now, ``max`` (``None`` until uWSGI tells, and for its unix sockets), ``errors``
        (``None`` for gunicorn); ``None`` where it is down
    manager
        ``name``, ``service``, ``state`` (running, starting, stopping, stopped, retrying, failed, unknown), ``term``
        (the state as the manager names it), ``active`` (a process of the service runs, or the manager will start it by
        itself); ``None`` where nothing manages Galaxy. Of several gunicorns, of the one that is worst off
    services
        each service by its name (``gunicorn``, ``celery``, ``handler_0``, …; uWSGI's is ``uwsgi``): ``role`` (web,
        reports, celery, celery-beat, handler, tusd, gx-it-proxy), ``state`` (as the manager's above), ``pids`` (of its
        main process), ``restarts`` (how often the manager started it again by itself; ``None`` where it does not count)
    config, sockets, stats
        path of the configuration, addresses of the requests' sockets and of the stats server; ``None`` or empty where
        they are not known
    problems
        sentences; empty where all is well

    Raises ``CommandExecutionError`` where no server is named, or pillar is wrong.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.status
        salt '*' galaxy.status config=/srv/galaxy/config/galaxy.yml
        salt '*' galaxy.status server='*'
    """
    seconds = arguments.seconds("timeout", timeout)
    arguments.flag("verbose", verbose)

    def answer(galaxy, limits):
        return galaxy_status.read(galaxy, limits, seconds, verbose)

    return _each(answer, config=config, server=server, **keywords)


def busy_workers(config=None, server=None, timeout=_LOOK, state=None, pids_only=False, **keywords):
    """
    The workers that are not free, and why.

    config : str
        path of the configuration of Galaxy, Gravity or uWSGI, in place of the one in pillar
    server : str
        a name in pillar; ``'*'`` asks all
    timeout : float = 5
        seconds for the web server's answer
    state : str or list
        only workers in this state, or in one of a list: ``not_accepting``, ``busy``, ``saturated``, ``paused``,
        ``stuck``, and on demand ``idle`` and ``cheap``
    pids_only : bool = False
        the plain list of their PIDs
    keywords
        others that name the server, such as ``stats``, or set limits: see the top of this module

    Returns a list, empty where all are free; with ``server='*'`` a list for each server by its name, and for a server
    that cannot be asked a text that says why. Each record has
    ``id, pid, state, reason, accepting, ready, in_flight`` (requests under way), ``oldest_request`` (seconds that the
    oldest of them has taken) and ``requests``; what cannot be told is ``None``. gunicorn's also has ``heartbeat_age``
    (seconds; ``None`` before the first) and ``pss`` (bytes of memory), uWSGI's ``apps, cores, busy_cores, signal,
    exceptions, harakiri_count, respawn_count, last_spawn`` (epoch seconds), ``rss, vsz`` (bytes; 0 without
    ``memory-report``), ``avg_rt, running_time`` (microseconds), ``tx`` (bytes) and ``in_request``: for each busy core
    ``core, method, uri`` (without its query), ``remote_addr, seconds``.

    Raises ``CommandExecutionError`` where the web server cannot be asked.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.busy_workers state=saturated pids_only=True
    """
    wanted = _states(state)
    seconds = arguments.seconds("timeout", timeout)
    arguments.flag("pids_only", pids_only)

    def answer(galaxy, _):
        found = galaxy.snapshots(seconds)
        workers = [worker for snapshot in found for worker in snapshot.workers if worker.state in wanted]
        return [worker.pid if pids_only else worker.record() for worker in workers]

    return _each(answer, tolerant=True, config=config, server=server, **keywords)


def accepting(config=None, server=None, timeout=_LOOK, **keywords):
    """
    Whether at least one worker accepts requests (uWSGI's ``accepting``).

    config : str
        path of the configuration of Galaxy, Gravity or uWSGI, in place of the one in pillar
    server : str
        a name in pillar; not needed where there is one Galaxy
    timeout : float = 5
        seconds for the web server's answer
    keywords
        others that name the server, such as ``stats``, or set limits: see the top of this module

    Returns ``True`` or ``False``. Raises ``CommandExecutionError`` where the web server cannot be asked.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.accepting
    """
    galaxy, _ = _galaxy(config=config, server=server, **keywords)
    return any(snapshot.accepting for snapshot in galaxy.snapshots(arguments.seconds("timeout", timeout)))


def stats(config=None, server=None, timeout=_LOOK, **keywords):
    """
    The stats server's document, in uWSGI's own form.

    config : str
        path of the configuration of Galaxy, Gravity or uWSGI, in place of the one in pillar
    server : str
        a name in pillar; not needed where there is one Galaxy
    timeout : float = 5
        seconds for the stats server's answer
    keywords
        others that name the server, such as ``stats``, or set limits: see the top of this module

    Returns the document as a mapping. Of a request's variables only method, path, protocol and remote address stay: the
    rest holds cookies, authorization headers and query strings. Raises ``CommandExecutionError`` where the stats server
    cannot be read.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.stats stats=127.0.0.1:9191
    """
    galaxy, _ = _galaxy(config=config, server=server, **keywords)
    return galaxy.read_stats(arguments.seconds("timeout", timeout)).redacted()


def master_pid(config=None, server=None, timeout=_LOOK, **keywords):
    """
    The PID of the web server's master, uWSGI's or gunicorn's.

    config : str
        path of the configuration of Galaxy, Gravity or uWSGI, in place of the one in pillar
    server : str
        a name in pillar; not needed where there is one Galaxy
    timeout : float = 5
        seconds for the stats server's answer; where there is no answer, the process that listens on the socket is
        looked for
    keywords
        others that name the server, such as ``stats``, or set limits: see the top of this module

    Returns one PID, never a worker's, a router's or a client's; ``None`` only where it is certain that Galaxy does not
    run. Raises ``CommandExecutionError``, with the reason, where that cannot be told, where another program holds the
    socket, where workers do whose master is gone, and where several masters may be meant, or run: of a Galaxy with
    several gunicorns ``galaxy.status`` names each.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.master_pid socket=127.0.0.1:4001
    """
    galaxy, _ = _galaxy(config=config, server=server, **keywords)
    master = galaxy.require_master(arguments.seconds("timeout", timeout))
    return master.pid if master else None


def sockets(config=None, server=None, **keywords):
    """
    Where Galaxy listens.

    config : str
        path of the configuration of Galaxy, Gravity or uWSGI, in place of the one in pillar
    server : str
        a name in pillar; not needed where there is one Galaxy
    keywords
        others that name the server, such as ``stats``, or set limits: see the top of this module

    Returns a list of ``{"address": …, "option": …, "source": …}``: uWSGI's option (``socket``, ``http``, …, ``stats``)
    and ``file:line`` or the command line, or ``given`` for an address from an argument or pillar. Raises
    ``CommandExecutionError`` where the configuration cannot be read.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.sockets config=/srv/galaxy/config/galaxy.yml
    """
    galaxy, _ = _galaxy(config=config, server=server, **keywords)
    spec = galaxy.spec
    options = galaxy.options() if spec.config else None
    if spec.socket:
        rows = [{"address": spec.socket, "option": "socket", "source": "given"}]
    else:
        rows = [_setting("address", setting) for setting in options.sockets] if options else []
    if spec.stats:
        return [*rows, {"address": spec.stats, "option": "stats", "source": "given"}]
    return [*rows, _setting("address", options.stats)] if options and options.stats else rows


def config(config=None, server=None, **keywords):
    """
    The options in effect: the configuration by uWSGI's own reading rules, and command line, environment and working
    directory of the live master, or, where none runs, of the process manager's definition.

    config : str
        path of the configuration of Galaxy, Gravity or uWSGI, in place of the one in pillar
    server : str
        a name in pillar; not needed where there is one Galaxy
    keywords
        others that name the server, such as ``stats``, or set limits: see the top of this module

    Returns ``path``; ``sockets``, ``master_fifo``, ``logs`` (lists); ``stats``, ``processes``, ``threads``, ``mules``,
    ``master``, ``need_app``, ``die_on_term``, ``no_server``, ``pidfile``: each ``{"value": …, "option": …, "source":
    …}``, where ``source`` is ``file:line``, what the command line belongs to, or ``uWSGI default``; ``None`` where
    nothing is said. ``unusable`` lists options that cannot be used, ``doubts`` those that one build of uWSGI reads and
    another does not; their ``value`` is the sentence that says why.

    Raises ``CommandExecutionError``, naming file and line, where the configuration cannot be read.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.config config=/srv/galaxy/config/galaxy.yml
    """
    galaxy, _ = _galaxy(config=config, server=server, **keywords)
    options = galaxy.options()
    shown = {}
    for name in galaxy_uwsgi_config.FIELDS:
        value = getattr(options, name)
        if hasattr(value, "source"):
            shown[name] = _setting("value", value)
        else:
            is_list = isinstance(value, tuple)
            shown[name] = [_setting("value", setting) for setting in value] if is_list else value
    return shown


def servers():
    """
    The Galaxy servers that pillar declares.

    Returns their names: ``galaxy`` for the server that ``galaxy:`` itself describes, and those of ``galaxy:servers``.
    Raises ``CommandExecutionError`` where pillar is wrong.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.servers
    """
    settings_ = _settings()
    settings_.require_sound()
    return settings_.names


def settings(server=None, values_only=False):
    """
    The settings in effect below ``galaxy:``, and all that is wrong with them.

    server : str
        a name in pillar: only the settings of this server
    values_only : bool = False
        the values alone, in the shape that the formula uses

    Returns a mapping: ``servers``, by name, each a mapping of settings (``storage:device`` is the key ``device`` in the
    section ``storage``) to ``value`` and ``source`` (``minion configuration``, ``grains``, ``pillar`` or ``default``);
    ``machine``, the same for ``onedata``, ``boot`` and ``monitoring``; and ``problems``, sentences. Secrets are shown
    as asterisks. Raises ``SaltInvocationError`` for a name that pillar does not declare.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.settings
    """
    arguments.flag("values_only", values_only)
    if server is not None:
        arguments.text("server", server)
    found = _settings()
    if server is not None and server not in found.servers:
        raise SaltInvocationError(
            f"No Galaxy server {server!r} is declared; known: {', '.join(found.servers) or 'none'}"
        )
    names = [server] if server else list(found.servers)
    if values_only:
        return found.values(names)
    return {
        "servers": {name: found.shown(name) for name in names},
        "machine": found.shown_machine(),
        "problems": found.problems,
    }


def commands(config=None, server=None, **keywords):
    """
    The commands that start and stop Galaxy on this machine, for a person to type; nothing is run.

    config : str
        path of the configuration of Galaxy, Gravity or uWSGI, in place of the one in pillar
    server : str
        a name in pillar; not needed where there is one Galaxy
    keywords
        others that name the server, such as ``stats``, or set limits: see the top of this module

    Returns ``manager``, ``service``, and the argv lists ``start``, ``stop``, ``restart``, ``status`` and ``startup``
    (which brings the manager itself up) of the web server, and the same of each service by its name in ``services``.
    Raises ``CommandExecutionError`` where nothing manages
    Galaxy.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.commands
    """
    galaxy, _ = _galaxy(config=config, server=server, **keywords)
    look = galaxy.look(_LOOK, probe=False)
    found = [(one.service.name, galaxy_control.require_unit(galaxy, one)) for one in look.services]
    shown = {
        name: {"manager": unit.manager, "service": unit.service, **unit.commands()} for name, unit in reversed(found)
    }
    # the web server comes last in the order of starts
    return {**shown[look.webs[0].service.name], "services": shown}


def wait(config=None, server=None, timeout=None, test=False, **keywords):
    """
    Wait until Galaxy is ready.

    config : str
        path of the configuration of Galaxy, Gravity or uWSGI, in place of the one in pillar
    server : str
        a name in pillar; ``'*'`` waits for all, one after the other
    timeout : float = 300
        seconds at most
    test : bool = False
        do not wait; what waiting would not change is raised
    min_workers : int = 1
        how many workers must accept with their application loaded; 0 waits for the stats server alone
    keywords
        others that name the server, such as ``stats``, or set limits: see the top of this module

    Returns ``{"ready": True, "pid": …, "accepting": …, "seconds": …}``, with ``server='*'`` one for each server by its
    name. Raises ``CommandExecutionError`` with the reason and the log's last lines: after ``timeout``, and at once when
    the master dies or the manager says that the service failed.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.wait timeout=60 min_workers=4
    """
    arguments.flag("test", test)

    def answer(galaxy, limits):
        return galaxy_wait.wait(galaxy, limits, test)

    with _told("galaxy.wait"):
        return _each(answer, config=config, server=server, timeout=timeout, **keywords)


def start(config=None, server=None, timeout=None, test=False, **keywords):
    """
    Start Galaxy through its process manager and wait until it is ready.

    config : str
        path of the configuration of Galaxy, Gravity or uWSGI, in place of the one in pillar
    server : str
        a name in pillar; not needed where there is one Galaxy
    timeout : float = 300
        seconds at most, waiting for another start or stop included
    test : bool = False
        only say whether it would be started; what would stand in the way is raised
    min_workers : int = 1
        how many workers must be ready
    companions : str = require
        ``ignore``: Celery, job handlers and what else runs beside the web server may fail
    keywords
        others that name the server, such as ``stats``, or set limits: see the top of this module

    Under Gravity all services are started, handlers and Celery before the web server. Returns ``{"changed": …,
    "manager": …, "service": …, "ready": True, "pid": …, "accepting": …, "seconds": …}``;
    ``changed`` is ``False`` where it was ready already. Raises ``CommandExecutionError`` as :py:func:`wait`, and where
    nothing manages Galaxy, or something else than its manager has started it.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.start
    """
    arguments.flag("test", test)
    with _told("galaxy.start"):
        return galaxy_control.start(*_galaxy(config=config, server=server, timeout=timeout, **keywords), test=test)


def stop(config=None, server=None, timeout=_STOP, pid=None, test=False, **keywords):
    """
    Stop Galaxy through its process manager, and end the workers that outlive that.

    config : str
        path of the configuration of Galaxy, Gravity or uWSGI, in place of the one in pillar
    server : str
        a name in pillar; not needed where there is one Galaxy
    timeout : float = 10
        seconds that processes have to end after the manager's stop, and again after SIGTERM, before SIGKILL; also how
        long another start or stop of this server is waited for
    pid : int
        with ``force``, the PID of the master to end although it runs another configuration, or as another user, than
        this Galaxy's: the configuration's addresses must lead to it
    test : bool = False
        only say whether it would be stopped; what would stand in the way is raised
    force : bool = False
        end the master too, by SIGINT and then SIGKILL, where it outlives the manager's stop or nothing manages it
    keywords
        others that name the server, such as ``stats``, or set limits: see the top of this module

    Under Gravity all services are stopped, the web server first, and gunicorn's workers that outlived a killed master
    are ended. Only the master that was asked about and the processes that it started are signalled, each only while it
    is still the same process.

    Returns ``{"changed": …, "manager": …, "service": …, "stopped": [PID, …], "signals": [{"pid": …, "signal": …}, …],
    "problems": […]}``, with ``test`` the first three; ``changed`` is ``False`` where nothing ran, ``problems`` says
    where another master goes on serving its sockets. Raises ``CommandExecutionError`` where the master outlives the
    stop or nothing manages it, and ``force`` is not given.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.stop force=True
    """
    arguments.flag("test", test)
    galaxy, limits = _galaxy(config=config, server=server, **keywords)
    if pid is not None:
        if not limits.force:
            raise SaltInvocationError(
                "pid goes with force=True: it names a master that is not proven to be this Galaxy's"
            )
        galaxy.believe(arguments.count("pid", pid))
    seconds = arguments.seconds("timeout", timeout)
    with _told("galaxy.stop"):
        return galaxy_control.stop(galaxy, seconds, limits.force, test=test)


def restart(config=None, server=None, timeout=None, rolling=False, test=False, **keywords):
    """
    Stop Galaxy and start it, as :py:func:`stop` and :py:func:`start`, with no other start or stop between.

    config : str
        path of the configuration of Galaxy, Gravity or uWSGI, in place of the one in pillar
    server : str
        a name in pillar; not needed where there is one Galaxy
    timeout : float = 300
        seconds at most until it is ready again
    rolling : bool = False
        of a Galaxy with several gunicorns, restart one at a time, and then the services beside them but tusd. All are
        looked at first: one that is down is started, one that runs and is not ready is a reason to touch nothing. Each
        must be ready, and stay so for ``settle`` seconds, before the next is touched; it stops at the first that is not
    test : bool = False
        do nothing; what would stand in the way is raised
    settle : float = 11
        seconds, longer than ``fail_timeout`` of the proxy
    min_workers : int = 1
        how many workers must be ready
    force : bool = False
        as for :py:func:`stop`
    check : bool = False
        of a Galaxy under Gravity, load its application once on trial, as Galaxy's user, and touch nothing where that
        fails
    keywords
        others that name the server, such as ``stats``, or set limits: see the top of this module

    Returns ``{"stop": …, "start": …}``, with ``rolling`` what :py:func:`reload` returns; ``{}`` with ``test``.

    Raises ``CommandExecutionError`` as :py:func:`stop` and :py:func:`start` do, and where ``check`` or ``rolling``
    finds what stands in the way.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.restart
        salt '*' galaxy.restart rolling=True timeout=900
    """
    arguments.flag("test", test)
    arguments.flag("rolling", rolling)
    act = galaxy_reload.roll if rolling else galaxy_control.restart
    with _told("galaxy.restart"):
        return act(*_galaxy(config=config, server=server, timeout=timeout, **keywords), test=test)


def startup(config=None, server=None, timeout=None, test=False, **keywords):
    """
    First start, as after a boot: bring the process manager up where needed, start Galaxy, wait until it is ready.

    config : str
        path of the configuration of Galaxy, Gravity or uWSGI, in place of the one in pillar
    server : str
        a name in pillar; not needed where there is one Galaxy
    timeout : float = 300
        seconds for each try
    test : bool = False
        only say whether it would be started; what would stand in the way is raised
    min_workers : int = 1
        how many workers must be ready
    retries : int = 5
        how often a Galaxy that does not come up is stopped and started again. One whose master lives, but which cannot
        be asked, is never stopped
    keywords
        others that name the server, such as ``stats``, or set limits: see the top of this module

    Returns what :py:func:`start` returns, and ``tries``. Raises ``CommandExecutionError`` with the last try's reason
    and the log's last lines.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.startup timeout=120 retries=2
    """
    arguments.flag("test", test)
    with _told("galaxy.startup"):
        return galaxy_control.startup(*_galaxy(config=config, server=server, timeout=timeout, **keywords), test=test)


def reload(config=None, server=None, timeout=None, test=False, **keywords):
    """
    Reload Galaxy gracefully: requests under way are finished, then new workers take over.

    config : str
        path of the configuration of Galaxy, Gravity or uWSGI, in place of the one in pillar
    server : str
        a name in pillar; not needed where there is one Galaxy
    timeout : float = 300
        seconds at most until new workers are ready
    test : bool = False
        do nothing; what would stand in the way is raised
    min_workers : int = 1
        how many workers must be ready
    force : bool = False
        also a Galaxy with one gunicorn, which has a gap: with preload on it is a restart; with preload off nobody
        accepts until the new workers have loaded, and code that is broken takes Galaxy down
    check : bool = False
        as for :py:func:`restart`
    keywords
        others that name the server, such as ``stats``, or set limits: see the top of this module

    Of uWSGI through its master FIFO where an option in effect names one, else by SIGHUP to the master; of several
    gunicorns as :py:func:`restart` with ``rolling``. Returns ``{"changed": True, "method": "master-fifo", "SIGHUP",
    "rolling" or "restart", "ready": True, "pid": …, "accepting": …, "seconds": …}``; ``{}`` with ``test``. Raises
    ``CommandExecutionError`` where Galaxy does not run, or the new workers do not become ready.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.reload
    """
    arguments.flag("test", test)
    with _told("galaxy.reload"):
        return galaxy_reload.reload(*_galaxy(config=config, server=server, timeout=timeout, **keywords), test=test)


def define(server=None, absent=False, test=False):
    """
    Write the definition of a server for its process manager, as ``manage_service`` and its keys in pillar say: the unit
    of systemd with its file of variables, or the program file of supervisord.

    server : str
        a name in pillar
    absent : bool = False
        remove the definition instead; a running Galaxy is not stopped
    test : bool = False
        only say what would be written or removed

    Returns the files that were (or would be) changed, by path: ``diff`` (for a file that may hold a secret, only that
    it changed) and ``mode``; empty where all are right. Raises ``CommandExecutionError`` where pillar is wrong, the
    server has no ``manage_service``, Gravity runs it, or a file cannot be written.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.define test=True
    """
    arguments.flag("absent", absent)
    arguments.flag("test", test)
    found = _settings()
    spec, _ = galaxy_spec.resolve({"server": server}, found)
    onedata = found.machine["onedata"]
    waits = bool(onedata["spaces"] or onedata["ini"])
    values = found.servers[spec.server]
    if not absent and Galaxy(spec, __salt__).gravity:
        raise CommandExecutionError(
            f"{spec.config}: Gravity runs this Galaxy and writes its units. Remove manage_service from pillar, "
            "and set gravity_update there, or use the state galaxy.updated"
        )
    others = _mount_points(found) if values["log"] and not absent else ()
    return galaxy_definition.write(values, waits, absent, test, others)


def summary(config=None, server=None, timeout=_LOOK, **keywords):
    """
    How Galaxy is, as one line of text.

    config : str
        path of the configuration of Galaxy, Gravity or uWSGI, in place of the one in pillar
    server : str
        a name in pillar; ``'*'`` asks all
    timeout : float = 5
        seconds for the web server's answer
    keywords
        others that name the server, such as ``stats``, or set limits: see the top of this module

    Returns the state (``ready``, ``degraded``, ``not ready``, ``down`` or ``unknown``), numbers and the first problem;
    with ``server='*'`` one line for each server by its name. Raises as :py:func:`status`.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.summary
    """
    returned = status(config=config, server=server, timeout=timeout, **keywords)
    lines = {row["server"]: galaxy_fleet_table.line(row) for row in galaxy_fleet.rows(__opts__["id"], returned)}
    return lines if server == galaxy_spec.ALL else next(iter(lines.values()))


def check(config=None, server=None, timeout=_LOOK, **keywords):
    """
    The line and the exit code of a monitoring plugin, for Nagios, Icinga and Checkmk (docs/monitoring.md).

    config : str
        path of the configuration of Galaxy, Gravity or uWSGI, in place of the one in pillar
    server : str
        a name in pillar; all servers of pillar, where none is named
    timeout : float = 5
        seconds for each web server's answer
    keywords
        others that name the server, such as ``stats``, or set limits: see the top of this module

    Returns one line of text: ``GALAXY OK``, ``WARNING``, ``CRITICAL`` or ``UNKNOWN``, what is wrong, and after ``|``
    the numbers. The return code is 0 where all are ready, 1 where one is degraded, 2 where one is down or not ready,
    3 where that cannot be told. Nothing is raised.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.check --out=txt
        salt-call --retcode-passthrough --out=galaxy galaxy.check
    """
    try:
        returned = _statuses(config, server, timeout, keywords)
    except (CommandExecutionError, SaltInvocationError) as exc:
        returned = {server: str(exc)}
    rows = [row for name, one in returned.items() for row in galaxy_fleet.rows(__opts__["id"], {name: one})]
    __context__["retcode"] = galaxy_fleet.exit_code(rows)
    return galaxy_fleet.check_line(rows)


def metrics(config=None, server=None, timeout=_LOOK, path=None, **keywords):
    """
    How Galaxy is, in the text format of OpenMetrics (docs/monitoring.md).

    config : str
        path of the configuration of Galaxy, Gravity or uWSGI, in place of the one in pillar
    server : str
        a name in pillar; all servers of pillar, where none is named
    timeout : float = 5
        seconds for each web server's answer
    path : str
        write the text to this file, which is replaced in one step, as node_exporter's textfile collector needs it
    keywords
        others that name the server, such as ``stats``, or set limits: see the top of this module

    Returns the text; with ``path`` the path. Raises ``CommandExecutionError`` where pillar is wrong or the file cannot
    be written.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.metrics path=/var/lib/prometheus/node-exporter/galaxy.prom
    """
    if path is not None:
        arguments.absolute("path", path)
    text = galaxy_metrics.text(_statuses(config, server, timeout, keywords))
    if path is None:
        return text
    galaxy_host_files.write_atomic(path, text.encode(), 0o644)
    return path


def update(config=None, server=None, timeout=None, test=False, **keywords):
    """
    Bring the files that Gravity wrote for its process manager up to date with its configuration, as ``galaxyctl
    update`` does, but stop nothing that runs, and never touch another Galaxy's units.

    config : str
        path of the configuration of Galaxy, Gravity or uWSGI, in place of the one in pillar
    server : str
        a name in pillar; not needed where there is one Galaxy
    timeout : float = 300
        seconds to wait for another start or stop, and, where something was stopped, until Galaxy is ready again
    test : bool = False
        change nothing
    force : bool = False
        also where something that runs is stopped or restarted for it, or a second configuration file has the same data;
        what is configured is started afterwards
    keywords
        others that name the server, such as ``stats``, or set limits: see the top of this module

    Gravity itself makes the files, as Galaxy's user; root writes none of them before it has checked each line.

    Returns

    changed
        files were changed, or would be
    added, rewritten, removed
        their paths
    stopped
        units or programs that were, or would be, stopped or restarted
    diff
        a unified diff; values of environment variables are not shown
    refused
        with ``test``, why it would not be done without ``force``, or at all: sentences
    problems
        sentences
    start
        what :py:func:`start` returns; only where something was stopped

    Raises ``CommandExecutionError`` with the reason where it is refused, where Galaxy is not run by Gravity, or Gravity
    refuses the configuration.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.update test=True
    """
    arguments.flag("test", test)
    galaxy, limits = _galaxy(config=config, server=server, timeout=timeout, **keywords)
    found = galaxy_gravity_update.Update(_gravity_instance(galaxy))
    if test:
        return found.plan().record(limits.force)
    with _told("galaxy.update"):
        with galaxy_host_lock.hold("galaxy.update", galaxy.spec.identity, Deadline(limits.timeout)):
            plan = found.plan()
            found.apply(plan, limits.force)
            # new units wait for Galaxy's data as those before
            galaxy_gravity_hold.hold(found.instance, None)
        answer = plan.record(limits.force)
        return {**answer, "start": galaxy_control.start(galaxy, limits)} if plan.stops else answer


def hold(config=None, server=None, mounts=(), absent=False, test=False, **keywords):
    """
    Let nothing of a Galaxy under Gravity start, at boot or by hand, before its data is mounted: by a drop-in
    ``salt-galaxy.conf`` beside each unit of its own, or, under Gravity's supervisord, beside the units of systemd that
    start that.

    config : str
        path of the configuration of Galaxy, Gravity or uWSGI, in place of the one in pillar
    server : str
        a name in pillar; not needed where there is one Galaxy
    mounts : list = []
        directories on which a filesystem must be mounted; the Onedata spaces that pillar declares are added
    absent : bool = False
        remove the drop-ins instead
    test : bool = False
        only say what would be written or removed
    keywords
        others that name the server, such as ``stats``, or set limits: see the top of this module

    Returns the files that were (or would be) changed, by path: ``diff`` and ``mode``; empty where all are right, and
    for a Galaxy that Gravity does not run. Raises ``CommandExecutionError`` where they are units of a user's own
    systemd, or a file cannot be written.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.hold mounts=/export test=True
    """
    arguments.flag("absent", absent)
    arguments.flag("test", test)
    mounts = arguments.paths("mounts", mounts)
    galaxy, limits = _galaxy(config=config, server=server, **keywords)
    instance = galaxy.instance if galaxy.gravity else None
    if not instance:
        return {}
    spaces = onedata_declared.Declared(__salt__["config.get"]).mount_points()
    needed = () if absent else dict.fromkeys([*mounts, *spaces])
    if test:
        return galaxy_gravity_hold.hold(instance, needed, test=True)
    with galaxy_host_lock.hold("galaxy.hold", galaxy.spec.identity, Deadline(limits.timeout)):
        return galaxy_gravity_hold.hold(instance, needed)


def health(config=None, server=None, timeout=_HEALTH, **keywords):
    """
    Whether Celery's workers reply, and Galaxy's web workers and job handlers give signs of life: what no process
    manager knows. It costs Galaxy some 10 s of CPU time, so ask it on demand, and not in a beacon.

    config : str
        path of the configuration of Galaxy, Gravity or uWSGI, in place of the one in pillar
    server : str
        a name in pillar; ``'*'`` asks all
    timeout : float = 120
        seconds
    keywords
        others that name the server, such as ``stats``, or set limits: see the top of this module

    Galaxy's own Python asks, as Galaxy's user and with Galaxy's own configuration.

    Returns

    healthy
        ``False`` where something is wrong, ``None`` where not all could be asked, with the reason in ``problems``
    celery
        ``pong`` for each worker that replied, by its name
    processes
        ``pid``, ``age`` (seconds since the process gave a sign of life, which it does each minute) and ``app_type``
        (``webapp``; ``None`` for a job handler), by Galaxy's name of the process; those of this machine alone
    seconds
        how long it took
    problems
        sentences

    Raises ``CommandExecutionError`` where Galaxy is not run by Gravity, or its Python is not one to be run.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.health
    """
    seconds = arguments.seconds("timeout", timeout)

    def answer(galaxy, _):
        commands = galaxy_gravity_update.Update(_gravity_instance(galaxy)).commands
        return galaxy_health.read(commands, seconds)

    with _told("galaxy.health"):
        return _each(answer, config=config, server=server, **keywords)


def _statuses(config, server, timeout, keywords):
    """What :py:func:`status` tells of the server that is named, or of all, by name; a text where one cannot tell."""
    seconds = arguments.seconds("timeout", timeout)
    is_named = config or server or any(keywords.get(name) for name in ("stats", "socket"))

    def answer(galaxy, limits):
        return galaxy_status.read(galaxy, limits, seconds)

    server = server if is_named else galaxy_spec.ALL
    found = _each(answer, tolerant=True, config=config, server=server, **keywords)
    return found if server == galaxy_spec.ALL else {found["server"] or "galaxy": found}


def _mount_points(found):
    """Of all volumes and Onedata spaces of the machine."""
    storages = [storage for values in found.servers.values() for storage in values["storages"]]
    spaces = onedata_declared.Declared(__salt__["config.get"])
    return [*map(galaxy_definition.mount_point, storages), *spaces.mount_points()]


def _settings():
    return galaxy_settings.of(__opts__, __grains__, __pillar__)


def _galaxy(**given) -> tuple[Galaxy, galaxy_spec.Limits]:
    """The Galaxy that the keywords mean, and the limits."""
    spec, limits = galaxy_spec.resolve(given, _settings())
    return Galaxy(spec, __salt__), limits


def _each(answer, tolerant=False, **given):
    """``answer(galaxy, limits)`` of the server that is meant, or, for ``*``, of all, by name."""
    if given.get("server") != galaxy_spec.ALL:
        return answer(*_galaxy(**given))
    answers, failures = {}, []
    for name, (spec, limits) in galaxy_spec.resolve_all({**given, "server": None}, _settings()).items():
        try:
            answers[name] = answer(Galaxy(spec, __salt__), limits)
        except CommandExecutionError as exc:
            # one that cannot answer hides no other
            answers[name] = str(exc)
            failures.append(f"{name}: {exc}")
    if failures and not tolerant:
        raise CommandExecutionError("\n".join(failures), info=answers)
    return answers


def _told(step):
    """Who waits is told what for."""
    return galaxy_host_progress.told(step, __opts__, __salt__)


def _states(state):
    if state is None:
        # all that is not free to take a request
        return [one for one in WorkerState if one not in (WorkerState.IDLE, WorkerState.CHEAP)]
    names = state if isinstance(state, (list, tuple)) else str(state).split(",")
    try:
        return tuple(WorkerState(str(name).strip()) for name in names)
    except ValueError:
        known = ", ".join(one.value for one in WorkerState)
        raise SaltInvocationError(f"Unknown worker state {state!r}; expected one of {known}") from None


def _setting(name, setting):
    plain = isinstance(setting.value, (bool, int, str, type(None)))
    value = setting.value if plain else str(setting.value)
    return {name: value, "option": setting.option, "source": setting.source}


def _gravity_instance(galaxy):
    """What Gravity is asked to run."""
    if not galaxy.instance:
        raise CommandExecutionError(
            f"{galaxy.spec}: Gravity does not run it: its configuration has no gravity: section"
        )
    return galaxy.instance
