"""The guest's side of ``test_luks.py``: opens one volume in both ways, by turns. Prints the medians as JSON."""

import json
import logging
import pathlib
import statistics
import subprocess
import sys
import time

import salt.client

REPO = pathlib.Path(__file__).resolve().parents[2]
DEVICE, KEY = "/dev/ubdb", "/run/key"


def seconds(call):
    before = time.perf_counter()
    call()
    return time.perf_counter() - before


def bare():
    subprocess.run(["cryptsetup", "open", "--key-file", KEY, DEVICE, "bench"], check=True)


def main():
    pathlib.Path(KEY).write_text("passphrase")
    pathlib.Path(KEY).chmod(0o600)
    config = pathlib.Path("/run/minion")
    directories = {"module_dirs": [str(REPO / "_modules")], "utils_dirs": [str(REPO / "_utils")]}
    config.write_text(json.dumps({"id": "guest", "file_client": "local", "root_dir": "/run/salt", **directories}))
    # the minion's log level. By itself, Salt's library keeps every record, and each takes a guest 10 ms
    logging.getLogger().setLevel(logging.WARNING)
    call = salt.client.Caller(c_path=str(config)).cmd
    call("luks.format", DEVICE, key=KEY, backups="/run/backups")
    times = {"ours": [], "bare": []}
    for _ in range(int(sys.argv[1])):
        for name, opened in (("ours", lambda: call("luks.open", DEVICE, "bench", key=KEY)), ("bare", bare)):
            times[name].append(seconds(opened))
            call("luks.close", "bench")
    print(json.dumps({name: statistics.median(values) for name, values in times.items()}))


main()
