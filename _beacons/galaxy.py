"""
Tell when Galaxy is down, saturated or stuck, and when it is over
=================================================================

.. code-block:: yaml

    beacons:
      galaxy:
        - interval: 30
        - down: 60
        - saturated: 120
        - stuck: 600
        - recovered: 60

Events, each once while its condition lasts:

``salt/beacon/<minion>/galaxy/down``
    no worker has accepted for ``down`` seconds; ``reason`` says why
``salt/beacon/<minion>/galaxy/saturated``
    all cores of all accepting workers have been busy for ``saturated`` seconds
``salt/beacon/<minion>/galaxy/stuck``
    the same request has been in a core for ``stuck`` seconds; ``requests`` says which
``salt/beacon/<minion>/galaxy/recovered``
    none of this has been seen for ``recovered`` seconds; ``from`` says what is over

``config`` or ``stats`` name the server, as in the execution module ``galaxy``; without them ``galaxy:`` in pillar does.
Only newer versions of uWSGI tell since when a request runs (``req_info``); with others ``stuck`` stays silent.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pathlib
import sys
import time

import salt.utils.atomicfile


def _import(*names: str) -> list:
    """
    Utils, for this beacon alone. Salt's loader gives beacons no path to them, as it does modules and states; and what
    the daemon itself had in ``sys.modules``, the jobs that it forks would go on using after a sync has replaced it.
    """
    here = pathlib.Path(__file__).parent
    path = str(here.with_name(here.name.replace("beacons", "utils")))
    others = {name: sys.modules.pop(name) for name in list(sys.modules) if name.startswith("galaxy_")}
    sys.path.insert(0, path)
    importlib.invalidate_caches()
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(path)
        for name in [name for name in sys.modules if name.startswith("galaxy_")]:
            del sys.modules[name]
        sys.modules.update(others)


galaxy_errors, galaxy_server, galaxy_watch = _import("galaxy_errors", "galaxy_server", "galaxy_watch")

__virtualname__ = "galaxy"

TYPE_CHECKING = False
if TYPE_CHECKING:
    __salt__: dict
    __opts__: dict
    __context__: dict

_MEMORY = "galaxy_beacon"
_THRESHOLDS = ("down", "saturated", "stuck", "recovered")
_SERVER = ("config", "stats")
_TIMEOUT = 5


def __virtual__():
    return __virtualname__


def validate(config):
    """Whether the configuration is sound: ``(bool, text)``."""
    if not isinstance(config, list) or not all(isinstance(each, dict) for each in config):
        return False, "The galaxy beacon takes a list of single keys"
    for key, value in _merged(config).items():
        if key in _THRESHOLDS and (isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0):
            return False, f"galaxy beacon: {key} is {value!r}, not a number of seconds"
        if key in _SERVER and not isinstance(value, str):
            return False, f"galaxy beacon: {key} is {value!r}, not a text"
    return True, "Valid beacon configuration"


def beacon(config):
    """The events that are due now."""
    given = _merged(config)
    named = {key: given.get(key) or __salt__["config.get"](f"galaxy:{key}", None) for key in _SERVER}
    memory = __context__.setdefault(_MEMORY, {}).get(str(named)) or _recall(str(named))
    told = set(memory.told)
    thresholds = galaxy_watch.Thresholds(**{key: given[key] for key in _THRESHOLDS if key in given})
    try:
        answer = galaxy_server.Server(__salt__, **named).read_stats(_TIMEOUT)
    except galaxy_errors.StatsError as exc:
        answer = exc
    except galaxy_errors.GalaxyError as exc:
        # its volume is not mounted yet, say: that is down, too
        answer = galaxy_errors.StatsError(named["stats"] or named["config"], str(exc))
    due = galaxy_watch.observe(answer, memory, thresholds, time.monotonic())
    __context__[_MEMORY][str(named)] = memory
    if memory.told != told:
        _remember()
    return due


def _path() -> str:
    return os.path.join(__opts__["cachedir"], f"{_MEMORY}.json")


def _remember() -> None:
    """What was told outlives this process, and Salt's refreshes, which make beacons anew: else its end went untold."""
    told = {named: sorted(memory.told) for named, memory in __context__[_MEMORY].items()}
    with salt.utils.atomicfile.atomic_open(_path(), "w") as file:
        json.dump(told, file)


def _recall(named: str):
    told = {}
    with contextlib.suppress(OSError, ValueError), open(_path(), encoding="utf-8") as file:
        told = json.load(file)
    return galaxy_watch.Memory(told=set(told.get(named, ())))


def _merged(config: list[dict]) -> dict:
    return {key: value for each in config for key, value in each.items()}
