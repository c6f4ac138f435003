import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.document import core, document, worker

import galaxy_uwsgi_stats
from galaxy_errors import StatsClosed, StatsError
from galaxy_host_address import Address
from galaxy_uwsgi_stats import Stats

ADDRESS = Address("127.0.0.1", 9191)


def _stats(*workers, **top):
    return Stats(ADDRESS, galaxy_uwsgi_stats._check(ADDRESS, document(workers, **top), 0))


@given(st.data())
def test_a_document_with_one_wrong_value_is_refused_or_harmless(data):
    broken = copy.deepcopy(document([worker(), worker(status="busy", cores=[core(1), core(0)])]))
    place = broken
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if isinstance(place[key], (dict, list)) and place[key] and data.draw(st.booleans()):
            place = place[key]
            continue
        place[key] = data.draw(st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.lists(st.integers())))
        break
    _read_all(broken)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_json_is_stats_or_a_stats_error(value):
    _read_all(value)


def _read_all(value):
    try:
        stats = Stats(ADDRESS, galaxy_uwsgi_stats._check(ADDRESS, value, 0))
    except StatsError as exc:
        assert str(ADDRESS) in str(exc)
        return
    for found in stats.workers:
        json.dumps(found.record())
    assert isinstance(stats.accepting, int)
    assert stats.ready <= stats.accepting
    json.dumps([stats.redacted(), stats.listen_queue])


@given(st.integers(0))
def test_cut_anywhere_it_is_closed_early(position):
    data = json.dumps(document([worker(cores=[core(1, ['A=1\\"\u00e9'])])]), indent=1).encode()
    cut = data[: position % len(data)]
    with pytest.raises(StatsClosed, match="closed the connection"):
        galaxy_uwsgi_stats._parse(ADDRESS, cut)


def test_bytes_that_are_no_text_do_not_hide_the_rest():
    """uWSGI copies a request's bytes as they are, even control characters."""
    data = json.dumps(document([worker(status="busy", cores=[core(1, ["REQUEST_URI=/a@b"])])])).encode()
    found = galaxy_uwsgi_stats._parse(ADDRESS, data.replace(b"@", b"\xff\x01"))
    assert Stats(ADDRESS, found).workers[0].in_request[0].uri == "/a\ufffd\x01b"
