"""A real supervisord for tests and the demo."""

import contextlib
import os
import signal
import subprocess

import psutil

from galaxy_host_wait import Deadline, wait_until
from galaxy_manager_supervisor_config import SupervisorConfig
from galaxy_manager_supervisor_rpc import Client

from .site import BIN


class Supervisord:
    """A supervisord in ``root``. Its programs are files in ``root/conf.d``."""

    def __init__(self, root):
        self.root = root
        self.conf_file = root / "supervisord.conf"
        self.programs = root / "conf.d"
        self.programs.mkdir(parents=True)
        # the path of a unix socket must be short; a test's directory is long
        self.socket = f"/tmp/supervisor-{os.getpid()}-{abs(hash(str(root))) % 10**8}.sock"
        self.conf_file.write_text(
            f"[unix_http_server]\nfile={self.socket}\nusername=galaxy\npassword=s3cret-of-supervisord\n"
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
            f"[supervisord]\nlogfile={root}/supervisord.log\npidfile={root}/supervisord.pid\nchildlogdir={root}\n"
            f"[supervisorctl]\nserverurl=unix://{self.socket}\nusername=galaxy\npassword=s3cret-of-supervisord\n"
            "[include]\nfiles = conf.d/*.conf\n"
        )

    def program(self, name, command, group=None, **options):
        """Write ``[program:name]``. Keywords are further options, such as ``stopsignal``."""
        lines = [f"[program:{name}]", f"command={' '.join(map(str, command))}"]
        lines += [f"{key}={value}" for key, value in {**_QUICK, **options}.items()]
        if group:
            lines += [f"[group:{group}]", f"programs={name}"]
        (self.programs / f"{name}.conf").write_text("\n".join(lines) + "\n")

    def start(self):
        subprocess.run([BIN / "supervisord", "-c", self.conf_file], check=True)
        assert wait_until(lambda: self.ask("nothing") is not None, Deadline(180))
        return self

    def ask(self, group):
        infos = Client(SupervisorConfig(str(self.conf_file)).endpoint()).processes()
        return infos and [info for info in infos if info.group == group]

    def stop(self):
        """End it and everything below it."""
        with contextlib.suppress(FileNotFoundError, psutil.NoSuchProcess, ValueError):
            main = psutil.Process(int((self.root / "supervisord.pid").read_text()))
            family = [main, *main.children(recursive=True)]
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
            assert wait_until(lambda: all(map(_ended, family)), Deadline(180))


def _ended(process):
    """Whether it has ended, even if PID 1 has not reaped it yet."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


_QUICK = {
    **{"autostart": "false", "startsecs": 1, "startretries": 1, "stopsignal": "INT", "stopwaitsecs": 5},
    **{"redirect_stderr": "true"},
}
