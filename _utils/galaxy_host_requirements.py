"""
What this tree needs of the machine that it runs on.
"""

import importlib.util
import sys


def missing() -> str:
    """A sentence on what is missing, and how to get it; empty where all is there."""
    if not sys.platform.startswith("linux"):
        return "Galaxy servers are looked after on Linux only"
    if importlib.util.find_spec("psutil") is None:
        return (
            "Python's psutil is missing for this Salt. Install it with `salt-pip install psutil` (Salt's onedir "
            "packages), `apt-get install python3-psutil` (a distribution's Salt) or `pip install psutil` (a virtualenv)"
        )
    return ""
