"""The tree over salt-ssh, with a real sshd, and a Python that has only its standard library."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest
from support.site import BIN, free_port

from galaxy_host_wait import Deadline, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="root logs in to its own sshd")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A directory with keys; sshd wants that nobody else can write there."""
    root = tmp_path_factory.mktemp("ssh")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", root / name], check=True)
    return root


@pytest.fixture(scope="module")
def port(home):
    """The port of an sshd that knows one key."""
    # sshd needs this directory to give up its privileges
    pathlib.Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    number = free_port()
    lines = ["UsePAM no", "StrictModes no", "PidFile none", f"Port {number}", "ListenAddress 127.0.0.1"]
    lines += [
        f"HostKey {home}/host",
        f"AuthorizedKeysFile {home}/user.pub",
        "PasswordAuthentication no",
        "Subsystem sftp internal-sftp",
    ]
    (home / "sshd_config").write_text("\n".join(lines) + "\n")
    with (home / "sshd.log").open("wb") as log:
        # the whole path, because sshd executes itself again for each connection
        sshd = subprocess.Popen([shutil.which("sshd"), "-D", "-e", "-f", home / "sshd_config"], stderr=log)
    assert wait_until(lambda: b"listening on" in (home / "sshd.log").read_bytes(), Deadline(180))
    yield number
    sshd.terminate()
    sshd.wait()


@pytest.fixture(scope="module")
def ssh(home, port, tree, tmp_path_factory):
    """A function: ``salt-ssh`` on the one machine, with pillar, and settings in the roster. It returns the answer."""
    root = tmp_path_factory.mktemp("salt-ssh")
    (root / "pillar").mkdir()
    (root / "pillar/top.sls").write_text("base:\n  '*':\n    - galaxy\n")
    (root / "master").write_text(
        f"root_dir: {root}\nfile_roots:\n  base:\n    - {tree}\n    - {tree}/formulas\n    - {root}\n"
        f"pillar_roots:\n  base:\n    - {root}/pillar\n"
    )

    def run(*words, pillar=None, settings=None):
        (root / "pillar/galaxy.sls").write_text(json.dumps(pillar or {}))
        target = {"host": "127.0.0.1", "port": port, "user": "root", "priv": str(home / "user")}
        # salt-ssh takes the Python that comes first for root
        target.update(set_path="/usr/sbin:/usr/bin:/sbin:/bin", thin_dir=str(root / "thin"), minion_opts=settings or {})
        (root / "roster").write_text(json.dumps({"galaxy": target}))
        argv = [
            BIN / "salt-ssh",
            "-c",
            root,
            "-i",
            "--roster-file",
            root / "roster",
            "--python3-bin=/usr/bin/python3",
            "--out=json",
            "galaxy",
            *words,
        ]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert done.stdout.startswith("{"), (done.stdout, done.stderr)
        return json.loads(done.stdout)["galaxy"]

    return run


@pytest.fixture
def site(make_site):
    return make_site().start()


def test_a_function_finds_its_settings_in_the_roster(ssh, site):
    status = ssh("galaxy.status", settings={"galaxy": site.keywords})
    assert (status["ready"], status["pid"], status["problems"]) == (True, site.process.pid, [])


@pytest.mark.slow
def test_or_in_its_arguments_and_a_state_in_pillar(ssh, site):
    assert ssh("galaxy.status", f"config={site.config}")["ready"]
    done = ssh("state.single", "galaxy.ready", "name=galaxy", pillar={"galaxy": site.keywords})
    assert [one["result"] for one in done.values()] == [True], done


@pytest.mark.slow
def test_the_formula_says_that_it_does_nothing(ssh, site):
    """The functions that the formula calls run on the machine, which does not have pillar."""
    (done,) = ssh("state.apply", "galaxy.onedata", pillar={"galaxy": site.keywords}).values()
    assert done["result"] is False
    assert "The formula was rendered without this machine's pillar" in done["comment"]
