"""One function on one minion, whatever the minion answers."""

import json
import sys
import threading
import unicodedata

import pytest
from salt.exceptions import SaltInvocationError

import galaxy_host_turn
import galaxy_remote

UNSAFE = ("Cc", "Cf", "Cs", "Zl", "Zp")
SILENT = {"success": False, "return": "one does not answer; does it run, and is its key accepted?"}


class Minions:
    """Stands for ``LocalClient``: for each function, what the one minion returns."""

    def __init__(self, **returned):
        self.returned, self.asked = returned, []

    def cmd(self, target, function, kwarg, **keywords):
        self.asked.append((target, function, kwarg))
        assert keywords == {"tgt_type": "list", "full_return": True, "expect_minions": False}
        name = function.replace(".", "_")
        return {"one": {"ret": self.returned[name], "retcode": 0}} if name in self.returned else {}


@pytest.mark.parametrize(
    "answer",
    [
        "text",
        ["list"],
        1,
        True,
        None,
        {},
        b"bytes",
        {"out": "no_return", "ret": "Minion did not return"},
    ],
)
def test_what_is_no_answer(answer):
    assert galaxy_remote.answer_of({"one": answer}, "one") is None


@pytest.mark.parametrize("retcode", [None, False, 0.0, "0", [], 1, -1])
def test_only_the_number_0_is_success(retcode):
    class Client:
        def cmd(self, *given, **keywords):
            return {"one": {"ret": "said", "retcode": retcode}}

    assert galaxy_remote.call(Client(), "one", "galaxy.status") == {"success": False, "return": "said"}


@pytest.mark.parametrize(
    "minion", ["*", "a,b", "one or two", "one\n", "G@id:*", "\uff4fne", "x" * 254, " one", "a/b", b"one"]
)
def test_a_pattern_is_no_minion(minion, tmp_path):
    client = Minions()
    with pytest.raises(SaltInvocationError, match="`minion` must be an ID of letters, digits"):
        galaxy_remote.call(client, minion, "galaxy.status")
    with pytest.raises(SaltInvocationError, match="`minion`"):
        galaxy_remote.call_once(client, str(tmp_path), minion, "galaxy.startup")
    assert client.asked == []


@pytest.mark.parametrize("server", ["", "../main", "a b", "main\n", "a:b", 2, ["main"], None, "x" * 10**6])
def test_what_is_no_name_of_a_server(server):
    with pytest.raises(SaltInvocationError, match="`server` must be a name of letters") as caught:
        galaxy_remote.server_name(server)
    assert len(str(caught.value)) < 400


def _job(fun, *arg, jid="20260101000000000000"):
    return {"fun": fun, "jid": jid, "arg": list(arg), "pid": 1}


@pytest.mark.parametrize(
    ("job", "server"),
    [
        (_job("galaxy.startup"), None),
        (_job("galaxy.start", {"__kwarg__": True, "timeout": 3}), None),
        (_job("galaxy.restart"), None),
        (_job("galaxy.startup", {"__kwarg__": True, "server": "main"}), "main"),
        (_job("state.apply", "galaxy.boot", {"__kwarg__": True, "queue": True}), None),
        (_job("state.sls", {"__kwarg__": True, "mods": "other,galaxy.boot"}), "main"),
    ],
)
def test_a_galaxy_that_is_being_started_is_not_started_again(tmp_path, job, server):
    client = Minions(saltutil_running=[_job("test.ping"), job], galaxy_startup={"ready": True})
    keywords = {"server": server} if server else {}
    answer = galaxy_remote.call_once(client, str(tmp_path), "one", "galaxy.startup", **keywords)
    assert answer == {
        "success": False,
        "return": f"{server or 'Galaxy'} on one is being started already, by {job['fun']}, job {job['jid']}",
    }
    assert [function for _, function, _ in client.asked] == ["saltutil.running"]


@pytest.mark.parametrize(
    ("jobs", "server"),
    [
        ([], None),
        ([_job("galaxy.status"), _job("state.apply", "apache")], None),
        ([_job("galaxy.startup", {"__kwarg__": True, "server": "main"})], "other"),
        ([_job("galaxy.startup", {"__kwarg__": True, "server": "main"})], None),
        # a minion may also say nonsense about its jobs
        ("galaxy.startup", None),
        ({"galaxy.startup": 1}, None),
        ([["galaxy.startup"], None, 3, {"fun": ["galaxy.startup"], "arg": []}, {"fun": "galaxy.startup"}], None),
        ([{"fun": "state.apply", "arg": [{"mods": {"galaxy.boot": 1}}, [["galaxy.boot"]]]}], None),
    ],
)
def test_another_job_does_not_keep_it_from_being_started(tmp_path, jobs, server):
    client = Minions(saltutil_running=jobs, galaxy_startup={"ready": True})
    keywords = {"server": server} if server else {}
    answer = galaxy_remote.call_once(client, str(tmp_path), "one", "galaxy.startup", **keywords)
    assert answer == {"success": True, "return": {"ready": True}}
    assert client.asked[-1] == (["one"], "galaxy.startup", keywords)


def test_a_minion_that_does_not_answer_is_not_asked_to_start(tmp_path):
    client = Minions()
    assert galaxy_remote.call_once(client, str(tmp_path), "one", "galaxy.startup") == SILENT
    assert [function for _, function, _ in client.asked] == ["saltutil.running"]


def test_of_many_calls_at_once_one_reaches_the_minion(tmp_path):
    entered, leave, answers = threading.Event(), threading.Event(), []

    class Slow(Minions):
        def cmd(self, target, function, kwarg, **keywords):
            if function == "galaxy.startup":
                entered.set()
                assert leave.wait(30)
            return super().cmd(target, function, kwarg, **keywords)

    client = Slow(saltutil_running=[], galaxy_startup={"ready": True})

    def start(server=None):
        keywords = {"server": server} if server else {}
        answers.append(galaxy_remote.call_once(client, str(tmp_path), "one", "galaxy.startup", **keywords))

    first = threading.Thread(target=start)
    first.start()
    assert entered.wait(30)
    for _ in range(40):
        start()
    assert {answer["return"] for answer in answers} == {"Galaxy on one is being started already, by another call"}
    asked = [function for _, function, _ in client.asked]
    assert asked == ["saltutil.running"]
    # a start of another Galaxy on the same machine has its own turn
    with galaxy_host_turn.alone(str(tmp_path), "galaxy.startup one main") as free:
        assert free
    leave.set()
    first.join()
    assert answers[-1] == {"success": True, "return": {"ready": True}}
    start()
    assert answers[-1]["success"] is True


def test_a_volume_that_is_being_opened_is_not_opened_again(tmp_path):
    volume = {"device": "/dev/vdb", "mapper": "galaxy", "key": "/k", "mount_point": None}
    busy = Minions(saltutil_running=[_job("luks.open", "/dev/vdb", "galaxy")], luks_open=True)
    answer = galaxy_remote.call_once(busy, str(tmp_path), "one", "luks.open", **volume)
    assert answer["return"].startswith("galaxy on one is being opened already, by luks.open, job")
    free = Minions(saltutil_running=[_job("luks.open", "/dev/vdc", "other")], luks_open=True)
    answer = galaxy_remote.call_once(free, str(tmp_path), "one", "luks.open", **volume)
    assert answer == {"success": True, "return": True}


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("plain\n\ttext é 🙂", "plain\n\ttext é 🙂"),
        ("\x1b[2J\x1b]0;root\x07", r"\x1b[2J\x1b]0;root\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("over\rwritten\x08\x7f\x00", r"over\x0dwritten\x08\x7f\x00"),
        ("\u202egpj.exe\u2066", r"\u202egpj.exe\u2066"),
        ("ze\u200bro\u2028line\ufeff", r"ze\u200bro\u2028line\ufeff"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        (b"\x1b[0m\xff", "\\x1b[0m\ufffd"),
    ],
)
def test_nothing_reaches_a_terminal_but_text(said, shown):
    assert galaxy_remote.plain(said) == shown
    assert galaxy_remote.plain({said: [said]}) == {shown: [shown]}


def test_no_control_or_format_character_of_unicode_is_left():
    unsafe = {char for char in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(char) in UNSAFE} - {*"\n\t"}
    assert [hex(ord(char)) for char in unsafe if galaxy_remote.plain(char) == char] == []


def test_what_a_status_holds_stays_as_it_is():
    status = {
        **{"ready": True, "pid": 3, "rss": 2**64 - 1, "avg": 0.5, "problems": [], "manager": None, "deep": {"a": [{}]}},
        "log": "two\nlines",
    }
    assert galaxy_remote.plain(status) == status


def test_no_answer_is_endless():
    nested, loop = [], []
    inner = nested
    for _ in range(100_000):
        inner.append([])
        inner = inner[0]
    loop.append(loop)
    for value in (nested, loop, {"a": loop}):
        done = json.dumps(galaxy_remote.plain(value))
        assert done.count("[") <= galaxy_remote.DEPTH + 1
    huge = galaxy_remote.plain("x" * 10**7)
    assert len(huge) == galaxy_remote.TEXT
    assert huge.endswith("x[cut]")
    assert len(galaxy_remote.plain([0] * 10**6)) <= galaxy_remote.VALUES + 1
    many = galaxy_remote.plain(dict.fromkeys(range(10**4), "x" * 10**5))
    assert len(json.dumps(many)) < 2 * galaxy_remote.CHARACTERS
    assert many[galaxy_remote.CUT] == galaxy_remote.CUT
    # each of the 16,384 characters is written as four or more
    assert len(galaxy_remote.plain("\x1b" * 10**6)) <= galaxy_remote.TEXT


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (10**30, "1" + "0" * 30),
        pytest.param(10**10000, "int", id="digits"),
        (object(), "object"),
        ({1: 2, None: 3, (1, 2): 4}, {"1": 2, "None": 3, "tuple": 4}),
        ((1, 2), [1, 2]),
    ],
)
def test_what_json_and_msgpack_do_not_have(value, shown):
    assert galaxy_remote.plain(value) == shown


def test_a_list_is_a_sentence():
    assert galaxy_remote.text(["Rendering failed", "\x1b[2J"]) == r"Rendering failed; \x1b[2J"
    assert galaxy_remote.text({"a": None}) == "{'a': None}"
    assert galaxy_remote.text(None) == "None"
    assert len(galaxy_remote.text(["x" * 10**5] * 100)) == galaxy_remote.TEXT
