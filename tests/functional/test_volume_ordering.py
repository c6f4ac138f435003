"""
A service with data on a volume never starts without the volume, and stops before the volume goes. A real systemd shuts
down here, with a mount that it takes for a network mount.
"""

import os

import pytest
from support.nspawn import machines, shares

import galaxy_definition
from galaxy_host_wait import Deadline, wait_until

MOUNT = "/srv/data"
UNITS = "/etc/systemd/system"
# writes to the volume when it ends: long after the volume is gone, unless the unmount waits for it
PROGRAM = f"""#!/bin/sh
trap 'sleep ${{3:-1}}; echo saved >{MOUNT}/$2.saved; exit 0' INT TERM
touch {MOUNT}/$2.started
while :; do sleep 0.2; done
"""
# the lines that a drop-in adds to another program's unit
DROP_IN = f"[Unit]\nRequiresMountsFor={MOUNT}\nAssertPathIsMountPoint={MOUNT}\n"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers need root")


@pytest.fixture
def share():
    yield from shares()


@pytest.fixture
def machine(share):
    yield from machines("ordering", share)


def test_it_stops_before_its_volume_goes(machine, share):
    program = share / "program"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    settings = {"uwsgi": str(program), "config": "/formula", "root": "/", "user": "root", "group": "root"}
    units = galaxy_definition.systemd_unit({**settings, "service": "formula", "mounts": [MOUNT]})
    (text,) = (file.content for file in units.values() if file)
    bare = f"[Service]\nExecStart={program} --yaml /%p\nKillMode=mixed\n"
    merged = machine.root / "merged"
    written = {"formula.service": text, "foreign.service": bare, "foreign.service.d/data.conf": DROP_IN}
    later = bare.replace("/%p", "/%p 5")
    for name, content in {**written, "bare.service": later}.items():
        path = merged / UNITS.lstrip("/") / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    machine.run("systemctl", "daemon-reload")
    machine.run("mkdir", MOUNT)
    for name in ("formula", "foreign"):
        assert machine.run("systemctl", "start", name, check=False).returncode != 0
    (share / "volume").mkdir()
    machine.run("mount", "-o", "bind,_netdev", share / "volume", MOUNT)

    def is_of_the_network():
        return "remote-fs.target" in machine.run("systemctl", "show", "--property=Before", "srv-data.mount").stdout

    # systemd reads the mount after the kernel has reported it
    assert wait_until(is_of_the_network, Deadline(60))
    for name in ("formula", "foreign", "bare"):
        machine.run("systemctl", "start", name)
        assert wait_until((share / "volume" / f"{name}.started").exists, Deadline(60))
    machine.run("systemctl", "poweroff", check=False)
    assert wait_until(lambda: machine.ended, Deadline(120))
    saved = {name for name in ("formula", "foreign", "bare") if (share / "volume" / f"{name}.saved").exists()}
    # the unit without these lines lost its data, so the others could have lost theirs
    assert saved == {"formula", "foreign"}
