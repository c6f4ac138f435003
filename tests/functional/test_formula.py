"""``state.apply galaxy``, as a masterless user calls it, with a real supervisord."""

import json
import os
import stat

import psutil
import pytest
import salt.loader
import yaml
from support.site import REPO, UWSGI


@pytest.fixture
def pillar(make_site, supervisord):
    """Pillar of a Galaxy; the formula writes its program file. supervisord runs, and does not know Galaxy yet."""
    supervisord.start()
    site = make_site()
    return {
        **{"config": str(site.config), "conf_file": str(supervisord.conf_file), "manager": "supervisord"},
        **{"manage_service": True, "uwsgi": UWSGI, "root": str(site.root), "user": "root", "timeout": 30},
        **{"program_file": str(supervisord.programs / "galaxy.conf"), "log": str(site.log), "retries": 0},
    }


@pytest.fixture
def apply(modules, pillar):
    """``apply(sls, test=…, key=value)``: what the states return, by ID. The keywords are added to pillar."""

    def run(sls, test=False, **more):
        done = modules["state.apply"](sls, test=test, pillar={"galaxy": {**pillar, **more}})
        assert isinstance(done, dict), done
        return {state["__id__"]: state for state in done.values()}

    return run


def test_first_second_and_test(apply, supervisord):
    would = apply("galaxy", test=True)
    assert {name: state["result"] for name, state in would.items()} == {
        "galaxy-settings": True,
        "galaxy-service-config": None,
        "galaxy-service-running": None,
    }
    assert list(supervisord.programs.iterdir()) == []
    first = apply("galaxy")
    assert first.pop("galaxy-settings")["result"] is True
    assert all(state["result"] and state["changes"] for state in first.values()), first
    assert {name: state["changes"] for name, state in would.items() if state["changes"]} == {
        name: state["changes"] for name, state in first.items()
    }
    for test in (False, True):
        again = apply("galaxy", test=test)
        assert all(state["result"] is True and not state["changes"] for state in again.values()), again


def test_a_changed_program_file_restarts(apply, modules, pillar):
    keywords = {"config": pillar["config"]}
    apply("galaxy")
    pid = modules["galaxy.master_pid"](**keywords)
    would = apply("galaxy", test=True, stop_timeout=7)
    assert would["galaxy-service-running"]["changes"] == {"galaxy": "restarted"}
    assert modules["galaxy.master_pid"](**keywords) == pid
    done = apply("galaxy", stop_timeout=7)
    assert done["galaxy-service-running"]["changes"] == {"galaxy": "restarted"}
    restarted = modules["galaxy.master_pid"](**keywords)
    assert restarted != pid
    value = 'a "quoted" 100% thing'
    done = apply("galaxy", stop_timeout=7, environment={"GALAXY_MARK": value})
    assert done["galaxy-service-running"]["changes"] == {"galaxy": "restarted"}, done
    process = psutil.Process(modules["galaxy.master_pid"](**keywords))
    assert process.environ()["GALAXY_MARK"] == value
    # the value may be a secret
    assert value not in json.dumps(done)
    assert stat.S_IMODE(os.stat(pillar["program_file"]).st_mode) == 0o600


def test_stopped_restarted_and_clean(apply, modules, pillar, supervisord):
    keywords = {"config": pillar["config"]}
    apply("galaxy")
    pid = modules["galaxy.master_pid"](**keywords)
    would = apply("galaxy.restarted", test=True)
    assert would["galaxy-restarted"]["result"] is None
    assert modules["galaxy.master_pid"](**keywords) == pid
    assert apply("galaxy.restarted")["galaxy-restarted"]["result"] is True
    assert modules["galaxy.master_pid"](**keywords) != pid
    assert apply("galaxy.stopped")["galaxy-stopped"]["changes"]
    assert apply("galaxy.stopped")["galaxy-stopped"]["changes"] == {}
    assert not modules["galaxy.status"](**keywords)["running"]
    apply("galaxy")
    done = apply("galaxy.service.clean")
    assert all(state["result"] for state in done.values()), done
    assert list(supervisord.programs.iterdir()) == []
    assert not any(state["changes"] for state in apply("galaxy.service.clean").values())


def test_without_manage_service_it_only_sees_to_a_running_galaxy(apply, modules, pillar, supervisord):
    supervisord.program("web", [UWSGI, "--yaml", pillar["config"]])
    done = apply("galaxy", manage_service=False, manager=None)
    assert list(done) == ["galaxy-settings", "galaxy-service-running", "galaxy-service-held"]
    assert done["galaxy-service-held"]["changes"] == {}
    assert done["galaxy-service-running"]["result"] is True


def test_galaxy_never_starts_without_its_volume(apply, modules, pillar):
    """Neither with the whole formula, nor if somebody applies only the running state."""
    storage = {
        "device": "/dev/no-such-disk",
        "device_timeout": 0,
        "packages": [],
        "user": "root",
        "group": "root",
        "mount_point": "/export",
    }
    done = apply("galaxy", storage=storage, retries=0)
    assert "/dev/no-such-disk" in done["galaxy-storage-volume-mounted"]["comment"]
    assert done["galaxy-service-running"]["result"] is False
    assert not modules["galaxy.status"](config=pillar["config"])["running"]


def test_under_gravity_the_volume_comes_first(modules):
    """The order of all states. tests/uml/test_gravity_machine.py has a machine that runs them."""
    storage = {"device": "/dev/vdb", "key": "/etc/key", "mount_point": "/export"}
    galaxy = {"config": "/export/galaxy.yml", "gravity_update": True, "storage": storage}
    chunks = modules["state.show_low_sls"]("galaxy.boot", pillar={"galaxy": galaxy})
    found = {chunk["__id__"]: chunk for chunk in chunks}

    def needed(name):
        """The states that it requires or watches; either side may say so."""
        own = [one for key in ("require", "watch") for one in found[name].get(key, ())]
        told = [
            one
            for one, chunk in found.items()
            for key in ("require_in", "watch_in")
            if name in {value for need in chunk.get(key, ()) for value in need.values()}
        ]
        return {value for need in own for value in need.values()} | set(told)

    assert "galaxy-storage-volume-mounted" in needed("galaxy-storage")
    assert {"galaxy-settings", "galaxy-storage"} <= needed("galaxy-service-updated") & needed("galaxy-service-running")
    assert "galaxy-service-updated" in needed("galaxy-service-running")
    assert "galaxy-service-updated" in needed("galaxy-service-held")
    for name in ("updated", "running", "held"):
        assert found[f"galaxy-service-{name}"]["mounts"] == ["/export"]


def test_what_was_rendered_for_another_pillar_does_nothing(opts, pillar):
    modules = salt.loader.minion_mods({**opts, "pillar": {"galaxy": pillar}}, context={})
    known = modules["galaxy.settings"](values_only=True)["digest"]
    states = salt.loader.states({**opts, "test": False}, modules, {}, {}, context={})
    without = salt.loader.minion_mods({**opts, "pillar": {}}, context={})["galaxy.settings"](values_only=True)["digest"]
    for digest, good in ((known, True), (None, True), (without, False)):
        done = states["galaxy.settings"]("galaxy", digest=digest)
        assert (done["result"], "without this machine's pillar" in done["comment"]) == (good, not good)


def test_the_parts_stand_alone(apply):
    done = apply("galaxy.service.config")
    assert all(state["result"] for state in done.values()), done


def test_pillar_example_as_it_is_leaves_the_packaged_place(opts):
    example = yaml.safe_load((REPO / "pillar.example").read_text())["galaxy"]
    galaxy = {**example, "manage_service": True, "manager": "supervisord", "uwsgi": UWSGI}
    modules = salt.loader.minion_mods({**opts, "pillar": {"galaxy": galaxy}}, context={})
    found = modules["galaxy.settings"]("galaxy")
    assert found["problems"] == []
    place = {"value": "/etc/supervisor/conf.d/galaxy.conf", "source": "default"}
    assert found["servers"]["galaxy"]["program_file"] == place


@pytest.mark.parametrize(
    ("sls", "wrong"),
    [
        *(("galaxy", wrong) for wrong in ({"uwsgi": None}, {"storagee": {"device": "/dev/vdb"}}, {"timeout": "5m"})),
        *(("galaxy", wrong) for wrong in ({"storage": ["/dev/vdb"]}, {"servers": {"test": {"cofnig": "/x"}}})),
        *((f"galaxy.{name}", {"storagee": {}}) for name in ("storage", "stopped", "boot", "restarted", "onedata")),
    ],
)
def test_a_wrong_pillar_is_said_before_anything_is_done(apply, supervisord, sls, wrong):
    done = apply(sls, **wrong)
    failed = done.pop("galaxy-settings")
    assert failed["result"] is False
    assert f"galaxy:{'manage_service' if 'uwsgi' in wrong else next(iter(wrong))}" in failed["comment"]
    # at a boot, only the report to the master is made
    assert set(done) <= {"galaxy-boot-report"}
    assert list(supervisord.programs.iterdir()) == []


@pytest.mark.parametrize(
    ("family", "path"),
    [("Debian", "/etc/supervisor/conf.d/galaxy.conf"), ("RedHat", "/etc/supervisord.d/galaxy.ini")],
)
def test_each_family_has_its_place_for_programs(opts, pillar, family, path):
    galaxy = {key: value for key, value in pillar.items() if key != "program_file"}
    given = {**opts, "grains": {**opts["grains"], "os_family": family}, "pillar": {"galaxy": galaxy}}
    modules = salt.loader.minion_mods(given, context={})
    assert modules["galaxy.settings"]()["servers"]["galaxy"]["program_file"]["value"] == path


def test_two_servers_side_by_side(apply, modules, pillar, make_site, supervisord):
    """A production server and a test server, each with its own program. A fault of one does not touch the other."""
    sites = {name: make_site() for name in ("main", "test")}
    common = {
        key: pillar[key] for key in ("manager", "conf_file", "manage_service", "uwsgi", "user", "timeout", "retries")
    }
    servers = {
        name: {
            **{**common, "config": str(site.config), "root": str(site.root)},
            "program_file": str(supervisord.programs / f"{name}.conf"),
        }
        for name, site in sites.items()
    }

    def run(sls):
        done = modules["state.apply"](sls, pillar={"galaxy": {"servers": servers}})
        assert isinstance(done, dict), done
        return {state["__id__"]: state for state in done.values()}

    first = run("galaxy")
    assert all(state["result"] for state in first.values()), first
    assert all(site.get() == b"Galaxy\n" for site in sites.values())
    assert set(first) == {
        "galaxy-settings",
        *(f"galaxy-service-{what}-{name}" for what in ("config", "running") for name in servers),
    }
    again = run("galaxy")
    assert not any(state["changes"] for state in again.values()), again
    sites["test"].write(need_app="true")
    sites["test"].open("broken")
    pid = sites["main"].read().pid
    servers["test"]["environment"] = {"GALAXY_MARK": "x"}
    done = run("galaxy")
    assert done["galaxy-service-running-test"]["result"] is False
    assert done["galaxy-service-running-main"]["result"] is True
    assert sites["main"].read().pid == pid
    done = run("galaxy.service.clean")
    assert all(state["result"] for state in done.values()), done
    assert list(supervisord.programs.iterdir()) == []
