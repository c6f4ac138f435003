"""``galaxy.update`` if systemd is PID 1: what runs, what is stopped, what is enabled."""

import json
import sys

import pytest
from support.bed import beds
from support.site import REPO

from galaxy_host_wait import Deadline, wait_until

_SCRIPT = """
import json, sys

sys.path.insert(0, sys.argv[1])
import galaxy_gravity_config
from galaxy_errors import GalaxyError
from galaxy_gravity_update import Update

force = sys.argv[3] == "force"
try:
    update = Update(galaxy_gravity_config.read(sys.argv[2]))
    plan = update.plan()
    update.apply(plan, force)
    print(json.dumps(plan.record(force)))
except GalaxyError as exc:
    print(json.dumps(str(exc)))
"""


@pytest.fixture
def bed(share, machine):
    made = beds(share=share, machine=machine, manager="systemd")
    yield next(made)(handlers=2)
    made.close()


@pytest.fixture
def update(bed, machine):
    """Update the bed in the machine. Returns the plan's record, or the error."""

    def run(force=""):
        done = machine.run(sys.executable, "-c", _SCRIPT, REPO / "_utils", bed.config, force)
        return json.loads(done.stdout)

    return run


def _active(machine):
    lines = machine.run("systemctl", "list-units", "--plain", "--no-legend", "galaxy-*.service").stdout.splitlines()
    return {line.split()[0] for line in lines if line.split()[2] == "active"}


def test_update_under_systemd(bed, machine, update):
    assert update()["changed"] is True
    # systemd knows the units and has enabled them, but nothing is started
    assert machine.run("systemctl", "is-enabled", "galaxy.target").stdout.strip() == "enabled"
    assert _active(machine) == set()
    # Gravity itself finds nothing to do
    assert bed.update().stdout == ""
    machine.run("systemctl", "start", "galaxy.target")
    all_of_it = {"galaxy-gunicorn.service", "galaxy-handler@0.service", "galaxy-handler@1.service"}
    assert wait_until(lambda: _active(machine) == all_of_it, Deadline(60))
    # new units, and changes outside of units, stop nothing
    bed.write(celery={"enable": True, "enable_beat": False})
    assert update()["stopped"] == []
    bed.write(gunicorn=[{"bind": bind} for bind in ("unix:/one", "unix:/two")], handlers={})
    refused = update()
    assert "it would stop or restart galaxy-gunicorn.service, galaxy-handler@0.service, galaxy-handler@1" in refused
    assert _active(machine) == all_of_it
    done = update("force")
    assert set(done["stopped"]) == all_of_it
    assert _active(machine) == set()
    files = machine.run("sh", "-c", "ls /etc/systemd/system | grep galaxy").stdout.split()
    assert set(files) == {"galaxy.target", "galaxy-gunicorn@.service", "galaxy-celery.service"}
    assert bed.update().stdout == ""
    # the target with the old name is removed too, and is not enabled any more
    bed.name = "main"
    bed.write()
    assert any(path.endswith("/galaxy.target") for path in update("force")["removed"])
    targets = machine.run("sh", "-c", "ls /etc/systemd/system/multi-user.target.wants | grep galaxy").stdout.split()
    assert targets == ["galaxy-main.target"]
