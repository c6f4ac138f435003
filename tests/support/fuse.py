"""A FUSE filesystem that another user serves. That user may say anything about owners and modes."""

import contextlib
import ctypes
import errno
import os
import stat
import struct
import subprocess
import threading

_libc = ctypes.CDLL(None, use_errno=True)
_INIT, _LOOKUP, _GETATTR = 26, 1, 3
# requests without an answer: FORGET, INTERRUPT, BATCH_FORGET
_SILENT = (2, 36, 42)


@contextlib.contextmanager
def mounted(path, uid, kind="fuse", source="evil", answers=True):
    """
    Mount it on ``path``, as fusermount(1) does for user ``uid``. It holds one file, ``file``; all of it is root's, with
    mode 0644.

    answers
        ``False``: nobody serves it, so whatever looks into it waits
    """
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id={uid},group_id={uid},allow_other"
    words = [os.fsencode(word) for word in (source, str(path), kind)]
    if _libc.mount(*words, 6, os.fsencode(options)):
        raise OSError(ctypes.get_errno(), "mount")
    thread = threading.Thread(target=_serve, args=(device,), daemon=True)
    if answers:
        thread.start()
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)
        if answers:
            thread.join(10)
        os.close(device)


def _serve(device):
    while True:
        try:
            request = os.read(device, 1 << 17)
        except OSError:
            # it was unmounted
            return
        opcode, unique, node = struct.unpack_from("=IQQ", request, 4)
        if opcode in _SILENT:
            continue
        error, data = 0, b""
        if opcode == _INIT:
            data = struct.pack("=IIIIHHIIHHI28x", 7, 31, 1 << 16, 0, 12, 9, 1 << 16, 1, 0, 0, 0)
        elif opcode == _GETATTR:
            data = struct.pack("=QII", 1, 0, 0) + _attributes(node)
        elif opcode == _LOOKUP:
            data = struct.pack("=QQQQII", 2, 0, 1, 1, 0, 0) + _attributes(2)
        else:
            error = -errno.ENOSYS
        with contextlib.suppress(OSError):
            os.write(device, struct.pack("=IiQ", 16 + len(data), error, unique) + data)


def _attributes(node):
    mode = stat.S_IFDIR | 0o755 if node == 1 else stat.S_IFREG | 0o644
    return struct.pack("=6Q3I7I", node, 10, 1, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)
