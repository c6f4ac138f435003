"""
What ``luks.open`` costs beside the bare ``cryptsetup open`` that it runs, on the same volume in the same guest.
"""

from __future__ import annotations

import json
import pathlib
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "uml"))

from machine import Machine  # noqa: E402


def rows() -> list[tuple[str, float, float, float]]:
    """
    One tuple a comparison: name, seconds of ours, seconds of the bare command, and the most that their ratio may be.

    Ours is the call of the loaded execution module; loading it is measured by others.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        disk = pathlib.Path(scratch, "disk")
        with open(disk, "wb") as file:
            file.truncate(64 << 20)
        with Machine(pathlib.Path(scratch, "share"), disk) as machine:
            status, output = machine.run(sys.executable, str(HERE / "luks_guest.py"), timeout=600)
    if status:
        raise RuntimeError(output)
    measured = json.loads(output.splitlines()[-1])
    return [("luks.open / cryptsetup open (argon2id)", measured["ours"], measured["bare"], 1.05)]


if __name__ == "__main__":
    for name, ours, bare, bound in rows():
        print(f"{name}: {ours:.3f} s / {bare:.3f} s = {ours / bare:.3f} (at most {bound})")
