"""How the benchmarks measure."""

import os
import statistics
import subprocess
import sys
import time

# less than 1: a part of the rounds, for a short run that only shows that everything can be measured
_SHARE = float(os.environ.get("BENCH_SHARE", "1"))


def rounds(count):
    return max(3, round(count * _SHARE))


def medians(count, clock=time.perf_counter, **functions):
    """The median seconds of each function. They are called by turns, so that the machine is the same for all."""
    times = {name: [] for name in functions}
    for _ in range(rounds(count)):
        for name, function in functions.items():
            before = clock()
            function()
            times[name].append(clock() - before)
    return {name: statistics.median(found) for name, found in times.items()}


def fleet(master, row, what):
    """A row: how much longer ``salt '*' galaxy.status`` takes than ``test.ping``."""
    argv = [sys.executable, str(master.salt_cli().get_script_path()), "-c", str(master.config_dir), "*"]

    def salt(function):
        subprocess.run([*argv, function], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    found = medians(20, status=lambda: salt("galaxy.status"), ping=lambda: salt("test.ping"))
    ratio = found["status"] / found["ping"]
    row(f"salt '*' galaxy.status / salt '*' test.ping{what}", f"{ratio:.2f} x", "<= 1.10 x", ratio <= 1.10)
