"""
Load a util when it is first used: Salt loads every file anew in each job, and most jobs need few of them. Also drop
utils that a sync has replaced: Salt loads a util anew too, but what it imports stays in ``sys.modules``.
"""

import importlib
import importlib.machinery
import os
import sys
import threading
import time
from types import ModuleType
from typing import Any

_HERE = os.path.dirname(os.path.abspath(__file__))
_LOCK = threading.RLock()
_waiting: list[Any] = []

_OURS = ("galaxy_", "luks_", "onedata_")
# the tree's other utils are imported after this one
_BORN = time.time()


class _Finder:
    """
    Finds our utils at once, also after Salt's loader has taken their directory off the path. Python alone looks in each
    directory of the path before theirs: a sixth of the time that they take to load.
    """

    _files = importlib.machinery.FileFinder(_HERE, (importlib.machinery.SourceFileLoader, [".py"]))

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        return self._files.find_spec(name) if name.startswith(_OURS) else None

    def invalidate_caches(self) -> None:
        self._files.invalidate_caches()


# Salt's loader of utils executes each file once more, under another name; skip that
if not __name__.startswith("salt."):
    # replaces the finder of an older copy of this file, which a sync may leave
    sys.meta_path[:] = [_Finder(), *(one for one in sys.meta_path if type(one).__module__ != __name__)]


class Later:
    """The util of this name, as ``import name`` gives it, but loaded later."""

    def __init__(self, name: str):
        self._name = name
        _waiting.append(self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._load(), name)

    def _load(self) -> ModuleType:
        with _LOCK:
            if self in _waiting:
                self._module = importlib.import_module(self._name)
                _waiting.remove(self)
        return self._module


def load_all() -> None:
    """
    Load now all utils that wait, for a caller that keeps a set of modules of its own: a later load would not be in it.
    """
    while _waiting:
        _waiting[0]._load()


def drop_outdated() -> None:
    """
    Forget this process's utils if one of them has been replaced since they were imported. A daemon loads a module to
    see whether its schedule may call it; then it would hand the old utils on to each job that it forks. Each file that
    Salt loads calls this before it imports any other util.
    """
    ours = [name for name in sys.modules if name.startswith(_OURS)]
    now = time.time()
    # a time in the future does not count: else the utils would be dropped each time
    if any(_BORN < _changed(sys.modules[name]) <= now for name in ours):
        for name in ours:
            del sys.modules[name]


def _changed(module: ModuleType) -> float:
    """When its file was changed, in epoch seconds; 0 if this cannot be told."""
    try:
        return os.stat(module.__file__ or "").st_mtime
    except OSError:
        return 0.0
