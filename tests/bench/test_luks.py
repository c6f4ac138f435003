"""What ``luks.open`` costs beside the ``cryptsetup open`` that it runs: same volume, same guest, by turns."""

import json
import pathlib
import sys

from measure import rounds
from support.site import REPO

sys.path.insert(0, str(REPO / "tests/uml"))

from machine import Machine

GUEST = pathlib.Path(__file__).with_name("luks_guest.py")


def test_open(tmp_path, row):
    """The cost of loading the module is not included."""
    disk = tmp_path / "disk"
    with open(disk, "wb") as file:
        file.truncate(64 << 20)
    # key derivation varies with the machine's speed: in a few rounds, more than the difference in question
    with Machine(tmp_path / "share", disk) as machine:
        status, output = machine.run(sys.executable, str(GUEST), str(rounds(15)), timeout=1800)
    assert status == 0, output
    found = json.loads(output.splitlines()[-1])
    ratio = found["ours"] / found["bare"]
    row("luks.open / cryptsetup open (LUKS2, argon2id)", f"{ratio:.2f} x", "<= 1.05 x", ratio <= 1.05)
