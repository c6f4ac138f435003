"""
Show what minions tell of long work, on the terminal of the runner that started the work.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import galaxy_fleet
import galaxy_host_progress

log = logging.getLogger(__name__)

_PREFIX = "galaxy/"
# seconds to listen at a time, and least seconds between two lines of one minion, which may send as often as it likes
_WAIT, _PAUSE = 0.5, 1.0
_KEYS = ("step", "try", "tries", "seconds", "waits_for")


def tag(minion: str) -> str:
    """The tag of the events that ``galaxy_host_progress`` sends from a minion."""
    return f"{_PREFIX}{minion}/progress"


def is_command(opts: Mapping[str, Any]) -> bool:
    """Whether a person runs this with ``salt-run``, and not the master itself."""
    return opts.get("__cli") == "salt-run"


@contextlib.contextmanager
def shown(opts: Mapping[str, Any], listen: Callable[[], Any], minions: Collection[str]) -> Iterator[None]:
    """
    If a person looks on, show what these minions tell meanwhile.

    opts
        Salt's options of the master
    listen
        connects to the master's event bus; a context manager
    """
    if not is_command(opts):
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=_show, args=(listen, {tag(minion): minion for minion in minions}, ended))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def line(minion: str, event: Any) -> str:
    """One event's data as a line; empty if the data has another shape."""
    told = event.get("data") if isinstance(event, Mapping) else None
    if not isinstance(told, Mapping):
        return ""
    given = {key: galaxy_fleet.text(told[key], galaxy_fleet.TEXT) for key in _KEYS if told.get(key) is not None}
    return f"{minion} {galaxy_host_progress.line(given)}"


def _show(listen: Callable[[], Any], minions: Mapping[str, str], ended: threading.Event) -> None:
    last = dict.fromkeys(minions, -_PAUSE)
    try:
        with listen() as bus:
            while not ended.is_set():
                event = bus.get_event(wait=_WAIT, tag=_PREFIX, full=True)
                name, now = event["tag"] if event else "", time.monotonic()
                if name in minions and now - last[name] >= _PAUSE:
                    last[name] = now
                    said = line(minions[name], event["data"])
                    if said:
                        galaxy_host_progress.say(said)
    except Exception as exc:
        # Salt's transport may raise anything. If the master is at fault, the work itself says so
        log.info("progress is not shown: %s", exc)
