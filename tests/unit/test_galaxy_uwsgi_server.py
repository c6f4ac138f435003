"""What is known of a uWSGI grows, and is never another server's."""

import pytest

import galaxy_uwsgi_server
from galaxy_errors import ConfigError, NotMine
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


def test_where_nothing_is_known_nothing_is_said():
    web = UwsgiServer()
    assert (web.listens_on, web.known_addresses, web.is_silent(), web.sharers(None)) == ((), (), None, [])
    with pytest.raises(ConfigError, match="No Galaxy configuration is known"):
        _ = web.options


class _Process:
    pid = 7

    def __init__(self, uid):
        self.uids = (uid, uid)


@pytest.mark.parametrize(
    ("named", "owner", "uid", "mine"),
    [
        # its command line names this configuration
        *((True, 1000, 1000, True), (True, 1000, 0, True), (True, 0, 1000, True), (True, 1000, 1001, False)),
        # it names none that can be seen
        *((None, 1000, 1000, True), (None, 0, 0, True), (None, 1000, 0, False), (None, 0, 1000, False)),
        # it names another
        *((False, 1000, 1000, False), (False, 0, 0, False)),
    ],
)
def test_whose_process_it_is(monkeypatch, config, named, owner, uid, mine):
    monkeypatch.setattr(galaxy_uwsgi_server.galaxy_uwsgi_process, "is_uwsgi", lambda process: True)
    monkeypatch.setattr(galaxy_uwsgi_server.galaxy_uwsgi_process, "names", lambda process, path: named)
    monkeypatch.setattr(galaxy_uwsgi_server, "_owner", lambda path: owner)
    process = _Process(uid)
    if mine:
        UwsgiServer(config)._require_mine(process)
    else:
        with pytest.raises(NotMine, match="PID 7, which serves there, runs"):
            UwsgiServer(config)._require_mine(process)
    # what was named by its PID, and an address that was given by hand, is believed
    web = UwsgiServer(config)
    web.believe(7)
    web._require_mine(process)
    UwsgiServer(config, stats=":1")._require_mine(process)
