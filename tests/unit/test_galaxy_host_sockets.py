import os
import socket
import struct

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.site import free_port

import galaxy_host_address
import galaxy_host_sockets

parse = galaxy_host_address.parse


@pytest.mark.parametrize("reader", ["_ask_sock_diag", "_read_proc_net"])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_both_ways_to_list_listeners_agree_with_psutil(reader, host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("::1" if ":" in host else "127.0.0.1", port)):
            found = [one for one in getattr(galaxy_host_sockets, reader)(family) if one.port == port]
            inode = os.fstat(listener.fileno()).st_ino
            assert found == [(socket.inet_pton(family, host), port, os.getuid(), inode)]
            assert galaxy_host_sockets.owners(parse(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")) == {0}
            listening = [
                one.laddr
                for one in psutil.Process().net_connections("tcp")
                if one.status == "LISTEN" and one.laddr.port == port
            ]
            assert [(one.ip, one.port) for one in listening] == [(host, port)]


def test_an_address_matches_its_own_socket_alone():
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as listener:
        inode = os.fstat(listener.fileno()).st_ino
        assert galaxy_host_sockets.listeners([parse(f"127.0.0.1:{port}")]) == {inode}
        assert galaxy_host_sockets.listeners([parse(f"localhost:{port}")]) == {inode}
        assert galaxy_host_sockets.listeners([parse(f"127.0.0.2:{port}")]) == set()
        assert galaxy_host_sockets.listeners([parse(f":{port}")]) == set()
        assert galaxy_host_sockets.holds(os.getpid(), {inode})
        assert not galaxy_host_sockets.holds(os.getpid(), {inode + 10**9})
    with socket.create_server(("0.0.0.0", port)) as listener:
        # bound to every interface, it answers for each
        assert galaxy_host_sockets.listeners([parse(f"127.0.0.1:{port}")]) == {os.fstat(listener.fileno()).st_ino}


def test_what_is_bound_to_the_address_itself_goes_before_what_is_bound_to_all():
    port = free_port()
    with (
        socket.create_server(("127.0.0.1", port)) as own,
        socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=False) as other,
    ):
        own_inode, other_inode = (os.fstat(one.fileno()).st_ino for one in (own, other))
        assert galaxy_host_sockets.listeners([parse(f"127.0.0.1:{port}")]) == {own_inode}
        assert galaxy_host_sockets.listeners([parse(f"[::]:{port}")]) == {other_inode}
        assert galaxy_host_sockets.listeners([parse(f"[::1]:{port}")]) == {other_inode}


def test_sockets_that_share_an_address_are_all_of_it():
    port = free_port()
    with (
        socket.create_server(("127.0.0.1", port), reuse_port=True) as first,
        socket.create_server(("127.0.0.1", port), reuse_port=True) as second,
    ):
        inodes = {os.fstat(one.fileno()).st_ino for one in (first, second)}
        assert galaxy_host_sockets.listeners([parse(f"127.0.0.1:{port}")]) == inodes


@pytest.mark.parametrize("form", ["{}", "unix:{}", "@{}"])
def test_unix_sockets(tmp_path, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    text = form.format("galaxy-test" if form[0] == "@" else tmp_path / "s")
    address = parse(text)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address.peer)
        assert galaxy_host_sockets.listeners([address]) == set()
        listener.listen()
        assert galaxy_host_sockets.listeners([address]) == {os.fstat(listener.fileno()).st_ino}


@given(st.binary(max_size=400), st.sampled_from([4, 16]))
def test_whatever_the_kernel_answers_ends_in_a_list_or_an_oserror(data, size):
    try:
        sockets, is_complete = galaxy_host_sockets._parse_sock_diag(data, size)
    except OSError:
        return
    assert isinstance(is_complete, bool)
    assert len(sockets) <= len(data)


def test_a_message_without_a_length_does_not_loop():
    with pytest.raises(OSError, match="0 bytes"):
        galaxy_host_sockets._parse_sock_diag(struct.pack("=IH", 0, 20) + bytes(100), 4)
