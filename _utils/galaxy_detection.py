"""
Which process manager keeps Galaxy up: by what is really there, not by the distribution's name.
"""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Callable, Collection, Mapping

import psutil

import galaxy_supervisor
from galaxy_errors import ManagerError
from galaxy_manager import InitScript, Manager, Supervisord, Systemd
from galaxy_process import Process
from galaxy_supervisor import SupervisorConfig

_UNIT_DIRECTORIES = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
# there where systemd is PID 1, sd_booted(3)
_SYSTEMD_RUNS = "/run/systemd/system"
_UPSTART_JOBS = "/etc/init/*.conf"
_INIT_SCRIPTS = "/etc/init.d/*"
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
            found = {"supervisord": _supervisord_of, "systemd": _unit_of}.get(name, lambda *_: None)(master, conf_file)
            if found and service in (None, found[0]):
                maker = makers[name](*found)
                if maker.owns(master):
                    return maker
    ranked = {name: finders[name](config, service, conf_file) for name in wanted}
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


def _supervisord(config, service, conf_file):
    found = []
    for path in [conf_file] if conf_file else galaxy_supervisor.config_files():
        for program in SupervisorConfig(path).programs():
            grouped = program.group != program.name
            if service:
                target = service.removesuffix("*").removesuffix(":")
                if target in (program.group, f"{program.group}:{program.name}", program.name):
                    exact = f"{program.group}:{program.name}" if grouped and target != program.group else program.group
                    found.append((0, exact, path))
            else:
                rank = _rank(f"{program.group} {program.name}", program.command, config)
                if rank is not None:
                    found.append((rank, program.group, path))
    return list(dict.fromkeys(found))


def _supervisord_of(master, conf_file):
    parent = _parent_of(master)
    for path in galaxy_supervisor.config_files_of(parent) if parent else ():
        if not os.path.isfile(path) or (conf_file and os.path.realpath(path) != os.path.realpath(conf_file)):
            continue
        config = SupervisorConfig(path)
        for group in {program.group for program in config.programs()}:
            for process in galaxy_supervisor.processes(config.connect(), group) or ():
                if process.pid == master.pid:
                    return group, path
    return None


def _systemd(config, service, _conf_file):
    if not os.path.isdir(_SYSTEMD_RUNS):
        return []
    found = {}
    for directory in _UNIT_DIRECTORIES:
        for path in glob.glob(os.path.join(directory, "*.service")):
            name = os.path.basename(path).removesuffix(".service")
            if name in found or name.endswith("@"):
                continue
            if service:
                if name == service.removesuffix(".service"):
                    found[name] = 0
            else:
                found[name] = _rank(name, _words_of(path), config)
    return [(rank, name) for name, rank in found.items() if rank is not None]


def _unit_of(master, _conf_file):
    if not os.path.isdir(_SYSTEMD_RUNS):
        return None
    try:
        with open(f"/proc/{master.pid}/cgroup", encoding="utf-8") as file:
            groups = [line.rstrip("\n").rpartition("/")[2] for line in file]
    except OSError:
        return None
    unit = next((name.removesuffix(".service") for name in groups if name.endswith(".service")), None)
    return (unit,) if unit and _parent_of(master) == 1 else None


def _upstart(config, service, _conf_file):
    if not shutil.which("initctl"):
        return []
    return _definitions(_UPSTART_JOBS, ".conf", config, service)


def _sysvinit(config, service, _conf_file):
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
            rank = _rank(name, _words_of(path), config)
            if rank is not None:
                found.append((rank, name))
    return found


def _words_of(path: str) -> set[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return {word.strip("\"'").rpartition("=")[2] for word in file.read().split()}
    except OSError:
        return set()


def _rank(name: str, command: Collection[str], config: str | None) -> int | None:
    runs_uwsgi = any("uwsgi" in os.path.basename(word) for word in command)
    if config and config in command:
        return 0 if runs_uwsgi else 1
    if config and runs_uwsgi and any(word.endswith(_CONFIG_SUFFIXES) for word in command):
        # another server's
        return None
    return 2 if "galaxy" in name.lower() else None


def _parent_of(process: Process) -> int | None:
    try:
        return psutil.Process(process.pid).ppid()
    except psutil.NoSuchProcess:
        return None
