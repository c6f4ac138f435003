"""
Regular expressions that are compiled when they are first used: Salt loads every file anew in each job, and most jobs
need few of them.
"""

import re


class Pattern:
    """
    As ``re.compile(text, flags)``, later.
    """

    def __init__(self, text: str, flags: int = 0):
        self._given = text, flags

    def __getattr__(self, name: str):
        value = getattr(re.compile(*self._given), name)
        # the next use finds it without this function
        setattr(self, name, value)
        return value
