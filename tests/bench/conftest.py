"""Benchmarks: figures as ratios, measured in the same run as their peer, printed as a table. They assert nothing."""

import gc
import logging
import os

import pytest
from support.fleet import galaxies, master, minions, salt_cli  # noqa: F401
from support.loader import minion_config, modules, opts  # noqa: F401

# a minion writes bytecode; a machine that runs tests may have forbidden this
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

_ROWS = []


@pytest.fixture(autouse=True)
def log_level(caplog):
    """The minion's log level. By itself, Salt's library lets every record through, and pytest formats each one."""
    with caplog.at_level(logging.WARNING):
        yield


@pytest.fixture(autouse=True)
def garbage():
    """What the benchmarks before it left behind is none of the garbage through which Python looks meanwhile."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def row():
    """
    ``row(work, figure, bound, ok)``: a line of the table. ``figure`` and ``bound`` are texts; ``ok``: the bound is
    reached.
    """

    def add(work, figure, bound, ok):
        _ROWS.append((work, figure, bound, "yes" if ok else "NO"))

    return add


def pytest_terminal_summary(terminalreporter):
    if not _ROWS:
        return
    table = [("work", "measured", "must reach", "reached"), *_ROWS]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    terminalreporter.write_line("")
    for line in table:
        terminalreporter.write_line("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
