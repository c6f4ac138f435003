"""
How a boot went, by what its states returned; and booting one minion from the master (docs/boot.md).
"""

from collections.abc import Iterable, Mapping
from typing import Any

import galaxy_remote

SLS = "galaxy.boot"
# the state that tells the master, formulas/galaxy/boot/report.sls
REPORT = "galaxy-boot-report"


def failure(states: Iterable[Mapping]) -> dict:
    """
    ``step`` (the SLS below ``galaxy``), ``state`` (ID) and ``reason`` of the first state that failed; empty where none
    has.
    """
    failed = [one for one in states if one.get("result") is False and one.get("__run_num__") is not None]
    if not failed:
        return {}
    first = min(failed, key=lambda one: one["__run_num__"])
    step = str(first.get("__sls__", "")).removeprefix("galaxy.")
    return {"step": step, "state": first.get("__id__"), "reason": first.get("comment")}


def boot(client: Any, minion: str, target: str) -> dict:
    """
    Apply ``galaxy.boot`` on a minion, and wait for as long as it is at it.

    client
        Salt's ``LocalClient``
    target
        compound expression of this one minion

    Returns what is to be told in its place (as ``failure``), because it could not tell itself; empty where it did.
    """
    # a minion that starts twice boots twice, one after the other
    answers = client.cmd(target, "state.apply", [SLS], tgt_type="compound", kwarg={"queue": True}, full_return=True)
    answer = galaxy_remote.answer_of(answers, minion)
    if not answer:
        return _unknown(f"{minion} does not answer, or no more")
    returned = answer.get("ret")
    if not isinstance(returned, dict):
        said = "; ".join(map(str, returned)) if isinstance(returned, list) else str(returned)
        return _unknown(f"{SLS} could not be applied: {said}")
    states = [one for one in returned.values() if isinstance(one, dict)]
    if any(one.get("__id__") == REPORT and one.get("result") for one in states):
        return {}
    return failure(states) or _unknown(f"{SLS} ended without its report")


def _unknown(reason: str) -> dict:
    return {"step": "boot", "state": None, "reason": reason}
