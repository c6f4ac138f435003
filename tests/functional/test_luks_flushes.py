"""
cryptsetup, mkfs and wipefs flush what they write before they end, so no util flushes it again. tests/uml/test_kill.py
tests the flushes of the utils themselves.
"""

import os
import re
import subprocess

import pytest

import luks_filesystem

CHEAP = ["--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"]
# on an image of 400 MiB: commands in their order, with their standard input
LIFE = {
    "luks1": [
        (["cryptsetup", "luksFormat", "-q", "--type=luks1", *CHEAP, "--key-file=-", "IMAGE"], b"key"),
        (["cryptsetup", "luksUUID", "-q", "--uuid=0ad6c58f-3798-440f-818c-5a5bea96859f", "IMAGE"], b""),
        (["cryptsetup", "luksAddKey", "-q", *CHEAP, "--keyfile-size=3", "IMAGE", "-", "--key-file=-"], b"keyother"),
        (["cryptsetup", "luksKillSlot", "-q", "IMAGE", "1"], b""),
        (["wipefs", "--all", "IMAGE"], b""),
    ],
    "luks2": [
        (["cryptsetup", "luksFormat", "-q", "--type=luks2", *CHEAP, "--key-file=-", "IMAGE"], b"key"),
        (["cryptsetup", "luksUUID", "-q", "--uuid=0ad6c58f-3798-440f-818c-5a5bea96859f", "IMAGE"], b""),
        (["cryptsetup", "luksAddKey", "-q", *CHEAP, "--keyfile-size=3", "IMAGE", "-", "--key-file=-"], b"keyother"),
        (["cryptsetup", "luksKillSlot", "-q", "IMAGE", "1"], b""),
        (["cryptsetup", "token", "import", "--token-id=31", "IMAGE"], b'{"type": "other", "keyslots": []}'),
        (
            ["cryptsetup", "token", "import", "--token-id=31", "--token-replace", "IMAGE"],
            b'{"type": "other", "keyslots": ["0"]}',
        ),
        (["cryptsetup", "token", "remove", "--token-id=31", "IMAGE"], b""),
        (
            [
                "cryptsetup",
                "reencrypt",
                "-q",
                "--force-offline-reencrypt",
                "--key-slot=0",
                *CHEAP,
                "--key-file=-",
                "IMAGE",
            ],
            b"key",
        ),
        (["wipefs", "--all", "IMAGE"], b""),
    ],
    **{fstype: [([*argv, "IMAGE"], b"")] for fstype, argv in luks_filesystem._MAKE.items()},
}
WRITES = ("write", "writev", "pwrite64", "pwritev", "pwritev2", "fallocate")
FLUSHES = ("fsync", "fdatasync")


def done_to(image, argv, stdin, trace):
    """The writes to the image and its flushes, by the names of the system calls, in their order."""
    calls = ",".join([*WRITES, *FLUSHES])
    argv = ["strace", "--follow-forks", "--decode-fds=path", f"--trace={calls}", f"--output={trace}", *argv]
    done = subprocess.run(argv, input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = trace.read_text(errors="replace").splitlines()
    return [match[1] for match in map(re.compile(rf"\d+ +(\w+)\(\d+<{re.escape(str(image))}>").match, lines) if match]


@pytest.mark.parametrize("life", LIFE)
def test_the_last_thing_done_to_the_device_is_a_flush(tmp_path, life):
    image = tmp_path / "image"
    with open(image, "wb") as file:
        os.truncate(file.fileno(), 400 << 20)
    for argv, stdin in LIFE[life]:
        calls = done_to(image, [str(image) if word == "IMAGE" else word for word in argv], stdin, tmp_path / "trace")
        assert set(WRITES).intersection(calls), argv
        assert calls[-1] in FLUSHES, (argv, calls[-3:])
