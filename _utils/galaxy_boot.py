"""
Tell how a boot went, from the results of its states; and boot one minion from the Salt master (docs/boot.md).
"""

import datetime
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import galaxy_remote
from galaxy_host_turn import Turn
from galaxy_host_wait import Deadline, wait_until

SLS = "galaxy.boot"
# the SLS and its state that tell the master, formulas/galaxy/boot/report.sls
REPORT_SLS, REPORT = "galaxy.boot.report", "galaxy-boot-report"
# seconds before a failed boot is tried again
PAUSE = 60
# The master asks, again and again, whether a minion still works on a long job: seconds between two questions, and
# seconds for the answer. With Salt's own five and ten, a master of a thousand starting machines does nothing but ask,
# and takes live minions for dead.
PATIENCE = 30


def failure(states: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """
    The first state that failed, as ``step`` (the SLS below ``galaxy``), ``state`` (ID) and ``reason``. Empty if none
    failed.
    """
    failed = [one for one in states if one.get("result") is False and type(one.get("__run_num__")) is int]
    if not failed:
        return {}
    first = min(failed, key=lambda one: one["__run_num__"])
    step = galaxy_remote.text(first.get("__sls__", "")).removeprefix("galaxy.")
    return {"step": step, **galaxy_remote.plain({"state": first.get("__id__"), "reason": first.get("comment")})}


def boot(client: Any, minion: str, condition: str = "", report: bool = True) -> dict[str, Any]:
    """
    Apply ``galaxy.boot`` on a minion, and wait as long as the minion works on it.

    client
        Salt's ``LocalClient``
    condition
        a compound expression that the minion must match too; for that, Salt lists all keys once more
    report
        whether the minion itself tells the master how it went

    Returns why the boot failed, like :py:func:`failure`. Empty if it went well, or if the minion told the master
    itself.
    """
    # queue: wait for another state run. exclude only if needed, because it shows in the minion's job data
    keywords = {"queue": True} if report else {"queue": True, "exclude": REPORT_SLS}
    target, kind = (f"L@{minion} and ( {condition} )", "compound") if condition else ([minion], "list")
    answers = client.cmd(target, "state.apply", [SLS], tgt_type=kind, kwarg=keywords, **galaxy_remote.JOB)
    answer = galaxy_remote.answer_of(answers, minion)
    if answer is None:
        return _unknown(f"{minion} does not answer, or has stopped answering")
    returned = answer.get("ret")
    if not isinstance(returned, dict):
        return _unknown(f"{SLS} could not be applied: {galaxy_remote.text(returned)}")
    states = [one for one in returned.values() if isinstance(one, dict)]
    if report and any(one.get("__id__") == REPORT and one.get("result") is True for one in states):
        return {}
    failed = failure(states)
    if failed or not (report or states):
        return failed or _unknown(f"{SLS} ended without a state")
    return _unknown(f"{SLS} ended without its report") if report else {}


def boot_in_turn(
    client: Any,
    minion: str,
    condition: str,
    turn: Turn,
    tell: Callable[[str, dict[str, Any]], object],
    retries: int,
    pause: float,
) -> dict[str, Any]:
    """
    Boot a minion whose turn it is. Tell the master's event bus what the minion does not tell itself: once, how the boot
    went; and before each further try, what it waits for.

    tell
        called with ``failed`` and the failure, or with ``ready`` and an empty mapping; before each further try with
        ``progress`` and the data of such an event (``galaxy_host_progress``)
    retries
        how often to try again after a boot has failed: after ``pause`` seconds, or as soon as the minion starts once
        more

    Returns why the last try failed, like :py:func:`boot`.
    """
    began = time.monotonic()
    for left in range(retries, -1, -1):
        turn.begin()
        failed = boot(client, minion, condition, report=not left)
        if not failed:
            break
        if left:
            waits_for = f"the next try, in {pause:g} s: {failed['step']}: {failed['reason']}"
            tried = {"step": SLS, "try": retries - left + 1, "tries": retries + 1}
            tell("progress", {**tried, "seconds": round(time.monotonic() - began), "waits_for": waits_for})
            wait_until(lambda: turn.is_asked, Deadline(pause))
    if failed or left:
        tell("failed" if failed else "ready", failed)
    return failed


def seconds_of(stamp: Any) -> float | None:
    """The ``_stamp`` of an event (UTC, by the master's clock) in epoch seconds; ``None`` if it is no time."""
    try:
        moment = datetime.datetime.fromisoformat(stamp)
        return moment.replace(tzinfo=moment.tzinfo or datetime.timezone.utc).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def _unknown(reason: str) -> dict[str, Any]:
    return {"step": "boot", "state": None, "reason": reason}
