import os
import pwd

import pytest

import onedata_space
from galaxy_errors import ConfigError

GIVEN = {"provider_host": "provider.example.org", "mount_point": "/onedata/userdata/"}


def test_all_keys():
    space = onedata_space.of(
        "userdata",
        {
            **GIVEN,
            **{"provider_port": 5555, "uid": "root", "gid": 4001, "insecure": True, "nonempty": False},
            "options": ["--force-proxy-io"],
        },
    )
    assert (space.mount_point, space.provider_port, space.uid, space.gid) == ("/onedata/userdata", 5555, 0, 4001)
    assert (space.insecure, space.nonempty, space.options) == (True, False, ("--force-proxy-io",))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"provider_host": None}, "provider_host is missing"),
        ({"provider_host": "--insecure"}, "not a host name"),
        ({"mount_point": "onedata"}, "not an absolute path"),
        ({"provider_port": "443"}, "provider_port is '443'"),
        ({"uid": "nobody-here"}, "uid is 'nobody-here'"),
        ({"gid": -1}, "gid is -1"),
        ({"insecure": "yes"}, "insecure is 'yes'"),
        ({"options": "--force-proxy-io"}, "options is not a list"),
        ({"options": ["--token=x"]}, "a token there would be seen"),
        ({"options": ["-tx"]}, "a token there would be seen"),
        ({"host": "x"}, "host is no key of a space"),
    ],
)
def test_errors_name_space_and_key(more, words):
    with pytest.raises(ConfigError) as caught:
        onedata_space.of("userdata", {**GIVEN, **more})
    assert str(caught.value).startswith("Onedata space userdata: ")
    assert words in str(caught.value)


def test_ini_of_the_old_scripts(tmp_path):
    """It read uid and gid into nonempty, and gave the token to a shell."""
    path = tmp_path / "onedatactl.ini"
    me = pwd.getpwuid(os.getuid()).pw_name
    path.write_text(
        f"[userdata]\nmountpoint = /onedata\nprovider = p.example.org\ntoken = topsecret\nuid = {me}\ngid = 7\n"
        "insecure = True\nnonempty = False\n[refdata]\nmountpoint = /refdata\nprovider = q.example.org\n"
    )
    found = onedata_space.read_ini(str(path))
    settings, token = found["userdata"]
    space = onedata_space.of("userdata", settings)
    assert (space.uid, space.gid, space.insecure, space.nonempty) == (os.getuid(), 7, True, False)
    assert token.reveal() == b"topsecret"
    assert "topsecret" not in repr(found)
    settings, token = found["refdata"]
    assert onedata_space.of("refdata", settings).mount_point == "/refdata"
    assert token is None


def test_a_broken_ini_does_not_show_its_lines(tmp_path):
    path = tmp_path / "onedatactl.ini"
    path.write_text("token = topsecret\n")
    with pytest.raises(ConfigError) as caught:
        onedata_space.read_ini(str(path))
    assert str(path) in str(caught.value)
    assert "topsecret" not in str(caught.value)
    with pytest.raises(ConfigError, match="no such file"):
        onedata_space.read_ini(str(tmp_path / "gone.ini"))
