"""Minions that use the tree where it lies. All start at once."""

import contextlib
import os
import signal
import subprocess

import psutil
from pytestshellutils.exceptions import FactoryTimeout

from galaxy_host_wait import Deadline, wait_until

from .site import BIN


class Minions:
    """The minions of a master, by ID. The configuration of each gets ``overrides``."""

    def __init__(self, master, tree, names, overrides=None):
        directories = {f"{kind}_dirs": [str(tree / f"_{kind}")] for kind in ("states", "utils")}
        common = {**directories, "module_dirs": [str(tree / "_modules")], "acceptance_wait_time": 1}
        self._directories = {
            name: master.salt_minion_daemon(name, overrides={**common, **(overrides or {})}).config_dir
            for name in names
        }
        self._processes = {}

    def start(self, *names):
        """Start these minions; without names, all."""
        for name in names or self._directories:
            argv = [BIN / "salt-minion", "--config-dir", self._directories[name], "--disable-keepalive"]
            null = subprocess.DEVNULL
            process = subprocess.Popen([*argv, "--log-level=quiet"], stdout=null, stderr=null, start_new_session=True)
            self._processes[name] = process

    def answer(self, client):
        """Wait until each minion answers ``salt '*' test.ping``."""

        def answered():
            # on a busy machine, many new minions need longer than the factory waits
            with contextlib.suppress(FactoryTimeout):
                return set(client.run("test.ping", minion_tgt="*", _timeout=60).data or ()) >= set(self._directories)

        assert wait_until(answered, Deadline(600), interval=0.5)

    def signal(self, name, number):
        """Send a signal to the minion and to all that it started."""
        os.killpg(self._processes[name].pid, number)

    def stop(self, *names):
        for name in names or list(self._processes):
            process = self._processes.pop(name)
            family = psutil.Process(process.pid).children(recursive=True)
            os.killpg(process.pid, signal.SIGKILL)
            for child in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            process.wait()
