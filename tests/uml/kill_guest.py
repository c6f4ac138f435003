"""
The guest's side of the kill test: ``kill_guest.py JOB``, a JSON object of

``version, files``
    the volume's, on /dev/ubdb. Its header backups are on /dev/ubdc, an ext4
``check``
    the operation in which the power was cut, if any. It is completed, and everything is checked
``begin``
    the next operation, if any, in which the power will be cut. Before each external command and each flush its name is
    written to the console, so that the host knows how far it is

Prints, as JSON, what the guest did about the cut.
"""

import json
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "_utils"))

import story

import galaxy_host_command


def announce():
    run, fsync, console = galaxy_host_command.run, os.fsync, os.open("/dev/console", os.O_WRONLY)

    def announced(argv, **kwargs):
        os.write(console, f"@{argv[1] if argv[0] == 'cryptsetup' else argv[0]}\n".encode())
        return run(argv, **kwargs)

    def flushed(descriptor):
        os.write(console, b"@fsync\n")
        fsync(descriptor)

    galaxy_host_command.run, os.fsync = announced, flushed


def main():
    job = json.loads(sys.argv[1])
    os.makedirs(story.BACKUPS, exist_ok=True)
    if not os.path.ismount(story.BACKUPS):
        story.sh("mount", "/dev/ubdc", story.BACKUPS)
    volume = story.Volume("/dev/ubdb", job["version"], job["files"])
    if job["check"]:
        print(json.dumps(volume.check(job["check"])), flush=True)
    if job["begin"]:
        prepare, act, *_ = story.OPERATIONS[job["begin"]]
        volume.version, volume.files = job["next_version"], job["next_files"]
        volume.reset_keys()
        getattr(volume, prepare)()
        story.sh("sync")
        announce()
        act(volume)


main()
