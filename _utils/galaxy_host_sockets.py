"""
Which sockets listen at an address, and which process holds them.

Sockets are matched by inode: the kernel lists the listening ones (sock_diag(7)), and ``/proc/PID/fd`` those of a
process. psutil reads the whole connection table instead, which takes as long as ``lsof`` where thousands are open.
"""

import contextlib
import ipaddress
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from galaxy_host_address import Address

_IP = ipaddress.IPv4Address | ipaddress.IPv6Address
# linux/sock_diag.h, linux/inet_diag.h, linux/netlink.h
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP = 4, 20, 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_TCP_LISTEN = 10
# net/unix/af_unix.c: __SO_ACCEPTCON among the flags of /proc/net/unix
_ACCEPTS = 0x10000


def listeners(addresses: Iterable[Address]) -> set[int]:
    """
    Inodes of the sockets that listen on ``addresses``: those bound to an address itself, or else those bound to every
    interface at its port.
    """
    addresses = tuple(addresses)
    paths = {address.path for address in addresses if address.is_unix}
    inodes = set(_unix_listeners(paths)) if paths else set()
    return inodes | {listener.inode for listener in _listening(address for address in addresses if not address.is_unix)}


def owners(address: Address) -> set[int]:
    """User IDs of those who made the sockets that listen on a TCP address of this machine."""
    return {listener.uid for listener in _listening([address])}


class _Listener(NamedTuple):
    """A listening TCP socket: packed host, port, owner, inode."""

    host: bytes
    port: int
    uid: int
    inode: int


def _listening(addresses: Iterable[Address]) -> list[_Listener]:
    by_port: dict[int, list[Address]] = {}
    for address in addresses:
        by_port.setdefault(address.port, []).append(address)
    bound: dict[Address, list[tuple[_IP, _Listener]]] = {}
    for family in (socket.AF_INET, socket.AF_INET6) if by_port else ():
        for listener in _tcp_listeners(family):
            for address in by_port.get(listener.port, ()):
                host = ipaddress.ip_address(listener.host)
                bound.setdefault(address, []).append((getattr(host, "ipv4_mapped", None) or host, listener))
    fitting: list[_Listener] = []
    for address, sockets in bound.items():
        hosts = _resolve(address.host or str(ipaddress.IPv4Address(0)))
        exact = [listener for host, listener in sockets if host in hosts]
        fitting += exact or [listener for host, listener in sockets if host.is_unspecified]
    return fitting


def _tcp_listeners(family: socket.AddressFamily) -> list[_Listener]:
    try:
        return _ask_sock_diag(family)
    except OSError:
        # no tcp_diag in this kernel
        return _read_proc_net(family)


def _ask_sock_diag(family: socket.AddressFamily) -> list[_Listener]:
    size = 4 if family == socket.AF_INET else 16
    # struct inet_diag_req_v2 behind its nlmsghdr: the family's TCP sockets in state LISTEN
    request = struct.pack("=BBBxI48x", family, socket.IPPROTO_TCP, 0, 1 << _TCP_LISTEN)
    header = struct.pack("=IHHII", 16 + len(request), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0)
    listening = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(1)
        netlink.send(header + request)
        is_complete = False
        while not is_complete:
            sockets, is_complete = _parse_sock_diag(netlink.recv(1 << 16), size)
            listening += sockets
    return listening


def _parse_sock_diag(data: bytes, size: int) -> tuple[list[_Listener], bool]:
    """The sockets of one netlink datagram, with hosts of ``size`` bytes, and whether it ends the answer."""
    listening = []
    try:
        while data:
            length, kind = struct.unpack_from("=IH", data)
            if kind == _NLMSG_DONE:
                return listening, True
            if kind == _NLMSG_ERROR:
                raise OSError(-struct.unpack_from("=i", data, 16)[0], "sock_diag")
            if length < 16:
                raise OSError(f"sock_diag: a message of {length} bytes")
            # struct inet_diag_msg: port at 4, source host at 8, uid at 64, inode at 68
            port, (uid, inode) = struct.unpack_from("!H", data, 20)[0], struct.unpack_from("=II", data, 80)
            listening.append(_Listener(data[24 : 24 + size], port, uid, inode))
            data = data[(length + 3) & ~3 :]
    except struct.error as exc:
        raise OSError(f"sock_diag: {exc}") from None
    return listening, False


def _read_proc_net(family: socket.AddressFamily) -> list[_Listener]:
    listening = []
    try:
        with open("/proc/net/tcp" if family == socket.AF_INET else "/proc/net/tcp6", encoding="ascii") as table:
            next(table)
            for line in table:
                fields = line.split()
                # the kernel lists all listening sockets before the others: thousands of connections need not be read
                if int(fields[3], 16) != _TCP_LISTEN:
                    break
                host, _, port = fields[1].partition(":")
                # hexadecimal, in 32-bit words of the machine's byte order
                words = [struct.pack("=I", int(host[start : start + 8], 16)) for start in range(0, len(host), 8)]
                listening.append(_Listener(b"".join(words), int(port, 16), int(fields[7]), int(fields[9])))
    except OSError:
        pass
    return listening


def _resolve(host: str) -> set[_IP]:
    try:
        return {ipaddress.ip_address(host)}
    except ValueError:
        pass
    try:
        answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return set()
    return {ipaddress.ip_address(answer[4][0].partition("%")[0]) for answer in answers}


def _unix_listeners(paths: set[str]) -> Iterator[int]:
    with open("/proc/net/unix", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            fields = line.split(None, 7)
            # the table shows an abstract name's NULs, uWSGI's closing one too, as @
            name = fields[7].rstrip("\n") if len(fields) == 8 else ""
            if (name.rstrip("@") if name.startswith("@") else name) in paths and int(fields[3], 16) & _ACCEPTS:
                yield int(fields[6])


def holds(pid: int, inodes: set[int]) -> bool:
    """Whether the process has one of the sockets open; no where it is gone or may not be looked at."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if os.readlink(entry.path) in wanted:
                        return True
    except OSError:
        pass
    return False
