"""``galaxy.update``, ``galaxy.updated`` and ``galaxy.health`` through Salt's loader, with the real Gravity."""

import pytest
from salt.exceptions import CommandExecutionError
from support.site import free_port

from galaxy_host_wait import Deadline, wait_until


def test_updated_is_a_state_like_any_other(make_bed, state, modules):
    bed = make_bed()
    config = str(bed.config)
    planned = state("galaxy.updated", test=True, config=config)
    assert planned["result"] is None
    assert "+[program:gunicorn]" in planned["changes"]["diff"]
    assert not (bed.state / "supervisor").exists()
    done = state("galaxy.updated", config=config)
    assert (done["result"], done["changes"]) == (True, planned["changes"])
    again = state("galaxy.updated", config=config)
    assert (again["result"], again["changes"]) == (True, {})
    assert modules["galaxy.update"](config=config) == {
        **{"changed": False, "added": [], "rewritten": [], "removed": [], "stopped": []},
        **{"diff": "", "refused": [], "problems": []},
    }


def test_what_is_refused_fails_with_its_reason_in_test_mode_too(make_bed, state, modules):
    bed = make_bed()
    modules["galaxy.update"](config=str(bed.config))
    second = bed.config.with_name("second.yml")
    second.write_text(bed.config.read_text())
    plan = modules["galaxy.update"](config=str(second), test=True)
    assert "has the same data_dir" in plan["refused"][0]
    for test in (True, False):
        found = state("galaxy.updated", test=test, config=str(second))
        assert found["result"] is False
        assert "has the same data_dir and instance name" in found["comment"]
    with pytest.raises(CommandExecutionError, match="force=True insists"):
        modules["galaxy.update"](config=str(second))
    assert state("galaxy.updated", config=str(second), force=True)["result"] is True


def test_what_an_update_has_stopped_is_started_again(make_bed, modules):
    bed = make_bed(handlers=1)
    config = str(bed.config)
    modules["galaxy.update"](config=config)
    modules["galaxy.startup"](config=config, timeout=60)
    # one gunicorn becomes two
    bed.binds.append(f"127.0.0.1:{free_port()}")
    bed.is_list = True
    bed.write()
    with pytest.raises(CommandExecutionError, match="it would stop or restart gunicorn; force=True insists"):
        modules["galaxy.update"](config=config)
    planned = modules["galaxy.update"](config=config, force=True, test=True)
    assert planned["problems"] == ["With force: it would stop or restart gunicorn."]
    done = modules["galaxy.update"](config=config, force=True, timeout=60)
    assert done["problems"] == []
    assert (done["stopped"], done["start"]["ready"]) == (["gunicorn"], True)
    services = {name: one["state"] for name, one in modules["galaxy.status"](config=config)["services"].items()}
    assert services == dict.fromkeys(("gunicorn_0", "gunicorn_1", "handler"), "running")
    assert wait_until(lambda: modules["galaxy.status"](config=config)["ready"], Deadline(180))


def test_no_gravity(make_site, modules, state):
    config = str(make_site().config)
    for function in ("galaxy.update", "galaxy.health"):
        with pytest.raises(CommandExecutionError, match="has no gravity: section"):
            modules[function](config=config)
    assert state("galaxy.updated", config=config)["result"] is False


def test_health(make_bed, modules):
    # the small Galaxy has no database
    found = modules["galaxy.health"](config=str(make_bed().config), timeout=60)
    assert (found["healthy"], found["celery"], found["processes"]) == (None, {}, {})
    assert found["problems"] == [
        "The signs of life of Galaxy's processes could not be read (ModuleNotFoundError): see its database"
    ]
