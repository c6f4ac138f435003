"""One function on one minion, for the runners that a remote account may call (docs/remote.md)."""

from typing import Any

from salt.exceptions import SaltInvocationError


def call(client: Any, minion: str, function: str, **keywords: Any) -> dict:
    """
    Run it and wait for as long as the minion is at it.

    client
        Salt's ``LocalClient``
    minion
        its ID, never a pattern, so that one call reaches one machine

    Returns ``success`` and ``return``: what the function returned, or the text of what went wrong.
    """
    if not isinstance(minion, str) or not minion:
        raise SaltInvocationError(f"`minion` must be the ID of a minion, not {minion!r}")
    answer = answer_of(client.cmd([minion], function, kwarg=keywords, tgt_type="list", full_return=True), minion)
    if not answer:
        return {"success": False, "return": f"{minion} does not answer; does it run, and is its key accepted?"}
    return {"success": answer.get("retcode") == 0, "return": answer.get("ret")}


def answer_of(answers: Any, minion: str) -> dict | None:
    """What the minion returned, of all that ``LocalClient.cmd`` gives with ``full_return``; ``None``: nothing."""
    answer = answers.get(minion) if isinstance(answers, dict) else None
    return answer if answer and answer.get("out") != "no_return" else None
