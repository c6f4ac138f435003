"""How a boot went, and what the master tells where the minion could not."""

import pytest

import galaxy_boot


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

    def cmd(self, target, *given, **keywords):
        self.asked = (target, *given)
        return self.answers


def _boot(ret, minion="one"):
    return galaxy_boot.boot(Minions({"one": {"ret": ret, "retcode": 0}}), minion, "L@one and ( x )")


def test_what_the_minion_told_itself_is_not_told_again():
    assert _boot({"a": FAILED, "b": AFTER, "c": REPORT}) == {}


@pytest.mark.parametrize(
    ("returned", "step", "reason"),
    [
        # failhard ends a run before its report
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
    assert galaxy_boot.boot(client, "one", "L@one and ( x )")["reason"] == "one does not answer, or no more"
    assert client.asked == ("L@one and ( x )", "state.apply", ["galaxy.boot"])
