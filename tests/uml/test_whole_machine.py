"""
A whole machine without a master: systemd is PID 1, and Galaxy's data is on a LUKS volume. After a boot nobody does
anything: ``salt-galaxy-boot.service`` brings Galaxy back.
"""

import functools
import os
import sys

import masterless
import pytest
from masterless import KEY_FILE, SALT_CALL, STORAGE, run
from support.site import UWSGI, Site

from galaxy_host_wait import Deadline, wait_until

FETCH = """
import socket, sys
with socket.create_connection(sys.argv[1:3], timeout=60) as connection:
    connection.sendall(f"GET {sys.argv[3]} HTTP/1.0\\r\\n\\r\\n".encode())
    sys.stdout.buffer.write(connection.makefile("rb").read())
"""
salt_call = functools.partial(masterless.salt_call, config_dir="/etc/salt")
apply = functools.partial(masterless.apply, config_dir="/etc/salt")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def site(root):
    """Galaxy, at the same path in the guest. The files that it serves below ``/data`` are on the volume."""
    return Site(root / "galaxy", static_map="/data=/export/database")


@pytest.fixture(scope="module")
def machine(root, site, tree):
    galaxy = {
        **{"config": str(site.config), "root": str(site.root), "uwsgi": UWSGI, "user": "root", "group": "root"},
        **{"manager": "systemd", "manage_service": True, "log": str(site.log), "timeout": 120, "retries": 0},
        **{"storage": STORAGE, "boot": {"salt_call": SALT_CALL}},
    }
    with masterless.whole_machine(root, tree, galaxy) as found:
        (found.share / "file").write_bytes(os.urandom(100_000))
        yield found


@pytest.fixture(scope="module")
def made(machine):
    """The changes by state ID of the one ``state.apply`` that makes the machine. Then the file is on the volume."""
    assert salt_call(machine, "saltutil.sync_all")[0] == 0
    changes = apply(machine, "galaxy,galaxy.boot.unit")
    run(machine, "cp", "/run/share/file", "/export/database")
    return changes


def wait_for_boot(machine):
    """Wait until no job of the boot is left. Returns systemd's word for how the boot went."""
    return machine.run("systemctl", "is-system-running", "--wait")[1].strip()


def show(machine, unit, *properties):
    lines = run(machine, "systemctl", "show", f"--property={','.join(properties)}", unit).splitlines()
    found = dict(line.split("=", 1) for line in lines)
    return [found[name] for name in properties]


def assert_it_serves_the_volume(machine, site):
    """Galaxy answers over HTTP with the file on the volume, byte for byte, and the volume is open as LUKS."""
    run(machine, sys.executable, "-c", FETCH, *site.http.split(":"), "/data/file")
    body = (machine.share / "output").read_bytes().partition(b"\r\n\r\n")[2]
    assert body == (machine.share / "file").read_bytes()
    found = run(machine, "cryptsetup", "status", "galaxy")
    assert "type:    LUKS2" in found
    assert "device:  /dev/ubdb" in found
    assert run(machine, "findmnt", "-no", "SOURCE", "/export").strip() == "/dev/mapper/galaxy"


def test_state_apply_makes_it(machine, made, site):
    assert list(made["galaxy-storage-volume-mounted"]) == ["format", "mkfs", "header_backup", "open", "mount"]
    assert made["galaxy-boot-unit-enabled"] == {"salt-galaxy-boot": True}
    assert_it_serves_the_volume(machine, site)


def test_after_a_reboot_it_is_back_unattended(machine, made, site):
    boot = run(machine, "cat", "/proc/sys/kernel/random/boot_id")
    machine.reboot()
    assert wait_for_boot(machine) == "running"
    assert run(machine, "cat", "/proc/sys/kernel/random/boot_id") != boot
    assert show(machine, "salt-galaxy-boot", "ActiveState", "Result", "ExecMainStatus") == ["active", "success", "0"]
    assert_it_serves_the_volume(machine, site)
    # systemd alone would not start it, and it did not start before its data was mounted
    assert show(machine, "galaxy", "UnitFileState") == ["disabled"]
    (mounted,) = show(machine, "export.mount", "ActiveEnterTimestampMonotonic")
    (started,) = show(machine, "galaxy", "InactiveExitTimestampMonotonic")
    assert 0 < int(mounted) < int(started)
    assert apply(machine, "galaxy.boot") == {}
    status = salt_call(machine, "galaxy.status")[1]
    assert (status["ready"], status["problems"]) == (True, [])


@pytest.mark.slow
def test_a_disk_that_is_attached_late_is_waited_for(machine, made, site):
    """The disk comes after the boot has looked for it. Nobody does anything else."""
    disks = machine.disks
    run(machine, "sync")
    machine.kill()
    machine.disks = ()
    machine.boot()
    waits = ["grep", "--quiet", "ubdb is not there yet; waiting up to 120 s", "/var/log/salt/minion"]
    assert wait_until(lambda: machine.run(*waits)[0] == 0, Deadline(300), 2)
    assert show(machine, "salt-galaxy-boot", "ActiveState") == ["activating"]
    assert show(machine, "galaxy", "ActiveState") == ["inactive"]
    machine.plug("b", *disks)
    machine.disks = disks
    assert wait_until(lambda: show(machine, "salt-galaxy-boot", "ActiveState") == ["active"], Deadline(300), 2)
    assert show(machine, "salt-galaxy-boot", "NRestarts") == ["0"]
    assert_it_serves_the_volume(machine, site)


@pytest.mark.slow
def test_after_a_power_cut_without_the_key_it_stays_down_and_says_why(machine, made, site):
    run(machine, "mv", KEY_FILE, "/root/key")
    run(machine, "sync")
    machine.kill()
    machine.boot()
    wait_for_boot(machine)
    assert wait_until(lambda: show(machine, "salt-galaxy-boot", "SubState") == ["auto-restart"], Deadline(180), 2)
    assert show(machine, "salt-galaxy-boot", "ActiveState", "Result") == ["activating", "exit-code"]
    # when the next run is due, `systemctl status` does not show the last one
    said = run(machine, "journalctl", "--boot", "--unit=salt-galaxy-boot")
    assert f"{KEY_FILE}: key file cannot be read: No such file or directory" in said
    assert "No master got the event galaxy/whole/failed." in said
    assert show(machine, "galaxy", "ActiveState") == ["inactive"]
    assert machine.run("cryptsetup", "status", "galaxy")[0] != 0
    # it cannot be started by hand either
    assert machine.run("systemctl", "start", "galaxy")[0] != 0
    run(machine, "mv", "/root/key", KEY_FILE)
    # nobody does anything: the boot is tried again
    assert wait_until(lambda: show(machine, "salt-galaxy-boot", "ActiveState") == ["active"], Deadline(300), 2)
    assert_it_serves_the_volume(machine, site)


def test_clean_undoes_the_unit_and_leaves_galaxy(machine, made, site):
    apply(machine, "galaxy.boot.clean")
    assert show(machine, "salt-galaxy-boot", "LoadState", "ActiveState") == ["not-found", "inactive"]
    assert_it_serves_the_volume(machine, site)
