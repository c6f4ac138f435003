"""A real uWSGI that serves files laid out like Galaxy's, for tests and the demo."""

import contextlib
import http.client
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import threading

import galaxy_host_address
import galaxy_uwsgi_stats
from galaxy_errors import StatsError
from galaxy_host_wait import Deadline, wait_until

REPO = pathlib.Path(__file__).resolve().parent.parent.parent
BIN = pathlib.Path(sys.executable).parent
UWSGI = str(BIN / "uwsgi")

_APP = '''
"""Stands for Galaxy's web application: gates are files, so that a test decides when a request or a start goes on."""
import os
import pathlib
import signal
import time

GATES = pathlib.Path({gates!r})


def _pass(name):
    while not (GATES / name).exists():
        time.sleep(0.01)


if (GATES / "broken").exists():
    secrets = "postgres?password=hunter2 postgresql://galaxy:hunter3@db/x id_secret=hunter4"
    raise RuntimeError("no database at " + secrets)
if (GATES / "load-is-slow").exists():
    _pass("load")
if not (GATES / "loaded").exists():
    (GATES / "loaded").touch()


def app(environ, start_response):
    kind, _, name = environ["PATH_INFO"].strip("/").partition("/")
    if kind == "deaf":
        # a worker that is stuck where no signal reaches it, as in a C library or on a dead disk
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
        kind = "hold"
    if kind == "hold":
        (GATES / f"{{name}}.held.{{os.getpid()}}.{{time.monotonic_ns()}}").touch()
        _pass(name)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"Galaxy\\n"]


def uwsgi_app():
    return app
'''


_given = set()


def free_port(host="127.0.0.1"):
    """A TCP port that nothing uses, that was not given before, and that no client's socket gets by itself."""
    while True:
        port = random.randrange(10_000, 30_000)
        if port in _given:
            continue
        with contextlib.suppress(OSError), socket.create_server((host, port)):
            _given.add(port)
            return port


def listens(port):
    """Whether something listens on that port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Gated:
    """A server whose application waits for gates: files below ``gates`` that a test makes."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.gates, self.log = self.root / "gates", self.root / "galaxy.log"
        self.gates.mkdir(parents=True, exist_ok=True)
        self.process = None

    def stop(self):
        """End the server and all that it started, whatever state it is in."""
        for gate in ("load", "go"):
            self.open(gate)
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def open(self, gate):
        (self.gates / gate).touch()


def makers(root, kind):
    """For a fixture: a function that makes servers of a kind below ``root``. What they start ends with the test."""
    made = []

    def make(**options):
        made.append(kind(root / f"galaxy{len(made)}", **options))
        return made[-1]

    yield make
    for one in made:
        one.stop()


# it imports nothing, because another user may be unable to read this Python's library
PLAIN_APP = """
def uwsgi_app():
    def app(environ, start_response):
        start_response("200 OK", [])
        return [b"Galaxy"]
    return app
"""


class Site(Gated):
    """
    ``config/galaxy.yml`` and ``lib/`` below ``root``. ``options`` become lines of its uWSGI section; ``None`` leaves a
    line out.
    """

    def __init__(self, root, **options):
        super().__init__(root)
        self.config = self.root / "config" / "galaxy.yml"
        self.socket = f"127.0.0.1:{free_port()}"
        self.http = f"127.0.0.1:{free_port()}"
        self.stats = f"127.0.0.1:{free_port()}"
        package = self.root / "lib" / "galaxy" / "webapps" / "galaxy"
        for directory in (self.config.parent, package):
            directory.mkdir(parents=True, exist_ok=True)
        for parent in (package, package.parent, package.parent.parent):
            (parent / "__init__.py").touch()
        (package / "buildapp.py").write_text(_APP.format(gates=str(self.gates)))
        # a mule that waits for messages, like Galaxy's job handlers
        (self.root / "lib" / "galaxy" / "main.py").write_text("import uwsgi\nwhile True:\n    uwsgi.mule_get_msg()\n")
        self.options = {
            "socket": self.socket,
            "http": self.http,
            "stats": self.stats,
            "master": "true",
            "processes": 2,
            "threads": 2,
            "pythonpath": self.root / "lib",
            "module": "galaxy.webapps.galaxy.buildapp:uwsgi_app()",
            "mule": self.root / "lib" / "galaxy" / "main.py",
            "farm": "job-handlers:1",
            # else a reload of pyuwsgi runs the interpreter that the virtualenv's is a link to
            "binary-path": sys.executable,
            "pidfile": self.root / "galaxy.pid",
        }
        self.write(**options)

    def write(self, **options):
        """Write the configuration again. A list becomes several lines with the same option."""
        for name, value in options.items():
            self.options[name.replace("_", "-")] = value
        lines = ["uwsgi:"]
        for name, value in self.options.items():
            values = value if isinstance(value, list) else [value]
            lines += [f"  {name}: {one}" for one in values if one is not None]
        lines += ["galaxy:", "  admin_users: admin@example.org", "  id_secret: not-for-your-eyes"]
        self.config.write_text("\n".join(lines) + "\n")

    @property
    def command(self):
        return [UWSGI, "--yaml", str(self.config)]

    @property
    def keywords(self):
        return {"config": str(self.config)}

    def start(self, wait=True):
        """Start uWSGI without a process manager, in a session of its own."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, start_new_session=True)
        if wait:
            self.wait()
        return self

    def wait(self, accepting=None):
        wanted = self.options["processes"] if accepting is None else accepting
        assert wait_until(lambda: self.read() and self.read().accepting >= wanted, Deadline(180)), self.log.read_text()

    def read(self):
        with contextlib.suppress(StatsError):
            form = "http://" if "stats-http" in self.options else ""
            return galaxy_uwsgi_stats.read(galaxy_host_address.parse(form + self.stats), 5)

    def hold(self, count, gate="go", query="key=topsecret", kind="hold"):
        """Start ``count`` requests that stay in the application until ``gate`` opens. Returns when all have arrived."""
        before = len(list(self.gates.glob(f"{gate}.held.*")))
        for _ in range(count):
            threading.Thread(target=self._request, args=(f"/{kind}/{gate}?{query}",), daemon=True).start()
        reached = wait_until(lambda: len(list(self.gates.glob(f"{gate}.held.*"))) - before >= count, Deadline(180))
        assert reached, self.log.read_text()

    def get(self):
        return self._request("/")

    def _request(self, path):
        connection = http.client.HTTPConnection(self.http, timeout=60)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request(
                "GET", path, headers={"Cookie": "galaxysession=topcookie", "Authorization": "Basic dG9w"}
            )
            return connection.getresponse().read()
