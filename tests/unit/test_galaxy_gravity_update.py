"""Gravity's files are updated, with the real Gravity and supervisord. Unit files lie in a directory of the test's."""

import json
import os
import re
import shutil

import pytest

import galaxy_gravity_config
from galaxy_errors import DefinitionError, ManagerError
from galaxy_gravity_update import Update
from galaxy_host_process import Process
from galaxy_host_wait import Deadline, wait_until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root's units")
_TWO = [{"bind": "unix:/one"}, {"bind": "unix:/two"}]


def read(bed):
    return galaxy_gravity_config.read(str(bed.config))


def update(bed, units=None, force=False):
    """Plan the update and carry it out. Returns the plan."""
    found = Update(read(bed), units and str(units))
    plan = found.plan()
    found.apply(plan, force)
    return plan


def names(paths):
    return {os.path.basename(path) for path in paths}


@pytest.fixture
def units(tmp_path):
    directory = tmp_path / "units"
    directory.mkdir()
    return directory


def test_programs_of_supervisord(make_bed):
    bed = make_bed(handlers=2)
    plan = update(bed)
    assert names(plan.added) == {"gunicorn_gunicorn.conf", "standalone_handler.conf"}
    assert f"+stdout_logfile  = {bed.state}/log/gunicorn.log" in plan.diff
    assert plan.record()["changed"] is True
    # Gravity itself finds nothing to do
    assert bed.update().stdout == ""
    assert update(bed).record() == {
        **{"changed": False, "added": [], "rewritten": [], "removed": [], "stopped": []},
        **{"diff": "", "refused": [], "problems": []},
    }
    bed.write(handlers={}, gunicorn=_TWO)
    plan = update(bed)
    assert (names(plan.rewritten), names(plan.removed)) == ({"gunicorn_gunicorn.conf"}, {"standalone_handler.conf"})
    # supervisord does not run, so nothing is stopped
    assert (plan.stops, plan.reasons) == ((), ())
    assert not any((bed.state / "supervisor").rglob("standalone*"))


def test_values_of_the_environment_are_not_shown(make_bed):
    secret = {"enable": True, "enable_beat": False, "environment": {"BROKER": "amqp://u:TOPSECRET@h"}}
    bed = make_bed(settings={"service_command_style": "direct", "celery": secret})
    plan = update(bed)
    assert "TOPSECRET" in str(plan.added)
    assert "TOPSECRET" not in str(plan.record())


def test_what_runs_is_not_stopped_unless_forced(make_bed):
    bed = make_bed(handlers=1)
    bed.start()
    master = _supervised(bed, "handler")
    bed.write(handlers={})
    with pytest.raises(ManagerError, match="it would stop or restart handler; force=True insists"):
        update(bed)
    assert Process.of(master)
    # a new program stops nothing
    bed.write(handlers={"handler": {"processes": 1, "pools": ["job-handlers"], "start_timeout": 1}})
    bed.write(tusd={"enable": True, "upload_dir": "/tmp", "tusd_path": "/bin/true"}, gunicorn=None)
    bed.galaxy["galaxy_infrastructure_url"] = "http://localhost"
    bed.write()
    assert names(Update(read(bed)).plan().added) == {"tusd_tusd.conf"}
    bed.write(tusd=None, handlers={})
    plan = update(bed, force=True)
    assert "handler" in plan.stops
    assert wait_until(lambda: Process.of(master) is None, Deadline(180))


def _supervised(bed, name):
    def find():
        told = re.search(rf"^{name} +RUNNING +pid (\d+),", bed.galaxyctl("status", check=False).stdout, re.MULTILINE)
        # before its first line it is still galaxyctl, which reads the configuration
        has_begun = f"handler {name}_0" in bed.log()
        return int(told[1]) if has_begun and told else None

    found = wait_until(find, Deadline(60), interval=0.5)
    assert found, bed.log()
    return found


def test_a_second_file_with_the_same_data(make_bed):
    bed = make_bed()
    update(bed)
    other = bed.config.with_name("other.yml")
    other.write_text(bed.config.read_text())
    bed.config, first = other, bed.config
    with pytest.raises(ManagerError, match=f"{first} has the same data_dir and instance name"):
        update(bed)
    # the file was renamed, so there is only one Galaxy
    first.unlink()
    assert names(update(bed).rewritten) == {"gunicorn_gunicorn.conf"}


def test_an_older_name_is_found(make_bed):
    bed = make_bed()
    update(bed)
    bed.name = "main"
    bed.write()
    problems = update(bed).problems
    assert len(problems) == 1
    left = f"{bed.state}/supervisor/supervisord.conf.d/_default_.d"
    assert f"{left} is left over from an older instance_name" in problems[0]


@as_root
def test_units_of_systemd(make_bed, units):
    bed = make_bed(handlers=2, manager="systemd")
    plan = update(bed, units)
    assert names(plan.added) == {"galaxy.target", "galaxy-gunicorn.service", "galaxy-handler@.service"}
    assert names(units.iterdir()) == names(plan.added)
    for path in units.iterdir():
        assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (0, 0o644)
    assert not update(bed, units).changes
    bed.write(handlers={}, gunicorn=_TWO)
    plan = update(bed, units)
    assert names(plan.added) == {"galaxy-gunicorn@.service"}
    assert names(plan.rewritten) == {"galaxy.target"}
    assert names(plan.removed) == {"galaxy-gunicorn.service", "galaxy-handler@.service"}
    assert names(units.iterdir()) == {"galaxy.target", "galaxy-gunicorn@.service"}


@as_root
@pytest.mark.parametrize("has_data", [True, False])
def test_several_instances_of_a_file_are_updated_one_by_one(make_bed, units, has_data):
    bed = make_bed(manager="systemd")
    document = json.loads(bed.config.read_text())
    instances = []
    for name in ("a", "b"):
        data, config = bed.root / f"data-{name}", bed.config.with_name(f"{name}.yml")
        config.write_text(json.dumps({"galaxy": {**document["galaxy"], "data_dir": str(data)}}))
        if has_data:
            data.mkdir()
            shutil.chown(data, bed.user)
        bind = {"gunicorn": {"bind": f"unix:/{name}"}}
        instances.append({**document["gravity"], "instance_name": name, "galaxy_config_file": config.name, **bind})
    bed.config.write_text(json.dumps({"gravity": instances}))

    def of(name):
        found = Update(galaxy_gravity_config.read(str(bed.config), name), str(units))
        found.apply(found.plan())
        return names(units.iterdir())

    assert of("a") == {"galaxy-a.target", "galaxy-a-gunicorn.service"}
    assert of("b") == {"galaxy-a.target", "galaxy-a-gunicorn.service", "galaxy-b.target", "galaxy-b-gunicorn.service"}
    assert not Update(galaxy_gravity_config.read(str(bed.config), "a"), str(units)).plan().changes


@as_root
def test_units_of_an_older_name_go(make_bed, units):
    bed = make_bed(manager="systemd")
    update(bed, units)
    bed.name = "main"
    bed.write()
    plan = update(bed, units)
    assert names(plan.removed) == {"galaxy.target", "galaxy-gunicorn.service"}
    assert names(units.iterdir()) == {"galaxy-main.target", "galaxy-main-gunicorn.service"}


@as_root
def test_another_galaxys_units_are_never_touched(make_bed, units):
    other, bed = make_bed(manager="systemd", name="other"), make_bed(manager="systemd")
    update(other, units)
    before = {path: path.read_text() for path in units.iterdir()}
    update(bed, units)
    bed.write(gunicorn=_TWO)
    plan = update(bed, units, force=True)
    assert {path: path.read_text() for path in before} == before
    assert len(plan.problems) == 1
    assert "would delete galaxy-other-gunicorn.service" in plan.problems[0]
    # a unit of the same name that belongs to another Galaxy is not taken over
    third = make_bed(manager="systemd")
    with pytest.raises(ManagerError, match=rf"{units}/galaxy\.target is another Galaxy's"):
        update(third, units, force=True)
    # a unit that is not Gravity's is not taken over either
    (units / "galaxy-boot.service").write_text("[Unit]\n")
    bed.write(handlers={"boot": {"processes": 1, "name_template": "boot"}}, use_service_instances=False, gunicorn={})
    with pytest.raises(ManagerError, match=r"galaxy-boot\.service is another Galaxy's, or not Gravity's"):
        update(bed, units, force=True)


@as_root
def test_a_galaxyctl_that_lies_gives_root_nothing(make_bed, units):
    bed = make_bed(manager="systemd")
    galaxyctl = bed.root / "bin" / "galaxyctl"
    galaxyctl.parent.mkdir()
    lie = "sed -i 's/^User=.*/User=root/' $GRAVITY_SYSTEMD_UNIT_PATH/*.service"
    galaxyctl.write_text(f'#!/bin/sh\n{bed.venv}/bin/galaxyctl "$@" && {lie}\n')
    galaxyctl.chmod(0o755)
    bed.write(virtualenv=str(bed.root))
    with pytest.raises(DefinitionError, match="has a User that root does not install"):
        update(bed, units)
    assert not any(units.iterdir())
    # galaxyctl cannot make root read a file that Galaxy's user may not read
    galaxyctl.write_text("#!/bin/sh\nln -s /etc/shadow $GRAVITY_SYSTEMD_UNIT_PATH/galaxy.target\n")
    with pytest.raises(Exception, match="controls its path, but may not read it"):
        update(bed, units)


@as_root
def test_another_process_manager(make_bed, units):
    bed = make_bed(handlers=1)
    bed.start()
    _supervised(bed, "handler")
    bed.manager = "systemd"
    bed.write()
    with pytest.raises(ManagerError, match="it would stop or restart gunicorn, handler"):
        update(bed, units)
    assert not any(units.iterdir())
    plan = update(bed, units, force=True)
    assert names(plan.removed) == {"gunicorn_gunicorn.conf", "standalone_handler.conf"}
    assert names(units.iterdir()) == {"galaxy.target", "galaxy-gunicorn.service", "galaxy-handler.service"}
    bed.manager = "supervisor"
    bed.write(galaxy_user=None)
    plan = update(bed, units, force=True)
    assert names(plan.removed) == {"galaxy.target", "galaxy-gunicorn.service", "galaxy-handler.service"}
    assert not any(units.iterdir())
