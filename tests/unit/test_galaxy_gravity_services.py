"""The services of a Galaxy under Gravity, and what is told if its manager cannot be asked."""

import dataclasses
import os

import pytest
from support.look import FakeUnit
from support.site import free_port

import galaxy_gravity_services
from galaxy_errors import ManagerError, NotMine
from galaxy_gravity_instance import Instance, Program, Web
from galaxy_gravity_services import Services
from galaxy_host_address import Address
from galaxy_host_process import Process
from galaxy_manager_unit import State
from galaxy_service import Role


@pytest.fixture
def instance(tmp_path):
    """An instance with two gunicorns that do not run, Celery, and a handler."""
    (tmp_path / "lib" / "galaxy").mkdir(parents=True)
    (tmp_path / "lib" / "galaxy" / "version.py").write_text('VERSION_MAJOR = "26.1"\nVERSION_MINOR = "1"\n')
    webs = [
        Program(
            f"gunicorn_{number}", Role.WEB, "gunicorn", "gunicorn", number, Web((Address("127.0.0.1", free_port()),))
        )
        for number in range(2)
    ]
    others = [
        Program("celery", Role.CELERY, "celery", "celery"),
        Program("handler_0", Role.HANDLER, "handler", "standalone", 0),
    ]
    root = str(tmp_path)
    return Instance(
        path=f"{root}/galaxy.yml",
        name="_default_",
        manager="supervisor",
        galaxy_config=f"{root}/galaxy.yml",
        galaxy_root=root,
        virtualenv=None,
        data_dir=root,
        log_dir=root,
        state_dir=root,
        programs=(*webs, *others),
        problems=("gravity: tusd has no path",),
    )


@pytest.fixture
def units(monkeypatch):
    """The manager's units by name. A test puts an error there for a manager that cannot be asked."""
    told = {"units": {}, "statuses": {}, "asked": []}

    def find(_):
        told["asked"].append("find")
        if isinstance(told["units"], Exception):
            raise told["units"]
        return type("Units", (), {"units": told["units"], "problems": ["run galaxyctl update"]})

    monkeypatch.setattr(galaxy_gravity_services.galaxy_gravity_units, "find", find)
    monkeypatch.setattr(galaxy_gravity_services.galaxy_gravity_units, "statuses", lambda _: told["statuses"])
    return told


def test_services_come_in_the_order_of_their_start(instance, units):
    units["units"] = {"celery": FakeUnit(), "gunicorn_0": FakeUnit()}
    units["statuses"] = {"celery": FakeUnit(State.FAILED).now, "gunicorn_0": ManagerError("no answer")}
    services = Services(instance)
    look = services.look(1)
    assert [one.service.name for one in look.services] == ["handler_0", "celery", "gunicorn_0", "gunicorn_1"]
    handler, celery, first, second = look.services
    assert (handler.service.unit, handler.status, handler.running) == (None, None, None)
    assert (celery.running, celery.service.unit) == (False, units["units"]["celery"])
    assert (first.errors, first.silent, first.running) == (["no answer"], True, False)
    assert second.service.web.listens_on == instance.programs[1].web.binds
    assert look.problems == ["gravity: tusd has no path", "run galaxyctl update"]
    services.look(1)
    assert units["asked"] == ["find"]


def test_without_the_manager_the_kernel_still_tells(instance, units):
    units["units"] = ManagerError("systemd cannot be asked")
    look = Services(instance).look(1)
    assert "systemd cannot be asked" in look.problems
    assert (look.running, look.is_ready(1), look.is_active) == (False, False, None)
    assert Services(instance).look(1, managed=False).problems == ["gravity: tusd has no path"]


def test_the_version_on_disk(instance):
    assert Services(instance).version_on_disk() == "26.1.1"


def test_where_its_user_cannot_be_told_nobody_is_taken_for_him(instance, units):
    for more, reason in (
        ({"user": "no-such-user"}, "there is no user no-such-user here .galaxy_user."),
        ({"state_dir": None, "data_dir": "/nowhere"}, "Galaxy's user cannot be told: there is no /nowhere; make"),
    ):
        services = Services(dataclasses.replace(instance, **more))
        # the test's own process stands for a process of an unknown user
        web = services.look(1).webs[0].service.web
        with pytest.raises(NotMine, match=f"PID {os.getpid()}, .* runs as .*, and {instance.path}: {reason}"):
            web._require_mine(Process.of(os.getpid()))
        assert (services.version_on_disk(), web.log(10)) == (None, [])
