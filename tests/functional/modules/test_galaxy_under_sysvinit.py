"""A SysV init script, run by Salt's own service module. PID 1 of this machine is not systemd."""

import os
import pathlib

import pytest

_SCRIPT = """#!/bin/sh
### BEGIN INIT INFO
# Provides:          {name}
# Required-Start:
# Required-Stop:
# Default-Start:     2 3 4 5
# Default-Stop:      0 1 6
### END INIT INFO
case "$1" in
start) {command} --daemonize {log} ;;
stop) kill -INT "$(cat {pid})" ;;
status) grep -q uwsgi "/proc/$(cat {pid})/cmdline" ;;
esac
"""


@pytest.fixture
def site(make_site):
    if os.path.isdir("/run/systemd/system"):
        pytest.skip("systemd is PID 1 here, and runs the scripts as units")
    found = make_site()
    script = pathlib.Path("/etc/init.d/galaxy-under-test")
    script.write_text(
        _SCRIPT.format(name=script.name, command=" ".join(found.command), log=found.log, pid=found.options["pidfile"])
    )
    script.chmod(0o755)
    yield found
    script.unlink()


def test_detected_started_and_stopped(modules, site):
    commands = modules["galaxy.commands"](**site.keywords)
    assert (commands["manager"], commands["service"]) == ("sysvinit", "galaxy-under-test")
    assert commands["start"] == ["/etc/init.d/galaxy-under-test", "start"]
    done = modules["galaxy.start"](**site.keywords, timeout=180)
    assert (done["changed"], done["ready"], done["manager"]) == (True, True, "sysvinit")
    assert modules["galaxy.status"](**site.keywords)["manager"]["state"] == "running"
    assert not modules["galaxy.start"](**site.keywords)["changed"]
    stopped = modules["galaxy.stop"](**site.keywords)
    assert done["pid"] in stopped["stopped"]
    assert not modules["galaxy.status"](**site.keywords)["running"]
    assert not modules["galaxy.stop"](**site.keywords)["changed"]
