"""One look asks each source once."""

import os
import sys
import threading

import pytest

_events = None


def _hook(event, arguments):
    # the test's other threads do not count
    if _events is not None and threading.current_thread() is threading.main_thread():
        _events.append((event, arguments))


# this stays, because an audit hook cannot be removed
sys.addaudithook(_hook)


@pytest.fixture
def events():
    """The events of Python's audit hooks between ``start`` and ``stop``."""
    global _events

    class Recorder:
        def __enter__(self):
            global _events
            _events = self.all = []
            return self

        def __exit__(self, *_):
            global _events
            _events = None

        def count(self, name, path=None):
            # files are opened by their names within a directory
            def fits(arguments):
                named = arguments[0] if isinstance(arguments[0], (str, bytes)) else ""
                return path is None or bool(named and path.endswith(os.fsdecode(named)))

            return sum(event == name and fits(arguments) for event, arguments in self.all)

    yield Recorder
    _events = None


def test_status_of_a_galaxy_under_supervisord(modules, make_site, supervisord, events):
    site = make_site()
    supervisord.program("galaxy", site.command)
    supervisord.start()
    given = {**site.keywords, "conf_file": str(supervisord.conf_file)}
    modules["galaxy.start"](**given, timeout=180)
    with events() as seen:
        assert modules["galaxy.status"](**given)["ready"]
    # one connection to the stats server, one to supervisord
    assert seen.count("socket.connect") == 2
    assert seen.count("subprocess.Popen") == 0
    assert seen.count("os.listdir", "/proc") + seen.count("os.scandir", "/proc") <= 1
    # opened for its options, and for its time of change
    assert seen.count("open", "galaxy.yml") <= 3


def test_stats_asks_the_stats_server_alone(modules, make_site, events):
    site = make_site().start()
    with events() as seen:
        modules["galaxy.stats"](**site.keywords)
    assert seen.count("socket.connect") == 1
    assert seen.count("os.listdir", "/proc") + seen.count("os.scandir", "/proc") == 0
    assert seen.count("open", "galaxy.yml") == 1
