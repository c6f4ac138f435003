"""The real Galaxy under the real Gravity: gunicorns, Celery, a job handler, PostgreSQL or SQLite, and redis."""

import contextlib
import http.client
import json
import pathlib
import shutil
import subprocess
import tempfile

from galaxy_host_wait import Deadline, wait_until

from .bed import Bed
from .site import free_port, listens

_KEY = "key-of-the-first-administrator"
_TOOL = """<tool id="greet" name="Greet" version="1.0">
    <command><![CDATA[echo hello > '$greeting']]></command>
    <inputs/>
    <outputs><data name="greeting" format="txt"/></outputs>
</tool>
"""
_PASSWORD = "swordfish"
# made beforehand: processes that start together on an empty database race, and some die. The URL may hold a password,
# so it is no argument
_DATABASE = """
import json, sys
from sqlalchemy import create_engine
from galaxy.model.migrations import verify_databases
with open(sys.argv[1]) as config:
    url = json.load(config)["galaxy"]["database_connection"]
verify_databases(create_engine(url), None, {}, None, None, {}, True)
"""


class RealGalaxy(Bed):
    """
    Galaxy 26.1 below ``root``, from the virtualenv that ``make venv-galaxy`` makes: two workers of gunicorn, Celery
    with its beat, and a job handler. ``prepare`` makes the database and starts redis. Galaxy itself is not started.

    gunicorns
        1 or 2; together they have the two workers
    postgres
        ``True``: Debian's PostgreSQL, with a cluster of its own on a socket below ``root``. ``False``: SQLite
    """

    password = _PASSWORD

    def __init__(self, root, gunicorns=2, postgres=False):
        self._redis_port = free_port()
        self._cluster = pathlib.Path(root) / "database" / "postgres" if postgres else None
        url = f"sqlite:///{root}/database/universe.sqlite?isolation_level=IMMEDIATE"
        if postgres:
            url = f"postgresql://galaxy:{_PASSWORD}@/galaxy?host={self._cluster}"
        redis = f"redis://127.0.0.1:{self._redis_port}"
        galaxy = {
            "database_connection": url,
            "id_secret": "0123456789abcdef0123456789abcdef",
            "bootstrap_admin_api_key": _KEY,
            "conda_auto_init": False,
            "tool_config_file": f"{root}/config/tools.xml",
            "enable_celery_tasks": True,
            "celery_conf": {"broker_url": f"{redis}/0", "result_backend": f"{redis}/1"},
            "job_config": {
                "runners": {"local": {"load": "galaxy.jobs.runners.local:LocalJobRunner", "workers": 1}},
                "handling": {"assign": ["db-skip-locked"]},
                "execution": {"default": "local", "environments": {"local": {"runner": "local"}}},
            },
        }
        super().__init__(
            root,
            gunicorns=gunicorns,
            workers=2 // gunicorns,
            celery=True,
            handlers=1,
            venv="galaxy",
            # Galaxy is a package in the virtualenv, so there is no source tree
            settings={"galaxy_root": None},
            galaxy=galaxy,
        )
        self._redis = None

    def prepare(self):
        """Start redis, and make the database."""
        argv = ["redis-server", "--bind", "127.0.0.1", "--port", str(self._redis_port), "--save", ""]
        null = subprocess.DEVNULL
        self._redis = subprocess.Popen([*argv, "--dir", self.data], stdout=null, user=self.user, cwd=self.root)
        assert wait_until(lambda: listens(self._redis_port), Deadline(180))
        if self._cluster:
            secret = self.root / "secret"
            secret.write_text(_PASSWORD)
            words = ("--username", "galaxy", "--auth", "scram-sha-256", "--pwfile", secret)
            self._postgres("initdb", "--no-sync", *words)
            self.start_database()
        self._well(self.venv / "bin" / "python", "-c", _DATABASE, self.config)
        return self

    def start_database(self):
        self._postgres("pg_ctl", "start", "--wait", "-o", f"-k {self._cluster} -c listen_addresses=")

    def stop_database(self):
        """Stop at once, even if clients are connected."""
        self._postgres("pg_ctl", "stop", "--mode", "immediate")

    def _postgres(self, command, *words):
        (tools,) = pathlib.Path("/usr/lib/postgresql").glob("*/bin")
        self._well(tools / command, "--pgdata", self._cluster, *words)

    def _well(self, *argv):
        done = self.run(*argv)
        assert done.returncode == 0, done.stdout

    def end(self):
        # else its shared memory stays
        if self._cluster and (self._cluster / "postmaster.pid").exists():
            self.stop_database()
        super().end()
        if self._redis:
            self._redis.wait()

    def api(self, port, method, path, body=None, key=_KEY):
        """The decoded answer of Galaxy's API at ``port``."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=120)) as connection:
            headers = {"Content-Type": "application/json", "x-api-key": key}
            connection.request(method, f"/api/{path}", json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        assert answer.status == 200, f"{method} {path}: {answer.status} {text}"
        return json.loads(text)

    def user_key(self, port):
        """Make a user. Returns the user's API key."""
        account = {"username": "ada", "email": "ada@example.org", "password": "correct horse"}
        user = self.api(port, "POST", "users", account)
        return self.api(port, "POST", f"users/{user['id']}/api_key")

    def run_job(self, port, key):
        """Run a tool as that user, and wait until its job has ended. Returns what the job wrote."""
        history = self.api(port, "POST", "histories", {"name": "greetings"}, key)
        asked = {"tool_id": "greet", "history_id": history["id"], "inputs": {}}
        (output,) = self.api(port, "POST", "tools", asked, key)["outputs"]
        path = f"datasets/{output['id']}"

        def ended():
            state = self.api(port, "GET", path, key=key)["state"]
            return state if state in ("ok", "error", "failed_metadata") else None

        state = wait_until(ended, Deadline(1800), interval=0.5)
        assert state == "ok", f"{state}\n{self.log()}"
        return self.api(port, "GET", f"{path}/get_content_as_text", key=key)["item_data"]

    def hold(self, count):
        """Like ``Bed.hold``, with requests whose bodies have not come yet."""
        return super().hold(
            count,
            b"POST /api/histories HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"x-api-key: %s\r\nContent-Length: 100\r\n\r\n{" % _KEY.encode(),
        )

    def _lay_out(self):
        for directory in (self.config.parent, self.gates, self.data):
            directory.mkdir(parents=True)
        (self.config.parent / "greet.xml").write_text(_TOOL)
        (self.config.parent / "tools.xml").write_text(
            f'<toolbox><section id="demo" name="Demo"><tool file="{self.config.parent}/greet.xml"/></section></toolbox>'
        )
        for path in (self.root, *self.root.rglob("*")):
            shutil.chown(path, self.user)


@contextlib.contextmanager
def real_galaxy(**options):
    """A Galaxy that lives as long as the context. Then it ends, and its files are removed."""
    with tempfile.TemporaryDirectory(prefix="galaxy-") as directory:
        root = pathlib.Path(directory)
        # so that Galaxy's user can enter
        root.chmod(0o755)
        galaxy = RealGalaxy(root, **options)
        try:
            yield galaxy.prepare()
        finally:
            galaxy.end()
