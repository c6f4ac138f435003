"""
Build what a state returns: one function for each way to end.
"""

from collections.abc import Mapping
from typing import Any

from salt.exceptions import CommandExecutionError, SaltInvocationError

# execution modules raise these for bad input and for a failure; a state turns them into `result: False`
ERRORS = (CommandExecutionError, SaltInvocationError)


def same(name: str, comment: str) -> dict[str, Any]:
    """All is as declared already."""
    return _ret(name, True, comment, {})


def would(name: str, comment: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Test mode: a run would change this."""
    return _ret(name, None, comment, changes)


def changed(name: str, comment: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """It was changed, and is as declared now."""
    return _ret(name, True, comment, changes)


def failed(name: str, error: Exception | str, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """It is not as declared. ``changes`` were made nevertheless."""
    return _ret(name, False, str(error), changes or {})


def _ret(name: str, result: bool | None, comment: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "result": result, "comment": comment, "changes": dict(changes)}
