"""
Our reading of Gravity's configuration equals the real Gravity's: settings, services, names, environments. And where
gunicorn listens equals the real gunicorn's reading of Gravity's command.
"""

import collections
import dataclasses
import os
import pathlib
import re

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import gravity

import galaxy_gravity_config
from galaxy_errors import ConfigError

QUIET = "celery: {enable: false, enable_beat: false}"
XML = """<?xml version="1.0"?>
<job_conf><plugins><plugin id="local" type="runner" load="x:Y"/></plugins>
<handlers assign_with="db-skip-locked"><!-- two --><handler id="x0" tags="a"><plugin id="local"/></handler>
<handler id="x1"/></handlers></job_conf>"""
SEVERAL = """gravity:
- {instance_name: a, galaxy_config_file: a.yml, gunicorn: [{bind: 'unix:a0'}, {bind: 'unix:a1'}], handlers: {h: {processes: 2}}}
- {galaxy_config_file: ROOT/config/b.yml, process_manager: systemd, celery: {enable: false}}
"""  # noqa: E501
SEVERAL_FILES = {
    "galaxy.yml": SEVERAL,
    "a.yml": "galaxy: {data_dir: da, galaxy_url_prefix: /a/}",
    "b.yml": "galaxy: {data_dir: /db, job_config: {handling: {processes: {s: null}}}}",
}


def section(text, galaxy="{}"):
    return f"gravity: {{{text}}}\ngalaxy: {galaxy}\n"


# name: the files, and other parameters of Case
TABLE = {
    "defaults": (section(""),),
    "an empty section": ("gravity:\ngalaxy:\n",),
    "no galaxy section": ("gravity: {}\n",),
    "uwsgi beside it": (section("") + "uwsgi: {socket: ':80'}\n",),
    "keys that occur twice": (
        "gravity: {gunicorn: {workers: 1}, gunicorn: {workers: 2}}\n"
        "uwsgi:\n  static-map: /a\n  static-map: /b\ngalaxy: {}\n",
    ),
    "fields in variables": (section("virtualenv: /v x, celery: {environment: {A: '{virtualenv_bin}a {{}}'}}"),),
    "fields of no virtualenv": (section("celery: {environment: {A: '{virtualenv_bin}a'}}"),),
    "keys in capitals": (section("VirtualEnv: /x, GUNICORN: {workers: 2}, gunicorn: {workers: 3}"),),
    "unknown keys": (section("bogus: 1, gunicorn: {Workers: 3, other: []}"),),
    "null services": (section("gunicorn: null, celery: null, tusd: null, reports: null, gx_it_proxy: null"),),
    "numbers in texts": (section("gunicorn: {workers: '2', timeout: ' 7.0 ', preload: 'Off', start_timeout: 9.0}"),),
    "true for a number": (section("gunicorn: {workers: true, preload: 1}, use_service_instances: 'no'"),),
    "no preload": (section("gunicorn: {preload: null}"),),
    "host alone": (section("gunicorn: {bind: 10.0.0.1}"),),
    "port alone": (section("gunicorn: {bind: ':80'}"),),
    "IPv6": (section("gunicorn: {bind: '[::1]:80', extra_args: '-b [::]'}"),),
    "relative socket": (section("gunicorn: {bind: 'unix:run/s'}"),),
    "socket as URL": (section("gunicorn: {bind: 'unix:///run/s'}"),),
    "descriptor": (section("gunicorn: {bind: 'fd://3'}"),),
    "more words": (section("gunicorn: {bind: 'localhost:1 -b h:2', extra_args: '-w 4 --timeout=0 --bind=unix:s'}"),),
    "another directory": (section("gunicorn: {bind: 'unix:s', extra_args: '--chdir /tmp'}"),),
    "gunicorn's own variables": (
        section(
            "gunicorn: {environment: {GUNICORN_CMD_ARGS: '-b h:1 --preload -t 4', WEB_CONCURRENCY: '7'}, preload: no}"
        ),
    ),
    "two gunicorns": (section("gunicorn: [{bind: 'unix:a', start_timeout: 3}, {bind: 'unix:b', start_timeout: 4}]"),),
    "one gunicorn in a list": (section("gunicorn: [{}]"),),
    "one of two enabled": (section("gunicorn: [{enable: false}, {workers: 2}]"),),
    "no service instances": (section("gunicorn: [{}, {enable: false}, {}], use_service_instances: false"),),
    "no gunicorns without instances": (section("gunicorn: [], use_service_instances: false"),),
    "direct": (section("gunicorn: [{}, {}], service_command_style: direct, handlers: {h: {processes: 2}}"),),
    "beat alone": (section("celery: {enable: false, environment: {A: '{galaxy_conf}', PATH: /p}}"),),
    "all of them": (
        {
            "galaxy.yml": section(
                "virtualenv: /v, reports: {enable: true, config_file: r.yml}, gx_it_proxy: {enable: true},"
                " tusd: {enable: true, upload_dir: /u, start_timeout: 3}, umask: '077', log_namespace: ns",
                "{galaxy_infrastructure_url: 'http://x', interactivetools_enable: true}",
            ),
            "r.yml": "",
        },
    ),
    "two tusds": (
        section(
            "tusd: [{enable: true, upload_dir: a}, {enable: true, upload_dir: b}]", "{galaxy_infrastructure_url: u}"
        ),
    ),
    "handlers": (
        section(
            "handlers: {h: {processes: 3, pools: [a], start_timeout: 1, environment: {A: b}}, one: {}, h7: {},"
            " t: {processes: 2, name_template: ' {instance_name}.{process:03d}-{name} '}}, instance_name: main"
        ),
    ),
    "handlers without instances": (
        section(
            "handlers: {h: {processes: 3}, one: {}, h7: {}, none: {processes: 0},"
            " t: {processes: 2, name_template: '{name}'}}, use_service_instances: false"
        ),
    ),
    "static handlers": (
        section(QUIET, "{job_config: {handling: {processes: {s0: null, s1: {environment: {A: b}}}}}}"),
    ),
    "job_conf.yml": ({"galaxy.yml": section(QUIET), "job_conf.yml": "handling: {processes: {y0: , y1: {}}}"},),
    "an empty job_conf.yml": ({"galaxy.yml": section(QUIET), "job_conf.yml": "# nothing\n"},),
    "job_conf.xml": ({"galaxy.yml": section("handlers: {d: {}}"), "job_conf.xml": XML},),
    "both job_conf": (
        {"galaxy.yml": section(QUIET), "job_conf.xml": XML, "job_conf.yml": "handling: {assign: [db-self]}"},
    ),
    "job_config_file": (
        {
            "galaxy.yml": section(QUIET, "{job_config_file: j.xml, job_config: {handling: {processes: {s0: }}}}"),
            "j.xml": XML,
        },
    ),
    "own file": (
        {
            "galaxy.yml": f"gravity: {{galaxy_config_file: g.yml, {QUIET}}}",
            "g.yml": "galaxy: {data_dir: d, root: ROOT}",
        },
    ),
    "own file and section": (section("galaxy_config_file: g.yml", "{data_dir: here}"),),
    "several": (SEVERAL_FILES,),
    "several, by XDG": (SEVERAL_FILES, {"XDG_CONFIG_HOME": "/xdg"}),
    "several, by state": (SEVERAL_FILES, {"GRAVITY_STATE_DIR": "ROOT/st"}),
    "list of one": ({"galaxy.yml": "gravity: [{galaxy_config_file: g.yml}]", "g.yml": "galaxy: {}"},),
    "data_dir and logs": (section("log_dir: lo", "{data_dir: d/e, galaxy_url_prefix: /x}"),),
    "absolute directories": (section("log_dir: /l, galaxy_root: ROOT, virtualenv: venv", "{data_dir: /d}"),),
    "user": (section("galaxy_user: g, galaxy_group: gg"),),
    "user's systemd": (section("galaxy_user: g, process_manager: systemd"),),
    "root": (section("galaxy_user: g, galaxy_group: gg"), {}, True),
    "root, null": (section("galaxy_user: g, process_manager: null"), {}, True),
    "root who skips": (section("galaxy_user: g"), {"GRAVITY_SKIP_SYSTEMD": "True"}, True),
    "installed": (section("virtualenv: ROOT/v, gunicorn: {bind: 'unix:s'}"), {}, False, True),
    "installed, by activation": (section("log_dir: l"), {"VIRTUAL_ENV": "ROOT/v"}, False, True),
    "installed with root": (section("virtualenv: ROOT/v, galaxy_root: /elsewhere"), {}, False, True),
    "variables": (
        section("umask: '027'"),
        {"GRAVITY_UMASK": "0", "GRAVITY_LOG_DIR": "lo", "GRAVITY_INSTANCE_NAME": "z", "GALAXY_ROOT_DIR": "ROOT"},
    ),
    "variable of the manager": (section(""), {"GRAVITY_PROCESS_MANAGER": "systemd"}),
    "variable against null": (section("process_manager: null"), {"GRAVITY_PROCESS_MANAGER": "systemd"}),
    "variable against the file": (section("process_manager: supervisor"), {"gravity_process_manager": "systemd"}),
    "variable in JSON": (section("gunicorn: {bind: 'h:1'}"), {"GRAVITY_GUNICORN": '{"workers": 4, "bind": "no:1"}'}),
    "variable for a list": (section("gunicorn: [{}]"), {"GRAVITY_GUNICORN": '{"workers": 4}'}),
    "variable with a list": (section(""), {"GRAVITY_GUNICORN": '[{"workers": 4}, {}]'}),
    "variable of a part": (
        section("handlers: {b: {}}"),
        {
            "GRAVITY_GUNICORN.WORKERS": "3",
            "GRAVITY_GUNICORN.environment.FoO": "x",
            "GRAVITY_HANDLERS.A": '{"processes": 2}',
            "GRAVITY_CELERY": '{"ENABLE": false}',
        },
    ),
    "variable of nothing": (section(""), {"GRAVITY_CELERY": "null", "GRAVITY_LOG_DIR": "", "GRAVITY_STATE_DIR": ""}),
    "state": (section("gunicorn: {bind: 'unix:s'}", "{data_dir: d}"), {"GRAVITY_STATE_DIR": "ROOT/st"}),
    "inherited options": (section("gunicorn: {preload: false}"), {"GUNICORN_CMD_ARGS": "--preload", "PORT": "1"}),
}
# the real Gravity fails with these; ours has an error, or only a problem if the rest can still be known
REFUSED = {
    "none of a list enabled": (section("gunicorn: [{enable: false}]"),),
    "an empty list": (section("gunicorn: []"),),
    "tusd without URL": (section("tusd: {enable: true, upload_dir: /u}"),),
    "proxy without tools": (section("gx_it_proxy: {enable: true}"),),
    "reports without file": (section("reports: {enable: true}"),),
    "no processes": (section("handlers: {h: {processes: 0}}"),),
    "processes as text": (section("handlers: {h: {processes: '2'}}"),),
    "job_config_file elsewhere": (section(QUIET, "{job_config_file: /nowhere/job_conf.yml}"),),
    "bad XML": ({"galaxy.yml": section(QUIET), "job_conf.xml": "<job_conf>"},),
    "no id": ({"galaxy.yml": section(QUIET), "job_conf.xml": "<a><handlers><handler/></handlers></a>"},),
    "processes as list": (section(QUIET, "{job_config: {handling: {processes: [s0]}}}"),),
    "unknown kind": ({"galaxy.yml": section(QUIET, "{job_config_file: j.ini}"), "j.ini": ""},),
    "own file is gone": ("gravity: {galaxy_config_file: g.yml}\n",),
    "own file without section": ({"galaxy.yml": "gravity: {galaxy_config_file: g.yml}", "g.yml": "other: {}"},),
    "several of one name": (
        {"galaxy.yml": "gravity: [{galaxy_config_file: a.yml}, {galaxy_config_file: a.yml}]", "a.yml": "galaxy: {}"},
    ),
    "list beside galaxy": ("gravity: [{galaxy_config_file: a.yml}]\ngalaxy: {}\n",),
    "list without file": ("gravity: [{}]\n",),
    "text for a section": ("gravity: text\ngalaxy: {}\n",),
    "number for umask": (section("umask: 022"),),
    "number in environment": (section("gunicorn: {environment: {A: 1}}"),),
    "list for celery": (section("celery: [{}]"),),
    "negative": (section("celery: {concurrency: -1}"),),
    "no workers": (section("gunicorn: {workers: 0}"),),
    "half a worker": (section("gunicorn: {workers: 1.5}"),),
    "null handlers": (section("handlers: null"),),
    "bad manager": (section("process_manager: upstart"),),
    "root without user": (section("process_manager: systemd"), {}, True),
    "root with supervisor": (section("galaxy_user: g, process_manager: supervisor"), {}, True),
    "part of a handler": (section(""), {"GRAVITY_HANDLERS.A.PROCESSES": "2"}),
    "bad variable": (section(""), {"GRAVITY_CELERY": "x"}),
    "bad variable of a list": (section(""), {"GRAVITY_GUNICORN": "x"}),
    "bad part": (section(""), {"GRAVITY_GUNICORN.ENVIRONMENT": "x"}),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """The case and the real Gravity's answer, by name."""
    root = tmp_path_factory.mktemp("gravity")
    every = {**TABLE, **REFUSED}
    cases = [gravity.Case(root / str(number), *what) for number, what in enumerate(every.values())]
    return dict(zip(every, zip(cases, gravity.ask(cases), strict=True), strict=True))


@pytest.mark.parametrize("name", TABLE)
def test_the_real_gravity_reads_the_same(answers, name):
    case, answer = answers[name]
    assert "error" not in answer
    compare(case, answer)


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_real_gravity_refuses_is_not_taken(answers, name):
    case, answer = answers[name]
    assert "error" in answer
    compare(case, answer)


def compare(case, answer):
    keywords = {"environment": case.environment, "as_root": case.as_root, "directory": str(case.root)}
    if "error" in answer:
        try:
            assert galaxy_gravity_config.read(case.path, **keywords).problems, answer
        except ConfigError as exc:
            assert str(exc).startswith((str(case.root), "environment: GRAVITY_"))
        return
    for name, expected in answer.items():
        found = galaxy_gravity_config.read(case.path, name if len(answer) > 1 else None, **keywords)
        expected = normal(expected, case)
        if expected["data_dir"] is None:
            found = dataclasses.replace(found, data_dir=None)
        assert as_answered(found) == expected
        # Gravity accepts a socket that another program opens; we cannot know its address
        unknown = [problem for problem in found.problems if "(fd://)" in problem]
        assert list(found.problems) == unknown
        assert not unknown or "fd://" in pathlib.Path(case.path).read_text()


def as_answered(instance):
    """Our instance in the form that ``normal`` returns; the names of units and programs are made from it."""
    services = []
    for program in instance.programs:
        number = "" if program.number is None else program.number
        prefix = f"-{instance.name}" if instance.is_named else ""
        at = "" if program.number is None else f"@{number}"
        if instance.is_named:
            name = f"{instance.name}:{program.service}{number}"
        else:
            name = program.service if number == "" else f"{program.service}:{program.service}_{number}"
        web = program.web
        services.append(
            {
                **{key: getattr(program, key) for key in ("service", "type", "number", "server_name", "environment")},
                **{key: getattr(program, key) for key in ("start_timeout", "stop_timeout")},
                "unit": f"galaxy{prefix}-{program.service}{at}.service",
                "program": name,
                **({} if web is None else {"binds": [text(bind) for bind in web.binds]}),
                **({} if web is None else {key: getattr(web, key) for key in ("workers", "timeout", "preload")}),
            }
        )
    keys = ("manager", "galaxy_config", "galaxy_root", "virtualenv", "log_dir", "state_dir", "user", "group", "prefix")
    found = {key: getattr(instance, key) for key in (*keys, "command_style", "umask", "log_namespace")}
    return {**found, "data_dir": instance.data_dir, "services": services}


def text(bind):
    return bind.path or [bind.host, bind.port]


def normal(answer, case):
    """The real answer, changed where we say it differently: Galaxy's data_dir, absolute paths, ignored users."""
    base = answer["galaxy_root"] or str(case.root)
    virtualenv = answer["virtualenv"] or case.environment.get("VIRTUAL_ENV")
    is_roots = answer["manager"] == "systemd" and case.as_root
    for service in answer["services"]:
        service["environment"].pop("PATH", None)
        if "VIRTUAL_ENV" in service["environment"]:
            service["environment"]["VIRTUAL_ENV"] = os.path.join(base, service["environment"]["VIRTUAL_ENV"])
    # with a state directory of its own, Gravity does not tell Galaxy's data_dir
    data_dir = None if case.environment.get("GRAVITY_STATE_DIR") else os.path.dirname(answer["data_dir"])
    return {
        **answer,
        "virtualenv": virtualenv and os.path.join(base, virtualenv),
        "data_dir": data_dir,
        "user": answer["user"] if is_roots else None,
        "group": answer["group"] if is_roots else None,
        "prefix": (answer["prefix"] or "").rstrip("/"),
    }


def mostly(good, *bad):
    """One of the good values; rarely a bad one, because one bad value hides all others."""
    return st.sampled_from([*(good * 20), *bad])


FLAG = mostly([True, False, "yes", "OFF", 0, 1, 1.0], "x", 2, None)
NUMBER = mostly([1, 3, "2", " 4 ", "5.0", 6.0, True], 0, 1.5, "x", -1, None)
BIND = mostly(["localhost:1", "h", ":80", "[::1]:2", "unix:/s", "unix:s", "fd://3", "h:1 -b g:2", "tcp://a:3"], "h:x")
WORDS = st.sampled_from(
    ["", "-w 3", "--bind=unix:t", "-t 0 --preload", "-b h:9 --timeout 8", "--chdir /tmp", "--pid p"]
)
VARIABLES = st.dictionaries(
    st.sampled_from(["A", "GUNICORN_CMD_ARGS"]),
    st.sampled_from(["--preload", "-b q:1", "{galaxy_conf} {{"]),
    max_size=1,
)
COMMON = {"start_timeout": NUMBER, "stop_timeout": NUMBER, "environment": VARIABLES, "enable": FLAG}


def sometimes(**fields):
    """A mapping with some of the fields."""
    return st.fixed_dictionaries({}, optional=fields)


GUNICORN = sometimes(**COMMON, bind=BIND, workers=NUMBER, timeout=NUMBER, preload=FLAG, extra_args=WORDS)
HANDLER = sometimes(
    processes=mostly([1, 2, 3], 0, "1"),
    name_template=st.sampled_from(["{name}{process}", "{name}-{instance_name}-{process:02d}", None]),
    pools=st.just(["p"]),
    start_timeout=st.sampled_from([1, 2.5]),
)
SECTION = sometimes(
    gunicorn=st.one_of(GUNICORN, st.lists(GUNICORN, max_size=3), st.none()),
    celery=sometimes(**COMMON, enable_beat=FLAG),
    tusd=st.one_of(
        st.none(), st.lists(st.fixed_dictionaries({"upload_dir": st.just("u"), "enable": FLAG}), max_size=2)
    ),
    handlers=st.dictionaries(st.sampled_from(["h", "special7", "g"]), HANDLER, max_size=3),
    use_service_instances=FLAG,
    service_command_style=st.sampled_from(["gravity", "direct"]),
    instance_name=st.sampled_from(["main", "_default_"]),
    process_manager=st.sampled_from(["supervisor", "systemd", None]),
    galaxy_user=st.sampled_from(["g", None]),
    log_dir=st.sampled_from(["l", "/l", None]),
)
GALAXY = sometimes(
    data_dir=st.sampled_from(["d", "/d"]),
    galaxy_url_prefix=st.sampled_from(["/g/", "/", None]),
    galaxy_infrastructure_url=st.just("http://x"),
    job_config=st.sampled_from([None, {"handling": {"processes": {"s0": None, "s1": {"environment": {"B": "c"}}}}}]),
)
ENVIRONMENT = sometimes(
    **{
        "GRAVITY_GUNICORN": st.sampled_from(['{"workers": 8}', "[{}, {}]"]),
        "GRAVITY_GUNICORN.TIMEOUT": mostly(["9"], "x"),
        "GRAVITY_USE_SERVICE_INSTANCES": st.sampled_from(["0", "1"]),
        "GRAVITY_STATE_DIR": st.just("ROOT/state"),
        "GRAVITY_HANDLERS.E": st.just('{"processes": 2}'),
    }
)
INPUT = st.tuples(SECTION, GALAXY, ENVIRONMENT, mostly([False], *[True] * 3))


@settings(max_examples=5, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.lists(INPUT, min_size=20, max_size=20))
def test_any_configuration_is_read_as_the_real_gravity_does(tmp_path_factory, inputs):
    root = tmp_path_factory.mktemp("any")
    cases = [
        gravity.Case(root / str(number), yaml.safe_dump({"gravity": section, "galaxy": galaxy}), environment, as_root)
        for number, (section, galaxy, environment, as_root) in enumerate(inputs)
    ]
    for case, answer in zip(cases, gravity.ask(cases), strict=True):
        compare(case, answer)


FILES = {
    "one": section("virtualenv: ROOT/v, MANAGER, handlers: {one: {}}"),
    "two": section("virtualenv: ROOT/v, MANAGER, gunicorn: [{}, {}], handlers: {h: {processes: 3}, h7: {}}"),
    "named": section(
        "virtualenv: ROOT/v, MANAGER, instance_name: main, gunicorn: [{}, {}], handlers: {h: {processes: 3}}",
        "{job_config: {handling: {processes: {s0: }}}}",
    ),
    "no instances": section(
        "virtualenv: ROOT/v, MANAGER, use_service_instances: false, gunicorn: [{}, {}], handlers: {h: {processes: 2}}"
    ),
    "direct": section("virtualenv: ROOT/v, MANAGER, service_command_style: direct, gunicorn: [{}, {}]"),
}


@pytest.mark.parametrize("name", FILES)
def test_galaxyctl_writes_the_units_that_we_name(tmp_path, name):
    case = gravity.Case(tmp_path, FILES[name].replace("MANAGER", "process_manager: systemd"))
    gravity.update(case, tmp_path / "units")
    instance = galaxy_gravity_config.read(case.path, as_root=False)
    units = {service["unit"] for service in as_answered(instance)["services"]}
    target = f"galaxy-{instance.name}.target" if instance.is_named else "galaxy.target"
    written = gravity.files_below(tmp_path / "units")
    assert set(re.search("^Wants=(.*)$", written[target], re.MULTILINE)[1].split()) == units
    templates = {re.sub("@[0-9]+", "@", unit) for unit in units}
    assert {path for path in written if not path.startswith("bin/")} == {*templates, target}


@pytest.mark.parametrize("name", FILES)
def test_galaxyctl_writes_the_programs_that_we_name(tmp_path, name):
    case = gravity.Case(tmp_path, FILES[name].replace("MANAGER", "process_manager: supervisor"))
    gravity.update(case, tmp_path / "bed")
    instance = galaxy_gravity_config.read(case.path, as_root=False)
    written = gravity.files_below(pathlib.Path(instance.state_dir) / "supervisor" / "supervisord.conf.d")
    programs = {}
    for path, content in written.items():
        for found in re.finditer(r"^numprocs += (\d+)$", content, re.MULTILINE):
            programs[os.path.basename(path)] = int(found[1])
            assert os.path.dirname(path) == f"{instance.name}.d"
            assert f"= {instance.log_dir}/" in content
    ours = collections.Counter(f"{program.type}_{program.service}.conf" for program in instance.programs)
    assert programs == dict(ours)
    assert (f"group_{instance.name}.conf" in written) is instance.is_named
