"""
Find out which sockets listen at an address, which process holds them, and which connections wait or are open there.

Sockets are matched by inode: the kernel lists those that listen (sock_diag(7)), and ``/proc/PID/fd`` those of a
process. psutil instead reads the whole table of connections; with thousands of them this takes as long as ``lsof``.
"""

import contextlib
import itertools
import os
import queue
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import galaxy_host_files
from galaxy_errors import FileError
from galaxy_host_address import Address
from galaxy_host_count import counted
from galaxy_host_wait import Deadline
from galaxy_host_walk import describe

# the beginning of an IPv6 address that stands for an IPv4 one
_MAPPED = bytes(10) + b"\xff\xff"
# linux/sock_diag.h, linux/inet_diag.h, linux/netlink.h
_NETLINK_SOCK_DIAG, _TCPDIAG_GETSOCK, _SOCK_DIAG_BY_FAMILY, _REQUEST, _REQUEST_DUMP = 4, 18, 20, 0x1, 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_TCP_ESTABLISHED, _TCP_CLOSE_WAIT, _TCP_LISTEN = 1, 8, 10
_INET_DIAG_INFO, _INET_DIAG_REQ_BYTECODE, _BC_JMP, _BC_S_GE, _BC_S_LE = 2, 1, 1, 2, 3
# struct inet_diag_msg and struct unix_diag_msg, each behind its nlmsghdr of 16 bytes
_INET_MESSAGE, _UNIX_MESSAGE = 88, 32
# struct tcp_info
_LAST_SENT, _LAST_RECEIVED, _BYTES_ACKED, _ENOUGH_INFO = 44, 52, 120, 136
# net/core/dev.c: the number of lo in each network namespace; connections inside the machine come through it
_LOOPBACK = 1
# linux/unix_diag.h
_UDIAG_SHOW_NAME, _UDIAG_SHOW_RQLEN, _UDIAG_SHOW_UID = 0x1, 0x10, 0x40
_UNIX_DIAG_NAME, _UNIX_DIAG_RQLEN, _UNIX_DIAG_UID = 0, 4, 7
# the kernel's filter takes no more ports
_MAX_PORTS = 1000
# seconds for the names of all addresses together
_LONGEST_LOOKUP = 5
# a server opens its sockets first, and /proc/PID/fd begins with the lowest number
_DESCRIPTORS = 4096
# net/unix/af_unix.c: __SO_ACCEPTCON among the flags of /proc/net/unix
_ACCEPTS = 0x10000


class Queue(NamedTuple):
    """How many connections wait in a listening socket until they are accepted, and how many may wait."""

    length: int
    max: int


def listeners(addresses: Iterable[Address]) -> dict[int, Queue | None]:
    """
    The sockets that listen on ``addresses``, by inode: those bound to the address itself, or else those bound to every
    interface at its port. Their queue is ``None`` if the kernel does not tell.
    """
    addresses = tuple(addresses)
    paths = {address.path for address in addresses if address.is_unix}
    found: list[_UnixSocket | _Listener] = [*_unix_listeners(paths)] if paths else []
    found += _listening(address for address in addresses if not address.is_unix)
    return {one.inode: one.queue for one in found}


def owners(address: Address) -> set[int]:
    """User IDs of those who made the sockets that listen on an address of this machine, as far as the kernel tells."""
    if address.is_unix:
        return {one.uid for one in _unix_listeners({address.path}) if one.uid is not None}
    uid = _reached_uid(address)
    return {listener.uid for listener in _listening([address])} if uid is None else {uid}


class Connection(NamedTuple):
    """
    An open TCP connection: its port on this machine, its inode (0: not accepted yet), bytes that came and were not
    read, bytes received in all, bytes that were sent and that the client has; and seconds since the last of each.
    """

    port: int
    inode: int
    unread: int
    received: int
    sent: int
    since_received: float
    since_sent: float

    @property
    def is_in_request(self) -> bool:
        """Whether the client spoke last: it waits for an answer, or is still sending."""
        return self.received > 0 and (self.sent == 0 or self.since_received < self.since_sent)


def connections(ports: Iterable[int]) -> list[Connection] | None:
    """The open TCP connections to ports of this machine; ``None`` if the kernel does not tell."""
    wanted, found = sorted(set(ports)), []
    states = 1 << _TCP_ESTABLISHED | 1 << _TCP_CLOSE_WAIT
    try:
        # the kernel walks through its table of all connections: that costs more than all else here
        for message in _dump_tcp(states, _port_filter(wanted), 1 << _INET_DIAG_INFO - 1) if wanted else ():
            info = _attribute(message, _INET_MESSAGE, _INET_DIAG_INFO)
            if len(info) < _ENOUGH_INFO:
                return None
            sent, received = struct.unpack_from("=QQ", info, _BYTES_ACKED)
            (port,), (unread,), (inode,) = (
                struct.unpack_from(kind, message, offset) for kind, offset in (("!H", 20), ("=I", 72), ("=I", 84))
            )
            times = [struct.unpack_from("=I", info, where)[0] / 1000 for where in (_LAST_RECEIVED, _LAST_SENT)]
            found.append(Connection(port, inode, unread, received, sent, *times))
    except (OSError, struct.error):
        return None
    return found


def accepted(paths: set[str]) -> set[int]:
    """Inodes of the connections that the listeners on these unix sockets have accepted."""
    return {one.inode for one in _unix_sockets(paths) if one.inode and not one.listens}


def _dump_tcp(states: int, port_filter: bytes, extensions: int = 0) -> Iterator[bytes]:
    """The kernel's messages about the TCP sockets in any of these states. Raises ``OSError``."""
    # struct inet_diag_req: only this older request asks for IPv4 and IPv6 together
    return _dump(struct.pack("=xxxB48xI4x", extensions, states) + port_filter, _TCPDIAG_GETSOCK)


def _port_filter(ports: list[int]) -> bytes:
    """The attribute that asks only for sockets of these local ports, so that the many others need not be read."""
    # struct inet_diag_bc_op: code, bytes to skip if the condition holds, and if not. To the very end: take the socket;
    # beyond it: leave it out
    code = b""
    for port in reversed(ports):
        last = struct.pack("=BBH", _BC_JMP, 4, 4 + len(code)) + code if code else b""
        low = struct.pack("=BBHBBH", _BC_S_GE, 8, 20, 0, 0, port)
        code = low + struct.pack("=BBHBBH", _BC_S_LE, 8, 12, 0, 0, port) + last
    return struct.pack("=HH", 4 + len(code), _INET_DIAG_REQ_BYTECODE) + code


def _dump(request: bytes, kind: int = _SOCK_DIAG_BY_FAMILY) -> Iterator[bytes]:
    """The kernel's messages about sockets, each with its nlmsghdr. Raises ``OSError``."""
    with _asked(request, _REQUEST_DUMP, kind) as netlink:
        is_complete = False
        while not is_complete:
            messages, is_complete = _parse_sock_diag(netlink.recv(1 << 16))
            yield from messages


def _asked(request: bytes, flags: int, kind: int = _SOCK_DIAG_BY_FAMILY) -> socket.socket:
    """A socket from which to read the kernel's answer. Raises ``OSError``."""
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
    try:
        netlink.settimeout(1)
        netlink.send(struct.pack("=IHHII", 16 + len(request), kind, flags, 1, 0) + request)
    except OSError:
        netlink.close()
        raise
    return netlink


def _parse_sock_diag(data: bytes) -> tuple[list[bytes], bool]:
    """The messages of one netlink datagram, and whether it ends the answer. Raises ``OSError``."""
    messages: list[bytes] = []
    try:
        while data:
            length, kind = struct.unpack_from("=IH", data)
            if kind == _NLMSG_DONE:
                return messages, True
            if kind == _NLMSG_ERROR:
                raise OSError(-struct.unpack_from("=i", data, 16)[0], "sock_diag")
            if length < 16:
                raise OSError(f"sock_diag: a message of {counted(length, 'byte')}")
            messages.append(data[:length])
            data = data[(length + 3) & ~3 :]
    except struct.error as exc:
        raise OSError(f"sock_diag: {exc}") from None
    return messages, False


def _attribute(message: bytes, offset: int, wanted: int) -> bytes:
    """The value of an attribute behind a message's struct; empty if it is not there."""
    while offset + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, offset)
        if kind == wanted:
            return message[offset + 4 : offset + length]
        offset += max(4, (length + 3) & ~3)
    return b""


class _Listener(NamedTuple):
    """A listening TCP socket: packed host, port, owner, inode, queue."""

    host: bytes
    port: int
    uid: int
    inode: int
    queue: Queue | None


def _listening(addresses: Iterable[Address]) -> list[_Listener]:
    by_port: dict[int, list[Address]] = {}
    for address in addresses:
        by_port.setdefault(address.port, []).append(address)
    bound: dict[Address, list[tuple[bytes, _Listener]]] = {}
    deadline = Deadline(_LONGEST_LOOKUP)
    for listener in _tcp_listeners(list(by_port)) if by_port else ():
        for address in by_port.get(listener.port, ()):
            bound.setdefault(address, []).append((listener.host.removeprefix(_MAPPED), listener))
    fitting: list[_Listener] = []
    for address, sockets in bound.items():
        hosts = _resolve(address.host, deadline) if address.host else {bytes(4)}
        exact = [listener for host, listener in sockets if host in hosts]
        fitting += exact or [listener for host, listener in sockets if not any(host)]
    return fitting


def _reached_uid(address: Address) -> int | None:
    """
    The user who made the socket that a connection from this machine to a numeric address reaches; the kernel itself
    looks for it. ``None`` if there is none, or if this is not told. Only sockets of one user can share an address.
    """
    if not _is_number(address.host):
        return None
    family = _family(address.host)
    host = socket.inet_pton(family, address.host)
    # struct inet_diag_req_v2: any state, then the ports, the hosts, the interface and no cookie
    head = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, 0)
    request = head + struct.pack("!HH16s16s", address.port, 0, host, b"") + struct.pack("=I8s", _LOOPBACK, b"\xff" * 8)
    try:
        with _asked(request, _REQUEST) as netlink:
            messages, _ = _parse_sock_diag(netlink.recv(1 << 16))
        return _listener(messages[0]).uid if messages else None
    except OSError:
        return None


def _tcp_listeners(ports: list[int]) -> list[_Listener]:
    """
    The listening sockets on the ports. Others may be among them, if there are many or the kernel has no sock_diag.
    """
    try:
        return _ask_sock_diag(ports)
    except OSError:
        # this kernel has no tcp_diag
        return [*_read_proc_net("tcp"), *_read_proc_net("tcp6")]


def _ask_sock_diag(ports: list[int]) -> list[_Listener]:
    chosen = _port_filter(ports) if len(ports) <= _MAX_PORTS else b""
    return [_listener(message) for message in _dump_tcp(1 << _TCP_LISTEN, chosen)]


def _listener(message: bytes) -> _Listener:
    """The socket of a message. Raises ``OSError``."""
    try:
        # struct inet_diag_msg: family at 0, port at 4, source host at 8, queue at 56, then uid and inode
        family, port = struct.unpack_from("=B", message, 16)[0], struct.unpack_from("!H", message, 20)[0]
        length, most, uid, inode = struct.unpack_from("=IIII", message, 72)
    except struct.error as exc:
        raise OSError(f"sock_diag: {exc}") from None
    return _Listener(message[24 : 28 if family == socket.AF_INET else 40], port, uid, inode, Queue(length, most))


def _read_proc_net(table: str) -> Iterator[_Listener]:
    with contextlib.suppress(OSError), open(f"/proc/net/{table}", encoding="ascii") as lines:
        next(lines)
        for line in lines:
            fields = line.split()
            # the kernel lists all listening sockets first: thousands of connections need not be read
            if int(fields[3], 16) != _TCP_LISTEN:
                break
            host, _, port = fields[1].partition(":")
            # hexadecimal, in 32-bit words of the machine's byte order
            words = [struct.pack("=I", int(host[start : start + 8], 16)) for start in range(0, len(host), 8)]
            yield _Listener(b"".join(words), int(port, 16), int(fields[7]), int(fields[9]), None)


def _resolve(host: str, deadline: Deadline) -> set[bytes]:
    """The addresses of a host, packed; IPv4 addresses as such."""
    texts = [host]
    if not _is_number(host):
        try:
            texts = [peer[0].partition("%")[0] for _, peer in _look_up((host, None), deadline)]
        except (OSError, UnicodeError):
            return set()
    return {socket.inet_pton(_family(text), text).removeprefix(_MAPPED) for text in texts}


def _is_number(host: str) -> bool:
    try:
        socket.inet_pton(_family(host), host)
    except (OSError, UnicodeError):
        return False
    return True


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _look_up(peer: tuple[str, int | None], deadline: Deadline) -> list[tuple[int, Any]]:
    """
    Family and socket address for each address of a host. If the server of the name is silent, the resolver itself takes
    half a minute; the owner of the name chose this server. Raises ``OSError`` (``TimeoutError`` at ``deadline``) and
    ``UnicodeError``.
    """
    if deadline.passed:
        raise TimeoutError
    # uWSGI and gunicorn listen only on the IPv4 addresses of a name; on other addresses of localhost, anybody may
    # listen
    family = _family(peer[0])
    answers: queue.SimpleQueue[list[tuple[int, Any]] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put([(info[0], info[4]) for info in socket.getaddrinfo(*peer, family, socket.SOCK_STREAM)])
        except (OSError, UnicodeError) as exc:
            answers.put(exc)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=max(deadline.left, 0.001))
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, Exception):
        raise answer
    return answer


class _UnixSocket(NamedTuple):
    """
    A unix socket: its name, its inode, whether it listens, and, if the kernel tells, who made it (since 5.3), and its
    queue.
    """

    path: str
    inode: int
    listens: bool
    uid: int | None = None
    queue: Queue | None = None


def _unix_listeners(paths: set[str]) -> list[_UnixSocket]:
    return [one for one in _unix_sockets(paths) if one.listens and _may_be_there(one)]


def _may_be_there(listener: _UnixSocket) -> bool:
    """
    Whether the socket can be the one at its path. The kernel lets everybody have a mount namespace: there anybody can
    listen at any path, and nobody else reaches this socket.
    """
    if listener.uid is None or listener.path.startswith("@"):
        return True
    try:
        return galaxy_host_files.may_put(listener.path, listener.uid)
    except FileError:
        # then nobody can reach the socket either
        return False


def _unix_sockets(paths: set[str]) -> list[_UnixSocket]:
    """The unix sockets of that name."""
    try:
        return [one for one in _ask_unix_diag() if one.path in paths]
    except OSError:
        # this kernel has no unix_diag
        return [one for one in _read_proc_net_unix() if one.path in paths]


def _ask_unix_diag() -> Iterator[_UnixSocket]:
    states, show = 1 << _TCP_ESTABLISHED | 1 << _TCP_LISTEN, _UDIAG_SHOW_NAME | _UDIAG_SHOW_RQLEN | _UDIAG_SHOW_UID
    for message in _dump(struct.pack("=BBHIII8x", socket.AF_UNIX, 0, 0, states, 0, show)):
        yield _unix_socket(message)


def _unix_socket(message: bytes) -> _UnixSocket:
    """The socket of a message. Raises ``OSError``."""
    try:
        # struct unix_diag_msg: state at 2, inode at 4
        state, inode = struct.unpack_from("=xxBxI", message, 16)
    except struct.error as exc:
        raise OSError(f"sock_diag: {exc}") from None
    kinds = _UNIX_DIAG_NAME, _UNIX_DIAG_UID, _UNIX_DIAG_RQLEN
    name, uid, queue = (_attribute(message, _UNIX_MESSAGE, kind) for kind in kinds)
    # uWSGI binds an abstract name with a closing NUL
    path = b"@" + name[1:].rstrip(b"\0") if name.startswith(b"\0") else name.partition(b"\0")[0]
    maker = struct.unpack("=I", uid)[0] if len(uid) == 4 else None
    waiting = Queue(*struct.unpack("=II", queue)) if len(queue) == 8 else None
    return _UnixSocket(os.fsdecode(path), inode, state == _TCP_LISTEN, maker, waiting)


def _read_proc_net_unix() -> Iterator[_UnixSocket]:
    """
    The unix sockets in ``/proc/net/unix``. Only the end of the line ends a name there. So whoever puts a newline into a
    name can write lines of his own.
    """
    with open("/proc/net/unix", encoding="utf-8", errors="surrogateescape") as table:
        next(table)
        for line in table:
            fields = line.split(None, 7)
            # the table shows each NUL of an abstract name as @, also uWSGI's closing one
            name = fields[7].rstrip("\n") if len(fields) == 8 else ""
            if name:
                path = name.rstrip("@") if name.startswith("@") else name
                yield _UnixSocket(path, int(fields[6]), bool(int(fields[3], 16) & _ACCEPTS))


def connect(
    address: Address,
    deadline: Deadline,
    named_by: Iterable[int] = (),
    may_listen: Callable[[int], bool] | None = None,
) -> socket.socket:
    """
    Connect to an address: to the first one of its host that answers.

    named_by
        numeric IDs of the users who chose the address, as for ``galaxy_host_files.read``
    may_listen
        says of a user, by number, whether this user may be the one who listens there; ``None``: anybody may

    Raises ``OSError`` (``TimeoutError`` at ``deadline``), and ``UnicodeError`` for an impossible name. Raises
    ``FileError`` if one of these users could not connect to the unix socket, or if somebody else listens there.
    """
    peer = address.peer
    if may_listen:
        # if the address means every interface, a connection goes to this one
        there = address if isinstance(peer, str) else Address(*peer)
        for uid in sorted(owners(there)):
            if not may_listen(uid):
                raise FileError(str(address), f"{describe(uid)} listens there, and has nothing to do with this Galaxy")
    if address.is_unix and not address.is_abstract:
        with galaxy_host_files.socket_at(address.path, named_by) as path:
            return _connect([(socket.AF_UNIX, path)], deadline)
    targets: list[tuple[int, Any]]
    if isinstance(peer, str):
        targets = [(socket.AF_UNIX, peer)]
    elif _is_number(peer[0]):
        # mostly it is a number, and getaddrinfo would take as long as everything else here
        targets = [(_family(peer[0]), peer)]
    else:
        targets = _look_up(peer, deadline)
    return _connect(targets, deadline)


def _connect(targets: list[tuple[int, Any]], deadline: Deadline) -> socket.socket:
    for index, (family, peer) in enumerate(targets, 1):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            # with settimeout(0) the socket would not wait at all, and would raise no TimeoutError
            sock.settimeout(max(deadline.left, 0.001))
            sock.connect(peer)
            return sock
        except OSError:
            sock.close()
            if index == len(targets) or deadline.passed:
                raise
    raise OSError("the name has no address")


def holds(pid: int, inodes: Iterable[int]) -> bool:
    """
    Whether the process has one of the sockets open, among its 4096 lowest descriptors; a process may open as many as it
    likes. ``False`` if it is gone or may not be looked at.
    """
    wanted = {f"socket:[{inode}]" for inode in inodes}
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in itertools.islice(entries, _DESCRIPTORS):
                with contextlib.suppress(OSError):
                    if os.readlink(entry.path) in wanted:
                        return True
    except OSError:
        pass
    return False
