"""What is asked before anything is known of a Galaxy, and which web server serves it."""

import pytest

from galaxy_errors import ConfigError
from galaxy_server import Galaxy
from galaxy_spec import Spec


def test_nothing_is_read_before_it_is_asked_for(tmp_path):
    galaxy = Galaxy(Spec(config=str(tmp_path / "not-mounted" / "galaxy.yml")), {})
    found = galaxy.look(1)
    assert (found.running, found.snapshots, found.masters) == (None, [], [])
    assert "no such configuration file" in found.errors[0]


_BOTH = "uwsgi:\n  stats: 127.0.0.1:1\n  http: 127.0.0.1:2\ngravity:\n  gunicorn:\n    bind: 127.0.0.1:3\ngalaxy: {}\n"


@pytest.mark.parametrize(
    ("text", "given", "server"),
    [
        ("uwsgi:\n  stats: 127.0.0.1:1\n  http: 127.0.0.1:2\n", {}, "uwsgi"),
        # Gravity does not read the section uwsgi:
        (_BOTH, {}, "gunicorn"),
        ("gravity: {}\ngalaxy: {}\n", {}, "gunicorn"),
        # the addresses of a server were given, so it is asked there
        (_BOTH, {"stats": "127.0.0.1:1", "socket": "127.0.0.1:2"}, "uwsgi"),
    ],
)
def test_what_serves(tmp_path, text, given, server):
    path = tmp_path / "galaxy.yml"
    path.write_text(text)
    galaxy = Galaxy(Spec(config=str(path), **given), {})
    assert galaxy.web_server == server
    if server == "gunicorn":
        with pytest.raises(ConfigError, match="gunicorn serves this Galaxy"):
            _ = galaxy.uwsgi
        with pytest.raises(ConfigError, match="has no stats server"):
            galaxy.read_stats(1)


def test_a_gravity_section_that_cannot_be_read_is_a_reason_and_no_answer(tmp_path):
    path = tmp_path / "galaxy.yml"
    path.write_text("gravity: [1]\n")
    galaxy = Galaxy(Spec(config=str(path)), {})
    found = galaxy.look(1)
    assert (found.running, found.is_ready(1), found.is_active, galaxy.web_server) == (None, None, None, "gunicorn")
    assert str(path) in found.errors[0]
    assert (galaxy.configurations, galaxy.version_on_disk()) == ([], None)
    with pytest.raises(ConfigError, match="gravity"):
        galaxy.require_telling()
