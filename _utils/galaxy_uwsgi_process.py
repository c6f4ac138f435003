"""
Find the processes of one uWSGI: its master, what the master forked, and others that serve its sockets.

A listening socket proves little: in a zerg pool, with ``SO_REUSEPORT``, or after a re-fork, several masters serve one
socket. Processes belong together if one forked the other without executing another program; the kernel tells this.
"""

import logging
import os
import re
from collections.abc import Callable, Iterable
from typing import Any

import galaxy_host_process
import galaxy_host_wrappers
import galaxy_uwsgi_command
from galaxy_errors import MasterGone, ProcessError, SharedSocket
from galaxy_host_address import Address
from galaxy_host_pattern import Pattern
from galaxy_host_process import Invocation, Process
from galaxy_host_sockets import holds, listeners

log = logging.getLogger(__name__)

# names of the program: uwsgi, pyuwsgi, Debian's uwsgi-core, Fedora's uwsgi_python3, run_uwsgi.sh; not uwsgitop
_PROGRAM = Pattern(r"((run|start)[-_.]?)?(py)?uwsgi([-_.\d].*)?", re.IGNORECASE)
# programs of Galaxy's other services and of process managers: they start no uWSGI
_OTHER = Pattern(
    r"celery|galaxy-main|main\.py|gunicorn\d?|uvicorn|paster?(\.py)?|tusd|node|nginx|galaxyctl|supervisord|"
    r"(galaxy|tool_shed)\.webapps.*",
    re.IGNORECASE,
)
# options that load a file (core/uwsgi.c, plugins/python)
_LOADS = {
    *("ini", "yaml", "yml", "json", "js", "xml", "xmlconfig", "config", "include", "inherit"),
    *("paste", "ini-paste", "ini-paste-logged"),
}
# path:section
_SECTION = Pattern(r":[^/:]*\Z")
# uWSGI loads a bare word as a file if it ends like this
_SUFFIXES = (".ini", ".yml", ".yaml", ".json", ".js", ".xml")


def is_uwsgi(process: Process) -> bool:
    """Whether the process runs uWSGI: the binary, or pyuwsgi in a Python, whatever its name is (``auto-procname``)."""
    exe = process.exe
    program = os.path.basename(exe or "")
    if _PROGRAM.fullmatch(program):
        return True
    if exe is not None and not galaxy_host_wrappers.PYTHON.fullmatch(program):
        return False
    # the kernel names a process after the executed script
    return _runs_uwsgi(process.argv) or bool(_PROGRAM.fullmatch(process.name))


def starts(invocation: Invocation, config: str | None = None) -> bool | None:
    """
    Whether a command starts this configuration's uWSGI; process managers ask this (``own``). ``False`` if it starts
    another uWSGI or another service of Galaxy. ``None`` if this cannot be told, as for a script or a uWSGI that names
    no file.
    """
    commands = galaxy_host_wrappers.unwrap(invocation)
    serving = [command for command in commands if _runs_uwsgi(command.argv)]
    if not serving:
        # a script with unknown content may start uWSGI; a known program does not
        return False if commands and all(_is_other(command.argv) for command in commands) else None
    named = {path for command in serving for path in configurations(command)}
    if config and named:
        return os.path.realpath(config) in named
    return None


def configurations(invocation: Invocation) -> set[str]:
    """
    Real paths of the configuration files that uWSGI's command line and variables name. Relative ones are left out if
    its working directory is unknown.
    """
    return {
        os.path.realpath(os.path.join(invocation.cwd or "/", path))
        for path in _files(invocation)
        if os.path.isabs(path) or invocation.cwd
    }


def names(process: Process, config: str) -> bool | None:
    """
    Whether the command line of a live uWSGI names this configuration file. ``None`` if it names no file or is
    overwritten (``auto-procname``), or if its paths are not ours (a container) or no longer lead anywhere (``chdir``).
    """
    argv = process.argv
    if not argv or not process.has_our_root:
        return None
    # the usual case: an absolute path needs neither directory nor environment
    if os.path.isabs(config) and config in _files(Invocation(argv, "")):
        return True
    invocation = process.invocation()
    if not invocation:
        return None
    real = os.path.realpath(config)
    verdicts = [_is_file(path, invocation, real) for path in _files(invocation)]
    if True in verdicts:
        return True
    return None if None in verdicts or not verdicts else False


def find_master(
    addresses: Iterable[Address],
    hints: Iterable[int | None] = (),
    config: str | None = None,
    is_mine: Callable[[Process], bool] = lambda process: True,
) -> Process | None:
    """
    The uWSGI master that serves ``addresses``.

    addresses
        the server's own sockets. One of them is enough; if several masters share it, the others decide
    hints
        PIDs that the stats document or a pidfile names, the best first. A PID is only believed if it is uWSGI and holds
        one of the sockets
    config
        path of its configuration. If several masters share the sockets, the one whose command line names it is meant
    is_mine
        whether a process belongs to this server. Another server's process is only returned if nothing else holds the
        sockets

    ``None`` if nothing listens. Raises ``MasterGone`` if only workers that outlived their master hold the sockets,
    ``SharedSocket`` if several masters hold them and nothing tells which is meant, and ``ProcessError`` if something
    that is not uWSGI holds them.
    """
    addresses = tuple(addresses)
    inodes = listeners(addresses)
    if not inodes:
        return None
    for pid in hints:
        process = _holder(pid, inodes) if pid else None
        top = _top(process) if process else None
        # a uWSGI without a master is one process that looks like a lost worker. But no hint names the PID of a real
        # worker
        if top and is_mine(top) and (top.pid == pid or not _lost_its_master(top, ())):
            log.debug("Master of %s: PID %d, as PID %d that was named holds the socket", addresses, top.pid, pid)
            return top
    where = ", ".join(map(str, addresses))
    held = _holders(inodes)
    if not held:
        hint = "" if os.geteuid() == 0 else "; run as root to see other users' processes"
        raise ProcessError(f"{where}: something listens there that is not uWSGI{hint}")
    masters, lost = _split(held)
    mine = list(filter(is_mine, masters)), list(filter(is_mine, lost))
    if not any(mine):
        return (masters or lost)[0]
    masters, lost = mine
    if not masters:
        pids = [process.pid for process in lost]
        raise MasterGone(
            f"{where}: held by uWSGI workers that outlived their master (PID {', '.join(map(str, pids))}); galaxy.stop "
            "ends them",
            pids,
        )
    chosen = _choose(masters, addresses, config)
    if len(chosen) > 1:
        pids = [process.pid for process in chosen]
        raise SharedSocket(
            f"{where}: {len(pids)} uWSGI masters serve it (PID {', '.join(map(str, pids))}), as in a zerg pool, and "
            "nothing says which one is meant; name it with stats= or service=",
            pids,
        )
    log.debug("Master of %s: PID %d, by its sockets", addresses, chosen[0].pid)
    return chosen[0]


def masters(config: str) -> list[Process]:
    """The live uWSGI masters whose own command line names this configuration file, of any user."""
    named = []
    for pid in galaxy_host_process.pids():
        if b"uwsgi" in galaxy_host_process.command_line(pid).lower():
            process = Process.of(pid)
            if process and is_uwsgi(process) and names(process, config):
                named.append(process)
    return _split(named)[0]


def family(master: Process) -> list[Process]:
    """
    The uWSGI processes that the master forked (workers, mules, routers), and those that these forked. Never another
    master, such as one that it re-forked, and no program that these started, such as a job.
    """
    kin: dict[Process, None] = {}
    parents = [master]
    while parents:
        for child in parents.pop().children():
            if child not in kin and is_uwsgi(child) and _is_same_program(master, child):
                kin[child] = None
                parents.append(child)
    return list(kin)


def survivors(addresses: Iterable[Address]) -> list[Process]:
    """
    The uWSGI processes that hold the sockets of ``addresses`` and whose master is gone, and those that they forked.
    """
    inodes = listeners(addresses)
    if not inodes:
        return []
    return [process for lost in _split(_holders(inodes))[1] for process in (lost, *family(lost))]


def sharers(addresses: Iterable[Address], master: Process | None) -> list[Process]:
    """The other uWSGI masters that serve ``addresses`` beside ``master``, as in a zerg pool."""
    inodes = listeners(addresses)
    return [process for process in _split(_holders(inodes))[0] if process != master] if inodes else []


def _files(invocation: Invocation) -> list[str]:
    """The configuration files that uWSGI's command line and variables (``UWSGI_YAML``) name, as written there."""
    words = list(galaxy_host_wrappers.program(invocation.argv)[1:])
    loaded = [value for name, value in galaxy_uwsgi_command.getopt(words) if value and _is_loaded(name, value)]
    for name, value in (invocation.environment or {}).items():
        if name.startswith("UWSGI_") and name[6:].lower().replace("_", "-") in _LOADS:
            loaded.append(value)
    # without the prefix config: of paste, and without the section
    paths = [_SECTION.sub("", text.removeprefix("config:")) for text in loaded]
    # :section alone means another section of the previous file
    return [path for path in paths if path]


def _is_file(path: str, invocation: Invocation, real: str) -> bool | None:
    """
    Whether a live uWSGI's word for a file means the file with this real path.

    uWSGI may have changed its directory since it read a relative path (``chdir``). Then the path may still be right
    from the shell's directory. If not, and the end of the name is the same, this cannot be told.
    """
    if os.path.isabs(path):
        return os.path.realpath(path) == real
    directories = (invocation.cwd, (invocation.environment or {}).get("PWD"))
    for directory in filter(None, directories):
        there = os.path.join(directory, path)
        if os.path.exists(there):
            return os.path.realpath(there) == real
    return None if real.endswith(f"/{os.path.normpath(path)}") else False


def _is_loaded(name: str | None, value: str) -> bool:
    """Whether uWSGI loads a file for this value of an option, or for this bare word."""
    return name in _LOADS if name else _SECTION.sub("", value).endswith(_SUFFIXES)


def _runs_uwsgi(argv: tuple[str, ...]) -> bool:
    program = _script(argv)
    return bool(_PROGRAM.fullmatch(os.path.basename(program)))


def _script(argv: tuple[str, ...]) -> str:
    """The word in the place of the command: the program, or the script or module that an interpreter runs."""
    words = galaxy_host_wrappers.program(argv)
    if words[:1] == ("-c",):
        return "pyuwsgi" if "pyuwsgi" in "".join(words[1:2]) else ""
    return words[0] if words else ""


def _is_other(argv: tuple[str, ...]) -> bool:
    return bool(_OTHER.fullmatch(os.path.basename(_script(argv))))


def _holder(pid: int, inodes: Iterable[int]) -> Process | None:
    """
    The process, if it is uWSGI and holds one of the sockets. It is identified before this is looked at, and after.
    """
    process = Process.of(pid)
    return process if process and is_uwsgi(process) and holds(pid, inodes) and process.is_alive else None


def _holders(inodes: Iterable[int]) -> list[Process]:
    """
    The uWSGI processes that have one of the sockets open, and the uWSGI processes that these started by executing a
    program. A process that one of them forked is left out.
    """
    everyone = galaxy_host_process.pids()
    # looking at the command line costs a tenth of is_uwsgi, and is enough unless uWSGI changed its name
    for candidates in (filter(_is_named_uwsgi, everyone), everyone):
        held: dict[int | None, Process] = {}
        forked: dict[int | None, Process] = {}
        images: dict[int | None, tuple[Any, ...] | None] = {}
        for pid in candidates:
            process = Process.of(pid)
            if not process:
                continue
            # a master comes before its workers. Then the workers' program and open files need not be looked at
            number, images[pid] = process.origin
            parent = held.get(number) or forked.get(number)
            if parent and not parent.is_alive:
                parent = None
            if parent and images[pid] == images[number] and (images[pid] or _is_same_program(parent, process)):
                forked[pid] = process
            elif (parent or holds(pid, inodes)) and is_uwsgi(process) and process.is_alive:
                held[pid] = process
        if held:
            return list(held.values())
    return []


def _is_named_uwsgi(pid: int) -> bool:
    return b"uwsgi" in galaxy_host_process.command_line(pid)[:4096].lower()


def _top(process: Process) -> Process:
    """Go up to the process that no other uWSGI forked, because a pidfile may name a worker."""
    parent = process.parent
    while parent and is_uwsgi(parent) and _is_same_program(parent, process):
        process, parent = parent, parent.parent
    return process


def _split(processes: Iterable[Process]) -> tuple[list[Process], list[Process]]:
    """
    Divide uWSGI processes into live masters and those that outlived their master. Workers of a live master are neither.
    """
    tops = list(dict.fromkeys(_top(process) for process in processes))
    lost = [top for top in tops if _lost_its_master(top, tops)]
    return [top for top in tops if top not in lost], lost


def _is_same_program(process: Process, forked: Process) -> bool:
    """Whether the one forked the other without executing a program: not a vassal, a zergling, or a re-forked master."""
    images = process.image, forked.image
    if None not in images:
        return images[0] == images[1]
    # for an unprivileged user: a master that is forked again makes a session of its own
    return process.argv == forked.argv and process.session == forked.session


def _lost_its_master(process: Process, tops: Iterable[Process]) -> bool:
    """
    Whether a uWSGI process that no other one forked is a worker whose master is gone.

    Under a process manager or an interactive shell, a master leads its process group, and its workers stay in this
    group. A process in a group of another, such as a daemon, is a worker if several were forked from one process which
    is gone, or if it forked none itself.
    """
    group = process.group
    # 0: the group is in a PID namespace outside of ours
    if group in (None, 0, process.pid) or Process.of(group):
        return False
    if any(top != process and _is_same_program(process, top) for top in tops):
        return True
    return not any(is_uwsgi(child) and _is_same_program(process, child) for child in process.children())


def _choose(masters: list[Process], addresses: tuple[Address, ...], config: str | None) -> list[Process]:
    """
    Of masters that share a socket, those that may be meant: first by the other sockets, then by the configuration.
    """
    for inodes in map(listeners, [[address] for address in addresses] if len(masters) > 1 else ()):
        holding = [process for process in masters if holds(process.pid, inodes)]
        masters = holding or masters
    if config and len(masters) > 1:
        masters = [process for process in masters if names(process, config)] or masters
    return masters
