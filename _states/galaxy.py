"""
Declare how a Galaxy server is
==============================

.. code-block:: yaml

    galaxy:
      galaxy.running:
        - config: /srv/galaxy/config/galaxy.yml
        - min_workers: 2
        - watch:
          - file: /srv/galaxy/config/galaxy.yml

Every state takes the keywords of the execution module (``config, stats, socket, manager, service, conf_file,
bin_env``), and what is not given comes from ``galaxy:`` in pillar, grains or minion configuration.
"""

from __future__ import annotations

from salt.exceptions import CommandExecutionError, SaltInvocationError

import galaxy_boot

__virtualname__ = "galaxy"

TYPE_CHECKING = False
if TYPE_CHECKING:
    __salt__: dict
    __opts__: dict
    __running__: dict

_ERRORS = (CommandExecutionError, SaltInvocationError)


def __virtual__():
    if "galaxy.status" not in __salt__:
        return False, "galaxy: the galaxy execution module is not loaded; run saltutil.sync_all"
    return __virtualname__


def running(
    name,
    config=None,
    stats=None,
    socket=None,
    manager=None,
    service=None,
    conf_file=None,
    bin_env=None,
    timeout=None,
    retries=None,
    min_workers=1,
    reload=False,
    force=False,
    mounts=(),
):
    """
    Galaxy runs under its process manager and accepts requests.

    name
        any text
    timeout
        seconds for each try (default: 300)
    retries
        how often it is stopped and started again while no worker comes to accept (default: 5)
    min_workers
        how many workers must accept with their application loaded
    reload
        what a change in a watched state does to a running Galaxy: a graceful reload instead of a restart
    force
        let a restart end a master that outlives the manager's stop (``galaxy.stop``)
    mounts
        directories on which a filesystem must be mounted, or Galaxy is not started: its data is there
    """
    server = _server(config, stats, socket, manager, service, conf_file, bin_env)
    ret = _ret(name)
    try:
        missing = [path for path in mounts if not __salt__["mount.is_mounted"](path)]
        if missing:
            return _failed(ret, f"Galaxy is not started without its data: nothing is mounted on {', '.join(missing)}")
        before = __salt__["galaxy.status"](**server)
        if _is_ready(before, min_workers):
            return _done(ret, f"Galaxy is ready: {_accepting(before)} workers accept requests.")
        if __opts__["test"]:
            return _would(ret, "Galaxy would be started.", before, {"ready": True})
        __salt__["galaxy.startup"](**server, timeout=timeout, retries=retries, workers=min_workers)
        return _verify(ret, server, before, min_workers, "Galaxy was started")
    except _ERRORS as exc:
        return _failed(ret, exc)


def ready(
    name,
    config=None,
    stats=None,
    socket=None,
    manager=None,
    service=None,
    conf_file=None,
    bin_env=None,
    timeout=None,
    min_workers=1,
):
    """
    Galaxy accepts requests; waits for that, and starts nothing.

    name
        any text
    timeout
        seconds at most (default: 300)
    min_workers
        how many workers must accept with their application loaded
    """
    server = _server(config, stats, socket, manager, service, conf_file, bin_env)
    ret = _ret(name)
    try:
        now = __salt__["galaxy.status"](**server)
        if now["ready"] and _accepting(now) >= min_workers:
            return _done(ret, f"Galaxy is ready: {_accepting(now)} workers accept requests.")
        if __opts__["test"]:
            ret["result"] = None
            ret["comment"] = "Galaxy is not ready; it would be waited for."
            return ret
        found = __salt__["galaxy.wait"](**server, timeout=timeout, workers=min_workers)
        return _done(ret, f"Galaxy is ready after {found['seconds']} s: {found['accepting']} workers accept requests.")
    except _ERRORS as exc:
        return _failed(ret, exc)


def dead(
    name,
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
    Galaxy does not run: its service is stopped, and none of its processes is left.

    name
        any text
    timeout
        seconds that processes have to end after the manager's stop, and workers again after SIGTERM, before SIGKILL
    force
        end the master too where it outlives that, or where nothing manages it
    """
    server = _server(config, stats, socket, manager, service, conf_file, bin_env)
    ret = _ret(name)
    try:
        before = __salt__["galaxy.status"](**server)
        if _is_down(before):
            return _done(ret, "Galaxy is stopped.")
        if __opts__["test"]:
            return _would(ret, "Galaxy would be stopped.", before, {"running": False})
        done = __salt__["galaxy.stop"](**server, timeout=timeout, force=force)
        after = __salt__["galaxy.status"](**server)
        if not _is_down(after):
            ret["result"] = False
            ret["comment"] = f"Galaxy was stopped, but is there again: {' '.join(after['problems'])}"
            return ret
        if done["changed"]:
            ret["changes"] = _changes(before, after)
        return _done(ret, "Galaxy was stopped.")
    except _ERRORS as exc:
        return _failed(ret, exc)


def reported(name):
    """
    The master knows how a boot went: the event ``galaxy/<minion>/ready``, or ``galaxy/<minion>/failed`` with the first
    ``step`` that failed (the SLS below ``galaxy``), its ``state`` (ID) and the ``reason``.

    Give it ``order: last``. Without a master there is nobody to tell, and no event.

    name
        any text
    """
    ret = _ret(name)
    data = galaxy_boot.failure(__running__.values())
    tag = f"galaxy/{__opts__['id']}/{'failed' if data else 'ready'}"
    if __opts__["test"]:
        ret["result"] = None
        ret["comment"] = f"The event {tag} would be sent."
        return ret
    sent = __salt__["event.send"](tag, data)
    return _done(ret, f"The event {tag} was sent." if sent else f"No master was told: {tag}.")


def mod_watch(name, sfun=None, reload=False, force=False, min_workers=1, timeout=None, **kwargs):
    """
    Restart or reload a running Galaxy because a watched state changed.

    .. note::
        Called by the requisite system; not for direct use.
    """
    ret = _ret(name)
    server = {key: kwargs.get(key) for key in _server(*[None] * 7)}
    # Salt asks here whenever the state itself changed nothing, also when it failed, and takes this answer instead
    if sfun == "ready":
        return ready(name, **server, timeout=timeout, min_workers=min_workers)
    if sfun == "dead":
        return dead(name, **server, timeout=10 if timeout is None else timeout, force=force)
    try:
        before = __salt__["galaxy.status"](**server)
        word = "reloaded" if reload and before["ready"] else "restarted"
        if __opts__["test"]:
            ret["result"] = None
            ret["comment"] = f"Galaxy would be {word}."
            ret["changes"] = {"galaxy": word}
            return ret
        if word == "reloaded":
            __salt__["galaxy.reload"](**server, timeout=timeout)
        else:
            __salt__["galaxy.restart"](**server, timeout=timeout, workers=min_workers, force=force)
        ret = _verify(ret, server, before, min_workers, f"Galaxy was {word}")
        if ret["result"]:
            ret["changes"] = {"galaxy": word}
        return ret
    except _ERRORS as exc:
        return _failed(ret, exc)


def _server(config, stats, socket, manager, service, conf_file, bin_env) -> dict:
    return {
        **{"config": config, "stats": stats, "socket": socket, "manager": manager, "service": service},
        **{"conf_file": conf_file, "bin_env": bin_env},
    }


def _ret(name) -> dict:
    return {"name": name, "result": True, "comment": "", "changes": {}}


def _done(ret: dict, comment: str) -> dict:
    ret["comment"] = comment
    return ret


def _would(ret: dict, comment: str, before: dict, after: dict) -> dict:
    ret["result"] = None
    ret["comment"] = comment
    ret["changes"] = {"galaxy": {"old": {key: before[key] for key in after}, "new": after}}
    return ret


def _failed(ret: dict, exc: Exception | str) -> dict:
    ret["result"] = False
    ret["comment"] = str(exc)
    return ret


def _verify(ret: dict, server: dict, before: dict, min_workers: int, what: str) -> dict:
    after = __salt__["galaxy.status"](**server)
    ret["changes"] = _changes(before, after)
    ret["result"] = _is_ready(after, min_workers)
    ret["comment"] = f"{what}: {_accepting(after)} workers accept requests."
    if not ret["result"]:
        ret["comment"] = f"{what}, but is not ready: {' '.join(after['problems'])}"
    return ret


def _changes(before: dict, after: dict) -> dict:
    keys = [key for key in ("running", "ready", "pid") if before[key] != after[key]]
    if not keys:
        return {}
    return {"galaxy": {"old": {key: before[key] for key in keys}, "new": {key: after[key] for key in keys}}}


def _accepting(status: dict) -> int:
    workers = status["workers"]
    return workers["total"] - workers["not_accepting"] - workers["cheap"]


def _is_ready(status: dict, min_workers: int) -> bool:
    managed = status["manager"] and status["manager"]["state"] in ("running", "starting")
    return bool(status["ready"] and managed and _accepting(status) >= min_workers)


def _is_down(status: dict) -> bool:
    # what its manager retries comes again by itself
    return not (status["running"] or (status["manager"] and status["manager"]["active"]))
