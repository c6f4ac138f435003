"""
Ask Galaxy itself for its version, with limits on time and size.
"""

import contextlib
import json
import re
import socket
import ssl
from collections.abc import Callable, Iterable

import galaxy_host_sockets
from galaxy_errors import FileError, GunicornError, TlsRefused
from galaxy_host_address import Address
from galaxy_host_count import counted
from galaxy_host_pattern import Pattern
from galaxy_host_wait import Deadline

_LIMIT = 64 * 1024
# no character that could end the request's line
_PATH = Pattern(r"/[A-Za-z0-9._~%!$&'()*+,;=:@/-]*", re.ASCII)


def version(
    address: Address,
    prefix: str,
    timeout: float,
    named_by: Iterable[int] = (),
    may_listen: Callable[[int], bool] | None = None,
    tls: bool = False,
) -> str | None:
    """
    The version that ``GET PREFIX/api/version`` gives; ``None`` if Galaxy answers but gives no version.

    named_by
        numeric IDs of the users who chose the address. A unix socket is asked only if these users could ask it
        themselves
    may_listen
        says of a user, by number, whether this user may be the one who listens there; ``None``: anybody may
    tls
        use HTTPS, with any certificate: neither question nor answer is secret

    Raises ``GunicornError`` if there is no answer within ``timeout`` seconds, or one that is not Galaxy's. Raises
    ``TlsRefused`` if TLS ends the connection, for example because the server wants a certificate from its client.
    """
    path = f"{prefix.rstrip('/')}/api/version"
    if not _PATH.fullmatch(path):
        raise GunicornError(f"{address}: {prefix[:100]!r} is no prefix of Galaxy's URLs; it looks like /galaxy")
    where = f"{address}: GET {path}"
    host = "localhost" if isinstance(address.peer, str) else f"{address.peer[0]}:{address.port}"
    request = f"GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: application/json\r\n\r\n"
    deadline = Deadline(timeout)
    try:
        with contextlib.ExitStack() as closing:
            sock = closing.enter_context(galaxy_host_sockets.connect(address, deadline, named_by, may_listen))
            if tls:
                sock = closing.enter_context(_with_tls(sock, deadline))
            try:
                data = _ask(sock, request.encode(), deadline)
            except (BrokenPipeError, ConnectionResetError):
                if not tls:
                    raise
                # in TLS 1.3, a server looks at the client's certificate after the handshake; it may not read on
                data = b""
    except ssl.SSLError as exc:
        raise TlsRefused(f"{where}: {exc.reason or exc}") from None
    except TimeoutError:
        raise GunicornError(f"{where}: no answer within {timeout:g} s") from None
    except FileError as exc:
        raise GunicornError(f"not asked: {exc}") from None
    except OSError as exc:
        raise GunicornError(f"{where}: {exc.strerror or exc}") from None
    if tls and not data:
        raise TlsRefused(f"{where}: the connection ended before an answer")
    head, _, body = data.partition(b"\r\n\r\n")
    words = head.split(b"\r\n")[0].split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/"):
        raise GunicornError(f"{where}: no HTTP answer ({counted(len(data), 'byte')})")
    if words[1] != b"200":
        raise GunicornError(f"{where}: answered {words[1].decode(errors='replace')[:10]!r}; is the prefix right?")
    try:
        answer = json.loads(body)
        major, minor = answer["version_major"], answer.get("version_minor")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise GunicornError(f"{where}: the answer is not Galaxy's") from None
    parts = [part for part in (major, minor) if isinstance(part, str) and 0 < len(part) < 30 and part.isprintable()]
    return ".".join(parts) or None


def _with_tls(sock: socket.socket, deadline: Deadline) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    sock.settimeout(max(deadline.left, 0.001))
    return context.wrap_socket(sock)


def _ask(sock: socket.socket, request: bytes, deadline: Deadline) -> bytes:
    sock.sendall(request)
    data = b""
    while len(data) <= _LIMIT:
        sock.settimeout(max(deadline.left, 0.001))
        chunk = sock.recv(_LIMIT)
        if not chunk:
            return data
        data += chunk
        if deadline.passed:
            raise TimeoutError
    raise OSError(f"more than {_LIMIT} bytes")
