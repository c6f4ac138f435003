"""Gravity's configuration files, and what the real Gravity makes of them."""

import json
import os
import subprocess

from .site import REPO

PYTHON = REPO / ".venv-bed" / "bin" / "python"
ORACLE = REPO / "tests" / "support" / "gravity_oracle.py"


class Case:
    """
    A source tree of Galaxy below ``root``, with files in its ``config``. Gravity is called in ``root``.

    files
        their texts by name; a single text is the one of ``galaxy.yml``
    environment, as_root
        the environment of Gravity, and whether it runs as root
    is_installed
        Galaxy is a package in Gravity's virtualenv ``ROOT/v``; there is no source tree
    """

    def __init__(self, root, files, environment=None, as_root=False, is_installed=False):
        self.root = root
        self.as_root = as_root
        self.is_installed = is_installed
        self.environment = {"PATH": "/usr/bin:/bin", "HOME": "/nowhere"}
        self.environment.update({key: self.filled(value) for key, value in (environment or {}).items()})
        package = "v/lib/python3.11/site-packages/galaxy" if is_installed else "lib/galaxy"
        (root / package).mkdir(parents=True)
        (root / package / "version.py").write_text('VERSION = "26.1"\n')
        (root / "config").mkdir()
        for name, text in ({"galaxy.yml": files} if isinstance(files, str) else files).items():
            (root / "config" / name).write_text(self.filled(text))
        self.path = str(root / "config" / "galaxy.yml")

    def filled(self, text):
        return text.replace("ROOT", str(self.root))

    @property
    def question(self):
        return {
            "path": self.path,
            "environment": self.environment,
            "directory": str(self.root),
            "root": self.as_root,
            "installed": self.is_installed,
        }


def ask(cases):
    """What the real Gravity makes of each case: the answers of ``gravity_oracle.py``."""
    # isolated (-I): else the gunicorn.py in the script's directory would be imported
    done = subprocess.run(
        [PYTHON, "-I", ORACLE],
        input=json.dumps([case.question for case in cases]),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return json.loads(done.stdout)


def update(case, directory):
    """
    Runs the real ``galaxyctl update``. For systemd it writes its units into ``directory``; a stand-in for systemctl
    always reports success. Returns the output.
    """
    (directory / "bin").mkdir(parents=True)
    systemctl = directory / "bin" / "systemctl"
    systemctl.write_text('#!/bin/sh\n[ "$2" = show-environment ] && echo PATH=/usr/bin:/bin\nexit 0\n')
    systemctl.chmod(0o755)
    environment = {
        **case.environment,
        "PATH": f"{directory}/bin:/usr/bin:/bin",
        "GRAVITY_SYSTEMD_UNIT_PATH": str(directory),
        # the units of a user, even if root runs the tests
        "GRAVITY_SKIP_SYSTEMD": "1",
    }
    done = subprocess.run(
        [PYTHON.parent / "galaxyctl", "-c", case.path, "update"],
        env=environment,
        cwd=case.root,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files_below(directory):
    """The relative path and the text of each regular file."""
    return {
        os.path.relpath(path, directory): path.read_text() for path in sorted(directory.rglob("*")) if path.is_file()
    }
