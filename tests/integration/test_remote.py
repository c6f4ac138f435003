"""docs/remote.md over real HTTPS: its configuration, the account of a dashboard, and all that it may not do."""
# ruff: noqa: F401, F811 - fixtures are imported, and given by their names

import concurrent.futures
import json
import pathlib
import re
import secrets
import time
import uuid

import pytest
import salt.auth
import salt.utils.event
from support import migration
from support.remote import KEY, UUID, credentials, requests
from support.remote_fleet import (
    OTHER,
    OWN,
    PASSPHRASE,
    api,
    bus,
    documented,
    front,
    galaxy,
    master,
    minions,
    token,
    volume,
)

from galaxy_host_wait import Deadline, wait_until
from galaxy_manager_supervisor_config import SupervisorConfig
from galaxy_manager_supervisor_rpc import Client as SupervisorClient

SENT = "a passphrase that must not be sent"
STATUS = {"fun": "galaxy.status", "minion": OWN}


def test_the_documented_requests_do_what_they_say(api, front, galaxy, volume):
    site, _ = galaxy
    account = json.dumps(credentials())
    answers, token = [], ""
    for path, headers, body in requests():
        headers = {name: value.replace("$token", token) for name, value in headers.items()}
        body = body.replace("@account.json", account).replace(UUID, volume)
        status, _, answer = front("POST", path, body, **headers)
        assert status == 200, (path, body, answer)
        answers.append(answer["return"] if path == "/logout" else answer["return"][0])
        token = token or answers[0]["token"]
    login, before, startup, device, opened, logout = answers
    assert login["expire"] - login["start"] == pytest.approx(3600, abs=1)
    assert before["success"] is True
    assert before["return"]["config"] == str(site.config)
    assert startup["success"] is True
    assert startup["return"]["ready"] is True
    assert site.get() == b"Galaxy\n"
    assert device["success"] is True
    assert (device["return"]["uuid"], device["return"]["open"]) == (volume, False)
    # the real cryptsetup got the right key, but has no device-mapper here; tests/uml opens a volume
    assert opened["success"] is False
    assert "cryptsetup open" in opened["return"]
    assert logout == "Your token has been cleared"
    assert api.run(token, **STATUS)[0] == 401


def test_what_the_old_services_did(api, token, galaxy, volume):
    """The request bodies of docs/migration.md."""
    rows = migration.rows("The HTTP services")
    answers = {}
    for _, now in rows:
        chunk = json.loads(now.replace(UUID, volume))
        status, _, answer = api("POST", "/", [chunk], token)
        assert status == 200, answer
        answers[chunk["fun"]] = answer["return"][0]
    assert len(answers) == len(rows)
    assert answers["galaxy.startup"]["return"]["ready"] is True
    assert answers["galaxy.status"]["return"]["ready"] is True
    assert answers["luks.status"]["return"]["uuid"] == volume
    assert "cryptsetup open" in answers["luks.open"]["return"]


def test_a_call_takes_as_long_as_galaxy_takes_to_start(api, token, galaxy, bus):
    site, supervisord = galaxy
    SupervisorClient(SupervisorConfig(str(supervisord.conf_file)).endpoint()).call("stopProcessGroup", "galaxy")
    (site.gates / "load-is-slow").touch()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(api.run, token, fun="galaxy.startup", minion=OWN)
        # the master has waited for its `timeout`, and now asks whether the minion still works on the job
        deadline = Deadline(60)
        while not any(event.data.get("fun") == "saltutil.find_job" for event in bus(asked=True)):
            assert not deadline.passed
        for _ in range(3):
            _, again = api.run(token, fun="galaxy.startup", minion=OWN)
            said = f"Galaxy on {OWN} is being started already, by another call"
            assert again["return"] == [{"success": False, "return": said, "retcode": 1}]
        _, answer = api.run(token, **STATUS)
        # Galaxy loads, and its stats server does not answer yet
        assert (answer["return"][0]["return"]["running"], answer["return"][0]["return"]["ready"]) == (True, None)
        assert not call.done()
        site.open("load")
        status, answer = call.result()
    (site.gates / "load-is-slow").unlink()
    assert status == 200
    assert answer["return"][0]["return"]["ready"] is True
    assert [event.data["fun"] for event in bus() if event.tag.endswith("/new")].count("galaxy.startup") == 1


def test_a_galaxy_that_is_being_started_by_hand_is_not_started_again(api, token, galaxy, master):
    site, supervisord = galaxy
    SupervisorClient(SupervisorConfig(str(supervisord.conf_file)).endpoint()).call("stopProcessGroup", "galaxy")
    (site.gates / "load").unlink(missing_ok=True)
    (site.gates / "load-is-slow").touch()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        by_hand = pool.submit(master.salt_cli().run, "galaxy.startup", minion_tgt=OWN, _timeout=120)
        deadline, asks = Deadline(60), ("saltutil.is_running", "galaxy.startup")
        while not master.salt_cli().run(*asks, minion_tgt=OWN, _timeout=60).data:
            assert not deadline.passed
        _, answer = api.run(token, fun="galaxy.startup", minion=OWN)
        assert answer["return"][0]["success"] is False
        said = rf"Galaxy on {re.escape(OWN)} is being started already, by galaxy\.startup, job \d+"
        assert re.fullmatch(said, answer["return"][0]["return"])
        site.open("load")
        assert by_hand.result().data["ready"] is True
    (site.gates / "load-is-slow").unlink()


def _refused(api, token, bus, calls):
    """None of the calls is carried out; not one appears on the master's bus."""
    for call in calls:
        status, answer = api.run(token, **call)
        assert status in (400, 401, 500), (call, answer)
    assert bus() == []


def test_nginx_lets_nothing_through_that_costs_the_master(front, bus, tmp_path):
    bomb = "\n".join(
        ["username: &a0 [x,x,x,x,x,x,x,x,x,x]"]
        + [f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 8)]
    )
    for path in ("/login", "/", "/logout", "/run"):
        for kind in ("application/x-yaml", "text/yaml", "text/plain", "application/x-www-form-urlencoded"):
            assert front("POST", path, bomb, **{"Content-Type": kind})[0] == 415
        assert front("POST", path, "x" * 16385, **{"Content-Type": "application/json"})[0] in (404, 413)
    # nginx writes a line after it has answered
    log = tmp_path / "access.log"
    assert wait_until(lambda: log.read_text().count("\n") == 20, Deadline(180))
    lines = log.read_text().splitlines()
    # salt-api was asked for none of them
    assert [line for line in lines if "[-]" not in line] == []
    assert bus() == []


def test_what_is_no_single_call_is_refused_by_salt_as_empty(front, token, bus):
    timeouts = [{"client": "runner", **STATUS, "timeout": seconds} for seconds in (-1, "nan", "inf", 10**9)]
    arguments = [{"client": "runner", **STATUS, "arg": ["[&a0 [x,x,x],*a0]"]}]
    for body in (*timeouts, *arguments, [{"client": "runner", **STATUS}], []):
        assert front("POST", "/", body, token)[0] == 400, body
    assert front("POST", "/login", {**credentials(), "username": "x\nforged"})[0] == 401
    assert bus() == []
    assert front("POST", "/", {"client": "runner", **STATUS}, token)[0] == 200


def test_salt_alone_takes_a_callers_timeout_and_carries_the_call_out(api, token, bus):
    assert api.run(token, **STATUS, timeout=-1)[0] == 504
    deadline = Deadline(60)
    while not any(event.tag.endswith(f"/ret/{OWN}") for event in bus()):
        assert not deadline.passed


def test_a_server_is_a_name_that_the_minion_declares(api, token, bus):
    for server in ("../main", "a b", "", ["main"], {"config": "/etc/shadow"}, "main\n"):
        _, answer = api.run(token, **STATUS, server=server)
        assert answer["return"][0]["success"] is False
        assert "`server` must be a name" in answer["return"][0]["return"]
    assert [event for event in bus() if event.tag.startswith("salt/job")] == []
    _, answer = api.run(token, **STATUS, server="undeclared")
    assert answer["return"][0]["success"] is False
    (job,) = [event.data for event in bus() if event.tag.endswith("/publish")]
    assert (job["fun"], job["tgt"]) == ("galaxy.status", [OWN])
    assert [one["server"] for one in job["arg"]] == ["undeclared"]


def test_what_a_refusal_logs(api, token, master):
    """The log has the user's name and no argument. Only a session's token that is sent as Salt's own appears."""
    log = pathlib.Path(master.config["root_dir"]) / "logs/api.log"
    before = len(log.read_text())
    assert api.run(token, fun="salt.cmd", minion=SENT)[0] == 401
    said = log.read_text()[before:]
    assert 'Authentication failure of type "token" occurred for user dashboard.' in said
    assert SENT not in said


def test_another_function_is_refused(api, token, bus):
    names = (
        "cmd.run",
        "galaxy.stop",
        "galaxy.statuses",
        "galaxy.startup_",
        "luks.close",
        "luks.encrypt",
        "pillar.items",
    )
    # runners that Salt itself has
    names += ("salt.cmd", "salt.execute", "pillar.show_pillar", "jobs.list_jobs", "jobs.lookup_jid", "auth.mk_token")
    names += (
        "saltutil.sync_all",
        "event.send",
        "sdb.get",
        "http.query",
        "manage.up",
        "doc.runner",
        "state.orchestrate",
    )
    calls = [{"fun": name, "minion": OWN} for name in names]
    calls += [{"fun": "salt.cmd", "arg": ["cmd.run", "id"]}, {"fun": "salt.execute", "arg": [OWN, "galaxy.status"]}]
    calls += [
        {"fun": ["galaxy.status", other], "arg": [[], ["id"]], "minion": OWN} for other in ("cmd.run", "salt.cmd")
    ]
    calls += [{"fun": fun, "minion": OWN} for fun in (["galaxy.status"], {}, None, "", "galaxy", "galaxy.status\n")]
    _refused(api, token, bus, calls)


def test_another_minion_is_refused(api, token, bus):
    targets = (OTHER, "*", "galaxy*", f"{OWN},{OTHER}", f"{OWN}\n", f" {OWN}", f"{OWN}|{OTHER}", "", None, True, {})
    targets += ([OWN], [OWN, OTHER], {OWN: OTHER}, "G@id:*", f"L@{OWN},{OTHER}", f"{OWN} or {OTHER}", "N@all", ".*")
    calls = [{"fun": "galaxy.status", "minion": target} for target in targets]
    calls += [
        {"fun": "galaxy.startup", "minion": OTHER},
        {"fun": "galaxy.status"},
        {"fun": "galaxy.status", "tgt": OWN},
    ]
    calls += [{"fun": "galaxy.status", "kwarg": {"minion": OTHER}, "minion": ""}]
    # one keyword in several places: the value that is checked must be the value that counts
    calls += [{"fun": "galaxy.status", "kwarg": {"minion": OWN}, "minion": OTHER}]
    calls += [{"fun": "galaxy.status", "kwarg": {"minion": OTHER}, "arg": [f"minion={OWN}"]}]
    calls += [{"fun": "galaxy.status", "kwarg": {"minion": OTHER}, "arg": [{"__kwarg__": True, "minion": OWN}]}]
    calls += [{"fun": "galaxy.status", "arg": [OWN]}, {"fun": "galaxy.status", "arg": [OTHER]}]
    _refused(api, token, bus, calls)


@pytest.mark.parametrize(
    "more",
    [
        {"config": "/etc/shadow", "service": "sshd", "conf_file": "/tmp/x", "manager": "systemd"},
        {"kwarg": {"config": "/etc/shadow", "fun": "cmd.run"}},
        {"arg": ["config=/etc/shadow"]},
        {"arg": [{"__kwarg__": True, "config": "/etc/shadow", "minion": OTHER}]},
        {"tgt": "*", "tgt_type": "glob", "ret": "rawfile_json", "ret_kwargs": {"filename": "/tmp/x"}},
        {"user": "root", "key": "x", "__user__": "root", "__jid__": "1", "module_executors": ["docker"]},
    ],
)
def test_what_else_is_sent_never_leaves_the_api(api, token, bus, galaxy, more):
    site, _ = galaxy
    status, answer = api.run(token, **STATUS, **more)
    assert status == 200
    assert answer["return"][0]["return"]["config"] == str(site.config)
    events = bus()
    assert {event.data["user"] for event in events if event.tag.startswith("salt/run")} == {"dashboard"}
    (job,) = [event.data for event in events if event.tag.endswith("/publish")]
    given = {name: job[name] for name in ("fun", "arg", "tgt", "tgt_type", "ret", "user")}
    assert given == {**{"fun": "galaxy.status", "arg": [], "tgt": [OWN], "tgt_type": "list", "ret": "", "user": "root"}}
    assert "module_executors" not in job


def test_an_argument_by_position_beside_the_right_keywords_is_not_carried_out(api, token, bus):
    status, answer = api.run(token, **STATUS, arg=["/etc/shadow"])
    assert status == 200
    assert "Passed invalid arguments" in answer["return"][0]
    assert [event.tag for event in bus() if event.tag.startswith("salt/job")] == []


def test_another_volume_or_key_is_refused(api, token, bus, volume):
    right = {"minion": OWN, "device": f"UUID={volume}", "mapper": "galaxy", "key": KEY, "mount_point": "/export"}
    wrong = [{"minion": OTHER}, {"device": "/dev/vda"}, {"device": f"UUID={uuid.uuid4()}"}, {"mapper": "root"}]
    wrong += [
        {"device": f"UUID={volume}\n"},
        {"mapper": "galaxy2"},
        {"mount_point": "/export/x"},
        {"key": "/etc/ssl/private/x.key"},
        {"key": None},
    ]
    wrong += [{"key": "sdb://vault/other"}, {"key": "pillar://galaxy:other"}, {"key": f"{KEY}s"}, {"key": [KEY]}]
    calls = [{"fun": "luks.open", "kwarg": {**right, **other}} for other in wrong]
    calls += [{"fun": "luks.status", "kwarg": {**right, **other}} for other in wrong[:3]]
    calls += [{"fun": "luks.open", "kwarg": {k: v for k, v in right.items() if k != missing}} for missing in right]
    calls += [{"fun": "luks.open", "arg": list(right.values())}, {"fun": "luks.status", "minion": OWN}]
    _refused(api, token, bus, calls)


def test_a_passphrase_is_nowhere_after_its_call(api, token, bus, volume, master, minions):
    right = {"minion": OWN, "device": f"UUID={volume}", "mapper": "galaxy", "mount_point": "/export"}
    calls = [{"kwarg": {**right, **place}} for place in ({"key": SENT}, {"passphrase": SENT}, {"": SENT})]
    calls += [{"kwarg": right, "arg": [SENT]}, {"kwarg": right, "arg": [f"passphrase={SENT}"]}, {**right, "key": SENT}]
    calls += [{"arg": [*right.values(), SENT]}, {"kwarg": {**right, "key": KEY, "device": SENT}}]
    _refused(api, token, bus, [{"fun": "luks.open", **call} for call in calls])
    _refused(api, token, bus, [{"fun": fun, "minion": OWN, "passphrase": SENT} for fun in ("salt.cmd", "luks.encrypt")])
    clients = ({"client": "local", "tgt": OWN}, {"client": "runner_async", "minion": OWN})
    for client in clients:
        _refused(api, token, bus, [{**client, "fun": "luks.open", "kwarg": {"passphrase": SENT}}])
    # beside the right arguments it is dropped, and the call is carried out
    status, answer = api.run(token, fun="luks.open", kwarg={**right, "key": KEY, "passphrase": SENT})
    assert status == 200
    assert "cryptsetup open" in answer["return"][0]["return"]
    events = json.dumps([event.data for event in bus()], default=str)
    assert f"UUID={volume}" in events
    assert SENT not in events
    assert PASSPHRASE not in events
    roots = [pathlib.Path(daemon.config["root_dir"]) for daemon in (master, *minions)]
    files = [path for root in roots for path in root.rglob("*") if path.is_file()]
    assert {"master.log", "api.log", "return.p", ".load.p"} <= {path.name for path in files}
    assert [path for path in files if SENT.encode() in path.read_bytes()] == []
    jobs = [path for path in files if "jobs" in path.parts]
    assert [path for path in jobs if PASSPHRASE.encode() in path.read_bytes()] == []


def test_another_client_is_refused(api, token, bus):
    others = ("local", "local_async", "local_batch", "local_subset", "runner_async", "wheel", "wheel_async", "ssh")
    calls = [{"client": client, "tgt": OWN, "fun": "galaxy.status"} for client in (*others, "destroy", "run", "", None)]
    calls += [{"client": "local", "tgt": OWN, "fun": ["galaxy.status", "cmd.run"], "arg": [[], ["id"]]}]
    calls += [{"client": "local", "tgt": OTHER, "fun": ["saltutil.find_job", "cmd.run"], "arg": [["1"], ["id"]]}]
    calls += [{"client": "wheel", "fun": "key.list_all"}]
    _refused(api, token, bus, calls)


def test_an_allowed_call_takes_no_other_along(api, token, bus):
    others = [{"client": "local", "tgt": OWN, "fun": "cmd.run", "arg": ["id"]}]
    others += [{"client": "runner", "fun": "galaxy.status", "minion": OTHER}]
    others += [{"client": "runner", "fun": "salt.cmd", "arg": ["cmd.run", "id"]}]
    for other in others:
        assert api.run(token, other, **STATUS)[0] in (400, 401), other
    events = bus()
    assert {event.data["fun"] for event in events} == {"galaxy.status", "runner.galaxy.status"}
    assert OTHER not in json.dumps([event.data for event in events], default=str)


def test_other_paths_tell_and_do_nothing(api, token, bus):
    gets = (
        "/events",
        "/ws",
        f"/ws/{token}",
        "/hook",
        "/app",
        "/jobs",
        "/jobs/20260101000000000000",
        "/minions",
        "/keys",
    )
    for path in (*gets, f"/minions/{OWN}", f"/keys/{OWN}"):
        assert api("GET", path, token=token)[0] in (400, 401, 404), path
    low = {"client": "local", "tgt": OWN, "fun": "galaxy.status", "mid": OWN}
    for path in ("/events", "/events/x", "/hook", "/hook/x", "/minions", "/keys", "/jobs", "/stats", "/ws", "/app"):
        assert api("POST", path, low, token)[0] in (400, 401, 404, 405, 500), path
    # such a token would be Salt's own, and would outlive the session
    assert api("POST", "/token", credentials())[0] == 401
    _, _, counters = api("GET", "/stats", token=token)
    assert OWN not in json.dumps(counters)
    assert token not in json.dumps(counters)
    assert bus() == []


def test_run_takes_the_same_account_and_allows_no_more(api, token, bus):
    def run(**chunk):
        return api("POST", "/run", [{"client": "runner", **STATUS, **chunk}])[0]

    assert run() == 401
    assert run(token=token) == 401
    assert run(**{**credentials(), "password": "wrong"}) == 401
    assert run(**credentials("stranger")) == 401
    assert run(**credentials(), **{"minion": OTHER}) == 401
    assert run(**credentials(), **{"client": "local", "tgt": OWN}) == 400
    assert bus() == []
    assert run(**credentials()) == 200


def test_no_login_no_call(api, bus):
    assert api("POST", "/login", {**credentials(), "password": "wrong"})[0] == 401
    assert api("POST", "/login", {**credentials(), "eauth": "auto"})[0] == 401
    _, headers, _ = api("OPTIONS", "/", **{"Access-Control-Request-Method": "POST", "Origin": "https://example.org"})
    preflight = re.search("session_id=([0-9a-f]+)", headers.get("Set-Cookie") or "")
    invented = [None, "", "x", secrets.token_hex(20), secrets.token_hex(32), "../../etc/passwd"]
    for sent in [*invented, *(preflight.groups() if preflight else ())]:
        assert api.run(sent, **STATUS)[0] == 401, sent
    assert bus() == []


def test_an_account_without_permissions_may_do_nothing(api, bus):
    assert api.run(api.login("stranger"), **STATUS)[0] == 401
    assert bus() == []


def test_a_token_ends_with_its_time_and_with_logout(api, bus, master):
    store = salt.auth.LoadAuth(master.config)
    before = set(store.list_tokens())
    token = api.login()
    assert api.run(token, **STATUS)[0] == 200
    (stored,) = set(store.list_tokens()) - before
    store.cache.store("tokens", stored, {**store.get_tok(stored), "expire": time.time() - 1})
    heard = len(bus())
    assert api.run(token, **STATUS)[0] == 401
    token = api.login()
    assert api("POST", "/logout", token=token)[0] == 200
    assert api.run(token, **STATUS)[0] == 401
    assert api.run(stored, **STATUS)[0] == 401
    assert len(bus()) == heard
