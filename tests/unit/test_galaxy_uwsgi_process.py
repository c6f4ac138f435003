"""What is uWSGI, by its command line. tests/functional/managers/test_uwsgi_process.py has real ones."""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys

import pytest
from support.attacker import reuse

import galaxy_host_address
import galaxy_uwsgi_process
from galaxy_errors import ProcessError
from galaxy_host_process import Invocation, Process
from galaxy_host_wait import Deadline, wait_until

CONFIG = "/srv/galaxy/config/galaxy.yml"


def _invocation(text, cwd=None):
    return Invocation(tuple(text.split()), "test", cwd)


@pytest.mark.parametrize(
    "words",
    [
        f"--yaml {CONFIG}",
        f"--yaml={CONFIG}",
        f"-y {CONFIG}",
        f"-y{CONFIG}",
        f"-My{CONFIG}",
        f"--yml {CONFIG}",
        CONFIG,
        f"--master {CONFIG}",
        f"--socket 127.0.0.1:1 {CONFIG} --processes 2",
        f"--include {CONFIG}",
        f"--yam {CONFIG}",
        f"--yam={CONFIG}",
        f"--yaml {CONFIG}:uwsgi",
        f"--yaml={CONFIG}:web",
        f"{CONFIG}:web",
        f"--config {CONFIG}",
        "--yaml config/galaxy.yml",
        "--yaml ./config/../config/galaxy.yml",
    ],
)
def test_configurations_that_it_loads(words):
    assert galaxy_uwsgi_process.configurations(_invocation(f"uwsgi {words}", "/srv/galaxy")) == {CONFIG}


@pytest.mark.parametrize(
    "words",
    [
        f"--touch-reload {CONFIG}",
        f"--touch-reload={CONFIG}",
        f"--fs-reload {CONFIG}",
        f"--env GALAXY_CONFIG_FILE={CONFIG}",
        f"--set galaxy_config={CONFIG}",
        f"--logto {CONFIG}.log",
        f"--pyargv {CONFIG}",
        f"--static-map /x={CONFIG}",
        f"--mime-file {CONFIG} --chdir {CONFIG}",
        f"--attach-daemon {CONFIG}",
        "--master --processes 4",
    ],
)
def test_files_that_it_does_not_load(words):
    assert galaxy_uwsgi_process.configurations(_invocation(f"uwsgi {words}", "/srv/galaxy")) == set()


@pytest.mark.parametrize(
    "words",
    [
        *("--ini galaxy.ini", "--ini galaxy.ini:uwsgi", "galaxy.ini:prod", "--ini galaxy.ini --ini :prod"),
        *("--ini-paste galaxy.ini", "--paste config:/etc/galaxy.ini"),
    ],
)
def test_ini_and_paste(words):
    assert galaxy_uwsgi_process.configurations(_invocation(f"uwsgi {words}", "/etc")) == {"/etc/galaxy.ini"}


def test_its_environment_names_files_too():
    invocation = Invocation(("uwsgi", "--master"), "test", "/srv", {"UWSGI_YAML": CONFIG, "UWSGI_STATS": "x.ini"})
    assert galaxy_uwsgi_process.configurations(invocation) == {CONFIG}
    assert galaxy_uwsgi_process.starts(invocation, CONFIG) is True
    assert galaxy_uwsgi_process.starts(invocation, "/srv/b.yml") is False


def test_a_relative_path_needs_a_directory(tmp_path):
    assert galaxy_uwsgi_process.configurations(_invocation("uwsgi --yaml galaxy.yml")) == set()
    (tmp_path / "real.yml").touch()
    (tmp_path / "link.yml").symlink_to("real.yml")
    linked = galaxy_uwsgi_process.configurations(_invocation("uwsgi --yaml link.yml", str(tmp_path)))
    assert linked == {str(tmp_path / "real.yml")}


@pytest.mark.parametrize(
    ("argv", "runs"),
    [
        (["uwsgi", "--yaml", CONFIG], True),
        (["/srv/galaxy/venv/bin/uwsgi", CONFIG], True),
        (["/usr/bin/uwsgi-core", "-y", CONFIG], True),
        (["uwsgi_python3", "--config", CONFIG], True),
        (["/srv/galaxy/run_uwsgi.sh", "--yaml", CONFIG], True),
        (["/venv/bin/python", "/venv/bin/uwsgi", "--yaml", CONFIG], True),
        (["python3", "-u", "-m", "pyuwsgi", CONFIG], True),
        (["python3", "-c", "import pyuwsgi; pyuwsgi.run()", CONFIG], True),
        (["/bin/sh", "-c", "cd /srv/galaxy && uwsgi --yaml config/galaxy.yml"], True),
        (["env", "X=y", "uwsgi", CONFIG], True),
        # words of another server, and words that name no file
        (["uwsgi", "--yaml", "/srv/b.yml"], False),
        (["uwsgi", "--yaml", "/srv/b.yml", "--touch-reload", CONFIG], False),
        (["uwsgi", "--socket", "127.0.0.1:4001"], None),
        (["uwsgi", "--master", "--zerg-pool", "/x:127.0.0.1:4001"], None),
        # a script may start any program
        (["/srv/galaxy/run.sh"], None),
        (["sh", "/srv/galaxy/run.sh", "uwsgi"], None),
        (["/bin/sh", "-c", "cd /srv && ./run.sh"], None),
        (["python", "start-galaxy.py"], None),
        (["sleep", "1000"], None),
        ([], None),
        # a command with the name somewhere in it does not run uWSGI
        (["tail", "-f", "/var/log/uwsgi.log"], None),
        (["uwsgitop", "127.0.0.1:9191"], None),
        (["/usr/local/bin/backup", "--stop", "uwsgi", CONFIG], None),
        # Galaxy's other services do not run uWSGI
        (["python", "./lib/galaxy/main.py", "-c", CONFIG, "--log-file=/var/log/uwsgi-handler0.log"], False),
        (["/venv/bin/python", "./scripts/galaxy-main", "-c", CONFIG], False),
        (["/venv/bin/celery", "--app", "galaxy.celery", "worker"], False),
        (["python", "-m", "celery", "worker"], False),
        (["sh", "-c", "cd /srv && exec celery worker"], False),
        (["gunicorn", "galaxy.webapps.galaxy.fast_factory:factory()"], False),
        (["supervisord", "-n"], False),
    ],
)
def test_uwsgi_is_a_word_in_command_position(argv, runs):
    assert galaxy_uwsgi_process.starts(Invocation(tuple(argv), "test", "/"), CONFIG) is runs


def test_without_a_configuration_nothing_is_certain():
    assert galaxy_uwsgi_process.starts(_invocation(f"uwsgi --yaml {CONFIG}")) is None
    assert galaxy_uwsgi_process.starts(_invocation("celery worker")) is False


@contextlib.contextmanager
def _running(*argv, **options):
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, **options) as process:
        identified = Process.of(process.pid)
        # wait until the process has executed its program
        assert wait_until(lambda: identified.argv[:1] != (sys.executable,) or argv[0] == sys.executable, Deadline(180))
        yield identified
        process.kill()


@pytest.mark.parametrize(
    "argv",
    [
        ["bash", "-c", "exec -a uwsgi sleep 99"],
        ["bash", "-c", "exec -a /usr/bin/uwsgi sleep 99"],
        ["tail", "-f", "/dev/null", "uwsgi"],
        [sys.executable, "-c", "input()", "uwsgi"],
    ],
)
def test_a_name_does_not_make_it_uwsgi(argv):
    with _running(*argv) as process:
        assert wait_until(lambda: "uwsgi" in " ".join(process.argv), Deadline(180))
        assert wait_until(lambda: process.name != "bash", Deadline(180))
        assert not galaxy_uwsgi_process.is_uwsgi(process)


def test_the_program_makes_it_uwsgi(tmp_path):
    program = tmp_path / "uwsgi-core"
    program.write_bytes(pathlib.Path("/bin/sleep").read_bytes())
    program.chmod(0o755)
    with _running("bash", "-c", f"exec -a 'uWSGI master' {program} 99") as process:
        assert wait_until(lambda: process.exe == str(program), Deadline(180))
        assert galaxy_uwsgi_process.is_uwsgi(process)
        # an upgrade removes the program in the same way
        program.unlink()
        assert galaxy_uwsgi_process.is_uwsgi(process)


def test_what_is_not_uwsgi_is_not_the_master():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = galaxy_host_address.parse(f"127.0.0.1:{listener.getsockname()[1]}")
        # a process is not the master because it listens, or because a stats document or a pidfile names it
        for hint in (os.getpid(), 0, -12, None, 10**30):
            with pytest.raises(ProcessError, match="not uWSGI"):
                galaxy_uwsgi_process.find_master([address], [hint])
    assert galaxy_uwsgi_process.find_master([address], [os.getpid()]) is None


def test_a_pid_that_is_reused_while_it_is_looked_at_is_not_taken(tmp_path, monkeypatch):
    """The process that holds the socket ends during the search, and another one gets its PID."""
    program = tmp_path / "uwsgi"
    program.write_bytes(pathlib.Path("/bin/sleep").read_bytes())
    program.chmod(0o755)
    victims = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = galaxy_host_address.parse(f"127.0.0.1:{listener.getsockname()[1]}")
        holder = subprocess.Popen([program, "1000"], pass_fds=[listener.fileno()])
        assert wait_until(lambda: Process.of(holder.pid).exe == str(program), Deadline(180))
        assert galaxy_uwsgi_process.find_master([address]).pid == holder.pid
        holds = galaxy_uwsgi_process.holds

        def holds_and_ends(pid, inodes):
            held = holds(pid, inodes)
            if pid == holder.pid and not victims:
                holder.kill()
                holder.wait()
                victims.append(reuse(pid))
            return held

        monkeypatch.setattr(galaxy_uwsgi_process, "holds", holds_and_ends)
        try:
            assert galaxy_uwsgi_process._holder(holder.pid, galaxy_uwsgi_process.listeners([address])) is None
            assert victims[0].pid == holder.pid
        finally:
            for victim in victims:
                victim.kill()
                victim.wait()
