"""
Check the arguments of execution functions. Each check returns the value in its type, or raises an error that says what
to give instead.
"""

import os
from typing import Any

from salt.exceptions import SaltInvocationError

# a larger number is a mistake, and a clock cannot wait for it
MAX_NUMBER = 10**9


def seconds(name: str, value: Any, allow_zero: bool = False) -> float:
    """A number of seconds above 0; with ``allow_zero`` also 0. A text of digits is taken as a number."""
    try:
        number = -1.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if not 0 <= number <= MAX_NUMBER or (number == 0 and not allow_zero):
        least = "0 or more" if allow_zero else "more than 0"
        raise SaltInvocationError(f"{name} is {value!r}; give a number of seconds, {least}")
    return number


def count(name: str, value: object) -> int:
    """A whole number, 0 or more. A text of digits is taken as a number."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 11:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_NUMBER:
        raise SaltInvocationError(f"{name} is {value!r}; give a whole number, 0 or more")
    return value


def text(name: str, value: object) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise SaltInvocationError(f"{name} is {value!r}; give a text")
    return value


def flag(name: str, value: object) -> bool:
    """``True`` or ``False``; a text such as ``"true"`` is refused."""
    if not isinstance(value, bool):
        raise SaltInvocationError(f"{name} is {value!r}; give True or False")
    return value


def absolute(name: str, value: object) -> str:
    """An absolute path, normalised."""
    if not isinstance(value, str) or not os.path.isabs(value) or "\0" in value:
        raise SaltInvocationError(f"{name} is {value!r}; give an absolute path")
    return os.path.normpath(value)


def listed(name: str, value: object) -> tuple[str, ...]:
    """A list of texts. One text is split at its commas."""
    values: object = value.split(",") if isinstance(value, str) else value
    if not isinstance(values, (list, tuple)):
        raise SaltInvocationError(f"{name} is {value!r}; give a list")
    return tuple(map(str, values))


def paths(name: str, value: object) -> tuple[str, ...]:
    """A list of absolute paths. One text is one path."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, (list, tuple)):
        raise SaltInvocationError(f"{name} is {value!r}; give a list of absolute paths")
    return tuple(absolute(name, each) for each in values)
