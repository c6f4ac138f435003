"""A master with salt-api as in docs/remote.md, and two minions. The first has a Galaxy and a volume."""

import json
import secrets
import subprocess
import time
import uuid

import pytest
import salt.utils.event

from .remote import MINION, Client, configuration, nginx
from .site import UWSGI, Site
from .supervisord import Supervisord

OWN, OTHER = MINION, "galaxy-example.org"
PASSPHRASE = "correct horse battery staple"


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    """The UUID of a real LUKS volume on a loop device."""
    image, name = tmp_path_factory.mktemp("volume") / "image", str(uuid.uuid4())
    with open(image, "wb") as file:
        file.truncate(32 << 20)
    options = ["--type=luks2", "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000", f"--uuid={name}", "--key-file=-"]
    subprocess.run(["cryptsetup", "-q", "luksFormat", *options, image], input=PASSPHRASE.encode(), check=True)
    done = subprocess.run(["losetup", "--find", "--show", image], check=True, capture_output=True, text=True)
    yield name
    subprocess.run(["losetup", "--detach", done.stdout.strip()], check=True)


@pytest.fixture(scope="module")
def galaxy(tmp_path_factory):
    root = tmp_path_factory.mktemp("galaxy")
    site, supervisord = Site(root / "galaxy", processes=1), Supervisord(root / "supervisor")
    supervisord.program("galaxy", [UWSGI, "--yaml", site.config])
    supervisord.start()
    yield site, supervisord
    supervisord.stop()
    site.stop()


@pytest.fixture(scope="module")
def documented(volume, tmp_path_factory):
    return configuration(tmp_path_factory.mktemp("documented"), volume)


@pytest.fixture(scope="module")
def master(salt_factories, documented, galaxy, tree, tmp_path_factory):
    site, supervisord = galaxy
    pillar = tmp_path_factory.mktemp("pillar")
    keys = {"config": str(site.config), "manager": "supervisord", "conf_file": str(supervisord.conf_file)}
    keys.update(timeout=60, retries=0, storage={"passphrase": PASSPHRASE})
    (pillar / "top.sls").write_text(json.dumps({"base": {OWN: ["galaxy"], OTHER: ["galaxy"]}}))
    (pillar / "galaxy.sls").write_text(json.dumps({"galaxy": keys}))
    overrides = {
        **documented,
        "file_roots": {"base": [str(tree)]},
        "pillar_roots": {"base": [str(pillar)]},
        "open_mode": True,
        # after so many seconds without an answer, the master asks whether the minion still works on the job
        "timeout": 1,
        # not at trace: there salt-api logs all that it sends to the master
        "log_level_logfile": "debug",
    }
    daemon = salt_factories.salt_master_daemon("remote-master", overrides=overrides)
    with daemon.started():
        yield daemon


@pytest.fixture(scope="module")
def minions(master):
    daemons = [master.salt_minion_daemon(name) for name in (OWN, OTHER)]
    for daemon in daemons:
        daemon.slow_stop = False
    with daemons[0].started(), daemons[1].started():
        assert master.salt_run_cli().run("saltutil.sync_all", _timeout=60).returncode == 0
        synced = master.salt_cli().run("saltutil.sync_all", minion_tgt="*", _timeout=120)
        assert sorted(synced.data) == sorted((OWN, OTHER))
        yield daemons


@pytest.fixture(scope="module")
def api(master, minions, documented):
    with master.salt_api_daemon().started():
        yield Client(documented)


@pytest.fixture
def front(documented, api, tmp_path):
    """Like ``api``, but through nginx. ``tmp_path`` has nginx's logs."""
    with nginx(tmp_path, documented) as port:
        yield Client(documented, port)


@pytest.fixture(scope="module")
def token(api):
    return api.login()


@pytest.fixture
def bus(event_listener, master):
    """
    ``bus()``: the events of jobs, runners and hooks on the master's bus since the test began. ``bus(asked=True)`` adds
    the events by which the master asks whether a minion still works on a job.
    """
    began = time.time()
    seen = ("salt/job", "salt/run", "salt/wheel", "salt/netapi")

    def read(asked=False):
        marker = f"galaxy/marker/{secrets.token_hex(8)}"
        with salt.utils.event.get_master_event(master.config, master.config["sock_dir"], listen=False) as sender:
            sender.fire_event({}, marker)
        event_listener.wait_for_events([(master.id, marker)], timeout=60, after_time=began)
        events = event_listener.get_events([(master.id, "*")], after_time=began)
        events = [event for event in events if event.tag.startswith(seen)]
        return [event for event in events if asked or event.data.get("fun") != "saltutil.find_job"]

    return read
