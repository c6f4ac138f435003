"""How the benchmarks measure."""

import os
import statistics
import time

# a part of the rounds, for a short run that only shows that everything can be measured
_SHARE = float(os.environ.get("BENCH_SHARE", "1"))


def rounds(count):
    return max(3, round(count * _SHARE))


def medians(count, clock=time.perf_counter, **functions):
    """The median seconds of each function, called in turn so that all see the same machine."""
    times = {name: [] for name in functions}
    for _ in range(rounds(count)):
        for name, function in functions.items():
            before = clock()
            function()
            times[name].append(clock() - before)
    return {name: statistics.median(found) for name, found in times.items()}
