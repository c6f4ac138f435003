"""
Reload a Galaxy: new workers take over, without a gap if the web server can do this.
"""

import logging
from typing import Any

import galaxy_control
import galaxy_wait
from galaxy_errors import NotReady, ProcessError
from galaxy_host_wait import Deadline, wait_until
from galaxy_look import Look, ServiceLook, are_ready
from galaxy_server import Galaxy
from galaxy_service import Role
from galaxy_spec import Limits
from galaxy_webserver import Snapshot

log = logging.getLogger(__name__)

# seconds between two looks until the gunicorns have settled
_PAUSE = 0.5


def reload(galaxy: Galaxy, limits: Limits, test: bool = False) -> dict[str, Any]:
    """
    Reload gracefully, and wait for the new workers.

    test
        change nothing; raise an error if something prevents the reload

    Returns ``{"changed": True, "method": "master-fifo"|"SIGHUP"|"rolling"|"restart", "pid": …, "accepting": …,
    "seconds": …}``; ``{}`` with ``test``. Raises ``ProcessError`` if Galaxy does not run. Raises it also if Galaxy has
    only one gunicorn, which cannot be reloaded without a gap, and ``force`` is not given. Raises ``NotReady`` if the
    new workers do not become ready.
    """
    deadline = Deadline(limits.timeout)
    if test:
        _require_reloadable(galaxy.look(galaxy_wait.LOOK), limits)
        galaxy_control.require_loadable(galaxy, limits)
        return {}
    with galaxy.alone("galaxy.reload", deadline):
        look = galaxy.look(min(limits.timeout, galaxy_wait.LOOK))
        _require_reloadable(look, limits)
        galaxy_control.require_loadable(galaxy, limits)
        if len(look.webs) > 1:
            return _roll(galaxy, look, limits, deadline)
        one = look.webs[0]
        if one.service.web and one.service.web.is_reloaded_by_restart:
            _restart(galaxy, one, limits, deadline)
            done = {"method": "restart", **galaxy_wait.until_ready(galaxy, look, deadline, max(1, limits.min_workers))}
        else:
            done = _signal(galaxy, look, limits, deadline)
        _restart_companions(galaxy, look, limits, deadline)
        return {"changed": True, **done}


def roll(galaxy: Galaxy, limits: Limits, test: bool = False) -> dict[str, Any]:
    """
    Restart the gunicorns of a Galaxy one at a time, and then the services beside them, except tusd.

    First, all are looked at. Each must become ready, and stay ready for ``settle`` seconds, before the next is touched.

    test
        change nothing; raise an error if something prevents the restart

    Returns and raises like ``reload``.
    """
    deadline = Deadline(limits.timeout)
    if test:
        _require_rollable(galaxy.look(galaxy_wait.LOOK), limits)
        galaxy_control.require_loadable(galaxy, limits)
        return {}
    with galaxy.alone("galaxy.restart", deadline):
        look = galaxy.look(min(limits.timeout, galaxy_wait.LOOK))
        _require_rollable(look, limits)
        galaxy_control.require_loadable(galaxy, limits)
        return _roll(galaxy, look, limits, deadline)


def _require_reloadable(look: Look, limits: Limits) -> None:
    if len(look.webs) > 1:
        _require_rollable(look, limits)
        return
    one = look.webs[0]
    if not one.master:
        reason = f": {' '.join(one.errors)}" if one.errors else ""
        raise ProcessError(f"Galaxy does not run on this machine, so it cannot be reloaded; start it instead{reason}")
    if not one.snapshot:
        raise ProcessError(" ".join(one.errors) or "Galaxy's web server reports nothing about its workers")
    gap = one.service.web.gap_of_reload if one.service.web else ""
    if gap and not limits.force:
        raise ProcessError(
            f"{gap}. To reload without a gap, give gravity: a list of two gunicorns; force=True reloads it nevertheless"
        )


def _require_rollable(look: Look, limits: Limits) -> None:
    """Raises ``ProcessError`` unless each web server has a unit, and there are several or ``force`` is given."""
    if len(look.webs) < 2 and not limits.force:
        raise ProcessError(
            "Galaxy has one web server: nobody accepts connections from its stop until it has loaded again, and new "
            "code that is broken takes Galaxy down. To restart without a gap, give gravity: a list of two gunicorns; "
            "force=True restarts it nevertheless"
        )
    for one in look.webs:
        if not one.service.unit:
            raise ProcessError(f"No process manager has {one.service.name}; run galaxy.update first")
        if one.running is not False and not _is_ready(one):
            raise ProcessError(f"Nothing was touched: {one.service.name} is not ready. {_reason(one)}".strip())


def _signal(galaxy: Galaxy, look: Look, limits: Limits, deadline: Deadline) -> dict[str, Any]:
    one = look.webs[0]
    master, web, snapshot = one.master, one.service.web, one.snapshot
    assert master
    assert web
    assert snapshot
    # to tell the new workers from the old ones
    old = {worker.pid for worker in snapshot.workers}
    method = web.reload(master)
    log.info("PID %d reloads, told by %s", master.pid, method)

    def is_new(now: Snapshot) -> bool:
        return old.isdisjoint(worker.pid for worker in now.workers if worker.pid)

    wanted = max(1, limits.min_workers)
    return {"method": method, **galaxy_wait.until_ready(galaxy, look, deadline, wanted, is_new)}


def _roll(galaxy: Galaxy, look: Look, limits: Limits, deadline: Deadline) -> dict[str, Any]:
    for one in look.webs:
        if not _is_ready(one):
            log.info("galaxy: %s is down, and is started first", one.service.name)
            galaxy_control.tell_start(one, limits)
            galaxy_wait.until_ready(galaxy, Look([one]), deadline, 1)
            _settle(galaxy, limits.settle)
    for number, one in enumerate(look.webs):
        if number:
            _settle(galaxy, limits.settle)
        log.info("galaxy: %s is restarted, %d of %d", one.service.name, number + 1, len(look.webs))
        _restart(galaxy, one, limits, deadline)
    _restart_companions(galaxy, look, limits, deadline)
    done = galaxy_wait.until_ready(galaxy, look, deadline, max(1, limits.min_workers))
    return {"changed": True, "method": "rolling", **done}


def _restart(galaxy: Galaxy, one: ServiceLook, limits: Limits, deadline: Deadline) -> None:
    size = one.snapshot.size if one.snapshot else 1
    _stop_and_tell_start(galaxy, one, limits)
    galaxy_wait.until_ready(galaxy, Look([one]), deadline, size)


def _restart_companions(galaxy: Galaxy, look: Look, limits: Limits, deadline: Deadline) -> None:
    for one in look.companions:
        # a restart of tusd would end uploads
        if one.service.role is not Role.TUSD and one.service.unit:
            _stop_and_tell_start(galaxy, one, limits)
    galaxy_control.require_companions(galaxy, limits, deadline)


def _stop_and_tell_start(galaxy: Galaxy, one: ServiceLook, limits: Limits) -> None:
    now = galaxy_control.look_at(galaxy, one.service.name)
    galaxy_control.stop_service(now, galaxy_control.GRACE, limits.force)
    galaxy_control.tell_start(now, limits)


def _settle(galaxy: Galaxy, seconds: float) -> None:
    """
    Raises ``NotReady`` unless all web servers stay ready for so long. A proxy waits before it tries a failed one again.
    """

    def failing() -> list[ServiceLook]:
        return [one for one in galaxy.look(galaxy_wait.LOOK).webs if not _is_ready(one)]

    waits_for = f"all gunicorns must stay ready for {seconds:g} s"
    found = wait_until(failing, Deadline(seconds), _PAUSE, waits_for)
    if found:
        raise NotReady(
            f"Nothing more was touched: {found[0].service.name} did not stay ready. {_reason(found[0])}".strip()
        )


def _is_ready(one: ServiceLook) -> bool:
    return one.snapshot is not None and are_ready([one.snapshot], 1)


def _reason(one: ServiceLook) -> str:
    return " ".join([*one.errors, *(one.snapshot.problems if one.snapshot else ())])
