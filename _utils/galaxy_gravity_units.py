"""
Find the services of the process manager that Gravity made for a Galaxy. What Gravity wrote proves them; they are
compared with its configuration.
"""

import dataclasses
import logging
from collections.abc import Iterable, Mapping

import galaxy_gravity_installed
import galaxy_gravity_supervisor
from galaxy_errors import FileMissing, GalaxyError
from galaxy_gravity_instance import Instance
from galaxy_gravity_supervisor import GravityProgram, Supervisor
from galaxy_host_later import Later
from galaxy_host_record import record
from galaxy_manager_unit import Unit, UnitStatus

TYPE_CHECKING = False
if TYPE_CHECKING:
    import galaxy_gravity_systemd
    import galaxy_manager_systemd
else:
    galaxy_gravity_systemd = Later("galaxy_gravity_systemd")
    galaxy_manager_systemd = Later("galaxy_manager_systemd")

log = logging.getLogger(__name__)

# the rounds of a crash loop are shorter, so a Galaxy that cannot start is noticed within minutes
_RECENT = 600


@record(frozen=True)
class Units:
    """
    What is installed for an instance.

    units
        units by the name of the program
    missing
        names of programs that are configured but not installed
    stale
        what this configuration once installed and no longer has, by the process manager's names
    problems
        what to do about this, and what cannot be told: sentences
    """

    units: Mapping[str, Unit]
    missing: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def find(instance: Instance) -> Units:
    """
    The units of an instance's programs, from what Gravity wrote. The process manager need not run.

    Raises ``GalaxyError`` if this cannot be told, because a file cannot be read or others than Galaxy's user can write
    it.
    """
    problems: list[str] = []
    helps_update = True
    units: dict[str, Unit] = {}
    stale: list[str] = []
    if instance.manager == "supervisor":
        try:
            supervisor = Supervisor(instance)
        except FileMissing:
            supervisor = None
        if supervisor:
            units, stale, others = _of_supervisor(instance, supervisor)
            helps_update = not others
            problems += [
                f"{supervisor.home} has programs of {path}, which has the same data_dir and instance_name: they are "
                f"not this Galaxy's; give {instance.path} its own."
                for path in others
            ]
    elif instance.manager == "systemd":
        found = galaxy_gravity_systemd.find(instance)
        units, stale, problems = dict(found.units), found.stale, found.problems
        helps_update = not found.is_foreign
        if not galaxy_manager_systemd.runs():
            problems.append(f"{instance.path} wants systemd, which does not run here; set process_manager.")
    else:
        helps_update = False
        problems.append(
            f"{instance.path} wants process_manager {instance.manager}, with which no service can be asked, started or "
            "stopped; set it to supervisor or systemd."
        )
    stale = [*stale, *_of_another_manager(instance)]
    missing = [program.name for program in instance.programs if program.name not in units]
    if missing and helps_update:
        problems.append(f"Configured but not installed: {', '.join(missing)}; run galaxyctl update.")
    if stale:
        problems.append(
            f"Installed but no longer configured: {', '.join(stale)}; run galaxyctl update, and stop what it leaves."
        )
    return Units(units, tuple(missing), tuple(stale), tuple(problems))


def _of_supervisor(instance: Instance, supervisor: Supervisor) -> tuple[dict[str, Unit], list[str], list[str]]:
    """The units, the titles of stale programs, and the configurations to which the other programs belong."""
    wanted = galaxy_gravity_supervisor.titles(instance)
    owners = {program.title: supervisor.other_configuration(program) for program in supervisor.programs}
    present = [title for title, other in owners.items() if not other]
    units: dict[str, Unit] = {
        name: GravityProgram(title, supervisor) for name, title in wanted.items() if title in present
    }
    stale = [title for title in present if title not in wanted.values()]
    return units, [*stale, *supervisor.old_names()], sorted({other for other in owners.values() if other})


def _of_another_manager(instance: Instance) -> list[str]:
    """What Gravity installed for the instance when its configuration named another process manager."""
    try:
        if instance.manager == "systemd":
            user = galaxy_gravity_installed.user_id(instance)
            return [f"{title} of supervisord" for title in galaxy_gravity_installed.program_names(instance, [user])]
        target = f"{galaxy_gravity_installed.prefix(instance)}.target"
        own = galaxy_gravity_installed.units(instance).own
        return [name for name, text in own.items() if galaxy_gravity_installed.value(text, "PartOf") == target]
    except GalaxyError as exc:
        log.debug("galaxy: %s", exc)
        return []


def statuses(units: Mapping[str, Unit]) -> dict[str, UnitStatus | GalaxyError]:
    """
    The status of each unit now, or why there is none. Each process manager is asked once for all of its units.

    If a unit was started again by itself a short while ago, its problems say so: in a crash loop a process manager says
    nearly all the time that all is well.
    """
    groups: dict[object, list[str]] = {}
    for name, unit in units.items():
        key = unit.supervisor if isinstance(unit, GravityProgram) else unit.user
        groups.setdefault((type(unit), key), []).append(name)
    found: dict[str, UnitStatus | GalaxyError] = {}
    for names in groups.values():
        found.update(_ask({name: units[name] for name in names}))
    return {name: found[name] for name in units}


def _ask(units: Mapping[str, Unit]) -> dict[str, UnitStatus | GalaxyError]:
    """Ask one process manager for its units."""
    of_supervisor = [unit for unit in units.values() if isinstance(unit, GravityProgram)]
    try:
        if of_supervisor:
            told: Iterable[UnitStatus] = galaxy_gravity_supervisor.statuses(of_supervisor)
        elif of_systemd := [unit for unit in units.values() if isinstance(unit, galaxy_manager_systemd.Systemd)]:
            told = galaxy_manager_systemd.statuses(of_systemd)
        else:
            told = [unit.status() for unit in units.values()]
    except GalaxyError as exc:
        return dict.fromkeys(units, exc)
    return {name: _noted(unit, status) for (name, unit), status in zip(units.items(), told, strict=True)}


def _noted(unit: Unit, status: UnitStatus) -> UnitStatus:
    if not status.restarts or status.age is None or status.age > _RECENT:
        return status
    sentence = f"{unit.manager} started {unit.service} again {status.times} by itself, {status.age:.0f} s ago"
    sentence += " for the last time: it may crash again and again." if status.restarts > 1 else "."
    return dataclasses.replace(status, problems=(*status.problems, sentence))
