import grp
import os
import pwd

import pytest

import galaxy_host_directory
from galaxy_errors import FileError

ME = (pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives directories away")


@pytest.fixture(autouse=True)
def _private(tmp_path):
    """pytest's directories are below /tmp, where everybody may write. The tests' own directory must be ours alone."""
    tmp_path.chmod(0o755)


def test_made_once(tmp_path):
    path = str(tmp_path / "a" / "b")
    assert galaxy_host_directory.difference(path, *ME, "0750") == {"directory": {"old": None, "new": path}}
    galaxy_host_directory.ensure(path, *ME, "0750")
    assert galaxy_host_directory.difference(path, *ME, "0750") == {}
    assert galaxy_host_directory.difference(path, *ME, "0755") == {"mode": {"old": "0750", "new": "0755"}}
    galaxy_host_directory.ensure(path, *ME, "0755")
    assert galaxy_host_directory.difference(path, *ME, "0755") == {}


@as_root
def test_roots_own_is_given_away(tmp_path):
    path = str(tmp_path / "data")
    os.mkdir(path, 0o755)
    group = grp.getgrgid(pwd.getpwnam("nobody").pw_gid).gr_name
    assert set(galaxy_host_directory.difference(path, "nobody", group, "0755")) == {"user", "group"}
    galaxy_host_directory.ensure(path, "nobody", group, "0755")
    assert galaxy_host_directory.difference(path, "nobody", group, "0755") == {}


@as_root
def test_a_link_that_galaxys_user_put_there_is_not_followed(tmp_path):
    """Galaxy's user owns the data directory. Root must not make ``link/config`` in another directory there."""
    nobody = pwd.getpwnam("nobody")
    group = grp.getgrgid(nobody.pw_gid).gr_name
    (tmp_path / "etc").mkdir()
    data = tmp_path / "data"
    data.mkdir()
    (data / "galaxy").symlink_to(tmp_path / "etc")
    os.chown(data, nobody.pw_uid, nobody.pw_gid)
    os.lchown(data / "galaxy", nobody.pw_uid, nobody.pw_gid)
    for path in (data / "galaxy" / "config", data / "galaxy"):
        with pytest.raises(FileError):
            galaxy_host_directory.ensure(str(path), "nobody", group, "0755")
    assert list((tmp_path / "etc").iterdir()) == []
    assert (tmp_path / "etc").stat().st_uid == 0


@pytest.mark.parametrize(
    ("user", "mode", "text"),
    [
        ("no-such-user", "0755", "no-such-user"),
        (ME[0], "999", "octal"),
        (ME[0], 755, "octal"),
        (ME[0], "77777", "octal"),
    ],
)
def test_what_is_no_user_or_mode(tmp_path, user, mode, text):
    with pytest.raises(FileError, match=text):
        galaxy_host_directory.difference(str(tmp_path), user, ME[1], mode)


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "x").touch()
    with pytest.raises(FileError, match="is no directory"):
        galaxy_host_directory.difference(str(tmp_path / "x"), *ME, "0755")
