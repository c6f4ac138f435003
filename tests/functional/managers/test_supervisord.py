"""The supervisord unit with a real supervisord: groups, names, zerglings, and impostors that other users run."""

import contextlib
import http.server
import json
import logging
import os
import pathlib
import socket
import subprocess
import threading

import pytest
from support.site import BIN, UWSGI, free_port

import galaxy_host_address
import galaxy_host_process
import galaxy_manager_detection
import galaxy_manager_supervisor_config
import galaxy_uwsgi_process
from galaxy_errors import ManagerError
from galaxy_host_process import Process
from galaxy_host_wait import Deadline, wait_until
from galaxy_manager_supervisor_config import SupervisorConfig
from galaxy_manager_supervisord import Supervisord
from galaxy_manager_unit import State

NOBODY = 65534


def _detect(config, **keywords):
    def own(invocation):
        return galaxy_uwsgi_process.starts(invocation, str(config))

    return galaxy_manager_detection.detect(config=str(config), own=own, **keywords)


def _is(unit, *states):
    return wait_until(lambda: unit.status().state in states, Deadline(15))


def _start(unit):
    unit.start()
    assert _is(unit, State.RUNNING), unit.status()


@pytest.fixture
def zerg(supervisord, tmp_path):
    """A pool and two zerglings in one group, all running. Returns the addresses, and each zergling's master."""
    pool = f"/tmp/zerg-{os.getpid()}-{free_port()}.sock"
    address, stats = f"127.0.0.1:{free_port()}", [f"127.0.0.1:{free_port()}" for _ in range(2)]
    (tmp_path / "app.py").write_text("def application(e, r):\n    r('200 OK', [])\n    return [b'']\n")
    config = tmp_path / "galaxy.ini"
    config.write_text(f"[uwsgi]\nmaster = true\nprocesses = 2\nzerg = {pool}\nwsgi-file = {tmp_path}/app.py\n")
    supervisord.program("zergpool", [UWSGI, "--master", "--zerg-pool", f"{pool}:{address}"], autorestart="true")
    for index in range(2):
        command = [UWSGI, "--ini", config, "--stats", stats[index]]
        supervisord.program(f"zergling{index}", command, autorestart="true", startretries=20)
    (supervisord.programs / "group.conf").write_text("[group:gx]\nprograms=zergpool,zergling0,zergling1\n")
    supervisord.start()
    everything = Supervisord("gx", SupervisorConfig(str(supervisord.conf_file)))
    Supervisord("gx:zergpool", SupervisorConfig(str(supervisord.conf_file))).start()
    assert wait_until(lambda: os.path.exists(pool), Deadline(180))
    everything.start()
    addresses = [galaxy_host_address.parse(text) for text in (address, *stats)]

    def masters():
        found = [galaxy_uwsgi_process.find_master([one]) for one in addresses[1:]]
        return found if None not in found and len(galaxy_uwsgi_process.sharers(addresses[:1], found[0])) == 2 else None

    yield config, addresses, wait_until(masters, Deadline(180))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(pool)


def test_one_zergling_is_stopped_and_no_other(zerg):
    config, addresses, masters = zerg
    unit = _detect(config, master=masters[0])
    assert unit.service == "gx:zergling0"
    assert (unit.owns(masters[0]), unit.owns(masters[1])) == (True, False)
    assert set(unit.status().pids) == {masters[0].pid}
    family = galaxy_uwsgi_process.family(masters[0])
    unit.stop()
    assert wait_until(lambda: not any(one.is_alive for one in [masters[0], *family]), Deadline(180))
    assert masters[1].is_alive
    assert _detect(config, master=masters[1]).service == "gx:zergling1"
    assert len(galaxy_uwsgi_process.sharers(addresses[:1], masters[1])) == 1
    with pytest.raises(ManagerError, match="gx:zergling0, gx:zergling1; say which"):
        _detect(config)
    assert _detect(config, service="gx:zergling0").status().state is State.STOPPED


def test_the_process_of_the_program_that_runs_uwsgi_decides(make_site, supervisord):
    """A group with a handler first: the service is the process that runs uWSGI."""
    site = make_site()
    supervisord.program("galaxy_uwsgi", site.command, process_name="web", priority=999)
    main = site.root / "main.py"
    main.write_text("import time\ntime.sleep(1000)\n")
    handler = ["/usr/bin/python3", main, "-c", site.config]
    supervisord.program("handler", handler, process_name="handler%(process_num)s", numprocs=2, priority=900)
    (supervisord.programs / "group.conf").write_text("[group:galaxy]\nprograms=handler,galaxy_uwsgi\n")
    supervisord.start()
    unit = _detect(site.config)
    assert unit.service == "galaxy"
    _start(unit)
    assert wait_until(lambda: len(unit.status().pids) == 3 and not unit.status().problems, Deadline(180))
    by_process = Supervisord("galaxy:handler0", SupervisorConfig(str(supervisord.conf_file)))
    by_process.stop()
    status = unit.status()
    assert (status.state, status.raw, status.active) == (State.RUNNING, "RUNNING", True)
    assert status.problems == ("supervisord reports STOPPED for galaxy:handler0.",)
    named = _detect(site.config, service="galaxy:galaxy_uwsgi")
    assert (named.service, named.status().state) == ("galaxy:web", State.RUNNING)
    assert _detect(site.config, service="galaxy_uwsgi").service == "galaxy:web"
    assert _detect(site.config, service="galaxy:handler").service == "galaxy:handler"
    named.stop()
    assert unit.status().state is State.STOPPED
    unit.stop()
    assert not unit.status().active


def test_another_galaxys_group_is_not_ours(make_site, supervisord):
    """Both Galaxies run, and the other one's group is called galaxy."""
    main, test = make_site(), make_site()
    supervisord.program("galaxy_web", main.command)
    supervisord.program("handler", ["sh", "-c", f"'sleep 1000 # -c {main.config}'"])
    (supervisord.programs / "group.conf").write_text("[group:galaxy]\nprograms=galaxy_web,handler\n")
    supervisord.start()
    _start(_detect(main.config))
    test.start()
    main.wait()
    master = galaxy_uwsgi_process.find_master([galaxy_host_address.parse(test.socket)])
    assert _detect(test.config, master=master) is None
    assert _detect(test.config) is None
    own = galaxy_uwsgi_process.find_master([galaxy_host_address.parse(main.socket)])
    unit = _detect(main.config, master=own)
    assert unit.service == "galaxy"
    assert unit.owns(master) is False
    # our Galaxy is started by hand: the definition that names it is found, but does not own it
    unit.stop()
    main.start()
    by_hand = galaxy_uwsgi_process.find_master([galaxy_host_address.parse(main.socket)])
    assert _detect(main.config, master=by_hand).owns(by_hand) is False


def test_a_program_that_cannot_start_says_why(supervisord, tmp_path):
    supervisord.program("galaxy", [tmp_path / "gone"])
    supervisord.start()
    unit = _detect("/srv/galaxy.yml")
    with pytest.raises(ManagerError, match=r"does not start galaxy:galaxy: .*NO_FILE"):
        unit.start()
    single = Supervisord("galaxy:galaxy", SupervisorConfig(str(supervisord.conf_file)))
    with pytest.raises(ManagerError, match=r"does not start galaxy:galaxy: .*NO_FILE"):
        single.start()


def test_what_supervisord_does_not_know(supervisord):
    supervisord.start()
    config = SupervisorConfig(str(supervisord.conf_file))
    for service in ("gone", "gone:one"):
        with pytest.raises(ManagerError, match=f"{supervisord.conf_file}: no program or group {service}$"):
            Supervisord(service, config).start()


def test_a_value_that_supervisord_cannot_read_is_not_quoted(supervisord):
    supervisord.program("galaxy", ["sleep", "1000"])
    supervisord.start()
    unit = _detect("/srv/galaxy.yml")
    supervisord.program("other", ["sleep", "1000"], stopsignal="TOPSECRET")
    with pytest.raises(ManagerError, match=r"cannot take up its configuration \(CANT_REREAD\)") as caught:
        unit.start()
    assert "TOPSECRET" not in str(caught.value)


def test_a_new_and_a_changed_program_file_are_taken_up(make_site, supervisord):
    supervisord.start()
    site = make_site()
    supervisord.program("galaxy", site.command)
    unit = _detect(site.config)
    assert (unit.status().raw, unit.status().active) == ("not known", False)
    _start(unit)
    pid = unit.status().pids[0]
    assert set(unit.status().pids) == {pid}
    unit.stop()
    supervisord.program("galaxy", site.command, environment='GALAXY_MARK="changed"')
    _start(_detect(site.config))
    assert Process.of(unit.status().pids[0]).environment["GALAXY_MARK"] == "changed"


def test_supervisord_is_brought_up_from_path(make_site, supervisord, monkeypatch, tmp_path):
    site = make_site()
    supervisord.program("galaxy", site.command)
    unit = _detect(site.config, conf_file=str(supervisord.conf_file))
    assert unit.status().raw == "supervisord is not running"
    with pytest.raises(ManagerError, match=r"galaxy.startup brings it up"):
        unit.start()
    assert unit.owns(Process.of(os.getpid())) is False
    monkeypatch.setenv("PATH", "/bin")
    with pytest.raises(ManagerError, match="supervisord is not on PATH"):
        unit.bring_up(Deadline(5))
    evil = tmp_path / "evil"
    evil.mkdir()
    (evil / "supervisord").write_text(f"#!/bin/sh\ntouch {tmp_path}/owned\n")
    (evil / "supervisord").chmod(0o755)
    os.chown(evil / "supervisord", NOBODY, NOBODY)
    monkeypatch.setenv("PATH", f"{evil}:/bin")
    with pytest.raises(ManagerError, match=r"supervisord is not run: .*can write it"):
        unit.bring_up(Deadline(5))
    assert not (tmp_path / "owned").exists()
    monkeypatch.setenv("PATH", f"{BIN}:/bin")
    assert unit.bring_up(Deadline(180)) is True
    assert unit.bring_up(Deadline(180)) is False
    _start(unit)


def _stranger(*argv, **options):
    """A process of another user, with a name of that user's choice."""
    words = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *map(str, argv)]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def _is_named(process):
    identified = Process.of(process.pid)
    return identified and identified.argv[:1] and identified.argv[0].endswith("supervisord")


@pytest.fixture
def impostor(tmp_path):
    """``impostor(conf)`` is another user's process that is called supervisord, with programs of that user beside it."""
    evil = pathlib.Path(f"/tmp/evil-{os.getpid()}-{free_port()}")
    evil.mkdir(mode=0o755)
    started = []

    def run(conf):
        (evil / "s.conf").write_text(conf)
        for name in ("supervisord", "supervisorctl"):
            (evil / name).write_text(f"#!/bin/sh\ntouch {evil}/owned\n")
            (evil / name).chmod(0o755)
        for path in (evil, *evil.iterdir()):
            os.chown(path, NOBODY, NOBODY)
        # as a program that has no option -c, and as scripts that have one: run by a shell, and by a Python
        (evil / "wait").write_text("read line\n")
        for command in (
            f"exec -a {evil}/supervisord sleep 1000",
            f"exec -a supervisord sh {evil}/wait -c {evil}/s.conf",
            f"exec -a {evil}/supervisord python3 -c 'input()' -c {evil}/s.conf",
        ):
            started.append(_stranger("bash", "-c", command))
        assert wait_until(lambda: all(map(_is_named, started)), Deadline(180))
        return evil

    yield run
    for process in started:
        process.kill()
        process.wait()
    subprocess.run(["rm", "-rf", evil], check=True)


def test_a_process_that_is_called_supervisord_is_not_asked_and_not_run(impostor, make_site, supervisord, monkeypatch):
    site = make_site()
    address = f"127.0.0.1:{free_port()}"
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            seen.append(self.headers)
            self.send_error(500)

    server = http.server.HTTPServer(("127.0.0.1", int(address.rpartition(":")[2])), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("VAULT_TOKEN", "hvs.TOPSECRET")
    evil = impostor(
        f"[inet_http_server]\nport={address}\nusername=%(ENV_VAULT_TOKEN)s\npassword=x\n[supervisord]\n"
        f"[program:galaxy]\ncommand=uwsgi --yaml {site.config}\n"
    )
    assert _detect(site.config) is None
    supervisord.program("galaxy", site.command)
    supervisord.start()
    unit = _detect(site.config)
    assert unit.conf_file == str(supervisord.conf_file)
    _start(unit)
    assert not any(str(evil) in word for command in unit.commands().values() for word in command)
    unit.stop()
    assert not (evil / "owned").exists()
    assert seen == []
    server.shutdown()
    server.server_close()
    # a file that is named with conf_file is refused too
    with pytest.raises(ManagerError, match=r"not used: .*nobody"):
        _detect(site.config, conf_file=str(evil / "s.conf"))


_LISTEN_TCP = "import socket,sys; s=socket.create_server(('127.0.0.1',int(sys.argv[1]))); print(1,flush=True); input()"
_LISTEN_UNIX = """
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print(1, flush=True)
while True:
    print(listener.accept()[0].recv(9999), flush=True)
"""


def _listen_as_stranger(script, where):
    process = _stranger("/usr/bin/python3", "-c", script, where, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"1\n", process.stderr.read()
    return process


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_a_stranger_at_supervisords_address_gets_no_password(supervisord, kind):
    """supervisord is down, and another user has taken its socket in /tmp, or its port."""
    port = free_port()
    text = supervisord.conf_file.read_text()
    if kind == "tcp":
        text = text.replace(f"[unix_http_server]\nfile={supervisord.socket}", f"[inet_http_server]\nport=*:{port}")
        text = text.replace(f"unix://{supervisord.socket}", f"http://127.0.0.1:{port}")
        supervisord.conf_file.write_text(text)
    supervisord.program("galaxy", ["sleep", "1000"])
    script, where = (_LISTEN_UNIX, supervisord.socket) if kind == "unix" else (_LISTEN_TCP, str(port))
    unit = _detect("/srv/galaxy.yml", conf_file=str(supervisord.conf_file))
    assert unit.status().raw == "supervisord is not running"
    stranger = _listen_as_stranger(script, where)
    for ask in (unit.status, unit.start, unit.stop):
        why = "user nobody can put something else there" if kind == "unix" else f"user {NOBODY} listens there, not root"
        with pytest.raises(ManagerError, match=why):
            ask()
    assert unit.owns(Process.of(os.getpid())) is None
    stranger.kill()
    heard, _ = stranger.communicate()
    # nothing was sent there
    assert heard == b""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(supervisord.socket)


def test_a_supervisord_on_a_port_is_spoken_to(make_site, supervisord):
    port = free_port()
    text = supervisord.conf_file.read_text()
    text = text.replace(f"[unix_http_server]\nfile={supervisord.socket}", f"[inet_http_server]\nport=127.0.0.1:{port}")
    supervisord.conf_file.write_text(text.replace(f"unix://{supervisord.socket}", f"http://localhost:{port}"))
    site = make_site()
    supervisord.program("galaxy", site.command)
    supervisord.start()
    unit = _detect(site.config)
    _start(unit)
    unit.stop()


def test_the_password_is_never_shown(supervisord, caplog):
    caplog.set_level(logging.DEBUG)
    supervisord.program("galaxy", ["sleep", "1000"])
    supervisord.start()
    unit = _detect("/srv/galaxy.yml")
    _start(unit)
    shown = [repr(unit), json.dumps(unit.commands()), repr(unit.status()), repr(unit.invocation())]
    shown += [repr(SupervisorConfig(str(supervisord.conf_file)).endpoint())]
    unit.stop()
    text = supervisord.conf_file.read_text().replace("password=s3cret-of-supervisord", "password=wrong-password")
    supervisord.conf_file.write_text(text)
    with pytest.raises(ManagerError, match="HTTP 401") as caught:
        _detect("/srv/galaxy.yml").status()
    everything = " ".join(shown) + str(caught.value) + caplog.text
    assert "s3cret-of-supervisord" not in everything
    assert "wrong-password" not in everything


def test_a_login_from_the_environment_is_not_filled_in(supervisord, monkeypatch):
    monkeypatch.setenv("SECRET", "hvs.TOPSECRET")
    text = supervisord.conf_file.read_text().replace("password=s3cret-of-supervisord", "password=%(ENV_SECRET)s")
    supervisord.conf_file.write_text(text)
    supervisord.program("galaxy", ["sleep", "1000"])
    with pytest.raises(ManagerError, match="password is taken from the environment") as caught:
        _detect("/srv/galaxy.yml", conf_file=str(supervisord.conf_file))
    assert "TOPSECRET" not in str(caught.value)


def test_the_environment_of_the_supervisord_that_runs_counts(make_site, supervisord, monkeypatch):
    site = make_site()
    monkeypatch.setenv("GALAXY_ROOT", str(site.root))
    supervisord.program("portal", [UWSGI, "--yaml", "%(ENV_GALAXY_ROOT)s/config/galaxy.yml"])
    supervisord.start()
    monkeypatch.setenv("GALAXY_ROOT", "/srv/minion")
    unit = _detect(site.config)
    assert unit.service == "portal"
    assert unit.invocation().argv == (UWSGI, "--yaml", str(site.config))
    assert unit.invocation().environment["GALAXY_ROOT"] == str(site.root)


def test_one_look_asks_once(make_site, supervisord, monkeypatch):
    """One call asks for the master's manager and its status, and no scan of all processes is made."""
    site = make_site()
    supervisord.program("galaxy", site.command)
    supervisord.start()
    _start(_detect(site.config))
    site.wait()
    master = galaxy_uwsgi_process.find_master([galaxy_host_address.parse(site.socket)])
    calls, scans = [], []
    connect, pids = socket.socket.connect, galaxy_host_process.pids
    monkeypatch.setattr(socket.socket, "connect", lambda self, where: calls.append(where) or connect(self, where))
    monkeypatch.setattr(galaxy_host_process, "pids", lambda: scans.append(1) or pids())
    assert _detect(site.config, master=master).status().state is State.RUNNING
    assert len(calls) == 1
    assert scans == []


def test_a_master_whose_supervisord_was_killed_has_a_definition_and_no_owner(make_site, supervisord):
    site = make_site()
    supervisord.program("galaxy", site.command)
    supervisord.start()
    _start(_detect(site.config))
    site.wait()
    master = galaxy_uwsgi_process.find_master([galaxy_host_address.parse(site.socket)])
    parent = master.parent
    assert galaxy_host_process.end([parent], 9, 5)
    unit = _detect(site.config, master=master, conf_file=str(supervisord.conf_file))
    assert (unit.service, unit.owns(master)) == ("galaxy", False)
    galaxy_host_process.end([*galaxy_uwsgi_process.family(master), master], 9, 5)


def test_usual_places_of_the_configuration(supervisord, monkeypatch):
    """Without -c, the file is found from the directory where supervisord was started."""
    supervisord.program("galaxy", ["sleep", "1000"])
    argv = [BIN / "supervisord", "-n"]
    process = subprocess.Popen(argv, cwd=supervisord.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert wait_until(lambda: supervisord.ask("galaxy"), Deadline(180))
        assert _detect("/srv/galaxy.yml").conf_file == str(supervisord.conf_file)
        files = galaxy_manager_supervisor_config.config_files()
        assert (str(supervisord.conf_file), Process.of(process.pid)) in files
    finally:
        process.terminate()
        process.wait()
