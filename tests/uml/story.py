"""
The guest's side of the kill test and of the lost writes: every operation that writes, called as ``salt-call`` calls it.
And a model of the keys and files that the volume must have, whatever happens within the operation.
"""

import hashlib
import json
import os
import pathlib
import random
import subprocess

import salt.client

REPO = pathlib.Path(__file__).resolve().parents[2]
MAPPER, MOUNT_POINT, BACKUPS, KEYS = "galaxy", "/run/export", "/run/backups", "/run/keys"
MIB = 1 << 20


def sh(*argv, check=True, **kwargs):
    done = subprocess.run(argv, capture_output=True, text=True, check=False, **kwargs)
    assert not check or done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


def caller():
    """``salt-call --local`` in this process, for a minion with its files in /run."""
    config = pathlib.Path("/run/story-minion")
    dirs = {f"{kind}_dirs": [str(REPO / f"_{kind}")] for kind in ("states", "utils")}
    content = {"id": "guest", "file_client": "local", "root_dir": "/run/salt", "module_dirs": [str(REPO / "_modules")]}
    config.write_text(json.dumps({**content, **dirs, "log_level": "quiet"}))
    return salt.client.Caller(c_path=str(config))


class Volume:
    """The volume of a story: its ``device``, LUKS ``version``, number of known ``files``, and how it shall be."""

    def __init__(self, device, version, files):
        self.device, self.version, self.files = device, version, files
        self._call = caller().cmd
        self.reset_keys()

    def reset_keys(self):
        """Write the key files. ``o`` is the old key of ``change_key``, which puts another key in the place of ``a``."""
        os.makedirs(KEYS, mode=0o700, exist_ok=True)
        for name in "abco":
            path = pathlib.Path(KEYS, name)
            path.write_text(f"passphrase {name.replace('o', 'a')}")
            path.chmod(0o600)

    @property
    def key_file(self):
        return pathlib.Path(BACKUPS, f"key-{self.files}")

    @property
    def cheap(self):
        return {"iterations": 1000, **({"pbkdf": "pbkdf2"} if self.version == 2 else {})}

    @property
    def wanted(self):
        return {
            **{"device": self.device, "mapper": MAPPER, "mount_point": MOUNT_POINT, "key": f"{KEYS}/a"},
            **{"backups": BACKUPS, "version": self.version, **self.cheap},
        }

    def call(self, function, *args, **kwargs):
        return self._call(f"luks.{function}", *args, **kwargs)

    def state(self, function, name, **kwargs):
        """The changes of a state, which must succeed."""
        returned = self._call("state.single", f"luks.{function}", name=name, **kwargs)
        assert isinstance(returned, dict), returned
        (result,) = returned.values()
        assert result["result"] is True, f"{function}: {result['comment']}"
        return result["changes"]

    # how operations begin

    def blank(self):
        self.close()
        for path in pathlib.Path(BACKUPS).iterdir():
            sh("rm", "-rf", str(path))
        with open(self.device, "r+b") as device:
            size = device.seek(0, os.SEEK_END)
            device.seek(0)
            for _ in range(size // MIB):
                device.write(bytes(MIB))
            device.flush()
            os.fsync(device.fileno())

    def mounted(self):
        """Make a new volume with the known files, and mount it."""
        self.blank()
        self.call("encrypt", **self.wanted)
        self.write_files()

    def closed(self):
        self.mounted()
        self.close()

    def opened(self):
        self.closed()
        self.call("open", self.device, MAPPER, key=f"{KEYS}/a")

    def with_two_keys(self):
        self.closed()
        self.call("add_key", self.device, new_key=f"{KEYS}/b", key=f"{KEYS}/a", backups=BACKUPS, **self.cheap)

    def without_header(self):
        self.closed()
        with open(self.device, "r+b") as device:
            device.write(bytes(MIB))
            os.fsync(device.fileno())

    def without_backup(self):
        self.closed()
        sh("rm", "-f", *map(str, pathlib.Path(BACKUPS).glob("*.luksheader")))

    def shrunk(self):
        """Mount the volume with a mapping that is smaller than its device allows."""
        self.closed()
        self.call("open", self.device, MAPPER, key=f"{KEYS}/a")
        path = f"/dev/mapper/{MAPPER}"
        sectors = int(sh("blockdev", "--getsz", path))
        sh("e2fsck", "-fy", path)
        sh("resize2fs", path, f"{sectors // 2 - 10 * 1024}K")
        sh("cryptsetup", "resize", MAPPER, f"--size={sectors - 8 * 2048}", f"--key-file={KEYS}/a")
        self.call("encrypt", **self.wanted)

    def check_promise(self, operation, keys, gone):
        status = self.call("status", self.device, backups=BACKUPS)
        assert (status["luks"], status["unfinished"], status["reencrypting"]) == (True, False, False), status
        assert status["leaked_slots"] == [], status
        for name in keys:
            assert self.opens(name), f"key {name} is lost"
        for name in gone:
            assert not self.opens(name), f"key {name} still opens it"
        if operation in BACKED_UP:
            assert status["header_backup"], status
        if operation == "written":
            assert len(self.key_file.read_bytes()) == 128

    # files

    def known_files(self):
        source = random.Random(self.files)
        return {f"file{size}": source.randbytes(size) for size in (0, 1, 4096, 100_000, 1_500_000)}

    def write_files(self):
        for name, data in self.known_files().items():
            with open(f"{MOUNT_POINT}/{name}", "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        sh("sync")

    def check_files(self):
        for name, data in self.known_files().items():
            content = pathlib.Path(MOUNT_POINT, name).read_bytes()
            assert hashlib.sha256(content).digest() == hashlib.sha256(data).digest(), f"{name} differs"

    def close(self):
        for name in [MAPPER, *(path.name for path in pathlib.Path("/dev/mapper").glob("unfinished-*"))]:
            if pathlib.Path("/dev/mapper", name).exists():
                sh("umount", "--all-targets", f"/dev/mapper/{name}", check=False)
                sh("cryptsetup", "close", name)

    def opens(self, name):
        return self.call("test_key", self.device, key=f"{KEYS}/{name}")

    # what must hold after a crash within the operation

    def look(self, holds):
        """Before any repair: no backup's name stands for half a backup, and a look changes nothing."""
        for path in pathlib.Path(BACKUPS).glob("*.luksheader"):
            sh("cryptsetup", "luksUUID", str(path))
        status = self.call("status", self.device, backups=BACKUPS)
        assert status["error"] is None, status
        # while the volume key changes, no single key slot opens the volume
        if holds and status["luks"] and not status["reencrypting"]:
            # a slot that opens nothing must be a known leaked slot
            opened = [number for number in range(8) if any(self._opens_slot(number, name) for name in "abc")]
            dead = {slot["number"] for slot in status["slots"]} - set(opened)
            assert dead <= set(status["leaked_slots"]), (dead, status["leaked_slots"])

    def _opens_slot(self, number, name):
        argv = ["cryptsetup", "open", "--test-passphrase", f"--key-file={KEYS}/{name}", f"--key-slot={number}"]
        return subprocess.run([*argv, self.device], capture_output=True, check=False).returncode == 0

    def boot(self, operation, holds):
        """What a boot does: ``luks.mounted`` with ``encrypt: True``. A volume with data is never formatted."""
        try:
            steps = self.call("encrypt", **self.wanted)
        except Exception as exc:
            assert operation in FOR_A_PERSON, f"not completed: {exc}"
            assert "Traceback" not in str(exc)
            return [type(exc).__name__]
        assert not holds or "format" not in steps, steps
        return steps

    def check(self, operation, done=False):
        """
        Run the operation again. Then everything must be as if there had been no cut. Returns what the boot said or did.
        With ``done``, the operation was over when the power was cut: what it promised is there before any repair.
        """
        begin, act, holds, keys, gone = OPERATIONS[operation]
        self.reset_keys()
        self.look(holds)
        if done:
            self.check_promise(operation, keys, gone)
        # this operation makes no filesystem, and no boot makes one later
        steps = [] if operation == "formatted" else self.boot(operation, holds)
        if begin not in ("mounted", "shrunk"):
            self.close()
        act(self)
        for name in keys:
            assert self.opens(name), f"key {name} is lost"
        for name in gone:
            assert not self.opens(name), f"key {name} still opens it"
        assert self.call("status", self.device, backups=BACKUPS)["leaked_slots"] == []
        again = self.call("encrypt", **self.wanted)
        assert "format" not in again, again
        assert self.call("encrypt", **self.wanted) == []
        if holds:
            self.check_files()
        else:
            assert set(os.listdir(MOUNT_POINT)) <= {"lost+found"}
        self.close()
        sh("cryptsetup", "open", f"--key-file={KEYS}/{keys[0]}", self.device, MAPPER)
        sh("e2fsck", "-fn", f"/dev/mapper/{MAPPER}")
        self.close()
        return steps


def _mounted(volume):
    wanted = {name: value for name, value in volume.wanted.items() if name != "mount_point"}
    volume.state("mounted", MOUNT_POINT, encrypt=True, **wanted)


def _opened(volume):
    volume.state("opened", MAPPER, device=volume.device, key=f"{KEYS}/a")


def _backed_up(volume):
    volume.call("header_backup", volume.device, backups=BACKUPS)


def _formatted(volume):
    volume.state("formatted", volume.device, key=f"{KEYS}/a", backups=BACKUPS, version=volume.version, **volume.cheap)
    volume.call("open", volume.device, MAPPER, key=f"{KEYS}/a")
    if not volume.call("status", volume.device)["filesystem"]:
        sh("mkfs.ext4", "-q", f"/dev/mapper/{MAPPER}")
    volume.close()


def _restored(volume):
    oldest = min(pathlib.Path(BACKUPS).glob("*.luksheader"), key=lambda path: path.stat().st_mtime_ns)
    volume.call("header_restore", volume.device, str(oldest), force=True, backups=BACKUPS)


def _changed(volume):
    keys = {"new_key": f"{KEYS}/c", "key": f"{KEYS}/a"}
    volume.call("change_key", volume.device, **keys, backups=BACKUPS, **volume.cheap)
    # the next boot has the new key
    pathlib.Path(KEYS, "a").write_text("passphrase c")


def _present(volume):
    volume.state("key_present", volume.device, new_key=f"{KEYS}/b", key=f"{KEYS}/a", backups=BACKUPS, **volume.cheap)


def _absent(volume):
    volume.state("key_absent", volume.device, key=f"{KEYS}/b", remaining=f"{KEYS}/a", backups=BACKUPS)


def _written(volume):
    volume.write_files()
    volume.state("key_file", str(volume.key_file))
    assert len(volume.key_file.read_bytes()) == 128


def _reencrypted(volume):
    if volume.version == 2:
        volume.call("reencrypt", volume.device, key=f"{KEYS}/a", backups=BACKUPS, **volume.cheap)


# after a cut within these, the volume may have no header, or a key that the boot lacks; nothing is lost
FOR_A_PERSON = ("header_restore", "header_replaced", "change_key")
# when these end, the header has a backup
BACKED_UP = ("mounted_blank", "formatted", "encrypt", "mounted", "header_backup", "reencrypt")
# by name: the volume before, the operation, whether the volume has the known files, the keys that must open it
# afterwards, and the keys that must not
OPERATIONS = {
    "mounted_blank": ("blank", _mounted, False, "a", ""),
    "formatted": ("blank", _formatted, False, "a", ""),
    "encrypt": ("blank", lambda volume: volume.call("encrypt", **volume.wanted), False, "a", ""),
    "opened": (
        "closed",
        lambda volume: volume.state("opened", MAPPER, device=volume.device, key=f"{KEYS}/a"),
        True,
        "a",
        "",
    ),
    "mounted": ("closed", _mounted, True, "a", ""),
    "closed": ("mounted", lambda volume: volume.state("closed", MAPPER), True, "a", ""),
    "written": ("mounted", _written, True, "a", ""),
    "key_present": ("mounted", _present, True, "ab", ""),
    "key_absent": ("with_two_keys", _absent, True, "a", "b"),
    "change_key": ("closed", _changed, True, "c", "o"),
    "header_backup": (
        "without_backup",
        lambda volume: volume.call("header_backup", volume.device, backups=BACKUPS),
        True,
        "a",
        "",
    ),
    "header_restore": ("without_header", _restored, True, "a", ""),
    # over a good header that has one more key
    "header_replaced": ("with_two_keys", _restored, True, "a", "b"),
    "resized": ("shrunk", lambda volume: volume.state("resized", MAPPER, key=f"{KEYS}/a"), True, "a", ""),
    "reencrypt": ("mounted", _reencrypted, True, "a", ""),
}
