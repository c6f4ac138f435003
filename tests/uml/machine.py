"""
A machine with real device-mapper and dm-crypt, for tests: user-mode Linux with this host's files as its read-only root.

Its disks are image files (``/dev/ubdb``, ``/dev/ubdc``, …). Killing it is a power cut: data that reached the images
stays, data in the memory of the guest's kernel is lost. The guest sees an exchange directory of the host as
``/run/share``. With a disk for its root's changes, it is a whole machine, with systemd.
"""

from __future__ import annotations

import atexit
import collections
import functools
import os
import pathlib
import select
import shlex
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator

REPO = pathlib.Path(__file__).resolve().parents[2]
INIT = REPO / "tests/uml/init.sh"
BOOT_SECONDS = 300


@functools.cache
def environment() -> dict[str, str]:
    """The environment of the guest's kernel. On a processor with AMX, the kernel needs ``xstate.c``."""
    if " amx_tile" not in pathlib.Path("/proc/cpuinfo").read_text():
        return dict(os.environ)
    directory = tempfile.TemporaryDirectory(prefix="xstate-")
    atexit.register(directory.cleanup)
    library = pathlib.Path(directory.name, "xstate.so")
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, REPO / "tests/uml/xstate.c"], check=True)
    return {**os.environ, "LD_PRELOAD": str(library)}


# "mconsole" of the guest's kernel: a magic number, a version, the length of the order; the answer has the same form
_ORDER = struct.Struct("III512s")


class MachineError(AssertionError):
    """The guest did not do what the test needs."""


class Machine:
    """
    share
        exchange directory on the host
    disks
        image files
    modules
        kernel modules to load beside those of dm-crypt
    system
        image file with an ext4, for a whole machine: systemd is PID 1, and changes of its root are written there
    tap
        a TAP device of this host, which becomes the guest's ``vec0``
    """

    def __init__(
        self,
        share: pathlib.Path,
        *disks: pathlib.Path,
        modules: tuple[str, ...] = (),
        system: pathlib.Path | None = None,
        tap: str | None = None,
    ):
        self.share, self.disks, self.modules, self.system, self.tap = share, disks, modules, system, tap
        share.mkdir(exist_ok=True)
        self._process = None
        self._seen = b""
        self._log = collections.deque(maxlen=60)

    def __enter__(self) -> Machine:
        self.boot()
        return self

    def __exit__(self, *exc) -> None:
        self.kill()

    def boot(self) -> None:
        """Start it, and wait until it takes commands."""
        argv = ["linux.uml", "mem=768M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"init={INIT}"]
        argv += [f"ubd{letter}={disk}" for letter, disk in zip("bcdef", self.disks, strict=False)]
        modules = self.modules
        if self.system:
            argv += [f"ubda={self.system}", "system=/dev/ubda"]
            modules += ("overlay",)
        argv += [f"vec0:transport=tap,ifname={self.tap}"] if self.tap else []
        # the host's orders come in through this directory
        self._console = tempfile.TemporaryDirectory(prefix="uml-")
        argv += [f"uml_dir={self._console.name}", "umid=guest"]
        argv += [
            f"repo={REPO}",
            f"share={self.share}",
            f"modules={','.join(modules)}",
            "con=null",
            "con0=fd:0,fd:1",
            "quiet",
        ]
        pipe = subprocess.PIPE
        self._seen = b""
        self._log.clear()
        self._process = subprocess.Popen(
            argv,
            stdin=pipe,
            stdout=pipe,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=True,
            env=environment(),
        )
        try:
            self._await(b"ready".__eq__, BOOT_SECONDS)
        except MachineError:
            self.kill()
            raise

    def start(self, *argv: str) -> None:
        """Begin a command. ``words`` ends when the command does."""
        for name in ("output", "status"):
            (self.share / name).unlink(missing_ok=True)
        (self.share / "command").write_text(shlex.join(argv) + "\n")
        self._process.stdin.write(b"\n")

    def run(self, *argv: str, timeout: float = 300) -> tuple[int, str]:
        """The exit status and the output (both streams) of a command."""
        self.start(*argv)
        self._await(b"done".__eq__, timeout)
        return self.result()

    def result(self) -> tuple[int, str]:
        """The same for the command that has ended."""
        return int((self.share / "status").read_text()), (self.share / "output").read_text(errors="replace")

    def words(self, prefix: str, timeout: float) -> Iterator[str]:
        """What the running command writes to the console behind ``prefix``, word by word, until it ends."""
        while True:
            word = self._await(lambda word: word.startswith(prefix.encode()) or word == b"done", timeout)
            if word == b"done":
                return
            yield word[len(prefix) :].decode()

    def plug(self, letter: str, image: pathlib.Path) -> None:
        """Attach a disk, as ``/dev/ubd<letter>``."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as orders:
            orders.bind(f"{self._console.name}/orders")
            orders.settimeout(60)
            order = f"config ubd{letter}={image}".encode()
            orders.sendto(_ORDER.pack(0xCAFEBABE, 2, len(order), order), f"{self._console.name}/guest/mconsole")
            answer = orders.recv(_ORDER.size).ljust(_ORDER.size, b"\0")
        pathlib.Path(self._console.name, "orders").unlink()
        failed, _, size, said = _ORDER.unpack(answer)
        if failed:
            raise MachineError(f"no disk was attached: {said[:size].decode(errors='replace')}")

    def power_off(self) -> None:
        """Shut the guest down."""
        self.start("poweroff", "-f")
        self._process.wait(60)

    def reboot(self) -> None:
        """Reboot a whole machine, and wait until it takes commands."""
        self.start("systemctl", "reboot")
        self._await(b"ready".__eq__, BOOT_SECONDS)

    def kill(self) -> None:
        """Cut the power."""
        if self._process and self._process.poll() is None:
            # all of its processes at once, because some write to the disk for others
            os.killpg(self._process.pid, signal.SIGKILL)
        if self._process:
            self._process.wait()
            self._process.stdout.close()
            self._console.cleanup()

    def _await(self, wanted: Callable[[bytes], bool], timeout: float) -> bytes:
        end = time.monotonic() + timeout
        while True:
            while b"\n" in self._seen:
                line, self._seen = self._seen.split(b"\n", 1)
                self._log.append(line)
                if wanted(line.strip()):
                    return line.strip()
            readable = select.select([self._process.stdout], [], [], max(0, end - time.monotonic()))[0]
            chunk = self._process.stdout.read(65536) if readable else b""
            if not chunk:
                log = b"\n".join([*self._log, self._seen]).decode(errors="replace")
                raise MachineError(f"the guest did not answer; its console: {log}")
            self._seen += chunk
