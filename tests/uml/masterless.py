"""
``salt-call --local`` in the guest, with this tree and the formula's storage in pillar.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

from machine import Machine

REPO = pathlib.Path(__file__).resolve().parents[2]
SALT_CALL = str(pathlib.Path(sys.executable).with_name("salt-call"))


def configure(share: pathlib.Path, storage: dict) -> None:
    """Write the minion's configuration and the pillar ``galaxy:storage`` to the exchange directory."""
    config = {
        "id": "guest",
        "file_client": "local",
        "root_dir": "/run/salt",
        "module_dirs": [str(REPO / "_modules")],
        "states_dirs": [str(REPO / "_states")],
        "utils_dirs": [str(REPO / "_utils")],
        "file_roots": {"base": [str(REPO / "formulas")]},
        "pillar_roots": {"base": ["/run/share/pillar"]},
    }
    # no packages: the guest's root is read-only, and has them already
    pillar = {"galaxy": {"storage": {"packages": [], "backups": "/run/share/backups", **storage}}}
    files = {"etc/minion": config, "pillar/top.sls": {"base": {"*": ["storage"]}}, "pillar/storage.sls": pillar}
    for name, content in files.items():
        (share / name).parent.mkdir(parents=True, exist_ok=True)
        (share / name).write_text(json.dumps(content))


KEY_FILE = "/etc/luks/galaxy.key"
# for a whole machine: the volume for Galaxy's data, which does not exist yet
STORAGE = {
    **{"device": "/dev/ubdb", "encrypt": True, "key": KEY_FILE, "directories": ["database"]},
    **{"luks": {"pbkdf": "pbkdf2", "iterations": 1000}, "packages": ["cryptsetup-bin", "e2fsprogs"]},
}


@contextlib.contextmanager
def whole_machine(root: pathlib.Path, tree: pathlib.Path, galaxy: dict) -> Iterator[Machine]:
    """A machine with systemd, and a minion with this tree in ``/etc/salt``. Its pillar has ``galaxy``."""
    system, disk, share = (root / name for name in ("system", "disk", "share"))
    for image, size in ((system, 512 << 20), (disk, 64 << 20)):
        with open(image, "wb") as file:
            file.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-F", system], check=True)
    minion = {
        **{"id": "whole", "log_level_logfile": "info", "file_client": "local"},
        "pillar_roots": {"base": ["/etc/salt/pillar"]},
        "file_roots": {"base": [str(tree), str(tree / "formulas")]},
    }
    top = {"base": {"*": ["galaxy"]}}
    for name, content in (("minion", minion), ("pillar/top.sls", top), ("pillar/galaxy.sls", {"galaxy": galaxy})):
        path = share / "salt" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    (share / "key").write_bytes(os.urandom(64))
    with Machine(share, disk, system=system) as machine:
        run(machine, "cp", "-r", "/run/share/salt", "/etc")
        run(machine, "install", "-D", "-m", "600", "/run/share/key", KEY_FILE)
        yield machine


def run(machine: Machine, *argv: str) -> str:
    """The output of a command, which must succeed."""
    status, output = machine.run(*argv)
    if status:
        raise AssertionError(f"{argv}: exit status {status}: {output}")
    return output


def salt_call(machine: Machine, *argv: str, config_dir: str = "/run/share/etc") -> tuple[int, object]:
    """The exit status, and the data that the function returned."""
    options = ["--local", f"--config-dir={config_dir}", "--out=json", "--log-level=quiet"]
    status, output = machine.run(SALT_CALL, *options, *argv)
    # a slow machine writes lines about its progress before the data
    return status, json.loads(output[output.index("{\n") :])["local"]


def apply(machine: Machine, sls: str, *argv: str, **options: str) -> dict:
    """Apply an SLS. Returns its changes by state ID. ``options`` are those of ``salt_call``."""
    status, result = salt_call(machine, "state.apply", sls, *argv, **options)
    if status or not isinstance(result, dict) or any(state["result"] is False for state in result.values()):
        raise AssertionError(f"state.apply {sls} failed, exit status {status}: {json.dumps(result, indent=1)}")
    return {state["__id__"]: state["changes"] for state in result.values() if state["changes"]}
