"""Control groups. tests/functional/managers tests the unit itself with a real systemd."""

import pytest

import galaxy_manager_systemd


class _Process:
    def __init__(self, *cgroups):
        self.cgroups = cgroups


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/system.slice/galaxy.service", ("galaxy", None)),
        (r"/system.slice/system-galaxy\x2dgunicorn.slice/galaxy-gunicorn@0.service", ("galaxy-gunicorn@0", None)),
        ("/system.slice/galaxy.service/payload", ("galaxy", None)),
        ("/user.slice/user-0.slice/user@0.service/app.slice/galaxy.service", ("galaxy", "root")),
        ("/user.slice/user-65534.slice/user@65534.service/galaxy.service/x.scope", ("galaxy", "nobody")),
        ("/user.slice/user-0.slice/user@0.service/app.slice/run-1.scope", None),
        ("/user.slice/user-0.slice/session-1.scope", None),
        ("/", None),
        ("", None),
    ],
)
def test_the_service_of_a_control_group(path, unit):
    assert galaxy_manager_systemd.of_process(_Process(path)) == unit
    assert galaxy_manager_systemd.of_process(_Process("/", path)) == unit


def test_no_group_has_no_members():
    assert galaxy_manager_systemd._members("") == ()
    assert galaxy_manager_systemd._members("/") == ()


def test_properties_may_hold_anything():
    assert galaxy_manager_systemd._properties("A=b=c\nB=\nno equal sign\n") == {"A": "b=c", "B": ""}
