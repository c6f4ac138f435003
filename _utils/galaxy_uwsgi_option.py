"""
One option of uWSGI: its value as a number or in a sum, and what of it may be shown.
"""

import os
from collections.abc import Mapping

from galaxy_errors import ConfigError
from galaxy_host_pattern import Pattern
from galaxy_uwsgi_file import UNKNOWN

# limit of one value, in characters
MAX_VALUE = 1 << 16
_INTEGER = Pattern(r"\s*([+-]?)0*(\d*)")


class Option:
    """
    An option as uWSGI has it.

    value
        as far as it could be resolved; ``None`` for an option without a value
    path, line
        the file in which it is, and the line; or whose command line it is, and 0
    secret
        it holds something of an environment, or of a file that is no configuration. This may be a secret, so nothing
        may quote it
    problem
        why only uWSGI itself can tell whether it has the option; ``None`` if it has it
    """

    __slots__ = ("in_effect", "key", "line", "path", "problem", "secret", "value")

    def __init__(self, key: str, value: str | None, path: str, line: int):
        self.key = key
        self.value = value
        self.path = path
        self.line = line
        self.secret = self.in_effect = False
        self.problem: str | None = None

    @property
    def source(self) -> str:
        """Where it comes from: ``file:line``, or whose command line it is."""
        return f"{self.path}:{self.line}" if self.line else self.path


def leading_int(text: str) -> int:
    """The number at the beginning of a text, like C's atoi: 0 if there is none."""
    match = _INTEGER.match(text)
    sign, digits = match.groups() if match else ("", "")
    number = int(digits or 0) if len(digits) < 20 else 1 << 63
    return -number if sign == "-" else number


def is_private(value: str) -> bool:
    """
    Whether a variable's value may be a secret. Only paths of this machine's directories, and paths in them, are not.
    """
    directory = os.path.dirname(value)
    return not (value.startswith("/") and (os.path.isdir(value) or (directory != "/" and os.path.isdir(directory))))


def shown(option: Option) -> str:
    """The option for a message. A value from an environment is not shown, and a long one is cut."""
    if option.secret:
        return f"{option.key} (its value comes from an environment or a file)"
    value = (option.value or "").replace(UNKNOWN, "%")
    return f"{option.key} = {value if len(value) <= 100 else f'{value[:100]}…'!r}"


def evaluate(expression: str, options: Mapping[str, Option], source: str) -> tuple[str | None, bool]:
    """
    What stands for ``%(name)``, or for uWSGI's sums from left to right such as ``%(name + 1)``; and whether this holds
    something secret. ``None`` if no option has the name.

    Raises ``ConfigError``, which names ``source``, if it becomes too long.
    """
    if " " not in expression:
        one = options.get(expression)
        return (one.value, one.secret) if one else (None, False)
    result, operator, secret = "", "", False
    for part in filter(None, expression.split(" ")):
        if part in ("+", "-", "*", "/"):
            operator = part
            continue
        if part in ("++", "--"):
            result, operator = str(_wrap(leading_int(result) + (1 if part == "++" else -1))), ""
            continue
        one = None if part.isdecimal() else options.get(part)
        secret = secret or bool(one and one.secret)
        value = part if part.isdecimal() else (one.value or "") if one else ""
        result = _calculate(result, operator, value) if operator else result + value
        operator = ""
        if len(result) > MAX_VALUE:
            raise ConfigError(f"{source}: its placeholders make it longer than {MAX_VALUE} characters")
    return result, secret


def _calculate(left: str, operator: str, right: str) -> str:
    one, other = leading_int(left), leading_int(right)
    if operator == "/":
        quotient = abs(one) // abs(other) if other else 0
        return str(quotient if (one < 0) == (other < 0) else -quotient)
    return str(_wrap(one + other if operator == "+" else one - other if operator == "-" else one * other))


def _wrap(number: int) -> int:
    """The number as C's 64-bit integer."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)
