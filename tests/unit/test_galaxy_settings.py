import pytest

from galaxy_errors import SettingsError
from galaxy_host_secret import MASK
from galaxy_settings import Settings


def _of(pillar, **layers):
    return Settings({"minion configuration": None, "grains": None, **layers, "pillar": pillar}, "Debian")


def test_nothing_said_is_all_defaults_and_no_server():
    settings = _of(None)
    assert settings.problems == []
    assert settings.names == []
    assert (settings.servers["galaxy"]["timeout"], settings.servers["galaxy"]["min_workers"]) == (300, 1)
    assert settings.machine["boot"]["salt_call"] == "/usr/bin/salt-call"


_PROGRAM = {"manage_service": True, "manager": "supervisord", "uwsgi": "/u"}


@pytest.mark.parametrize(
    ("pillar", "problem"),
    [
        ({"storagee": {}}, "galaxy:storagee is not a setting; did you mean storage?"),
        (
            {"storage": {"device": "/dev/vdb", "devise": 1}},
            "galaxy:storage:devise is not a setting; did you mean device?",
        ),
        ({"storage": {"device": "/dev/vdb", "luks": {"chipher": "x"}}}, "galaxy:storage:luks:chipher is not a setting"),
        ({"boot": {"enable": True}}, "galaxy:boot:enable is not a setting; did you mean enabled?"),
        ({"onedata": {"spaces": {"a": {"provider": "x"}}}}, "galaxy:onedata:spaces:a:provider is not a setting"),
        (
            {"servers": {"a": {"config": "/a", "tiemout": 1}}},
            "galaxy:servers:a:tiemout is not a setting; did you mean timeout?",
        ),
        ({"xyzzy": 1}, "galaxy:xyzzy is not a setting; known are config"),
        ({"timeout": "5m"}, "galaxy:timeout is '5m'; give a number of seconds, more than 0"),
        ({"timeout": 0}, "galaxy:timeout is 0; give a number"),
        ({"timeout": True}, "galaxy:timeout is True; give a number"),
        ({"timeout": float("nan")}, "galaxy:timeout is nan; give a number"),
        ({"min_workers": "two"}, "galaxy:min_workers is 'two'; give a whole number"),
        ({"min_workers": -1}, "galaxy:min_workers is -1; give a whole number"),
        ({"min_workers": 1.5}, "galaxy:min_workers is 1.5; give a whole number"),
        ({"force": "yes"}, "galaxy:force is 'yes'; give True or False"),
        ({"config": ["/a"]}, "galaxy:config is a list; give an absolute path"),
        ({"config": "galaxy.yml"}, "galaxy:config is 'galaxy.yml'; give an absolute path"),
        ({"stats": "9191"}, "galaxy:stats is '9191'; give an address"),
        ({"stats": 9191}, "galaxy:stats is 9191; give an address"),
        ({"manager": "runit"}, "galaxy:manager is 'runit'; give one of supervisord, systemd, upstart, sysvinit"),
        ({"storage": ["/dev/vdb"]}, "galaxy:storage is a list; give a mapping"),
        ({"storage": {"device": "/d", "mode": 493}}, "galaxy:storage:mode is 493; give octal digits in quotes"),
        ({"storage": {"device": "/d", "mode": "rwx"}}, "galaxy:storage:mode is 'rwx'; give octal digits in quotes"),
        ({"monitoring": {"interval": 0}}, "galaxy:monitoring:interval is 0; give a number of seconds, more than 0"),
        ({"boot": []}, "galaxy:boot is a list; give a mapping"),
        ({"servers": ["a"]}, "galaxy:servers is a list; give a mapping"),
        ({"servers": {"a": "/a"}}, "galaxy:servers:a is '/a'; give a mapping"),
        ({"servers": {"a b": {}}}, "galaxy:servers:a b: a name has letters"),
        ({"servers": {"*": {"config": "/a"}}}, "galaxy:servers:*: a name has letters"),
        ({"boot": {"services": "autofs"}}, "galaxy:boot:services is 'autofs'; give a list of texts"),
        ({"environment": {"A": ["b"]}}, f"galaxy:environment is {MASK}; give a mapping"),
        ({"min_workers": {}}, "galaxy:min_workers is a mapping; give a whole number"),
        ({"environment": ["A=b"]}, f"galaxy:environment is {MASK}; give a mapping"),
        (
            {"servers": {"a": {"config": "/a", "boot": {}}}},
            "boot belongs to the machine, not to one server; move it to galaxy:boot",
        ),
        ({"servers": {"a": {"config": "/a", "onedata": {}}}}, "onedata belongs to the machine"),
        ({"servers": {"a": {"timeout": 5}}}, "galaxy:servers:a names no server; give galaxy:servers:a:config"),
        (
            {"servers": {"a": {"config": "/x"}, "b": {"config": "/x"}}},
            "galaxy:servers:b:config is the same as in galaxy:servers:a",
        ),
        (
            {"servers": {"a": {"config": "/x", "instance": "a"}, "b": {"config": "/x"}}},
            "galaxy:servers:b:config is the same as in galaxy:servers:a; give each server its own "
            "config, or its own instance",
        ),
        (
            {"servers": {"a": {"config": "/x", "instance": "a"}, "b": {"config": "/x", "instance": "a"}}},
            "galaxy:servers:b:config is the same as in galaxy:servers:a",
        ),
        (
            {"servers": {"a": {"config": "/a", "service": "gx"}, "b": {"config": "/b", "service": "gx.service"}}},
            "galaxy:servers:b:service is the same as in galaxy:servers:a; give each server its own",
        ),
        (
            {
                "config": "/a",
                "service": "gx",
                "servers": {"b": {"config": "/b", "service": "gx", "manager": "systemd"}},
            },
            "galaxy:servers:b:service is the same as in galaxy",
        ),
        (
            {"servers": {name: {"config": f"/{name}", **_PROGRAM, "program_file": "/etc/x.conf"} for name in "ab"}},
            "galaxy:servers:b:program_file is the same as in galaxy:servers:a; give each server its own",
        ),
        ({"timeout": 10**400}, "galaxy:timeout is 1000"),
        ({"retries": 10**30}, "galaxy:retries is 1000"),
        ({"config": "/x", "servers": {"galaxy": {"config": "/y"}}}, "has the name of the server that galaxy: itself"),
        (
            {"timeout": 5, "servers": {"a": {"config": "/x"}}},
            "galaxy:timeout describes a server, but galaxy: names none",
        ),
        ({"manage_service": True, "config": "/c", "uwsgi": "/u"}, "galaxy:manage_service needs manager"),
        ({"manage_service": True, "manager": "systemd"}, "galaxy:manage_service needs config, uwsgi"),
        ({"manage_service": True, "manager": "sysvinit", "config": "/c", "uwsgi": "/u"}, "but manager is sysvinit"),
        ({**_PROGRAM, "config": "/c", "gravity_update": True}, "gravity_update is for a Galaxy that Gravity runs"),
        ({**_PROGRAM, "config": "/c", "service": "gx:web"}, "service is gx:web; manage_service needs a name without a"),
        ({"conf_file": "/x", "manager": "systemd"}, "conf_file is for supervisord, but manager is systemd"),
        ({"storage": {"mapper": "x"}}, "galaxy:storage names no device"),
        ({"storage": {"device": "/dev/vdb", "generate_key": True}}, "galaxy:storage:generate_key needs the path"),
        ("text", "galaxy: is 'text' in pillar; give a mapping"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(pillar, problem):
    settings = _of(pillar)
    assert problem in " | ".join(settings.problems)
    with pytest.raises(SettingsError) as caught:
        settings.require_sound()
    assert caught.value.problems == settings.problems
    # the formula then has nothing to do
    assert settings.values(settings.names)["servers"] == {}


def test_digits_in_a_text_are_the_number():
    settings = _of({"config": "/c", "min_workers": "2", "timeout": "60", "retries": "0"})
    assert settings.problems == []
    server = settings.servers["galaxy"]
    assert (server["min_workers"], server["timeout"], server["retries"]) == (2, 60, 0)


def test_two_volumes_of_one_name_or_place_are_refused():
    volume = {"device": "/dev/vdb"}
    settings = _of({"servers": {"a": {"config": "/a", "storage": volume}, "b": {"config": "/b", "storage": volume}}})
    assert settings.problems == [
        "galaxy:servers:b:storage:mapper is galaxy, which another server's volume has",
        "galaxy:servers:b:storage:mount_point is /export, which another server's volume has",
    ]


def test_volumes_that_an_ini_of_the_old_scripts_describes_are_told_apart_there():
    volume = {"cryptdev_ini": "/etc/cryptdev.ini"}
    settings = _of({"servers": {"a": {"config": "/a", "storage": volume}, "b": {"config": "/b", "storage": volume}}})
    assert settings.problems == []


def test_the_volume_of_a_machine_without_a_server_of_its_own_is_everybodys():
    shared = {"device": "/dev/vdb"}
    own = {"device": "/dev/vdc", "mapper": "own", "mount_point": "/own"}
    settings = _of({"storage": shared, "servers": {"a": {"config": "/a", "storage": own}, "b": {"config": "/b"}}})
    assert settings.problems == []
    devices = {name: [one["device"] for one in server["storages"]] for name, server in settings.servers.items()}
    assert devices == {"a": ["/dev/vdc", "/dev/vdb"], "b": ["/dev/vdb"]}
    keys = [one["key"] for one in settings.servers["a"]["storages"]]
    assert keys == ["pillar://galaxy:servers:a:storage:passphrase", "pillar://galaxy:storage:passphrase"]
    # a server in galaxy: itself does not share its storage with the named servers
    settings = _of({"config": "/c", "storage": shared, "servers": {"b": {"config": "/b"}}})
    assert settings.servers["b"]["storages"] == []


def test_managed_services_have_names_and_places_of_their_own():
    managed = {"manage_service": True, "manager": "supervisord", "uwsgi": "/u"}
    settings = _of({"config": "/c", **managed, "servers": {"test": {"config": "/t", **managed}}})
    assert settings.problems == []
    found = [(server["service"], server["program_file"]) for server in settings.servers.values()]
    assert found == [
        ("galaxy", "/etc/supervisor/conf.d/galaxy.conf"),
        ("galaxy-test", "/etc/supervisor/conf.d/galaxy-test.conf"),
    ]


def test_where_the_distribution_has_no_place_for_programs_it_must_be_given():
    settings = Settings({"pillar": {"config": "/c", **_PROGRAM}}, "an unknown one")
    assert settings.problems == [
        "galaxy:manage_service needs program_file on this distribution: where supervisord reads its programs"
    ]


def test_sources_are_named_and_the_first_wins():
    settings = _of({"config": "/pillar", "timeout": 5}, grains={"timeout": 6, "retries": 1})
    shown = settings.shown("galaxy")
    assert shown["config"] == {"value": "/pillar", "source": "pillar"}
    assert shown["timeout"] == {"value": 6, "source": "grains"}
    assert shown["retries"] == {"value": 1, "source": "grains"}
    assert shown["force"] == {"value": False, "source": "default"}


def test_the_source_is_that_of_the_servers_own_volume():
    shared = {"device": "/dev/vdb", "mapper": "shared", "mount_point": "/shared"}
    settings = _of({"storage": shared, "servers": {"a": {"config": "/a", "storage": {"device": "/dev/vdc"}}}})
    shown = settings.shown("a")
    assert shown["storage:device"] == {"value": "/dev/vdc", "source": "pillar"}
    assert shown["storage:mapper"] == {"value": "galaxy", "source": "default"}


def test_secrets_are_never_shown():
    pillar = {
        **{"config": "/c", "environment": {"DB": "hunter2"}, "storage": {"device": "/d", "passphrase": "hunter2"}},
        "onedata": {"spaces": {"x": {"access_token": "hunter2", "insecure": 3}}},
    }
    settings = _of(pillar)
    everything = (settings.shown("galaxy"), settings.shown_machine(), settings.problems, settings.values(["galaxy"]))
    assert "hunter2" not in str(everything)
    assert settings.shown("galaxy")["environment"] == {"value": {"DB": MASK}, "source": "pillar"}
    wrong = _of({"storage": {"device": "/d", "passphrase": 12345678}, "environment": "A=hunter2"})
    assert "12345678" not in str(wrong.problems)
    assert "hunter2" not in str(wrong.problems)
    # Galaxy's own processes still get the values
    assert settings.servers["galaxy"]["environment"] == {"DB": "hunter2"}


def test_defaults_are_made_anew_each_time():
    _of({"config": "/c"}).servers["galaxy"]["environment"]["A"] = "b"
    assert _of({"config": "/c"}).servers["galaxy"]["environment"] == {}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"config": "/x", "instance": "a"}, {"config": "/x", "instance": "b"}),
        ({"service": "gx", "manager": "systemd"}, {"service": "gx", "manager": "supervisord"}),
        ({"service": "gx", "conf_file": "/a.conf"}, {"service": "gx", "conf_file": "/b.conf"}),
        ({"service": "gx:web0"}, {"service": "gx:web1"}),
    ],
)
def test_what_tells_two_servers_apart(one, other):
    settings = _of({"servers": {"a": {"config": "/a", **one}, "b": {"config": "/b", **other}}})
    assert settings.problems == []
    assert settings.names == ["a", "b"]


def test_two_servers_have_two_stats_servers():
    servers = {name: {"config": f"/{name}.yml", "stats": "127.0.0.1:9191"} for name in ("main", "test")}
    assert Settings({"pillar": {"servers": servers}}).problems == [
        "galaxy:servers:test:stats is the same as in galaxy:servers:main; give each server its own"
    ]


def test_a_passphrase_alone_is_the_place_of_a_key_and_no_volume():
    settings = _of({"config": "/c", "storage": {"passphrase": "hunter2"}})
    assert (settings.problems, settings.servers["galaxy"]["storages"]) == ([], [])
