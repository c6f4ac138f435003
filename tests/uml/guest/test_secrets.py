"""
No secret leaks: with each source of a key, at log level trace, in the whole life of a volume. strace stops at each
execve, and so shows the arguments and the environment of every command, whoever runs it.
"""

import json
import pathlib
import re
import subprocess
import sys

import pytest
from conftest import BACKUPS, REPO, sh

SALT_CALL = str(pathlib.Path(sys.executable).with_name("salt-call"))
# one for each source. No other text on the machine has them
SECRETS = {"pillar": "Zw5-pillar-Kq9", "sdb": "Zw5-sdb-Kq9", "file": "Zw5-file-Kq9"}
SDB = """
def get(key, profile=None):
    with open(profile["file"]) as file:
        return file.read()
"""
# all of each argument and variable, also in a large environment
TRACE = ["strace", "--follow-forks", "--trace=execve,execveat", "--no-abbrev", "--string-limit=1000000"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A minion's directory. Only its subdirectory ``sources`` may hold the secrets."""
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


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    return tmp_path_factory.mktemp("traces")


def found_in(root):
    """The files below the minion's directory that contain a secret, without those in ``sources``."""
    files = [path for path in root.rglob("*") if path.is_file() and (root / "sources") not in path.parents]
    contents = {path: path.read_bytes() for path in files}
    return [str(path) for path, data in contents.items() if any(secret.encode() in data for secret in SECRETS.values())]


def commands(traces):
    """The commands that ran: the actions of ``cryptsetup``, and the names of all other programs."""
    text = "".join(path.read_text(errors="replace") for path in traces.iterdir())
    return set(re.findall(r'\["cryptsetup", "([^"]+)"', text)) | set(re.findall(r'execve\("[^"]*/([^"/]+)"', text))


def leaks(traces):
    return {
        secret for secret in SECRETS.values() for path in traces.iterdir() if secret in path.read_text(errors="replace")
    }


def test_no_secret_leaks(root, traces, device, tmp_path):
    def salt_call(*argv):
        argv = [SALT_CALL, "--local", "--config-dir", str(root), "--log-level=trace", "--out=json", *argv]
        trace = [*TRACE, f"--output={traces}/{len(list(traces.iterdir()))}"]
        done = subprocess.run([*trace, *argv], capture_output=True, text=True, check=False)
        for secret in SECRETS.values():
            assert secret not in done.stdout, argv
            assert secret not in done.stderr, argv
        return done.returncode, done.stdout

    pillar, sdb, file = "pillar://storage:passphrase", "sdb://db/key", str(root / "sources/file.secret")
    cheap = ["pbkdf=pbkdf2", "iterations=1000", f"backups={BACKUPS}"]
    mounted = [f"name={tmp_path}/export", f"device={device}", "mapper=galaxy", f"key={pillar}", "encrypt=True"]
    assert salt_call("state.single", "luks.mounted", *mounted, *cheap)[0] == 0
    present = [f"name={device}", f"new_key={sdb}", f"key={pillar}"]
    assert salt_call("state.single", "luks.key_present", *present, *cheap)[0] == 0
    assert salt_call("luks.change_key", device, f"new_key={file}", f"key={sdb}", *cheap)[0] == 0
    absent = [f"name={device}", f"key={file}", f"remaining={pillar}", f"backups={BACKUPS}"]
    assert salt_call("state.single", "luks.key_absent", *absent)[0] == 0
    # with a wrong key too: a failure must not say more than a success
    assert salt_call("luks.add_key", device, f"new_key={file}", f"key={sdb}", *cheap)[0] != 0
    run = {"luksFormat", "open", "luksAddKey", "luksKillSlot", "luksHeaderBackup", "wipefs", "mkfs.ext4", "mount"}
    assert run <= commands(traces)
    assert leaks(traces) == set()
    sh("umount", f"{tmp_path}/export")
    assert found_in(root) == []
    assert (root / "minion.log").stat().st_size > 10_000
    for directory in ("/run", "/tmp", BACKUPS):
        grep = ["grep", "--recursive", "--files-with-matches", "--fixed-strings", "--devices=skip"]
        grep += [f"--regexp={secret}" for secret in SECRETS.values()]
        found = subprocess.run([*grep, "--exclude-dir=sources", directory], capture_output=True, text=True, check=False)
        assert found.stdout == "", directory
    # the search works: it finds the sources
    assert subprocess.run([*grep, str(root)], capture_output=True, check=False).stdout != b""


@pytest.mark.parametrize("where", ["argument", "environment", "a child's child"])
def test_what_leaks_is_seen(tmp_path, where):
    """A leak is seen even if the command lives for a very short time."""
    secret = SECRETS["file"]
    argv = {
        "argument": ["true", f"--key={secret}"],
        "environment": ["env", *(f"filler{number}=x" for number in range(200)), f"KEY={secret}", "true"],
        "a child's child": ["sh", "-c", f"sh -c 'true {secret}; exit' & wait"],
    }[where]
    sh(*TRACE, f"--output={tmp_path}/0", *argv)
    assert leaks(tmp_path) == {secret}
