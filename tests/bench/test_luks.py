"""What ``luks.open`` costs beside the bare ``cryptsetup open`` that it runs: same volume, same guest, by turns."""

import json
import pathlib
import sys

from measure import rounds
from support.site import REPO

sys.path.insert(0, str(REPO / "tests/uml"))

from machine import Machine

GUEST = pathlib.Path(__file__).with_name("luks_guest.py")


def test_open(tmp_path, row):
    """The module is loaded by then; what that costs is not in it."""
    disk = tmp_path / "disk"
    with open(disk, "wb") as file:
        file.truncate(64 << 20)
    # key derivation takes as long as the machine lets it: a few rounds differ by more than what is looked for
    with Machine(tmp_path / "share", disk) as machine:
        status, output = machine.run(sys.executable, str(GUEST), str(rounds(15)), timeout=1800)
    assert status == 0, output
    found = json.loads(output.splitlines()[-1])
    ratio = found["ours"] / found["bare"]
    row("luks.open / cryptsetup open (LUKS2, argon2id)", f"{ratio:.2f} x", "<= 1.05 x", ratio <= 1.05)
