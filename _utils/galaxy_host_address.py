"""
Read uWSGI's socket addresses.

The forms are uWSGI's own (``core/socket.c``): with a colon it is TCP, with ``@`` an abstract socket, anything else is a
path. Also ``unix:/path``, and ``http://…`` for a stats server with ``stats-http``.
"""

import dataclasses
import ipaddress
import re

from galaxy_errors import AddressError
from galaxy_host_pattern import Pattern
from galaxy_host_record import record

# the longest path that fits into sockaddr_un.sun_path with its closing NUL, unix(7)
MAX_UNIX_PATH = 107
_MAX_TEXT = 1000
_HOSTNAME = Pattern(r"(?!-)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?\Z")
_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = Pattern(rf"{_OCTET}(?:\.{_OCTET}){{3}}\Z", re.ASCII)
_FORMS = "expected host:port, :port, *:port, [ipv6]:port, /path, unix:/path or @abstract, each optionally after http://"


@record(frozen=True)
class Address:
    """
    Where a socket listens: TCP (``port`` is above 0; ``host`` ``""`` means every interface), or a unix socket
    (``path``; an abstract one begins with ``@``). ``http``: a stats server speaks HTTP there (``stats-http``).
    ``str()`` gives the address as uWSGI writes it, and ``parse`` reads this back.
    """

    host: str = ""
    port: int = 0
    path: str = ""
    http: bool = False

    def __str__(self) -> str:
        if self.path:
            text = f"unix:{self.path}" if self.http and not self.is_abstract else self.path
        else:
            text = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        return f"http://{text}" if self.http else text

    @property
    def is_unix(self) -> bool:
        return bool(self.path)

    @property
    def is_abstract(self) -> bool:
        return self.path.startswith("@")

    @property
    def is_wildcard(self) -> bool:
        """Whether it means every interface."""
        return not self.path and self.host in ("", "0.0.0.0", "::")

    @property
    def peer(self) -> str | tuple[str, int]:
        """What a client on this machine hands to ``socket.connect``."""
        if self.is_abstract:
            # uWSGI binds the name with a closing NUL (core/socket.c), and Linux takes the NUL as part of the name
            return f"\0{self.path[1:]}\0"
        if self.path:
            return self.path
        if self.is_wildcard:
            return ("::1" if self.host == "::" else "127.0.0.1", self.port)
        return (self.host, self.port)


def parse(text: str) -> Address:
    """
    Read the address in ``text``.

    Raises ``AddressError``, which quotes ``text`` and says what is wrong with it.
    """
    if not isinstance(text, str) or len(text) > _MAX_TEXT:
        what = "not a text" if not isinstance(text, str) else f"longer than {_MAX_TEXT} characters"
        raise AddressError(f"Bad address {repr(text)[:100]}: {what}; {_FORMS}")
    rest = text.strip()
    http = rest.startswith("http://")
    if http:
        rest = rest[len("http://") :]
        if not rest.startswith(("/", "unix:", "@")):
            rest = rest.partition("/")[0]
    try:
        address = _parse_plain(rest)
        return dataclasses.replace(address, http=True) if http else address
    except ValueError as exc:
        raise AddressError(f"Bad address {text!r}: {exc}; {_FORMS}") from None


def _parse_plain(rest: str) -> Address:
    if not rest or not rest.isprintable():
        raise ValueError("it has unprintable characters" if rest else "it is empty")
    if rest.startswith("unix:"):
        rest = rest[len("unix:") :]
        if not rest.startswith(("/", "@")):
            raise ValueError("a unix socket needs an absolute path")
    if rest.startswith("\\0"):
        rest = "@" + rest[2:]
    if rest.startswith(("/", "@")):
        if rest == "@" or rest.endswith("/"):
            raise ValueError("it names no socket")
        if len(rest.encode()) > MAX_UNIX_PATH:
            raise ValueError(f"it is longer than {MAX_UNIX_PATH} bytes, the system's limit for a unix socket")
        return Address(path=rest)
    host, colon, port = rest.rpartition(":")
    if not colon:
        raise ValueError("it has neither a port nor an absolute path")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise ValueError(f"port {port!r} is not a number from 1 to 65535")
    return Address(host=_parse_host(host), port=int(port))


def _parse_host(host: str) -> str:
    if host in ("", "*"):
        return ""
    if _IPV4.match(host):
        return host
    if host.startswith("[") and host.endswith("]"):
        return str(ipaddress.IPv6Address(host[1:-1]))
    if ":" in host:
        raise ValueError("an IPv6 address goes in brackets")
    if host.replace(".", "").isdigit():
        return str(ipaddress.IPv4Address(host))
    if not _HOSTNAME.match(host) or any(len(label) > 63 for label in host.split(".")):
        raise ValueError(f"{host!r} is not a host name")
    return host
