import copy
import json
import os
import pathlib
import pickle
import re
import resource
import signal
import subprocess

import pytest

from galaxy_host_secret import Secret, forbid_core_dump


def test_nothing_shows_it():
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {secret!s} {secret:>20} {[secret]} {vars} {dir(secret)}"
    assert secret.reveal() == b"hunter2"
    assert secret
    assert not Secret("")


def test_nothing_stores_it():
    for store in (pickle.dumps, json.dumps, copy.copy):
        with pytest.raises(TypeError):
            store(Secret("hunter2"))


def test_a_command_that_gets_one_leaves_no_core():
    own = resource.getrlimit(resource.RLIMIT_CORE)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as command:
        forbid_core_dump(command.pid)
        limits = pathlib.Path(f"/proc/{command.pid}/limits").read_text()
        command.stdin.close()
    # the process has ended now, which is no error
    forbid_core_dump(command.pid)
    assert re.search(r"Max core file size +1 +1 ", limits)
    assert resource.getrlimit(resource.RLIMIT_CORE) == own


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("forbidden", [True, False])
def test_a_crash(tmp_path, forbidden):
    if not forbidden and pathlib.Path("/proc/sys/kernel/core_pattern").read_text()[0] in "|/@":
        pytest.skip("a program of this machine takes the cores")
    command = subprocess.Popen(["sh", "-c", "read line; kill -ABRT $$"], stdin=subprocess.PIPE, cwd=tmp_path)
    resource.prlimit(command.pid, resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    if forbidden:
        forbid_core_dump(command.pid)
    command.stdin.close()
    _, status = os.waitpid(command.pid, 0)
    command.returncode = status
    assert (os.WTERMSIG(status), os.WCOREDUMP(status)) == (signal.SIGABRT, not forbidden)
    assert bool(list(tmp_path.iterdir())) is not forbidden
