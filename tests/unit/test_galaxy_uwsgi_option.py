import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

import galaxy_uwsgi_option
from galaxy_errors import ConfigError
from galaxy_uwsgi_option import Option, evaluate, is_private, leading_int, shown

_OPTIONS = {
    name: Option(name, value, "x.ini", 1)
    for name, value in {"a": "4", "b": "40", "text": "x y", "none": None, "big": "9223372036854775807"}.items()
}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("3", 3), ("3 ; x", 3), (" \t-3x", -3), ("+7", 7), ("0012", 12), ("", 0), ("x", 0), ("-", 0), ("- 1", 0)),
        *(("9" * 19, 10**19 - 1), ("9" * 10_000, 1 << 63), ("0" * 10_000 + "5", 5), ("1_000", 1), ("1.9", 1)),
    ],
)
def test_a_number_is_the_digits_that_a_text_begins_with(text, number):
    assert leading_int(text) == number


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        *(("a", "4"), ("gone", None), ("none", None), ("a b", "440"), ("a + b", "44"), ("a + b * a", "176")),
        *(("a - 9", "-5"), ("b / a", "10"), ("a / 0", "0"), ("a ++", "5"), ("a --", "3"), ("gone + 1", "1")),
        *(("a text", "4x y"), ("- 3", "-3"), ("a  +  1", "5"), ("a +", "4"), ("7 8", "78"), ("none + 2", "2")),
        *(("big + 1", "-9223372036854775808"), ("a - 11 / 2", "-3")),
    ],
)
def test_sums_go_from_left_to_right_in_64_bits(expression, value):
    # tests/functional/test_config_against_uwsgi.py compares with uWSGI itself
    assert evaluate(expression, _OPTIONS, "x.ini:1") == (value, False)


def test_a_sum_of_a_secret_is_one():
    secret = Option("s", "1", "x.ini", 1)
    secret.secret = True
    for expression in ("s", "s + 1", "a s", "s ++", "1 - s"):
        assert evaluate(expression, {**_OPTIONS, "s": secret}, "x.ini:1")[1] is True


def test_a_long_one_has_an_end():
    long = Option("l", "x" * 60_000, "x.ini", 1)
    with pytest.raises(ConfigError, match=r"x\.ini:1: .*longer than"):
        evaluate("l " * 10, {"l": long}, "x.ini:1")


@given(
    st.lists(st.sampled_from(["a", "b", "+", "-", "*", "/", "++", "--", "9" * 18, "gone", "text", ""])).map(" ".join)
)
def test_any_sum_ends_in_a_short_text(expression):
    value, _ = evaluate(expression, _OPTIONS, "x.ini:1")
    assert value is None or len(value) < 20 * len(expression) + 20


def test_where_it_comes_from():
    assert Option("a", "b", "/x.ini", 3).source == "/x.ini:3"
    assert Option("a", "b", "galaxy.service", 0).source == "galaxy.service"


def test_for_a_message():
    assert shown(Option("a", "b", "x", 1)) == "a = 'b'"
    assert shown(Option("a", None, "x", 1)) == "a = ''"
    assert shown(Option("a", f"{galaxy_uwsgi_option.UNKNOWN}u\n", "x", 1)) == "a = '%u\\n'"
    assert len(shown(Option("a", "b" * 5000, "x", 1))) < 120
    secret = Option("a", "TOPSECRET", "x", 1)
    secret.secret = True
    assert "TOPSECRET" not in shown(secret)


def test_only_what_directories_tell_is_no_secret(tmp_path):
    for value in ("/", str(tmp_path), f"{tmp_path}/new.pid", os.path.realpath("/tmp")):
        assert not is_private(value)
    for value in ("", "hvs.TOPSECRET", "/9j/4AAQ", "/secret", "127.0.0.1:80", "tmp", f"{tmp_path}/no/such", "/\0"):
        assert is_private(value)
