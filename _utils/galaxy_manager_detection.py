"""
Which process manager keeps Galaxy up: by what is really there, not by the distribution's name.
"""

import glob
import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping

import galaxy_host_process
import galaxy_manager_supervisor
from galaxy_errors import ManagerError
from galaxy_host_process import Process
from galaxy_manager_supervisor import SupervisorConfig
from galaxy_manager_unit import InitScript, Manager, State, Supervisord, Systemd, is_of

_UNIT_DIRECTORIES = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
# there where systemd is PID 1, sd_booted(3)
_SYSTEMD_RUNS = "/run/systemd/system"
_UPSTART_JOBS = "/etc/init/*.conf"
_INIT_SCRIPTS = "/etc/init.d/*"
# of what is called galaxy, such as galaxy-cleanup, the server itself
_CALLED_GALAXY = re.compile(r"galaxy([-_.@]?(web|uwsgi|server|main)\w*)?", re.IGNORECASE)
_CONFIG_SUFFIXES = (".yml", ".yaml", ".ini")


def detect(
    functions: Mapping[str, Callable],
    config: str | None = None,
    master: Process | None = None,
    manager: str | None = None,
    service: str | None = None,
    conf_file: str | None = None,
    bin_env: str | None = None,
) -> Manager | None:
    """
    The manager of the Galaxy server, by what is really there; ``None`` where nothing manages it.

    config
        path of its configuration: a definition that names it is taken before one that is only called galaxy
    master
        its master, where it runs: what started it is the manager
    manager, service
        given by the user, believed
    conf_file, bin_env
        supervisord's configuration file, and its ``supervisorctl`` or virtualenv

    Raises ``ManagerError`` for an unknown manager and where several definitions fit equally.
    """
    finders = {"supervisord": _supervisord, "systemd": _systemd, "upstart": _upstart, "sysvinit": _sysvinit}
    if manager is not None and manager not in finders:
        raise ManagerError(f"Unknown process manager {manager!r}; expected one of {', '.join(finders)}")
    if conf_file and manager is None:
        manager = "supervisord"
    makers = {
        "supervisord": lambda found, path=None: Supervisord(found, functions, path or conf_file, bin_env),
        "systemd": lambda found: Systemd(found, functions),
        "upstart": lambda found: InitScript("upstart", found, functions),
        "sysvinit": lambda found: InitScript("sysvinit", found, functions),
    }
    wanted = [manager] if manager else list(finders)
    if master:
        for name in wanted:
            running = {"supervisord": _supervisord_of, "systemd": _unit_of}.get(name, lambda *_: None)
            found = running(master, conf_file, functions)
            if found and service in (None, found[0]):
                return makers[name](*found)
    ranked = {name: finders[name](config, service, conf_file, functions) for name in wanted}
    for rank in (0, 1, 2):
        for name in wanted:
            fits = [found[1:] for found in ranked[name] if found[0] == rank]
            if len(fits) > 1:
                names = ", ".join(found[0] for found in fits)
                raise ManagerError(f"{name} has several services that may be Galaxy: {names}; say which with service=")
            if fits:
                return makers[name](*fits[0])
    if service and manager and manager != "supervisord":
        return makers[manager](service)
    if service or manager:
        wanted_text = " ".join(filter(None, (manager, service)))
        raise ManagerError(f"Nothing like {wanted_text} manages Galaxy here; check manager=, service= and conf_file=")
    return None


# Each finder gives (rank, service, …). Rank 0: named by the user, or runs uWSGI with the configuration; 1: names the
# configuration, as a job handler does; 2: is called galaxy.


def _supervisord(config, service, conf_file, _functions):
    found = []
    for path in [conf_file] if conf_file else galaxy_manager_supervisor.config_files():
        for program in SupervisorConfig(path).programs():
            if service:
                named = _service_of(program, service.removesuffix("*").removesuffix(":"))
                if named:
                    found.append((0, named, path))
            else:
                rank = _rank((program.group, program.name), program.command, program.directory, config)
                if rank is not None:
                    found.append((rank, program.group, path))
    return list(dict.fromkeys(found))


def _service_of(program, target):
    """
    What ``target`` (a group, a program, or ``group:process``) means for the program; ``None`` where it means another.
    """
    group, colon, process = target.partition(":")
    if not colon:
        if target == program.group:
            return program.group
        return f"{program.group}:{program.name}" if target == program.name else None
    return target if group == program.group and is_of(process, program.name) else None


def _supervisord_of(master, conf_file, _functions):
    parent = galaxy_host_process.parent(master.pid)
    for path in galaxy_manager_supervisor.config_files_of(parent) if parent else ():
        if not os.path.isfile(path) or (conf_file and os.path.realpath(path) != os.path.realpath(conf_file)):
            continue
        for process in galaxy_manager_supervisor.processes(SupervisorConfig(path).connect()) or ():
            if process.pid == master.pid:
                return process.group, path
    return None


def _systemd(config, service, _conf_file, functions):
    if not os.path.isdir(_SYSTEMD_RUNS):
        return []
    if service:
        # an instance (galaxy@web) or what a generator made has no file of its own
        unit = Systemd(service.removesuffix(".service"), functions)
        return [(0, unit.service)] if unit.word().state is not State.UNKNOWN else []
    found = {}
    for directory in _UNIT_DIRECTORIES:
        for path in glob.glob(os.path.join(directory, "*.service")):
            name = os.path.basename(path).removesuffix(".service")
            if name not in found and not name.endswith("@"):
                found[name] = _rank((name,), *_read(path), config)
    return [(rank, name) for name, rank in found.items() if rank is not None]


def _unit_of(master, _conf_file, functions):
    if not os.path.isdir(_SYSTEMD_RUNS):
        return None
    try:
        with open(f"/proc/{master.pid}/cgroup", encoding="utf-8") as file:
            groups = [line.rstrip("\n").rpartition("/")[2] for line in file]
    except OSError:
        return None
    unit = next((name.removesuffix(".service") for name in groups if name.endswith(".service")), None)
    # what a minion's job left behind lies in the minion's cgroup: stopping Galaxy must not stop the minion
    return (unit,) if unit and Systemd(unit, functions).main_pid() == master.pid else None


def _upstart(config, service, _conf_file, _functions):
    if not shutil.which("initctl"):
        return []
    return _definitions(_UPSTART_JOBS, ".conf", config, service)


def _sysvinit(config, service, _conf_file, _functions):
    # where systemd is the init, it runs the scripts too, but as units
    if os.path.isdir(_SYSTEMD_RUNS):
        return []
    return _definitions(_INIT_SCRIPTS, "", config, service)


def _definitions(pattern, suffix, config, service):
    found = []
    for path in sorted(glob.glob(pattern)):
        name = os.path.basename(path).removesuffix(suffix)
        if service:
            if name == service:
                found.append((0, name))
        else:
            rank = _rank((name,), *_read(path), config)
            if rank is not None:
                found.append((rank, name))
    return found


def _read(path: str) -> tuple[list[str], str]:
    """The words of a unit, job or script, and its working directory."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return [], ""
    directory = re.search(r"(?m)^(?:WorkingDirectory\s*=\s*-?|chdir\s+)(\S+)", text)
    return text.split(), directory[1] if directory else ""


def _rank(names: Iterable[str], command: Iterable[str], directory: str, config: str | None) -> int | None:
    # a shell's command line is one word of its own
    words = [word.strip("\"';") for word in " ".join(command).split()]
    runs_uwsgi = any("uwsgi" in os.path.basename(word) for word in words)
    named = _configurations(words, directory)
    if config and os.path.realpath(config) in named:
        return 0 if runs_uwsgi else 1
    if config and runs_uwsgi and named:
        # another server's
        return None
    return 2 if any(_CALLED_GALAXY.fullmatch(name) for name in names) else None


def _configurations(words: list[str], directory: str) -> set[str]:
    """The real paths of the configuration files among the words; relative ones only where it is known to what."""
    bases = [directory, *(target for word, target in itertools.pairwise(words) if word == "cd")]
    bases = [base for base in bases if os.path.isabs(base)]
    found = set()
    for word in words:
        path = word.rpartition("=")[2]
        if path.endswith(_CONFIG_SUFFIXES):
            found.update(os.path.realpath(os.path.join(base, path)) for base in (bases or ["/"] * os.path.isabs(path)))
    return found
