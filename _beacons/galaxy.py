"""
Send an event when Galaxy is down, saturated, stuck or crashing, and when this is over
======================================================================================

.. code-block:: yaml

    beacons:
      galaxy:
        - interval: 30
        - down: 60
        - saturated: 120
        - stuck: 600
        - crashing: 60
        - recovered: 60

Each event is sent once while its condition lasts. The numbers are seconds.

``salt/beacon/<minion>/galaxy/down``
    For ``down`` seconds no worker was ready, or nobody could tell. ``reason`` says why.
``salt/beacon/<minion>/galaxy/saturated``
    For ``saturated`` seconds all cores of all accepting workers have been busy. ``workers`` and ``listen_queue`` say
    how many workers and waiting connections there are.
``salt/beacon/<minion>/galaxy/stuck``
    One request has been under way for ``stuck`` seconds, or a worker's event loop does not run. ``requests`` says
    which.
``salt/beacon/<minion>/galaxy/crashing``
    Under Gravity: for ``crashing`` seconds a process manager has started a service again and again, or has given it up.
    ``services`` has what the process manager reports for each.
``salt/beacon/<minion>/galaxy/recovered``
    For ``recovered`` seconds there was no such condition. ``from`` lists the conditions that are over.

``server`` (a name in pillar), ``config``, ``stats`` or ``socket`` name the server, as in the execution module
``galaxy``. Without them, ``galaxy:`` in pillar names it. If pillar declares several servers, the beacon watches each of
them; an event then has the server's name as ``server``.

Only newer versions of uWSGI tell since when a request runs (``req_info``). With older ones there is no event ``stuck``.
"""

import contextlib
import importlib
import json
import logging
import os
import pathlib
import sys
import time

import salt.utils.atomicfile
from salt.exceptions import CommandExecutionError, SaltInvocationError


def _import(*names: str) -> list:
    """
    Import utils for this beacon alone. Salt's loader gives beacons no path to them, unlike modules and states. And they
    must not stay in the daemon's ``sys.modules``: the jobs that it forks would use them after a sync has replaced them.
    """
    here = pathlib.Path(__file__).parent
    path = str(here.with_name(here.name.replace("beacons", "utils")))
    others = {name: sys.modules.pop(name) for name in list(sys.modules) if name.startswith("galaxy_")}
    sys.path.insert(0, path)
    importlib.invalidate_caches()
    try:
        modules = [importlib.import_module(name) for name in names]
        importlib.import_module("galaxy_host_later").load_all()
        return modules
    finally:
        sys.path.remove(path)
        for name in [name for name in sys.modules if name.startswith("galaxy_")]:
            del sys.modules[name]
        sys.modules.update(others)


if sys.platform.startswith("linux"):
    galaxy_server, galaxy_settings, galaxy_spec, galaxy_watch = _import(
        "galaxy_server", "galaxy_settings", "galaxy_spec", "galaxy_watch"
    )

__virtualname__ = "galaxy"

TYPE_CHECKING = False
if TYPE_CHECKING:
    __salt__: dict
    __opts__: dict
    __grains__: dict
    __pillar__: dict
    __context__: dict

log = logging.getLogger(__name__)

_MEMORY = "galaxy_beacon"
_THRESHOLDS = ("down", "saturated", "stuck", "crashing", "recovered")
_SERVER = ("server", "config", "instance", "stats", "socket")
# Salt's own keys, which every beacon has
_SALTS = ("interval", "beacon_module", "enabled", "disable_during_state_run")
_TIMEOUT = 5


def __virtual__():
    if not sys.platform.startswith("linux"):
        return False, "galaxy: this beacon works on Linux only"
    return __virtualname__


def validate(config):
    """
    Tell whether the configuration of the beacon, and pillar, are right.

    config : list
        the beacon's configuration: a list of mappings with one key each

    Returns ``True`` or ``False``, and a sentence.
    """
    if not isinstance(config, list) or not all(isinstance(each, dict) for each in config):
        return False, "The galaxy beacon takes a list of single keys"
    for key, value in _merged(config).items():
        if key not in (*_THRESHOLDS, *_SERVER, *_SALTS):
            known = ", ".join((*_THRESHOLDS, *_SERVER))
            return False, f"galaxy beacon: {key} is not a setting; known are {known}"
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if key in _THRESHOLDS and not (is_number and 0 <= value < float("inf")):
            return False, f"galaxy beacon: {key} is {value!r}, not a number of seconds"
        if key in _SERVER and not (isinstance(value, str) and value):
            return False, f"galaxy beacon: {key} is {value!r}, not a text"
    try:
        _specs(_merged(config))
    except (CommandExecutionError, SaltInvocationError) as exc:
        return False, f"galaxy beacon: {exc}"
    return True, "Valid beacon configuration"


def beacon(config):
    """
    Tell the events that are due now.

    config : list
        the beacon's configuration: a list of mappings with one key each

    Returns a list of mappings. ``tag`` is the last part of the event's tag.
    """
    given = _merged(config)
    thresholds = galaxy_watch.Thresholds(**{key: given[key] for key in _THRESHOLDS if key in given})
    due = []
    for name, spec in _specs(given).items():
        key = spec.identity
        memory = __context__.setdefault(_MEMORY, {}).get(key) or _recall(key)
        told = set(memory.told)
        galaxy = galaxy_server.Galaxy(spec, __salt__)
        # under Gravity, only the process manager tells which service crashes
        look = galaxy.look(_TIMEOUT, managed=galaxy.web_server == "gunicorn")
        events = galaxy_watch.observe(look, memory, thresholds, time.monotonic())
        log.debug("galaxy: beacon looked at %s: ready %s, events: %d", spec, look.is_ready(1), len(events))
        due += [{**event, "server": name} if name else event for event in events]
        __context__[_MEMORY][key] = memory
        if memory.told != told:
            _remember()
    return due


def _specs(given: dict) -> dict:
    """The servers to watch, by the name in their events; ``""`` if there is only one."""
    settings = galaxy_settings.of(__opts__, __grains__, __pillar__)
    named = {key: given[key] for key in _SERVER if given.get(key)}
    if not named and len(settings.names) > 1:
        return {name: spec for name, (spec, _) in galaxy_spec.resolve_all({}, settings).items()}
    return {"": galaxy_spec.resolve(named, settings)[0]}


def _path() -> str:
    return os.path.join(__opts__["cachedir"], f"{_MEMORY}.json")


def _remember() -> None:
    """Keep what was told, beyond this process and Salt's refreshes of beacons; else nobody would hear of its end."""
    told = {key: sorted(memory.told) for key, memory in __context__[_MEMORY].items()}
    with salt.utils.atomicfile.atomic_open(_path(), "w") as file:
        json.dump(told, file)


def _recall(key: str):
    told = {}
    with contextlib.suppress(OSError, ValueError), open(_path(), encoding="utf-8") as file:
        told = json.load(file)
    return galaxy_watch.Memory(told=set(told.get(key, ())))


def _merged(config: list[dict]) -> dict:
    return {key: value for each in config for key, value in each.items()}
