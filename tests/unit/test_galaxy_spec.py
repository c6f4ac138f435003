import pytest
from salt.exceptions import SaltInvocationError

import galaxy_spec
from galaxy_errors import AddressError, NotNamed, SettingsError
from galaxy_settings import Settings
from galaxy_spec import Limits, Spec


def _settings(pillar):
    return Settings({"pillar": pillar})


PRODUCTION = {
    "config": "/srv/prod/galaxy.yml",
    "service": "galaxy",
    "manager": "systemd",
    "timeout": 9,
    "min_workers": 3,
}
BOTH = {"servers": {"main": PRODUCTION, "test": {"config": "/srv/test/galaxy.yml", "retries": 0}}}


def _resolve(pillar, **given):
    return galaxy_spec.resolve(given, _settings(pillar))


def test_pillar_fills_in_what_is_not_given():
    spec, limits = _resolve(PRODUCTION)
    assert spec == Spec("galaxy", "/srv/prod/galaxy.yml", manager="systemd", service="galaxy")
    assert limits == Limits(timeout=9, min_workers=3)
    spec, limits = _resolve(PRODUCTION, service="other", workers=1)
    assert (spec.service, limits.min_workers) == ("other", 1)


@pytest.mark.parametrize("given", [{"config": "/srv/test/galaxy.yml"}, {"stats": ":9"}, {"socket": "/s"}])
def test_an_argument_names_a_server_wholly(given):
    spec, limits = _resolve(PRODUCTION, **given)
    assert spec == Spec(**given)
    assert limits == Limits()


def test_the_configuration_of_a_server_in_pillar_means_that_server(tmp_path):
    (tmp_path / "galaxy.yml").touch()
    (tmp_path / "link.yml").symlink_to("galaxy.yml")
    pillar = {"servers": {"main": {"config": f"{tmp_path}/galaxy.yml", "retries": 1}, "test": {"config": "/x"}}}
    spec, limits = _resolve(pillar, config=f"{tmp_path}/link.yml")
    assert (spec.server, limits.retries) == ("main", 1)


def test_a_configuration_of_several_servers_names_none_of_them():
    """One file can hold several instances of Gravity."""
    servers = {name: {"config": "/srv/galaxy.yml", "instance": name} for name in ("main", "test")}
    with pytest.raises(NotNamed, match=r"Several Galaxy servers have /srv/galaxy\.yml: main, test; say which"):
        _resolve({"servers": servers}, config="/srv/galaxy.yml")
    assert _resolve({"servers": servers}, config="/srv/galaxy.yml", instance="test")[0].server == "test"


def test_servers_by_name():
    spec, limits = _resolve(BOTH, server="test")
    assert (spec.server, spec.config, spec.service, limits.retries) == ("test", "/srv/test/galaxy.yml", None, 0)
    with pytest.raises(
        SaltInvocationError, match="No Galaxy server 'tset' is declared in galaxy:servers; known: main, test"
    ):
        _resolve(BOTH, server="tset")


def test_without_a_name_the_only_one_or_the_own_one_is_meant():
    assert _resolve({"servers": {"main": PRODUCTION}})[0].server == "main"
    assert _resolve({**PRODUCTION, "servers": {"test": {"config": "/t"}}})[0].server == "galaxy"
    with pytest.raises(NotNamed, match="Several Galaxy servers are declared: main, test; say which"):
        _resolve(BOTH)
    for pillar in (None, {}, {"timeout": 5}):
        with pytest.raises(NotNamed, match="galaxy:config"):
            _resolve(pillar)


def test_all_of_them():
    found = galaxy_spec.resolve_all({"min_workers": 2}, _settings(BOTH))
    assert {name: (spec.server, limits.min_workers) for name, (spec, limits) in found.items()} == {
        **{"main": ("main", 2), "test": ("test", 2)},
    }
    with pytest.raises(SaltInvocationError, match="config goes with one server"):
        galaxy_spec.resolve_all({"config": "/x"}, _settings(BOTH))
    with pytest.raises(NotNamed, match="pillar names no Galaxy server"):
        galaxy_spec.resolve_all({}, _settings({}))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"tiemout": 5}, "Unknown keyword 'tiemout': did you mean timeout"),
        ({"bin_env": "/x"}, "Known are server, config"),
        ({"workers": 1, "min_workers": 1}, "workers is another name of min_workers"),
        ({"min_workers": 1, "workers": 1}, "workers is another name of min_workers"),
        ({"timeout": "5m"}, "timeout is '5m'; give a number of seconds"),
        ({"timeout": 0}, "more than 0"),
        ({"min_workers": -1}, "min_workers is -1"),
        ({"force": "yes"}, "force is 'yes'; give True or False"),
        ({"config": 5}, "config is 5; give a text"),
        ({"server": ["a"]}, "server is"),
        ({"companions": "some"}, "companions is 'some'; give"),
    ],
)
def test_a_bad_keyword_is_refused(given, text):
    with pytest.raises(SaltInvocationError, match=text):
        _resolve(PRODUCTION, **given)


def test_a_bad_address_is_refused():
    with pytest.raises(AddressError, match="'bad'"):
        _resolve(PRODUCTION, stats="bad")


def test_a_wrong_pillar_stops_what_would_use_it_and_nothing_else():
    pillar = {**PRODUCTION, "storagee": {}}
    with pytest.raises(SettingsError, match="did you mean storage"):
        _resolve(pillar)
    assert _resolve(pillar, config="/other.yml")[0].config == "/other.yml"


def test_salts_own_keywords_are_not_ours():
    assert _resolve(PRODUCTION, __pub_jid="1")[0].server == "galaxy"


def test_one_server_has_one_lock_however_it_is_named(tmp_path):
    (tmp_path / "galaxy.yml").touch()
    (tmp_path / "link.yml").symlink_to("galaxy.yml")
    named = Spec("main", f"{tmp_path}/galaxy.yml", stats=":1")
    assert named.identity == Spec(config=f"{tmp_path}/link.yml").identity
    assert Spec(stats="127.0.0.1:9191").identity != Spec(stats="127.0.0.1:9192").identity
