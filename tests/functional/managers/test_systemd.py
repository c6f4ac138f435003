"""The systemd unit with a real systemd: how it is found, what it says, and what it refuses."""

import json
import pathlib
import pwd
import textwrap

import pytest
from support.site import BIN, REPO

_PRELUDE = f"""
import json, sys
sys.path.insert(0, {str(REPO / "_utils")!r})
import galaxy_manager_detection, galaxy_manager_systemd, galaxy_uwsgi_process
from galaxy_errors import GalaxyError
from galaxy_host_process import Process
from galaxy_host_wait import Deadline, wait_until
from galaxy_manager_systemd import Systemd
CONFIG = "/srv/galaxy/config/galaxy.yml"

def detect(config=CONFIG, **keywords):
    own = lambda invocation: galaxy_uwsgi_process.starts(invocation, config)
    try:
        return repr(galaxy_manager_detection.detect(config=config, own=own, **keywords))
    except GalaxyError as exc:
        return str(exc)
"""


@pytest.fixture
def python(machine, share):
    """A function that runs Python in the machine, and returns the JSON that it prints."""

    def run(code):
        path = share / "code.py"
        path.write_text(_PRELUDE + textwrap.dedent(code))
        return json.loads(machine.run(BIN / "python", path).stdout)

    return run


@pytest.fixture
def service(machine):
    """A function that writes unit files below /etc/systemd/system, which are removed afterwards."""
    written = []

    def write(**texts):
        for name, text in texts.items():
            path = f"/etc/systemd/system/{name}"
            machine.run("mkdir", "-p", str(pathlib.Path(path).parent))
            machine.run("sh", "-c", 'printf "%s" "$0" >"$1"', text, path)
            written.append(path)
        machine.run("systemctl", "daemon-reload")

    yield write
    for path in written:
        machine.run("systemctl", "stop", pathlib.Path(path).name, check=False)
        machine.run("systemctl", "disable", pathlib.Path(path).name, check=False)
        machine.run("rm", "-f", path)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "reset-failed")


_UWSGI = "/srv/galaxy/venv/bin/uwsgi"
_CONFIG = "/srv/galaxy/config/galaxy.yml"


def test_enabled_instances_of_templates(machine, service, python):
    service(
        **{
            "galaxy-zergling@.service": f"[Service]\nWorkingDirectory=/srv/galaxy/server\nExecStart={_UWSGI} --yaml "
            f"{_CONFIG} --stats 127.0.0.1:401%I --socket 127.0.0.1:400%I\n[Install]\nWantedBy=multi-user.target\n",
            "uwsgi@.service": "[Service]\nExecStart=/usr/bin/uwsgi --ini /etc/uwsgi/%I.ini\n"
            "[Install]\nWantedBy=multi-user.target\n",
        }
    )
    assert python("print(json.dumps(detect()))") == "None"
    machine.run("systemctl", "enable", "galaxy-zergling@0.service", "uwsgi@srv-galaxy.service")
    assert python("print(json.dumps(detect()))") == "systemd galaxy-zergling@0"
    # %I is the instance's name, unescaped
    assert python("print(json.dumps(detect('/etc/uwsgi/srv/galaxy.ini')))") == "systemd uwsgi@srv-galaxy"
    argv, source = python(
        "unit = Systemd('galaxy-zergling@0')\nprint(json.dumps([unit.invocation().argv, unit.invocation().source]))"
    )
    assert argv[-3:] == ["127.0.0.1:4010", "--socket", "127.0.0.1:4000"]
    assert source == "galaxy-zergling@0.service"
    machine.run("systemctl", "enable", "galaxy-zergling@1.service")
    several = python("print(json.dumps(detect()))")
    assert "galaxy-zergling@0, galaxy-zergling@1; say which with service=" in several
    assert python("print(json.dumps(detect(service='galaxy-zergling@1')))") == "systemd galaxy-zergling@1"
    assert "is a template" in python("print(json.dumps(detect(service='galaxy-zergling@')))")
    machine.run(
        *("systemctl", "disable", "galaxy-zergling@0.service", "galaxy-zergling@1.service", "uwsgi@srv-galaxy.service")
    )


_DUMP = """#!/bin/sh
exec {python} -c 'import sys, os, json; print(json.dumps([sys.argv[1:], os.getcwd()]))' "$@" >{share}/words-$UNIT
"""
_LINES = [
    'ExecStart={dump} "a b" \'c d\' e"f g" \'it\\\'s\' "" ',
    r"ExecStart={dump} a\x20b \"c\tx\" 'x\ty' \\n \$x \u00e9 a\040b \s \q",
    "ExecStart={dump} a ';' b \\; c",
    'Environment=A=1 "B=x y" C=\'z\' "D=\\x41"\n'
    'ExecStart={dump} $A ${{A}} x$A $B ${{B}} $$A $NO ${{NO}} "$B" $A-x ${{D}}',
    "Environment=\"A=--yaml 'x y'\"\nExecStart={dump} $A ${{A}}",
    "ExecStart=:{dump} $A ${{A}} %n %%",
    "ExecStart={dump} wrong\nExecStart=\nExecStart=@-{dump} zero a \\\n b \\\n# comment\n c",
    "WorkingDirectory=-/nowhere\nExecStart={dump}",
    "WorkingDirectory=/usr\nExecStart={dump}",
]


def test_words_and_directories_are_those_of_systemd(machine, share, service, python):
    dump = share / "dump"
    dump.write_text(_DUMP.format(python=BIN / "python", share=share))
    dump.chmod(0o755)
    names = [f"words-{number}" for number, _ in enumerate(_LINES)]
    texts = [
        f"[Service]\nType=oneshot\nEnvironment=UNIT={number}\n{line.format(dump=dump)}\n"
        for number, line in enumerate(_LINES)
    ]
    service(**{f"{name}.service": text for name, text in zip(names, texts, strict=True)})
    machine.run("systemctl", "start", *(f"{name}.service" for name in names))
    real = [json.loads((share / name).read_text()) for name in names]
    ours = python(
        f"commands = [galaxy_manager_systemd.definition_of(name, None).commands() for name in {names!r}]\n"
        "print(json.dumps([[list(one.argv[1:]), one.cwd] for one, in commands]))"
    )
    assert ours == real


def test_what_counts_in_units(machine, service, python):
    """Only ExecStart counts, with an alias, a backup copy and a drop-in beside it."""
    own = f"[Service]\nExecStart={_UWSGI} --yaml {_CONFIG}\n[Install]\nAlias=galaxy-web.service\n"
    service(
        **{
            "galaxy.service": own + "WantedBy=multi-user.target\n",
            "galaxy.service.dpkg-old": own,
            "galaxy-old.service.bak": own,
            "galaxy-backup.service": f"# stop uwsgi\n[Service]\nExecStart=/usr/local/bin/backup {_CONFIG}\n",
            "galaxy-handler0.service": "[Unit]\nAfter=galaxy-uwsgi.service\n[Service]\nExecStart=/srv/galaxy/venv/bin/"
            f"python ./scripts/galaxy-main -c {_CONFIG} --log-file=/var/log/galaxy/uwsgi-handler0.log\n",
            "galaxy-uwsgi.service": f"[Service]\nExecStart={_UWSGI} --yaml {_CONFIG}\n",
            "galaxy-uwsgi.service.d/other.conf": f"[Service]\nExecStart=\nExecStart=+{_UWSGI} --yaml /srv/b.yml\n",
        }
    )
    machine.run("systemctl", "enable", "galaxy.service")
    assert python("print(json.dumps(detect()))") == "systemd galaxy"
    assert python("print(json.dumps(detect('/srv/b.yml')))") == "systemd galaxy-uwsgi"
    named = python("print(json.dumps([detect(service=name) for name in ('galaxy-web', 'galaxy.service', 'gone')]))")
    assert named[:2] == ["systemd galaxy-web", "systemd galaxy"]
    assert "Nothing like gone" in named[2]
    machine.run("systemctl", "disable", "galaxy.service")


def test_a_unit_that_fails_and_its_start_limit(machine, service, python):
    service(
        **{
            "galaxy.service": "[Unit]\nStartLimitBurst=2\nStartLimitIntervalSec=1000\n[Service]\nRestart=on-failure\n"
            "RestartSec=100ms\nExecStart=/bin/sh -c 'test -e /run/good && exec sleep 1000'\n"
        }
    )
    code = """
    unit = Systemd("galaxy")
    before = unit.status()
    unit.start()
    failed = wait_until(lambda: unit.status().state.value == "failed" and unit.status(), Deadline(180))
    open("/run/good", "w").close()
    unit.start()
    good = wait_until(lambda: unit.status().state.value == "running" and unit.status(), Deadline(180))
    pids = list(good.pids)
    unit.stop()
    after = unit.status()
    print(json.dumps([before.state, failed.state, failed.why, failed.active, pids, after.state, after.active]))
    """
    before, failed, why, active, pids, after, still = python(code)
    assert (before, failed, active, after, still) == ("stopped", "failed", False, "stopped", False)
    assert "exit status 1" in why
    assert len(pids) == 1


def test_restarts_are_counted(service, python):
    service(**{"galaxy.service": "[Service]\nRestart=always\nRestartSec=50ms\nExecStart=/bin/sleep 0.3\n"})
    code = """
    unit = Systemd("galaxy")
    unit.start()
    counted = wait_until(lambda: unit.status().restarts, Deadline(180))
    unit.stop()
    print(json.dumps([counted, unit.status().raw]))
    """
    counted, raw = python(code)
    assert counted >= 1
    assert raw == "inactive (dead)"


def test_refusals_are_sentences(machine, service, python):
    service(**{"galaxy.service": "[Service]\nExecStart=/bin/sleep 1000\n"})
    machine.run("rm", "/etc/systemd/system/galaxy.service")
    machine.run("systemctl", "mask", "galaxy.service")
    machine.run("systemctl", "daemon-reload")
    code = """
    def attempt(function):
        try:
            return str(function())
        except GalaxyError as exc:
            return type(exc).__name__ + " " + str(exc)
    gone = Systemd("gone")
    print(json.dumps([attempt(Systemd("galaxy").start), attempt(gone.start), attempt(gone.status)]))
    """
    masked, gone, status = python(code)
    assert masked.startswith("ManagerError systemd: start of galaxy failed")
    assert "masked" in masked
    assert gone.startswith("ManagerError systemd: start of gone failed")
    assert "systemd has no unit gone" in status
    machine.run("systemctl", "unmask", "galaxy.service")


def test_no_secret_is_asked_for_or_logged(service, python):
    service(**{"galaxy.service": "[Service]\nEnvironment=GALAXY_DB=TOPSECRET\nExecStart=/bin/sleep 1000\n"})
    code = """
    import io, logging
    text = io.StringIO()
    logging.basicConfig(stream=text, level=1)
    import galaxy_host_command
    run, outputs = galaxy_host_command.run, []
    def spy(argv, **keywords):
        outputs.append(run(argv, **keywords))
        return outputs[-1]
    galaxy_host_command.run = spy
    unit = Systemd("galaxy")
    unit.start(); unit.status(); unit.owns(Process.of(1)); detect(); unit.stop()
    invocation = unit.invocation()
    print(json.dumps([text.getvalue() + "".join(outputs) + repr(invocation), invocation.environment["GALAXY_DB"]]))
    """
    shown, value = python(code)
    assert "TOPSECRET" not in shown
    # the unit still knows the definition's own words
    assert value == "TOPSECRET"


def test_what_a_job_left_in_a_units_group_is_not_the_units(service, python, machine, shared_site):
    """A job of the minion, or of cron, may have started Galaxy. Stopping Galaxy must not stop them."""
    site = shared_site
    job = site.root / "job.sh"
    job.write_text(f"#!/bin/sh\n{BIN}/uwsgi --yaml {site.config} &\n[ $1 = child ] && wait || exec sleep 1000\n")
    job.chmod(0o755)
    # SIGKILL, because SIGTERM would only reload the uWSGI
    head = "[Service]\nKillSignal=SIGKILL\nExecStart="
    left = f"{head}/bin/sh -c '({job} child &) ; exec sleep 1000'\n"
    service(**{"salt-minion.service": left, "cron.service": f"{head}{job} child\n"})
    for name in ("salt-minion", "cron"):
        machine.run("systemctl", "start", name)
        site.wait()
        code = f"""
        master = wait_until(lambda: galaxy_uwsgi_process.masters({str(site.config)!r}), Deadline(180))[0]
        main = int(Systemd({name!r}).show()["MainPID"])
        found = detect({str(site.config)!r}, master=master)
        print(json.dumps([found, galaxy_manager_systemd.of_process(master)[0], main in master.lineage]))
        """
        assert python(code) == ["None", name, name == "cron"]
        machine.run("systemctl", "stop", name)


def test_whom_a_unit_runs_as(service, python):
    head = "[Service]\nExecStart=/bin/true\n"
    users = {"named": "User=daemon\n", "numbered": "User=4001\n", "unknown": "User=no-such-user\n", "roots": ""}
    service(**{f"{name}.service": head + line for name, line in users.items()})
    daemon = pwd.getpwnam("daemon").pw_uid
    assert python(f"print(json.dumps([Systemd(name).runs_as for name in {list(users)}]))") == [daemon, 4001, None, None]


@pytest.fixture
def user(machine):
    """A user with a running systemd manager."""
    machine.run("useradd", "--create-home", "gxuser")
    uid = machine.run("id", "-u", "gxuser").stdout.strip()
    machine.run("install", "-d", "-o", "gxuser", f"/run/user/{uid}")
    machine.run("systemctl", "start", f"user@{uid}.service")
    yield "gxuser", uid
    machine.run("systemctl", "stop", f"user@{uid}.service")
    machine.run("userdel", "--force", "--remove", "gxuser", check=False)


def test_a_unit_of_a_users_manager(machine, python, user, share):
    """Another program stands for a uWSGI in a virtualenv that the user can read."""
    name, uid = user
    home = f"/home/{name}"
    program = share / "uwsgi"
    program.write_bytes(pathlib.Path("/bin/sleep").read_bytes())
    program.chmod(0o755)
    share.chmod(0o755)
    unit = f"[Service]\nWorkingDirectory=~\nEnvironment=GALAXY_HOME=%h\nExecStart={program} 1000\n"
    path = f"{home}/.config/systemd/user/galaxy.service"
    machine.run("mkdir", "-p", str(pathlib.Path(path).parent))
    machine.run("sh", "-c", 'printf "%s" "$0" >"$1"', unit, path)
    machine.run("chown", "-R", name, f"{home}/.config")
    as_user = ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups")
    systemctl = (*as_user, "env", f"XDG_RUNTIME_DIR=/run/user/{uid}", "systemctl", "--user")
    machine.run(*systemctl, "daemon-reload")
    machine.run(*systemctl, "start", "galaxy.service")
    pid = machine.run(*systemctl, "show", "-p", "MainPID", "--value", "galaxy.service").stdout.strip()
    code = f"""
    master = Process.of({pid})
    try:
        unit = galaxy_manager_detection.detect(config=CONFIG, master=master)
        said = [unit.service, unit.user, unit.owns(master), unit.owns(Process.of(1)), unit.status().state,
                unit.invocation().cwd, unit.invocation().environment, unit.commands()["stop"]]
        unit.stop()
        said.append(master.is_alive)
    except GalaxyError as exc:
        said = str(exc)
    print(json.dumps([galaxy_manager_systemd.of_process(Process.of({pid})), said]))
    """
    found, said = python(code)
    if isinstance(said, str):
        # without machined, nobody can reach another user's manager
        assert f"systemd's manager of user {name} cannot be reached" in said
        assert found == ["galaxy", name]
        return
    assert said[:5] == ["galaxy", name, True, False, "running"]
    assert said[5:7] == [home, {"GALAXY_HOME": home}]
    assert said[7:] == [["systemctl", "--user", "-M", f"{name}@", "stop", "galaxy"], False]
