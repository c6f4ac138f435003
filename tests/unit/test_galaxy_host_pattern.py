"""A pattern is compiled at its first use, and is then the same as ``re.compile`` makes."""

import re

import pytest

from galaxy_host_pattern import Pattern


def test_it_is_the_compiled_one(monkeypatch):
    compiled = []
    real = re.compile
    monkeypatch.setattr(re, "compile", lambda *given: compiled.append(given) or real(*given))
    pattern = Pattern(r"(?P<name>[a-z]+)=(\d+)", re.IGNORECASE)
    assert compiled == []
    assert pattern.fullmatch("Key=12").groups() == ("Key", "12")
    assert pattern.fullmatch("Key=x") is None
    assert pattern.sub(r"\1", "a=1 b=2") == "a b"
    assert pattern.pattern == r"(?P<name>[a-z]+)=(\d+)"
    assert len(compiled) == 3


def test_a_name_that_no_pattern_has():
    with pytest.raises(AttributeError):
        _ = Pattern("x").nothing
