"""
A whole machine without a master. Its Galaxy runs under Gravity: systemd is PID 1, Galaxy's data is on a LUKS volume,
and after a boot no part of Galaxy starts before the volume is mounted.
"""

import functools

import masterless
import pytest
from masterless import KEY_FILE, SALT_CALL, STORAGE, run
from support.bed import beds, virtualenv

from galaxy_host_wait import Deadline, wait_until

pytestmark = pytest.mark.slow

UNITS = ("galaxy-gunicorn", "galaxy-handler")
salt_call = functools.partial(masterless.salt_call, config_dir="/etc/salt")
apply = functools.partial(masterless.apply, config_dir="/etc/salt")


@pytest.fixture(scope="module")
def bed():
    # made first, because the guest sees only files that exist before its start
    virtualenv("bed")
    makers = beds()
    yield next(makers)(manager="systemd", handlers=1, galaxy={"data_dir": "/export/database"})
    makers.close()


@pytest.fixture(scope="module")
def machine(tmp_path_factory, bed, tree):
    storage = {**STORAGE, "user": bed.user, "group": bed.user}
    galaxy = {
        **{"config": str(bed.config), "gravity_update": True, "timeout": 300, "retries": 0, "storage": storage},
        "boot": {"salt_call": SALT_CALL},
    }
    with masterless.whole_machine(tmp_path_factory.mktemp("gravity"), tree, galaxy) as found:
        yield found


def _show(machine, unit, *properties):
    lines = run(machine, "systemctl", "show", f"--property={','.join(properties)}", unit).splitlines()
    found = dict(line.split("=", 1) for line in lines)
    return [found[name] for name in properties]


def test_volume_update_start_and_boot(machine, bed):
    assert salt_call(machine, "saltutil.sync_all")[0] == 0
    made = apply(machine, "galaxy,galaxy.boot.unit")
    # the states run in this order
    names = [name for name in made if name.startswith(("galaxy-storage-volume", "galaxy-service"))]
    assert names == [
        *("galaxy-storage-volume-mounted", "galaxy-service-updated"),
        *("galaxy-service-running", "galaxy-service-held"),
    ]
    assert set(made["galaxy-service-held"]) == {
        f"/etc/systemd/system/{name}.service.d/salt-galaxy.conf" for name in UNITS
    }
    assert salt_call(machine, "galaxy.status")[1]["ready"] is True
    assert apply(machine, "galaxy,galaxy.boot.unit") == {}
    machine.reboot()
    run(machine, "systemctl", "is-system-running", "--wait")
    status = salt_call(machine, "galaxy.status")[1]
    assert (status["ready"], status["problems"]) == (True, [])
    # no unit started before its data was mounted
    (mounted,) = _show(machine, "export.mount", "ActiveEnterTimestampMonotonic")
    for unit in UNITS:
        (started,) = _show(machine, unit, "InactiveExitTimestampMonotonic")
        assert 0 < int(mounted) < int(started)
    # no unit starts if the volume cannot be opened
    run(machine, "mv", KEY_FILE, "/root/key")
    machine.reboot()
    machine.run("systemctl", "is-system-running", "--wait")
    assert wait_until(lambda: _show(machine, "salt-galaxy-boot", "SubState") == ["auto-restart"], Deadline(300), 2)
    for unit in UNITS:
        assert _show(machine, unit, "ActiveState", "AssertResult") == ["inactive", "no"]
    run(machine, "mv", "/root/key", KEY_FILE)
    run(machine, "systemctl", "restart", "salt-galaxy-boot")
    assert salt_call(machine, "galaxy.status")[1]["ready"] is True
