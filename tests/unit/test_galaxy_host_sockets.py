import contextlib
import itertools
import os
import resource
import socket
import struct
import threading

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.attacker import GALAXY, MALLORY, make, mount_tmpfs, own_mounts, public_directory, staying
from support.site import free_port

import galaxy_host_address
import galaxy_host_sockets
from galaxy_errors import FileError
from galaxy_host_wait import Deadline, wait_until

parse = galaxy_host_address.parse


def _read_proc_net(ports):
    tables = [galaxy_host_sockets._read_proc_net(table) for table in ("tcp", "tcp6")]
    return [one for one in itertools.chain(*tables) if one.port in ports]


def _inodes(*addresses):
    return set(galaxy_host_sockets.listeners(map(parse, addresses)))


READERS = {"sock_diag": galaxy_host_sockets._ask_sock_diag, "/proc": _read_proc_net}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_both_ways_to_list_listeners_agree_with_psutil(reader, host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("::1" if ":" in host else "127.0.0.1", port)):
            with socket.create_server((host, 0), family=family) as other:
                both = {one.port for one in reader([port, other.getsockname()[1]])}
                assert both == {port, other.getsockname()[1]}
            inode = os.fstat(listener.fileno()).st_ino
            # nobody has accepted the connection
            assert [one[:4] for one in reader([port])] == [(socket.inet_pton(family, host), port, os.getuid(), inode)]
            assert galaxy_host_sockets.owners(parse(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")) == {0}
            listening = [
                one.laddr
                for one in psutil.Process().net_connections("tcp")
                if one.status == "LISTEN" and one.laddr.port == port
            ]
            assert [(one.ip, one.port) for one in listening] == [(host, port)]


@pytest.mark.parametrize("count", [1000, 1001, 20_000])
def test_many_ports_at_once(count):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        own = listener.getsockname()[1]
        addresses = [parse(f"127.0.0.1:{port}") for port in (*range(30_000, 30_000 + count - 1), own)]
        assert os.fstat(listener.fileno()).st_ino in galaxy_host_sockets.listeners(addresses)


def test_an_address_matches_its_own_socket_alone():
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as listener:
        inode = os.fstat(listener.fileno()).st_ino
        assert _inodes(f"127.0.0.1:{port}") == {inode}
        assert _inodes(f"localhost:{port}") == {inode}
        assert _inodes(f"127.0.0.2:{port}") == set()
        assert _inodes(f":{port}") == set()
        assert galaxy_host_sockets.holds(os.getpid(), {inode})
        assert not galaxy_host_sockets.holds(os.getpid(), {inode + 10**9})
    with socket.create_server(("0.0.0.0", port)) as listener:
        # a socket for every interface answers for each address
        assert _inodes(f"127.0.0.1:{port}") == {os.fstat(listener.fileno()).st_ino}


def test_a_name_is_what_servers_bind_of_it():
    """Servers bind only one address of localhost. Anybody may listen at the other one."""
    port = free_port()
    address = parse(f"localhost:{port}")
    with socket.create_server(("::1", port), family=socket.AF_INET6) as stranger:
        assert set(galaxy_host_sockets.listeners([address])) == set()
        with pytest.raises(ConnectionRefusedError):
            galaxy_host_sockets.connect(address, Deadline(60))
        there = parse(f"[::1]:{port}")
        assert set(galaxy_host_sockets.listeners([there])) == {os.fstat(stranger.fileno()).st_ino}
        galaxy_host_sockets.connect(there, Deadline(60)).close()


@pytest.mark.skipif(os.geteuid() != 0, reason="listens as another user")
@pytest.mark.parametrize("text", ["127.0.0.1:{port}", "*:{port}", "@galaxy-{port}", "{place}/s"])
def test_who_listens_may_be_asked_for(text):
    with public_directory() as place:
        make(f"{place}/mallorys", MALLORY)
        address = parse(text.format(port=free_port(), place=f"{place}/mallorys"))
        with staying(MALLORY, _listen_at, address):
            assert galaxy_host_sockets.owners(address) == {MALLORY}
            galaxy_host_sockets.connect(address, Deadline(60), may_listen=lambda uid: uid == MALLORY).close()
            with pytest.raises(FileError, match=f"user {MALLORY} listens there"):
                galaxy_host_sockets.connect(address, Deadline(60), may_listen=lambda uid: uid == 0)


def _listen_at(address):
    listener = socket.socket(socket.AF_UNIX if address.is_unix else socket.AF_INET)
    listener.bind(("", address.port) if address.is_wildcard else address.peer)
    listener.listen()
    return listener


@pytest.mark.skipif(os.geteuid() != 0, reason="listens as another user")
@pytest.mark.parametrize(
    ("bound", "device", "reached"),
    [
        ("127.0.0.1", None, "127.0.0.1"),
        ("0.0.0.0", None, "127.0.0.1"),
        ("::", None, "127.0.0.1"),
        ("::ffff:127.0.0.1", None, "127.0.0.1"),
        ("127.0.0.1", b"lo", "127.0.0.1"),
        ("::", b"lo", "[::1]"),
        ("::1", None, "[::1]"),
    ],
)
def test_who_is_reached(bound, device, reached):
    """The kernel's answer about one address agrees with the whole table, and with who gets a connection."""
    address = parse(f"{reached}:{free_port()}")
    assert galaxy_host_sockets.owners(address) == set()
    with staying(MALLORY, _listen_on, bound, address.port, device):
        assert galaxy_host_sockets._reached_uid(address) == MALLORY
        assert [listener.uid for listener in galaxy_host_sockets._listening([address])] == [MALLORY]
        assert galaxy_host_sockets.owners(address) == {MALLORY}
        galaxy_host_sockets.connect(address, Deadline(60)).close()


def _listen_on(host, port, device):
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    if device:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
    listener.bind((host, port))
    listener.listen()
    return listener


def test_where_the_kernel_does_not_say_who_is_reached_the_table_does(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = parse(f"127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setattr(galaxy_host_sockets, "_REQUEST", 0x8000)
        assert galaxy_host_sockets._reached_uid(address) is None
        assert galaxy_host_sockets.owners(address) == {os.getuid()}


def test_what_is_bound_to_the_address_itself_goes_before_what_is_bound_to_all():
    port = free_port()
    with (
        socket.create_server(("127.0.0.1", port)) as own,
        socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=False) as other,
    ):
        own_inode, other_inode = (os.fstat(one.fileno()).st_ino for one in (own, other))
        assert _inodes(f"127.0.0.1:{port}") == {own_inode}
        assert _inodes(f"[::]:{port}") == {other_inode}
        assert _inodes(f"[::1]:{port}") == {other_inode}


def test_sockets_that_share_an_address_are_all_of_it():
    port = free_port()
    with (
        socket.create_server(("127.0.0.1", port), reuse_port=True) as first,
        socket.create_server(("127.0.0.1", port), reuse_port=True) as second,
    ):
        inodes = {os.fstat(one.fileno()).st_ino for one in (first, second)}
        assert _inodes(f"127.0.0.1:{port}") == inodes


@pytest.mark.parametrize("form", ["{}", "unix:{}", "@{}"])
def test_unix_sockets(tmp_path, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    text = form.format("galaxy-test" if form[0] == "@" else tmp_path / "s")
    address = parse(text)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address.peer)
        assert set(galaxy_host_sockets.listeners([address])) == set()
        listener.listen()
        assert set(galaxy_host_sockets.listeners([address])) == {os.fstat(listener.fileno()).st_ino}


@pytest.mark.parametrize("name", ["{}", "\0{}\0"])
def test_the_table_of_unix_sockets_has_what_the_kernel_answers(tmp_path, name):
    """A kernel without unix_diag has only the table."""
    name = name.format(tmp_path / "a name")
    path = name.replace("\0", "@", 1).rstrip("\0")

    def found(sockets):
        return [(one.path, one.inode, one.listens) for one in sockets if one.path == path]

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        inode = os.fstat(listener.fileno()).st_ino
        assert found(galaxy_host_sockets._read_proc_net_unix()) == [(path, inode, False)]
        listener.listen()
        assert found(galaxy_host_sockets._read_proc_net_unix()) == [(path, inode, True)]
        assert found(galaxy_host_sockets._ask_unix_diag()) == [(path, inode, True)]


@given(st.binary(max_size=400))
def test_whatever_the_kernel_answers_ends_in_a_list_or_an_oserror(data):
    try:
        messages, is_complete = galaxy_host_sockets._parse_sock_diag(data)
        sockets = [galaxy_host_sockets._listener(message) for message in messages]
    except OSError:
        return
    assert isinstance(is_complete, bool)
    assert len(sockets) <= len(data)


@given(st.binary(max_size=200), st.integers(0, 40))
def test_attributes_of_any_length_end(data, offset):
    assert len(galaxy_host_sockets._attribute(data, offset, 2)) <= len(data)


def test_a_message_without_a_length_does_not_loop():
    with pytest.raises(OSError, match="0 bytes"):
        galaxy_host_sockets._parse_sock_diag(struct.pack("=IH", 0, 20) + bytes(100))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_who_waits_for_an_answer_on_a_connection(host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        port = listener.getsockname()[1]

        def connection():
            (found,) = galaxy_host_sockets.connections([port])
            return found

        with socket.create_connection((host, port)) as client:
            assert not connection().is_in_request
            client.sendall(b"GET")
            assert wait_until(lambda: connection().unread == 3, Deadline(180))
            assert (connection().inode, connection().is_in_request) == (0, True)
            served, _ = listener.accept()
            with served:
                assert connection().inode == os.fstat(served.fileno()).st_ino
                served.recv(3)
                assert wait_until(lambda: connection().since_received > 0.02, Deadline(180))
                assert (connection().unread, connection().is_in_request) == (0, True)
                served.sendall(b"200")
                assert wait_until(lambda: connection().sent == 3, Deadline(180))
                assert not connection().is_in_request
                # a second request on the same connection
                assert wait_until(lambda: connection().since_sent > 0.02, Deadline(180))
                client.sendall(b"GET")
                assert wait_until(lambda: connection().is_in_request, Deadline(180))
    assert galaxy_host_sockets.connections([free_port()]) == []


def test_connections_of_several_ports_and_families_alone():
    with contextlib.ExitStack() as stack:
        ports, inodes = [], []
        for host, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6), ("127.0.0.1", socket.AF_INET)):
            listener = stack.enter_context(socket.create_server((host, 0), family=family))
            ports.append(listener.getsockname()[1])
            stack.enter_context(socket.create_connection((host, ports[-1])))
            inodes.append(os.fstat(stack.enter_context(listener.accept()[0]).fileno()).st_ino)

        def found(*wanted):
            return {one.inode for one in galaxy_host_sockets.connections(wanted)}

        assert {(one.port, one.inode) for one in galaxy_host_sockets.connections(ports)} == set(
            zip(ports, inodes, strict=True)
        )
        for count in range(4):
            for chosen in itertools.combinations(range(3), count):
                assert found(*(ports[one] for one in chosen)) == {inodes[one] for one in chosen}


def test_a_connection_whose_listener_is_gone_is_found():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        served, _ = listener.accept()
    with client, served:
        (found,) = galaxy_host_sockets.connections([port])
        assert found.inode == os.fstat(served.fileno()).st_ino


def test_listen_queues(tmp_path):
    path = str(tmp_path / "s")
    with socket.create_server(("127.0.0.1", 0), backlog=7) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(path)
        unix.listen(5)
        inodes = [os.fstat(one.fileno()).st_ino for one in (tcp, unix)]
        addresses = [parse("{}:{}".format(*tcp.getsockname())), parse(path)]
        assert galaxy_host_sockets.listeners(addresses) == {inodes[0]: (0, 7), inodes[1]: (0, 5)}
        with socket.create_connection(tcp.getsockname()), socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            assert galaxy_host_sockets.listeners(addresses) == {inodes[0]: (1, 7), inodes[1]: (1, 5)}
            assert galaxy_host_sockets.accepted({path}) == set()
            served, _ = unix.accept()
            with served:
                assert galaxy_host_sockets.accepted({path}) == {os.fstat(served.fileno()).st_ino}


@pytest.fixture
def silent_resolver(monkeypatch):
    """A resolver whose name server never answers."""
    gate, ask = threading.Event(), socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *more, **most: gate.wait() and ask(host, *more, **most))
    yield
    gate.set()


def test_a_name_whose_server_is_silent(silent_resolver, monkeypatch):
    """The owner of Galaxy's configuration chose this name."""
    with pytest.raises(TimeoutError):
        galaxy_host_sockets.connect(parse("x.example.org:80"), Deadline(0.1))
    monkeypatch.setattr(galaxy_host_sockets, "_LONGEST_LOOKUP", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port, inode = listener.getsockname()[1], os.fstat(listener.fileno()).st_ino
        names = [parse(f"x{number}.example.org:{port}") for number in range(500)]
        before = threading.active_count()
        assert set(galaxy_host_sockets.listeners([parse(f"127.0.0.1:{port}"), *names])) == {inode}
        assert threading.active_count() - before < 3


def test_descriptors_without_end():
    """Any user may name a process uWSGI and open many files in it. A real server opens its sockets first."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    with socket.create_server(("127.0.0.1", 0)) as first:
        copies = [os.dup(0) for _ in range(5000)]
        try:
            with socket.create_server(("127.0.0.1", 0)) as late:
                inodes = [os.fstat(one.fileno()).st_ino for one in (first, late)]
                assert [galaxy_host_sockets.holds(os.getpid(), {inode}) for inode in inodes] == [True, False]
        finally:
            for descriptor in copies:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def _listen(path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    return listener


def _listen_in_a_place_of_that_name(path):
    own_mounts()
    mount_tmpfs(os.path.dirname(path))
    return _listen(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
class TestStrangers:
    def test_a_name_with_a_line_of_the_kernels_table_in_it(self):
        """/proc/net/unix shows names as they are: a newline in an abstract name makes a line that is not true."""
        with socket.create_server(("127.0.0.1", 0)) as foreign:
            inode = os.fstat(foreign.fileno()).st_ino
            line = f"0000000000000000: 00000002 00000000 00010000 0001 01 {inode} /srv/galaxy/s"
            with staying(MALLORY, _listen, f"\0x\n{line}"):
                with open("/proc/net/unix", encoding="utf-8") as table:
                    assert f"{line}\n" in table.read()
                assert _inodes("/srv/galaxy/s") == set()

    def test_a_path_in_a_mount_namespace_of_his_own(self):
        with public_directory() as place:
            path = f"{make(f'{place}/galaxy', GALAXY)}/s"
            with staying(MALLORY, _listen_in_a_place_of_that_name, path):
                assert not os.path.exists(path)
                assert _inodes(path) == set()
                with staying(GALAXY, _listen, path) as pid:
                    (inode,) = galaxy_host_sockets.listeners([parse(path)])
                    assert galaxy_host_sockets.holds(pid, {inode})
                    # the server still listens, although nobody can reach it any more
                    os.unlink(path)
                    assert _inodes(path) == {inode}

    def test_who_may_listen_in_a_directory_counts(self):
        with public_directory() as place:
            for mode, group, counts in ((0o775, GALAXY, True), (0o755, GALAXY, False), (0o1777, 0, True)):
                directory = make(f"{place}/{mode:o}", 0, mode, gid=group)
                path = f"{directory}/s"
                with _listen(path) as root:
                    assert _inodes(path) == {os.fstat(root.fileno()).st_ino}
                os.unlink(path)
                os.chmod(directory, 0o777)
                with staying(GALAXY, _listen, path):
                    os.chmod(directory, mode)
                    os.chown(path, MALLORY, MALLORY)
                    assert len(galaxy_host_sockets.listeners([parse(path)])) == counts
