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

import time

import galaxy_watch
from galaxy_errors import GalaxyError, StatsError
from galaxy_server import Server
from galaxy_watch import Memory, Thresholds

__virtualname__ = "galaxy"

TYPE_CHECKING = False
if TYPE_CHECKING:
    __salt__: dict
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
    memory = __context__.setdefault(_MEMORY, {}).setdefault(str(named), Memory())
    thresholds = Thresholds(**{key: given[key] for key in _THRESHOLDS if key in given})
    try:
        answer = Server(__salt__, **named).read_stats(_TIMEOUT)
    except StatsError as exc:
        answer = exc
    except GalaxyError as exc:
        # its volume is not mounted yet, say: that is down, too
        answer = StatsError(named["stats"] or named["config"], str(exc))
    return galaxy_watch.observe(answer, memory, thresholds, time.monotonic())


def _merged(config: list[dict]) -> dict:
    return {key: value for each in config for key, value in each.items()}
