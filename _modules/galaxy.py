"""
Look after a Galaxy server, under uWSGI or gunicorn
===================================================

gunicorn serves Galaxy under Gravity. Then these functions also look after the services beside it: Celery, job handlers
and others.

Most functions take these optional keywords:

server
    name of a Galaxy that pillar declares in ``galaxy:servers``; not needed if there is only one Galaxy
config
    path of the configuration file of Galaxy, Gravity or uWSGI (``galaxy.yml``, ``gravity.yml``, ``galaxy.ini``, any INI
    or YAML file of uWSGI). If the file has a ``gravity:`` section, gunicorn serves Galaxy, unless a uWSGI runs with
    this file
instance
    ``instance_name`` in Gravity's configuration, if that has several instances
stats, socket
    addresses of the stats server and of the socket for requests; they win over the configuration. An address is written
    as ``127.0.0.1:4001``, ``:4001``, ``[::1]:4001``, ``/path/sock`` or ``@abstract``; with ``stats-http`` as
    ``http://…``
manager, service
    the process manager (``supervisord``, ``systemd``, ``upstart`` or ``sysvinit``), and the name of its program, group,
    unit or job; they win over what the functions find themselves
conf_file
    path of supervisord's configuration file
timeout
    seconds; each function says what it waits for
retries, min_workers, force, companions, settle, check
    the functions that use these keywords explain them. ``workers`` is another name of ``min_workers``

If a keyword is not given, its value comes from ``galaxy:`` in minion configuration, grains or pillar. A call that names
a server by ``config``, ``stats``, ``socket`` or ``server`` means this server alone: no setting of another server is
used.

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

Functions that start, stop or reload Galaxy need root.
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
        return False, "galaxy: this module works on Linux only"
    return __virtualname__


def status(config=None, server=None, timeout=_LOOK, verbose=False, **keywords):
    """
    Tell how Galaxy is. If Galaxy is down, this is an answer, not an error.

    config : str
        path of the configuration file of Galaxy, Gravity or uWSGI; by default the one in pillar
    server : str
        name of the server in pillar; ``'*'`` asks all servers
    timeout : float = 5
        seconds to wait for the web server's answer
    verbose : bool = False
        add ``worker_records``: a record of every worker, as :py:func:`busy_workers` returns them
    min_workers : int = 1
        how many workers must be ready, so that ``ready`` is ``True``
    keywords
        other keywords that name the server (such as ``stats``) or set limits: see the top of this module

    Returns a mapping. With ``server='*'``, returns one mapping for each server, by its name:

    server
        the server's name in pillar; ``None`` if pillar does not declare the server
    web_server
        ``uwsgi`` or ``gunicorn``
    running
        ``True`` if the master lives, or workers that outlived it. ``None`` if this cannot be told; ``problems`` says
        why
    accepting
        ``True`` if a worker accepts requests (uWSGI's ``accepting``); ``None`` if this cannot be told
    ready
        ``True`` if at least ``min_workers`` workers are ready. Each gunicorn must also have a ready worker, and must
        have answered ``GET /api/version``. ``None`` if this cannot be told
    ready_workers
        how many workers accept requests and have loaded the application; ``None`` if this cannot be told
    pid, uptime, version
        PID of the master, seconds since it was started, version of uWSGI. If there are several masters: the first PID
        and the longest uptime. ``None`` if Galaxy is down; ``version`` is also ``None`` for gunicorn
    galaxy_version
        ``running`` (what Galaxy answers) and ``on_disk`` (in Gravity's ``galaxy_root`` or ``virtualenv``); ``None`` if
        unknown, and for uWSGI
    workers
        ``total``, and how many are ``not_accepting``, ``idle``, ``busy`` (some core has a request), ``saturated`` (all
        cores have one), ``cheap``, ``paused`` and ``stuck`` (the event loop does not run)
    oldest_request
        seconds that the oldest request under way has taken; ``None`` if there is no request, or if this cannot be told
    listen_queue
        connections that wait: ``length`` (now), ``max`` (``None`` until uWSGI tells it, and for uWSGI's unix sockets)
        and ``errors`` (``None`` for gunicorn). The whole is ``None`` if Galaxy is down
    manager
        ``name``, ``service``, ``state`` (running, starting, stopping, stopped, retrying, failed or unknown), ``term``
        (the state in the process manager's own words) and ``active`` (a process of the service runs, or the process
        manager will start it by itself). If there are several gunicorns, this is about the one in the worst state.
        ``None`` if no process manager has Galaxy
    services
        each service by its name (``gunicorn``, ``celery``, ``handler_0``, …; for uWSGI ``uwsgi``): ``role`` (web,
        reports, celery, celery-beat, handler, tusd or gx-it-proxy), ``state`` (as in ``manager``), ``pids`` (of the
        main process) and ``restarts`` (how often the process manager started the service again by itself; ``None`` if
        it does not count)
    config, sockets, stats
        path of the configuration, addresses of the sockets for requests, address of the stats server; ``None`` or empty
        if unknown
    problems
        a list of sentences; empty if all is well

    Raises ``CommandExecutionError`` if no server is named, or if pillar is wrong.

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
    List the workers that are not free, and say why.

    config : str
        path of the configuration file of Galaxy, Gravity or uWSGI; by default the one in pillar
    server : str
        name of the server in pillar; ``'*'`` asks all servers
    timeout : float = 5
        seconds to wait for the web server's answer
    state : str or list
        only workers in this state, or in one of these states: ``not_accepting``, ``busy``, ``saturated``, ``paused``,
        ``stuck``, ``idle`` or ``cheap``. By default all but ``idle`` and ``cheap``
    pids_only : bool = False
        return only the PIDs of the workers
    keywords
        other keywords that name the server (such as ``stats``) or set limits: see the top of this module

    Returns a list; it is empty if all workers are free. With ``server='*'``, returns a list for each server, by its
    name; for a server that cannot be asked, a text says why.

    Each worker is a record of ``id, pid, state, reason, accepting, ready, in_flight`` (requests under way),
    ``oldest_request`` (seconds that the oldest of these requests has taken) and ``requests``. A value that cannot be
    told is ``None``.

    A worker of gunicorn also has ``heartbeat_age`` (seconds since its last heartbeat; ``None`` before the first) and
    ``pss`` (bytes of memory).

    A worker of uWSGI also has ``apps, cores, busy_cores, signal, exceptions, harakiri_count, respawn_count,
    last_spawn`` (epoch seconds), ``rss, vsz`` (bytes; 0 without ``memory-report``), ``avg_rt, running_time``
    (microseconds), ``tx`` (bytes) and ``in_request``: for each busy core ``core, method, uri`` (without its query),
    ``remote_addr, seconds``.

    Raises ``CommandExecutionError`` if the web server cannot be asked.

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
    Tell whether at least one worker accepts requests (uWSGI's ``accepting``).

    config : str
        path of the configuration file of Galaxy, Gravity or uWSGI; by default the one in pillar
    server : str
        name of the server in pillar; not needed if there is only one Galaxy
    timeout : float = 5
        seconds to wait for the web server's answer
    keywords
        other keywords that name the server (such as ``stats``) or set limits: see the top of this module

    Returns ``True`` or ``False``.

    Raises ``CommandExecutionError`` if the web server cannot be asked.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.accepting
    """
    galaxy, _ = _galaxy(config=config, server=server, **keywords)
    return any(snapshot.accepting for snapshot in galaxy.snapshots(arguments.seconds("timeout", timeout)))


def stats(config=None, server=None, timeout=_LOOK, **keywords):
    """
    Read the document of the stats server, in uWSGI's own form.

    config : str
        path of the configuration file of Galaxy, Gravity or uWSGI; by default the one in pillar
    server : str
        name of the server in pillar; not needed if there is only one Galaxy
    timeout : float = 5
        seconds to wait for the stats server's answer
    keywords
        other keywords that name the server (such as ``stats``) or set limits: see the top of this module

    Returns the document as a mapping. Of a request's variables it has only method, path, protocol and remote address.
    The others are left out, because they hold cookies, authorization headers and query strings.

    Raises ``CommandExecutionError`` if the stats server cannot be read.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.stats stats=127.0.0.1:9191
    """
    galaxy, _ = _galaxy(config=config, server=server, **keywords)
    return galaxy.read_stats(arguments.seconds("timeout", timeout)).redacted()


def master_pid(config=None, server=None, timeout=_LOOK, **keywords):
    """
    Tell the PID of the web server's master, of uWSGI or gunicorn.

    config : str
        path of the configuration file of Galaxy, Gravity or uWSGI; by default the one in pillar
    server : str
        name of the server in pillar; not needed if there is only one Galaxy
    timeout : float = 5
        seconds to wait for the stats server's answer. If there is no answer, the function looks for the process that
        listens on the socket
    keywords
        other keywords that name the server (such as ``stats``) or set limits: see the top of this module

    Returns one PID, never that of a worker, a router or a client. Returns ``None`` only if it is certain that Galaxy
    does not run.

    Raises ``CommandExecutionError``, with the reason, if the master cannot be told, if another program holds the
    socket, if only workers without a master hold it, and if there are several masters. If a Galaxy has several
    gunicorns, ``galaxy.status`` names each.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.master_pid socket=127.0.0.1:4001
    """
    galaxy, _ = _galaxy(config=config, server=server, **keywords)
    master = galaxy.require_master(arguments.seconds("timeout", timeout))
    return master.pid if master else None


def sockets(config=None, server=None, **keywords):
    """
    List the addresses on which Galaxy listens.

    config : str
        path of the configuration file of Galaxy, Gravity or uWSGI; by default the one in pillar
    server : str
        name of the server in pillar; not needed if there is only one Galaxy
    keywords
        other keywords that name the server (such as ``stats``) or set limits: see the top of this module

    Returns a list of ``{"address": …, "option": …, "source": …}``. ``option`` is the option of uWSGI (``socket``,
    ``http``, …, ``stats``). ``source`` is ``file:line``, or the command line, or ``given`` for an address from an
    argument or pillar.

    Raises ``CommandExecutionError`` if the configuration cannot be read.

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
    Show the options in effect. The configuration is read by uWSGI's own rules. Command line, environment and working
    directory count too: those of the live master, or, if no master runs, those in the process manager's definition.

    config : str
        path of the configuration file of Galaxy, Gravity or uWSGI; by default the one in pillar
    server : str
        name of the server in pillar; not needed if there is only one Galaxy
    keywords
        other keywords that name the server (such as ``stats``) or set limits: see the top of this module

    Returns a mapping: ``path``; the lists ``sockets``, ``master_fifo`` and ``logs``; ``stats``, ``processes``,
    ``threads``, ``mules``, ``master``, ``need_app``, ``die_on_term``, ``no_server`` and ``pidfile``. Each option is
    ``{"value": …, "option": …, "source": …}``, where ``source`` is ``file:line``, or whose command line it is, or
    ``uWSGI default``. An option that is not set is ``None``.

    ``unusable`` lists options that cannot be used. ``doubts`` lists options that one build of uWSGI reads and another
    does not. In both lists, ``value`` is a sentence that says why.

    Raises ``CommandExecutionError``, with file and line, if the configuration cannot be read.

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
    List the Galaxy servers that pillar declares.

    Returns a list of names: ``galaxy`` for the server that ``galaxy:`` itself describes, and the names in
    ``galaxy:servers``.

    Raises ``CommandExecutionError`` if pillar is wrong.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.servers
    """
    settings_ = _settings()
    settings_.require_sound()
    return settings_.names


def settings(server=None, values_only=False):
    """
    Show the settings in effect below ``galaxy:``, and all that is wrong with them.

    server : str
        name of a server in pillar: show only the settings of this server
    values_only : bool = False
        return only the values, in the shape that the formula uses

    Returns a mapping:

    servers
        by name: each setting with ``value`` and ``source`` (``minion configuration``, ``grains``, ``pillar`` or
        ``default``). The setting ``storage:device`` is the key ``device`` in the section ``storage``
    machine
        the same for ``onedata``, ``boot`` and ``monitoring``
    problems
        a list of sentences

    Secrets are shown as asterisks.

    Raises ``SaltInvocationError`` if pillar does not declare ``server``.

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
    Show the commands that start and stop Galaxy on this machine, for a person to type. The function runs none of them.

    config : str
        path of the configuration file of Galaxy, Gravity or uWSGI; by default the one in pillar
    server : str
        name of the server in pillar; not needed if there is only one Galaxy
    keywords
        other keywords that name the server (such as ``stats``) or set limits: see the top of this module

    Returns a mapping for the web server: ``manager``, ``service``, and the commands ``start``, ``stop``, ``restart``,
    ``status`` and ``startup`` (which starts the process manager itself), each as a list of words. ``services`` has the
    same mapping for each service, by its name.

    Raises ``CommandExecutionError`` if no process manager has Galaxy.

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
    # reversed: the web server is started last, and is shown first
    return {**shown[look.webs[0].service.name], "services": shown}


def wait(config=None, server=None, timeout=None, test=False, **keywords):
    """
    Wait until Galaxy is ready.

    config : str
        path of the configuration file of Galaxy, Gravity or uWSGI; by default the one in pillar
    server : str
        name of the server in pillar; ``'*'`` waits for all servers, one after the other
    timeout : float = 300
        seconds to wait at most
    test : bool = False
        do not wait; but raise an error if waiting cannot help
    min_workers : int = 1
        how many workers must accept requests and have loaded the application; 0 waits only for the stats server
    keywords
        other keywords that name the server (such as ``stats``) or set limits: see the top of this module

    Returns ``{"ready": True, "pid": …, "accepting": …, "seconds": …}``. With ``server='*'``, returns one such mapping
    for each server, by its name.

    Raises ``CommandExecutionError``, with the reason and the last lines of the log: after ``timeout`` seconds, or at
    once if the master dies or the process manager says that the service failed.

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
    Start Galaxy through its process manager, and wait until Galaxy is ready.

    Under Gravity this starts all services: job handlers and Celery before the web server.

    config : str
        path of the configuration file of Galaxy, Gravity or uWSGI; by default the one in pillar
    server : str
        name of the server in pillar; not needed if there is only one Galaxy
    timeout : float = 300
        seconds to wait at most; this includes the wait for another start or stop
    test : bool = False
        only say whether Galaxy would be started; raise an error if something prevents a start
    min_workers : int = 1
        how many workers must be ready
    companions : str = require
        with ``ignore``, the start succeeds even if a service beside the web server fails (Celery, a job handler, …)
    keywords
        other keywords that name the server (such as ``stats``) or set limits: see the top of this module

    Returns ``{"changed": …, "manager": …, "service": …, "ready": True, "pid": …, "accepting": …, "seconds": …}``.
    ``changed`` is ``False`` if Galaxy was ready already.

    Raises ``CommandExecutionError`` like :py:func:`wait`, and also if no process manager has Galaxy, or if Galaxy was
    not started by its process manager.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.start
    """
    arguments.flag("test", test)
    with _told("galaxy.start"):
        return galaxy_control.start(*_galaxy(config=config, server=server, timeout=timeout, **keywords), test=test)


def stop(config=None, server=None, timeout=_STOP, pid=None, test=False, **keywords):
    """
    Stop Galaxy through its process manager, and end the workers that outlive this.

    Under Gravity this stops all services, the web server first. It also ends workers of gunicorn that outlived a killed
    master. Only the master in question and the processes that it started get a signal, and each only while it is still
    the same process.

    config : str
        path of the configuration file of Galaxy, Gravity or uWSGI; by default the one in pillar
    server : str
        name of the server in pillar; not needed if there is only one Galaxy
    timeout : float = 10
        seconds that processes have to end after the process manager's stop, and again after SIGTERM, before SIGKILL.
        The function waits as long for another start or stop of this server
    pid : int
        with ``force``: PID of the master to end, although it runs with another configuration or as another user than
        this Galaxy's. The configuration's addresses must lead to this master
    test : bool = False
        only say whether Galaxy would be stopped; raise an error if something prevents a stop
    force : bool = False
        end the master too, by SIGINT and then SIGKILL, if it outlives the process manager's stop or if no process
        manager has it
    keywords
        other keywords that name the server (such as ``stats``) or set limits: see the top of this module

    Returns ``{"changed": …, "manager": …, "service": …, "stopped": [PID, …], "signals": [{"pid": …, "signal": …}, …],
    "problems": […]}``; with ``test``, only the first three. ``changed`` is ``False`` if nothing ran. ``problems`` says
    if another master goes on serving the sockets.

    Raises ``CommandExecutionError`` if ``force`` is not given and the master outlives the stop, or no process manager
    has it.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.stop force=True
    """
    arguments.flag("test", test)
    galaxy, limits = _galaxy(config=config, server=server, **keywords)
    if pid is not None:
        if not limits.force:
            raise SaltInvocationError(
                "pid needs force=True, because it names a master that is not proven to be this Galaxy's"
            )
        galaxy.believe(arguments.count("pid", pid))
    seconds = arguments.seconds("timeout", timeout)
    with _told("galaxy.stop"):
        return galaxy_control.stop(galaxy, seconds, limits.force, test=test)


def restart(config=None, server=None, timeout=None, rolling=False, test=False, **keywords):
    """
    Stop Galaxy like :py:func:`stop`, and start it like :py:func:`start`. No other start or stop can come between the
    two.

    config : str
        path of the configuration file of Galaxy, Gravity or uWSGI; by default the one in pillar
    server : str
        name of the server in pillar; not needed if there is only one Galaxy
    timeout : float = 300
        seconds to wait at most until Galaxy is ready again
    rolling : bool = False
        restart the gunicorns of a Galaxy one at a time, and then the services beside them, except tusd. First, all
        gunicorns are looked at: one that is down is started; if one runs but is not ready, nothing is touched. Each
        gunicorn must become ready, and stay ready for ``settle`` seconds, before the next is touched. If one does not,
        the restart stops there. If Galaxy has only one gunicorn, or uWSGI, this is refused without ``force``
    test : bool = False
        do nothing; raise an error if something prevents the restart
    settle : float = 11
        seconds; should be longer than ``fail_timeout`` of the proxy
    min_workers : int = 1
        how many workers must be ready
    force : bool = False
        as for :py:func:`stop`
    check : bool = False
        under Gravity, first load Galaxy's application on trial, as Galaxy's user. If this fails, nothing is touched
    keywords
        other keywords that name the server (such as ``stats``) or set limits: see the top of this module

    Returns ``{"stop": …, "start": …}``; with ``rolling``, what :py:func:`reload` returns; with ``test``, ``{}``.

    Raises ``CommandExecutionError`` like :py:func:`stop` and :py:func:`start`, and also if ``check`` or ``rolling``
    find a reason not to restart.

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
    Start Galaxy for the first time, as after a boot: start the process manager if needed, start Galaxy, and wait until
    Galaxy is ready.

    config : str
        path of the configuration file of Galaxy, Gravity or uWSGI; by default the one in pillar
    server : str
        name of the server in pillar; not needed if there is only one Galaxy
    timeout : float = 300
        seconds for each try
    test : bool = False
        only say whether Galaxy would be started; raise an error if something prevents a start
    min_workers : int = 1
        how many workers must be ready
    retries : int = 5
        if Galaxy does not become ready: how often to stop it and start it again. A Galaxy whose master lives, but which
        cannot be asked, is never stopped
    keywords
        other keywords that name the server (such as ``stats``) or set limits: see the top of this module

    Returns what :py:func:`start` returns, and ``tries``.

    Raises ``CommandExecutionError`` with the reason of the last try and the last lines of the log.

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

    uWSGI is told through its master FIFO if an option in effect names one, else by SIGHUP to the master. Several
    gunicorns are restarted one at a time, as :py:func:`restart` does with ``rolling``.

    config : str
        path of the configuration file of Galaxy, Gravity or uWSGI; by default the one in pillar
    server : str
        name of the server in pillar; not needed if there is only one Galaxy
    timeout : float = 300
        seconds to wait at most until the new workers are ready
    test : bool = False
        do nothing; raise an error if something prevents the reload
    min_workers : int = 1
        how many workers must be ready
    force : bool = False
        reload a Galaxy with only one gunicorn too, although it then does not serve for a time. With preload this is a
        restart. Without preload no worker accepts requests until the new ones have loaded the application; if the code
        is broken, Galaxy goes down
    check : bool = False
        as for :py:func:`restart`
    keywords
        other keywords that name the server (such as ``stats``) or set limits: see the top of this module

    Returns ``{"changed": True, "method": …, "ready": True, "pid": …, "accepting": …, "seconds": …}``, where ``method``
    is ``master-fifo``, ``SIGHUP``, ``rolling`` or ``restart``; with ``test``, returns ``{}``.

    Raises ``CommandExecutionError`` if Galaxy does not run, or if the new workers do not become ready.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.reload
    """
    arguments.flag("test", test)
    with _told("galaxy.reload"):
        return galaxy_reload.reload(*_galaxy(config=config, server=server, timeout=timeout, **keywords), test=test)


def define(server=None, absent=False, test=False):
    """
    Write the definition of a server for its process manager, from ``manage_service`` and its keys in pillar: systemd's
    unit and its file of variables, or supervisord's program file.

    server : str
        name of the server in pillar
    absent : bool = False
        remove the definition instead; a running Galaxy is not stopped
    test : bool = False
        only say what would be written or removed

    Returns a mapping of each file that was (or would be) changed to its ``diff`` and ``mode``. For a file that may hold
    a secret, ``diff`` only says that it changed. The mapping is empty if all files are right.

    Raises ``CommandExecutionError`` if pillar is wrong, if the server has no ``manage_service``, if Gravity runs the
    server, or if a file cannot be written.

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
    Tell how Galaxy is, in one line of text.

    config : str
        path of the configuration file of Galaxy, Gravity or uWSGI; by default the one in pillar
    server : str
        name of the server in pillar; ``'*'`` asks all servers
    timeout : float = 5
        seconds to wait for the web server's answer
    keywords
        other keywords that name the server (such as ``stats``) or set limits: see the top of this module

    Returns a line with the state (``ready``, ``degraded``, ``not ready``, ``down`` or ``unknown``), numbers, and the
    first problem. With ``server='*'``, returns one line for each server, by its name.

    Raises ``CommandExecutionError`` like :py:func:`status`.

    CLI Example:

    .. code-block:: bash

        salt '*' galaxy.summary
    """
    returned = status(config=config, server=server, timeout=timeout, **keywords)
    lines = {row["server"]: galaxy_fleet_table.line(row) for row in galaxy_fleet.rows(__opts__["id"], returned)}
    return lines if server == galaxy_spec.ALL else next(iter(lines.values()))


def check(config=None, server=None, timeout=_LOOK, **keywords):
    """
    Return the line and the exit code of a monitoring plugin, for Nagios, Icinga and Checkmk (docs/monitoring.md).

    config : str
        path of the configuration file of Galaxy, Gravity or uWSGI; by default the one in pillar
    server : str
        name of the server in pillar; by default all servers in pillar
    timeout : float = 5
        seconds to wait for the answer of each web server
    keywords
        other keywords that name the server (such as ``stats``) or set limits: see the top of this module

    Returns one line of text: ``GALAXY OK``, ``WARNING``, ``CRITICAL`` or ``UNKNOWN``, what is wrong, and the numbers
    after ``|``. The return code is 0 if all servers are ready, 1 if one is degraded, 2 if one is down or not ready, 3
    if this cannot be told. Nothing is raised.

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
    Tell how Galaxy is, in the text format of OpenMetrics (docs/monitoring.md).

    config : str
        path of the configuration file of Galaxy, Gravity or uWSGI; by default the one in pillar
    server : str
        name of the server in pillar; by default all servers in pillar
    timeout : float = 5
        seconds to wait for the answer of each web server
    path : str
        write the text to this file, for the textfile collector of node_exporter. The file is replaced in one step
    keywords
        other keywords that name the server (such as ``stats``) or set limits: see the top of this module

    Returns the text; with ``path``, returns the path.

    Raises ``CommandExecutionError`` if pillar is wrong, or if the file cannot be written.

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
    Bring the files that Gravity wrote for its process manager up to date with Gravity's configuration. ``galaxyctl
    update`` does the same. But this function does not stop what runs, and never touches units of another Galaxy.

    Gravity itself makes the files, as Galaxy's user. Root checks each line before it writes the file.

    config : str
        path of the configuration file of Galaxy, Gravity or uWSGI; by default the one in pillar
    server : str
        name of the server in pillar; not needed if there is only one Galaxy
    timeout : float = 300
        seconds to wait for another start or stop; if something was stopped, also seconds until Galaxy is ready again
    test : bool = False
        change nothing
    force : bool = False
        do it even if a running service must be stopped or restarted for it, or if a second configuration file has the
        same data. The configured services are started afterwards
    keywords
        other keywords that name the server (such as ``stats``) or set limits: see the top of this module

    Returns a mapping:

    changed
        whether files were changed, or would be
    added, rewritten, removed
        paths of these files
    stopped
        units or programs that were stopped or restarted, or would be
    diff
        a unified diff; it does not show values of environment variables
    refused
        with ``test``: why a run would be refused, as a list of sentences. ``force`` overrides some of these reasons
    problems
        a list of sentences
    start
        what :py:func:`start` returns; only if something was stopped

    Raises ``CommandExecutionError``, with the reason, if the update is refused, if Gravity does not run this Galaxy, or
    if Gravity does not accept the configuration.

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
            # the new units must wait for Galaxy's data too
            galaxy_gravity_hold.hold(found.instance, None)
        # what was forced is in "stopped"
        answer = {**plan.record(limits.force), "problems": list(plan.problems)}
        return {**answer, "start": galaxy_control.start(galaxy, limits)} if plan.stops else answer


def hold(config=None, server=None, mounts=(), absent=False, test=False, **keywords):
    """
    Make sure that no service of a Galaxy under Gravity starts before its data is mounted, at boot or by hand. The
    function writes a drop-in ``salt-galaxy.conf`` beside each unit of Galaxy. If Gravity uses supervisord, it writes
    the drop-in beside the units of systemd that start this supervisord.

    config : str
        path of the configuration file of Galaxy, Gravity or uWSGI; by default the one in pillar
    server : str
        name of the server in pillar; not needed if there is only one Galaxy
    mounts : list = []
        directories on which a filesystem must be mounted. The mount points of the Onedata spaces in pillar are added
    absent : bool = False
        remove the drop-ins instead
    test : bool = False
        only say what would be written or removed
    keywords
        other keywords that name the server (such as ``stats``) or set limits: see the top of this module

    Returns a mapping of each file that was (or would be) changed to its ``diff`` and ``mode``. It is empty if all files
    are right, or if Gravity does not run this Galaxy.

    Raises ``CommandExecutionError`` if the units belong to a user's own systemd, or if a file cannot be written.

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
    Tell whether Celery's workers reply, and whether Galaxy's web workers and job handlers give signs of life. No
    process manager knows this. Galaxy's own Python asks, as Galaxy's user and with Galaxy's own configuration.

    This costs about 10 s of CPU time. So call it on demand, not in a beacon.

    config : str
        path of the configuration file of Galaxy, Gravity or uWSGI; by default the one in pillar
    server : str
        name of the server in pillar; ``'*'`` asks all servers
    timeout : float = 120
        seconds to wait at most
    keywords
        other keywords that name the server (such as ``stats``) or set limits: see the top of this module

    Returns a mapping:

    healthy
        ``False`` if something is wrong; ``None`` if not all could be asked: ``problems`` says why
    celery
        each Celery worker that replied, by its name, with ``pong``
    processes
        each process of Galaxy on this machine, by Galaxy's name of it: ``pid``, ``age`` (seconds since its last sign of
        life, which comes each minute) and ``app_type`` (``webapp``; ``None`` for a job handler)
    seconds
        how long this call took
    problems
        a list of sentences

    Raises ``CommandExecutionError`` if Gravity does not run this Galaxy, or if its Python cannot be trusted.

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
    """The result of :py:func:`status` for the named server, or for all, by name; a text if a server cannot tell."""
    seconds = arguments.seconds("timeout", timeout)
    is_named = config or server or any(keywords.get(name) for name in ("stats", "socket"))

    def answer(galaxy, limits):
        return galaxy_status.read(galaxy, limits, seconds)

    server = server if is_named else galaxy_spec.ALL
    found = _each(answer, tolerant=True, config=config, server=server, **keywords)
    return found if server == galaxy_spec.ALL else {found["server"] or "galaxy": found}


def _mount_points(found):
    """Mount points of all volumes and Onedata spaces of the machine."""
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
    """``answer(galaxy, limits)`` for the named server; for ``*``, for all servers by name."""
    if given.get("server") != galaxy_spec.ALL:
        return answer(*_galaxy(**given))
    answers, failures = {}, []
    for name, (spec, limits) in galaxy_spec.resolve_all({**given, "server": None}, _settings()).items():
        try:
            answers[name] = answer(Galaxy(spec, __salt__), limits)
        except CommandExecutionError as exc:
            # the other servers are still asked
            answers[name] = str(exc)
            failures.append(f"{name}: {exc}")
    if failures and not tolerant:
        raise CommandExecutionError("\n".join(failures), info=answers)
    return answers


def _told(step):
    """Tell the caller what is waited for."""
    return galaxy_host_progress.told(step, __opts__, __salt__)


def _states(state):
    if state is None:
        # all workers that are not free
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
    """What Gravity is asked to run. Raises ``CommandExecutionError`` if Gravity does not run this Galaxy."""
    if not galaxy.instance:
        raise CommandExecutionError(
            f"{galaxy.spec}: Gravity does not run this Galaxy: its configuration has no gravity: section"
        )
    return galaxy.instance
