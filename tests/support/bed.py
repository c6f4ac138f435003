"""
A small Galaxy under the real Gravity, with its supervisord or systemd, gunicorn, uvicorn's workers and Celery. Only the
application and the job handlers are stand-ins.
"""

import atexit
import contextlib
import functools
import hashlib
import json
import os
import pathlib
import pwd
import shutil
import socket
import stat
import subprocess
import tempfile

import psutil

import galaxy_gunicorn_command
from galaxy_gravity_instance import DEFAULT_NAME, Instance, Program, Web
from galaxy_host_wait import Deadline, wait_until
from galaxy_service import Role

from .gunicorn import APP
from .site import REPO, free_port

# Galaxy runs as this user if root runs the tests: each Debian has it, and it runs nothing
USER = "games"
_PLACES = ("/usr/bin", "/usr/local/bin")

# Galaxy's job handler: runs until a signal comes, or until the gate NAME.dies lets it die
_HANDLER = """
import pathlib, signal, sys

GATES = pathlib.Path({gates!r})
name = next(word.partition("=")[2] for word in sys.argv if word.startswith("--server-name="))
print("handler", name, flush=True)
while not (GATES / f"{{name}}.dies").exists():
    if signal.sigtimedwait([signal.SIGTERM, signal.SIGINT], 0.05):
        sys.exit()
sys.exit("no database")
"""

_CELERY = """
import os, pathlib
from celery import Celery

if (pathlib.Path({gates!r}) / "celery-is-broken").exists():
    raise RuntimeError("no database")
app = Celery("galaxy", broker="filesystem://")
folders = dict.fromkeys(("data_folder_in", "data_folder_out", "control_folder"), os.path.abspath("database/broker"))
beat = {{"tick": {{"task": "galaxy.tick", "schedule": 5.0}}}}
app.conf.update(broker_transport_options=folders, beat_schedule=beat, task_default_queue="galaxy.internal")


@app.task(name="galaxy.tick")
def tick():
    return 1
"""


class Bed:
    """
    A Galaxy below ``root``, a directory that ``user`` can reach (``beds`` makes one).

    gunicorns
        how many; ``None``: one, and the configuration says it without a list
    bind
        ``tcp`` or ``unix``
    name
        Gravity's ``instance_name``
    celery
        with Celery, and its beat
    handlers
        processes of the handler ``handler``
    manager
        ``supervisor`` or ``systemd``
    machine
        a ``support.nspawn.Machine`` that sees ``root``. With systemd, Gravity runs in that machine, as root
    settings, galaxy
        more keys of ``gravity:`` and ``galaxy:``

    A gate is a file below ``gates``: ``load-is-slow`` and ``load``, ``broken``, ``celery-is-broken``, ``NAME.dies`` for
    a handler, and ``go`` for requests to ``/await``, ``/thread`` and ``/block``.
    """

    def __init__(
        self,
        root,
        gunicorns=None,
        preload=True,
        bind="tcp",
        workers=2,
        name=None,
        celery=False,
        handlers=0,
        manager="supervisor",
        user=None,
        machine=None,
        venv="bed",
        settings=(),
        galaxy=(),
    ):
        self.root = pathlib.Path(root)
        self.gates, self.config = self.root / "gates", self.root / "config" / "galaxy.yml"
        self.data, self.state = self.root / "database", self.root / "database" / "gravity"
        self.venv = virtualenv(venv)
        self.user = user or (USER if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name)
        self.machine, self.name, self.manager = machine, name, manager
        self.handlers, self.celery = handlers, celery
        self._lay_out()
        self.preload, self.workers = preload, workers
        self.binds = [
            f"unix:{self.root}/galaxy{index}.sock" if bind == "unix" else f"127.0.0.1:{free_port()}"
            for index in range(gunicorns or 1)
        ]
        self.is_list = gunicorns is not None
        self.settings, self.galaxy = dict(settings), dict(galaxy)
        self.write()

    def write(self, **settings):
        """Write the configuration again. A key of ``gravity:`` that is ``None`` is left out."""
        self.settings.update(settings)
        # start_timeout: supervisord says STARTING for so many seconds
        each = {"workers": self.workers, "preload": self.preload, "start_timeout": 1, "timeout": 60}
        gunicorns = [{"bind": bind, **each} for bind in self.binds]
        celery = {"enable": self.celery, "enable_beat": self.celery, "concurrency": 1, "start_timeout": 1}
        gravity = {
            "process_manager": self.manager,
            "galaxy_root": str(self.root),
            "virtualenv": str(self.venv),
            "gunicorn": gunicorns if self.is_list else gunicorns[0],
            "celery": celery,
        }
        if self.handlers:
            handler = {"processes": self.handlers, "pools": ["job-handlers"], "start_timeout": 1, "stop_timeout": 5}
            gravity["handlers"] = {"handler": handler}
        if self.name:
            gravity["instance_name"] = self.name
        if self.manager == "systemd":
            gravity["galaxy_user"] = self.user
        gravity = {key: value for key, value in {**gravity, **self.settings}.items() if value is not None}
        galaxy = {"data_dir": str(self.data), "job_config": {"handling": {"assign": ["db-skip-locked"]}}}
        # JSON is YAML
        self.config.write_text(json.dumps({"gravity": gravity, "galaxy": {**galaxy, **self.galaxy}}, indent=1))

    @property
    def environment(self):
        """The environment that Gravity gets."""
        path = f"{self.venv}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {"PATH": path, "HOME": str(self.root), "LC_ALL": "C.UTF-8", "USER": self.user}

    def galaxyctl(self, *arguments, check=True):
        """Run Gravity's own command as its usual user. Returns the completed process, with its output as text."""
        argv = [str(self.venv / "bin" / "galaxyctl"), "--config-file", str(self.config), *arguments]
        if self.machine:
            words = [f"{key}={value}" for key, value in {**self.environment, "HOME": "/root", "USER": "root"}.items()]
            return self.machine.run("env", "-C", self.root, *words, *argv, check=check)
        done = self.run(*argv)
        assert not check or done.returncode == 0, f"{arguments}\n{done.stdout}"
        return done

    def run(self, *argv):
        """Run a command as Galaxy's user, in ``root``."""
        become = {}
        if os.geteuid() == 0:
            entry = pwd.getpwnam(self.user)
            become = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        # a file and not a pipe: supervisord keeps what it inherits, so the pipe would never be closed
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                argv,
                cwd=self.root,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                **become,
            )
            output.seek(0)
            done.stdout = output.read()
        return done

    def update(self, *arguments):
        return self.galaxyctl("update", *arguments)

    def start(self):
        return self.galaxyctl("start")

    def stop(self):
        return self.galaxyctl("stop")

    def instance(self):
        """What the configuration asks for, in the form in which ``galaxy_gravity_config.read`` returns it."""
        web = [Web((galaxy_gunicorn_command.address(bind),), self.workers, 60, self.preload) for bind in self.binds]
        number = len(web) if self.is_list else 0
        numbers = range(number) if number > 1 else [None]
        programs = [
            Program(
                "gunicorn" if n is None else f"gunicorn_{n}", Role.WEB, "gunicorn", "gunicorn", n, web[n or 0], 1, 65
            )
            for n in numbers
        ]
        if self.celery:
            programs += [
                Program(role.value, role, role.value, role.value, start_timeout=1)
                for role in (Role.CELERY, Role.CELERY_BEAT)
            ]
        for n in range(self.handlers):
            alone = self.handlers == 1
            name, n = (f"handler_{n}", None if alone else n)
            programs.append(Program(name, Role.HANDLER, "handler", "standalone", n, None, 1, 5))
        return Instance(
            path=str(self.config),
            name=self.name or DEFAULT_NAME,
            manager=self.manager,
            galaxy_config=str(self.config),
            galaxy_root=str(self.root),
            virtualenv=str(self.venv),
            data_dir=str(self.data),
            log_dir=str(self.state / "log"),
            state_dir=str(self.state),
            user=self.user if self.manager == "systemd" else None,
            programs=tuple(programs),
        )

    def open(self, gate):
        (self.gates / gate).touch()

    def hold(self, count, request=b"GET /await HTTP/1.1\r\nHost: x\r\n\r\n"):
        """Start ``count`` requests at each gunicorn (on TCP ports). Returns the sockets; the test closes them."""
        held = []
        for bind in self.binds:
            host, _, port = bind.rpartition(":")
            for _ in range(count):
                held.append(socket.create_connection((host, int(port))))
                held[-1].sendall(request)
        return held

    def close(self, gate):
        (self.gates / gate).unlink(missing_ok=True)

    def processes(self):
        """All processes of this machine that run below ``root``, and supervisord."""
        mark, found = str(self.root), []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                below = f"{process.cwd()}/".startswith(f"{mark}/")
                if process.pid != os.getpid() and (below or any(mark in word for word in process.cmdline())):
                    found.append(process)
        return found

    def log(self):
        """All log files of this Galaxy, for the message of a test that fails."""
        return "\n".join(f"{path}:\n{path.read_text(errors='replace')}" for path in sorted(self.state.rglob("*.log")))

    def end(self):
        """End this Galaxy and all that it started, whatever state it is in."""
        if self.machine:
            self._leave_machine()

        def ended():
            left = [process for process in self.processes() if process.status() != psutil.STATUS_ZOMBIE]
            # supervisord first: else it starts the others again
            for process in sorted(left, key=lambda one: one.pid):
                with contextlib.suppress(psutil.Error):
                    process.kill()
            return not left

        assert wait_until(ended, Deadline(180))

    def _leave_machine(self):
        """Stop and remove this Galaxy's units, whatever their names are."""
        digest = hashlib.sha1(str(self.config).encode()).hexdigest()
        patterns = ("-e", str(self.root), "-e", f"GRAVITY={digest}")
        listed = self.machine.run("grep", "-rls", *patterns, "/etc/systemd/system", check=False).stdout.split()
        names = [pathlib.Path(path).name for path in listed]
        services = [name.replace("@.", "@*.") for name in names if name.endswith(".service")]
        targets = [name for name in names if name.endswith(".target")]
        if listed:
            self.machine.run("systemctl", "kill", "--signal=KILL", *services, check=False)
            self.machine.run("systemctl", "stop", *services, *targets, check=False)
            self.machine.run("systemctl", "disable", *targets, check=False)
            self.machine.run("rm", "-f", *listed)
            self.machine.run("systemctl", "daemon-reload")
            self.machine.run("systemctl", "reset-failed")

    def _lay_out(self):
        galaxy, scripts = self.root / "lib" / "galaxy", self.root / "scripts"
        web = galaxy / "webapps" / "galaxy"
        for directory in (web, galaxy / "web_stack", scripts, self.config.parent, self.gates, self.data / "broker"):
            directory.mkdir(parents=True, exist_ok=True)
        for package in (galaxy, web.parent, web, galaxy / "web_stack"):
            (package / "__init__.py").touch()
        gates = str(self.gates)
        (galaxy / "version.py").write_text('VERSION_MAJOR = "26.1"\nVERSION_MINOR = "1"\nVERSION = "26.1.1"\n')
        (galaxy / "celery.py").write_text(_CELERY.format(gates=gates))
        (galaxy / "web_stack" / "gunicorn_config.py").write_text("")
        (web / "workers.py").write_text("from uvicorn.workers import UvicornWorker as Worker\n")
        (web / "fast_factory.py").write_text(f"{APP.format(gates=gates)}\n\ndef factory():\n    return app\n")
        (scripts / "galaxy-main").write_text(_HANDLER.format(gates=gates))
        # Gravity reads gunicorn's version from this directory
        version = next((self.venv / "lib").glob("python3*/site-packages/gunicorn-*.dist-info")).name
        (self.root / "requirements.txt").write_text(f"gunicorn=={version.split('-')[1].removesuffix('.dist')}\n")
        if os.geteuid() == 0:
            for path in (self.root, *self.root.rglob("*")):
                shutil.chown(path, self.user)


def configured(root, name=DEFAULT_NAME, manager="supervisor", **counts):
    """What ``galaxy_gravity_config.read`` returns for a file that asks for so many of each service."""
    programs = []
    for service, count in counts.items():
        kind, role = ("gunicorn", Role.WEB) if service == "gunicorn" else ("standalone", Role.HANDLER)
        for number in range(count):
            own = service if count == 1 else f"{service}_{number}"
            programs.append(Program(own, role, service, kind, None if count == 1 else number))
    config = f"{root}/galaxy.yml"
    return Instance(
        path=config,
        name=name,
        manager=manager,
        galaxy_config=config,
        galaxy_root=str(root),
        virtualenv="/srv/venv",
        data_dir=str(root),
        log_dir=f"{root}/gravity/log",
        state_dir=f"{root}/gravity",
        programs=tuple(programs),
    )


def beds(**defaults):
    """For a fixture: a function that makes beds, each below a short path that every user can reach."""
    made = []

    def make(**options):
        # the path of a unix socket must be short; a test's directory is long, and only root can enter it
        root = pathlib.Path(tempfile.mkdtemp(prefix="bed-", dir=defaults.get("share")))
        root.chmod(0o755)
        made.append(Bed(root, **{key: value for key, value in {**defaults, **options}.items() if key != "share"}))
        return made[-1]

    try:
        yield make
    finally:
        for one in made:
            one.end()
            shutil.rmtree(one.root)


@functools.cache
def virtualenv(name):
    """
    A virtualenv of the checkout (``bed``, ``bed-old``) that every user can run. If it or its Python lies in somebody's
    home, this is a copy that uses the system's Python.
    """
    venv = REPO / f".venv-{name}"
    python = (venv / "bin" / "python").resolve()
    packages = next((venv / "lib").glob("python3*/site-packages")).resolve()
    if _is_for_all(python) and _is_for_all(packages):
        return venv
    version = packages.parent.name
    if not _is_for_all(python):
        python = next(filter(pathlib.Path.exists, (pathlib.Path(place, version) for place in _PLACES)), None)
        assert python, f"no {version} outside of a home directory, which the tests' other users need"
    copy = pathlib.Path(tempfile.mkdtemp(prefix=f"venv-{name}-"))
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    copy.chmod(0o755)
    (copy / "bin").mkdir()
    (copy / "lib" / version).mkdir(parents=True)
    (copy / "pyvenv.cfg").write_text(f"home = {python.parent}\ninclude-system-site-packages = false\n")
    for link in ("python", "python3", version):
        (copy / "bin" / link).symlink_to(python)
    for script in (venv / "bin").iterdir():
        text = script.read_bytes() if script.is_file() and not script.is_symlink() else b""
        if text.startswith(b"#!"):
            (copy / "bin" / script.name).write_bytes(
                b"#!%s/bin/python\n" % os.fsencode(copy) + text.partition(b"\n")[2]
            )
            (copy / "bin" / script.name).chmod(0o755)
    if _is_for_all(packages):
        (copy / "lib" / version / "site-packages").symlink_to(packages)
    else:
        shutil.copytree(packages, copy / "lib" / version / "site-packages")
    return copy


def _is_for_all(path):
    """Whether any user can reach and read ``path``."""
    modes = [one.stat().st_mode for one in (path, *path.parents)]
    return all(mode & stat.S_IXOTH for mode in modes) and bool(modes[0] & stat.S_IROTH)
