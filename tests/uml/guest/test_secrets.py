"""
No secret leaks: with every source of a key, at log level trace, through the whole of a volume's life.
"""

import json
import os
import pathlib
import subprocess
import sys
import threading

import pytest
from conftest import BACKUPS, REPO, sh

SALT_CALL = str(pathlib.Path(sys.executable).with_name("salt-call"))
# one for each source; no other text on the machine contains them
SECRETS = {"pillar": "Zw5-pillar-Kq9", "sdb": "Zw5-sdb-Kq9", "file": "Zw5-file-Kq9"}
SDB = """
def get(key, profile=None):
    with open(profile["file"]) as file:
        return file.read()
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A minion's directory; ``sources`` in it has the secrets, and is where they may be."""
    root = tmp_path_factory.mktemp("minion")
    sources = root / "sources"
    for directory in ("sdb", "pillar"):
        (sources / directory).mkdir(parents=True)
    (sources / "sdb/testdb.py").write_text(SDB)
    for name in ("sdb", "file"):
        (sources / f"{name}.secret").write_text(SECRETS[name])
        (sources / f"{name}.secret").chmod(0o600)
    (sources / "pillar/top.sls").write_text("base: {'*': [storage]}")
    (sources / "pillar/storage.sls").write_text(f"storage:\n  passphrase: {SECRETS['pillar']}\n")
    config = {
        "id": "guest",
        "file_client": "local",
        "root_dir": str(root),
        "module_dirs": [str(REPO / "_modules")],
        "states_dirs": [str(REPO / "_states")],
        "utils_dirs": [str(REPO / "_utils")],
        "sdb_dirs": [str(sources / "sdb")],
        "pillar_roots": {"base": [str(sources / "pillar")]},
        "db": {"driver": "testdb", "file": str(sources / "sdb.secret")},
        "log_level_logfile": "trace",
        "log_file": str(root / "minion.log"),
    }
    (root / "minion").write_text(json.dumps(config))
    return root


class Watch:
    """Looks at the command line and environment of every process, again and again."""

    def __init__(self):
        self.seen, self.leaks, self.looks, self._stop = set(), set(), 0, threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._stop.set()
        self._thread.join()

    def _look(self):
        while not self._stop.wait(0.05):
            self.looks += 1
            for pid in filter(str.isdigit, os.listdir("/proc")):
                for name in ("cmdline", "environ"):
                    try:
                        content = pathlib.Path("/proc", pid, name).read_bytes()
                    except OSError:
                        continue
                    if content.startswith(b"cryptsetup"):
                        self.seen.add(content.split(b"\0")[1].decode())
                    self.leaks.update((secret, name) for secret in SECRETS.values() if secret.encode() in content)


def found_in(root):
    """The files below the minion's directory, but for the sources, that contain a secret."""
    files = [path for path in root.rglob("*") if path.is_file() and (root / "sources") not in path.parents]
    contents = {path: path.read_bytes() for path in files}
    return [str(path) for path, data in contents.items() if any(secret.encode() in data for secret in SECRETS.values())]


def test_no_secret_leaks(root, device, tmp_path):
    def salt_call(*argv):
        argv = [SALT_CALL, "--local", "--config-dir", str(root), "--log-level=trace", "--out=json", *argv]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        for secret in SECRETS.values():
            assert secret not in done.stdout, argv
            assert secret not in done.stderr, argv
        return done.returncode, done.stdout

    pillar, sdb, file = "pillar://storage:passphrase", "sdb://db/key", str(root / "sources/file.secret")
    cheap = ["pbkdf=pbkdf2", "iterations=1000", f"backups={BACKUPS}"]
    with Watch() as watch:
        mounted = [f"name={tmp_path}/export", f"device={device}", "mapper=galaxy", f"key={pillar}", "encrypt=True"]
        assert salt_call("state.single", "luks.mounted", *mounted, *cheap)[0] == 0
        present = [f"name={device}", f"new_key={sdb}", f"key={pillar}"]
        assert salt_call("state.single", "luks.key_present", *present, *cheap)[0] == 0
        assert salt_call("luks.change_key", device, f"new_key={file}", f"key={sdb}", *cheap)[0] == 0
        # a wrong key: what fails says no more than what succeeds
        assert salt_call("luks.add_key", device, f"new_key={file}", f"key={sdb}", *cheap)[0] != 0
    assert {"luksFormat", "open", "luksAddKey", "luksRemoveKey"} <= watch.seen
    assert watch.leaks == set()
    assert watch.looks > 100
    sh("umount", f"{tmp_path}/export")
    assert found_in(root) == []
    assert (root / "minion.log").stat().st_size > 10_000
    for directory in ("/run", "/tmp", BACKUPS):
        grep = ["grep", "--recursive", "--files-with-matches", "--fixed-strings", "--devices=skip"]
        grep += [f"--regexp={secret}" for secret in SECRETS.values()]
        found = subprocess.run([*grep, "--exclude-dir=sources", directory], capture_output=True, text=True, check=False)
        assert found.stdout == "", directory
    # the search itself finds what is there
    assert subprocess.run([*grep, str(root)], capture_output=True, check=False).stdout != b""
