"""
Declare how a Galaxy server shall be
====================================

.. code-block:: yaml

    galaxy:
      galaxy.running:
        - config: /srv/galaxy/config/galaxy.yml
        - min_workers: 2
        - watch:
          - file: /srv/galaxy/config/galaxy.yml

``running``, ``ready``, ``dead``, ``restarted``, ``updated``, ``held`` and ``released`` take the keywords of the
execution module (``server, config, stats, socket, manager, service, conf_file``, …). If a keyword is not given, its
value comes from ``galaxy:`` in minion configuration, grains or pillar. While pillar is wrong, a state that takes
settings from it fails, and its comment lists all that is wrong.
"""

from salt.exceptions import CommandExecutionError

TYPE_CHECKING = False

import galaxy_host_later

galaxy_host_later.drop_outdated()

import galaxy_host_arguments as arguments
import galaxy_host_count
import galaxy_host_returns as returns
from galaxy_errors import ManagerError
from galaxy_host_later import Later

if TYPE_CHECKING:
    import galaxy_boot
    import galaxy_host_directory
else:
    galaxy_boot = Later("galaxy_boot")
    galaxy_host_directory = Later("galaxy_host_directory")

__virtualname__ = "galaxy"

if TYPE_CHECKING:
    __salt__: dict
    __opts__: dict
    __running__: dict

_STOP = 10


def __virtual__():
    if "galaxy.status" not in __salt__:
        return False, "galaxy: the galaxy execution module is not loaded: it is for Linux; run saltutil.sync_all"
    return __virtualname__


def settings(name, digest=None):
    """
    Pillar is right below ``galaxy:``. The formula has this state first. If this state fails, the formula does nothing.

    name : str
        any text
    digest : str
        digest of the settings with which the formula was rendered (``galaxy.settings values_only=True``). The state
        fails if pillar has other settings, because the formula's states were then made for another pillar

    ``changes`` is always empty; ``comment`` lists every fault.

    .. code-block:: yaml

        galaxy's pillar:
          galaxy.settings: []
    """
    try:
        found = __salt__["galaxy.settings"](values_only=True)
    except returns.ERRORS as exc:
        return returns.failed(name, exc)
    if found["problems"]:
        return returns.failed(name, "\n".join(["Nothing is done while pillar is wrong:", *found["problems"]]))
    if digest not in (None, found["digest"]):
        return returns.failed(
            name,
            "The formula was rendered without this machine's pillar, as salt-ssh does. So nothing is done. Apply "
            "the formula through a minion or salt-call, or use the tree's states one by one",
        )
    return returns.same(name, "Pillar is right.")


def defined(name, server=None):
    """
    The process manager has the definition that pillar describes (``manage_service`` and its keys): systemd's unit and
    its file of variables, or supervisord's program file.

    name : str
        any text
    server : str
        name of the server in pillar

    ``changes`` has each file with ``diff`` and ``mode``. For a file that may hold a secret, ``diff`` only says that it
    changed.

    .. code-block:: yaml

        galaxy's unit:
          galaxy.defined:
            - server: main
    """
    try:
        changes = __salt__["galaxy.define"](server=server, test=__opts__["test"])
        if not changes:
            return returns.same(name, "The definition is as declared.")
        if __opts__["test"]:
            return returns.would(name, "The definition would be written.", changes)
        left = __salt__["galaxy.define"](server=server, test=True)
        if left:
            return returns.failed(
                name, f"The definition was written, but these files are wrong again: {', '.join(left)}", changes
            )
        return returns.changed(name, "The definition was written.", changes)
    except returns.ERRORS as exc:
        return returns.failed(name, exc)


def undefined(name, server=None):
    """
    The process manager does not have the definition that ``galaxy.defined`` writes. A running Galaxy is not stopped.

    name : str
        any text
    server : str
        name of the server in pillar

    ``changes`` has each file that was removed.

    .. code-block:: yaml

        no unit of ours:
          galaxy.undefined:
            - server: main
    """
    try:
        changes = __salt__["galaxy.define"](server=server, absent=True, test=__opts__["test"])
    except returns.ERRORS as exc:
        return returns.failed(name, exc)
    if not changes:
        return returns.same(name, "There is no definition.")
    if __opts__["test"]:
        return returns.would(name, "The definition would be removed.", changes)
    return returns.changed(name, "The definition was removed.", changes)


def directory(name, user, group, mode="0755"):
    """
    There is a directory with this owner and mode. If a user other than its owner and root could put something else in
    its place, the state fails. A link that such a user could have made is never followed.

    name : str
        absolute path of the directory; missing directories above it are made too
    user : str
        its owner, by name or number
    group : str
        its group, by name or number
    mode : str = 0755
        its mode, as octal digits in quotes

    ``changes`` has ``directory`` for a new directory; for an existing one ``user``, ``group`` and ``mode`` with ``old``
    and ``new``.

    .. code-block:: yaml

        /export/database:
          galaxy.directory:
            - user: galaxy
            - group: galaxy
    """
    try:
        changes = galaxy_host_directory.difference(name, user, group, mode)
        if not changes:
            return returns.same(name, "The directory is as declared.")
        if __opts__["test"]:
            return returns.would(name, "The directory would be made or changed.", changes)
        galaxy_host_directory.ensure(name, user, group, mode)
        left = galaxy_host_directory.difference(name, user, group, mode)
    except returns.ERRORS as exc:
        return returns.failed(name, exc)
    if left:
        return returns.failed(
            name, f"The directory was made or changed, but this is wrong again: {', '.join(left)}", changes
        )
    return returns.changed(name, "The directory was made or changed.", changes)


def running(name, config=None, server=None, reload=False, mounts=(), **keywords):
    """
    Galaxy runs under its process manager, and at least ``min_workers`` workers are ready.

    name : str
        any text
    config : str
        path of the configuration file of Galaxy, Gravity or uWSGI; by default the one in pillar
    server : str
        name of the server in pillar; not needed if there is only one Galaxy
    reload : bool = False
        after a change in a watched state, reload a ready Galaxy gracefully instead of restarting it
    mounts : list = []
        directories with Galaxy's data. If no filesystem is mounted on one of them, Galaxy is not started
    timeout : float = 300
        seconds for each try
    retries : int = 5
        if Galaxy does not become ready: how often to stop it and start it again
    min_workers : int = 1
        how many workers must accept requests and have loaded the application
    force : bool = False
        a restart may end a master that outlives the process manager's stop (see ``galaxy.stop``)
    keywords
        other keywords that name the server (such as ``stats``) or set limits: see the top of the execution module

    ``changes`` has ``galaxy`` with ``old`` and ``new``: ``ready``. After a change in a watched state it is
    ``restarted`` or ``reloaded`` instead.

    .. code-block:: yaml

        galaxy:
          galaxy.running:
            - config: /srv/galaxy/config/galaxy.yml
            - min_workers: 2
            - watch:
              - file: /srv/galaxy/config/galaxy.yml
    """
    meant = _meant(config, server, keywords)
    try:
        missing = _unmounted(mounts)
        change = {"galaxy": {"old": {"ready": _status(meant)["ready"]}, "new": {"ready": True}}}
        if missing:
            # the other facts can only be asked for when a state above has mounted the data
            return returns.would(
                name, f"Galaxy would be started after a filesystem is mounted on {', '.join(missing)}.", change
            )
        try:
            done = __salt__["galaxy.startup"](**meant, test=__opts__["test"])
        except ManagerError:
            if not (__opts__["test"] and _is_to_be_defined()):
                raise
            done = {"changed": True}
        if not done["changed"]:
            return returns.same(name, f"Galaxy is ready: {_accepting(done['accepting'])}.")
        if __opts__["test"]:
            return returns.would(name, "Galaxy would be started.", change)
        return _verify(name, meant, change, "Galaxy was started")
    except returns.ERRORS as exc:
        return returns.failed(name, exc)


def ready(name, config=None, server=None, **keywords):
    """
    At least ``min_workers`` workers are ready. The state waits for this, and starts nothing.

    name : str
        any text
    config : str
        path of the configuration file of Galaxy, Gravity or uWSGI; by default the one in pillar
    server : str
        name of the server in pillar; not needed if there is only one Galaxy
    timeout : float = 300
        seconds to wait at most
    min_workers : int = 1
        how many workers must accept requests and have loaded the application
    keywords
        other keywords that name the server (such as ``stats``) or set limits: see the top of the execution module

    ``changes`` is always empty.

    .. code-block:: yaml

        galaxy serves:
          galaxy.ready:
            - server: main
            - timeout: 600
    """
    meant = _meant(config, server, keywords)
    try:
        now = _status(meant)
        if now["ready"]:
            return returns.same(name, f"Galaxy is ready: {_accepting(now['ready_workers'])}.")
        if __opts__["test"]:
            __salt__["galaxy.wait"](**meant, test=True)
            return returns.would(name, f"Galaxy is not ready; a run would wait for it. {' '.join(now['problems'])}", {})
        found = __salt__["galaxy.wait"](**meant)
        return returns.same(name, f"Galaxy is ready after {found['seconds']} s: {_accepting(found['accepting'])}.")
    except returns.ERRORS as exc:
        return returns.failed(name, exc)


def dead(name, config=None, server=None, timeout=_STOP, **keywords):
    """
    Galaxy does not run: its service is stopped, and none of its processes is left. If this cannot be told, the state
    fails.

    name : str
        any text
    config : str
        path of the configuration file of Galaxy, Gravity or uWSGI; by default the one in pillar
    server : str
        name of the server in pillar; not needed if there is only one Galaxy
    timeout : float = 10
        seconds that processes have to end after the process manager's stop; workers have as long again after SIGTERM,
        before SIGKILL
    force : bool = False
        end the master too, if it outlives this or if no process manager has it
    keywords
        other keywords that name the server (such as ``stats``) or set limits: see the top of the execution module

    ``changes`` has ``galaxy`` with ``old`` and ``new``: ``running``. If Galaxy did not run, but its process manager had
    a process of the service or would have started it again, it is ``active`` instead.

    .. code-block:: yaml

        galaxy is down for the upgrade:
          galaxy.dead:
            - timeout: 60
    """
    meant = _meant(config, server, keywords)
    try:
        arguments.seconds("timeout", timeout)
        before = _status(meant)
        if _is_down(before):
            return returns.same(name, "Galaxy is stopped.")
        if before["running"] is None and not _is_active(before):
            return returns.failed(name, f"It cannot be told whether Galaxy runs: {' '.join(before['problems'])}")
        done = __salt__["galaxy.stop"](**meant, timeout=timeout, test=__opts__["test"])
        change = {"galaxy": _stop_change(before)} if done["changed"] else {}
        if __opts__["test"]:
            return returns.would(name, "Galaxy would be stopped.", change)
        after = _status(meant)
        if not _is_down(after):
            return returns.failed(name, " ".join(["Galaxy was stopped, but is not down:", *after["problems"]]))
        return returns.changed(name, "Galaxy was stopped.", change)
    except returns.ERRORS as exc:
        return returns.failed(name, exc)


def updated(name, config=None, server=None, mounts=(), **keywords):
    """
    The files that Gravity wrote for its process manager are up to date with Gravity's configuration. ``galaxyctl
    update`` does the same. But this state does not stop what runs, and never touches units of another Galaxy.

    name : str
        any text
    config : str
        path of the configuration file of Galaxy, Gravity or uWSGI; by default the one in pillar
    server : str
        name of the server in pillar; not needed if there is only one Galaxy
    mounts : list = []
        directories with the configuration or Galaxy itself. If no filesystem is mounted on one of them, nothing is done
    force : bool = False
        do it even if a running service must be stopped or restarted for it. The configured services are started
        afterwards
    keywords
        other keywords that name the server (such as ``stats``) or set limits: see the top of the execution module

    ``changes`` has those of ``added``, ``rewritten`` and ``removed`` (paths), ``stopped`` (units or programs) and
    ``diff`` that are not empty. Most changes of the configuration alter no file; a restart takes them up.

    .. code-block:: yaml

        galaxy's units:
          galaxy.updated:
            - watch:
              - file: /srv/galaxy/config/galaxy.yml
    """
    meant = _meant(config, server, keywords)
    try:
        missing = _unmounted(mounts)
        if missing:
            return returns.would(
                name, f"Gravity's files would be looked at after a filesystem is mounted on {', '.join(missing)}.", {}
            )
        plan = __salt__["galaxy.update"](**meant, test=True)
        changes = {key: plan[key] for key in ("added", "rewritten", "removed", "stopped", "diff") if plan[key]}
        if plan["refused"]:
            return returns.failed(name, f"Gravity's files are not updated: {'; '.join(plan['refused'])}")
        if not plan["changed"]:
            return returns.same(name, " ".join(["Gravity's files are as configured.", *plan["problems"]]))
        if __opts__["test"]:
            return returns.would(name, " ".join(["Gravity's files would be updated.", *plan["problems"]]), changes)
        done = __salt__["galaxy.update"](**meant)
        changes = {key: done[key] for key in changes if done[key]}
        return returns.changed(name, " ".join(["Gravity's files were updated.", *done["problems"]]), changes)
    except returns.ERRORS as exc:
        return returns.failed(name, exc)


def held(name, config=None, server=None, mounts=(), **keywords):
    """
    No service of a Galaxy under Gravity starts before its data is mounted, at boot or by hand (``galaxy.hold``).

    name : str
        any text
    config : str
        path of the configuration file of Galaxy, Gravity or uWSGI; by default the one in pillar
    server : str
        name of the server in pillar; not needed if there is only one Galaxy
    mounts : list = []
        directories on which a filesystem must be mounted. The mount points of the Onedata spaces in pillar are added
    keywords
        other keywords that name the server (such as ``stats``) or set limits: see the top of the execution module

    ``changes`` has each file with ``diff`` and ``mode``. It is empty if Gravity does not run this Galaxy.

    .. code-block:: yaml

        galaxy waits for its data:
          galaxy.held:
            - mounts:
              - /export
    """
    return _held(name, _meant(config, server, keywords), mounts)


def released(name, config=None, server=None, **keywords):
    """
    The drop-ins that ``galaxy.held`` writes are not there. A running Galaxy is not stopped.

    name : str
        any text
    config : str
        path of the configuration file of Galaxy, Gravity or uWSGI; by default the one in pillar
    server : str
        name of the server in pillar; not needed if there is only one Galaxy
    keywords
        other keywords that name the server (such as ``stats``) or set limits: see the top of the execution module

    ``changes`` has each file that was removed.

    .. code-block:: yaml

        galaxy waits for nothing:
          galaxy.released: []
    """
    return _held(name, {**_meant(config, server, keywords), "absent": True})


def restarted(name, config=None, server=None, mounts=(), **keywords):
    """
    Galaxy is restarted, whether it runs or not.

    name : str
        any text
    config : str
        path of the configuration file of Galaxy, Gravity or uWSGI; by default the one in pillar
    server : str
        name of the server in pillar; not needed if there is only one Galaxy
    mounts : list = []
        directories with Galaxy's data. If no filesystem is mounted on one of them, Galaxy is not restarted
    timeout : float
        seconds to wait until Galaxy is ready again
    min_workers : int = 1
        how many workers must be ready
    force : bool = False
        end a master that outlives the process manager's stop
    keywords
        other keywords that name the server (such as ``stats``) or set limits: see the top of the execution module

    ``changes`` is ``{"galaxy": "restarted"}``.

    .. code-block:: yaml

        galaxy is stuck:
          galaxy.restarted:
            - timeout: 600
    """
    return mod_watch(name, sfun="running", config=config, server=server, mounts=mounts, **keywords)


def reported(name):
    """
    The Salt master knows how a boot went. The state sends the event ``galaxy/<minion>/ready``; or, if a state failed,
    the event ``galaxy/<minion>/failed`` with the first ``step`` that failed (the SLS below ``galaxy``), its ``state``
    (ID) and the ``reason``.

    Give this state ``order: last``. Without a master it sends no event.

    name : str
        any text

    ``changes`` is always empty.

    .. code-block:: yaml

        the master knows:
          galaxy.reported:
            - order: last
    """
    data = galaxy_boot.failure(__running__.values())
    tag = f"galaxy/{__opts__['id']}/{'failed' if data else 'ready'}"
    if __opts__["test"]:
        return returns.would(name, f"The event {tag} would be sent.", {})
    sent = __salt__["event.send"](tag, data)
    return returns.same(name, f"The event {tag} was sent." if sent else f"No master got the event {tag}.")


def mod_watch(name, sfun=None, **keywords):
    """
    Restart or reload a running Galaxy, because a watched state changed. For any other state a watch changes nothing.

    name : str
        name of the state
    sfun : str
        function of the state
    keywords
        other arguments of the state

    ``changes`` is as for the state ``sfun``; for ``running`` it has ``galaxy`` with ``restarted`` or ``reloaded``.

    .. note::
        Salt's requisite system calls this function; it is not for direct use.
    """
    # Salt calls this if the state itself changed nothing, even if it failed, and takes this answer instead
    given = _own(keywords)
    return _UNWATCHED[sfun](name, **given) if sfun in _UNWATCHED else _deed(name, **given)


_UNWATCHED = {
    state.__name__: state
    for state in (settings, defined, undefined, directory, ready, dead, updated, held, released, reported)
}


def _deed(name, config=None, server=None, reload=False, mounts=(), **keywords):
    meant = _meant(config, server, keywords)
    try:
        missing = _unmounted(mounts)
        if missing:
            return returns.would(
                name, f"Galaxy would be started after a filesystem is mounted on {', '.join(missing)}.", {}
            )
        deed = "reload" if reload and _status(meant)["ready"] else "restart"
        change = {"galaxy": f"{deed}ed"}
        try:
            __salt__[f"galaxy.{deed}"](**meant, test=__opts__["test"])
        except ManagerError:
            if not (__opts__["test"] and _is_to_be_defined()):
                raise
        if __opts__["test"]:
            return returns.would(name, f"Galaxy would be {deed}ed.", change)
        return _verify(name, meant, change, f"Galaxy was {deed}ed")
    except returns.ERRORS as exc:
        return returns.failed(name, exc)


def _held(name, meant, mounts=()):
    try:
        missing = _unmounted(mounts)
        if missing:
            return returns.would(
                name,
                "The units that start Galaxy would be looked for after a filesystem is mounted on "
                f"{', '.join(missing)}.",
                {},
            )
        paths = arguments.paths("mounts", mounts)
        changes = __salt__["galaxy.hold"](**meant, mounts=paths, test=__opts__["test"])
        if paths and __opts__["test"] and _is_to_be_defined():
            return returns.would(name, "The units that Gravity writes would get drop-ins.", changes)
    except returns.ERRORS as exc:
        return returns.failed(name, exc)
    if not changes:
        return returns.same(name, "The drop-ins are as declared.")
    if __opts__["test"]:
        return returns.would(name, "Drop-ins of systemd's units would be changed.", changes)
    return returns.changed(name, "Drop-ins of systemd's units were changed.", changes)


def _meant(config, server, keywords):
    """The keywords for the execution module, without those that Salt itself hands to a state."""
    return {"config": config, "server": server, **_own(keywords)}


def _own(keywords):
    """The keywords without those that Salt itself hands to a state."""
    # while a state runs, this is loaded already; if the loader only lists the states, it would be slow to load
    from salt.state import STATE_INTERNAL_KEYWORDS

    return {
        key: value for key, value in keywords.items() if key not in STATE_INTERNAL_KEYWORDS and not key.startswith("__")
    }


def _unmounted(mounts):
    """
    The mount points that states above would mount, in test mode. Raises ``CommandExecutionError`` if nothing is mounted
    on another one.
    """
    paths = arguments.paths("mounts", () if mounts is None else mounts)
    missing = [path for path in paths if not __salt__["mount.is_mounted"](path)]
    if missing and not (__opts__["test"] and all(map(_is_to_be_mounted, missing))):
        raise CommandExecutionError(
            f"Galaxy is not started without its data: nothing is mounted on {', '.join(missing)}"
        )
    return missing


def _status(meant):
    if meant.get("timeout") is not None:
        arguments.seconds("timeout", meant["timeout"])
    # timeout has another meaning in galaxy.status
    return __salt__["galaxy.status"](**{key: value for key, value in meant.items() if key != "timeout"})


def _verify(name, meant, change, what):
    after = _status(meant)
    if not after["ready"]:
        return returns.failed(name, f"{what}, but is not ready: {' '.join(after['problems'])}", change)
    return returns.changed(name, f"{what}: {_accepting(after['ready_workers'])}.", change)


def _accepting(count):
    return f"{galaxy_host_count.counted(count, 'worker accepts', 'workers accept')} requests"


def _is_active(status):
    # its process manager may start it again by itself
    return bool(status["manager"] and status["manager"]["active"])


def _is_down(status):
    return status["running"] is False and not _is_active(status)


def _stop_change(before):
    if before["running"] is False:
        return {"old": {"active": True}, "new": {"active": False}}
    return {"old": {"running": before["running"]}, "new": {"running": False}}


def _is_to_be_mounted(path):
    """Whether a state of this very test run would mount it."""
    return any(
        low.get("name") == path and low.get("result") is None and key.split("_|-")[0] in ("luks", "mount", "onedata")
        for key, low in __running__.items()
    )


def _is_to_be_defined():
    """Whether a state of this very test run would write a definition for the process manager."""
    return any(
        low.get("result") is None
        and low.get("changes")
        and key.startswith("galaxy_|-")
        and key.endswith(("_|-defined", "_|-updated"))
        for key, low in __running__.items()
    )
