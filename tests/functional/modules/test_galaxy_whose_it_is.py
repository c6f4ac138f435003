"""If root owns the configuration, the unit or the option uid tells Galaxy's user. No other user's server is Galaxy."""

import json
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import threading

import pytest
from salt.exceptions import CommandExecutionError
from support.attacker import GALAXY, MALLORY, public_directory, staying
from support.site import PLAIN_APP, Site, free_port

from galaxy_host_wait import Deadline, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="runs uWSGIs as other users")
# this user has a name, because supervisord needs one
USER = pwd.getpwnam("games")


@pytest.fixture
def site():
    """Root owns the configuration. Any user may serve this application."""
    with public_directory() as root:
        made = Site(pathlib.Path(root) / "galaxy", pidfile=None, mule=None, farm=None)
        (made.root / "lib/galaxy/webapps/galaxy/buildapp.py").write_text(PLAIN_APP)
        yield made
        made.stop()


@pytest.fixture
def impostor(site):
    """A function that starts a process of mallory's: it is called uWSGI, names the configuration, and does nothing."""
    program = site.root / "uwsgi"
    shutil.copy("/bin/bash", program)
    started = []

    def start():
        argv = [program, "-c", "read line; exit", "--yaml", site.config]
        started.append(subprocess.Popen(argv, stdin=subprocess.PIPE, user=MALLORY, group=MALLORY, extra_groups=[]))
        name = f"/proc/{started[-1].pid}/comm"
        assert wait_until(lambda: pathlib.Path(name).read_text() == "uwsgi\n", Deadline(60))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def _by_hand(site, uid):
    """Start the site's uWSGI by hand, as that user."""
    with site.log.open("ab") as log:
        argv = [*site.command, "--uid", str(uid)]
        site.process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
    site.wait()
    return site.process.pid


def test_who_only_names_the_configuration_holds_up_nothing(modules, state, site, impostor, supervisord):
    supervisord.program("galaxy", [*site.command, "--uid", USER.pw_name])
    supervisord.start()
    keywords = {**site.keywords, "conf_file": str(supervisord.conf_file)}
    stranger = impostor()
    status = modules["galaxy.status"](**keywords)
    assert (status["running"], status["pid"], status["manager"]["state"]) == (False, None, "stopped")
    done = modules["galaxy.start"](**keywords, timeout=60)
    assert (done["ready"], done["changed"]) == (True, True)
    assert os.stat(f"/proc/{done['pid']}").st_uid == USER.pw_uid
    # a server that root started for Galaxy is Galaxy, even if it changed its user: by uid, a wrapper, or an emperor
    assert modules["galaxy.status"](**keywords)["ready"]
    assert modules["galaxy.stop"](**keywords)["changed"]
    assert modules["galaxy.stop"](**keywords, force=True)["stopped"] == []
    assert stranger.poll() is None


def test_the_units_user_is_galaxys_and_nobody_else(modules, site, supervisord):
    supervisord.program("galaxy", site.command, user=USER.pw_name)
    supervisord.start()
    keywords = {**site.keywords, "conf_file": str(supervisord.conf_file)}
    pid = _by_hand(site, USER.pw_uid)
    status = modules["galaxy.status"](**keywords)
    assert (status["pid"], status["ready"]) == (pid, True)
    with pytest.raises(CommandExecutionError, match="supervisord did not start it as galaxy"):
        modules["galaxy.start"](**keywords)
    site.stop()
    pid = _by_hand(site, MALLORY)
    status = modules["galaxy.status"](**keywords)
    assert (status["pid"], status["ready"]) == (None, False)
    said = f"PID {pid}, which serves there, runs as user {MALLORY}, but supervisord galaxy runs Galaxy as user games"
    assert said in " ".join(status["problems"])
    assert modules["galaxy.stop"](**keywords, force=True)["stopped"] == []
    assert site.process.poll() is None


def test_by_hand_only_as_the_user_that_the_configuration_names(modules, site):
    pid = _by_hand(site, GALAXY)
    status = modules["galaxy.status"](**site.keywords)
    assert (status["pid"], status["ready"]) == (None, None)
    said = f"PID {pid}, which serves there, runs as user {GALAXY}, and no file of root's says that Galaxy runs so"
    assert said in " ".join(status["problems"])
    for given in ({}, {"force": True}):
        with pytest.raises(CommandExecutionError, match="no file of root's says"):
            modules["galaxy.stop"](**site.keywords, **given)
    assert site.process.poll() is None
    # once the configuration names the user, it is Galaxy
    site.write(uid=GALAXY)
    status = modules["galaxy.status"](**site.keywords)
    # on a busy machine the file may be seconds newer than uWSGI, which is a problem of its own
    others = [text for text in status["problems"] if "was changed after" not in text]
    assert (status["pid"], status["ready"], others) == (pid, True, [])
    site.write(uid=None)
    done = modules["galaxy.stop"](**site.keywords, force=True, pid=pid, timeout=5)
    assert {"pid": pid, "signal": "SIGINT"} in done["signals"]


def test_galaxys_user_decides_on_what_he_can_exchange(modules, site):
    """Root owns the file, but galaxy owns the directory and can replace the file. So the file counts as galaxy's."""
    os.chown(site.config.parent, GALAXY, GALAXY)
    pid = _by_hand(site, GALAXY)
    assert modules["galaxy.status"](**site.keywords)["pid"] == pid


def _false_stats(port, host="127.0.0.1"):
    """A stats server that claims that all is well."""
    worker = {"id": 1, "pid": 1, "accepting": 1, "status": "idle", "requests": 0, "apps": [{"id": 0}], "cores": []}
    document = json.dumps({"version": "2.0.30", "pid": 1 << 22, "workers": [worker]}).encode()
    listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)

    def answer():
        while True:
            with listener.accept()[0] as connection:
                connection.sendall(document)

    threading.Thread(target=answer, daemon=True).start()


def test_a_strangers_stats_server_makes_no_galaxy(modules, site):
    port = int(site.stats.rpartition(":")[2])
    with staying(MALLORY, _false_stats, port):
        status = modules["galaxy.status"](**site.keywords)
        assert (status["running"], status["ready"]) in ((None, None), (False, False))
        assert f"user {MALLORY} listens there" in " ".join(status["problems"])
        # an address that is given by hand is believed
        assert modules["galaxy.stats"](stats=site.stats)["version"] == "2.0.30"


def test_a_stranger_at_the_names_other_address_is_not_asked(modules, site):
    port = free_port()
    site.write(uid=GALAXY, stats=f"localhost:{port}")
    pid = _start(site)
    with staying(MALLORY, _false_stats, port, "::1"):
        status = modules["galaxy.status"](**site.keywords)
        assert (status["pid"], status["ready"], status["problems"]) == (pid, True, [])


def _start(site):
    site.start(wait=False)
    assert wait_until(lambda: site.get() == b"Galaxy", Deadline(60)), site.log.read_text()
    return site.process.pid
