import pytest

import onedata_space
from galaxy_errors import ConfigError

GIVEN = {"provider_host": "provider.example.org", "mount_point": "/onedata/userdata/"}


def test_all_keys():
    space = onedata_space.of(
        "userdata",
        {
            **GIVEN,
            **{"provider_port": 5555, "insecure": True, "nonempty": False, "access_token": "x", "token": None},
            "options": ["--force-proxy-io"],
        },
    )
    assert (space.mount_point, space.provider_port) == ("/onedata/userdata", 5555)
    assert (space.insecure, space.nonempty, space.options) == (True, False, ("--force-proxy-io",))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"provider_host": None}, "provider_host is missing"),
        ({"provider_host": "--insecure"}, "not a host name"),
        ({"mount_point": "onedata"}, "not an absolute path"),
        ({"provider_port": "443"}, "provider_port is '443'"),
        ({"uid": "galaxy"}, "uid is no option of oneclient"),
        ({"gid": None}, "gid is no option of oneclient"),
        ({"mount_point": "/x\ny"}, "mount_point has a control character"),
        ({"provider_host": "x\0"}, "provider_host has a control character"),
        ({"options": ["--x\0"]}, "options has a control character"),
        ({"options": ["--tok", "x"]}, "a token there would be seen"),
        ({"options": ["--conf=x"]}, "a token there would be seen"),
        ({"options": [7]}, "options is not a list of texts"),
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


def test_no_mapping():
    for settings in (None, [], "x", 7):
        with pytest.raises(ConfigError, match="is not a mapping"):
            onedata_space.of("userdata", settings)


def test_ini_of_the_old_scripts(tmp_path, caplog):
    """The old script read uid and gid into nonempty, and gave the token with its quotes to a shell."""
    path = tmp_path / "onedatactl.ini"
    path.write_text(
        "\ufeff[userdata]\nmountpoint = '/onedata' ; here\nprovider = p.example.org\ntoken = \"topsecret\"\n"
        "uid = galaxy\ngid = 7\ninsecure = True\nnonempty = False\n"
        "[refdata]\nmountpoint = /refdata\nprovider = q.example.org  # x\n"
        "provider = r.example.org  # the last one counts\n",
        encoding="utf-8",
    )
    found = onedata_space.read_ini(str(path))
    settings, token = found["userdata"]
    space = onedata_space.of("userdata", settings)
    assert (space.mount_point, space.insecure, space.nonempty) == ("/onedata", True, False)
    assert token.reveal() == b"topsecret"
    assert "topsecret" not in repr(found)
    # uid and gid were never in effect, so the space is mounted as before
    assert "[userdata] uid was never in effect" in caplog.text
    settings, token = found["refdata"]
    space = onedata_space.of("refdata", settings)
    assert (space.mount_point, space.provider_host, token) == ("/refdata", "r.example.org", None)


@pytest.mark.parametrize(
    "unused",
    [
        "[refdata]\n",
        "[refdata]\n# mountpoint = /refdata\n;provider = x\n",
        "[refdata]\nmountpoint =\nprovider = \ntoken=''\n",
    ],
)
def test_a_section_that_sets_nothing_is_no_space(tmp_path, unused):
    path = tmp_path / "onedatactl.ini"
    for default in ("", "[DEFAULT]\nprovider = p.example.org\n"):
        path.write_text(f"{default}[userdata]\nmountpoint = /export\nprovider = q\n{unused}")
        assert list(onedata_space.read_ini(str(path))) == ["userdata"]


def test_a_broken_ini_does_not_show_its_lines(tmp_path):
    path = tmp_path / "onedatactl.ini"
    path.write_text("token = topsecret\n")
    with pytest.raises(ConfigError) as caught:
        onedata_space.read_ini(str(path))
    assert str(path) in str(caught.value)
    assert "topsecret" not in str(caught.value)
    path.write_bytes(b"[userdata]\ntoken = tops\xffcret\n")
    with pytest.raises(ConfigError, match=f"{path}: is not UTF-8$"):
        onedata_space.read_ini(str(path))
    with pytest.raises(ConfigError, match="no such file"):
        onedata_space.read_ini(str(tmp_path / "gone.ini"))
