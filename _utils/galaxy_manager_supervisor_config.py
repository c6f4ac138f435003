"""
Read supervisord's configuration files, and find out which supervisords run.

Whoever writes a configuration decides what supervisord runs. So only files are read that nobody but root and ourselves
can write, and only a supervisord counts that runs as root or as ourselves.
"""

import configparser
import functools
import glob
import itertools
import logging
import os
import platform
import re
import shlex
from collections.abc import Iterable, Mapping

import galaxy_host_files
import galaxy_host_process
import galaxy_host_wrappers
from galaxy_errors import FileError, FileMissing, ManagerError
from galaxy_host_pattern import Pattern
from galaxy_host_process import Invocation, Process
from galaxy_host_record import record
from galaxy_host_secret import Secret

log = logging.getLogger(__name__)

CONFIG_FILES = ("/etc/supervisord.conf", "/etc/supervisor/supervisord.conf")
# where supervisord looks without -c: in its working directory and beside its program
_NEAR = ("supervisord.conf", "etc/supervisord.conf")
_BESIDE = ("../etc/supervisord.conf", "../supervisord.conf")
_MAX_FILES, _MAX_PROCESSES, _MAX_VALUE = 500, 1000, 64 * 1024
_PLACEHOLDER = Pattern(r"%(?:%|\((\w+)\)(0?\d{0,2})([sd]))")
# a command without quotes
_PLAIN = Pattern(r"[\w ./:=@,+()%-]*")
_DEFAULT_STOP_SECONDS = 10.0


class NotTrusted(ManagerError):
    """Users other than root and ourselves can write a configuration file."""


@record(frozen=True)
class Program:
    """
    One process of a ``[program:x]`` or ``[fcgi-program:x]`` section.

    name, group, process
        name of the section; of its process group (the same, unless a ``[group:x]`` has it); of the process (the same,
        unless ``process_name`` gives another)
    stop_seconds
        how long its stop may take before supervisord kills it
    file
        the file that has the section
    user
        the user in the section, as whom it runs; empty: the user of supervisord itself
    """

    name: str
    group: str
    process: str
    invocation: Invocation
    stop_seconds: float
    file: str = ""
    user: str = ""

    @property
    def title(self) -> str:
        """Group and process, as supervisorctl writes them."""
        return self.process if self.process == self.group else f"{self.group}:{self.process}"


@record(frozen=True)
class Endpoint:
    """
    The address at which supervisord answers.

    path, host, port
        path of a unix socket, or host and port
    user, password
        the login, if supervisord wants one
    owner
        numeric ID of the only user who may answer there; ``None``: root, or ourselves
    """

    path: str = ""
    host: str = ""
    port: int = 0
    user: str = ""
    password: Secret | None = None
    owner: int | None = None


class SupervisorConfig:
    """
    The configuration file ``path``, with the files that it includes.

    process
        the supervisord that runs with it, if one is known: its environment fills in ``%(ENV_X)s``
    owner
        numeric ID of the user whose supervisord it is and who decides what its files say; ``None``: root, or ourselves
    included
        the files that it includes, if they are known without it; then it may be missing

    Raises ``ManagerError``, which names the file, if the file cannot be read, or if others than the owner can write it.
    """

    def __init__(
        self,
        path: str,
        process: Process | None = None,
        owner: int | None = None,
        included: Iterable[str] | None = None,
    ):
        self.path = os.path.abspath(path)
        self.process = process
        self.owner = owner
        self._here = os.path.dirname(self.path)
        self._sections: dict[str, dict[str, str]] = {}
        self._files: dict[str, str] = {}
        self._environment: Mapping[str, str] | None = None
        self._read(self.path, self._here, required=included is None)
        if included is None:
            patterns = self._get("include", "files").split()
            included = (path for pattern in patterns for path in sorted(glob.glob(os.path.join(self._here, pattern))))
        included = list(itertools.islice(included, _MAX_FILES + 1))
        if len(included) > _MAX_FILES:
            raise ManagerError(f"{self.path}: includes more than {_MAX_FILES} files")
        for file in included:
            self._read(file, os.path.dirname(os.path.abspath(file)))

    @functools.cached_property
    def programs(self) -> list[Program]:
        """Every process that it defines, without event listeners. Raises ``ManagerError`` if there are too many."""
        groups: dict[str, list[str]] = {}
        for section in self._sections:
            if section.startswith("group:"):
                for name in self._get(section, "programs").split(","):
                    groups.setdefault(name.strip(), []).append(section.partition(":")[2].strip())
        programs: list[Program] = []
        for section in self._sections:
            kind, _, name = section.partition(":")
            if kind in ("program", "fcgi-program"):
                # a program in two groups is started by both
                for group in groups.get(name.strip(), [name.strip()]):
                    programs += self._processes(section, name.strip(), group)
                if len(programs) > _MAX_PROCESSES:
                    raise ManagerError(f"{self.path}: defines more than {_MAX_PROCESSES} processes")
        return programs

    def endpoint(self) -> Endpoint:
        """
        The address at which supervisord answers: ``[supervisorctl] serverurl``, or what the server sections say.

        Raises ``ManagerError`` if there is no address, or if the file alone does not give the login.
        """
        unix, inet = self._get("unix_http_server", "file"), self._get("inet_http_server", "port")
        url = self._get("supervisorctl", "serverurl")
        if not url:
            url = f"unix://{unix}" if unix else f"http://{inet}" if inet else ""
        if not url:
            raise ManagerError(f"{self.path}: no unix_http_server section, so supervisord cannot be spoken to; add one")
        server = "unix_http_server" if url.startswith("unix://") else "inet_http_server"
        user, password = (self._login(server, key) for key in ("username", "password"))
        if url.startswith("unix://"):
            return Endpoint(os.path.join(self._here, url[len("unix://") :]), user=user, password=Secret(password))
        host, _, port = url.partition("://")[2].split("/")[0].rpartition(":")
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ManagerError(f"{self.path}: supervisord's address {url!r} has no port")
        host = "127.0.0.1" if host in ("", "*", "0.0.0.0") else host.strip("[]")  # noqa: S104
        return Endpoint(host=host, port=int(port), user=user, password=Secret(password))

    def _login(self, server: str, key: str) -> str:
        value = self._raw("supervisorctl", key) or self._raw(server, key)
        if "%(" in value:
            # values of an environment are never sent
            raise ManagerError(
                f"{self.path}: {key} is taken from the environment of supervisord; write it into [supervisorctl]"
            )
        return value.replace("%%", "%")

    def _read(self, path: str, here: str, required: bool = True) -> None:
        parser = configparser.RawConfigParser(strict=False, inline_comment_prefixes=(";", "#"))
        try:
            named_by = () if self.owner is None else (self.owner,)
            data = galaxy_host_files.read(path, named_by=named_by, trusted=self.owner is None)
            parser.read_string(data.decode(), path)
        except FileMissing:
            if not required:
                return
            raise ManagerError(f"{path}: no such supervisord configuration file") from None
        except FileError as exc:
            raise NotTrusted(f"supervisord's configuration is not used: {exc}") from None
        except (ValueError, configparser.Error) as exc:
            first = str(exc).splitlines()[0]
            raise ManagerError(f"{path}: supervisord's configuration cannot be read: {first}") from None
        for section in parser.sections():
            values = self._sections.setdefault(section, {})
            self._files[section] = path
            for key, value in parser.items(section):
                values[key] = value.strip()[:_MAX_VALUE].replace("%(here)s", here)

    def _raw(self, section: str, key: str) -> str:
        return self._sections.get(section, {}).get(key, "")

    def _get(self, section: str, key: str, names: Mapping[str, object] | None = None) -> str:
        return self._expand(self._raw(section, key), names or {})

    def _expand(self, text: str, names: Mapping[str, object]) -> str:
        """Fill in ``%(x)s`` and the like. An unknown name stays as it is, and so fits nothing."""
        if "%" not in text:
            return text

        def replace(match: re.Match[str]) -> str:
            name, width, kind = match.groups()
            if name is None:
                return "%"
            value = names.get(name, self._known(name))
            if value is None:
                return match[0]
            if kind == "d":
                return f"{value:{width}d}" if isinstance(value, int) else match[0]
            return str(value)

        return _PLACEHOLDER.sub(replace, text)

    def _known(self, name: str) -> str | None:
        if name == "host_node_name":
            return platform.node()
        if not name.startswith("ENV_"):
            return None
        if self._environment is None:
            self._environment = (self.process and self.process.environment) or {}
        return self._environment.get(name.removeprefix("ENV_"))

    def _processes(self, section: str, name: str, group: str) -> list[Program]:
        count, first = self._number(section, "numprocs", 1), self._number(section, "numprocs_start", 0)
        if count > _MAX_PROCESSES:
            raise ManagerError(f"{self._files[section]}: [{section}] has more than {_MAX_PROCESSES} processes")
        source = f"program {name} in {self._files[section]}"
        programs = []
        inherited = (self.process and self.process.environment) or {}
        shared = _pairs(self._get("supervisord", "environment"))
        for number in range(first, first + count):
            names: dict[str, object] = {"program_name": name, "group_name": group, "process_num": number}
            names["numprocs"] = count
            environment = {
                **inherited,
                **shared,
                **_pairs(self._get(section, "environment", names)),
            }
            names.update((f"ENV_{key}", value) for key, value in environment.items())
            process = self._get(section, "process_name", names) or name
            directory: str | None = self._get(section, "directory", names)
            if not directory:
                # supervisord changes to its own directory only when it becomes a daemon
                directory = self.process.cwd if self.process else self._get("supervisord", "directory")
            invocation = Invocation(
                _words(self._get(section, "command", names)),
                source if process == name else f"{source}, process {process}",
                os.path.expanduser(directory) if directory else None,
                environment,
            )
            stop_seconds = float(self._number(section, "stopwaitsecs", int(_DEFAULT_STOP_SECONDS)))
            user = self._get(section, "user", names)
            programs.append(Program(name, group, process, invocation, stop_seconds, self._files[section], user))
        return programs

    def _number(self, section: str, key: str, default: int) -> int:
        value = self._get(section, key)
        return int(value) if value.isascii() and value.isdecimal() and len(value) < 7 else default


def _words(command: str) -> tuple[str, ...]:
    if _PLAIN.fullmatch(command):
        # a quick way for most values, because shlex reads character by character
        return tuple(command.split())
    return tuple(galaxy_host_wrappers.split(command))


def _pairs(text: str) -> dict[str, str]:
    """Split ``KEY="value",OTHER=value`` as supervisord does."""
    if not text:
        return {}
    lexer = shlex.shlex(text)
    lexer.wordchars += "/.+-():"
    try:
        tokens = list(lexer)
    except ValueError:
        return {}
    triples = (tokens[index : index + 3] for index in range(0, len(tokens), 4))
    return {triple[0]: triple[2].strip("'\"") for triple in triples if len(triple) == 3 and triple[1] == "="}


def is_trusted(process: Process, owner: int | None = None) -> bool:
    """Whether it runs as root, as ourselves or as ``owner``, by both of its user IDs."""
    return set(process.uids or (None,)) <= {0, os.geteuid(), owner}


def config_files() -> list[tuple[str, Process | None]]:
    """
    Configuration files of the trusted supervisords that run, each with its process; and those in the usual places.
    """
    running = []
    for pid in galaxy_host_process.pids():
        if b"supervisor" in galaxy_host_process.command_line(pid)[:4096]:
            process = Process.of(pid)
            running += [(path, process) for path in config_files_of(process)] if process else []
    usual = [(path, None) for path in CONFIG_FILES if os.path.isfile(path)]
    files: dict[str, tuple[str, Process | None]] = {}
    for path, process in [*running, *usual]:
        files.setdefault(os.path.realpath(path), (path, process))
    return list(files.values())


def config_files_of(process: Process, owner: int | None = None) -> list[str]:
    """
    Configuration files that the process may have, if it is a supervisord that counts; a supervisord of user ``owner``
    counts too. The file in ``-c``, or else those in the places where supervisord looks.
    """
    argv = process.argv
    script = next((index for index, word in enumerate(argv[:4]) if _is_supervisord(argv, index)), None)
    if script is None:
        return []
    if not is_trusted(process, owner) or not process.has_our_root:
        log.info("PID %d is called supervisord, but user %s runs it: it is not asked", process.pid, process.uids)
        return []
    cwd = process.cwd
    told = _told(argv[script + 1 :])
    if told:
        paths = [os.path.join(cwd or "/", told)] if cwd or os.path.isabs(told) else []
    else:
        beside = [os.path.join(os.path.dirname(argv[script]), name) for name in _BESIDE]
        near = [os.path.join(cwd, name) for name in _NEAR] if cwd else []
        paths = [*filter(os.path.isabs, beside), *near, *CONFIG_FILES]
    return [os.path.normpath(path) for path in paths if os.path.isfile(path)]


def _is_supervisord(argv: tuple[str, ...], index: int) -> bool:
    """Whether this word is supervisord in the place of the command: first, or run by a Python."""
    if argv[index] == "supervisor.supervisord":
        return index > 0 and argv[index - 1] == "-m"
    if os.path.basename(argv[index]) != "supervisord":
        return False
    interpreted = galaxy_host_wrappers.PYTHON.fullmatch(os.path.basename(argv[0])) is not None
    return index == 0 or (interpreted and all(word.startswith("-") for word in argv[1:index]))


def _told(options: tuple[str, ...]) -> str | None:
    for index, word in enumerate(options):
        if word in ("-c", "--configuration"):
            return options[index + 1] if index + 1 < len(options) else None
        if word.startswith("--configuration="):
            return word.partition("=")[2]
        if word.startswith("-c") and len(word) > 2:
            return word[2:]
    return None
