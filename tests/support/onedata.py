"""The stand-in for ``oneclient``: a real FUSE filesystem behind oneclient's options."""

import os
import sys

from .site import REPO

# the only token that the stand-in accepts
TOKEN = "MDAxNWxvY2F00aW9uIG9uZXpvbmU"


def install(directory):
    """Write it into a new directory. Returns a PATH that begins with that directory."""
    directory.mkdir()
    script = directory / "oneclient"
    script.write_text((REPO / "tests/support/oneclient").read_text().replace("#!PYTHON", f"#!{sys.executable}"))
    script.chmod(0o755)
    return f"{directory}:{os.environ['PATH']}"
