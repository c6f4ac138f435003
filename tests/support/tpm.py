"""
A software TPM, swtpm, that looks like the kernel's: at ``/dev/tpmrm0`` and below ``/sys/class/tpmrm``, where
tpm2-tools, Clevis and systemd look. Only for a whole machine of the test's own (``tests/uml``), since it changes both
places.
"""

import contextlib
import os
import pathlib
import pty
import socket
import struct
import subprocess
import threading
import tty

from galaxy_host_wait import Deadline, wait_until

_NODE = pathlib.Path("/dev/tpmrm0")
# of each command and response: tag, total size, code
_HEADER = struct.Struct(">HII")
_NO_SESSIONS = 0x8001
# the first handle of each kind: loaded sessions, saved sessions, transient objects
_VOLATILE = (0x02000000, 0x03000000, 0x80000000)


class Tpm:
    """``start`` gives the TPM to the machine; ``stop`` removes it for good."""

    def __init__(self, root):
        self._state, self._classes = root / "tpm", root / "classes"
        self._state.mkdir()
        self._classes.mkdir()
        self._process = self._master = self._slave = None

    def start(self):
        if not os.path.ismount("/dev/pts"):
            os.makedirs("/dev/pts", exist_ok=True)
            _run("mount", "-t", "devpts", "-o", "ptmxmode=666", "devpts", "/dev/pts")
        path = self._state / "socket"
        argv = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self._state}", "--server", f"type=unixio,path={path}"]
        self._process = subprocess.Popen([*argv, "--flags", "not-need-init,startup-clear"])
        assert wait_until(path.exists, Deadline(60))
        # a raw terminal passes commands and answers on as they are, one after the other, like a character device
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        _NODE.symlink_to(os.ttyname(self._slave))
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(path))
        threading.Thread(target=self._serve, args=[connection], daemon=True).start()
        # sysfs allows no new directory, so /sys/class becomes a tmpfs with all of the real one, and the TPM
        _run("mount", "--bind", "/sys/class", self._classes)
        _run("mount", "-t", "tmpfs", "tmpfs", "/sys/class")
        for found in filter(pathlib.Path.is_dir, self._classes.iterdir()):
            shown = pathlib.Path("/sys/class", found.name)
            shown.mkdir()
            _run("mount", "--bind", found, shown)
        pathlib.Path("/sys/class/tpmrm/tpmrm0").mkdir(parents=True)

    def stop(self):
        if self._process:
            _run("umount", "--recursive", "/sys/class")
            _run("umount", self._classes)
            _NODE.unlink()
            self._process.kill()
            self._process.wait()
            os.close(self._slave)
            self._process = None

    def _serve(self, connection):
        def ask(command):
            connection.sendall(command)
            return _message(connection.recv)

        users, terminal = set(), os.ttyname(self._slave)
        try:
            with connection:
                while True:
                    # without delay: clients wait only one second for the first answer
                    os.write(self._master, ask(_message(lambda size: os.read(self._master, size))))
                    before, users = users, _users(terminal)
                    if users - before:
                        # a client has closed it and another has opened it: the kernel then drops sessions and objects
                        _flush(ask)
        except (OSError, EOFError):
            os.close(self._master)


def _run(*argv):
    subprocess.run(argv, check=True)


def _users(terminal):
    """The processes that have the terminal open."""
    found = set()
    for process in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            names = os.listdir(f"/proc/{process}/fd")
            found |= {process for name in names if os.readlink(f"/proc/{process}/fd/{name}") == terminal}
    return found


def _flush(ask):
    """TPM2_GetCapability lists the handles of each kind, and TPM2_FlushContext drops each of them."""
    for kind in _VOLATILE:
        answer = ask(struct.pack(">HIIIII", _NO_SESSIONS, 22, 0x17A, 1, kind, 64))
        (count,) = struct.unpack_from(">I", answer, 15)
        for handle in struct.unpack_from(f">{count}I", answer, 19):
            ask(struct.pack(">HIII", _NO_SESSIONS, 14, 0x165, handle))


def _message(read):
    header = _exactly(read, _HEADER.size)
    return header + _exactly(read, _HEADER.unpack(header)[1] - _HEADER.size)


def _exactly(read, size):
    found = b""
    while len(found) < size:
        piece = read(size - len(found))
        if not piece:
            raise EOFError
        found += piece
    return found
