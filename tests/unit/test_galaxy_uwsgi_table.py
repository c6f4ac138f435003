"""The table of options. tests/functional/test_config_against_uwsgi.py shows that it is uWSGI's own."""

import re

import pytest

from galaxy_uwsgi_table import ARGUMENT, MASTER, NO_ARGUMENT, OPTIONAL, SHORT, full_name


def test_an_option_takes_an_argument_in_one_way():
    assert not NO_ARGUMENT & OPTIONAL
    assert not ARGUMENT & (NO_ARGUMENT | OPTIONAL)
    assert all(re.fullmatch(r"[\w-]+", name) for name in ARGUMENT | NO_ARGUMENT | OPTIONAL | MASTER)


def test_a_letter_takes_an_argument_as_its_name_does():
    for letter, name in SHORT.items():
        assert re.fullmatch("[A-Za-z]", letter)
        assert (name in NO_ARGUMENT, name[:1] == "?") == (name[:1] not in ":?", name[1:] in OPTIONAL)


def test_options_that_have_a_stats_server_have_a_master():
    assert {"stats", "stats-server", "mule", "master-fifo", "cheaper"} <= MASTER
    assert not {"master", "socket", "processes", "http"} & MASTER


@pytest.mark.parametrize(
    ("name", "full"),
    [
        *(("stats-ser", "stats-server"), ("process", "processes"), ("die-on-t", "die-on-term")),
        # one option, several options, and no option begins like this
        *(("stats", "stats"), ("thread", "thread"), ("http-to", "http-to"), ("nothing", "nothing"), ("", "")),
    ],
)
def test_the_beginning_of_a_name(name, full):
    assert full_name(name) == full
