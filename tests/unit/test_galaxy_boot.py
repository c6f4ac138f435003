"""How a boot went, and what the runner tells the master if the minion could not."""

import pytest

import galaxy_boot
from galaxy_host_turn import Turn


def _state(number, name, result=True, sls="galaxy.onedata", comment="said"):
    return {"__run_num__": number, "__id__": name, "__sls__": sls, "result": result, "comment": comment}


REPORT = _state(9, "galaxy-boot-report", sls="galaxy.boot.report")
FAILED = _state(3, "galaxy-onedata-userdata-mounted", False, comment="no token")
AFTER = _state(4, "galaxy-service-running", False, sls="galaxy.service.running", comment="requisite failed")


def test_the_first_failure_counts():
    assert galaxy_boot.failure([AFTER, _state(1, "first"), FAILED]) == {
        **{"step": "onedata", "state": "galaxy-onedata-userdata-mounted", "reason": "no token"}
    }
    assert galaxy_boot.failure([_state(1, "first"), _state(2, "test", None)]) == {}


class Minions:
    """Stands for ``LocalClient``."""

    def __init__(self, answers):
        self.answers = answers

    def cmd(self, target, *given, tgt_type, **keywords):
        self.asked = (target, tgt_type, *given)
        return self.answers


def _boot(ret, minion="one", **keywords):
    return galaxy_boot.boot(Minions({"one": {"ret": ret, "retcode": 0}}), minion, "x", **keywords)


def test_what_the_minion_told_itself_is_not_told_again():
    assert _boot({"a": FAILED, "b": AFTER, "c": REPORT}) == {}


@pytest.mark.parametrize(
    ("returned", "step", "reason"),
    [
        # with failhard, a run ends before its report
        ({"a": FAILED}, "onedata", "no token"),
        ({"a": FAILED, "c": {**REPORT, "result": False}}, "onedata", "no token"),
        ({"a": _state(1, "first")}, "boot", "galaxy.boot ended without its report"),
        (
            ["Rendering SLS failed", "no such file"],
            "boot",
            "galaxy.boot could not be applied: Rendering SLS failed; no such file",
        ),
        ("The function is running", "boot", "galaxy.boot could not be applied: The function is running"),
    ],
)
def test_what_it_could_not_tell(returned, step, reason):
    found = _boot(returned)
    assert (found["step"], found["reason"]) == (step, reason)


@pytest.mark.parametrize(
    "answers", [{}, "", {"one": False}, {"one": {"out": "no_return", "ret": "Minion did not"}}, {"other": {"ret": {}}}]
)
def test_no_answer(answers):
    client = Minions(answers)
    for condition, target, kind in (("x or y", "L@one and ( x or y )", "compound"), ("", ["one"], "list")):
        assert galaxy_boot.boot(client, "one", condition)["reason"] == "one does not answer, or has stopped answering"
        assert client.asked == (target, kind, "state.apply", ["galaxy.boot"])


def test_a_try_without_report_tells_how_it_went():
    well, failed = {"a": _state(1, "first")}, {"a": _state(1, "first"), "b": FAILED}
    assert _boot(well, report=False) == {}
    assert _boot(failed, report=False)["reason"] == "no token"
    assert _boot({}, report=False)["reason"] == "galaxy.boot ended without a state"
    assert _boot("no", report=False)["reason"] == "galaxy.boot could not be applied: no"


@pytest.mark.parametrize(
    "returned",
    [
        [[[["\x1b[2J"] * 100_000]]],
        "\x1b[2J" * 100_000,
        {"a": {**FAILED, "comment": ["\x1b[2J"], "__id__": {"\x1b": 1}, "__sls__": ["x"]}},
        {"a": {**FAILED, "__run_num__": "3"}, "b": {**FAILED, "__run_num__": None}},
        {"a": {**FAILED, "comment": "x" * 10**7}, "b": 1, "c": [], "d": None},
        {"c": {**REPORT, "result": "yes"}},
        {"c": {**REPORT, "__id__": ["galaxy-boot-report"]}},
        None,
        float("nan"),
    ],
    ids=range(9),
)
@pytest.mark.parametrize("report", [True, False])
def test_whatever_a_minion_returns_it_is_said_in_words(returned, report):
    found = _boot(returned, report=report)
    assert set(found) in (set(), {"step", "state", "reason"})
    assert "\x1b" not in str(found)
    assert len(str(found)) < 50_000


class Machine:
    """Stands for ``LocalClient``. Each try of a boot goes as the test says."""

    def __init__(self, *tries, meanwhile=lambda: None):
        self.tries, self.excluded, self.meanwhile = list(tries), [], meanwhile

    def cmd(self, target, function, arguments, kwarg, **keywords):
        assert kwarg["queue"] is True
        self.excluded.append(kwarg.get("exclude"))
        self.meanwhile()
        states = {"a": self.tries.pop(0)}
        return {"one": {"ret": states if kwarg.get("exclude") else {**states, "c": REPORT}, "retcode": 0}}


GOOD = _state(1, "first")


@pytest.mark.parametrize(
    ("tries", "retries", "excluded", "told"),
    [
        # if there is one try, the minion itself reports
        ([GOOD], 0, [None], []),
        ([FAILED], 0, [None], []),
        # else the minion reports only in the last try; if an earlier one goes well, the runner reports in its place
        ([GOOD], 1, ["galaxy.boot.report"], [{}]),
        ([FAILED, GOOD], 1, ["galaxy.boot.report", None], []),
        ([FAILED, FAILED], 1, ["galaxy.boot.report", None], []),
        ([FAILED, GOOD], 2, ["galaxy.boot.report"] * 2, [{}]),
        ([FAILED] * 3, 2, ["galaxy.boot.report"] * 2 + [None], []),
    ],
)
def test_a_boot_that_failed_is_tried_so_often_and_told_once(tmp_path, tries, retries, excluded, told):
    machine, heard = Machine(*tries), []
    turn = Turn(str(tmp_path), "one")
    galaxy_boot.boot_in_turn(machine, "one", "", turn, lambda *said: heard.append(said), retries, 0)
    assert machine.excluded == excluded
    assert machine.tries == []
    assert [said for said in heard if said[0] != "progress"] == [("failed" if data else "ready", data) for data in told]
    # before each further try, the runner tells what it waits for
    waiting = [data for what, data in heard if what == "progress"]
    assert [(data["try"], data["tries"]) for data in waiting] == [
        (number, retries + 1) for number in range(1, len(excluded))
    ]
    assert {data["waits_for"] for data in waiting} <= {"the next try, in 0 s: onedata: no token"}


def test_what_the_minion_cannot_tell_is_told_after_the_last_try(tmp_path):
    heard = []
    failed = galaxy_boot.boot_in_turn(
        Minions({}), "one", "", Turn(str(tmp_path), "one"), lambda *said: heard.append(said), retries=2, pause=0
    )
    assert failed == {"step": "boot", "state": None, "reason": "one does not answer, or has stopped answering"}
    assert [what for what, _ in heard] == ["progress", "progress", "failed"]
    assert heard[-1][1] == failed


def test_a_minion_that_starts_anew_is_tried_at_once_and_only_so_often(tmp_path):
    turn, answers = Turn(str(tmp_path), "one"), []

    def starts_anew():
        if len(machine.tries) == 2:
            answers.extend(Turn(str(tmp_path), "one").take(lambda turn: "boots") for _ in range(100))

    machine = Machine(FAILED, GOOD, meanwhile=starts_anew)
    # the test does not wait so long: a new start ends the pause
    turn.take(lambda turn: galaxy_boot.boot_in_turn(machine, "one", "", turn, lambda *said: None, 1, 10**6))
    assert answers == [None] * 100
    assert machine.tries == []


@pytest.mark.parametrize(
    ("stamp", "seconds"),
    [
        ("2026-01-01T00:00:00.500000", 1767225600.5),
        ("2026-01-01T00:00:00.500000+00:00", 1767225600.5),
        ("2026-01-01T01:00:00+01:00", 1767225600.0),
        *[(stamp, None) for stamp in (None, "", "now", 5, ["x"], {}, "2026-13-01")],
    ],
)
def test_the_time_of_an_event(stamp, seconds):
    assert galaxy_boot.seconds_of(stamp) == seconds
