"""The runner, the secret, the waiting."""

import copy
import itertools
import json
import pathlib
import pickle
import re
import resource
import subprocess
import sys
import time

import pytest

import galaxy_host_command
import galaxy_host_wait
from galaxy_errors import CommandError
from galaxy_host_secret import Secret, forbid_core_dump
from galaxy_host_wait import Deadline, Sparingly, wait_until


class TestCommand:
    def test_output_and_standard_input(self):
        assert galaxy_host_command.run(["cat"], stdin=b"in") == "in"
        assert galaxy_host_command.run(["cat"], stdin=Secret("in")) == "in"
        assert galaxy_host_command.run(["cat"]) == ""

    def test_speaks_the_c_locale(self, monkeypatch):
        monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
        assert galaxy_host_command.run([sys.executable, "-c", "import os; print(os.environ['LC_ALL'])"]) == "C\n"

    def test_failure_has_its_facts(self):
        script = "import sys; print('first', file=sys.stderr); print('last', file=sys.stderr); sys.exit(3)"
        with pytest.raises(CommandError, match="exit status 3: last") as caught:
            galaxy_host_command.run([sys.executable, "-c", script])
        assert (caught.value.returncode, caught.value.stderr) == (3, "first\nlast")
        assert galaxy_host_command.run([sys.executable, "-c", script], check=False) == ""

    def test_missing_and_hanging(self):
        with pytest.raises(CommandError, match="not installed"):
            galaxy_host_command.run(["no-such-command-here"])
        with pytest.raises(CommandError, match="did not end within"):
            galaxy_host_command.run(["sleep", "60"], timeout=0.1)

    def test_no_shell(self, tmp_path):
        assert galaxy_host_command.run(["echo", f"; touch {tmp_path}/x"]).startswith(";")
        assert not (tmp_path / "x").exists()


class TestSecret:
    def test_nothing_shows_it(self):
        secret = Secret("hunter2")
        assert "hunter2" not in f"{secret} {secret!r} {secret!s} {secret:>20} {[secret]} {vars} {dir(secret)}"
        assert secret.reveal() == b"hunter2"
        assert secret
        assert not Secret("")

    def test_nothing_stores_it(self):
        for store in (pickle.dumps, json.dumps, copy.copy):
            with pytest.raises(TypeError):
                store(Secret("hunter2"))

    def test_a_command_that_gets_one_leaves_no_core(self):
        own = resource.getrlimit(resource.RLIMIT_CORE)
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as command:
            forbid_core_dump(command.pid)
            limits = pathlib.Path(f"/proc/{command.pid}/limits").read_text()
            command.stdin.close()
        # now it has ended, and that is no error
        forbid_core_dump(command.pid)
        assert re.search(r"Max core file size +0 +0 ", limits)
        assert resource.getrlimit(resource.RLIMIT_CORE) == own


class TestWait:
    def test_condition_is_looked_at_at_least_once(self):
        assert wait_until(lambda: "yes", Deadline(0)) == "yes"
        assert wait_until(lambda: None, Deadline(0)) is None

    def test_a_dear_look_is_taken_rarely(self):
        looks = []

        def dear():
            looks.append(1)
            end = time.thread_time() + 0.05
            while time.thread_time() < end:
                pass

        wait_until(dear, Deadline(1))
        # 50 ms of CPU at most every 4 s
        assert len(looks) <= 2

    def test_the_dearest_look_is_taken_again_soon(self, monkeypatch):
        spent, pauses = itertools.count(step=60), []
        monkeypatch.setattr(galaxy_host_wait, "_cpu_seconds", lambda: next(spent))
        monkeypatch.setattr(galaxy_host_wait.time, "sleep", pauses.append)
        wait_until(lambda: pauses, Deadline(60))
        assert pauses == [galaxy_host_wait.LONGEST]

    def test_what_the_condition_raises_ends_it(self):
        with pytest.raises(ZeroDivisionError):
            wait_until(lambda: 1 / 0, Deadline(60))

    def test_sparingly(self):
        calls = []
        look = Sparingly(lambda value: calls.append(value) or "seen", shortest=60)
        assert [look(1), look(2)] == ["seen", None]
        assert calls == [1]
