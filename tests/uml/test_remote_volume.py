"""A volume is really opened over HTTPS: master and salt-api are as in docs/remote.md, and the guest is their minion."""

import ipaddress
import json
import os
import pathlib
import subprocess
import sys
import time

import pytest
from machine import Machine
from support.remote import KEY, MINION, UUID, Client, configuration

REPO = pathlib.Path(__file__).resolve().parents[2]
SALT_MINION = str(pathlib.Path(sys.executable).with_name("salt-minion"))
# elsewhere the guest's root is read-only
MOUNT_POINT = "/run/export"
PASSPHRASE = "correct horse battery staple"


pytestmark = pytest.mark.skipif(not os.path.exists("/dev/net/tun"), reason="no TAP devices on this machine")


@pytest.fixture
def network():
    """A TAP device, and the addresses on it: this host's and the guest's."""
    name, first = f"galaxy{os.getpid()}", ipaddress.ip_address("10.255.0.0") + 4 * (os.getpid() % 16384)
    subprocess.run(["ip", "tuntap", "add", "dev", name, "mode", "tap"], check=True)
    for words in (["address", "add", f"{first + 1}/30", "dev", name], ["link", "set", name, "up"]):
        subprocess.run(["ip", *words], check=True)
    yield name, str(first + 1), str(first + 2)
    subprocess.run(["ip", "link", "delete", name], check=True)


@pytest.fixture
def master(salt_factories, network, tmp_path):
    _, here, _ = network
    (tmp_path / "pillar").mkdir()
    (tmp_path / "pillar/top.sls").write_text(json.dumps({"base": {MINION: ["galaxy"]}}))
    (tmp_path / "pillar/galaxy.sls").write_text(json.dumps({"galaxy": {"storage": {"passphrase": PASSPHRASE}}}))
    overrides = {
        **configuration(tmp_path, mount_point=MOUNT_POINT),
        "interface": here,
        "open_mode": True,
        "runner_dirs": [str(REPO / "_runners")],
        "utils_dirs": [str(REPO / "_utils")],
        "pillar_roots": {"base": [str(tmp_path / "pillar")]},
        "log_level_logfile": "debug",
    }
    daemon = salt_factories.salt_master_daemon("remote-guest-master", overrides=overrides)
    with daemon.started(), daemon.salt_api_daemon().started():
        yield daemon


@pytest.fixture
def machine(tmp_path, network, master, event_listener):
    """The guest, with a volume as its disk. Its minion is connected."""
    tap, here, there = network
    with open(tmp_path / "disk", "wb") as file:
        file.truncate(32 << 20)
    options = ["--type=luks2", "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000", f"--uuid={UUID}", "--key-file=-"]
    argv = ["cryptsetup", "-q", "luksFormat", *options, tmp_path / "disk"]
    subprocess.run(argv, input=PASSPHRASE.encode(), check=True)
    config = {
        **{"id": MINION, "master": here, "root_dir": "/run/salt", "log_level_logfile": "debug"},
        **{"publish_port": master.config["publish_port"], "master_port": master.config["ret_port"]},
        "module_dirs": [str(REPO / "_modules")],
        "utils_dirs": [str(REPO / "_utils")],
        # in the guest, a process for each job takes long
        "multiprocessing": False,
    }
    (tmp_path / "share").mkdir()
    (tmp_path / "share/minion").write_text(json.dumps(config))
    began = time.time()
    with Machine(tmp_path / "share", tmp_path / "disk", tap=tap) as machine:
        up = f"ip link set lo up && ip address add {there}/30 dev vec0 && ip link set vec0 up"
        assert machine.run("sh", "-c", f"{up} && {SALT_MINION} -d -c /run/share") == (0, "")
        made = "cryptsetup open --key-file=- /dev/ubdb new && mkfs.ext4 -q /dev/mapper/new && cryptsetup close new"
        assert machine.run("sh", "-c", f"printf '{PASSPHRASE}' | {made}") == (0, "")
        started = [(master.id, f"salt/minion/{MINION}/start")]
        assert event_listener.wait_for_events(started, timeout=240, after_time=began).found_all_events
        yield machine


def test_a_volume_is_opened_and_its_passphrase_is_nowhere(machine, master, event_listener):
    began = time.time()
    api = Client(master.config)
    token = api.login()

    def call(fun, **more):
        keywords = {"minion": MINION, "device": f"UUID={UUID}", **more}
        status, answer = api.run(token, fun=fun, kwarg=keywords)
        assert status == 200, answer
        assert answer["return"][0]["success"] is True, answer
        return answer["return"][0]["return"]

    assert call("luks.status")["open"] is False
    wanted = {"mapper": "galaxy", "key": KEY, "mount_point": MOUNT_POINT}
    assert call("luks.open", **wanted) is True
    assert call("luks.open", **wanted) is False
    assert call("luks.status")["mapper"] == "galaxy"
    assert machine.run("findmnt", "-no", "SOURCE,FSTYPE", MOUNT_POINT)[1].split() == ["/dev/mapper/galaxy", "ext4"]
    assert machine.run("grep", "-rl", KEY, "/run/salt/var/log") == (0, "/run/salt/var/log/salt/minion\n")
    assert machine.run("grep", "-rl", PASSPHRASE, "/run/salt") == (1, "")

    jobs = [(master.id, "salt/job/*/ret/*"), (master.id, "salt/run/*/ret")]
    assert event_listener.wait_for_events(jobs, timeout=60, after_time=began).found_all_events
    events = event_listener.get_events([(master.id, "*")], after_time=began)
    assert KEY in json.dumps([event.data for event in events], default=str)
    assert PASSPHRASE not in json.dumps([event.data for event in events], default=str)
    root = pathlib.Path(master.config["root_dir"])
    kept = [path for name in ("cache/jobs", "logs") for path in (root / name).rglob("*") if path.is_file()]
    assert {"master.log", "api.log", "return.p", ".load.p"} <= {path.name for path in kept}
    assert [path for path in kept if PASSPHRASE.encode() in path.read_bytes()] == []
