"""
Talk to supervisord: its configuration files, and its XML-RPC interface.

XML-RPC (supervisor's documented API) rather than ``supervisorctl``: a look takes milliseconds instead of a Python
start, a start need not block for ``startsecs``, and answers are typed.
"""

import base64
import configparser
import dataclasses
import glob
import os
import shlex
import socket

import psutil

from galaxy_errors import ManagerError

CONFIG_FILES = ("/etc/supervisord.conf", "/etc/supervisor/supervisord.conf")
_TIMEOUT = 10
# xmlrpc.Faults of supervisor
BAD_NAME, ALREADY_STARTED = 10, 60


class Fault(ManagerError):
    """supervisord refuses; ``code`` is one of its ``xmlrpc.Faults``."""

    def __init__(self, code: int, text: str):
        super().__init__(text)
        self.code = code


class NotRunning(ManagerError):
    """Nothing answers at supervisord's address."""


@dataclasses.dataclass(frozen=True)
class Program:
    """A ``[program:x]`` section: its process group (its own name unless a ``[group:x]`` has it), command, directory."""

    name: str
    group: str
    command: tuple[str, ...]
    directory: str


@dataclasses.dataclass(frozen=True)
class Process:
    """One process as supervisord knows it; ``state`` in its words (``RUNNING``, ``FATAL``, …)."""

    name: str
    group: str
    state: str
    pid: int
    description: str
    logs: tuple[str, ...]


class SupervisorConfig:
    """
    The configuration file ``path`` with the files that it includes.

    Raises ``ManagerError`` naming the file that cannot be read.
    """

    def __init__(self, path: str):
        self.path = path
        self._parser = configparser.RawConfigParser(strict=False, inline_comment_prefixes=(";", "#"))
        self._read(path)
        here = os.path.dirname(os.path.abspath(path))
        for pattern in self._get("include", "files").split():
            for included in sorted(glob.glob(os.path.join(here, self._expand(pattern)))):
                self._read(included)

    def programs(self) -> list[Program]:
        """Every program that it defines."""
        groups = {}
        for section in self._parser.sections():
            if section.startswith("group:"):
                for name in self._get(section, "programs").split(","):
                    groups[name.strip()] = section.partition(":")[2]
        found = []
        for section in self._parser.sections():
            if section.startswith("program:"):
                name = section.partition(":")[2].strip()
                directory = self._get(section, "directory")
                found.append(Program(name, groups.get(name, name), self._command(section), directory))
        return found

    def connect(self):
        """
        Its XML-RPC interface (``xmlrpc.client.ServerProxy``), at ``[supervisorctl] serverurl`` or what the server
        sections say.

        Raises ``ManagerError`` where it has none.
        """
        unix, inet = self._get("unix_http_server", "file"), self._get("inet_http_server", "port")
        url = self._get("supervisorctl", "serverurl")
        if not url:
            url = f"unix://{unix}" if unix else f"http://{inet.replace('*', '127.0.0.1')}"
        section = "unix_http_server" if url.startswith("unix://") else "inet_http_server"
        user = self._get("supervisorctl", "username") or self._get(section, "username")
        password = self._get("supervisorctl", "password") or self._get(section, "password")
        if not (unix or inet or self._get("supervisorctl", "serverurl")):
            raise ManagerError(f"{self.path}: no unix_http_server section, so supervisord cannot be spoken to; add one")
        return _connect(url, user, password)

    def _read(self, path: str) -> None:
        try:
            with open(path, encoding="utf-8") as file:
                self._parser.read_file(file, path)
        except FileNotFoundError:
            raise ManagerError(f"{path}: no such supervisord configuration file") from None
        except (OSError, ValueError, configparser.Error) as exc:
            first = str(exc).splitlines()[0]
            raise ManagerError(f"{path}: supervisord's configuration cannot be read: {first}") from None

    def _get(self, section: str, key: str) -> str:
        return self._expand(self._parser.get(section, key, fallback="").strip())

    def _expand(self, text: str) -> str:
        text = text.replace("%(here)s", os.path.dirname(os.path.abspath(self.path)))
        for name, value in os.environ.items():
            text = text.replace(f"%(ENV_{name})s", value)
        return text

    def _command(self, section: str) -> tuple[str, ...]:
        command = self._get(section, "command")
        try:
            return tuple(shlex.split(command))
        except ValueError:
            return tuple(command.split())


def config_files() -> list[str]:
    """Configuration files of the supervisords that run (``-c``), then those in the usual places."""
    found = [path for pid in psutil.pids() for path in config_files_of(pid)]
    found += CONFIG_FILES
    return [path for path in dict.fromkeys(found) if os.path.isfile(path)]


def config_files_of(pid: int) -> list[str]:
    """
    Configuration files that the process can have if it is a supervisord: one if it was told (``-c``), else the usual
    ones.
    """
    try:
        process = psutil.Process(pid)
        words = process.cmdline()
        if not any(os.path.basename(word) == "supervisord" for word in words[:2]):
            return []
        path = _option(words)
        return [os.path.join(process.cwd(), path)] if path else list(CONFIG_FILES)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []


def call(server, method: str, *arguments):
    """
    What ``supervisor.<method>`` answers.

    Raises ``Fault`` where supervisord refuses, ``NotRunning`` where nothing answers, ``ManagerError`` for all else.
    """
    # not at the top: a minion that has no supervisord need not load them
    import http.client
    import xmlrpc.client
    from xml.parsers import expat

    try:
        return getattr(server.supervisor, method)(*arguments)
    except xmlrpc.client.Fault as exc:
        raise Fault(exc.faultCode, exc.faultString) from None
    except (FileNotFoundError, ConnectionRefusedError):
        raise NotRunning("supervisord does not run") from None
    except xmlrpc.client.ProtocolError as exc:
        # never the request, which may carry a password
        hint = "; check username and password in [supervisorctl]" if exc.errcode == 401 else ""
        raise ManagerError(f"supervisord does not answer: HTTP {exc.errcode} {exc.errmsg}{hint}") from None
    except (OSError, ValueError, http.client.HTTPException, xmlrpc.client.Error, expat.ExpatError) as exc:
        raise ManagerError(f"supervisord does not answer: {str(exc) or type(exc).__name__}") from None


def processes(server, group: str | None = None) -> list[Process] | None:
    """
    The processes of a group, or all of them; ``None`` where supervisord does not run.

    Raises ``ManagerError`` where it answers with an error.
    """
    try:
        infos = call(server, "getAllProcessInfo")
    except NotRunning:
        return None
    except Fault as exc:
        raise ManagerError(f"supervisord refuses to answer: {exc}") from None
    return [
        Process(
            name=info["name"],
            group=info["group"],
            state=info["statename"],
            pid=info["pid"],
            description=info["spawnerr"] or info["description"],
            logs=tuple(filter(None, (info["stderr_logfile"], info["stdout_logfile"]))),
        )
        for info in infos
        if group in (None, info["group"])
    ]


def _option(words: list[str]) -> str | None:
    for index, word in enumerate(words):
        if word in ("-c", "--configuration"):
            return words[index + 1] if index + 1 < len(words) else None
        if word.startswith("--configuration="):
            return word.partition("=")[2]
        if word.startswith("-c") and len(word) > 2:
            return word[2:]
    return None


def _connect(url: str, user: str, password: str):
    import http.client
    import xmlrpc.client

    class UnixConnection(http.client.HTTPConnection):
        def connect(self):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            self.sock.connect(url[len("unix://") :])

    class Transport(xmlrpc.client.Transport):
        def make_connection(self, host):
            if url.startswith("unix://"):
                return UnixConnection("localhost", timeout=_TIMEOUT)
            return http.client.HTTPConnection(url.partition("://")[2].split("/")[0], timeout=_TIMEOUT)

    headers = []
    if user:
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        headers = [("Authorization", f"Basic {token}")]
    return xmlrpc.client.ServerProxy("http://127.0.0.1/RPC2", transport=Transport(headers=headers))
