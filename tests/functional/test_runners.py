"""The runners, as a master's loader makes them."""

import inspect
import pathlib

import pytest
import salt.cache
import salt.config
import salt.loader
from salt.exceptions import SaltInvocationError
from support.site import REPO

import galaxy_host_turn
import galaxy_remote

# the runners that an account of salt-api may call, docs/remote.md
CALLS = {
    "galaxy.status": ["minion", "server"],
    "galaxy.startup": ["minion", "server"],
    # runners that it may not call
    "galaxy.boot": ["minion", "stamp", "retries", "pause"],
    "galaxy.restart": ["minion", "stamp"],
    "galaxy.fleet": ["tgt", "tgt_type", "timeout", "watch"],
    "galaxy.rolling_restart": [
        *("tgt", "batch", "max_failures", "tgt_type", "test", "resume", "drain", "undrain", "drain_timeout", "timeout"),
        "settle",
    ],
    "luks.status": ["minion", "device"],
    "luks.open": ["minion", "device", "mapper", "key", "mount_point"],
}


class Minions:
    """Stands for ``LocalClient``, and returns its answers."""

    def __init__(self, answers):
        self.answers, self.asked = answers, []

    def cmd(self, *given, **keywords):
        self.asked.append((given, keywords))
        return self.answers


@pytest.fixture
def runners(tmp_path):
    opts = salt.config.master_config(None)
    opts.update(root_dir=str(tmp_path), cachedir=str(tmp_path), extension_modules=str(tmp_path / "extmods"))
    opts.update(sock_dir=str(tmp_path / "sock"), pki_dir=str(tmp_path / "pki"))
    opts.update(runner_dirs=[str(REPO / "_runners")], utils_dirs=[str(REPO / "_utils")])
    return salt.loader.runner(opts, utils=salt.loader.utils(opts), context={})


def test_there_are_these_and_they_take_no_more(runners):
    found = {name: inspect.getfullargspec(runners[name]) for name in runners if name.startswith(("galaxy.", "luks."))}
    assert {name: spec.args for name, spec in found.items()} == CALLS
    # salt-api drops arguments that a runner does not have, unless the runner takes any argument
    assert all(spec.varkw is None and spec.varargs is None for spec in found.values())


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"one": {"ret": {"ready": True}, "retcode": 0}}, {"success": True, "return": {"ready": True}}),
        ({"one": {"ret": False, "retcode": 0}}, {"success": True, "return": False}),
        ({"one": {"ret": "ERROR: no", "retcode": 1}}, {"success": False, "return": "ERROR: no"}),
        ({"other": {"ret": True, "retcode": 0}}, None),
        ({"one": False}, None),
        ({"one": {"out": "no_return", "ret": "Minion did not return"}}, None),
        ({}, None),
        # LocalClient returns this if it could not publish
        ("", None),
    ],
)
def test_an_answer_says_whether_it_is_one(answers, expected):
    client = Minions(answers)
    silent = {"success": False, "return": "one does not answer; does it run, and is its key accepted?"}
    assert galaxy_remote.call(client, "one", "luks.status", device="/dev/vdb") == (expected or silent)
    asked = {"kwarg": {"device": "/dev/vdb"}, "tgt_type": "list", "full_return": True, "expect_minions": False}
    assert client.asked == [((["one"], "luks.status"), asked)]


@pytest.mark.parametrize(
    ("pillar", "grains", "accepted", "asked"),
    [
        ({"galaxy": {"boot": {"enabled": True}}}, {}, True, True),
        ({}, {"roles": ["db", "galaxy"]}, True, True),
        ({"galaxy": {"boot": {"enabled": False}}}, {"roles": ["db"]}, True, False),
        (None, None, True, False),
        ({"galaxy": {"boot": {"enabled": True}}}, {}, False, False),
    ],
)
def test_who_is_booted(runners, pillar, grains, accepted, asked):
    """The master's own data about this minion decides. No other minion's data is read: a thousand may start at once."""
    opts = runners.opts
    cache = salt.cache.factory(opts)
    if accepted:
        keys = pathlib.Path(opts["pki_dir"]) / "minions"
        keys.mkdir(parents=True)
        (keys / "one").touch()
    if pillar is not None:
        # the first two calls are for Salt 3008, the last one for older releases
        cache.store("grains", "one", grains)
        cache.store("pillar", "one", pillar)
        cache.store("minions/one", "data", {"grains": grains, "pillar": pillar})
    answer = runners["galaxy.boot"]("one")
    # no master runs here: this is noticed only if the minion is asked
    assert (answer["return"] is not None) is asked
    assert answer["success"] is not asked


@pytest.mark.parametrize("minion", ["", None, ["one"], {"one": 1}, 1])
def test_a_minion_is_one_name(minion):
    client = Minions({})
    with pytest.raises(SaltInvocationError, match="`minion` must be an ID"):
        galaxy_remote.call(client, minion, "galaxy.status")
    assert client.asked == []


@pytest.mark.parametrize(
    ("runner", "given", "said"),
    [
        ("galaxy.status", {"minion": "*"}, "`minion` must be an ID"),
        ("galaxy.startup", {"minion": ["one"]}, "`minion` must be an ID"),
        ("galaxy.boot", {"minion": "one or two"}, "`minion` must be an ID"),
        ("galaxy.restart", {"minion": "*"}, "`minion` must be an ID"),
        ("luks.status", {"minion": "one,two", "device": "/dev/vdb"}, "`minion` must be an ID"),
        ("luks.open", {"minion": None, "device": "/dev/vdb", "mapper": "x", "key": "/k"}, "`minion` must be an ID"),
        ("galaxy.status", {"minion": "one", "server": "../x"}, "`server` must be a name"),
        ("galaxy.startup", {"minion": "one", "server": {"a": 1}}, "`server` must be a name"),
        ("galaxy.boot", {"minion": "one", "retries": -1}, "retries is -1; give a whole number"),
        ("galaxy.boot", {"minion": "one", "pause": float("inf")}, "pause is inf; give a number of seconds"),
    ],
)
def test_bad_input_is_answered_in_words_and_is_no_success(runners, runner, given, said):
    answer = runners[runner](**given)
    assert answer["success"] is False
    assert said in answer["return"]
    # the exit code of salt-run, and the code that Salt itself looks at
    assert answer["retcode"] == runners.pack["__context__"]["retcode"] == 1


@pytest.mark.parametrize(
    ("runner", "given", "said"),
    [
        ("galaxy.fleet", {"timeout": "soon"}, "timeout is 'soon'; give a number of seconds"),
        ("galaxy.fleet", {"watch": 0}, "watch is 0; give a number of seconds"),
        ("galaxy.fleet", {"watch": 3}, "watch needs salt-run on a terminal"),
        ("galaxy.rolling_restart", {"tgt": "*", "test": "yes"}, "test is 'yes'; give True or False"),
        ("galaxy.rolling_restart", {"tgt": "*", "batch": 0}, "batch is 0; give a whole number, 1 or more"),
        ("galaxy.rolling_restart", {"tgt": "*", "drain": "x"}, "drain is 'x'; give a mapping with the key function"),
    ],
)
def test_a_question_to_many_that_is_wrong_is_3(runners, runner, given, said):
    answer = runners[runner](**given)
    assert said in answer["problem"]
    assert answer["retcode"] == runners.pack["__context__"]["retcode"] == 3


def test_two_rolling_restarts_are_not_at_work_at_a_time(runners, tmp_path):
    with galaxy_host_turn.alone(str(tmp_path / "galaxy"), "galaxy.rolling_restart") as mine:
        assert mine
        answer = runners["galaxy.rolling_restart"]("*")
    assert answer["problem"] == "Another rolling restart is under way on this master; try again when it is over"
