"""What is known of a uWSGI only grows, and never belongs to another server."""

import os
import socket
import threading

import pytest
from support.attacker import GALAXY, MALLORY, make, public_directory, staying

import galaxy_uwsgi_server
from galaxy_errors import AddressError, ConfigError, NotMine, StatsUnreachable
from galaxy_host_address import Address
from galaxy_host_process import Invocation
from galaxy_uwsgi_server import UwsgiServer


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "galaxy.yml"
    path.write_text("uwsgi:\n  socket: 127.0.0.1:4001\n  stats: 127.0.0.1:9191\n  master: true\n")
    return str(path)


def _invocation(config, *words):
    return Invocation(("uwsgi", "--yaml", config, *words), "command line of PID 7", "/", {})


def test_addresses_by_the_file_by_what_is_learnt_and_as_given(config):
    web = UwsgiServer(config)
    assert (web.listens_on, web.stats_address) == ((Address("127.0.0.1", 4001),), Address("127.0.0.1", 9191))
    assert not web.learn(None)
    assert not web.learn(_invocation(config))
    assert web.learn(_invocation(config, "--stats", "127.0.0.1:4010"))
    assert web.stats_address == Address("127.0.0.1", 4010)
    assert not web.learn(_invocation(config, "--stats", "127.0.0.1:4010"))
    given = UwsgiServer(config, stats=":1", socket="@x")
    assert given.is_given
    assert (given.listens_on, given.stats_address) == ((Address(path="@x"),), Address(port=1))


def test_no_stats_option_is_said_with_what_was_read(tmp_path):
    path = tmp_path / "galaxy.yml"
    path.write_text("uwsgi:\n  master: true\n")
    web = UwsgiServer(str(path))
    with pytest.raises(ConfigError, match=f"{path}: no stats option; add one"):
        _ = web.stats_address
    web.learn(_invocation(str(path)))
    with pytest.raises(ConfigError, match=f"{path} and command line of PID 7: no stats option"):
        _ = web.stats_address
    path.write_text("uwsgi:\n  master: false\n  stats: 127.0.0.1:9191\n")
    with pytest.raises(ConfigError, match=f"{path}:2: master is off"):
        _ = UwsgiServer(str(path)).stats_address


def test_a_stats_option_that_cannot_be_used_is_the_reason(tmp_path):
    path = tmp_path / "galaxy.yml"
    path.write_text("uwsgi:\n  master: true\n  stats: unix:/run/s\n")
    with pytest.raises(AddressError, match=f"{path}:3: stats.*bare path"):
        _ = UwsgiServer(str(path)).stats_address


def test_where_nothing_is_known_nothing_is_said():
    web = UwsgiServer()
    assert (web.listens_on, web.known_addresses, web.is_silent(), web.sharers(None)) == ((), (), None, [])
    with pytest.raises(ConfigError, match="No Galaxy configuration is known"):
        _ = web.options


class _Process:
    pid = 7

    def __init__(self, uid):
        self.uids = (uid, uid)


class _Unit:
    """A unit that runs Galaxy as user ``runs_as``; ``owns`` says whether it started the process."""

    def __init__(self, runs_as, owns):
        self.runs_as, self._owns = runs_as, owns

    def __repr__(self):
        return "systemd galaxy"

    def owns(self, process):
        return self._owns

    def invocation(self):
        return None


@pytest.mark.parametrize(
    ("named", "decider", "unit", "uid", "mine"),
    [
        # the command line names this configuration; the configuration's owner decides
        *((True, 1000, None, 1000, True), (True, 1000, None, 0, True), (True, 1000, None, 1001, False)),
        # the command line names no file that can be seen
        *((None, 1000, None, 1000, True), (None, 0, None, 0, True), (None, 1000, None, 0, False)),
        # the command line names another configuration
        *((False, 1000, None, 1000, False), (False, 0, None, 0, False)),
        # root owns the configuration, so the process must be root's
        *((True, 0, None, 0, True), (True, 0, None, 1000, False), (None, 0, None, 1000, False)),
        # but the unit may name another user
        *((True, 0, _Unit(1000, False), 1000, True), (True, 0, _Unit(1000, True), 1001, False)),
        *((None, 0, _Unit(1000, None), 1000, True), (True, 1000, _Unit(1001, None), 1001, True)),
        # or root's service changed its user; with an init script this cannot be told
        *((True, 0, _Unit(None, True), 1000, True), (True, 0, _Unit(None, False), 1000, False)),
        (True, 0, _Unit(None, None), 1000, False),
    ],
)
def test_whose_process_it_is(monkeypatch, config, named, decider, unit, uid, mine):
    monkeypatch.setattr(galaxy_uwsgi_server.galaxy_uwsgi_process, "is_uwsgi", lambda process: True)
    monkeypatch.setattr(galaxy_uwsgi_server.galaxy_uwsgi_process, "names", lambda process, path: named)
    monkeypatch.setattr(UwsgiServer, "_deciders", {decider})
    monkeypatch.setattr(galaxy_uwsgi_server, "ours", lambda: {0})
    process = _Process(uid)
    if mine:
        UwsgiServer(config, find_unit=lambda process: unit)._require_mine(process)
    else:
        with pytest.raises(NotMine, match="PID 7, which serves there, runs"):
            UwsgiServer(config, find_unit=lambda process: unit)._require_mine(process)
    # a PID or an address that was given by hand is believed
    web = UwsgiServer(config)
    web.believe(7)
    web._require_mine(process)
    UwsgiServer(config, stats=":1")._require_mine(process)


@pytest.mark.parametrize(
    ("uid", "words", "mine"),
    [
        *((None, (), False), ("1000", (), True), ("1001", (), False), ("nobody", (), False), ("$(WHO)", (), False)),
        # an init script's own options come after the file
        *((None, ("--uid", "1000"), True), ("1000", ("--uid", "1001"), False), ("no-such-user", (), False)),
    ],
)
def test_the_user_that_root_has_uwsgi_become(monkeypatch, config, uid, words, mine):
    with open(config, "a", encoding="ascii") as file:
        file.write(f"  uid: {uid}\n" if uid else "")
    monkeypatch.setattr(galaxy_uwsgi_server.galaxy_uwsgi_process, "is_uwsgi", lambda process: True)
    monkeypatch.setattr(galaxy_uwsgi_server.galaxy_uwsgi_process, "names", lambda process, path: True)
    unit = _Unit(None, None)
    unit.invocation = lambda: Invocation(("uwsgi", "--yaml", config, *words), "script", "/", {})
    for found in (unit, None) if not words else (unit,):
        web = UwsgiServer(config, find_unit=lambda process, found=found: found)
        assert (web._is_mine(_Process(1000)), web._may_listen(1000)) == (mine, mine)
        if mine and os.geteuid() == 0:
            # the user owns the file, so this user could choose another user's server
            os.chown(config, 1002, 1002)
            assert not UwsgiServer(config, find_unit=lambda process, found=found: found)._is_mine(_Process(1000))
            os.chown(config, 0, 0)


def _serve(path, mode, document):
    """A server that answers everybody whom the socket's mode admits."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    os.chmod(path, mode)
    listener.listen()
    threading.Thread(target=_answer, args=(listener, document), daemon=True).start()
    return listener


def _answer(listener, document):
    while True:
        with listener.accept()[0] as connection:
            connection.sendall(document)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
class TestWhoseWordItIs:
    """What the user of Galaxy, or of a uWSGI with root's file, names is used with that user's rights only."""

    @pytest.fixture
    def place(self):
        with public_directory() as path:
            make(f"{path}/secret", 0, 0o600, b"root:TOPSECRET\n")
            make(f"{path}/roots.yml", 0, 0o644, b"uwsgi:\n  socket: 127.0.0.1:4001\n  stats: 127.0.0.1:9191\n")
            yield path

    def test_a_log_on_a_command_line(self, place):
        web = UwsgiServer(f"{place}/roots.yml")
        for user, shown in ((MALLORY, []), (None, ["root:TOPSECRET"])):
            argv = ("uwsgi", "--yaml", f"{place}/roots.yml", "--logto", f"{place}/secret")
            web.learn(Invocation(argv, "command line of PID 7", "/", {}, user))
            assert web.log(10) == shown

    def test_a_log_in_a_file_that_roots_includes(self, place):
        make(f"{place}/galaxy", GALAXY)
        make(f"{place}/galaxy/more.ini", GALAXY, 0o644, f"[uwsgi]\nlogs = {place}/secret\n".encode())
        more = f"[uwsgi]\ninclude = {place}/galaxy/more.ini\nlogto = %(logs)\n"
        make(f"{place}/roots.ini", 0, 0o644, more.encode())
        web = UwsgiServer(f"{place}/roots.ini")
        web.learn(Invocation(("uwsgi", "--ini", f"{place}/roots.ini"), "galaxy.service", "/", {}))
        assert [setting.value for setting in web.options.logs] == [f"{place}/secret"]
        assert web.log(10) == []

    def test_a_stats_socket_of_somebody_else(self, place):
        document = b'{"version": "2.0.30", "pid": 1, "workers": [], "load": 7}'
        make(f"{place}/mallory", MALLORY)
        make(f"{place}/galaxy.yml", GALAXY, 0o644, f"uwsgi:\n  stats: {place}/mallory/s\n".encode())
        for mode in (0o600, 0o666):
            with staying(MALLORY, _serve, f"{place}/mallory/s", mode, document):
                web = UwsgiServer(f"{place}/galaxy.yml")
                # the socket does not belong to Galaxy's user, so it is not asked, whatever its mode
                with pytest.raises(StatsUnreachable, match=f"user {MALLORY} listens there"):
                    web.read_stats(5)
                # an address from pillar was chosen by root
                assert UwsgiServer(f"{place}/galaxy.yml", stats=f"{place}/mallory/s").read_stats(5)
            os.unlink(f"{place}/mallory/s")
