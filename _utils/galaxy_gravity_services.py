"""
The services of a Galaxy that Gravity set up, and one look at all of them.
"""

from collections.abc import Mapping

import galaxy_gravity_installed
import galaxy_gravity_units
import galaxy_host_sockets
import galaxy_version
from galaxy_errors import ConfigError, GalaxyError
from galaxy_gravity_instance import Instance, Web
from galaxy_gravity_units import Units
from galaxy_gunicorn_server import GunicornServer
from galaxy_host_wait import Deadline
from galaxy_look import Look, Service, ServiceLook
from galaxy_manager_unit import Unit, UnitStatus
from galaxy_service import Role

_ORDER = list(Role)


class Services:
    """The services of an instance. Their units are looked for once."""

    def __init__(self, instance: Instance):
        self.instance = instance
        self._uid = _uid(instance)
        self._units: Units | None = None
        self._webs = {program.name: self._web(program.web) for program in instance.programs if program.web}

    @property
    def units(self) -> Units:
        """The units that the process manager has for it. Raises ``ManagerError``."""
        if self._units is None:
            self._units = galaxy_gravity_units.find(self.instance)
        return self._units

    def believe(self, pid: int) -> None:
        """Accept the master with this PID as one of Galaxy's gunicorns, if its addresses lead to it."""
        for web in self._webs.values():
            web.believe(pid)

    def version_on_disk(self) -> str | None:
        """Galaxy's version; ``None`` if it cannot be read."""
        if not isinstance(self._uid, int):
            return None
        return galaxy_version.on_disk(self.instance.galaxy_root, self.instance.virtualenv, [self._uid])

    def look(self, timeout: float, managed: bool = True, probe: bool = True) -> Look:
        """Collect all facts, asking for each once, like ``Galaxy.look``."""
        deadline = Deadline(timeout)
        problems = list(self.instance.problems)
        units: Mapping[str, Unit] = {}
        statuses: Mapping[str, UnitStatus | GalaxyError] = {}
        if managed:
            try:
                units = self.units.units
                statuses = galaxy_gravity_units.statuses(units)
                problems += self.units.problems
            except GalaxyError as exc:
                problems.append(str(exc))
        look = Look([], problems)
        for program in sorted(self.instance.programs, key=lambda one: _ORDER.index(one.role)):
            one = ServiceLook(
                Service(
                    program.name,
                    program.role,
                    units.get(program.name),
                    self._webs.get(program.name),
                    program.start_timeout,
                )
            )
            _find(one, statuses.get(program.name))
            look.services.append(one)
        served = [(one, self._webs[one.service.name]) for one in look.services if one.master]
        # for this, the kernel walks through its table of all connections
        connections = galaxy_host_sockets.connections({port for _, web in served for port in web.ports})
        for one, web in served:
            asked = deadline.left, probe, one.master, connections
            one.snapshot = one.attempt(web.snapshot, *asked)
        return look

    def _web(self, asked: Web) -> GunicornServer:
        return GunicornServer(
            asked.binds,
            self._uid,
            self.instance.prefix,
            asked.timeout,
            asked.workers,
            asked.preload,
        )


def _find(one: ServiceLook, status: UnitStatus | GalaxyError | None) -> None:
    """Note what the process manager says of the service, and the master of its web server."""
    if isinstance(status, GalaxyError):
        one.errors.append(str(status))
    else:
        one.status = status
    web = one.service.web
    if web:
        if one.status:
            web.told(one.status.main_pid)
        one.master = one.attempt(web.find_master)
        if not one.master:
            one.silent = one.attempt(web.is_silent)


def _uid(instance: Instance) -> int | str:
    """Galaxy's user, or why the user cannot be told."""
    try:
        return galaxy_gravity_installed.user_id(instance)
    except ConfigError as exc:
        return str(exc)
