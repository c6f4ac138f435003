"""
A real master, and many simulated machines: their keys, their data, the events that they send, their answers.

The machines speak on the master's event bus. So the cost of a thousand network connections is not measured.
"""

import contextlib
import heapq
import itertools
import json
import os
import pathlib
import signal
import subprocess
import threading
import time

import psutil
import salt.cache
import salt.config
import salt.utils.event

from galaxy_host_wait import Deadline, wait_until

from .site import BIN, REPO, free_port

_GRAINS = {"os": "Debian", **{f"grain{number}": "x" * 40 for number in range(80)}}
# what a boot returns, with as much text as real states have
_STATES = {
    f"galaxy_|-state{number}_|-state{number}_|-running": {
        **{"__id__": f"state{number}", "__run_num__": number, "__sls__": "galaxy.boot", "result": True, "changes": {}},
        "comment": "x" * 500,
    }
    for number in range(15)
}


class Swarm:
    """
    ``count`` machines with Galaxy's role, and their master, below ``root``.

    threads
        ``reactor_worker_threads``
    boot
        seconds that a job takes
    """

    def __init__(self, root, count, threads, boot):
        self.root, self.boot = pathlib.Path(root), boot
        self.names = [f"galaxy-{number:04}" for number in range(count)]
        reactor = REPO / "formulas/galaxy/reactor"
        config = {
            **{"root_dir": str(root), "interface": "127.0.0.1", "user": "root", "log_level": "error"},
            **{"publish_port": free_port(), "ret_port": free_port(), "reactor_worker_threads": threads},
            **{"runner_dirs": [str(REPO / "_runners")], "utils_dirs": [str(REPO / "_utils")]},
            "reactor": [
                {"salt/minion/*/start": [str(reactor / "boot.sls")]},
                {"salt/beacon/*/galaxy/stuck": [str(reactor / "stuck.sls")]},
            ],
        }
        (self.root / "master").write_text(json.dumps(config))
        self.opts = salt.config.master_config(str(self.root / "master"))
        self._introduce()
        # how many jobs of each machine are under way; the most at a time, of one machine and of all
        self.under_way = dict.fromkeys(self.names, 0)
        self.most_of_one = self.most_at_a_time = 0
        # by the end of the tag: the machines that such events named, in their order
        self.told = {"ready": [], "failed": []}
        self.jobs, self.runs_begun, self.runs_ended = [], 0, 0

    def _introduce(self):
        """Write accepted keys, and the data about minions that a master keeps."""
        keys, cache = pathlib.Path(self.opts["pki_dir"]) / "minions", salt.cache.factory(self.opts)
        keys.mkdir(parents=True)
        pillar = {"galaxy": {"boot": {"enabled": True}}}
        for name in self.names:
            (keys / name).write_text("simulated")
            # the first two calls are for Salt 3008, the last one for older releases
            cache.store("grains", name, _GRAINS)
            cache.store("pillar", name, pillar)
            cache.store(f"minions/{name}", "data", {"grains": _GRAINS, "pillar": pillar})

    @contextlib.contextmanager
    def running(self):
        """The master and the machines run while the context is entered."""
        with (self.root / "log").open("wb") as log:
            argv = [BIN / "salt-master", "-c", self.root]
            self.master = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
        ended = threading.Event()
        thread = threading.Thread(target=self._live, args=(ended,))
        thread.start()
        try:
            # up means that its reactor answers
            assert wait_until(self._is_up, Deadline(300), 1.0), (self.root / "log").read_text()
            yield
        finally:
            ended.set()
            thread.join()
            for process in self.processes():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
            self.master.wait()

    def processes(self):
        """The master's processes."""
        main = psutil.Process(self.master.pid)
        return [main, *main.children(recursive=True)]

    def fire(self, *events):
        """Send events as minions do, all at once; each is ``(tag, ID)``."""
        with salt.utils.event.get_master_event(self.opts, self.opts["sock_dir"], listen=False) as bus:
            for tag, name in events:
                bus.fire_event({"id": name}, tag)

    def _is_up(self):
        before = self.runs_ended
        with contextlib.suppress(Exception):
            # no such machine is in the swarm, so the runner ends at once
            self.fire(("salt/minion/nobody/start", "nobody"))
        return wait_until(lambda: self.runs_ended > before, Deadline(2))

    def _live(self, ended):
        due, number = [], itertools.count()
        wait_until(lambda: os.path.exists(os.path.join(self.opts["sock_dir"], "master_event_pull.ipc")), Deadline(300))
        with salt.utils.event.get_master_event(self.opts, self.opts["sock_dir"], listen=True) as bus:
            while not ended.is_set():
                event = bus.get_event(wait=0.05, full=True)
                if event:
                    for name, after, load in self._heard(event["tag"], event["data"]):
                        heapq.heappush(due, (time.monotonic() + after, next(number), name, load))
                while due and due[0][0] <= time.monotonic():
                    _, _, name, load = heapq.heappop(due)
                    if load["fun"] == "state.apply":
                        self.under_way[name] -= 1
                    bus.fire_event(load, f"salt/job/{load['jid']}/ret/{name}")

    def _heard(self, tag, data):
        """The machines' answers to an event, and after how many seconds each comes."""
        words = tag.split("/")
        if words[:2] == ["salt", "run"]:
            self.runs_begun += words[-1] == "new"
            self.runs_ended += words[-1] == "ret"
        elif words[0] == "galaxy" and words[-1] in self.told:
            self.told[words[-1]].append(words[1])
        elif words[:2] == ["salt", "job"] and words[-1] == "new":
            return [self._answer(name, data) for name in data["minions"] if name in self.under_way]
        return []

    def _answer(self, name, job):
        load = {"id": name, "jid": job["jid"], "fun": job["fun"], "fun_args": job["arg"], "cmd": "_return"}
        load.update(retcode=0, success=True)
        if job["fun"] == "saltutil.find_job":
            return name, 0, {**load, "return": {"jid": job["arg"][0]} if self.under_way[name] else {}}
        self.jobs.append(name)
        self.under_way[name] += 1
        self.most_of_one = max(self.most_of_one, self.under_way[name])
        self.most_at_a_time = max(self.most_at_a_time, sum(self.under_way.values()))
        return name, self.boot, {**load, "return": _STATES}
