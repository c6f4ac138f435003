"""``oneclient`` of the test suite: a real FUSE filesystem behind oneclient's options."""

import os
import sys

from .site import REPO

# the one that it takes
TOKEN = "MDAxNWxvY2F00aW9uIG9uZXpvbmU"


def install(directory):
    """Put it into a new directory; the PATH that has it first."""
    directory.mkdir()
    script = directory / "oneclient"
    script.write_text((REPO / "tests/support/oneclient").read_text().replace("#!PYTHON", f"#!{sys.executable}"))
    script.chmod(0o755)
    return f"{directory}:{os.environ['PATH']}"
