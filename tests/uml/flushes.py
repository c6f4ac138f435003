"""
The product's flushes: the places where a util waits until data is on the medium. A test can leave one out by its name,
to show that a crash then does harm.
"""

import ast
import contextlib
import os
import pathlib
import sys

UTILS = pathlib.Path(__file__).resolve().parents[2] / "_utils"
_FILES = (*sorted(UTILS.glob("luks_*.py")), UTILS / "galaxy_host_key.py")
_NAMES = ("os.fsync", "luks_device.sync", "sync", "_sync")
# the other flushes call these
_PRIMITIVES = ("luks_device.sync", "galaxy_host_key._sync")


def all_of_them():
    """``(file, line)`` by name. A name is a function and a number: its first flush, its second, and so on."""
    found = {}
    for path in _FILES:
        for function in ast.walk(ast.parse(path.read_text())):
            name = f"{path.stem}.{getattr(function, 'name', '')}"
            if not isinstance(function, ast.FunctionDef) or name in _PRIMITIVES:
                continue
            calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
            lines = sorted(node.lineno for node in calls if ast.unparse(node.func) in _NAMES)
            found.update({f"{name}:{number}": (str(path), line) for number, line in enumerate(lines, 1)})
    return found


@contextlib.contextmanager
def without(name):
    """Make that flush do nothing."""
    path, line = all_of_them()[name]
    fsync = os.fsync

    def flush(descriptor):
        frame = sys._getframe(1)
        while frame:
            if (frame.f_code.co_filename, frame.f_lineno) == (path, line):
                return
            frame = frame.f_back
        fsync(descriptor)

    os.fsync = flush
    try:
        yield
    finally:
        os.fsync = fsync
