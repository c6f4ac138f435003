"""A real gunicorn with uvicorn's workers. Only the application is a stand-in for Galaxy's."""

import contextlib
import os
import socket
import subprocess
import threading

import galaxy_gunicorn_command
from galaxy_gunicorn_server import GunicornServer
from galaxy_host_wait import Deadline, wait_until

from .site import REPO, Gated, free_port

APP = """
import asyncio, json, pathlib, time

GATES = pathlib.Path({gates!r})


def hold(name):
    while not (GATES / name).exists():
        time.sleep(0.01)


if (GATES / "broken").exists():
    raise RuntimeError("no database")
if (GATES / "load-is-slow").exists():
    hold("load")


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({{"type": message["type"] + ".complete"}})
            if message["type"] == "lifespan.shutdown":
                return
    kind = scope["path"].strip("/")
    if kind == "block":
        hold("go")
    elif kind == "thread":
        await asyncio.get_running_loop().run_in_executor(None, hold, "go")
    elif kind == "await":
        while not (GATES / "go").exists():
            await asyncio.sleep(0.01)
    known = kind == "api/version"
    body = json.dumps({{"version_major": "26.1", "version_minor": "1"}}).encode() if known else b"ok"
    status = 200 if known or kind in ("block", "thread", "await") else 404
    await send({{"type": "http.response.start", "status": status, "headers": []}})
    await send({{"type": "http.response.body", "body": body}})
"""


class Gunicorn(Gated):
    """One gunicorn below ``root``, from the virtualenv ``venv``, that listens at ``bind``."""

    def __init__(self, root, venv="bed", bind=None, options=(), workers=2):
        super().__init__(root)
        (root / "application.py").write_text(APP.format(gates=str(self.gates)))
        self.bind = f"unix:{root}/s" if bind == "unix" else f"127.0.0.1:{free_port()}"
        self.address = galaxy_gunicorn_command.address(self.bind, str(root))
        self.command = [str(REPO / f".venv-{venv}/bin/gunicorn"), "application:app", "-b", self.bind]
        self.command += [f"--workers={workers}", "-k", "uvicorn.workers.UvicornWorker", "--pythonpath", str(root)]
        # without a control socket, which would lie in a home directory
        self.command += ["--worker-tmp-dir", str(root), *options]

    def start(self):
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.root)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.root,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def server(self, **more):
        return GunicornServer((self.address,), **{"uid": os.getuid(), **more})

    def wait(self, condition, **more):
        """The first snapshot that meets the condition."""
        web = self.server(**more)

        def look():
            with contextlib.suppress(Exception):
                found = web.snapshot(5, probe=False)
                return found if condition(found) else None

        found = wait_until(look, Deadline(60))
        assert found, self.log.read_text()
        return found

    def ready(self, count=2):
        return self.wait(lambda found: found.ready == count)

    def ask(self, path):
        """Send a request and do not wait for its answer."""
        target = self.address.peer
        sock = socket.socket(socket.AF_UNIX if self.address.is_unix else socket.AF_INET)
        sock.connect(target)
        sock.sendall(f"GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        threading.Thread(target=sock.recv, args=(1000,), daemon=True).start()
        return sock
