"""Each minion is asked once, and gets a limited time."""

import pytest
from salt.exceptions import SaltInvocationError
from support.answers import status

import galaxy_fleet_ask


class Client:
    """Stands for ``LocalClient`` and its events. After the last event nothing comes."""

    def __init__(self, minions, events):
        self.minions, self.events = minions, iter(events)
        self.event, self.asked, self.waits = self, [], []

    def run_job(self, *given, **keywords):
        self.asked.append((given, keywords))
        if not self.minions:
            print("No minions matched the target. No command was sent, no jid was assigned.")
            return {}
        return {"jid": "20260101", "minions": list(self.minions)}

    def get_event(self, wait, tag, full):
        assert wait > 0
        assert (tag, full) == ("salt/job/20260101/ret/", True)
        self.waits.append(wait)
        return next(self.events, None)


def _answer(minion, returned=None):
    data = {"id": minion, "return": {"galaxy": status()} if returned is None else returned, "retcode": 0}
    return {"tag": f"salt/job/20260101/ret/{minion}", "data": data}


def test_all_answer():
    client = Client(["one", "two"], [_answer("one"), _answer("two"), _answer("never read")])
    found = galaxy_fleet_ask.ask(client, "*", "glob", 30)
    assert [(row["minion"], row["state"]) for row in found["rows"]] == [("one", "ready"), ("two", "ready")]
    assert next(client.events)["data"]["id"] == "never read"
    ((given, keywords),) = client.asked
    assert given == ("*", "galaxy.status")
    assert keywords == {
        **{"tgt_type": "glob", "timeout": 30, "listen": True},
        "kwarg": {"server": "*", "timeout": 5},
    }


def test_a_minion_has_a_part_of_the_time_for_each_server():
    client = Client(["one"], [_answer("one")])
    galaxy_fleet_ask.ask(client, "*", "glob", 4)
    assert client.asked[0][1]["kwarg"]["timeout"] == 1


def test_whoever_does_not_answer_in_time_is_silent_and_hides_no_other():
    client = Client(["one", "gone"], [_answer("one")])
    found = galaxy_fleet_ask.ask(client, "*", "glob", 0.05)
    assert found["silent"] == ["gone"]
    assert [row["state"] for row in found["rows"]] == ["silent", "ready"]
    assert max(client.waits) <= 0.05


def test_what_is_no_answer_is_left_out():
    bad = [{"tag": "x", "data": data} for data in (None, [], {}, {"id": "one"}, {"id": ["one"], "return": {}})]
    events = [*bad, _answer("stranger"), _answer("one", {}), _answer("one")]
    found = galaxy_fleet_ask.ask(Client(["one"], events), "*", "glob", 30)
    # Salt also takes the first answer
    assert [(row["minion"], row["state"]) for row in found["rows"]] == [("one", "unknown")]


def test_a_target_that_matches_no_minion(capsys):
    with pytest.raises(SaltInvocationError, match="No minions matched the target"):
        galaxy_fleet_ask.ask(Client([], []), "nosuch", "glob", 1)
    # nothing may be printed: it would be among the JSON
    assert capsys.readouterr().out == ""


def test_ctrl_c_ends_the_waiting():
    with pytest.raises(KeyboardInterrupt):
        galaxy_fleet_ask.ask(Client(["one"], [{"tag": "salt/event/exit", "data": {}}]), "*", "glob", 30)
