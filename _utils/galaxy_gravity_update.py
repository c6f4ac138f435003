"""
Update Gravity's files to what the configuration asks for: what would change, what prevents it, and the change itself.

Gravity makes the files, as Galaxy's user and in a directory made for this. supervisord's programs belong to this user,
and Gravity itself installs them. Units of the system's systemd belong to root: ``galaxy_gravity_unit_text`` checks
them, and this tree writes them. Another Galaxy's units are never touched.
"""

import difflib
import logging
import os
from collections.abc import Mapping
from typing import Any

import galaxy_gravity_dry_run
import galaxy_gravity_installed
import galaxy_gravity_systemd
import galaxy_gravity_unit_text
import galaxy_host_command
import galaxy_host_files
import galaxy_manager_systemd
from galaxy_errors import ConfigError, FileError, FileMissing, ManagerError
from galaxy_gravity_command import Commands, account
from galaxy_gravity_instance import Instance
from galaxy_gravity_supervisor import Supervisor
from galaxy_host_pattern import Pattern
from galaxy_host_record import record
from galaxy_host_secret import MASK

log = logging.getLogger(__name__)

_TIMEOUT, _STOP_TIMEOUT = 30, 900
_MAX_DIFF = 64 << 10
_SECRETS = Pattern(r"(?im)^(environment[ \t]*=)[ \t]*\S.*$")
_PROGRAM = Pattern(r"(?m)^\[(?:program|group):([^\]]+)\]$")


@record(frozen=True)
class Plan:
    """
    What an update does.

    added, rewritten, removed
        text before and after, by path; empty if there is no file
    stops
        names of running units or programs that would be stopped or restarted
    conflicts
        why there is no update, even with ``force``: sentences
    reasons
        why there is no update without ``force``: sentences
    problems
        what an administrator should know: sentences
    """

    added: Mapping[str, tuple[str, str]]
    rewritten: Mapping[str, tuple[str, str]]
    removed: Mapping[str, tuple[str, str]]
    stops: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def changes(self) -> dict[str, tuple[str, str]]:
        return {**self.added, **self.rewritten, **self.removed}

    @property
    def diff(self) -> str:
        """A unified diff, without values of the environment, because they may be secrets."""
        lines: list[str] = []
        for path, (old, new) in sorted(self.changes.items()):
            before, behind = _shown(old), _shown(new)
            lines += difflib.unified_diff(
                before, behind, path if old else "/dev/null", path if new else "/dev/null", lineterm=""
            )
        text = "\n".join(lines)
        return text if len(text) <= _MAX_DIFF else f"{text[:_MAX_DIFF]}\n… ({len(text)} characters in all)"

    def refusals(self, force: bool = False) -> list[str]:
        """Why the update is not done; empty if there is nothing to do."""
        return [*self.conflicts, *(() if force else self.reasons)] if self.changes else []

    def record(self, force: bool = False) -> dict[str, Any]:
        """The plan as plain data; ``refused`` says what prevents the update."""
        refused = self.refusals(force)
        return {
            "changed": bool(self.changes),
            **{name: sorted(getattr(self, name)) for name in ("added", "rewritten", "removed")},
            "stopped": sorted(self.stops),
            "diff": self.diff,
            "refused": refused,
            "problems": [
                *(f"With force: {reason}." for reason in self.reasons if reason not in refused),
                *self.problems,
            ],
        }


class Update:
    """
    The update of one instance.

    directory
        directory of systemd's units. ``None``: the system's; or that of Galaxy's user, if the configuration names no
        user

    Raises like ``Commands``, and ``FileError`` if the installed files cannot be read.
    """

    def __init__(self, instance: Instance, directory: str | None = None):
        self.instance = instance
        user = account(instance)
        self.is_system = not (instance.manager == "systemd" and not instance.user)
        home = os.path.join(user.home, ".config", "systemd", "user")
        self.directory = directory or (galaxy_gravity_installed.UNITS if self.is_system else home)
        named_by = () if self.is_system else (user.uid,)
        self._units = galaxy_gravity_installed.units(instance, self.directory, named_by)
        self._programs = galaxy_gravity_installed.programs(instance, [user.uid])
        own = [text for name, text in self._programs.items() if name.startswith(f"{instance.name}.d/")]
        self.commands = Commands(instance, [*self._units.own.values(), *own])

    def plan(self) -> Plan:
        """
        Find out what there is to do; nothing is changed.

        Raises ``CommandError`` if Gravity refuses the configuration, and ``ManagerError`` if systemd does not say what
        runs.
        """
        written = galaxy_gravity_dry_run.run(self.commands, self.is_system)
        units, stale_units = self._wanted_units(written.units)
        base = self._programs_directory
        programs, stale_programs = self._wanted_programs(written.programs) if base else ({}, [])
        pairs: dict[str, tuple[str, str]] = {}
        for directory, installed, wanted, stale in (
            (self.directory, self._units.own, units, stale_units),
            (base or "", self._programs, programs, stale_programs),
        ):
            for name in [*wanted, *stale]:
                pair = installed.get(name, ""), wanted.get(name, "")
                if pair[0] != pair[1]:
                    pairs[os.path.join(directory, name)] = pair
        stops = [*self._active(stale_units), *self._supervised(programs, stale_programs)]
        return Plan(
            {path: pair for path, pair in pairs.items() if not pair[0]},
            {path: pair for path, pair in pairs.items() if all(pair)},
            {path: pair for path, pair in pairs.items() if not pair[1]},
            tuple(stops),
            tuple(self._conflicts(units)),
            tuple(self._reasons(stops, programs)),
            tuple(self._problems(written)),
        )

    def apply(self, plan: Plan, force: bool = False) -> None:
        """
        Do what the plan says.

        force
            do it even if something that runs must be stopped for it

        Raises ``ManagerError``, with the reason, if the plan is refused, or if the files are not as planned afterwards.
        """
        refused = plan.refusals(force)
        if refused:
            advice = "" if plan.conflicts else "; force=True insists"
            raise ManagerError(f"Gravity's files are not updated: {'; '.join(refused)}{advice}")
        if not plan.changes:
            return
        if not self.is_system:
            raise ManagerError(
                f"These units belong to a user's systemd. Update them as {self.commands.account.name}: galaxyctl "
                f"--config-file {self.instance.path} update"
            )
        base = self._programs_directory
        units = {path: pair[1] for path, pair in plan.changes.items() if not (base and path.startswith(f"{base}/"))}
        self._require_own_texts(units)
        if units:
            # units first: they must have stopped before another manager starts the same services
            self._install(units, plan)
        if len(units) < len(plan.changes):
            self._update_programs()
        left = Update(self.instance, self.directory).plan().changes
        if left:
            raise ManagerError(
                f"Gravity's files were updated, but have other content now: {', '.join(sorted(left))}; "
                "something else writes them"
            )

    def _wanted_units(self, written: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
        """
        The instance's units as they should be, and the names of this configuration's units that should not be there.
        """
        target = f"{galaxy_gravity_installed.prefix(self.instance)}.target"
        wanted = {name: text for name, text in written.items() if target in (name, _part_of(text))}
        # units that this file once asked for, under any instance name, and does not ask for now
        stale = [name for name, text in self._units.own.items() if name not in written and self._is_ours(text, written)]
        return wanted, stale

    def _is_ours(self, text: str, written: Mapping[str, str]) -> bool:
        """
        Whether an installed unit belongs to this instance, or to one that the file no longer has; not to another
        instance.
        """
        target = f"{galaxy_gravity_installed.prefix(self.instance)}.target"
        part_of = _part_of(text)
        return part_of is None or part_of == target or part_of not in written

    def _wanted_programs(self, written: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
        """Like ``_wanted_units``. Gravity installs the programs of all instances of the file at once."""
        own = {_instance_of(name) for name in written} | {self.instance.name}
        stale = [name for name in self._programs if _instance_of(name) in own and name not in written]
        return dict(written), stale

    def _active(self, stale: list[str]) -> list[str]:
        """Those of the units that run; instances of a template one by one."""
        names = [name.replace("@.", "@*.") for name in stale if name.endswith(".service")]
        if not names or not galaxy_manager_systemd.runs():
            return []
        if not self.is_system:
            # a user's manager is not asked here, so each unit may be active
            return names
        return galaxy_manager_systemd.loaded(names, active=True)

    def _supervised(self, wanted: Mapping[str, str], stale: list[str]) -> list[str]:
        """Names of the programs that supervisord, if it runs, would stop or restart."""
        changed = [name for name, text in wanted.items() if self._programs.get(name, text) != text]
        if not (changed or stale) or not self._has_supervisord():
            return []
        texts = [self._programs[name] for name in (*changed, *stale)]
        return sorted({name for text in texts for name in _PROGRAM.findall(text)})

    def _has_supervisord(self) -> bool:
        """Whether the supervisord of the state directory runs."""
        try:
            return Supervisor(self.instance).running() is not None
        except FileMissing:
            return False

    def _conflicts(self, wanted: Mapping[str, str]) -> list[str]:
        # a unit in /etc would replace a unit of the same name in these directories
        places = (
            galaxy_gravity_systemd.PLACES if self.directory == galaxy_gravity_installed.UNITS else (self.directory,)
        )
        real = dict.fromkeys(map(os.path.realpath, places))
        paths = [os.path.join(place, name) for name in wanted if name not in self._units.own for place in real]
        there = sorted(path for path in paths if os.path.lexists(path))
        if not there:
            return []
        verb = "is" if len(there) == 1 else "are"
        return [f"{', '.join(there)} {verb} another Galaxy's, or not Gravity's: give this Galaxy its own instance_name"]

    def _reasons(self, stops: list[str], wanted: Mapping[str, str]) -> list[str]:
        reasons = []
        if stops:
            reasons.append(f"it would stop or restart {', '.join(sorted(stops))}")
        named = {galaxy_gravity_installed.configuration(self._programs.get(name, "")) for name in wanted}
        others = [path for path in named if path and not self._is_own(path) and os.path.exists(path)]
        if others:
            reasons.append(
                f"{', '.join(sorted(others))} has the same data_dir and instance name, and its programs would be "
                "replaced"
            )
        return reasons

    def _problems(self, written: galaxy_gravity_dry_run.Written) -> list[str]:
        problems = []
        target = f"{galaxy_gravity_installed.prefix(self.instance)}.target"
        gone = [name for name in self._units.taken if name.endswith(".service") and name not in written.units]
        if gone and target in self._units.own:
            problems.append(
                f"galaxyctl update, start, restart and graceful would delete {', '.join(sorted(gone))}, which "
                "this configuration did not write: give this Galaxy an instance_name, and do not run them"
            )
        old = {
            _instance_of(name)
            for name, text in self._programs.items()
            if (path := galaxy_gravity_installed.configuration(text)) and self._is_own(path)
        }
        known = {self.instance.name, *map(_instance_of, written.programs)}
        for name in sorted(old - known):
            base = self._programs_directory
            problems.append(
                f"{base}/{name}.d is left over from an older instance_name, and starts a second Galaxy: remove it, and "
                f"group_{name}.conf beside it"
            )
        return problems

    @property
    def _programs_directory(self) -> str | None:
        """The directory of supervisord's programs; ``None`` if it is not known, and not needed."""
        if self.instance.state_dir is None:
            if self.instance.manager == "systemd":
                return None
            raise ConfigError(f"{self.instance.path}: {'; '.join(self.instance.problems)}")
        return galaxy_gravity_installed.programs_directory(self.instance.state_dir)

    def _is_own(self, path: str) -> bool:
        return galaxy_gravity_installed.is_own_configuration(self.instance, path)

    def _require_own_texts(self, units: Mapping[str, str]) -> None:
        """Raises ``DefinitionError`` unless root may write all these texts."""
        target = f"{galaxy_gravity_installed.prefix(self.instance)}.target"
        texts = {os.path.basename(path): text for path, text in units.items() if text}
        removed = {os.path.basename(path) for path in units} - set(texts)
        services = {name for name in {*texts, *self._units.own} - removed if name.endswith(".service")}
        for name, text in texts.items():
            if name == target:
                galaxy_gravity_unit_text.require_target(name, text, services)
            else:
                galaxy_gravity_unit_text.require_service(
                    name, text, target, self.instance.user or "", self.instance.group
                )

    def _update_programs(self) -> None:
        """Let Gravity install supervisord's programs, and no units."""
        with galaxy_gravity_dry_run.place(self.commands) as here:
            environment = dict(here.environment)
            if self.instance.state_dir and not galaxy_gravity_dry_run.has_shared_state(self.instance):
                environment["GRAVITY_STATE_DIR"] = self.instance.state_dir
            log.info("Gravity is told: update, as %s", self.commands.account.name)
            options = galaxy_gravity_dry_run.options(self.is_system)
            self.commands.galaxyctl(*options, "update", environment=environment, timeout=_STOP_TIMEOUT)

    def _install(self, units: Mapping[str, str], plan: Plan) -> None:
        """Write and remove the system's units, and tell systemd."""
        targets = [os.path.basename(path) for path in units if path.endswith(".target")]
        added = [name for name in targets if os.path.join(self.directory, name) in plan.added]
        removed = [name for name in targets if os.path.join(self.directory, name) in plan.removed]
        runs = galaxy_manager_systemd.runs()
        services = [name for name in plan.stops if name.endswith(".service")]
        if runs and services:
            log.info("systemd is told: stop %s", ", ".join(services))
            galaxy_host_command.run(["systemctl", "stop", "--", *services], timeout=_STOP_TIMEOUT)
        if runs and removed:
            galaxy_host_command.run(["systemctl", "disable", "--now", "--", *removed], timeout=_TIMEOUT)
        for path, text in units.items():
            if text:
                galaxy_host_files.write_atomic(path, text.encode(), 0o644)
            else:
                _remove(path)
        if runs:
            galaxy_host_command.run(["systemctl", "daemon-reload"], timeout=_TIMEOUT)
        if runs and added:
            galaxy_host_command.run(["systemctl", "enable", "--", *added], timeout=_TIMEOUT)


def _remove(path: str) -> None:
    galaxy_host_files.require_place(path)
    try:
        os.unlink(path)
    except OSError as exc:
        raise FileError(path, f"cannot be removed: {exc.strerror}; run as root") from None
    log.info("removed %s", path)


def _part_of(text: str) -> str | None:
    return galaxy_gravity_installed.value(text, "PartOf")


def _instance_of(program: str) -> str:
    """The instance to which a file below ``supervisord.conf.d`` belongs: ``main.d/…`` or ``group_main.conf``."""
    directory, slash, _ = program.partition("/")
    return directory.removesuffix(".d") if slash else program.removeprefix("group_").removesuffix(".conf")


def _shown(text: str) -> list[str]:
    return _SECRETS.sub(rf"\1{MASK}", text).splitlines()
