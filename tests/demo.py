"""
``make demo``: the real Galaxy under Gravity, and a stand-in for an older Galaxy, on uWSGI under supervisord. Each is
declared, looked at and stopped, as a user would do it. ``--small`` uses a stand-in for the real Galaxy too.

Everything is in temporary directories. Each command is printed when it is run.
"""

import contextlib
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time

_TESTS = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(_TESTS.parent / "_utils"), str(_TESTS)]

from support.balancer import Load, balancer  # noqa: E402
from support.bed import beds  # noqa: E402
from support.masterless import Masterless, copy_tree  # noqa: E402
from support.real_galaxy import real_galaxy  # noqa: E402
from support.site import UWSGI, Site  # noqa: E402
from support.supervisord import Supervisord  # noqa: E402


def main(is_small):
    """Returns if each Galaxy came to serve; else the process fails."""
    with tempfile.TemporaryDirectory(prefix="galaxy-demo-") as directory:
        root = pathlib.Path(directory)
        copy_tree(root / "tree")
        (_small if is_small else _real)(root)
        _uwsgi(root)
    _say("Nothing of it runs any more.")


def _real(root):
    _say("Galaxy 26.1 itself: two gunicorns, Celery and a job handler, with redis and SQLite. Its database is made.")
    with real_galaxy() as galaxy:
        minion = _gravity(root, galaxy)
        _say("A job handler is stopped by a signal. The process manager does not see it:")
        services = minion.call("galaxy.status")["services"]
        (pid,) = services["handler"]["pids"]
        os.kill(pid, signal.SIGSTOP)
        _call(minion, "galaxy.health", "timeout=900", fails=True)
        os.kill(pid, signal.SIGCONT)
        _roll(root, galaxy, minion)
        _call(minion, "state.apply", "galaxy.stopped")


def _small(root):
    _say("A stand-in for Galaxy's application under the real Gravity: two gunicorns, Celery and a job handler.")
    with contextlib.contextmanager(beds)(gunicorns=2, celery=True, handlers=1) as make:
        bed = make()
        minion = _gravity(root, bed)
        bed.open("go")
        _roll(root, bed, minion)
        _call(minion, "state.apply", "galaxy.stopped")


def _gravity(root, galaxy):
    """Declare the Galaxy, and look at it while requests are under way. Returns its minion."""
    minion = Masterless(
        root / "minion", root / "tree", {"config": str(galaxy.config), "timeout": 3600, "min_workers": 2, "retries": 0}
    )
    _call(minion, "saltutil.sync_all")
    _call(minion, "galaxy.update")
    _call(minion, "state.apply", "galaxy")
    _say("Two requests are under way at each gunicorn:")
    held = galaxy.hold(2)
    _call(minion, "galaxy.status")
    _call(minion, "galaxy.busy_workers")
    for one in held:
        one.close()
    return minion


def _roll(root, galaxy, minion):
    _say("One gunicorn after the other is restarted, under a steady load of requests through nginx:")
    with balancer(root / "nginx", galaxy.binds) as port, Load(port) as load:
        _call(minion, "galaxy.restart", "rolling=True")
    _say(f"{load.count} requests meanwhile, {len(load.failed)} of them failed.")


def _uwsgi(root):
    _say("A server laid out like a Galaxy up to 22.01, on a real uWSGI under a real supervisord.")
    site = Site(root / "galaxy", processes=4)
    supervisord = Supervisord(root / "supervisor")
    supervisord.start()
    pillar = {
        **{"config": str(site.config), "manager": "supervisord", "conf_file": str(supervisord.conf_file)},
        **{"manage_service": True, "uwsgi": UWSGI, "root": str(site.root), "user": "root", "log": str(site.log)},
        **{"program_file": str(supervisord.programs / "galaxy.conf")},
    }
    minion = Masterless(root / "uwsgi-minion", root / "tree", pillar)
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


def _say(text):
    print(f"\n{text}", flush=True)


@contextlib.contextmanager
def _progress():
    """Print the seconds every ten seconds, to show that it goes on."""
    ended = threading.Event()

    def run():
        began = time.monotonic()
        while not ended.wait(10):
            print(f"… {time.monotonic() - began:.0f} s", flush=True)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _call(minion, *words, fails=False):
    print(f"\n$ salt-call --local {shlex.join(words)}", flush=True)
    with _progress():
        done = subprocess.run(minion.argv(*words), check=False)
    assert fails or done.returncode == 0, f"{words} failed"


if __name__ == "__main__":
    main("--small" in sys.argv)
