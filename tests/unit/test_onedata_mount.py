"""What is told of a mount point. tests/functional/modules/test_onedata.py mounts spaces."""

import os
import stat

import pytest

import onedata_mount
from galaxy_errors import MountPointError
from galaxy_host_mounts import Mount
from galaxy_host_secret import Secret
from onedata_space import of


def space(**more):
    return of("userdata", {"provider_host": "p.example.org", "mount_point": "/onedata/userdata", **more})


def test_nothing_mounted(tmp_path):
    given = space(mount_point=str(tmp_path / "userdata"))
    assert onedata_mount.look(given) == onedata_mount.State(mounted=False, alive=False)
    told = onedata_mount.status(given)
    assert (told["mounted"], told["alive"], told["problem"]) == (False, False, "")
    assert told.keys() == onedata_mount.unknown("x").keys()
    assert onedata_mount.require_mountable(given).mounted is False
    (tmp_path / "userdata").write_text("")
    with pytest.raises(MountPointError, match="not a directory"):
        onedata_mount.require_mountable(given)


@pytest.mark.parametrize(
    ("fstype", "source", "options", "problem"),
    [
        ("fuse.oneclient", "oneclient", "rw,user_id=0,group_id=0,allow_other", ""),
        ("fuse.oneclient", "galaxy's", "rw,user_id=0,group_id=0", ""),
        ("fuse", "oneclient", "rw,user_id=0,group_id=0", ""),
        ("fuse.oneclient", "oneclient", "rw,user_id=4002,group_id=0", "oneclient (fuse.oneclient) of user 4002"),
        ("fuse.oneclient", "oneclient", "rw,xuser_id=0", "oneclient (fuse.oneclient)"),
        ("fuse.sshfs", "oneclient", "rw,user_id=0", "oneclient (fuse.sshfs)"),
        ("fuseblk", "/dev/sda1", "rw,user_id=0", "/dev/sda1 (fuseblk)"),
        ("tmpfs", "tmpfs", "rw", "tmpfs"),
        ("ext4", "/dev/mapper/x", "rw", "/dev/mapper/x (ext4)"),
    ],
)
def test_whose_a_mount_is(monkeypatch, fstype, source, options, problem):
    mount = Mount("/onedata/userdata", source, fstype, options)
    monkeypatch.setattr(onedata_mount.galaxy_host_mounts, "mounted_at", lambda path: mount)
    monkeypatch.setattr(onedata_mount.galaxy_host_command, "run", lambda argv, timeout: "")
    state = onedata_mount.look(space())
    assert (state.foreign, state.alive) == (bool(problem), not problem)
    assert state.problem == (f"{problem} is mounted there, which is not Onedata" if problem else "")


def test_the_port_of_a_provider():
    assert "--port" not in onedata_mount._argv(space(), "/c")
    argv = onedata_mount._argv(space(provider_port=8443), "/c")
    assert argv[argv.index("--port") + 1] == "8443"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to write in /run")
def test_the_configuration_has_no_name(tmp_path, monkeypatch):
    machine = tmp_path / "oneclient.conf"
    machine.write_bytes(b"log_dir = /var/log\naccess_token=OLD\n token = OLD\nauthorization_token = OLD\nname = \xff\n")
    monkeypatch.setattr(onedata_mount, "_CONFIG", str(machine))
    before = os.listdir("/run")
    with onedata_mount._config_file(Secret("TOPSECRET")) as path:
        assert os.listdir("/run") == before
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            assert file.read() == b"log_dir = /var/log\nname = \xff\naccess_token = TOPSECRET\n"
        assert (stat.S_IMODE(status.st_mode), status.st_nlink) == (0o600, 0)
        machine.unlink()
    assert not os.path.exists(path)
    with onedata_mount._config_file(Secret("TOPSECRET")) as path, open(path, "rb") as file:
        assert file.read() == b"access_token = TOPSECRET\n"
