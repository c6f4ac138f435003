"""A minion that starts brings itself back, with a real master and a real reactor; and what the beacon tells."""

import fnmatch
import json
import re
import subprocess
import time

import pytest
import salt.utils.event
from support import onedata
from support.bus import heard
from support.fleet import laid_out, pillar_of
from support.onedata import TOKEN
from support.site import REPO

from galaxy_host_wait import Deadline, wait_until

ROLE, PLAIN = "galaxy-boot", "galaxy-plain"
# ready or failed, but not progress
OUTCOME = f"galaxy/{ROLE}/[!p]*"


@pytest.fixture(scope="module")
def galaxies(tmp_path_factory):
    with laid_out({minion: tmp_path_factory.mktemp(minion) for minion in (ROLE, PLAIN)}, processes=1) as found:
        yield found


@pytest.fixture(scope="module")
def pillar(tmp_path_factory, galaxies):
    """
    ``pillar(minion, key=value)`` writes the minion's ``galaxy:`` again, in the directory ``pillar.root``. The minion
    with the role has an Onedata space, which is mounted at ``pillar.space``.
    """
    root = tmp_path_factory.mktemp("pillar")
    space = root / "userdata"
    (root / "top.sls").write_text(json.dumps({"base": {name: [name] for name in galaxies}}))

    def write(minion, **more):
        keys = pillar_of(*galaxies[minion], retries=0, boot={"enabled": minion == ROLE})
        if minion == ROLE:
            userdata = {"provider_host": "p.example.org", "access_token": TOKEN, "mount_point": str(space)}
            keys["onedata"] = {"spaces": {"userdata": userdata}}
        keys.update(more)
        (root / f"{minion}.sls").write_text(json.dumps({"galaxy": keys}))

    write.root, write.space = root, space
    for name in galaxies:
        write(name)
    yield write
    subprocess.run(["umount", "--lazy", space], capture_output=True, check=False)


@pytest.fixture(scope="module")
def reactor(tmp_path_factory):
    """The boot's reactor file, with a shorter pause."""
    root = tmp_path_factory.mktemp("reactor")
    text = (REPO / "formulas/galaxy/reactor/boot.sls").read_text()
    shorter, places = re.subn(r"pause: \d+", "pause: 3", text)
    assert places == 1
    (root / "galaxy/reactor").mkdir(parents=True)
    (root / "galaxy/reactor/boot.sls").write_text(shorter)
    return root


@pytest.fixture(scope="module")
def master(salt_factories, pillar, tree, reactor):
    overrides = {
        "file_roots": {"base": [str(reactor), str(tree), str(tree / "formulas")]},
        "pillar_roots": {"base": [str(pillar.root)]},
        "open_mode": True,
        "reactor": [
            {"salt/minion/*/start": ["salt://galaxy/reactor/boot.sls"]},
            {f"salt/beacon/{PLAIN}/galaxy/stuck": ["salt://galaxy/reactor/stuck.sls"]},
        ],
        # at most so many machines boot at the same time; the others wait
        "reactor_worker_threads": 2,
    }
    daemon = salt_factories.salt_master_daemon("boot-master", overrides=overrides)
    with daemon.started():
        assert "runners.galaxy" in daemon.salt_run_cli().run("saltutil.sync_all", _timeout=60).data["runners"]
        yield daemon


@pytest.fixture(scope="module")
def minions(master, event_listener_of, tmp_path_factory):
    path = onedata.install(tmp_path_factory.mktemp("oneclient") / "bin")
    beacon = [{"interval": 1}, {"down": 1}, {"saturated": 1}, {"stuck": 2}, {"recovered": 2}]
    daemons = {
        name: master.salt_minion_daemon(name, overrides={"beacons": {"galaxy": beacon}}) for name in (ROLE, PLAIN)
    }
    began = time.time()
    for daemon in daemons.values():
        daemon.environ["PATH"] = path
        daemon.start()
    client = master.salt_cli()
    # everything that is synced now, beacons too, works without a restart. The first boot may run before the sync; wait
    # for its end, before the tests
    done = client.run("saltutil.sync_all", minion_tgt="*", _timeout=120)
    assert sorted(done.data) == sorted(daemons)
    assert event_listener_of(OUTCOME, began)
    yield daemons
    for daemon in daemons.values():
        daemon.terminate()


@pytest.fixture(scope="module")
def event_listener_of(event_listener, master):
    """``event_listener_of(tag, since)``: the events with that tag on the master's bus. It waits for the first one."""

    def wait(pattern, since, seconds=60):
        event_listener.wait_for_events([(master.id, pattern)], timeout=seconds, after_time=float(since))
        events = event_listener.get_events([(master.id, pattern)], after_time=float(since))
        return sorted(events, key=lambda event: event.stamp)

    return wait


def _restart(daemon):
    began = time.time()
    daemon.terminate()
    daemon.start()
    return began


def _boots(event_listener_of, since):
    """The jobs that were published to boot the minion with the role."""
    jobs = [event.data for event in event_listener_of("salt/job/*/new", since)]
    return [job["jid"] for job in jobs if (job["fun"], job["arg"][0]) == ("state.apply", "galaxy.boot")]


def _forge(master, event, messages, sender):
    """Send an event a hundred times in each message. Returns the runs, the jobs, and the outcomes that followed."""
    with heard(master) as events:
        for _ in range(messages):
            load = {"events": [event] * 100}
            sent = master.salt_cli().run("event.fire_master", "", "x", preload=load, minion_tgt=sender, _timeout=60)
            assert sent.data is True

        def runs():
            return [data for tag, data in list(events) if tag.startswith("salt/run/") and tag.endswith("/ret")]

        assert wait_until(lambda: len(runs()) >= 100 * messages, Deadline(300 * messages), interval=1)
        new = [data for tag, data in events if tag.startswith("salt/job/") and tag.endswith("/new")]
        jobs = [data["jid"] for data in new if data["fun"] == "state.apply"]
        return runs(), jobs, [tag for tag, _ in events if fnmatch.fnmatch(tag, OUTCOME)]


def test_a_minion_with_the_role_is_ready_after_its_start(minions, galaxies, pillar, event_listener_of):
    site, _ = galaxies[ROLE]
    subprocess.run(["umount", "--lazy", pillar.space], capture_output=True, check=False)
    began = _restart(minions[ROLE])
    (event,) = event_listener_of(OUTCOME, began)[:1]
    assert event.data["data"] == {}
    assert event.tag == f"galaxy/{ROLE}/ready"
    assert site.get() == b"Galaxy\n"
    assert (pillar.space / "space.txt").read_text() == "onedata\n"
    # the minion without the role was left alone
    assert galaxies[PLAIN][0].read() is None


def test_a_minion_without_the_role_is_left_alone(minions, galaxies, event_listener_of):
    began = _restart(minions[PLAIN])
    assert event_listener_of("salt/run/*/ret", began)
    assert galaxies[PLAIN][0].read() is None
    assert event_listener_of(f"galaxy/{PLAIN}/*", began, seconds=1) == []


@pytest.mark.slow
def test_the_same_minion_starting_twice_is_harmless(minions, master, galaxies, event_listener_of):
    site, _ = galaxies[ROLE]
    _restart(minions[ROLE])
    began = _restart(minions[ROLE])
    events = event_listener_of(OUTCOME, began)
    assert {event.tag for event in events} == {f"galaxy/{ROLE}/ready"}
    assert site.get() == b"Galaxy\n"
    # an interrupted or queued boot must end before the next test
    while master.salt_cli().run("saltutil.is_running", "state.*", minion_tgt=ROLE, _timeout=60).data != []:
        assert time.time() - began < 600


def test_a_boot_that_fails_says_at_which_step_and_why(minions, galaxies, pillar, event_listener_of):
    pillar(ROLE, onedata={"spaces": {"userdata": {"provider_host": "p.example.org", "mount_point": "relative"}}})
    began = _restart(minions[ROLE])
    (event,) = event_listener_of(f"galaxy/{ROLE}/failed", began)
    assert event.data["data"]["step"] == "settings"
    assert event.data["data"]["state"] == "galaxy-settings"
    assert "userdata:mount_point is 'relative'" in event.data["data"]["reason"]
    # two tries, but one outcome; and a word about what the second try waits for
    assert len(_boots(event_listener_of, began)) == 2
    (waiting,) = event_listener_of(f"galaxy/{ROLE}/progress", began)
    assert waiting.data["data"]["waits_for"].startswith("the next try, in 3 s: settings: ")
    # a boot that cannot even be rendered is reported too
    pillar(ROLE, onedata={"ini": "/nonexistent"})
    began = _restart(minions[ROLE])
    (event,) = event_listener_of(f"galaxy/{ROLE}/failed", began)
    assert event.data["data"]["step"] == "boot"
    assert "/nonexistent: no such file" in event.data["data"]["reason"]
    pillar(ROLE)


def test_what_is_back_at_the_second_try_was_no_failure(minions, pillar, event_listener_of):
    pillar(ROLE, onedata={"ini": "/nonexistent"})
    began = _restart(minions[ROLE])
    # wait until the first try is over
    assert event_listener_of(f"salt/job/*/ret/{ROLE}", began)
    pillar(ROLE)
    assert [event.tag for event in event_listener_of(OUTCOME, began)] == [f"galaxy/{ROLE}/ready"]
    assert len(_boots(event_listener_of, began)) == 2


# sending a thousand takes seconds, and meanwhile some boots begin
@pytest.mark.parametrize(("messages", "boots"), [(1, 2), pytest.param(10, 12, marks=pytest.mark.slow)])
def test_a_hundred_forged_starts_are_two_boots_at_most(minions, master, event_listener_of, messages, boots):
    """Any accepted minion can send such events in another's name."""
    forged = {"tag": f"salt/minion/{ROLE}/start", "data": {"id": ROLE}}
    runs, jobs, told = _forge(master, forged, messages, PLAIN)
    assert {(data["fun"], data["fun_args"][0]["minion"]) for data in runs} == {("runner.galaxy.boot", ROLE)}
    assert 1 <= len(jobs) <= boots
    assert set(told) == {f"galaxy/{ROLE}/ready"}
    # a true start after them is not delayed
    began = time.time()
    with salt.utils.event.get_master_event(master.config, master.config["sock_dir"], listen=False) as bus:
        bus.fire_event({"id": ROLE}, f"salt/minion/{ROLE}/start")
    assert event_listener_of(f"galaxy/{ROLE}/ready", began)


@pytest.mark.slow
def test_a_minion_that_is_lost_is_told_of(minions, master, event_listener_of):
    minions[ROLE].terminate()
    began = time.time()
    done = master.salt_run_cli().run("galaxy.boot", ROLE, _timeout=120)
    (event,) = event_listener_of(OUTCOME, began)
    assert event.tag == f"galaxy/{ROLE}/failed"
    assert event.data["data"] == done.data["return"]
    assert event.data["data"]["reason"] == f"{ROLE} does not answer, or has stopped answering"
    minions[ROLE].start()
    assert event_listener_of(f"galaxy/{ROLE}/ready", began)


@pytest.mark.parametrize("example", ["boot", "stuck"])
def test_an_id_cannot_become_a_command_of_the_master(minions, master, event_listener_of, tmp_path, example):
    """Any accepted minion can send such an event, with event.fire_master and its ``preload``."""
    evil = f"x:\n  runner.salt.cmd:\n    - args:\n      - fun: cmd.run\n      - cmd: touch {tmp_path}/evil\ny"
    tag = {"boot": "salt/minion/gone/start", "stuck": f"salt/beacon/{PLAIN}/galaxy/stuck"}[example]
    began = time.time()
    with salt.utils.event.get_master_event(master.config, master.config["sock_dir"], listen=False) as bus:
        for given in (evil, "x or *", ["x"], {"x": "y"}):
            bus.fire_event({"id": given}, tag)
        # the master reacts to events in their order, so this one is the last
        bus.fire_event({"id": PLAIN}, "salt/minion/last/start")
    runs = event_listener_of("salt/run/*/ret", began)
    while not any(event.data["fun_args"][0]["minion"] == PLAIN for event in runs):
        runs = event_listener_of("salt/run/*/ret", began)
        assert time.time() - began < 600
    assert {event.data["fun"] for event in runs} <= {"runner.galaxy.boot", "runner.galaxy.restart"}
    others = [event.data for event in runs if event.data["fun_args"][0]["minion"] not in (ROLE, PLAIN)]
    assert len(others) == 4
    assert [data for data in others if data["success"]] == []
    assert not (tmp_path / "evil").exists()


@pytest.mark.slow
def test_the_beacon_tells_once_and_tells_the_end(minions, master, galaxies, event_listener_of):
    site, _ = galaxies[ROLE]
    master.salt_cli().run("state.apply", "galaxy", minion_tgt=ROLE, _timeout=120)
    assert wait_until(site.read, Deadline(180))
    before, began = site.read().pid, time.time()
    tag = f"salt/beacon/{ROLE}/galaxy"
    site.hold(2, gate="beacon")
    (saturated,) = event_listener_of(f"{tag}/saturated", began)
    assert saturated.data["workers"] == 1
    (stuck,) = event_listener_of(f"{tag}/stuck", began)
    assert {request["uri"] for request in stuck.data["requests"]} == {"/hold/beacon"}
    # a refresh makes the beacons again: the old condition is not told again, but its end is
    master.salt_cli().run("saltutil.refresh_beacons", minion_tgt=ROLE, _timeout=60)
    site.open("beacon")
    (recovered,) = event_listener_of(f"{tag}/recovered", began)
    assert recovered.data["from"] == ["saturated", "stuck"]
    assert len(event_listener_of(f"{tag}/saturated", began)) == 1
    # nobody restarted it
    assert site.read().pid == before
    began = time.time()
    master.salt_cli().run("galaxy.stop", minion_tgt=ROLE, _timeout=60)
    (down,) = event_listener_of(f"{tag}/down", began)
    assert "connection refused" in down.data["reason"]


@pytest.mark.slow
def test_a_stuck_galaxy_is_restarted_where_the_master_says_so(minions, master, galaxies, event_listener_of):
    site, _ = galaxies[PLAIN]
    master.salt_cli().run("state.apply", "galaxy", minion_tgt=PLAIN, _timeout=120)
    site.wait()
    before, began = site.read().pid, time.time()
    site.hold(1, gate="never")
    restarted = event_listener_of(f"salt/job/*/ret/{PLAIN}", began)[0]
    assert (restarted.data["fun"], restarted.data["success"]) == ("state.apply", True)
    assert site.read().pid != before
    assert site.get() == b"Galaxy\n"


@pytest.mark.slow
def test_a_hundred_forged_cries_for_help_are_two_restarts_at_most(minions, master):
    forged = {"tag": f"salt/beacon/{PLAIN}/galaxy/stuck", "data": {"id": PLAIN}}
    runs, jobs, _ = _forge(master, forged, 1, ROLE)
    assert {data["fun"] for data in runs} == {"runner.galaxy.restart"}
    assert 1 <= len(jobs) <= 2
