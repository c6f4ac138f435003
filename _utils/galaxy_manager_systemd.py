"""
A unit of systemd, of the system's manager or of a user's.

systemd is only asked for the properties that are needed, because ``Environment`` may hold secrets.
"""

import glob
import logging
import os
import pwd
import re
import time
from collections.abc import Iterable

import galaxy_host_command
import galaxy_manager_unit
from galaxy_errors import CommandError, ManagerError
from galaxy_host_process import Invocation, Process
from galaxy_manager_systemd_definition import Definition
from galaxy_manager_unit import BACKUP, Own, State, Unit, UnitStatus

log = logging.getLogger(__name__)

# exists if systemd is PID 1, sd_booted(3)
RUNS = "/run/systemd/system"
_WANTS = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
_STATUS = (
    *("Id", "Names", "LoadState", "ActiveState", "SubState", "Result", "ExecMainStatus", "MainPID", "NRestarts"),
    *("ControlGroup", "ExecMainStartTimestampMonotonic", "CanReload", "NeedDaemonReload"),
    *("Job", "AssertResult", "AssertTimestampMonotonic"),
)
_FILES = ("Id", "Names", "LoadState", "FragmentPath", "DropInPaths", "SourcePath")
_TIMEOUT, _STOP_TIMEOUT = 20, 900
# most names in one command line, and most units that are read
_MAX_NAMES, _MAX_UNITS = 400, 5000
_STATES = {
    **{"active": State.RUNNING, "reloading": State.RUNNING, "activating": State.STARTING},
    **{"deactivating": State.STOPPING, "inactive": State.STOPPED, "failed": State.FAILED},
}
_YES_NO = {"yes": True, "no": False}


class Systemd(Unit):
    """
    service
        name of the unit, with or without ``.service``
    user
        the user whose manager has it; ``None``: the system's manager
    own
        says which of its commands starts the server
    namespace
        namespace of the journal, if it has one of its own (``LogNamespace=``)
    """

    manager = "systemd"

    def __init__(
        self,
        service: str,
        user: str | None = None,
        own: Own = lambda invocation: None,
        namespace: str | None = None,
    ):
        super().__init__(service.removesuffix(".service"))
        self.user, self.namespace = user, namespace
        self._own = own

    def commands(self) -> dict[str, list[str]]:
        commands = {
            verb: [*_systemctl(self.user), verb, self.service] for verb in ("start", "stop", "restart", "status")
        }
        return {**commands, "startup": commands["start"]}

    def show(self) -> dict[str, str]:
        """What systemd reports for it now, by property. Raises ``ManagerError``."""
        shown = show([self.service], _STATUS, self.user)
        if not shown:
            raise ManagerError(f"systemd reports nothing for {self.service}")
        return shown[0]

    @property
    def is_known(self) -> bool:
        """Whether systemd has a unit of that name. Raises ``ManagerError``."""
        return self.show().get("LoadState") not in ("not-found", "", None)

    def is_called(self, service: str) -> bool:
        return f"{service.removesuffix('.service')}.service" in self.show().get("Names", "").split()

    def status(self) -> UnitStatus:
        return self._status_of(self.show())

    def _status_of(self, shown: dict[str, str]) -> UnitStatus:
        loaded, active, sub = (shown.get(key, "") for key in ("LoadState", "ActiveState", "SubState"))
        is_active = active not in ("inactive", "failed")
        if loaded not in ("loaded", "masked") and not is_active:
            return UnitStatus(State.UNKNOWN, loaded or "not-found", f"systemd has no unit {self.service}")
        # it died, and systemd waits for RestartSec until it tries again
        state = State.RETRYING if sub.startswith("auto-restart") else _STATES.get(active, State.UNKNOWN)
        failed = state in (State.FAILED, State.RETRYING)
        detail = f"result {shown.get('Result')}, exit status {shown.get('ExecMainStatus')}" if failed else ""
        # if an assertion forbids a start, there is no failure and no process. A start that waits for other units has a
        # job
        is_refused = shown.get("AssertResult") == "no" and _number(shown.get("AssertTimestampMonotonic", ""))
        if state is State.STOPPED and is_refused and not shown.get("Job"):
            state, detail = State.FAILED, f"an assertion of its unit failed, see systemctl status {self.service}"
        main, started = (_number(shown.get(key, "")) for key in ("MainPID", "ExecMainStartTimestampMonotonic"))
        problems: tuple[str, ...] = ()
        if shown.get("NeedDaemonReload") == "yes":
            problems = (
                f"The files of {self.service} have changed since systemd read them; run systemctl daemon-reload.",
            )
        return UnitStatus(
            state,
            f"{active} ({sub})",
            detail,
            is_active,
            _members(shown.get("ControlGroup", "")),
            _number(shown.get("NRestarts", "")),
            main or None,
            max(0.0, time.monotonic() - started / 1e6) if main and started else None,
            _YES_NO.get(shown.get("CanReload", "")),
            problems,
        )

    def owns(self, process: Process) -> bool | None:
        try:
            shown = self.show()
        except ManagerError as exc:
            log.debug("Whose PID %d is cannot be told: %s", process.pid, exc)
            return None
        group = shown.get("ControlGroup", "")
        if group and any(f"{path}/".startswith(f"{group}/") for path in process.cgroups):
            return True
        main = _number(shown.get("MainPID", "")) or 0
        return bool(main) and main in process.lineage

    @property
    def runs_as(self) -> int | None:
        name = self.user or next(iter(show([self.service], ("User",))), {}).get("User")
        return galaxy_manager_unit.uid(name) if name else None

    def start(self) -> None:
        if self.status().state not in (State.RUNNING, State.STARTING):
            # else it would show as failed while its start waits for other units, and the limit on starts
            # would refuse the start
            try:
                self._tell("reset-failed")
            except ManagerError as exc:
                # a unit that is not loaded has nothing to reset
                log.debug("%s", exc)
        self._tell("start", "--no-block")

    def stop(self) -> None:
        self._tell("stop", timeout=_STOP_TIMEOUT)

    def log(self, lines: int) -> list[str]:
        if self.user:
            fits = [f"_SYSTEMD_USER_UNIT={self.service}.service", f"_UID={galaxy_manager_unit.uid(self.user)}"]
        else:
            fits = ["-u", f"{self.service}.service"]
        fits += [f"--namespace={self.namespace}"] if self.namespace else []
        argv = ["journalctl", *fits, "-n", str(lines), "-o", "cat", "--no-pager", "-q"]
        try:
            return galaxy_host_command.run(argv, timeout=10).splitlines()
        except CommandError as exc:
            log.debug("No journal: %s", exc)
            return []

    def invocation(self) -> Invocation | None:
        definition = _definition(show([self.service], _FILES, self.user), self.user)
        return galaxy_manager_unit.serving(definition.commands(secrets=True), self._own) if definition else None

    def _tell(self, verb: str, *options: str, timeout: float = _TIMEOUT) -> None:
        argv = [*_systemctl(self.user), verb, *options, f"{self.service}.service"]
        log.info("systemd is told: %s", " ".join(argv[1:]))
        try:
            galaxy_host_command.run(argv, timeout=timeout)
        except CommandError as exc:
            raise ManagerError(f"systemd: {verb} of {self.service} failed: {exc}") from None


def runs() -> bool:
    """Whether systemd is this machine's PID 1."""
    return os.path.isdir(RUNS)


def show(names: Iterable[str], properties: Iterable[str], user: str | None = None) -> list[dict[str, str]]:
    """
    The properties of the units, one mapping for each, in the order of the names.

    Raises ``ManagerError`` if systemd does not answer.
    """
    names = [name if name.endswith(".service") else f"{name}.service" for name in names]
    shown = []
    for start in range(0, len(names), _MAX_NAMES):
        argv = [
            *_systemctl(user),
            "show",
            f"--property={','.join(properties)}",
            "--",
            *names[start : start + _MAX_NAMES],
        ]
        shown += [_properties(block) for block in _ask(argv, user).split("\n\n") if block.strip()]
    return shown


def statuses(units: Iterable[Systemd]) -> list[UnitStatus]:
    """
    What systemd reports for several units of one manager, in their order, asked once.

    Raises ``ManagerError`` if systemd does not answer.
    """
    units = list(units)
    shown = show([unit.service for unit in units], _STATUS, units[0].user) if units else []
    if len(shown) != len(units):
        raise ManagerError(f"systemd reports nothing for one of {', '.join(unit.service for unit in units)}")
    return [unit._status_of(one) for unit, one in zip(units, shown, strict=True)]


def loaded(patterns: Iterable[str], user: str | None = None, active: bool = False) -> list[str]:
    """
    Names of the units that fit a pattern and that systemd has in memory; with ``active``, only those that run or are
    about to. Raises ``ManagerError``.
    """
    argv = [*_systemctl(user), "list-units", *([] if active else ["--all"])]
    argv += ["--plain", "--no-legend", "--no-pager", "--full", "--", *patterns]
    return [line.split()[0] for line in _ask(argv, user).splitlines() if line.strip()]


def candidates() -> list[tuple[Definition, dict[str, str]]]:
    """
    Every service of the system's manager that has a definition, with its ``Id``, ``Names`` and ``SourcePath``. Each is
    there once, whatever aliases it has; a template as its instances that are enabled or loaded.

    Raises ``ManagerError`` if systemd does not answer.
    """
    argv = ["systemctl", "list-unit-files", "--type=service", "--no-legend", "--no-pager", "--full"]
    files = [line.split()[0] for line in _ask(argv).splitlines() if line.strip()]
    argv = ["systemctl", "list-units", "--type=service", "--all", "--plain", "--no-legend", "--no-pager", "--full"]
    loaded = [line.split()[0] for line in _ask(argv).splitlines() if line.strip()]
    plain = [name for name in (*files, *loaded) if not name.endswith("@.service") and not BACKUP.fullmatch(name)]
    names = [name for name in dict.fromkeys([*plain, *_enabled_instances()]) if name.endswith(".service")]
    services: dict[str, tuple[Definition, dict[str, str]]] = {}
    for shown in show(names[:_MAX_UNITS], _FILES):
        unit = shown.get("Id", "")
        # systemd's own units are no Galaxy, and need not be read
        if shown.get("LoadState") in ("loaded", "masked") and not unit.startswith("systemd-") and unit not in services:
            definition = _definition([shown], None)
            if definition:
                services[unit] = (definition, shown)
    return list(services.values())


def of_process(process: Process) -> tuple[str, str | None] | None:
    """
    The service in whose control group a process is, and the user whose manager has this service; ``None`` if there is
    none.
    """
    for path in process.cgroups:
        parts = path.split("/")
        services = [index for index, part in enumerate(parts) if part.endswith(".service")]
        manager = next((index for index in services if re.fullmatch(r"user@\d+\.service", parts[index])), None)
        inner = [index for index in services if manager is None or index > manager]
        if not inner:
            continue
        user = _user(int(parts[manager][len("user@") : -len(".service")])) if manager is not None else None
        return parts[inner[0 if manager is not None else -1]].removesuffix(".service"), user
    return None


def definition_of(service: str, user: str | None) -> Definition | None:
    """What the files say of a unit. Raises ``ManagerError`` if systemd does not answer."""
    return _definition(show([service], _FILES, user), user)


def _definition(shown: list[dict[str, str]], user: str | None) -> Definition | None:
    properties = shown[0] if shown else {}
    fragment, drop_ins = properties.get("FragmentPath", ""), properties.get("DropInPaths", "").split()
    paths = [path for path in (fragment, *drop_ins) if path]
    name = properties.get("Id", "").removesuffix(".service")
    return Definition(name, paths, user) if name and paths else None


def _enabled_instances() -> list[str]:
    """Instances that a target wants, although it is not loaded; ``list-units`` does not show them."""
    patterns = [os.path.join(base, f"*.{kind}", "*@?*.service") for base in _WANTS for kind in ("wants", "requires")]
    return sorted({os.path.basename(path) for pattern in patterns for path in glob.glob(pattern)})


def _systemctl(user: str | None) -> list[str]:
    if not user:
        return ["systemctl"]
    is_ours = galaxy_manager_unit.uid(user) == os.geteuid()
    return ["systemctl", "--user"] if is_ours else ["systemctl", "--user", "-M", f"{user}@"]


def _ask(argv: list[str], user: str | None = None) -> str:
    try:
        return galaxy_host_command.run(argv, timeout=_TIMEOUT)
    except CommandError as exc:
        if user:
            raise ManagerError(
                f"systemd's manager of user {user} cannot be reached ({exc}); let {user} ask it, or see loginctl "
                "enable-linger"
            ) from None
        raise ManagerError(f"systemd cannot be asked: {exc}") from None


def _properties(block: str) -> dict[str, str]:
    return dict(line.partition("=")[::2] for line in block.strip().splitlines() if "=" in line)


def _members(group: str) -> tuple[int, ...]:
    """The PIDs in a control group and in the groups below it."""
    pids: set[int] = set()
    for base in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"):
        for directory, _, files in os.walk(base + group) if group.strip("/") else ():
            if "cgroup.procs" in files:
                pids |= _listed(os.path.join(directory, "cgroup.procs"))
        if pids:
            break
    return tuple(sorted(pids))


def _listed(path: str) -> set[int]:
    try:
        with open(path, encoding="ascii") as file:
            return {int(line) for line in file} - {0}
    except (OSError, ValueError):
        return set()


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() else None


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)
