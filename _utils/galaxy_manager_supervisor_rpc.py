"""
Talk to supervisord by XML-RPC, its documented interface: a look takes milliseconds instead of a Python start, a start
need not block for ``startsecs``, and answers are typed.

Nothing is sent, no password either, before the kernel says that root or ourselves listen there.
"""

import base64
import contextlib
import dataclasses
import logging
import os
import socket
import struct

import galaxy_host_files
import galaxy_host_sockets
from galaxy_errors import FileError, ManagerError
from galaxy_host_address import Address
from galaxy_host_wait import Deadline
from galaxy_manager_supervisor_config import Endpoint

log = logging.getLogger(__name__)

_TIMEOUT = 10
# a thousand processes, with long paths
_MAX_ANSWER = 2 << 20
# xmlrpc.Faults of supervisor
BAD_NAME, ALREADY_STARTED, NOT_RUNNING, SUCCESS = 10, 60, 70, 80


class Fault(ManagerError):
    """supervisord refuses; ``code`` is one of its ``xmlrpc.Faults``."""

    def __init__(self, code: int, text: str):
        super().__init__(text)
        self.code = code


class NotRunning(ManagerError):
    """Nothing answers at supervisord's address."""


@dataclasses.dataclass(frozen=True)
class ProcessInfo:
    """One process as supervisord knows it; ``state`` by its own names (``RUNNING``, ``FATAL``, …)."""

    name: str
    group: str
    state: str
    pid: int
    description: str
    logs: tuple[str, ...]

    @property
    def title(self) -> str:
        """Group and name, as supervisorctl writes them."""
        return self.name if self.name == self.group else f"{self.group}:{self.name}"


class Client:
    """supervisord at an endpoint."""

    def __init__(self, endpoint: Endpoint):
        self._endpoint = endpoint
        self._proxy = None

    def call(self, method: str, *arguments):
        """
        What ``supervisor.<method>`` answers.

        Raises ``Fault`` where supervisord refuses, ``NotRunning`` where nothing answers, ``ManagerError`` for all else,
        also where another user listens at its address.
        """
        # not at the top: a minion that has no supervisord need not load them
        import http.client
        import xmlrpc.client
        from xml.parsers import expat

        log.debug("supervisord is asked: %s%r", method, arguments)
        if self._proxy is None:
            self._proxy = _proxy(self._endpoint)
        try:
            return getattr(self._proxy.supervisor, method)(*arguments)
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

    def processes(self) -> list[ProcessInfo] | None:
        """
        Every process that supervisord has; ``None`` where it does not run.

        Raises ``ManagerError`` where it answers with an error.
        """
        try:
            answer = self.call("getAllProcessInfo")
        except NotRunning:
            return None
        except Fault as exc:
            raise ManagerError(f"supervisord refuses to answer: {exc}") from None
        try:
            return [_process_info(info) for info in answer]
        except (KeyError, TypeError, AttributeError, ValueError):
            raise ManagerError("supervisord's answer to getAllProcessInfo is not what it documents") from None

    def reaches(self) -> None:
        """Raises ``ManagerError`` as ``call`` where another user listens there, or nothing does."""
        self.call("getState")


def _process_info(info: dict) -> ProcessInfo:
    texts = [info[key] for key in ("name", "group", "statename", "spawnerr", "description")]
    logs = tuple(filter(None, (info["stderr_logfile"], info["stdout_logfile"])))
    if not all(isinstance(text, str) for text in (*texts, *logs)) or type(info["pid"]) is not int:
        raise TypeError
    name, group, state, error, description = texts
    return ProcessInfo(name, group, state, info["pid"], error or description, logs)


def _refuse_doctype(*_):
    raise ValueError("its answer has a document type, which supervisord's has not")


def _proxy(endpoint: Endpoint):
    import http.client
    import xmlrpc.client
    from xml.parsers import expat

    class Connection(http.client.HTTPConnection):
        def connect(self):
            sock = _open_unix(endpoint.path) if endpoint.path else _open_tcp(endpoint.host, endpoint.port)
            self.sock = _Patient(fileno=sock.detach())

    class Transport(xmlrpc.client.Transport):
        accept_gzip_encoding = False

        def make_connection(self, host):
            return Connection("localhost", timeout=_TIMEOUT)

        def parse_response(self, response):
            data = response.read(_MAX_ANSWER + 1)
            if len(data) > _MAX_ANSWER:
                raise ValueError(f"its answer is larger than {_MAX_ANSWER} bytes")
            unmarshaller, parser = xmlrpc.client.Unmarshaller(), expat.ParserCreate()
            unmarshaller.xml(None, None)
            parser.StartElementHandler, parser.EndElementHandler = unmarshaller.start, unmarshaller.end
            parser.CharacterDataHandler = unmarshaller.data
            # a few bytes of it can stand for gigabytes, and supervisord sends none
            parser.StartDoctypeDeclHandler = _refuse_doctype
            parser.Parse(data, True)
            return unmarshaller.close()

    headers = []
    if endpoint.user:
        login = endpoint.user.encode() + b":" + (endpoint.password.reveal() if endpoint.password else b"")
        headers = [("Authorization", f"Basic {base64.b64encode(login).decode()}")]
    return xmlrpc.client.ServerProxy("http://localhost/RPC2", transport=Transport(headers=headers))


class _Patient(socket.socket):
    """One on which an answer is complete in time, however slowly bytes come."""

    _deadline = Deadline(0)

    def sendall(self, *given):
        # the next request
        self._deadline = Deadline(_TIMEOUT)
        self.settimeout(_TIMEOUT)
        super().sendall(*given)

    def recv_into(self, *given):
        if self._deadline.passed:
            raise TimeoutError("timed out")
        self.settimeout(self._deadline.left)
        return super().recv_into(*given)


def _open_unix(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    with contextlib.ExitStack() as stack:
        stack.callback(connection.close)
        connection.settimeout(_TIMEOUT)
        try:
            with galaxy_host_files.socket_at(path, trusted=True) as target:
                connection.connect(target)
        except FileError as exc:
            raise ManagerError(f"supervisord is not asked: {exc}") from None
        _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        _require_trusted({uid}, path)
        stack.pop_all()
    return connection


def _open_tcp(host: str, port: int) -> socket.socket:
    owners = galaxy_host_sockets.owners(Address(host=host, port=port))
    if not owners:
        raise ConnectionRefusedError
    _require_trusted(owners, f"{host}:{port}")
    return socket.create_connection((host, port), _TIMEOUT)


def _require_trusted(uids: set[int], where: str) -> None:
    strangers = sorted(uids - {0, os.geteuid()})
    if strangers:
        raise ManagerError(
            f"{where}: user {strangers[0]} listens there, not root: it is not taken for supervisord and told nothing"
        )
