"""Numbers, nouns and verbs agree."""

import pytest

import galaxy_host_count


@pytest.mark.parametrize(
    ("count", "words", "text"),
    [
        (0, ("worker",), "0 workers"),
        (1, ("worker",), "1 worker"),
        (2, ("worker",), "2 workers"),
        (1, ("try", "tries"), "1 try"),
        (3, ("try", "tries"), "3 tries"),
        (1, ("worker accepts", "workers accept"), "1 worker accepts"),
        (2, ("worker accepts", "workers accept"), "2 workers accept"),
    ],
)
def test_words_go_with_their_number(count, words, text):
    assert galaxy_host_count.counted(count, *words) == text


@pytest.mark.parametrize(
    ("count", "total", "text"),
    [(1, 2, "1 of 2 machines serves"), (0, 1, "0 of 1 machine serve"), (2, 2, "2 of 2 machines serve")],
)
def test_a_verb_goes_with_the_part_and_the_noun_with_the_whole(count, total, text):
    assert galaxy_host_count.part(count, total, "machine", "serves", "serve") == text
