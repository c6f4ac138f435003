"""What a supervisord may answer. tests/functional/managers has a real one."""

import contextlib
import http.server
import os
import socket
import socketserver
import threading
import xmlrpc.client

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.attacker import MALLORY, make, public_directory, run_as

import galaxy_manager_supervisor_rpc
from galaxy_errors import GalaxyError, ManagerError
from galaxy_host_secret import Secret
from galaxy_manager_supervisor_config import Endpoint
from galaxy_manager_supervisor_rpc import Client, Fault, NotRunning, ProcessInfo


class _Server(socketserver.ThreadingUnixStreamServer):
    def get_request(self):
        return super().get_request()[0], ("", 0)


@pytest.fixture
def answer(tmp_path):
    """``answer(body)`` returns a client; its server answers with ``body``."""
    path = f"/tmp/rpc-{os.getpid()}-{abs(hash(str(tmp_path))) % 10**8}.sock"

    class Handler(http.server.BaseHTTPRequestHandler):
        body = b""

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            with contextlib.suppress(OSError):
                self.send_response(200)
                self.send_header("Content-Type", "text/xml")
                self.send_header("Content-Length", str(len(Handler.body)))
                self.end_headers()
                self.wfile.write(Handler.body)

        def log_message(self, *_):
            pass

    server = _Server(path, Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def give(body):
        Handler.body = body
        return Client(Endpoint(path=path))

    yield give
    server.shutdown()
    server.server_close()
    os.unlink(path)


def _info(**changes):
    info = {
        **{"name": "web", "group": "gx", "statename": "RUNNING", "pid": 12, "spawnerr": "", "description": "pid 12"},
        **{"stderr_logfile": "", "stdout_logfile": "/x.log", "start": 100, "now": 107},
    }
    return {**info, **changes}


def _document(value):
    return xmlrpc.client.dumps((value,), methodresponse=True, allow_none=True).encode()


def test_a_process(answer):
    (info,) = answer(_document([_info()])).processes()
    assert info == ProcessInfo("web", "gx", "RUNNING", 12, "pid 12", ("/x.log",), 7.0)
    assert info.title == "gx:web"


@pytest.mark.parametrize(
    "value",
    [
        {"x": 1},
        [1],
        ["x"],
        [{}],
        [_info(pid="12")],
        [_info(pid=True)],
        [_info(name=None)],
        [_info(stdout_logfile=7)],
        None,
        12,
    ],
)
def test_an_answer_of_another_shape(answer, value):
    with pytest.raises(ManagerError, match="not what it documents"):
        answer(_document(value)).processes()


def test_a_refusal(answer):
    fault = xmlrpc.client.dumps(xmlrpc.client.Fault(10, "BAD_NAME: x"), methodresponse=True).encode()
    with pytest.raises(Fault, match="BAD_NAME: x") as caught:
        answer(fault).call("startProcess", "x", False)
    assert caught.value.code == 10
    with pytest.raises(ManagerError, match="refuses to answer: BAD_NAME: x"):
        answer(fault).processes()


@pytest.mark.parametrize(
    "inner",
    [
        "",
        "<fault/>",
        "<fault><value>x</value></fault>",
        "<fault><value><struct/></value></fault>",
        "<params><param><value><struct><value>x</value></struct></value></param></params>",
        "<params><param><value><struct><value><array/></value><value>1</value></struct></value></param></params>",
        "<params><param><value><int>x</int></value></param></params>",
        "<params><param><value><boolean>x</boolean></value></param></params>",
        "<params><param>",
    ],
)
def test_what_is_no_answer(answer, inner):
    with pytest.raises(ManagerError, match="does not answer"):
        answer(f"<methodResponse>{inner}</methodResponse>".encode()).call("getState")


def test_an_answer_that_is_too_large(answer):
    with pytest.raises(ManagerError, match="larger than 2097152 bytes"):
        answer(b"<methodResponse>" + b" " * (5 << 20)).processes()


def test_another_protocol(tmp_path):
    """Another program listens there, such as an SSH server."""
    path = f"/tmp/rpc-{os.getpid()}-{abs(hash(str(tmp_path))) % 10**8}.other"
    try:
        with socket.create_server(path, family=socket.AF_UNIX) as listener:

            def serve():
                client, _ = listener.accept()
                with client:
                    client.recv(1 << 16)
                    client.sendall(b"SSH-2.0\r\n\r\n")

            thread = threading.Thread(target=serve)
            thread.start()
            with pytest.raises(ManagerError, match=r"no HTTP comes from there \(11 bytes\)"):
                Client(Endpoint(path=path)).call("getState")
            thread.join()
    finally:
        os.unlink(path)


@pytest.mark.parametrize("doctype", ['<!ENTITY a "">', '<!ENTITY % a "b">', ""])
def test_a_document_type_is_refused_before_it_stands_for_gigabytes(answer, doctype):
    """Old versions of expat expand ten entities of ten until the memory is full; new ones expand some of them."""
    text = f'<?xml version="1.0"?><!DOCTYPE x [{doctype}]><methodResponse><params/></methodResponse>'
    for encoding in ("utf-8", "utf-16"):
        with pytest.raises(ManagerError, match="document type"):
            answer(text.encode(encoding)).processes()


def test_an_answer_that_never_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(galaxy_manager_supervisor_rpc, "_TIMEOUT", 0.5)
    ended = threading.Event()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            with contextlib.suppress(OSError):
                # each byte comes before the timeout
                while not ended.wait(0.02):
                    self.wfile.write(b" ")

    path = f"/tmp/rpc-slow-{os.getpid()}.sock"
    with _Server(path, Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with pytest.raises(ManagerError, match=r"not complete after 0\.5 s|timed out"):
                Client(Endpoint(path=path)).processes()
        finally:
            ended.set()
            server.shutdown()
            os.unlink(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_link_to_another_service_of_roots():
    """supervisord's sample has its socket in /tmp. Anybody can put a link there before supervisord starts."""
    with public_directory() as place, socketserver.UnixStreamServer(f"{place}/docker.sock", None) as other:
        make(f"{place}/tmp", 0, 0o1777)
        run_as(MALLORY, os.symlink, f"{place}/docker.sock", f"{place}/tmp/supervisor.sock")
        other.socket.settimeout(0)
        with pytest.raises(ManagerError, match=r"supervisor\.sock: user 4002 can put something else there"):
            Client(Endpoint(f"{place}/tmp/supervisor.sock", user="x", password=Secret("y"))).processes()
        with pytest.raises(BlockingIOError):
            other.socket.accept()


def test_nothing_that_answers():
    client = Client(Endpoint(path="/tmp/no-such-supervisor.sock"))
    assert client.processes() is None
    with pytest.raises(NotRunning):
        client.call("getState")
    assert Client(Endpoint(host="127.0.0.1", port=9)).processes() is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=100).map(_document)))
def test_whatever_comes_is_an_answer_or_our_error(answer, body):
    with contextlib.suppress(GalaxyError):
        answer(body).processes()
