import grp
import os
import pathlib
import pwd
import resource
import shutil
import sys

import pytest
from support.attacker import public_directory

import galaxy_host_command
from galaxy_errors import CommandError
from galaxy_host_command import Account
from galaxy_host_process import Process
from galaxy_host_secret import Secret
from galaxy_host_wait import Deadline, wait_until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


def test_output_and_standard_input():
    assert galaxy_host_command.run(["cat"], stdin=b"in") == "in"
    assert galaxy_host_command.run(["cat"], stdin=Secret("in")) == "in"
    assert galaxy_host_command.run(["cat"]) == ""


def test_speaks_the_c_locale(monkeypatch):
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert galaxy_host_command.run([sys.executable, "-c", "import os; print(os.environ['LC_ALL'])"]) == "C\n"


def test_failure_has_its_facts():
    script = "import sys; print('first', file=sys.stderr); print('last', file=sys.stderr); sys.exit(3)"
    with pytest.raises(CommandError, match="exit status 3: last") as caught:
        galaxy_host_command.run([sys.executable, "-c", script])
    assert (caught.value.returncode, caught.value.stderr) == (3, "first\nlast")
    assert galaxy_host_command.run([sys.executable, "-c", script], check=False) == ""


def test_missing_and_hanging():
    with pytest.raises(CommandError, match="not installed"):
        galaxy_host_command.run(["no-such-command-here"])
    with pytest.raises(CommandError, match="did not end within"):
        galaxy_host_command.run(["sleep", "60"], timeout=0.1)


def test_no_shell(tmp_path):
    assert galaxy_host_command.run(["echo", f"; touch {tmp_path}/x"]).startswith(";")
    assert not (tmp_path / "x").exists()


def test_a_command_that_gets_a_secret_leaves_no_core():
    limit = "import resource, sys; sys.stdin.read(); print(resource.getrlimit(resource.RLIMIT_CORE))"
    own = resource.getrlimit(resource.RLIMIT_CORE)
    assert galaxy_host_command.run([sys.executable, "-c", limit], stdin=Secret("in")) == "(1, 1)\n"
    assert galaxy_host_command.run([sys.executable, "-c", limit], stdin=b"in") == f"{own}\n"
    assert resource.getrlimit(resource.RLIMIT_CORE) == own


def test_much_goes_in_and_out():
    data = os.urandom(1 << 20).hex().encode()
    assert galaxy_host_command.run(["cat"], stdin=data) == data.decode()
    # a command that does not read all of its input
    assert galaxy_host_command.run(["head", "-c", "3"], stdin=data) == data[:3].decode()


def test_output_has_a_bound_and_time_too_while_it_writes():
    with pytest.raises(CommandError, match="wrote more than 1000 bytes"):
        galaxy_host_command.run(["yes"], limit=1000)
    with pytest.raises(CommandError, match="did not end within"):
        galaxy_host_command.run(["sh", "-c", "while :; do echo; sleep 0.01; done"], timeout=0.3)


def test_accounts():
    root = Account.of(0)
    assert root == Account.of("root")
    assert (root.name, root.uid, root.gid, root.home) == ("root", 0, 0, pwd.getpwuid(0).pw_dir)
    assert Account.of("root", "daemon").gid == grp.getgrnam("daemon").gr_gid
    assert Account.of("no-such-user") is Account.of("root", "no-such-group") is Account.of(1 << 40) is None


@as_root
def test_as_another_user_with_nothing_of_ours(monkeypatch):
    monkeypatch.setenv("VAULT_TOKEN", "hvs.TOPSECRET")
    account = Account.of("games")
    script = "id -u; id -g; id -G; pwd; umask; env | sort; ps -o tty= -o sid= -o pid= -p $$"
    told = galaxy_host_command.run(
        ["sh", "-c", script], account=account, cwd="/usr", environment={"GRAVITY_X": "1", "LC_ALL": "C.UTF-8"}
    ).splitlines()
    assert told[:5] == [str(account.uid), str(account.gid), " ".join(map(str, account.groups)), "/usr", "0022"]
    variables = dict(line.split("=", 1) for line in told[5:-1])
    assert variables["HOME"] == account.home
    assert {variables["GRAVITY_X"], variables["LC_ALL"], variables["USER"]} == {"1", "C.UTF-8", "games"}
    assert "VAULT_TOKEN" not in variables
    # no terminal, and a session of its own
    terminal, session, pid = told[-1].split()
    assert (terminal, session) == ("?", pid)


@as_root
def test_what_another_user_may_not_run():
    with public_directory() as path:
        secret = shutil.copy("/bin/true", f"{path}/program")
        os.chmod(secret, 0o700)
        with pytest.raises(CommandError, match="user games may not run it"):
            galaxy_host_command.run([secret], account=Account.of("games"))
        with pytest.raises(CommandError, match="no directory"):
            galaxy_host_command.run(["true"], account=Account.of("games"), cwd=f"{path}/none")


def test_only_root_runs_for_others(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 4001)
    with pytest.raises(CommandError, match="run as root"):
        galaxy_host_command.run(["true"], account=Account.of("games"))


def test_what_an_account_left_in_its_group_ends_with_it(tmp_path):
    note = tmp_path / "pid"
    account = Account.of(os.geteuid())
    with pytest.raises(CommandError, match="did not end within"):
        galaxy_host_command.run(
            ["sh", "-c", f"sleep 60 & echo $! > {note}; wait"], account=account, timeout=1, cwd=str(tmp_path)
        )
    assert wait_until(lambda: Process.of(int(pathlib.Path(note).read_text())) is None, Deadline(180))
