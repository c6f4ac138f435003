"""
The flushes of the product: where a util waits until something is on the medium. Each can be left out by its name, to
see that a crash is not survived then.
"""

import ast
import contextlib
import os
import pathlib
import sys

UTILS = pathlib.Path(__file__).resolve().parents[2] / "_utils"
_FILES = (*sorted(UTILS.glob("luks_*.py")), UTILS / "galaxy_host_key.py")
_NAMES = ("os.fsync", "luks_device.sync", "sync", "_sync")
# what the others call
_PRIMITIVES = ("luks_device.sync", "galaxy_host_key._sync")


def all_of_them():
    """``(file, line)`` by name: the function that flushes, and the how manieth flush of it that is."""
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
    """That flush does nothing."""
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
