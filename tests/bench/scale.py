"""
``make scale``: a thousand machines start after one power cut, and a thousand beacons cry for help (docs/boot.md).

The master, its reactor and our runners are real. The machines are simulated (``support/swarm.py``).
"""

import argparse
import contextlib
import os
import pathlib
import sys
import tempfile
import threading
import time

import psutil

_TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(_TESTS.parent / "_utils"), str(_TESTS)]

from support.swarm import Swarm  # noqa: E402

from galaxy_host_wait import Deadline, wait_until  # noqa: E402

KINDS = {"boots": "salt/minion/{}/start", "beacons": "salt/beacon/{}/galaxy/stuck"}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--machines", type=int, default=1000)
    parser.add_argument("--threads", type=int, nargs="+", default=[10, 50, 100, 200])
    parser.add_argument("--boot", type=float, default=10.0, help="seconds that each takes")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    given = parser.parse_args()
    print(f"{os.cpu_count()} cores, {psutil.virtual_memory().total >> 30} GiB; load {os.getloadavg()[0]:.1f}")
    print(f"{given.machines} machines, {given.boot:g} s each", flush=True)
    headings = ("", "threads", "all are told after", "no sooner than", "waiting at most", "at a time", "tried again")
    print(*headings, "CPU", "memory", sep=" | ")
    for kind in given.kinds:
        for threads in given.threads:
            found = _measured(kind, given.machines, threads, given.boot)
            least = given.machines / min(threads, given.machines) * given.boot
            figures = (f"{found['seconds']:.0f} s", f"{least:.0f} s", found["waiting"], found["at a time"])
            cost = (found["again"], f"{found['cpu']:.0f} s", f"{found['before']:.0f} to {found['most']:.0f} MiB")
            print(kind, threads, *figures, *cost, sep=" | ", flush=True)


def _measured(kind, machines, threads, boot):
    with tempfile.TemporaryDirectory(prefix="galaxy-scale-") as directory:
        swarm = Swarm(directory, machines, threads, boot)
        with swarm.running():
            before, cpu, runs = _memory(swarm), _cpu(swarm), swarm.runs_ended
            most, waiting, ended = [before], [0], threading.Event()

            def watch():
                while not ended.wait(1):
                    most.append(_memory(swarm))
                    waiting.append(machines - (swarm.runs_begun - runs))

            watcher = threading.Thread(target=watch)
            watcher.start()
            began = time.monotonic()
            swarm.fire(*((KINDS[kind].format(name), name) for name in swarm.names))
            wait_until(lambda: swarm.runs_ended - runs >= machines, Deadline(3600), 0.2)
            seconds = time.monotonic() - began
            ended.set()
            watcher.join()
            # no machine is lost, told of twice, or boots twice at a time. If the master gave a machine up, it was tried
            # again
            assert sorted(set(swarm.jobs)) == swarm.names, f"{len(swarm.jobs)} jobs"
            assert kind != "boots" or sorted(swarm.told["ready"]) == swarm.names, swarm.told["failed"]
            assert swarm.most_of_one == 1
            return {
                **{"seconds": seconds, "waiting": max(waiting), "at a time": swarm.most_at_a_time},
                "again": len(swarm.jobs) - machines,
                **{"cpu": _cpu(swarm) - cpu, "before": before, "most": max(most)},
            }


def _memory(swarm):
    """MiB of all processes. Memory that they share counts once."""
    return sum(_of_each(swarm, lambda process: process.memory_full_info().pss)) / (1 << 20)


def _cpu(swarm):
    return sum(_of_each(swarm, lambda process: sum(process.cpu_times()[:2])))


def _of_each(swarm, figure):
    for process in swarm.processes():
        # the master starts and ends some processes by itself
        with contextlib.suppress(psutil.NoSuchProcess):
            yield figure(process)


if __name__ == "__main__":
    main()
