"""A real nginx in front of several servers, and a steady load of requests through it."""

import collections
import contextlib
import http.client
import subprocess
import threading
import time

from galaxy_host_wait import Deadline, wait_until

from .site import free_port, listens

_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@contextlib.contextmanager
def nginx(root, http, port, user="root"):
    """
    An nginx that listens on ``port``, with ``http`` in its section of that name. ``root`` gets its ``error.log``.
    """
    temporary = "".join(f"{kind}_temp_path {root}/{kind};" for kind in _TEMPORARY)
    (root / "nginx.conf").write_text(
        f"user {user}; daemon off; pid {root}/pid; error_log {root}/error.log info; events {{}} "
        f"http {{ {temporary} {http} }}"
    )
    process = subprocess.Popen(["nginx", "-c", root / "nginx.conf", "-e", root / "error.log"], stderr=subprocess.PIPE)
    try:
        assert wait_until(lambda: process.poll() is not None or listens(port), Deadline(180))
        assert process.poll() is None, process.stderr.read()
        yield port
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()


@contextlib.contextmanager
def balancer(root, servers):
    """
    An nginx in front of ``servers`` (``HOST:PORT`` each). If one fails, nginx's defaults apply. Yields its port.
    """
    root.mkdir(exist_ok=True)
    port = free_port()
    upstream = " ".join(f"server {server};" for server in servers)
    with nginx(
        root,
        f"access_log off; upstream galaxy {{ {upstream} }} "
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://galaxy; }} }}",
        port,
    ):
        yield port


class Load:
    """
    One request after the other, while the context is entered.

    outcomes
        how many requests ended with which status, or with which kind of failure
    failed
        ``(seconds since the beginning, outcome)`` of each request that was not answered with 200
    slowest
        seconds that the slowest request took
    """

    def __init__(self, port, path="/api/version", pause=0.02):
        self.outcomes, self.failed, self.slowest = collections.Counter(), [], 0.0
        self._port, self._path, self._pause = port, path, pause
        self._ended, self._thread = threading.Event(), threading.Thread(target=self._run, daemon=True)

    @property
    def count(self):
        return sum(self.outcomes.values())

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    def reach(self, count):
        """Go on until there were ``count`` requests."""
        assert wait_until(lambda: self.count >= count, Deadline(600), interval=0.2)

    def _run(self):
        began = time.monotonic()
        while not self._ended.wait(self._pause):
            before = time.monotonic()
            outcome = self._ask()
            self.outcomes[outcome] += 1
            self.slowest = max(self.slowest, time.monotonic() - before)
            if outcome != "200":
                self.failed.append((round(before - began, 1), outcome))

    def _ask(self):
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        with contextlib.closing(connection):
            try:
                connection.request("GET", self._path)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as exc:
                return type(exc).__name__
            return str(answer.status)
