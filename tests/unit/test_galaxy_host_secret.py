import copy
import json
import pathlib
import pickle
import re
import resource
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
    # now it has ended, and that is no error
    forbid_core_dump(command.pid)
    assert re.search(r"Max core file size +0 +0 ", limits)
    assert resource.getrlimit(resource.RLIMIT_CORE) == own
