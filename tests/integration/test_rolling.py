"""Four Galaxies behind a real nginx. A real master restarts one after the other, under a steady load."""

import contextlib
import json
import subprocess
import threading

import pytest
import salt.utils.event
from support.balancer import Load, balancer
from support.minions import Minions
from support.site import BIN, UWSGI, Site
from support.supervisord import Supervisord

from galaxy_host_wait import Deadline, wait_until

# it takes four minutes
pytestmark = pytest.mark.slow

NAMES = ("galaxy-a", "galaxy-b", "galaxy-c", "galaxy-d")
# an administrator's module on the balancer's minion: it takes a machine out of nginx, and puts it back
BALANCER = """
import pathlib
import subprocess

CONFIG = pathlib.Path({config!r})
SERVERS = {servers!r}


def drain(minion):
    return _switch(minion, " down;")


def undrain(minion):
    return _switch(minion, ";")


def _switch(minion, end):
    server = f"server {{SERVERS[minion]}}"
    text = CONFIG.read_text().replace(f"{{server}} down;", f"{{server}};")
    CONFIG.write_text(text.replace(f"{{server}};", f"{{server}}{{end}}"))
    subprocess.run(["nginx", "-c", CONFIG, "-e", CONFIG.with_name("error.log"), "-s", "reload"], check=True)
    return True
"""


@pytest.fixture(scope="module")
def galaxies(tmp_path_factory):
    """By minion: a Galaxy that serves, and its supervisord."""
    found = {}
    for name in NAMES:
        root = tmp_path_factory.mktemp(name)
        site, supervisord = (
            Site(root / "galaxy", processes=1, need_app="true", mule=None, farm=None),
            Supervisord(root / "supervisor"),
        )
        supervisord.program("galaxy", [UWSGI, "--yaml", site.config], autostart="true")
        supervisord.start()
        found[name] = (site, supervisord)
    for site, _ in found.values():
        assert wait_until(lambda site=site: _ready(site), Deadline(120))
    yield found
    for site, supervisord in found.values():
        supervisord.stop()
        site.stop()


@pytest.fixture(scope="module")
def nginx_conf(tmp_path_factory):
    return tmp_path_factory.mktemp("nginx") / "nginx.conf"


@pytest.fixture(scope="module")
def port(galaxies, nginx_conf):
    with balancer(nginx_conf.parent, [site.http for site, _ in galaxies.values()]) as found:
        yield found


@pytest.fixture(scope="module")
def master(salt_factories, galaxies, tree, tmp_path_factory):
    pillar, states = tmp_path_factory.mktemp("pillar"), tmp_path_factory.mktemp("states")
    (pillar / "top.sls").write_text(json.dumps({"base": {name: [name] for name in NAMES}}))
    for name, (site, supervisord) in galaxies.items():
        keys = {"config": str(site.config), "manager": "supervisord", "conf_file": str(supervisord.conf_file)}
        (pillar / f"{name}.sls").write_text(json.dumps({"galaxy": {**keys, "timeout": 60, "retries": 0}}))
    call = [{"name": "galaxy.rolling_restart"}, {"tgt": "galaxy-*"}, {"timeout": 90}]
    (states / "roll.sls").write_text(json.dumps({"roll": {"salt.runner": call}}))
    overrides = {
        "file_roots": {"base": [str(tree), str(states)]},
        "pillar_roots": {"base": [str(pillar)]},
        "open_mode": True,
        # seconds: a slow machine needs so long to say that it still works on a job
        **{"timeout": 60, "gather_job_timeout": 60},
    }
    daemon = salt_factories.salt_master_daemon("rolling-master", overrides=overrides, start_timeout=600)
    with daemon.started():
        daemon.salt_run_cli().run("saltutil.sync_all", _timeout=120)
        yield daemon


@pytest.fixture(scope="module", autouse=True)
def minions(master, tree, galaxies, nginx_conf, tmp_path_factory):
    own = tmp_path_factory.mktemp("balancer")
    servers = {name: site.http for name, (site, _) in galaxies.items()}
    (own / "balancer.py").write_text(BALANCER.format(config=str(nginx_conf), servers=servers))
    found = Minions(master, tree, NAMES, {"module_dirs": [str(tree / "_modules"), str(own)]})
    found.start()
    found.answer(master.salt_cli())
    yield found
    found.stop()


def _ready(site):
    found = site.read()
    return bool(found and found.accepting)


def _masters(galaxies):
    return {name: site.read().pid for name, (site, _) in galaxies.items()}


def _begin(master, *arguments):
    argv = [BIN / "salt-run", "-c", master.config_dir, "galaxy.rolling_restart", "galaxy-*", "timeout=90", "--out=json"]
    return subprocess.Popen([*argv, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _run(master, *arguments):
    """The runner's answer, and what it showed on the terminal."""
    process = _begin(master, *arguments)
    output, said = process.communicate(timeout=600)
    answer = json.loads(output)
    assert process.returncode == answer["retcode"], said
    return answer, said


@contextlib.contextmanager
def _fewest_ready(galaxies):
    """A list that has how many of them were ready at the worst moment, by their stats servers."""
    seen, ended = [len(galaxies)], threading.Event()

    def look():
        while not ended.wait(0.02):
            seen[0] = min(seen[0], sum(_ready(site) for site, _ in galaxies.values()))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


@contextlib.contextmanager
def _events(master):
    """A list of the tags ``galaxy/fleet/…``, without the job's number; it grows."""
    seen, ended = [], threading.Event()

    def listen():
        with salt.utils.event.get_master_event(master.config, master.config["sock_dir"], listen=True) as bus:
            ready.set()
            while not ended.is_set():
                event = bus.get_event(wait=0.2, tag="galaxy/fleet/", full=True)
                if event:
                    seen.append(event["tag"].split("/", 3)[3])

    ready, thread = threading.Event(), threading.Thread(target=listen)
    thread.start()
    ready.wait()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("batch", [1, 2])
def test_no_request_fails_and_no_more_than_a_batch_is_away(master, galaxies, port, batch):
    before = _masters(galaxies)
    with Load(port, "/") as load, _fewest_ready(galaxies) as fewest:
        answer, _ = _run(master, f"batch={batch}")
        load.reach(1000)
    assert (answer["success"], answer["restarted"], answer["failed"]) == (True, list(NAMES), {}), answer
    assert load.failed == []
    assert fewest[0] >= len(NAMES) - batch
    after = _masters(galaxies)
    assert {name for name in NAMES if before[name] == after[name]} == set()


def test_a_hook_takes_each_machine_out_of_the_balancer_and_back(master, galaxies, port, nginx_conf):
    site, _ = galaxies["galaxy-b"]
    # a request under way on the drained machine is finished first
    site.hold(1)
    hooks = {
        name: json.dumps({"function": f"balancer.{name}", "tgt": "galaxy-d", "arg": ["{minion}"]})
        for name in ("drain", "undrain")
    }
    with _events(master) as events, Load(port, "/") as load:
        process = _begin(master, f"drain={hooks['drain']}", f"undrain={hooks['undrain']}", "drain_timeout=300")
        assert wait_until(lambda: "galaxy-b/restarting" in events, Deadline(240), interval=0.1), events
        # a second call is refused meanwhile
        other, _ = _run(master)
        assert (other["retcode"], "under way" in other["problem"]) == (3, True), other
        pid = site.read().pid
        assert wait_until(lambda: f"{site.http} down" in nginx_conf.read_text(), Deadline(120))
        site.open("go")
        output, said = process.communicate(timeout=600)
    answer = json.loads(output)
    assert (answer["success"], answer["restarted"]) == (True, list(NAMES)), (answer, said)
    assert load.failed == []
    steps = [f"{name}/{step}" for name in NAMES for step in ("restarting", "restarted")]
    assert events == ["begin", *steps, "end"]
    assert [line.split(" ", 1)[1].split(" servers")[0] for line in said.splitlines() if "restarting" in line] == [
        f"{name} restarting" for name in NAMES
    ]
    assert site.read().pid != pid
    assert "down" not in nginx_conf.read_text()


def test_it_stops_at_the_first_that_fails_and_goes_on_after_it_was_mended(master, galaxies, port):
    site, supervisord = galaxies["galaxy-c"]
    site.open("broken")
    before = _masters(galaxies)
    with Load(port, "/") as load:
        answer, _ = _run(master)
        assert (answer["restarted"], answer["untouched"]) == (["galaxy-a", "galaxy-b"], ["galaxy-d"]), answer
        assert (list(answer["failed"]), answer["retcode"]) == (["galaxy-c"], 1)
        assert "no database" in answer["failed"]["galaxy-c"]
        refused, _ = _run(master, f"resume={answer['job']}")
        assert (refused["retcode"], "galaxy-c is down" in refused["problem"]) == (3, True), refused
        # wait: before it gives up, supervisord would restart it by itself
        over = ("FATAL", "STOPPED", "EXITED")
        assert wait_until(lambda: all(one.state in over for one in supervisord.ask("galaxy")), Deadline(120))
        (site.gates / "broken").unlink()
        planned, _ = _run(master, f"resume={answer['job']}", "max_failures=1", "test=True")
        assert list(planned["would_restart"]) == ["galaxy-c", "galaxy-d"]
        done, _ = _run(master, f"resume={answer['job']}", "max_failures=1")
    assert (done["restarted"], done["already"]) == (["galaxy-c", "galaxy-d"], ["galaxy-a", "galaxy-b"])
    assert load.failed == []
    after = _masters(galaxies)
    assert {name for name in NAMES if before[name] == after[name]} == set()


def test_as_a_state_of_an_orchestration(master, galaxies, port):
    before = _masters(galaxies)
    argv = [BIN / "salt-run", "-c", master.config_dir, "state.orchestrate", "roll", "--out=json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout
    (state,) = next(iter(json.loads(done.stdout)["data"].values())).values()
    assert state["result"] is True, state
    after = _masters(galaxies)
    assert {name for name in NAMES if before[name] == after[name]} == set()
    galaxies["galaxy-a"][0].open("broken")
    failed = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
    assert failed.returncode != 0
    (state,) = next(iter(json.loads(failed.stdout)["data"].values())).values()
    assert state["result"] is False, state
