"""What a rolling restart decides, and the order of its steps."""

import contextlib
import threading
import time

import pytest
from salt.exceptions import CommandExecutionError, SaltClientError, SaltInvocationError
from support.answers import down, status, workers

import galaxy_fleet
import galaxy_fleet_rolling as rolling
from galaxy_fleet_rolling import Hook, Plan

NOW = 1_800_000_000
NAMES = ("a", "b", "c", "d")
WORK = {name: ["galaxy"] for name in NAMES}


def _found(silent=(), **answers):
    return galaxy_fleet.fleet({minion: galaxy_fleet.rows(minion, answer) for minion, answer in answers.items()}, silent)


class Fleet:
    """
    Stands for the minions and ``LocalClient``. For each function it has the return, or a list of returns, one after the
    other. ``log`` has the calls.
    """

    def __init__(self, **returned):
        self.returned = {"galaxy.restart": {}, "galaxy.status": status(), **returned}
        self.log, self.at_a_time, self._under_way, self._lock = [], 0, 0, threading.Lock()

    @contextlib.contextmanager
    def __call__(self):
        with self._lock:
            self._under_way += 1
            self.at_a_time = max(self.at_a_time, self._under_way)
        yield self
        with self._lock:
            self._under_way -= 1

    def cmd(self, target, function, arg=(), kwarg=None, **keywords):
        assert keywords.pop("full_return") is True
        minion = target[0] if isinstance(target, list) else target
        self.log.append((minion, function, *arg, *(f"{key}={value}" for key, value in (kwarg or {}).items())))
        returned = self.returned.get((minion, function), self.returned.get(function))
        if isinstance(returned, list):
            returned = returned.pop(0)
        if returned is None:
            return {}
        failed = isinstance(returned, str)
        return {minion: {"ret": returned, "retcode": 1 if failed else 0}}


def _roll(fleet, work, **plan):
    told = []
    done = rolling.roll(work, Plan(NOW, **{"settle": 0, **plan}), fleet, lambda *step: told.append(step[:2]))
    return done, told


def test_those_that_do_not_serve_come_first_and_are_counted():
    found = _found(a={"main": status(), "test": status()}, b=status(), c=down())
    work, done = rolling.look(found, Plan(NOW, max_failures=1), NOW)
    assert list(work.items()) == [("c", ["galaxy"]), ("a", ["main", "test"]), ("b", ["galaxy"])]
    assert done == []
    with pytest.raises(
        CommandExecutionError, match=r"1 of 3 machines does not serve.*c is down \(connection refused\)"
    ):
        rolling.look(found, Plan(NOW), NOW)
    with pytest.raises(CommandExecutionError, match=r"1 of 2 .* gone is silent \(no answer in time\)"):
        rolling.look(_found(a=status(), silent=["gone"]), Plan(NOW), NOW)


def test_some_shall_serve_meanwhile():
    found = _found(a=status(), b=status(), c=status())
    assert rolling.look(found, Plan(NOW, batch=2), NOW)
    with pytest.raises(CommandExecutionError, match="a batch of 3 would leave none"):
        rolling.look(found, Plan(NOW, batch=3), NOW)
    # a single machine may be restarted, because there is no other way
    assert rolling.look(_found(a=status()), Plan(NOW), NOW) == ({"a": ["galaxy"]}, [])


@pytest.mark.parametrize(
    ("uptime", "is_done"), [(0, True), (58, True), (59, False), (60, False), (7200, False), (None, False)]
)
def test_what_was_started_since_the_job_began_is_done(uptime, is_done):
    found = _found(a={"main": status(uptime=uptime), "old": status(uptime=9999)}, b=status(uptime=uptime))
    work, done = rolling.look(found, Plan(NOW), NOW + 60)
    assert (done, "b" in work) == ((["b"], False) if is_done else ([], True))
    assert work["a"] == (["old"] if is_done else ["main", "old"])


def test_machine_after_machine_and_server_after_server():
    fleet = Fleet(**{"galaxy.status": status()})
    done, told = _roll(fleet, {"a": ["main", "test"], "b": [None]})
    assert done == {"restarted": ["a", "b"], "failed": {}, "untouched": []}
    assert fleet.log == [
        ("a", "galaxy.restart", "server=main"),
        ("a", "galaxy.restart", "server=test"),
        *[("a", "galaxy.status", "server=main"), ("a", "galaxy.status", "server=test")] * 2,
        ("b", "galaxy.restart"),
        ("b", "galaxy.status"),
    ]
    assert told == [("a", "restarting"), ("a", "restarted"), ("b", "restarting"), ("b", "restarted")]


def test_a_batch_at_a_time():
    together = threading.Barrier(2)

    class Slow(Fleet):
        def cmd(self, target, function, *arg, **keywords):
            if function == "galaxy.restart":
                together.wait(30)
            return super().cmd(target, function, *arg, **keywords)

    fleet = Slow()
    done, _ = _roll(fleet, WORK, batch=2)
    assert done["restarted"] == list(NAMES)
    assert fleet.at_a_time == 2
    assert {minion for minion, *_ in fleet.log[:4]} == {"a", "b"}


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        ({("b", "galaxy.restart"): "ERROR: it did not \x1b come up"}, r"ERROR: it did not \x1b come up"),
        ({("b", "galaxy.restart"): None}, "b does not answer; does it run, and is its key accepted?"),
        ({("b", "galaxy.status"): down()}, "b is down (connection refused)"),
    ],
)
def test_a_failure_ends_it(returned, reason):
    fleet = Fleet(**{"galaxy.status": status()})
    fleet.returned.update(returned)
    done, told = _roll(fleet, WORK)
    assert done == {"restarted": ["a"], "failed": {"b": reason}, "untouched": ["c", "d"]}
    assert told[-1] == ("b", "failed")
    assert {minion for minion, *_ in fleet.log} == {"a", "b"}


@pytest.mark.parametrize("lost", ["galaxy.restart", "galaxy.status"])
def test_a_master_that_cannot_be_asked_any_more_ends_it(lost):
    class Lost(Fleet):
        def cmd(self, target, function, *given, **keywords):
            if function == lost:
                raise SaltClientError("no connection to the master")
            return super().cmd(target, function, *given, **keywords)

    done, _ = _roll(Lost(), {"a": ["galaxy"]})
    assert done["failed"] == {"a": "no connection to the master"}


def test_one_that_does_not_go_on_serving_ends_it():
    fleet = Fleet()
    fleet.returned["a", "galaxy.status"] = [status(), down()]
    done, told = _roll(fleet, WORK)
    reason = "It was restarted, and did not go on serving: a is down (connection refused)"
    assert done == {"restarted": [], "failed": {"a": reason}, "untouched": ["b", "c", "d"]}
    assert told == [("a", "restarting"), ("a", "restarted"), ("a", "failed")]


def test_so_many_may_fail():
    fleet = Fleet()
    fleet.returned.update({("a", "galaxy.restart"): "no", ("c", "galaxy.restart"): "no"})
    done, _ = _roll(fleet, WORK, max_failures=1)
    assert (done["restarted"], list(done["failed"]), done["untouched"]) == (["b"], ["a", "c"], ["d"])


DRAIN = Hook("lb.drain", ("{minion}",), {"why": ["{minion}"]}, "lb")
UNDRAIN = Hook("lb.undrain", ("{minion}",), {}, "lb")


def test_hooks_surround_a_machine():
    busy = status(workers=workers(idle=1, busy=1))
    fleet = Fleet(**{"galaxy.status": [busy, status(), status()], "lb.drain": True, "lb.undrain": True})
    done, _ = _roll(fleet, {"a": ["galaxy"]}, drain=DRAIN, undrain=UNDRAIN)
    assert done["restarted"] == ["a"]
    assert [(minion, function) for minion, function, *_ in fleet.log] == [
        ("lb", "lb.drain"),
        # requests under way end before the restart
        *[("a", "galaxy.status")] * 2,
        ("a", "galaxy.restart"),
        ("a", "galaxy.status"),
        ("lb", "lb.undrain"),
    ]
    assert fleet.log[0][2:] == ("a", "why=['a']")


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        ({"lb.drain": False}, "lb.drain on lb: False"),
        ({"lb.drain": "no such backend"}, "lb.drain on lb: no such backend"),
        ({"lb.drain": None}, "lb.drain: no minion matches 'lb'"),
        (
            {"lb.drain": True, "galaxy.status": status(workers=workers(busy=2))},
            "a is drained, but has requests after 0 s: 2 workers are busy",
        ),
    ],
)
def test_a_machine_that_is_not_drained_is_not_restarted_and_gets_requests_again(returned, reason):
    fleet = Fleet(**{"lb.undrain": True, **returned})
    done, _ = _roll(fleet, WORK, drain=DRAIN, undrain=UNDRAIN, drain_timeout=0)
    assert done["failed"] == {"a": reason}
    assert "galaxy.restart" not in [function for _, function, *_ in fleet.log]
    assert fleet.log[-1][:2] == ("lb", "lb.undrain")


def test_a_machine_that_failed_gets_no_requests():
    fleet = Fleet(**{"lb.drain": True, "lb.undrain": True, "galaxy.restart": "ERROR"})
    _roll(fleet, {"a": ["galaxy"]}, drain=DRAIN, undrain=UNDRAIN)
    assert "lb.undrain" not in [function for _, function, *_ in fleet.log]


def test_a_hook_runs_on_the_machine_itself_where_nothing_else_is_said():
    fleet = Fleet(**{"service.stop": True})
    hook = rolling.hook("drain", {"function": "service.stop", "arg": ["haproxy"]})
    assert hook.call(fleet, "a") == ""
    assert fleet.log == [("a", "service.stop", "haproxy")]


def test_a_hook_gets_the_machines_name_in_texts_and_numbers_as_they_are():
    fleet = Fleet(**{"lb.drain": True})
    hook = rolling.hook("drain", {"function": "lb.drain", "arg": [80, ["{minion}"]], "kwarg": {"port": 443}})
    assert hook.call(fleet, "a") == ""
    assert fleet.log == [("a", "lb.drain", 80, ["a"], "port=443")]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("lb.drain", "drain is 'lb.drain'; give a mapping with the key function"),
        ({}, "give a mapping with the key function"),
        ({"function": "drain"}, "such as module.function"),
        ({"function": "a.b", "args": []}, "drain has no key 'args'; known: function, arg, kwarg, tgt, tgt_type"),
        ({"function": "a.b", "arg": "x"}, "drain:arg is 'x'"),
        ({"function": "a.b", "tgt": ["lb"]}, "drain:tgt is"),
    ],
)
def test_what_is_no_hook(given, said):
    with pytest.raises(SaltInvocationError, match=said):
        rolling.hook("drain", given)
    assert rolling.hook("drain", None) is None


def test_the_number_of_an_earlier_job_or_of_a_new_one():
    assert rolling.job("resume", 1_795_815_027) == rolling.job("resume", "1795815027") == 1_795_815_027
    before = int(time.time())
    new = rolling.job("resume", None)
    assert before <= new <= time.time()
    assert rolling.job("resume", new) == new


@pytest.mark.parametrize("given", [0, 5, "5", -1, True, 1.5, "x", "", [1], 10**9 - 1, 10**10 - 1, 10**12, "1" * 400])
def test_what_is_no_number_of_a_job(given):
    """With a smaller number, all servers would count as restarted; with one in the future, none."""
    with pytest.raises(SaltInvocationError, match=r"^resume is .*; give the number that an earlier call returned"):
        rolling.job("resume", given)


def test_the_clock_of_the_question_is_the_job_s():
    """A job that begins now has restarted nothing yet, whatever the machines' uptimes are."""
    now = time.time()
    work, done = rolling.look(_found(a=status(uptime=0)), Plan(int(now)), now)
    assert (list(work), done) == (["a"], [])
