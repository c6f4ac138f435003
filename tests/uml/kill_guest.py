"""
The guest's side of the kill test: ``kill_guest.py JOB``, a JSON object of

``device, version, mapper, mount_point, backups``
    the volume
``files``
    number from which the known files are made
``do``
    ``encrypt``: begin, and be killed. ``converge``: run again, check everything, write the known files where there are
    none, and close

Before each external command it writes its name to the console, so that the host knows where it is.
"""

import hashlib
import json
import os
import pathlib
import random
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "_utils"))

import galaxy_host_command
import luks_device
import luks_encrypt
import luks_header
import luks_mapping
from galaxy_host_secret import Secret

KEY = Secret("the key of the kill test")


def announce_commands():
    run, console = galaxy_host_command.run, os.open("/dev/console", os.O_WRONLY)

    def announced(argv, **kwargs):
        os.write(console, f"@{argv[1] if argv[0] == 'cryptsetup' else argv[0]}\n".encode())
        return run(argv, **kwargs)

    galaxy_host_command.run = announced


def plan_of(job):
    luks = luks_header.Options(version=job["version"], pbkdf="pbkdf2" if job["version"] == 2 else None, iterations=1000)
    fields = ("device", "mapper", "mount_point", "backups")
    return luks_encrypt.Plan(**{name: job[name] for name in fields}, luks=luks, may_format=True)


def known_files(number):
    """The content that each file must have, by name."""
    source = random.Random(number)
    return {f"file{size}": source.randbytes(size) for size in (0, 1, 4096, 100_000, 1_500_000)}


def write_files(root, number):
    for name, data in known_files(number).items():
        with open(os.path.join(root, name), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    luks_device.sync(root)


def check_files(root, number):
    for name, data in known_files(number).items():
        found = pathlib.Path(root, name).read_bytes()
        assert hashlib.sha256(found).digest() == hashlib.sha256(data).digest(), f"{name} differs"


def converge(job):
    plan = plan_of(job)
    steps = luks_encrypt.run(plan, KEY)
    assert luks_encrypt.remaining(plan) == [], "the second run would do something"
    found = set(os.listdir(job["mount_point"])) - {"lost+found"}
    if job["holds_data"]:
        assert "format" not in steps, steps
        check_files(job["mount_point"], job["files"])
    else:
        assert not found, found
        write_files(job["mount_point"], job["files"])
    luks_mapping.close_volume(job["mapper"])
    luks_mapping.open_volume(luks_device.find(job["device"]), job["mapper"], KEY)
    subprocess.run(["e2fsck", "-f", "-n", f"/dev/mapper/{job['mapper']}"], check=True)
    luks_mapping.close_volume(job["mapper"])
    return steps


def main():
    job = json.loads(sys.argv[1])
    if job["do"] == "converge":
        print(json.dumps(converge(job)))
        return
    announce_commands()
    luks_encrypt.run(plan_of(job), KEY)


main()
