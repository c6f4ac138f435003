import pytest
from salt.exceptions import SaltInvocationError

from galaxy_errors import ConfigError, OnedataError
from onedata_declared import Declared

SPACE = {"provider_host": "p.example.org", "mount_point": "/onedata/userdata"}


def declared(spaces=None, ini=None):
    given = {"galaxy:onedata:spaces": spaces, "galaxy:onedata:ini": ini}
    return Declared(lambda key, default: default if given[key] is None else given[key])


@pytest.fixture
def ini(tmp_path):
    path = tmp_path / "onedatactl.ini"
    path.write_text(
        "[userdata]\nprovider = old\nmountpoint = /old\ntoken = of-ini\n[refdata]\nprovider = r\nmountpoint = /r\n"
    )
    return str(path)


def test_pillar_wins_over_the_ini(ini):
    both = declared({"userdata": {**SPACE, "access_token": "of-pillar"}}, ini)
    assert both.names() == ["userdata", "refdata"]
    assert both.space("userdata").mount_point == "/onedata/userdata"
    assert both.space("refdata").mount_point == "/r"
    pillar = {"galaxy": {"onedata": {"spaces": {"userdata": {"access_token": "of-pillar\n"}}}}}
    assert both.token("userdata", {}, pillar, 0).reveal() == b"of-pillar"
    assert declared(None, ini).token("userdata", {}, pillar, 0).reveal() == b"of-ini"
    assert declared().names() == []


def test_the_ini_is_not_needed_for_what_pillar_has():
    both = declared({"userdata": SPACE}, "/gone.ini")
    assert both.space("userdata").provider_host == "p.example.org"
    for ask in (both.names, lambda: both.space("refdata")):
        with pytest.raises(ConfigError, match=r"/gone\.ini: no such file"):
            ask()


def test_mount_points(ini):
    spaces = {"userdata": SPACE, "wrong": {"mount_point": 7}}
    assert declared(spaces, ini).mount_points() == ["/onedata/userdata", "/r"]
    assert declared().mount_points() == []
    with pytest.raises(ConfigError, match=r"/gone\.ini: no such file"):
        declared({}, "/gone.ini").mount_points()


def test_unknown_names(ini):
    for name in ("other", ["userdata"], None, 7):
        with pytest.raises(SaltInvocationError, match=r"No Onedata space .* is declared .*; known: userdata, refdata"):
            declared({}, ini).space(name)
    with pytest.raises(SaltInvocationError, match="known: none"):
        declared().space("userdata")


@pytest.mark.parametrize(("spaces", "ini"), [(["userdata"], None), ("userdata", None), (None, ["/x.ini"]), (None, 7)])
def test_wrong_types(spaces, ini):
    with pytest.raises(SaltInvocationError, match="galaxy:onedata:"):
        declared(spaces, ini).names()


def test_tokens_that_are_none():
    for token in (" ", "a\nb", "a\rb", "a\0b", "\n"):
        pillar = {"galaxy": {"onedata": {"spaces": {"userdata": {"access_token": f"{token}\n"}}}}}
        with pytest.raises(OnedataError, match="its token is empty or more than one line"):
            declared({"userdata": SPACE}).token("userdata", {}, pillar, 0)
    with pytest.raises(OnedataError, match="token is not the place of a token"):
        declared({"userdata": {**SPACE, "token": ["/x"]}}).token("userdata", {}, {}, 0)
