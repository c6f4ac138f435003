"""Whatever a minion answers, the runners return JSON of limited size with harmless text, in time and limited memory."""

import json
import os
import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st
from support.answers import status
from test_fuzz_inputs import bounded

import galaxy_boot
import galaxy_fleet
import galaxy_fleet_table
import galaxy_remote

EXAMPLES = settings(max_examples=int(os.environ.get("FUZZ_EXAMPLES", "200")), deadline=None)

_TEXTS = st.one_of(
    st.text(st.characters(codec=None)),
    st.sampled_from(["\x1b[2J", "\x9b", "\u202e", "galaxy.boot", "galaxy-boot-report", "galaxy.startup", "x" * 20_000]),
)
_LEAVES = st.one_of(
    *(st.none(), st.booleans(), st.floats(), _TEXTS, st.binary()),
    st.integers() | st.integers(-(1 << 70), 1 << 70),
)
_KEYS = st.one_of(
    st.sampled_from(["result", "__run_num__", "__id__", "__sls__", "comment", "fun", "arg", "jid", "mods", "server"]),
    *(_TEXTS, st.integers(), st.none(), st.booleans(), st.tuples(st.integers())),
)
VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(st.lists(inner), st.tuples(inner, inner), st.dictionaries(_KEYS, inner)),
    max_leaves=40,
)


class Minion:
    """Stands for ``LocalClient``. It gives one answer to each question."""

    def __init__(self, answer):
        self.answer = answer

    def cmd(self, *given, **keywords):
        return self.answer


def _is_harmless(value):
    done = json.dumps(value, allow_nan=False, ensure_ascii=False)
    done.encode()
    assert len(done) < 8 * galaxy_remote.CHARACTERS
    for char in json.loads(done) if isinstance(value, str) else done:
        assert unicodedata.category(char) not in ("Cc", "Cf", "Zl", "Zp", "Cs") or char in "\n\t", repr(char)


@EXAMPLES
@given(VALUES)
def test_an_answer_is_plain(value):
    with bounded():
        done = galaxy_remote.plain(value)
        again, text = galaxy_remote.plain(done), galaxy_remote.text(value)
    _is_harmless(done)
    # a plain value does not change
    assert again == done
    assert len(text) <= galaxy_remote.TEXT


@EXAMPLES
@given(VALUES, VALUES, VALUES)
def test_a_call_answers(ret, retcode, out):
    for answers in (ret, {"one": ret}, {"one": {"ret": ret, "retcode": retcode, "out": out}}):
        with bounded():
            answer = galaxy_remote.call(Minion(answers), "one", "galaxy.status")
        assert type(answer["success"]) is bool
        _is_harmless(answer)


@EXAMPLES
@given(VALUES)
def test_jobs_that_are_under_way(tmp_path_factory, jobs):
    directory = str(tmp_path_factory.getbasetemp() / "locks")
    with bounded():
        answer = galaxy_remote.call_once(
            Minion({"one": {"ret": jobs, "retcode": 0}}), directory, "one", "galaxy.startup"
        )
    _is_harmless(answer)


@EXAMPLES
@given(VALUES, st.booleans())
def test_a_boot_ends_in_words(ret, report):
    with bounded():
        failed = galaxy_boot.boot(Minion({"one": {"ret": ret, "retcode": 0}}), "one", "L@one", report)
    assert set(failed) in (set(), {"step", "state", "reason"})
    _is_harmless(failed)


@EXAMPLES
@given(VALUES)
def test_the_time_of_an_event_is_a_time_or_none(stamp):
    with bounded():
        assert type(galaxy_boot.seconds_of(stamp)) in (float, type(None))


_STATUSES = st.dictionaries(st.sampled_from(sorted({**status(), "services": 0, "galaxy_version": 0})), VALUES).map(
    lambda given: {**status(), **given}
)


@EXAMPLES
@given(st.one_of(VALUES, _STATUSES, st.dictionaries(_TEXTS, _STATUSES, max_size=3)))
def test_any_answer_is_rows(returned):
    with bounded():
        rows = galaxy_fleet.rows("one", returned)
        fleet = galaxy_fleet.fleet({"one": rows}, [])
        lines = [galaxy_fleet.check_line(rows), *map(galaxy_fleet_table.line, rows)]
    _is_harmless(fleet)
    for said in lines:
        _is_harmless(said)
        assert "\n" not in said
