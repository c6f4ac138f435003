"""What keeps a filesystem busy: real processes; and the names that the kernel writes."""

import ctypes
import os
import subprocess
import sys

import pytest
from support.attacker import MALLORY, public_directory, staying

import galaxy_host_holders
from galaxy_errors import ManagerError


def number_of(path):
    device = os.stat(path).st_dev
    return f"{os.major(device)}:{os.minor(device)}"


def test_a_process_is_named_by_how_it_holds(tmp_path):
    with open(tmp_path / "open file", "w"):
        child = subprocess.Popen([sys.executable, "-c", "input()"], cwd=tmp_path, stdin=subprocess.PIPE)
        try:
            holders = {holder.pid: holder for holder in galaxy_host_holders.find(number_of(tmp_path))}
        finally:
            child.communicate(b"\n")
    assert holders[child.pid].use == "cwd"
    assert os.getpid() in holders
    assert f"PID {child.pid}: cwd" in str(holders[child.pid])


def test_nothing_in_the_kernel_holds_a_directory_of_nobody(tmp_path):
    assert galaxy_host_holders.kernel_uses("0:0", [str(tmp_path)]) == []


def test_mounts_below_are_named():
    # every machine has /proc, and mounts below the root
    assert "what is mounted on /proc" in galaxy_host_holders.kernel_uses("0:0", ["/"])


def test_octal_names(tmp_path, monkeypatch):
    tables = {
        "/proc/swaps": f"Filename\tType\n{tmp_path}/a\\040swap\tfile\n",
        "/proc/self/mountinfo": f"1 2 0:3 / {tmp_path}/b\\134c rw - tmpfs tmpfs rw",
    }
    monkeypatch.setattr(galaxy_host_holders.galaxy_host_sysfs, "read", lambda path: tables.get(path, ""))
    uses = galaxy_host_holders.kernel_uses("0:0", [str(tmp_path)])
    assert uses == [f"swap on {tmp_path}/a swap", f"what is mounted on {tmp_path}/b\\c"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_name_that_would_move_the_cursor():
    """Any user may give a process a name, and root reads the refusal."""

    def work_there(path):
        os.chdir(path)
        # prctl(PR_SET_NAME)
        ctypes.CDLL(None).prctl(15, b"\x1b[2J\xc2\x9b\xe2\x80\xae")

    with public_directory() as place, staying(MALLORY, work_there, place) as pid:
        device = os.stat(place).st_dev
        holders = galaxy_host_holders.find(f"{os.major(device)}:{os.minor(device)}")
        (holder,) = [holder for holder in holders if holder.pid == pid]
        assert "\x1b" in str(holder)
        text = str(ManagerError(f"in use: {holder}"))
        assert text.isprintable()
        assert r"\x1b[2J" in text
        assert str(ManagerError("two\nlines\tü")) == "two\nlines\tü"
