"""
Work with the supervisord that Gravity keeps for a Galaxy below Gravity's state directory, and with the programs that
Gravity wrote there.

The user who owns this directory decides what is in it. So files are read, and supervisord is asked and started, with no
more rights than this user has.
"""

import contextlib
import dataclasses
import logging
import os
import re

import galaxy_gravity_file
import galaxy_gravity_installed
import galaxy_host_command
import galaxy_host_files
import galaxy_host_process
from galaxy_errors import CommandError, ConfigError, FileError, ManagerError
from galaxy_gravity_instance import DEFAULT_NAME, Instance
from galaxy_gravity_instance import Program as Configured
from galaxy_host_command import Account
from galaxy_host_pattern import Pattern
from galaxy_host_process import Invocation, Process
from galaxy_host_wait import Deadline, wait_until
from galaxy_host_walk import describe
from galaxy_manager_supervisor_config import Endpoint, Program, SupervisorConfig, config_files_of
from galaxy_manager_supervisor_rpc import Client, ProcessInfo
from galaxy_manager_supervisord import Supervisord
from galaxy_manager_unit import State, UnitStatus

log = logging.getLogger(__name__)

_START = 60
# seconds to wait for an answer if somebody else brings supervisord up
_COMES_UP = 10
# events in supervisord's log: of one process, and the start of supervisord itself
_EVENT = Pattern(
    r"(spawned: '|exited: |stopped: |gave up: )([^\s']+)(?:' with pid (\d{1,9})\b)?|supervisord started with pid ",
    re.ASCII,
)
# Gravity writes the same text when it starts a supervisord
_CONFIGURATION = """;
; This file is maintained by Galaxy - CHANGES WILL BE OVERWRITTEN
;

[unix_http_server]
file = %(here)s/supervisor.sock

[supervisord]
logfile = %(here)s/supervisord.log
pidfile = %(here)s/supervisord.pid
loglevel = info
nodaemon = false

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl = unix://%(here)s/supervisor.sock

[include]
files = supervisord.conf.d/*.d/*.conf supervisord.conf.d/*.conf
"""


class Supervisor(SupervisorConfig):
    """
    The supervisord of an instance's state directory. ``programs`` are those of this instance alone.

    Raises ``FileMissing`` if there is no state directory, ``FileError`` if it is not Galaxy's, and ``ManagerError`` if
    the file of a program cannot be read.
    """

    def __init__(self, instance: Instance):
        self.instance = instance
        if instance.state_dir is None:
            raise ConfigError(
                f"{instance.path}: the directory of its supervisord's files is not known; name it as GRAVITY_STATE_DIR"
            )
        owner = galaxy_host_files.owner(instance.state_dir)
        user = galaxy_gravity_installed.user_id(instance)
        if user != owner:
            raise FileError(
                instance.state_dir,
                f"belongs to {describe(owner)}, not to {describe(user)}; give it to the user that runs Galaxy",
            )
        self.home = os.path.join(instance.state_dir, "supervisor")
        self._folder = galaxy_gravity_installed.programs_directory(instance.state_dir)
        # files of all instances; some may be this instance's under an older name
        self._present = galaxy_host_files.names(self._folder, named_by=(owner,))
        included = self._files_of(instance.name, owner)
        super().__init__(os.path.join(self.home, "supervisord.conf"), owner=owner, included=included)
        self.owner: int = owner
        self.client = Client(self.endpoint())

    def endpoint(self) -> Endpoint:
        """The address at which it answers, and the user who must answer there."""
        path = self._get("unix_http_server", "file") or os.path.join(self.home, "supervisor.sock")
        return Endpoint(os.path.join(self.home, path), owner=self.owner)

    def old_names(self) -> list[str]:
        """By title: what this configuration had installed under the name of an instance that it no longer has."""
        others = {name.removesuffix(".d") for name in self._present if name.endswith(".d")} - {self.instance.name}
        try:
            # the file is read again only if there are other names
            old = others - instance_names(self.instance.path) if others else set()
        except ConfigError:
            return []
        titles: list[str] = []
        for name in sorted(old):
            config = SupervisorConfig(self.path, owner=self.owner, included=self._files_of(name, self.owner))
            titles += [program.title for program in config.programs if self._is_ours(program.invocation)]
        return titles

    def other_configuration(self, program: Program) -> str | None:
        """The configuration for which Gravity wrote the program, if this is another file that exists."""
        words = program.invocation.argv
        named = words[words.index("--config-file") + 1 :][:1] if "--config-file" in words else ()
        is_others = named and not self._is_ours(program.invocation) and galaxy_host_files.changed(named[0]) is not None
        return named[0] if is_others else None

    def _is_ours(self, invocation: Invocation) -> bool:
        """Whether Gravity wrote the command for this configuration."""
        told = (*invocation.argv, (invocation.environment or {}).get("GALAXY_CONFIG_FILE"))
        return not {self.instance.path, os.path.realpath(self.instance.path), self.instance.galaxy_config}.isdisjoint(
            told
        )

    def _files_of(self, name: str, owner: int) -> list[str]:
        """The files of an instance."""
        path = os.path.join(self._folder, f"{name}.d")
        files = [
            os.path.join(path, one) for one in galaxy_host_files.names(path, named_by=(owner,)) if one.endswith(".conf")
        ]
        group = f"group_{name}.conf"
        return [*files, os.path.join(self._folder, group)] if group in self._present else files

    def running(self) -> Process | None:
        """A live supervisord with this configuration, run by the owner or by root, whether it answers or not."""
        wanted = os.path.realpath(self.path)
        for pid in galaxy_host_process.pids():
            if b"supervisord" in galaxy_host_process.command_line(pid):
                process = Process.of(pid)
                paths = config_files_of(process, self.owner) if process else []
                if any(os.path.realpath(path) == wanted for path in paths):
                    return process
        return None

    def survivors(self) -> dict[str, list[int]]:
        """
        PIDs of live processes that a supervisord at this address had started, by the title of the program. The end of
        its log says which they are, and their environment. Jobs of a handler have that environment too and may outlive
        it, but the log does not name them.
        """
        url = f"unix://{self.endpoint().path}"
        found: dict[str, list[int]] = {}
        for pid in sorted({int(match[3]) for match in self._events() if match[3]}):
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{pid}").st_uid != self.owner:
                    continue
                process = Process.of(pid)
                environment = (process and process.environment) or {}
                if environment.get("SUPERVISOR_SERVER_URL") == url:
                    group, name = (environment.get(f"SUPERVISOR_{key}_NAME", "") for key in ("GROUP", "PROCESS"))
                    found.setdefault(name if name == group else f"{group}:{name}", []).append(pid)
        return found

    def restarts(self) -> dict[str, int]:
        """
        How often supervisord started each process again by itself since it was told to start it, by the name of the
        process. This counts as far back as the end of its log reaches.
        """
        counts: dict[str, int] = {}
        exited: set[str] = set()
        for match in self._events():
            event, name = match[1], match[2]
            if event is None:
                counts, exited = {}, set()
            elif event.startswith("spawned"):
                # if a process was spawned before the log begins, its spawns count from its first exit on
                counts[name] = counts.get(name, 0) + (name in exited)
                exited.discard(name)
            elif event.startswith("exited"):
                exited.add(name)
            else:
                counts.pop(name, None)
                exited.discard(name)
        return counts

    def _events(self) -> list[re.Match[str]]:
        """What the end of its log says of processes."""
        path = os.path.join(self.home, self._get("supervisord", "logfile") or "supervisord.log")
        return [
            match for line in galaxy_host_files.tails([path], 1000, (self.owner,)) if (match := _EVENT.search(line))
        ]

    def bring_up(self, deadline: Deadline) -> bool:
        """
        Start supervisord as its owner, as Gravity does. Returns whether this was needed. supervisord then starts all of
        its programs by itself.

        Raises ``ManagerError``, also if supervisord would run as root but users who are no administrators decide what
        its files say.
        """
        if self._comes_up(deadline):
            return False
        account = Account.of(self.owner)
        if account is None or self.owner == 0:
            who = "root" if self.owner == 0 else f"user {self.owner}, for whom there is no account here"
            raise ManagerError(
                f"supervisord is not brought up as {who}, the owner of {self.home}; start it by galaxyctl"
            )
        argv, environment = [self._program(), "-c", self.path], self._variables(account)
        directory = self.instance.galaxy_root or "/"
        log.info("supervisord is brought up as user %s: %s", account.name, " ".join(argv))
        try:
            if not os.path.lexists(self.path):
                # Gravity writes this file at its first start. Here the file's owner writes it, with the owner's rights
                galaxy_host_command.run(["tee", "--", self.path], _CONFIGURATION.encode(), account=account)
            galaxy_host_command.run(
                argv, timeout=max(deadline.left, 1), account=account, cwd=directory, environment=environment
            )
        except CommandError as exc:
            # somebody else started one meanwhile
            if self._comes_up(deadline):
                return False
            raise ManagerError(f"supervisord is not brought up: {exc}") from None
        if not wait_until(self._answers, deadline, what="supervisord must answer"):
            raise ManagerError(f"supervisord ({self.path}) does not answer after it was started")
        return True

    def _answers(self) -> bool:
        return self.client.processes() is not None

    def _comes_up(self, deadline: Deadline) -> bool:
        """
        Whether it answers: at once, or in a while if somebody else has started it, such as cron at boot. Raises
        ``ManagerError`` where it runs, but does not answer.
        """

        def state() -> str:
            return "up" if self._answers() else "" if self.running() else "down"

        patience = Deadline(min(deadline.left, _COMES_UP))
        known = wait_until(state, patience, what="supervisord must answer")
        stray = None if known else self.running()
        if stray:
            raise ManagerError(f"{self.path}: PID {stray.pid} is its supervisord, but does not answer; end it first")
        return known == "up"

    def _program(self) -> str:
        """The supervisord beside the ``galaxyctl`` of the programs, or in the virtualenv."""
        words = [word for program in self.programs for word in program.invocation.argv[:1]]
        places = [os.path.dirname(word) for word in words if os.path.basename(word) == "galaxyctl"]
        places += [os.path.join(self.instance.virtualenv, "bin")] if self.instance.virtualenv else []
        for place in places:
            path = os.path.join(place, "supervisord")
            if os.path.isabs(path) and os.path.isfile(path):
                return path
        raise ManagerError(
            f"{self.path}: no supervisord beside galaxyctl or in the virtualenv of {self.instance.path}; install "
            "Gravity there"
        )

    def _variables(self, account: Account) -> dict[str, str]:
        venv = self.instance.virtualenv
        path = galaxy_host_command.SYSTEM_PATH
        environment = {
            **{"PATH": f"{venv}/bin:{path}" if venv else path, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"},
            **self.instance.variables,
        }
        if venv:
            environment["VIRTUAL_ENV"] = venv
        # Gravity reads the state directory only from this variable, not from its file
        usual = {os.path.join(account.home, ".config/galaxy-gravity")}
        if self.instance.data_dir:
            usual.add(os.path.join(self.instance.data_dir, "gravity"))
        if self.instance.state_dir and self.instance.state_dir not in usual:
            environment["GRAVITY_STATE_DIR"] = self.instance.state_dir
        return environment


class GravityProgram(Supervisord):
    """
    A program of Gravity's supervisord.

    title
        its name in supervisorctl
    supervisor
        its supervisord
    """

    def __init__(self, title: str, supervisor: Supervisor):
        super().__init__(title, supervisor)
        self.supervisor = supervisor
        self._client = supervisor.client

    def commands(self) -> dict[str, list[str]]:
        owner = self.supervisor.owner
        account = Account.of(owner)
        become = [] if owner == os.geteuid() else ["runuser", "-u", account.name if account else str(owner), "--"]
        place = os.path.join(self.supervisor.instance.virtualenv or "", "bin")
        commands = super().commands()
        return {
            verb: [*become, os.path.join(place, os.path.basename(argv[0])), *argv[1:]]
            for verb, argv in commands.items()
        }

    def status(self) -> UnitStatus:
        return statuses([self])[0]

    def require_up(self) -> None:
        """
        ``start`` starts Gravity's supervisord itself: it belongs to Galaxy, and ends when all of Galaxy is stopped.
        """

    def bring_up(self, deadline: Deadline) -> bool:
        return self.supervisor.bring_up(deadline)

    def start(self) -> None:
        self.bring_up(Deadline(_START))
        super().start()

    def stop(self) -> None:
        super().stop()
        status = self.status()
        if status.active is None or status.pids:
            raise ManagerError(" ".join((*status.problems, f"{status.raw}{status.why}")))

    def _mine(self, infos: list[ProcessInfo] | None) -> list[ProcessInfo] | None:
        mine = super()._mine(infos)
        return None if mine is None else [self._proven(info) for info in mine]

    def _status_of(self, mine: list[ProcessInfo] | None) -> UnitStatus:
        status = super()._status_of(mine)
        if status.raw == "EXITED":
            # Gravity's programs have autorestart: supervisord starts them again at its next tick, whatever their exit
            # status
            return dataclasses.replace(status, state=State.RETRYING, active=True)
        return status

    def _proven(self, info: ProcessInfo) -> ProcessInfo:
        """The status without a PID that is no process of the owner."""
        process = Process.of(info.pid) if info.pid else None
        owner = self.supervisor.owner
        if process and process.uids == (owner, owner):
            return info
        return dataclasses.replace(info, pid=0, age=None)


def statuses(units: list[GravityProgram]) -> list[UnitStatus]:
    """
    The status of each program from their supervisord, which is the same for all and is asked once.

    Raises ``ManagerError`` if it does not answer as it should.
    """
    supervisor = units[0].supervisor
    infos = supervisor.client.processes()
    if infos is None:
        return _without(supervisor, units)
    counts = supervisor.restarts()
    names = [info.name for info in infos]
    found = []
    for unit in units:
        mine = unit._mine(infos) or []
        status = unit._status_of(mine)
        # the log has the names of processes without their groups
        name = mine[0].name if len(mine) == 1 and names.count(mine[0].name) == 1 else ""
        found.append(dataclasses.replace(status, restarts=counts.get(name)))
    return found


def _without(supervisor: Supervisor, units: list[GravityProgram]) -> list[UnitStatus]:
    """The status if nothing answers: stopped only if no such supervisord runs, and nothing that one had started."""
    process = supervisor.running()
    if process:
        detail = f"PID {process.pid} is the supervisord of {supervisor.path}, but nothing listens at its socket"
        return [UnitStatus(State.UNKNOWN, "supervisord does not answer", detail, None)] * len(units)
    survivors, found = supervisor.survivors(), []
    for unit in units:
        pids = tuple(survivors.get(unit.service, ()))
        problems: tuple[str, ...] = ()
        if pids:
            which = ", ".join(map(str, pids))
            problems = (
                f"supervisord is gone, but what it had started for {unit.service} still runs: PID {which}; galaxy.stop "
                "force=True ends it.",
            )
        found.append(UnitStatus(State.STOPPED, "supervisord is not running", pids=pids, left=pids, problems=problems))
    return found


def titles(instance: Instance) -> dict[str, str]:
    """The name of each program in supervisorctl, by the program's name."""
    found = {}
    for program in instance.programs:
        number = "" if siblings(instance, program) == 1 else str(program.number)
        if instance.is_named:
            found[program.name] = f"{instance.name}:{program.service}{number}"
        elif number:
            found[program.name] = f"{program.service}:{program.service}_{number}"
        else:
            found[program.name] = program.service
    return found


def siblings(instance: Instance, program: Configured) -> int:
    """How many processes the service of a program has."""
    return sum(one.service == program.service and one.type == program.type for one in instance.programs)


def instance_names(path: str) -> set[str]:
    """The instances that Gravity's configuration file has now. Raises ``ConfigError``."""
    gravity = galaxy_gravity_file.read_mapping(path).get("gravity")
    sections = gravity if isinstance(gravity, list) else [gravity]
    return {
        str(section.get("instance_name") or DEFAULT_NAME) if isinstance(section, dict) else DEFAULT_NAME
        for section in sections
    }
