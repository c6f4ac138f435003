"""Real managers read the definitions: systemd in a container, supervisord on this machine."""

import json
import os
import pathlib
import random
import re
import subprocess

import pytest
import salt.loader
from support.attacker import GALAXY, make, public_directory
from support.nspawn import machines, shares
from support.site import BIN

import galaxy_definition
from galaxy_host_wait import Deadline, wait_until

# supervisord cannot have a quote at an end of a value, or both kinds of quotes
VALUES = {
    "PLAIN": "postgresql://galaxy:TOPSECRET1@db/galaxy",
    "PERCENT": "50% %h %% %(ENV_PATH)s",
    "DOLLAR": "$HOME ${HOME} $$ `id` $(id)",
    "DOUBLE": 'say "x" now',
    "SINGLE": "it's so",
    "BACKSLASH": "\\n \\\\ \\",
    "BLANKS": "  a  b\t ",
    "SIGNS": "#a;b!c&d|e<f>g*h?i[j]k{l}m~n,o=p",
    "UNICODE": "Grüße 世界 \u2028 \u00a0",
    "EMPTY": "",
    "NUMBER": 7,
    "BLOCK": "left by YAML\n",
}
WANTED = {name: str(value).removesuffix("\n") for name, value in VALUES.items()}
# stands for uWSGI: writes down how it was started, and goes on running
_PROGRAM = """#!/usr/bin/python3
import json, os, sys, time
told = {"argv": sys.argv[1:], "cwd": os.getcwd(), "uid": os.getuid(), "gid": os.getgid()}
told["environment"] = dict(os.environ)
with open(sys.argv[2] + ".told.new", "w") as file:
    json.dump(told, file)
os.rename(sys.argv[2] + ".told.new", sys.argv[2] + ".told")
time.sleep(1000)
"""


def _lay_out(root, uid):
    """Make a directory with difficult letters, and the program in it. Returns the settings."""
    root.mkdir()
    root.chmod(0o777)
    program = root / "uwsgi"
    program.write_text(_PROGRAM)
    program.chmod(0o755)
    return {
        **{"config": str(root / "g.yml"), "uwsgi": str(program), "root": str(root), "user": uid, "group": uid},
        "environment": VALUES,
    }


def _told(settings):
    told = pathlib.Path(settings["config"] + ".told")
    assert wait_until(told.exists, Deadline(180))
    return json.loads(told.read_text())


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_supervisord():
    with public_directory() as place:
        settings = _lay_out(pathlib.Path(place) / "50% of $x ü", "daemon")
        (path, file), *rest = galaxy_definition.supervisord_program(
            {**settings, "program_file": f"{place}/galaxy.conf", "log": f"{place}/%h.log"}
        ).items()
        assert not rest
        galaxy_definition.apply({path: file})
        conf = pathlib.Path(place) / "supervisord.conf"
        conf.write_text(
            f"[supervisord]\nnodaemon=true\nlogfile={place}/s.log\npidfile={place}/s.pid\n[include]\nfiles=galaxy.conf\n"
        )
        with subprocess.Popen(
            [BIN / "supervisord", "-c", conf], stdout=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C.UTF-8"}
        ) as process:
            try:
                told = _told(settings)
            finally:
                process.terminate()
        assert {name: told["environment"].get(name) for name in WANTED} == WANTED
        assert told["argv"] == ["--yaml", settings["config"]]
        assert (told["cwd"], told["uid"]) == (settings["root"], 1)
        assert os.path.exists(f"{place}/%h.log")


@pytest.fixture(scope="module")
def share():
    yield from shares()


@pytest.fixture(scope="module")
def machine(share):
    yield from machines("galaxy-definition", share)


def _install(machine, share, settings):
    """Install the files in the machine, as ``apply`` does."""
    for path, file in galaxy_definition.systemd_unit(settings).items():
        if file:
            (share / "file").write_text(file.content)
            machine.run("install", "-m", f"{file.mode:o}", share / "file", path)
    machine.run("systemctl", "daemon-reload")


class TestSystemd:
    def test_what_arrives_and_who_sees_it(self, machine, share):
        settings = _lay_out(share / "50% of $x; y", "daemon")
        _install(machine, share, {**settings, "service": "galaxy"})
        machine.run("systemctl", "start", "galaxy")
        told = _told(settings)
        assert {name: told["environment"].get(name) for name in WANTED} == WANTED
        assert told["argv"] == ["--yaml", settings["config"]]
        assert (told["cwd"], told["uid"], told["gid"]) == (settings["root"], 1, 1)
        nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        seen = ""
        for argv in (
            ("systemctl", "show", "galaxy"),
            ("systemctl", "cat", "galaxy"),
            ("cat", "/etc/systemd/system/galaxy.service"),
            ("cat", "/etc/systemd/system/galaxy.service.environment"),
        ):
            done = machine.run(*nobody, *argv, check=False)
            seen += done.stdout + done.stderr
        assert "ExecStart" in seen
        assert "Permission denied" in seen
        assert "TOPSECRET" not in seen
        assert "TOPSECRET" not in machine.run("systemctl", "show", "galaxy").stdout
        journal = machine.run("journalctl", "-b", "--no-pager").stdout
        assert not re.search(r"galaxy\.service[^\n]*(ignoring|Failed|Invalid|Unknown)", journal)
        machine.run("systemctl", "stop", "galaxy")

    def test_random_values_arrive(self, machine, share):
        letters, chance = "ab \t\"'\\\\$`%{}()#;,=~!|&<>*?[]ü世\u2028\u00a0\U0001f600", random.Random(20261125)
        values = {f"V{number}": "".join(chance.choices(letters, k=chance.randrange(12))) for number in range(2000)}
        settings = {**_lay_out(share / "random", "daemon"), "environment": values, "service": "random"}
        _install(machine, share, settings)
        machine.run("systemctl", "start", "random")
        told = _told(settings)["environment"]
        assert {name: told.get(name) for name in values} == values
        machine.run("systemctl", "stop", "random")

    def test_never_without_its_mount(self, machine, share):
        settings = _lay_out(share / "mounts", "daemon")
        mount = "/srv/50% of; it"
        _install(machine, share, {**settings, "service": "mounted", "mounts": ["/srv/plain", mount]})
        machine.run("mkdir", "-p", "/srv/plain", mount)
        machine.run("mount", "-t", "tmpfs", "tmpfs", "/srv/plain")
        refused = machine.run("systemctl", "start", "mounted", check=False)
        assert refused.returncode != 0
        assert "Assertion failed" in refused.stderr
        machine.run("mount", "-t", "tmpfs", "tmpfs", mount)
        machine.run("systemctl", "start", "mounted")
        assert _told(settings)["uid"] == 1
        shown = machine.run("systemctl", "show", "-p", "RequiresMountsFor", "-p", "After", "mounted").stdout
        assert "remote-fs.target" in shown
        assert "/srv/plain" in shown
        assert "50%" in shown
        machine.run("systemctl", "stop", "mounted")

    def test_output_to_a_log_of_roots(self, machine, share):
        settings = _lay_out(share / "log", "daemon")
        (share / "log" / "uwsgi").write_text("#!/bin/sh\necho told; exec sleep 1000\n")
        _install(machine, share, {**settings, "service": "logging", "log": "/var/log/100%.log"})
        machine.run("systemctl", "start", "logging")
        assert wait_until(
            lambda: machine.run("cat", "/var/log/100%.log", check=False).stdout == "told\n", Deadline(180)
        )
        machine.run("systemctl", "stop", "logging")


class TestLogs:
    """Pillar tells where other users may write: on volumes of other servers, and on Onedata's spaces."""

    @pytest.fixture
    def define(self, opts, tmp_path):
        def define(log, ini=None, test=False, **more):
            server = {
                "config": "/srv/g.yml",
                "manager": "supervisord",
                "manage_service": True,
                "uwsgi": "/usr/bin/uwsgi",
            }
            server |= {"program_file": str(tmp_path / "galaxy.conf"), "user": "root", "log": log, **more}
            volume = {"device": "UUID=1", "mapper": "one", "mount_point": "/var/log/volume", "key": "/root/key"}
            space = {"provider_host": "p.example.org", "mount_point": "/var/log/space"}
            servers = {"main": server, "other": {"config": "/srv/o.yml", "storage": volume}}
            pillar = {"galaxy": {"servers": servers, "onedata": {"spaces": {"userdata": space}, "ini": ini}}}
            given = {**opts, "pillar": pillar, "test": test}
            modules = salt.loader.minion_mods(given, context={})
            return salt.loader.states(given, modules, {}, {}, context={})["galaxy.defined"]("galaxy", server="main")

        return define

    @pytest.mark.parametrize("place", ["volume", "space", "ini"])
    @pytest.mark.parametrize("test", [True, False])
    def test_where_others_write(self, define, tmp_path, place, test):
        ini = tmp_path / "onedatactl.ini"
        ini.write_text("[refdata]\nmountpoint = /var/log/ini\nprovider = p.example.org\ntoken = x\n")
        failed = define(f"/var/log/{place}/galaxy.log", ini=str(ini), test=test)
        assert (failed["result"], failed["changes"]) == (False, {})
        assert (
            f"log cannot be /var/log/{place}/galaxy.log, which root would open: on /var/log/{place} other"
            in (failed["comment"])
        )
        assert not (tmp_path / "galaxy.conf").exists()

    def test_elsewhere(self, define, tmp_path):
        assert define("/var/log/galaxy.log", test=True)["result"] is None
        assert define("/var/log/galaxy.log")["result"] is True
        assert "stdout_logfile = /var/log/galaxy.log\n" in (tmp_path / "galaxy.conf").read_text()
        with public_directory() as place:
            refused = define(f"{make(f'{place}/galaxy', GALAXY)}/galaxy.log")
            assert refused["result"] is False
            assert "user 4001" in refused["comment"]
