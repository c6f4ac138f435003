"""
Talk to supervisord by XML-RPC, its documented interface. A look takes milliseconds and starts no Python, a start need
not wait for ``startsecs``, and answers have types.

Nothing is sent, also no password, before the kernel says that root, ourselves, or the user whose supervisord it is
listens there.
"""

import base64
import contextlib
import logging
import os
import socket
import struct
from typing import Any, NoReturn

import galaxy_host_files
import galaxy_host_sockets
from galaxy_errors import FileError, ManagerError
from galaxy_host_address import Address
from galaxy_host_count import counted
from galaxy_host_record import record
from galaxy_host_wait import Deadline
from galaxy_manager_supervisor_config import Endpoint

log = logging.getLogger(__name__)

_TIMEOUT = 10
# enough for a thousand processes with long paths
_MAX_ANSWER = 2 << 20
_CHUNK = 64 << 10
# fault codes from supervisor.xmlrpc.Faults
BAD_NAME, ALREADY_STARTED, NOT_RUNNING, SUCCESS = 10, 60, 70, 80


class Fault(ManagerError):
    """supervisord refuses. ``code`` is one of its ``xmlrpc.Faults``."""

    def __init__(self, code: int, text: str):
        super().__init__(text)
        self.code = code


class NotRunning(ManagerError):
    """Nothing answers at supervisord's address."""


@record(frozen=True)
class ProcessInfo:
    """
    One process as supervisord knows it. ``state`` has supervisord's own names (``RUNNING``, ``FATAL``, …); ``age`` is
    in seconds since its last start.
    """

    name: str
    group: str
    state: str
    pid: int
    description: str
    logs: tuple[str, ...]
    age: float | None = None

    @property
    def title(self) -> str:
        """Group and name, as supervisorctl writes them."""
        return self.name if self.name == self.group else f"{self.group}:{self.name}"


class Client:
    """The supervisord at an endpoint."""

    def __init__(self, endpoint: Endpoint):
        self._endpoint = endpoint

    def call(self, method: str, *arguments: Any) -> Any:
        """
        The answer of ``supervisor.<method>``.

        Raises ``Fault`` if supervisord refuses, ``NotRunning`` if nothing answers, and else ``ManagerError``, for
        example if another user listens at its address.
        """
        # not imported at the top: a minion without a supervisord need not load it
        import xmlrpc.client
        from xml.parsers import expat

        log.debug("supervisord is asked: %s%r", method, arguments)
        request = xmlrpc.client.dumps(arguments, f"supervisor.{method}").encode()
        try:
            values = _loads(_body(_ask(self._endpoint, request)))
        except xmlrpc.client.Fault as exc:
            raise Fault(exc.faultCode, exc.faultString) from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotRunning("supervisord does not run") from None
        except (OSError, ValueError, xmlrpc.client.Error, expat.ExpatError) as exc:
            raise ManagerError(f"supervisord does not answer: {str(exc) or type(exc).__name__}") from None
        return values[0] if len(values) == 1 else values

    def processes(self) -> list[ProcessInfo] | None:
        """
        Every process that supervisord has; ``None`` if supervisord does not run.

        Raises ``ManagerError`` if it answers with an error.
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


def _process_info(info: dict[str, Any]) -> ProcessInfo:
    texts = [info[key] for key in ("name", "group", "statename", "spawnerr", "description")]
    logs = tuple(filter(None, (info["stderr_logfile"], info["stdout_logfile"])))
    numbers = [info[key] for key in ("pid", "start", "now")]
    if not all(isinstance(text, str) for text in (*texts, *logs)) or any(type(one) is not int for one in numbers):
        raise TypeError
    name, group, state, error, description = texts
    pid, start, now = numbers
    age = float(max(0, now - start)) if pid and start else None
    return ProcessInfo(name, group, state, pid, error or description, logs, age)


def _ask(endpoint: Endpoint, request: bytes) -> bytes:
    """The whole answer, with HTTP's headers. It uses HTTP 1.0, so that supervisord closes the connection afterwards."""
    headers = ["POST /RPC2 HTTP/1.0", "Content-Type: text/xml", f"Content-Length: {len(request)}"]
    if endpoint.user:
        login = endpoint.user.encode() + b":" + (endpoint.password.reveal() if endpoint.password else b"")
        headers.append(f"Authorization: Basic {base64.b64encode(login).decode()}")
    chunks, received, deadline = [], 0, Deadline(_TIMEOUT)
    with _open_unix(endpoint) if endpoint.path else _open_tcp(endpoint) as connection:
        connection.sendall("\r\n".join([*headers, "", ""]).encode() + request)
        while chunk := connection.recv(_CHUNK):
            if deadline.passed:
                raise TimeoutError(f"its answer is not complete after {_TIMEOUT:g} s")
            connection.settimeout(max(deadline.left, 0.001))
            chunks.append(chunk)
            received += len(chunk)
            if received > _MAX_ANSWER:
                raise ValueError(f"its answer is larger than {_MAX_ANSWER} bytes")
    return b"".join(chunks)


def _body(answer: bytes) -> bytes:
    """The answer without HTTP's headers. Raises ``ValueError`` if they do not say that all is well."""
    head, _, body = answer.partition(b"\r\n\r\n")
    version, _, status = head.partition(b"\r\n")[0].decode(errors="replace").partition(" ")
    if not version.startswith("HTTP/"):
        raise ValueError(f"no HTTP comes from there ({counted(len(answer), 'byte')})")
    if not status.startswith("200"):
        # the request is never shown, because it may hold a password
        hint = "; check username and password in [supervisorctl]" if status.startswith("401") else ""
        raise ValueError(f"HTTP {status[:60]}{hint}")
    return body


def _loads(text: bytes) -> tuple[Any, ...]:
    """The values of an answer. Raises ``xmlrpc.client.Error``, ``ValueError`` and ``ExpatError``."""
    import xmlrpc.client
    from xml.parsers import expat

    unmarshaller, parser = xmlrpc.client.Unmarshaller(), expat.ParserCreate()
    unmarshaller.xml("", None)
    parser.StartElementHandler, parser.EndElementHandler = unmarshaller.start, unmarshaller.end
    parser.CharacterDataHandler = unmarshaller.data
    # a DTD of a few bytes can stand for gigabytes, and supervisord sends none
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(text, True)
        return unmarshaller.close()
    except (AttributeError, IndexError, KeyError, TypeError):
        # the unmarshaller raises these if elements are in the wrong places
        raise ValueError("its answer is not XML-RPC") from None


def _refuse_doctype(*_: object) -> NoReturn:
    raise ValueError("its answer has a document type, which supervisord's has not")


def _open_unix(endpoint: Endpoint) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    with contextlib.ExitStack() as stack:
        stack.callback(connection.close)
        connection.settimeout(_TIMEOUT)
        try:
            # if somebody puts a link there, the request for supervisord must not reach a socket of root's
            with galaxy_host_files.socket_at(endpoint.path, trusted=endpoint.owner is None) as path:
                connection.connect(path)
        except FileError as exc:
            raise ManagerError(f"supervisord is not asked: {exc}") from None
        _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        _require_trusted({uid}, endpoint.owner, endpoint.path)
        stack.pop_all()
    return connection


def _open_tcp(endpoint: Endpoint) -> socket.socket:
    host, port = endpoint.host, endpoint.port
    address = Address(host=host, port=port)
    owners = galaxy_host_sockets.owners(address)
    if not owners:
        raise ConnectionRefusedError
    _require_trusted(owners, endpoint.owner, f"{host}:{port}")
    return galaxy_host_sockets.connect(address, Deadline(_TIMEOUT))


def _require_trusted(uids: set[int], owner: int | None, where: str) -> None:
    strangers = sorted(uids - ({0, os.geteuid()} if owner is None else {owner}))
    if strangers:
        wanted = "root" if owner is None else f"user {owner}"
        raise ManagerError(
            f"{where}: user {strangers[0]} listens there, not {wanted}: it is not taken for supervisord and told "
            "nothing"
        )
