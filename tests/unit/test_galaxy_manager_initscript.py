"""Commands and their answers. tests/functional/managers runs real scripts."""

import pytest
from salt.exceptions import CommandExecutionError

import galaxy_manager_initscript
from galaxy_errors import ManagerError
from galaxy_manager_initscript import InitScript
from galaxy_manager_unit import State


def _refuse(name):
    raise CommandExecutionError("no such service")


def test_commands_and_status():
    said = {"service.status": lambda name: True, "service.start": lambda name: False, "service.stop": lambda name: True}
    upstart = InitScript("upstart", "galaxy", said)
    assert upstart.commands()["restart"] == ["initctl", "restart", "galaxy"]
    assert (upstart.status().state, upstart.status().active) == (State.RUNNING, True)
    with pytest.raises(ManagerError, match="initctl start galaxy failed"):
        upstart.start()
    script = InitScript("sysvinit", "galaxy", said)
    assert script.commands()["stop"] == ["/etc/init.d/galaxy", "stop"]
    script.stop()
    assert InitScript("sysvinit", "galaxy", {"service.status": lambda name: False}).status().state is State.STOPPED


@pytest.mark.parametrize("functions", [None, {}, {"service.status": _refuse}])
def test_without_salts_functions(functions):
    with pytest.raises(ManagerError, match=r"service.status"):
        InitScript("sysvinit", "galaxy", functions).status()


def test_a_script_that_cannot_be_read_has_no_commands(tmp_path):
    path = tmp_path / "galaxy"
    assert galaxy_manager_initscript.commands_of(str(path)) == []
    path.write_text("#!/bin/sh\nexec uwsgi --ini x\n")
    assert galaxy_manager_initscript.commands_of(str(path))[0].argv == ("uwsgi", "--ini", "x")


def test_only_scripts_that_mention_it_are_read_for_commands(tmp_path, monkeypatch):
    monkeypatch.setattr(galaxy_manager_initscript, "_SCRIPTS", str(tmp_path / "*"))
    scripts = {"a-galaxy": "run", "b": "exec UWSGI --ini x", "c": "sshd"}
    for name, text in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    # a link is known by the name of its file
    (tmp_path / "z-galaxy").symlink_to("c")
    found = galaxy_manager_initscript.definitions("sysvinit", ("galaxy", "uwsgi"))
    assert [(name, commands[0].argv[0]) for name, commands in found] == [("a-galaxy", "run"), ("b", "UWSGI")]
    assert [name for name, _ in galaxy_manager_initscript.definitions("sysvinit")] == ["a-galaxy", "b", "c"]
