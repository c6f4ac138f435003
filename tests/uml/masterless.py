"""
``salt-call --local`` in the guest, with this tree and the formula's storage pillar.
"""

from __future__ import annotations

import json
import pathlib
import sys

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
    # the guest's root is read-only, and it has the packages
    pillar = {"galaxy": {"storage": {"packages": [], "backups": "/run/share/backups", **storage}}}
    files = {"etc/minion": config, "pillar/top.sls": {"base": {"*": ["storage"]}}, "pillar/storage.sls": pillar}
    for name, content in files.items():
        (share / name).parent.mkdir(parents=True, exist_ok=True)
        (share / name).write_text(json.dumps(content))


def salt_call(machine: Machine, *argv: str, config_dir: str = "/run/share/etc") -> tuple[int, object]:
    """Exit status and returned data."""
    options = ["--local", f"--config-dir={config_dir}", "--out=json", "--log-level=quiet"]
    status, output = machine.run(SALT_CALL, *options, *argv)
    return status, json.loads(output)["local"]


def apply(machine: Machine, sls: str, *argv: str, **options: str) -> dict:
    """Apply an SLS; its changes by state ID. ``options`` are ``salt_call``'s."""
    status, result = salt_call(machine, "state.apply", sls, *argv, **options)
    if status or not isinstance(result, dict) or any(state["result"] is False for state in result.values()):
        raise AssertionError(f"state.apply {sls} failed, exit status {status}: {json.dumps(result, indent=1)}")
    return {state["__id__"]: state["changes"] for state in result.values() if state["changes"]}
