"""
Find uWSGI's master and its family, and signal nothing else.

A process is its PID and its start time. Sockets are matched by inode: the kernel lists the listening ones
(sock_diag(7)), and ``/proc/PID/fd`` those of a process. psutil reads the whole connection table instead, which takes as
long as ``lsof`` where thousands are open.
"""

import contextlib
import dataclasses
import ipaddress
import os
import signal
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping

import psutil

from galaxy_errors import MasterGone, ProcessError
from galaxy_host_address import Address
from galaxy_host_wait import Deadline, wait_until

# linux/sock_diag.h, linux/inet_diag.h, linux/netlink.h
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP = 4, 20, 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_TCP_LISTEN = 10
# net/unix/af_unix.c: __SO_ACCEPTCON among the flags of /proc/net/unix
_ACCEPTS = 0x10000


@dataclasses.dataclass(frozen=True)
class Invocation:
    """
    How a program was started, or would be: of a live process, or by a process manager's definition.

    argv
        its words, the program's own name first
    source
        where they come from, for people: ``command line of PID 123``, ``galaxy.service``
    cwd
        its working directory; ``None`` where that is not known
    environment
        its variables; ``None`` where they are not known
    """

    argv: tuple[str, ...]
    source: str
    cwd: str | None = None
    environment: Mapping[str, str] | None = None


class Process:
    """
    A process that was identified once; when its PID goes to another one, it counts as gone.

    psutil compares start times by the kernel's ticks, which a step of the clock does not move.
    """

    def __init__(self, handle: psutil.Process):
        self._handle = handle
        self.pid: int = handle.pid

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        """The process that has ``pid`` now, ``None`` where there is none."""
        try:
            found = cls(psutil.Process(pid))
        except (psutil.NoSuchProcess, ValueError):
            return None
        return found if found.is_alive else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Process) and self._handle == other._handle

    def __hash__(self) -> int:
        return hash(self.pid)

    def __repr__(self) -> str:
        return f"Process({self.pid})"

    @property
    def create_time(self) -> float:
        """When it was started, in seconds since the epoch."""
        return self._handle.create_time()

    @property
    def is_alive(self) -> bool:
        """Still the same process, and not a zombie."""
        try:
            return self._handle.is_running() and self._handle.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    @property
    def lineage(self) -> set[int]:
        """Its PID and those of its ancestors."""
        try:
            return {self.pid, *(ancestor.pid for ancestor in self._handle.parents())}
        except psutil.NoSuchProcess:
            return {self.pid}

    def signal(self, number: signal.Signals) -> bool:
        """
        Send it a signal; ``False`` where it is gone. psutil looks first that the PID was not reused.

        Raises ``ProcessError`` where this user may not.
        """
        try:
            self._handle.send_signal(number)
            return True
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            raise ProcessError(f"Not permitted to send {number.name} to PID {self.pid}; run as root") from None


def find_master(
    addresses: Iterable[Address], stats_pid: int | None = None, pidfile: str | None = None
) -> Process | None:
    """
    uWSGI's master: the process that listens on ``addresses`` and whose parent does not.

    addresses
        the server's own sockets; any of them will do
    stats_pid
        the ``pid`` of the stats document, asked first; it is believed only if it is uWSGI and holds one of the sockets
    pidfile
        path of uWSGI's pidfile, asked next in the same way

    ``None`` where nothing listens. Raises ``MasterGone`` where workers outlived their master or two servers share the
    sockets, ``ProcessError`` where something else holds them.
    """
    addresses = tuple(addresses)
    inodes = listeners(addresses)
    if not inodes:
        return None
    for pid in (stats_pid, _pid_in(pidfile)):
        if pid and is_uwsgi(pid) and holds(pid, inodes):
            return _topmost(pid, inodes)
    names = ", ".join(str(address) for address in addresses)
    held = holders(inodes)
    if not held:
        hint = "" if os.geteuid() == 0 else "; run as root to see other users' processes"
        raise ProcessError(f"{names}: something listens there that is not uWSGI{hint}")
    tops = [pid for pid in held if parent(pid) not in held]
    if len(tops) == 1 and not _is_orphan(tops[0]):
        return Process.of(tops[0])
    pids = ", ".join(map(str, tops))
    raise MasterGone(
        f"{names}: held by uWSGI processes with no common master (PID {pids}): workers that outlived theirs, or two "
        "servers; galaxy.stop ends them",
        held,
    )


def is_uwsgi(pid: int) -> bool:
    """
    Whether the process runs uWSGI: the binary, or pyuwsgi in a Python, whatever it named itself (``auto-procname``).
    """
    try:
        process = psutil.Process(pid)
        names = [process.name(), *process.cmdline()[:2]]
        with contextlib.suppress(psutil.AccessDenied):
            names.append(process.exe())
        return any("uwsgi" in os.path.basename(name).lower() for name in names)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def family(master: Process) -> list[Process]:
    """The uWSGI processes that the master started: workers, mules, routers; not what those started, such as jobs."""
    try:
        children = psutil.Process(master.pid).children()
        found = [Process.of(child.pid) for child in children if is_uwsgi(child.pid)]
    except psutil.NoSuchProcess:
        return []
    return [process for process in found if process]


def listeners(addresses: Iterable[Address]) -> set[int]:
    """Inodes of the sockets that listen on ``addresses``."""
    addresses = tuple(addresses)
    paths = {address.path for address in addresses if address.is_unix}
    ports: dict[int, list[Address]] = {}
    for address in addresses:
        if not address.is_unix:
            ports.setdefault(address.port, []).append(address)
    found = set(_unix_listeners(paths)) if paths else set()
    for family in (socket.AF_INET, socket.AF_INET6) if ports else ():
        for host, port, inode in _tcp_listeners(family):
            if any(_binds(host, address) for address in ports.get(port, ())):
                found.add(inode)
    return found


def _tcp_listeners(family: socket.AddressFamily) -> list[tuple[bytes, int, int]]:
    """Packed host, port and inode of each listening TCP socket of ``family``."""
    try:
        return _ask_sock_diag(family)
    except OSError:
        # no tcp_diag in this kernel
        return _read_proc_net(family)


def _ask_sock_diag(family: socket.AddressFamily) -> list[tuple[bytes, int, int]]:
    size = 4 if family == socket.AF_INET else 16
    # struct inet_diag_req_v2 behind its nlmsghdr: the family's TCP sockets in state LISTEN
    request = struct.pack("=BBBxI48x", family, socket.IPPROTO_TCP, 0, 1 << _TCP_LISTEN)
    header = struct.pack("=IHHII", 16 + len(request), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0)
    found = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(1)
        netlink.send(header + request)
        while True:
            data = netlink.recv(1 << 16)
            while data:
                length, kind = struct.unpack_from("=IH", data)
                if kind == _NLMSG_DONE:
                    return found
                if kind == _NLMSG_ERROR:
                    raise OSError(-struct.unpack_from("=i", data, 16)[0], "sock_diag")
                # struct inet_diag_msg: port at 4, source host at 8, inode at 68
                port, inode = struct.unpack_from("!H", data, 20)[0], struct.unpack_from("=I", data, 84)[0]
                found.append((data[24 : 24 + size], port, inode))
                data = data[(length + 3) & ~3 :]


def _read_proc_net(family: socket.AddressFamily) -> list[tuple[bytes, int, int]]:
    found = []
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
                found.append((b"".join(words), int(port, 16), int(fields[9])))
    except OSError:
        pass
    return found


def _binds(host: bytes, address: Address) -> bool:
    """Whether a socket bound to ``host`` is that of ``address``."""
    bound = ipaddress.ip_address(host)
    bound = getattr(bound, "ipv4_mapped", None) or bound
    if address.is_wildcard or bound.is_unspecified:
        return bound.is_unspecified
    return bound in _resolve(address.host)


def _resolve(host: str) -> set:
    try:
        return {ipaddress.ip_address(host)}
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return set()
    return {ipaddress.ip_address(info[4][0]) for info in found}


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


def holders(inodes: set[int]) -> list[int]:
    """PIDs of the uWSGI processes that have one of the sockets open, and of the uWSGI processes that these started."""
    pids = psutil.pids()
    # a look at the command line costs a tenth of is_uwsgi, and suffices unless uWSGI renamed itself
    for candidates, check in ((filter(_named_uwsgi, pids), lambda pid: True), (pids, is_uwsgi)):
        held: set[int] = set()
        for pid in candidates:
            # a master comes before its workers, whose open files need not be looked at then
            if (parent(pid) in held and check(pid)) or (holds(pid, inodes) and check(pid)):
                held.add(pid)
        if held:
            return sorted(held)
    return []


def end(processes: Iterable[Process], first: signal.Signals, patience: float) -> list[dict]:
    """
    Signal each process with ``first``, and those that are there after ``patience`` seconds with SIGKILL.

    Returns what was sent: ``{"pid": …, "signal": …}`` for each.
    """
    processes = list(processes)
    sent = [{"pid": process.pid, "signal": first.name} for process in processes if process.signal(first)]
    if not wait_until(lambda: not any(process.is_alive for process in processes), Deadline(patience)):
        alive = [process for process in processes if process.is_alive]
        sent += [{"pid": process.pid, "signal": "SIGKILL"} for process in alive if process.signal(signal.SIGKILL)]
        wait_until(lambda: not any(process.is_alive for process in alive), Deadline(patience))
    return sent


def _named_uwsgi(pid: int) -> bool:
    try:
        descriptor = os.open(f"/proc/{pid}/cmdline", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        words = os.read(descriptor, 4096).lower().split(b"\0")[:2]
        return any(b"uwsgi" in word.rpartition(b"/")[2] for word in words)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _topmost(pid: int, inodes: set[int]) -> Process | None:
    """From a holder up to the one whose parent does not hold the sockets: a pidfile may name a worker."""
    above = parent(pid)
    while above and is_uwsgi(above) and holds(above, inodes):
        pid, above = above, parent(above)
    return Process.of(pid)


def _is_orphan(pid: int) -> bool:
    """
    Whether it is a worker whose master is gone: the leader of its process group is, and it has no uWSGI children.

    A master leads its group under a manager, a daemon or an interactive shell, and its workers stay in that group.
    """
    try:
        group = os.getpgid(pid)
        if group == pid or psutil.pid_exists(group):
            return False
        return not any(is_uwsgi(child.pid) for child in psutil.Process(pid).children())
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


def parent(pid: int) -> int | None:
    """The PID of its parent; ``None`` where it is gone or has none."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            # pid (comm) state ppid …, and comm may hold anything
            return int(file.read(4096).rpartition(b")")[2].split()[1]) or None
    except (OSError, IndexError):
        return None


def _pid_in(pidfile: str | None) -> int | None:
    try:
        with open(pidfile, encoding="ascii") as file:
            pid = int(file.read(32))
    except (TypeError, OSError, ValueError):
        return None
    return pid if pid > 0 else None
