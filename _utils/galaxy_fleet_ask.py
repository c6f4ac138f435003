"""
Ask the Galaxies of many minions once. A minion that has not answered in time is silent.
"""

import contextlib
import io
import math
from collections.abc import Mapping
from typing import Any

from salt.exceptions import SaltInvocationError

import galaxy_fleet
from galaxy_host_wait import Deadline

# a minion may spend this part of the timeout on the answer of one web server, and at most so many seconds
_SHARE, _LONGEST = 0.25, 5.0
# what Salt raises on Ctrl-C while it waits for an event
_INTERRUPT = "salt/event/exit"


def ask(client: Any, target: Any, target_type: str, timeout: float) -> dict[str, Any]:
    """
    Ask all minions of a target at once.

    client
        Salt's ``LocalClient``
    timeout
        seconds to wait for answers

    Returns what ``galaxy_fleet.fleet`` returns. Raises ``SaltInvocationError`` if the target matches no minion. If the
    master cannot be asked, Salt's own error passes.
    """
    deadline = Deadline(timeout)
    job, expected = _publish(client, target, target_type, deadline)
    answers: dict[str, list[dict[str, Any]]] = {}
    while len(answers) < len(expected):
        # 0 would mean to wait for ever
        event = client.event.get_event(wait=max(deadline.left, 0.01), tag=f"salt/job/{job}/ret/", full=True)
        if event and event["tag"] == _INTERRUPT:
            raise KeyboardInterrupt
        if event:
            _take(answers, event.get("data"), expected)
        elif deadline.passed:
            break
    return galaxy_fleet.fleet(answers, expected - set(answers))


def _publish(client: Any, target: Any, target_type: str, deadline: Deadline) -> tuple[str, set[str]]:
    """The ID of the job, and the minions from which the master expects an answer."""
    keywords = {"server": "*", "timeout": min(_LONGEST, deadline.seconds * _SHARE)}
    said = io.StringIO()
    # Salt prints that no minion matches
    with contextlib.redirect_stdout(said):
        published = client.run_job(
            target,
            "galaxy.status",
            tgt_type=target_type,
            kwarg=keywords,
            timeout=math.ceil(deadline.seconds),
            listen=True,
        )
    if not published:
        raise SaltInvocationError(" ".join(said.getvalue().split()) or f"no minion matches {target!r}")
    return published["jid"], set(published["minions"])


def _take(answers: dict[str, list[dict[str, Any]]], data: Any, expected: set[str]) -> None:
    if isinstance(data, Mapping) and "return" in data:
        minion = data.get("id")
        # the first answer counts, as for Salt
        if isinstance(minion, str) and minion in expected and minion not in answers:
            answers[minion] = galaxy_fleet.rows(minion, data["return"])
