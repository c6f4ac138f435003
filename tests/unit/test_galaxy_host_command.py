import resource
import sys

import pytest

import galaxy_host_command
from galaxy_errors import CommandError
from galaxy_host_secret import Secret


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
