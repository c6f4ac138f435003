"""What Salt shows of this tree on Windows and macOS: one sentence, and no name of a Python module."""

import subprocess
import sys

import pytest
from support.site import REPO

# Salt's own modules are loaded before the platform changes. Then the modules that Windows' Python lacks are missing
_LOAD = """
import importlib.util, sys
import salt.exceptions, salt.utils.atomicfile, salt.utils.path
for name in ("fcntl", "grp", "pwd", "resource"):
    sys.modules[name] = None
sys.platform, utils, *paths = sys.argv[1:]
sys.path.insert(0, utils)
for path in paths:
    spec = importlib.util.spec_from_file_location("loaded", path)
    module = importlib.util.module_from_spec(spec)
    module.__salt__ = {}
    spec.loader.exec_module(module)
    verdict, sentence = module.__virtual__()
    assert verdict is False, path
    print(sentence)
"""


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_it_is_for_linux(platform):
    paths = [path for name in ("_modules", "_states", "_beacons") for path in sorted((REPO / name).glob("*.py"))]
    argv = [sys.executable, "-c", _LOAD, platform, REPO / "_utils", *paths]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sentences = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in sentences] == [path.stem for path in paths]
    assert [line for line in sentences if "Linux" not in line] == []
