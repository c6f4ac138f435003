"""
Talk to supervisord: its configuration files, and its XML-RPC interface.

XML-RPC (supervisor's documented API) rather than ``supervisorctl``: a look takes milliseconds instead of a Python
start, a start need not block for ``startsecs``, and answers are typed.
"""

from __future__ import annotations

import base64
import configparser
import dataclasses
import glob
import http.client
import os
import shlex
import socket
import xmlrpc.client

import psutil

from galaxy_errors import ManagerError

CONFIG_FILES = ("/etc/supervisord.conf", "/etc/supervisor/supervisord.conf")
_TIMEOUT = 10
# xmlrpc.Faults of supervisor
BAD_NAME, NOT_RUNNING, ALREADY_STARTED = 10, 70, 60


@dataclasses.dataclass(frozen=True)
class Program:
    """A ``[program:x]`` section: its process group (its own name unless a ``[group:x]`` has it), command and logs."""

    name: str
    group: str
    command: tuple[str, ...]
    config_file: str


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
                found.append(Program(name, groups.get(name, name), self._command(section), self.path))
        return found

    def connect(self) -> xmlrpc.client.ServerProxy:
        """
        Its XML-RPC interface, at ``[supervisorctl] serverurl`` or what the server sections say.

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
        return xmlrpc.client.ServerProxy("http://127.0.0.1/RPC2", transport=_Transport(url, user, password))

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


def processes(server: xmlrpc.client.ServerProxy, group: str, name: str = "") -> list[Process] | None:
    """
    The processes of a group, or the one of that name in it; ``None`` where supervisord does not run.

    Raises ``ManagerError`` where it answers with an error.
    """
    try:
        infos = server.supervisor.getAllProcessInfo()
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except (OSError, http.client.HTTPException, xmlrpc.client.Error) as exc:
        raise ManagerError(f"supervisord does not answer: {describe(exc)}") from None
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
        if info["group"] == group and name in ("", info["name"])
    ]


def describe(exc: Exception) -> str:
    """What an XML-RPC failure says; never the request, which may carry a password."""
    if isinstance(exc, xmlrpc.client.ProtocolError):
        hint = "; check username and password in [supervisorctl]" if exc.errcode == 401 else ""
        return f"HTTP {exc.errcode} {exc.errmsg}{hint}"
    if isinstance(exc, xmlrpc.client.Fault):
        return exc.faultString
    return str(exc) or type(exc).__name__


def _option(words: list[str]) -> str | None:
    for index, word in enumerate(words):
        if word in ("-c", "--configuration"):
            return words[index + 1] if index + 1 < len(words) else None
        if word.startswith("--configuration="):
            return word.partition("=")[2]
        if word.startswith("-c") and len(word) > 2:
            return word[2:]
    return None


class _Transport(xmlrpc.client.Transport):
    def __init__(self, url: str, user: str, password: str):
        super().__init__()
        self._url = url
        if user:
            token = base64.b64encode(f"{user}:{password}".encode()).decode()
            self._headers = [("Authorization", f"Basic {token}")]

    def make_connection(self, host):
        if self._url.startswith("unix://"):
            return _UnixConnection(self._url[len("unix://") :])
        return http.client.HTTPConnection(self._url.partition("://")[2].split("/")[0], timeout=_TIMEOUT)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str):
        super().__init__("localhost", timeout=_TIMEOUT)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
