"""Drop-ins beside the units of the real Gravity, in a directory of the test's."""

import os

import pytest

import galaxy_gravity_config
import galaxy_gravity_hold
from galaxy_errors import ManagerError
from galaxy_gravity_hold import NAME
from galaxy_gravity_update import Update

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root's units")


@pytest.fixture
def units(tmp_path):
    directory = tmp_path / "units"
    directory.mkdir()
    return directory


def update(bed, units):
    found = Update(galaxy_gravity_config.read(str(bed.config)), str(units))
    found.apply(found.plan(), True)


def hold(bed, units, *mounts, test=False):
    return galaxy_gravity_hold.hold(galaxy_gravity_config.read(str(bed.config)), mounts, test, str(units))


def drop_ins(units):
    return {path.parent.name for path in units.glob(f"*/{NAME}")}


@as_root
def test_each_unit_of_this_galaxy_waits_for_its_data(make_bed, units):
    bed = make_bed(handlers=2, manager="systemd")
    update(bed, units)
    (units / "galaxy-other-gunicorn.service").write_text("[Unit]\nPartOf=galaxy-other.target\n")
    (units / "galaxy-gunicorn.service.d").mkdir()
    (units / "galaxy-gunicorn.service.d" / "theirs.conf").write_text("[Unit]\n")
    planned = hold(bed, units, "/export", test=True)
    assert drop_ins(units) == set()
    assert hold(bed, units, "/export") == planned
    own = {"galaxy-gunicorn.service.d", "galaxy-handler@.service.d"}
    assert drop_ins(units) == own
    text = (units / "galaxy-handler@.service.d" / NAME).read_text()
    assert text == (
        f"# Managed by Salt (formula galaxy) for galaxy of {bed.config}\n[Unit]\nAfter=remote-fs.target\n"
        "RequiresMountsFor=/export\nAssertPathIsMountPoint=/export\n"
    )
    assert hold(bed, units, "/export") == {}
    # Gravity's update sees no difference
    assert not Update(galaxy_gravity_config.read(str(bed.config)), str(units)).plan().changes
    # one process fewer makes it another unit, and no drop-in of the old unit may be left
    bed.handlers = 1
    bed.write()
    update(bed, units)
    assert drop_ins(units) == own
    galaxy_gravity_hold.hold(galaxy_gravity_config.read(str(bed.config)), None, directory=str(units))
    assert hold(bed, units, "/export") == {}
    assert drop_ins(units) == {"galaxy-gunicorn.service.d", "galaxy-handler.service.d"}
    assert not (units / "galaxy-handler@.service.d").exists()
    # the same with another instance name
    bed.name = "main"
    bed.write()
    update(bed, units)
    hold(bed, units, "/export", "/onedata")
    assert drop_ins(units) == {"galaxy-main-gunicorn.service.d", "galaxy-main-handler.service.d"}
    hold(bed, units)
    assert drop_ins(units) == set()
    # other people's drop-ins stay
    assert (units / "galaxy-gunicorn.service.d" / "theirs.conf").exists()


def test_units_of_a_user_are_refused_with_a_sentence(make_bed, units):
    bed = make_bed(manager="systemd", settings={"galaxy_user": None})
    with pytest.raises(ManagerError, match=r"/export is mounted; set galaxy_user"):
        hold(bed, units, "/export")
    assert hold(bed, units) == {}


def test_where_systemd_does_not_run_it_starts_no_supervisord(make_bed, units):
    assert hold(make_bed(), units, "/export") == {}
