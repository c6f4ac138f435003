"""
Regular expressions that are compiled when they are first used: Salt loads every file anew in each job, and most jobs
need few of them.
"""

import re
from typing import Any

# a type checker takes a Pattern for a regular expression
TYPE_CHECKING = False
if TYPE_CHECKING:
    from re import compile as Pattern  # noqa: N812
else:

    class Pattern:
        """
        As ``re.compile(text, flags)``, later.
        """

        def __init__(self, text: str | bytes, flags: int = 0):
            self._given = text, flags

        def __getattr__(self, name: str) -> Any:
            value = getattr(re.compile(*self._given), name)
            # from now on the value is found without this function
            setattr(self, name, value)
            return value
