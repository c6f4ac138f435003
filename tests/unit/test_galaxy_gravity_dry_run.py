"""What the real Gravity says it would write is what it then writes."""

import os
import pwd
import subprocess
import tempfile

import pytest
from support.attacker import public_directory

import galaxy_gravity_config
import galaxy_gravity_dry_run
from galaxy_errors import CommandError
from galaxy_gravity_command import Commands

OPTIONS = [{}, {"name": "main"}, {"gunicorns": 2, "settings": {"service_command_style": "direct"}}]


def read(bed, name=None):
    return galaxy_gravity_config.read(str(bed.config), name)


def programs(bed):
    base = bed.state / "supervisor" / "supervisord.conf.d"
    return {str(path.relative_to(base)): path.read_text() for path in base.rglob("*.conf")}


@pytest.mark.parametrize("options", OPTIONS)
def test_programs_are_those_that_update_writes(make_bed, options):
    bed = make_bed(celery=True, handlers=2, **options)
    before = sorted(bed.root.rglob("*"))
    written = galaxy_gravity_dry_run.run(Commands(read(bed)), is_system=True)
    assert sorted(bed.root.rglob("*")) == before
    bed.update()
    assert written.programs == programs(bed)
    assert written.units == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="root's units")
@pytest.mark.parametrize("options", OPTIONS)
def test_units_are_those_that_roots_update_writes(make_bed, tmp_path, options):
    bed = make_bed(celery=True, handlers=2, manager="systemd", **options)
    written = galaxy_gravity_dry_run.run(Commands(read(bed)), is_system=True)
    units, tools = tmp_path / "units", tmp_path / "bin"
    units.mkdir()
    tools.mkdir()
    (tools / "systemctl").write_text(
        "#!/bin/sh\necho PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
    )
    (tools / "systemctl").chmod(0o755)
    environment = {"PATH": f"{tools}:/usr/bin:/bin", "GRAVITY_SYSTEMD_UNIT_PATH": str(units), "LC_ALL": "C.UTF-8"}
    argv = [bed.venv / "bin" / "galaxyctl", "--config-file", bed.config, "update"]
    subprocess.run(argv, env=environment, check=True, capture_output=True)
    assert written.units == {path.name: path.read_text() for path in units.iterdir()}
    assert f"User={bed.user}" in written.units[next(name for name in written.units if "celery" in name)]
    assert written.programs == {}


def test_several_instances_have_their_logs_in_their_own_directories(make_bed, tmp_path):
    bed = make_bed()
    for name in ("one", "two"):
        (bed.root / "config" / f"{name}.yml").write_text(f"galaxy: {{data_dir: {bed.root}/{name}}}\n")
    gravity = "".join(
        f"- {{instance_name: {name}, galaxy_config_file: {name}.yml, galaxy_root: {bed.root}, virtualenv: {bed.venv},"
        " process_manager: supervisor, celery: {enable: false, enable_beat: false}}\n"
        for name in ("one", "two")
    )
    bed.config.write_text(f"gravity:\n{gravity}")
    for name in ("one", "two"):
        path = bed.root / name / "gravity"
        path.mkdir(parents=True)
        if os.geteuid() == 0:
            for directory in (path, path.parent):
                os.chown(directory, *pwd.getpwnam(bed.user)[2:4])
    commands = Commands(read(bed, "one"))
    assert galaxy_gravity_dry_run.has_shared_state(commands.instance)
    written = galaxy_gravity_dry_run.run(commands, is_system=True)
    assert set(written.programs) == {
        *("one.d/gunicorn_gunicorn.conf", "group_one.conf"),
        *("two.d/gunicorn_gunicorn.conf", "group_two.conf"),
    }
    for name in ("one", "two"):
        assert f"{bed.root}/{name}/gravity/log/" in written.programs[f"{name}.d/gunicorn_gunicorn.conf"]


def test_nothing_is_left(make_bed, monkeypatch):
    bed = make_bed()
    commands = Commands(read(bed))
    with public_directory() as place:
        # other tests may have such files in /tmp at the same time
        monkeypatch.setattr(tempfile, "tempdir", place)
        galaxy_gravity_dry_run.run(commands, is_system=True)
        bed.write(process_manager="launchd")
        with pytest.raises(CommandError, match="process_manager"):
            galaxy_gravity_dry_run.run(commands, is_system=True)
        assert os.listdir(place) == []
