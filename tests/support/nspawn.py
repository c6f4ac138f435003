"""A machine that has systemd as PID 1: a systemd-nspawn container on an overlay of this machine's files."""

import os
import pathlib
import secrets
import shutil
import subprocess
import tempfile

import psutil

from galaxy_host_wait import Deadline, wait_until

_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}
_MASKED = ("systemd-logind.service", "getty.target", "systemd-networkd.service", "systemd-resolved.service")
_CGROUPS = ("systemd", "unified")


class Machine:
    """
    This machine and the container both see the directory ``share``. The container sees all other files as they were
    when it started. What it writes to them is gone when it ends.
    """

    def __init__(self, name, root, share):
        # two runs of the tests at the same time need machines with different names
        self.name = f"{name}-{secrets.token_hex(3)}"
        self.root, self.share = root, share
        self._process = None
        self._leader = None

    def start(self):
        for directory in ("upper", "work", "merged"):
            (self.root / directory).mkdir(parents=True)
        merged = self.root / "merged"
        options = f"lowerdir=/,upperdir={self.root}/upper,workdir={self.root}/work"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, merged], check=True)
        self._prepare(merged / "etc")
        return self._boot()

    def cut_the_power(self):
        """End it at once, and boot it again with the files that it had."""
        self._end()
        return self._boot()

    def _boot(self):
        argv = [
            *("systemd-nspawn", "--register=no", "--keep-unit", "-M", self.name, "--resolv-conf=off", "--timezone=off"),
            *(f"--bind={self.share}", "-D", self.root / "merged", "--boot", "--", "--unit=test.target"),
            "--show-status=0",
        ]
        environment = {
            **os.environ,
            **{"SYSTEMD_NSPAWN_TMPFS_TMP": "0", "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        }
        log = (self.root / "nspawn.log").open("wb")
        self._process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, preexec_fn=self._enter_cgroups
        )
        log.close()
        ready = wait_until(self._is_ready, Deadline(60))
        assert ready, (self.root / "nspawn.log").read_text(errors="replace")
        return self

    @property
    def ended(self):
        """Whether it has shut down by itself."""
        return self._process.poll() is not None

    def run(self, *argv, check=True):
        """Run a command in the container. Returns the completed process, with its output as text."""
        nsenter = ["nsenter", "-t", str(self._leader), "--all", "--root", "--wd", "env", "-"]
        words = [*nsenter, *(f"{key}={value}" for key, value in _ENVIRONMENT.items()), *map(str, argv)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert not check or done.returncode == 0, f"{argv}\n{done.stdout}\n{done.stderr}"
        return done

    def _end(self):
        if self._leader and psutil.pid_exists(self._leader):
            os.kill(self._leader, 9)
        self._process.kill()
        self._process.wait()
        self._leader = None

    def stop(self):
        if self._process:
            self._end()
        merged = self.root / "merged"
        wait_until(lambda: subprocess.run(["umount", merged], capture_output=True).returncode == 0, Deadline(10))
        for group in self._groups():
            for directory, _, _ in os.walk(group, topdown=False):
                wait_until(lambda path=directory: _removed(path), Deadline(5))
        shutil.rmtree(self.root, ignore_errors=True)

    def _prepare(self, etc):
        (etc / "fstab").write_text("")
        (etc / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
        for name in ("tmp.conf", "x11.conf"):
            # else the boot empties /tmp, which also holds the overlay's directories
            _link_to_null(etc / "tmpfiles.d" / name)
        for name in _MASKED:
            _link_to_null(etc / "systemd" / "system" / name)
        unit = etc / "systemd" / "system" / "test.target"
        unit.write_text("[Unit]\nRequires=basic.target dbus.socket\nAfter=basic.target\nAllowIsolate=yes\n")

    def _groups(self):
        return [pathlib.Path("/sys/fs/cgroup") / one / f"galaxy-{self.name}" for one in _CGROUPS if self._has(one)]

    @staticmethod
    def _has(controller):
        return pathlib.Path("/sys/fs/cgroup", controller).is_dir()

    def _enter_cgroups(self):
        for group in self._groups():
            group.mkdir(exist_ok=True)
            (group / "cgroup.procs").write_text(str(os.getpid()))

    def _is_ready(self):
        assert self._process.poll() is None, (self.root / "nspawn.log").read_text(errors="replace")
        children = psutil.Process(self._process.pid).children()
        self._leader = children[0].pid if children else None
        if not self._leader:
            return False
        return self.run("systemctl", "is-active", "test.target", check=False).stdout.strip() == "active"


def shares():
    """For a fixture: a directory that this machine and a container both see, and that each user can read there."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="galaxy-share-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def machines(name, share):
    """For a fixture: a machine that runs."""
    # not in /tmp, which is part of the overlay's lower side
    root = pathlib.Path(tempfile.mkdtemp(prefix="galaxy-machine-"))
    machine = Machine(name, root / "machine", share)
    try:
        yield machine.start()
    finally:
        machine.stop()
        shutil.rmtree(root, ignore_errors=True)


def _link_to_null(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/null")


def _removed(path):
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
