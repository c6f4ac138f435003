"""
What a state returns: one builder for each way to end.
"""

from collections.abc import Mapping

from salt.exceptions import CommandExecutionError, SaltInvocationError

# what an execution module raises for bad input and for a failure: a state turns these into `result: False`
ERRORS = (CommandExecutionError, SaltInvocationError)


def same(name: str, comment: str) -> dict:
    """All is as declared."""
    return _ret(name, True, comment, {})


def would(name: str, comment: str, changes: Mapping) -> dict:
    """Test mode: a run would change this."""
    return _ret(name, None, comment, changes)


def changed(name: str, comment: str, changes: Mapping) -> dict:
    """It is as declared now."""
    return _ret(name, True, comment, changes)


def failed(name: str, error: Exception | str, changes: Mapping | None = None) -> dict:
    """It is not as declared; ``changes`` were made all the same."""
    return _ret(name, False, str(error), changes or {})


def _ret(name: str, result: bool | None, comment: str, changes: Mapping) -> dict:
    return {"name": name, "result": result, "comment": comment, "changes": dict(changes)}
