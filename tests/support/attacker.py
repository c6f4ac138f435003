"""Other users of the machine, as real processes with real user ids."""

import contextlib
import ctypes
import os
import pickle
import shutil
import signal
import subprocess
import tempfile

from galaxy_host_wait import Deadline

# two users that run nothing here and own no file of ours
GALAXY, MALLORY = 4001, 4002
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
_CLONE_NEWNS, _CLONE_NEWUSER, _PR_SET_DUMPABLE = 0x20000, 0x10000000, 4


def run_as(uid, function, *args):
    """What ``function`` returns or raises in a process of user ``uid``."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        _become(uid)
        try:
            result = (True, function(*args))
        except BaseException as exc:
            result = (False, RuntimeError(f"{type(exc).__name__}: {exc}"))
        os.write(write, pickle.dumps(result))
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        good, result = pickle.loads(pipe.read())
    os.waitpid(child, 0)
    if not good:
        raise result
    return result


@contextlib.contextmanager
def staying(uid, function, *args):
    """What ``function`` returns in a process of user ``uid``. The process stays, with everything that it holds open."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        try:
            _become(uid)
            result = (True, kept := function(*args))
        except BaseException as exc:
            result, kept = (False, f"{type(exc).__name__}: {exc}"), None
        with os.fdopen(write, "wb") as pipe:
            pipe.write(pickle.dumps(result if isinstance(kept, (int, str, type(None))) else (True, None)))
        signal.pause()
        os._exit(kept is None)
    os.close(write)
    try:
        with os.fdopen(read, "rb") as pipe:
            good, result = pickle.loads(pipe.read())
        assert good, result
        yield child if result is None else result
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@contextlib.contextmanager
def racing(uid, function):
    """A process of user ``uid`` that calls ``function`` again and again."""
    child = os.fork()
    if not child:
        _become(uid)
        try:
            while True:
                function()
        finally:
            os._exit(1)
    try:
        yield
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "the attacker gave up"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)


def rounds(is_enough, least=3000):
    """The numbers of a race's rounds: at least ``least``, then more, until ``is_enough`` or a minute has passed."""
    deadline = Deadline(60)
    number = 0
    while number < least or not (is_enough() or deadline.passed):
        yield number
        number += 1


def exchange(one, two):
    """Swap the two names, in one step."""
    if _libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(two), _RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), "renameat2")


@contextlib.contextmanager
def public_directory():
    """A directory of root's that everybody may search. pytest's own directories are not open to others."""
    path = tempfile.mkdtemp(prefix="galaxy-test-", dir="/tmp")
    os.chmod(path, 0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def own_mounts():
    """Become root in a user namespace and a mount namespace of our own, as any user may."""
    uid = os.getuid()
    # execve(2) does this too: now the process owns its /proc again
    _libc.prctl(_PR_SET_DUMPABLE, 1)
    if _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {uid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def mount_tmpfs(path):
    """Mount an empty directory there, in our own namespace."""
    if _libc.mount(b"tmpfs", os.fsencode(path), b"tmpfs", 0, None):
        raise OSError(ctypes.get_errno(), "mount")


def make(path, uid, mode=0o755, content=None, gid=None):
    """A directory, or a file with ``content``, of user ``uid``."""
    if content is None:
        os.mkdir(path)
    else:
        with open(path, "wb") as file:
            file.write(content)
    os.chown(path, uid, uid if gid is None else gid)
    os.chmod(path, mode)
    return str(path)


def reuse(pid):
    """A sleeper with the PID of a process that has ended: the kernel can be told the next PID."""
    for _ in range(200):
        with open("/proc/sys/kernel/ns_last_pid", "w", encoding="ascii") as file:
            file.write(str(pid - 1))
        process = subprocess.Popen(["sleep", "1000"])
        if process.pid == pid:
            return process
        process.kill()
        process.wait()
    raise AssertionError(f"another process is quicker to get PID {pid} each time")


def _become(uid):
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)


_libc = ctypes.CDLL(None, use_errno=True)
