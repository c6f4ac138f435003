"""The unit that starts Gravity's supervisord, and what only it says. test_gravity_formula.py has a real one."""

import pytest
from support.bed import configured

import galaxy_gravity_environment
import galaxy_manager_systemd
from galaxy_gravity_command import Commands
from galaxy_gravity_supervisor import Supervisor
from galaxy_host_process import Invocation
from galaxy_manager_systemd_definition import Definition
from galaxy_server import Galaxy
from galaxy_spec import Spec


@pytest.fixture
def unit(tmp_path, monkeypatch):
    """A function that writes the only unit of a running systemd. It counts how often the units are asked for."""
    path, asked = tmp_path / "galaxy.service", []

    def candidates():
        asked.append(1)
        return [(Definition("galaxy", [str(path)]), {"Id": "galaxy.service"})]

    monkeypatch.setattr(galaxy_manager_systemd, "runs", lambda: True)
    monkeypatch.setattr(galaxy_manager_systemd, "candidates", candidates)

    def write(*lines):
        path.write_text("\n".join(["[Service]", *lines]))
        return asked

    return write


def test_what_only_the_unit_says_counts(make_bed, unit):
    bed = make_bed(settings={"gunicorn": None})
    command = f"ExecStart={bed.venv}/bin/galaxyctl --config-file {bed.config} start --foreground"
    more = bed.root / "more"
    more.write_text("""GRAVITY_GUNICORN='[{"bind": "unix:/one"}, {"bind": "unix:/two"}]'\n""")
    state = bed.root / "state"
    asked = unit(f"Environment=GRAVITY_STATE_DIR={state} OTHER=x", f"EnvironmentFile={more}", command)
    galaxy = Galaxy(Spec(config=str(bed.config)), {})
    assert galaxy.instance.state_dir == str(state)
    assert [program.name for program in galaxy.instance.programs] == ["gunicorn_0", "gunicorn_1"]
    assert set(galaxy.instance.variables) == {"GRAVITY_STATE_DIR", "GRAVITY_GUNICORN"}
    assert asked == [1]
    # Gravity gets these variables when we run it
    assert Commands(galaxy.instance)._environment()["GRAVITY_STATE_DIR"] == str(state)
    # a unit that starts another Galaxy does not count
    unit(f"Environment=GRAVITY_STATE_DIR={state}", command.replace("galaxy.yml", "other.yml"))
    assert Galaxy(Spec(config=str(bed.config)), {}).instance.variables == {}


def test_where_all_is_installed_no_unit_is_looked_for(make_bed, unit):
    bed = make_bed()
    asked = unit(f"ExecStart=galaxyctl -c {bed.config}", "Environment=GRAVITY_STATE_DIR=/x")
    bed.update()
    galaxy = Galaxy(Spec(config=str(bed.config)), {})
    assert (galaxy.instance.variables, asked) == ({}, [])
    assert Supervisor(galaxy.instance).programs


@pytest.mark.parametrize(
    ("command", "cwd", "is_ours"),
    [
        ("ROOT/venv/bin/galaxyctl --config-file CONFIG start", "/", True),
        ("/bin/galaxyctl -c CONFIG start", "/", True),
        ("ROOT/venv/bin/supervisord -c STATE/supervisor/supervisord.conf", "/", True),
        ("galaxyctl start --foreground", "ROOT", True),
        ("/bin/galaxyctl --config-file=/srv/other.yml start", "ROOT", False),
        ("/bin/galaxyctl start", "/srv/other", False),
        ("/bin/cat CONFIG", "ROOT", False),
    ],
)
def test_what_starts_gravitys_supervisord(tmp_path, command, cwd, is_ours):
    instance = configured(tmp_path)
    places = {"ROOT": str(tmp_path), "CONFIG": instance.path, "STATE": instance.state_dir}

    def filled(text):
        for name, path in places.items():
            text = text.replace(name, path)
        return text

    names = {instance.path, f"{instance.state_dir}/supervisor/supervisord.conf"}
    for argv in (filled(command).split(), ["/bin/sh", "-c", filled(command)]):
        found = Invocation(tuple(argv), "x.service", filled(cwd), {})
        assert galaxy_gravity_environment._starts(found, instance, names) is is_ours
