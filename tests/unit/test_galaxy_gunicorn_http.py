import contextlib
import os
import socket
import ssl
import struct
import threading

import pytest
from support.attacker import GALAXY, public_directory
from support.remote import certify

import galaxy_gunicorn_http
from galaxy_errors import GunicornError, TlsRefused
from galaxy_host_address import Address


def _ask(answer, timeout=5, **more):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            client, _ = listener.accept()
            with client, contextlib.suppress(OSError):
                client.recv(1000)
                if answer is None:
                    client.recv(1)
                else:
                    client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            return galaxy_gunicorn_http.version(Address(*listener.getsockname()), "/galaxy/", timeout, **more)
        finally:
            thread.join()


def test_galaxys_version():
    head = b"HTTP/1.1 200 OK\r\nserver: x\r\n\r\n"
    assert _ask(head + b'{"version_major": "26.1", "version_minor": "1"}') == "26.1.1"
    assert _ask(head + b'{"version_major": "26.1"}') == "26.1"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "no HTTP answer"),
        (b"SSH-2.0", "no HTTP answer"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "GET /galaxy/api/version: answered '404'; is the prefix right"),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>", "not Galaxy's"),
        (b"HTTP/1.1 200 OK\r\n\r\n[]", "not Galaxy's"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 20000, "not Galaxy's"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200_000, "more than 65536 bytes|reset"),
    ],
)
def test_other_answers_are_refused(answer, why):
    with pytest.raises(GunicornError, match=why):
        _ask(answer)


def test_a_connection_that_tls_ends_says_nothing_about_galaxy(tmp_path, monkeypatch):
    """
    A server that wants the client's certificate may close before the request is sent. OpenSSL 3.0 calls that a TLS
    error, and 3.5 a broken pipe.
    """
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    certify(certificate, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    shake_hands, closed = galaxy_gunicorn_http._with_tls, threading.Event()
    monkeypatch.setattr(galaxy_gunicorn_http, "_with_tls", lambda *given: (shake_hands(*given), closed.wait(120))[0])
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            client, _ = listener.accept()
            with context.wrap_socket(client, server_side=True) as secure:
                secure.shutdown(socket.SHUT_WR)
                # then the kernel sends a reset, so that the client's next write finds a broken pipe
                secure.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            closed.set()

        thread = threading.Thread(target=serve)
        thread.start()
        address = Address(*listener.getsockname())
        with pytest.raises(TlsRefused):
            galaxy_gunicorn_http.version(address, "/galaxy", 60, tls=True)
        thread.join()


def test_a_server_without_tls():
    with pytest.raises(TlsRefused, match=r"127\.0\.0\.1"):
        _ask(b"HTTP/1.1 400 Bad Request\r\n\r\n", tls=True)


def test_silence_is_bounded():
    with pytest.raises(GunicornError, match=r"no answer within 0\.2 s"):
        _ask(None, timeout=0.2)


def test_nothing_listens_there(tmp_path):
    with pytest.raises(GunicornError, match="No such file"):
        galaxy_gunicorn_http.version(Address(path=str(tmp_path / "s")), "", 1)


@pytest.mark.parametrize(
    "prefix",
    [
        "/x HTTP/1.0\r\n\r\nPOST /containers/create HTTP/1.1\r\n\r\n",
        "/x y",
        "/x\n",
        "/x\0",
        "/gr\u00fc\u00dfe",
        "/x?y#z",
        "x",
    ],
)
def test_a_prefix_that_would_be_a_request_of_its_own(prefix):
    """Root would send this request to any address that Galaxy's user names."""
    with pytest.raises(GunicornError, match="is no prefix of Galaxy's URLs"):
        galaxy_gunicorn_http.version(Address("127.0.0.1", 9), prefix, 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_socket_that_whoever_names_it_may_not_ask():
    with public_directory() as place, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{place}/docker.sock")
        os.chmod(f"{place}/docker.sock", 0o660)
        listener.listen()
        listener.settimeout(0)
        with pytest.raises(GunicornError, match=r"not asked: .*user 4001 .* may not connect to it"):
            galaxy_gunicorn_http.version(Address(path=f"{place}/docker.sock"), "", 1, [GALAXY])
        with pytest.raises(BlockingIOError):
            listener.accept()
        os.chmod(f"{place}/docker.sock", 0o666)
        with pytest.raises(GunicornError, match="no answer within"):
            galaxy_gunicorn_http.version(Address(path=f"{place}/docker.sock"), "", 0.1, [GALAXY])
