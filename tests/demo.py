"""
``make demo``: a Galaxy under supervisord, applied and looked at as a user does it, then taken down again.

Everything lies in a temporary directory; the commands are printed as they are run.
"""

import json
import pathlib
import shlex
import subprocess
import sys
import tempfile

_TESTS = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(_TESTS.parent / "_utils"), str(_TESTS)]

from support.site import BIN, REPO, UWSGI, Site  # noqa: E402
from support.supervisord import Supervisord  # noqa: E402


def main():
    """Exit status 0 when Galaxy came to serve."""
    with tempfile.TemporaryDirectory(prefix="galaxy-demo-") as directory:
        root = pathlib.Path(directory)
        site = Site(root / "galaxy", processes=4)
        supervisord = Supervisord(root / "supervisor")
        supervisord.start()
        minion = _minion(root, site, supervisord)
        try:
            _call(minion, "saltutil.sync_all")
            _call(minion, "state.apply", "galaxy")
            site.hold(2)
            _call(minion, "galaxy.status")
            _call(minion, "galaxy.busy_workers", "pids_only=True")
            site.open("go")
            _call(minion, "state.apply", "galaxy.stopped")
        finally:
            supervisord.stop()
            site.stop()


def _minion(root, site, supervisord):
    pillar = {
        **{"config": str(site.config), "manager": "supervisord", "conf_file": str(supervisord.conf_file)},
        **{"manage_service": True, "uwsgi": UWSGI, "root": str(site.root), "user": "root", "log": str(site.log)},
        **{"program_file": str(supervisord.programs / "galaxy.conf")},
    }
    minion = root / "minion"
    (minion / "pillar").mkdir(parents=True)
    (minion / "pillar" / "top.sls").write_text("base:\n  '*':\n    - galaxy\n")
    (minion / "pillar" / "galaxy.sls").write_text(json.dumps({"galaxy": pillar}))
    (minion / "minion").write_text(
        f"root_dir: {minion}\nid: demo\nfile_client: local\n"
        f"file_roots:\n  base:\n    - {REPO}\n    - {REPO / 'formulas'}\n"
        f"pillar_roots:\n  base:\n    - {minion / 'pillar'}\n"
    )
    return minion


def _call(minion, *words):
    print(f"\n$ salt-call --local {shlex.join(words)}", flush=True)
    argv = [BIN / "salt-call", "--local", "-c", minion, "--log-level=error", "--retcode-passthrough", *words]
    subprocess.run(argv, check=True)


if __name__ == "__main__":
    main()
