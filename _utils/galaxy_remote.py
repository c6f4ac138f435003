"""
Run one function on one minion, for the runners that a remote account may call (docs/remote.md). Turn what a minion
answered into a text that harms no terminal and a value that harms no program.

A minion may answer anything, because root of a minion need not be root of the Salt master.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from salt.exceptions import SaltInvocationError

import galaxy_host_turn
from galaxy_host_pattern import Pattern
from galaxy_host_record import record

# for each job: ask for the whole answer, and for no row of a missing minion, because Salt 3008 lists all keys for such
# rows
JOB = {"full_return": True, "expect_minions": False}
# limits of an answer: characters of one text, values in all, characters in all, levels
TEXT, VALUES, CHARACTERS, DEPTH = 16_384, 20_000, 1_048_576, 32
CUT = "[cut]"

_NAME = Pattern(r"[A-Za-z0-9._-]{1,253}")
# Unicode's control and format characters and line separators, except newline and tab: they move a terminal's cursor, or
# hide or reorder text. Also halves of characters, which no encoding takes
_UNSAFE = Pattern(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff0-\ufffb\ud800-\udfff\U000110bd\U000110cd\U00013430-\U0001345f\U0001bca0-\U0001bcaf"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


@record(frozen=True)
class Once:
    """
    A function that a minion runs once at a time.

    doing
        what the minion does then, for a sentence
    brothers
        functions that do the same, or SLS that are being applied
    about
        the keyword that says what the call is about (a server, a volume)
    """

    doing: str
    brothers: tuple[str, ...]
    about: str


ONCE = {
    "galaxy.startup": Once("is being started", ("galaxy.start", "galaxy.restart", "galaxy.boot"), "server"),
    "luks.open": Once("is being opened", ("luks.encrypt", "galaxy.boot", "galaxy.storage"), "mapper"),
}


def minion_id(minion: Any) -> str:
    """The ID of a minion. A pattern is refused, so that one call reaches one machine."""
    return _name("minion", "an ID", minion)


def server_name(server: Any) -> str:
    """The name of a Galaxy in the minion's pillar."""
    return _name("server", "a name", server)


def call(client: Any, minion: str, function: str, **keywords: Any) -> dict[str, Any]:
    """
    Run the function, and wait as long as the minion works on it.

    client
        Salt's ``LocalClient``
    minion
        ID of the minion
    keywords
        keywords of the function

    Returns ``success`` and ``return``: what the function returned, in the form of :py:func:`plain`, or a text that says
    what went wrong. Raises ``SaltInvocationError`` if ``minion`` is no ID.
    """
    minion_id(minion)
    answer = answer_of(client.cmd([minion], function, kwarg=keywords, tgt_type="list", **JOB), minion)
    if answer is None:
        return {"success": False, "return": f"{minion} does not answer; does it run, and is its key accepted?"}
    retcode = answer.get("retcode")
    return {"success": type(retcode) is int and retcode == 0, "return": plain(answer.get("ret"))}


def call_once(client: Any, directory: str, minion: str, function: str, **keywords: Any) -> dict[str, Any]:
    """
    Like :py:func:`call`, for a function in ``ONCE``. If the minion does the same thing already, whoever asked for it,
    the answer says so at once. Then the minion was only asked what it does.

    directory
        directory of the master's locks
    """
    once = ONCE[function]
    thing = keywords.get(once.about)
    subject = f"{thing} on {minion_id(minion)}" if thing else f"Galaxy on {minion_id(minion)}"
    with galaxy_host_turn.alone(directory, f"{function} {minion} {thing}") as mine:
        if not mine:
            return {"success": False, "return": f"{subject} {once.doing} already, by another call"}
        jobs = call(client, minion, "saltutil.running")
        if not jobs["success"]:
            return jobs
        job = _job_of(jobs["return"], {function, *once.brothers}, once.about, thing)
        if job:
            return {"success": False, "return": f"{subject} {once.doing} already, by {job}"}
        return call(client, minion, function, **keywords)


def answer_of(answers: Any, minion: str) -> dict[str, Any] | None:
    """
    What the minion returned, from all that ``LocalClient.cmd`` gives with ``full_return``; ``None`` if it did not
    answer.
    """
    answer = answers.get(minion) if isinstance(answers, dict) else None
    return answer if isinstance(answer, dict) and answer and answer.get("out") != "no_return" else None


def plain(value: Any) -> Any:
    """
    The same value in ``dict``, ``list``, ``str``, ``int``, ``float``, ``bool`` and ``None``, with a limited size.

    In texts and keys, control characters (and so escape sequences of terminals) become their Python escapes. What is
    longer or deeper than the limits in this file ends with ``[cut]``. No value raises an error.
    """
    return _Plain().value(value, DEPTH)


def text(value: Any) -> str:
    """What a minion said, for a sentence: its text, or how its list or value looks."""
    said = plain(value)
    if isinstance(said, list):
        return _shortened("; ".join(map(str, said)))
    return said if isinstance(said, str) else _shortened(str(said))


class _Plain:
    """One answer on its way. It counts what has been taken of the answer."""

    def __init__(self) -> None:
        self._values, self._characters = VALUES, CHARACTERS

    def value(self, value: Any, depth: int) -> Any:
        self._values -= 1
        if self._values < 0 or self._characters <= 0:
            return CUT
        if value is None or isinstance(value, bool):
            return bool(value) if value is not None else None
        if isinstance(value, int) and -(1 << 63) <= value < 1 << 64:
            return int(value)
        if isinstance(value, float) and math.isfinite(value):
            return float(value)
        if isinstance(value, Mapping):
            return self._mapping(value, depth - 1) if depth else CUT
        if isinstance(value, (list, tuple, set, frozenset)):
            return self._list(value, depth - 1) if depth else CUT
        return self._text(value)

    def _mapping(self, value: Mapping[str, Any], depth: int) -> dict[str, Any]:
        done = {}
        for key, inner in value.items():
            if self._values <= 0 or self._characters <= 0:
                done[CUT] = CUT
                break
            done[self._text(key)] = self.value(inner, depth)
        return done

    def _list(self, value: Iterable[Any], depth: int) -> list[Any]:
        done = []
        for inner in value:
            done.append(self.value(inner, depth))
            if self._values <= 0 or self._characters <= 0:
                break
        return done

    def _text(self, value: Any) -> str:
        if isinstance(value, (bytes, bytearray)):
            value = bytes(value[: TEXT + 1]).decode(errors="replace")
        if not isinstance(value, str):
            value = _described(value)
        done = _shortened(_UNSAFE.sub(_escaped, value[: TEXT + 1]))
        self._characters -= len(done)
        return done


def _described(value: Any) -> str:
    """A number that JSON cannot hold, as text; or the type of a value that no answer of a minion should have."""
    if isinstance(value, float) or value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return str(value) if value.bit_length() < 1024 else "int"
    return type(value).__name__


def _shortened(said: str) -> str:
    return said if len(said) <= TEXT else said[: TEXT - len(CUT)] + CUT


def _escaped(match: re.Match[str]) -> str:
    number = ord(match.group())
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _name(keyword: str, kind: str, value: Any) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        shown = repr(value[:100] if isinstance(value, str) else plain(value))[:200]
        raise SaltInvocationError(f"`{keyword}` must be {kind} of letters, digits, . _ and -, not {shown}")
    return value


def _job_of(jobs: Any, names: set[str], about: str, thing: Any) -> str:
    """The first job in ``saltutil.running`` that is one of ``names`` and about this thing; empty if there is none."""
    for job in jobs if isinstance(jobs, list) else ():
        given = job.get("arg") if isinstance(job, dict) else None
        if not isinstance(given, list):
            continue
        keywords = [one for one in given if isinstance(one, dict)]
        texts = [one for one in given if isinstance(one, str)]
        named = [one[about] for one in keywords if about in one] or [one for one in texts if one == thing] or [None]
        sls = {part for one in (*texts, *(str(one.get("mods")) for one in keywords)) for part in one.split(",")}
        function = job.get("fun")
        if not isinstance(function, str):
            continue
        if (function.startswith("state.") and names & sls) or (function in names and thing in named):
            return f"{function}, job {job.get('jid')}"
    return ""
