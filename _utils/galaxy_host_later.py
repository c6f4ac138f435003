"""
Utils that are loaded when they are first used: Salt loads every file anew in each job, and most jobs need few of them.
"""

import importlib
import os
import sys
import threading

_HERE = os.path.dirname(os.path.abspath(__file__))
_LOCK = threading.RLock()
_waiting: list = []


class Later:
    """
    The util of that name, as ``import name`` gives it, later. That statement within a function would not do: Salt's
    loader has our directory on the path only while it loads a file.
    """

    def __init__(self, name: str):
        self._name = name
        _waiting.append(self)

    def __getattr__(self, name: str):
        return getattr(self._load(), name)

    def _load(self):
        with _LOCK:
            if self in _waiting:
                sys.path.insert(0, _HERE)
                try:
                    self._module = importlib.import_module(self._name)
                finally:
                    sys.path.remove(_HERE)
                _waiting.remove(self)
        return self._module


def load_all() -> None:
    """Load now what waits: for who keeps modules of his own, which a later load would not be one of."""
    while _waiting:
        _waiting[0]._load()
