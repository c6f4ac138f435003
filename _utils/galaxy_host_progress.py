"""
Tell how long work goes on. A function of Salt begins it with ``told``, and everything inside it that waits calls
``tick``.
"""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

# seconds until the first event, and seconds between two. The longer the work takes, the rarer they are: a fleet that
# waits for hours must be no load for its master
SHORTEST, LONGEST, SHARE = 5.0, 30.0, 0.2
# characters of the text that says what is waited for
_TEXT = 300
# at the end of the work, seconds to wait for an event that is being sent
_LAST = 1.0
# a context variable, because jobs of a minion may be threads of one process
_current: ContextVar[Any] = ContextVar("progress", default=None)


@contextlib.contextmanager
def told(step: str, opts: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """
    Tell how the work goes while it waits, by an event ``galaxy/<minion>/progress`` and a line on the terminal of
    ``salt-call``. The event has ``step``, ``try`` and ``tries`` (``None`` if there is only one try), ``seconds`` since
    the beginning, and ``waits_for``, a sentence. Without a master there is only the line.

    step
        name of the function; a function that another one calls adds no step of its own
    opts, functions
        Salt's options of the minion, and its execution modules (``__salt__``)

    The work never waits for an event. If the master does not take an event, the event is left alone, and until the
    master takes it no other is sent.
    """
    if _current.get():
        yield
        return
    progress = _Progress(step, opts, functions)
    token = _current.set(progress)
    try:
        yield
    finally:
        _current.reset(token)
        progress.end()


def tick(waits_for: str | Callable[[], str] = "") -> None:
    """Say what is waited for, if it is time for this. Otherwise it costs nothing."""
    progress = _current.get()
    if progress:
        progress.tick(waits_for)


def attempt(number: int, most: int) -> None:
    """Note the number of this try, and how many tries there are at most."""
    progress = _current.get()
    if progress:
        progress.attempt = (number, most)


def line(data: Mapping[str, Any]) -> str:
    """The data of an event, as a line."""
    tried = f"try {data['try']} of {data.get('tries')}, " if data.get("try") else ""
    waits_for = f": {data['waits_for']}" if data.get("waits_for") else ""
    return f"{data.get('step')}: {tried}{data.get('seconds')} s{waits_for}"


def say(text: str) -> None:
    """Write a line on the terminal, beside the answer."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
        sys.stderr.flush()


class _Progress:
    """The progress of one call."""

    def __init__(self, step: str, opts: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]]):
        self.attempt: tuple[int | None, int | None] = (None, None)
        self._step, self._opts, self._functions = step, opts, functions
        self._began = time.monotonic()
        self._next = self._began + SHORTEST
        self._sender: threading.Thread | None = None

    def tick(self, waits_for: str | Callable[[], str]) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        spent = now - self._began
        self._next = now + min(LONGEST, max(SHORTEST, SHARE * spent))
        number, most = self.attempt
        data = {"step": self._step, "try": number, "tries": most, "seconds": round(spent)}
        data["waits_for"] = _said(waits_for)
        log.info("%s", line(data))
        if self._opts.get("__cli") == "salt-call":
            say(line(data))
        if _has_master(self._opts) and not (self._sender and self._sender.is_alive()):
            # looked up here: Salt's loader finds nothing in another thread
            given = (self._functions["event.send"], f"galaxy/{self._opts['id']}/progress", data)
            self._sender = threading.Thread(target=_send, args=given, daemon=True)
            self._sender.start()

    def end(self) -> None:
        if self._sender:
            self._sender.join(_LAST)


def _said(waits_for: str | Callable[[], str]) -> str:
    try:
        said = waits_for() if callable(waits_for) else waits_for
    except (CommandExecutionError, OSError) as exc:
        # the work must go on even if an event cannot be sent
        said = str(exc)
    return " ".join(said.split())[:_TEXT]


def _send(send: Callable[..., Any], tag: str, data: Mapping[str, Any]) -> None:
    try:
        send(tag, data)
    except Exception as exc:
        # Salt's transports raise various exceptions if the master is away
        log.info("%s was not sent: %s", tag, type(exc).__name__)


def _has_master(opts: Mapping[str, Any]) -> bool:
    """Whether there is a master, by Salt's own rule for events."""
    is_local = opts.get("local") or opts.get("file_client") == "local"
    return bool(not is_local or opts.get("use_master_when_local"))
