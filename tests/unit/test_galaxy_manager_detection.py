"""Detection by definitions alone. tests/functional/managers tests the managers themselves."""

import pytest

import galaxy_manager_detection
import galaxy_manager_initscript
import galaxy_manager_supervisor_config
import galaxy_manager_systemd
import galaxy_uwsgi_process
from galaxy_errors import ManagerError
from galaxy_manager_systemd_definition import Definition

CONFIG = "/srv/galaxy/config/galaxy.yml"
_SERVER = "[unix_http_server]\nfile=/run/supervisor-of-a-test.sock\n[supervisord]\n"


@pytest.fixture
def host(tmp_path, monkeypatch):
    """An empty machine; its definitions are in ``tmp_path``. ``host(kind, name, text)`` writes one."""
    units = {}
    monkeypatch.setattr(galaxy_manager_systemd, "RUNS", str(tmp_path / "systemd-runs"))
    # tests/functional/managers asks systemd itself
    monkeypatch.setattr(galaxy_manager_systemd, "candidates", lambda: list(units.values()))
    monkeypatch.setattr(galaxy_manager_initscript, "_JOBS", str(tmp_path / "init" / "*.conf"))
    monkeypatch.setattr(galaxy_manager_initscript, "_SCRIPTS", str(tmp_path / "init.d" / "*"))
    monkeypatch.setattr(
        galaxy_manager_supervisor_config, "CONFIG_FILES", (str(tmp_path / "supervisord" / "supervisord.conf"),)
    )
    monkeypatch.setattr(galaxy_manager_initscript.shutil, "which", lambda name: None)

    def write(kind, name, text, aliases=()):
        if kind == "init":
            monkeypatch.setattr(galaxy_manager_initscript.shutil, "which", lambda name: f"/sbin/{name}")
        path = tmp_path / kind / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        if kind == "systemd":
            (tmp_path / "systemd-runs").mkdir(exist_ok=True)
            names = " ".join([name, *aliases])
            units[name] = (Definition(name.removesuffix(".service"), [str(path)]), {"Names": names})
        return path

    write.program = lambda text: write("supervisord", "supervisord.conf", _SERVER + text)
    return write


def _found(config=CONFIG, **keywords):
    def own(invocation):
        return galaxy_uwsgi_process.starts(invocation, config)

    unit = galaxy_manager_detection.detect(config=config, own=own, **keywords)
    return unit and (unit.manager, unit.service)


def test_nothing_there_is_none(host):
    assert _found() is None


@pytest.mark.parametrize(
    ("text", "service"),
    [
        (f"[program:web]\ncommand=uwsgi --yaml {CONFIG}\n", "web"),
        (f"[program:web]\ncommand=/venv/bin/uwsgi --yaml {CONFIG}\n[group:gx]\nprograms=web\n", "gx"),
        ("[program:galaxy]\ncommand=/srv/run.sh\n", "galaxy"),
        (f"[program:galaxy]\ncommand=/srv/run.sh --config {CONFIG}\n", "galaxy"),
        ("[program:x]\ncommand=uwsgi --yaml config/galaxy.yml\ndirectory=/srv/galaxy\n", "x"),
        (f"[program:x]\ncommand=uwsgi --yaml={CONFIG}\n", "x"),
        ("[program:x]\ncommand=/bin/sh -c 'cd /srv/galaxy && exec uwsgi --yaml config/galaxy.yml'\n", "x"),
        (f"[program:x]\ncommand=/bin/bash -c 'uwsgi --yaml {CONFIG}'\n", "x"),
        (f"[program:x]\ncommand=env LANG=C uwsgi -y {CONFIG}\n", "x"),
        (f"[program:x]\ncommand=nice -n 5 sudo -u galaxy uwsgi {CONFIG}\n", "x"),
        (f"[fcgi-program:x]\nsocket=tcp://localhost:1\ncommand=uwsgi --yaml {CONFIG}\n", "x"),
        ("[supervisord]\ndirectory=/srv/galaxy\n[program:x]\ncommand=uwsgi --yaml config/galaxy.yml\n", "x"),
        ('[program:x]\nenvironment=C="/srv/galaxy/config"\ncommand=uwsgi --yaml %(ENV_C)s/galaxy.yml\n', "x"),
        ("[program:galaxy]\ncommand=uwsgi --yaml %(ENV_NOWHERE)s.yml --touch-reload x\n", None),
        # a handler names the configuration too, but only the program that runs uWSGI is the server
        (
            f"[program:handler0]\ncommand=python main.py -c {CONFIG}\n[program:w]\ncommand=uwsgi --yaml {CONFIG}\n",
            "w",
        ),
        # a handler, Celery or another helper alone is never the server, whatever its name
        (f"[program:galaxy]\ncommand=python ./lib/galaxy/main.py -c {CONFIG}\n", None),
        ("[program:galaxy]\ncommand=celery --app galaxy.celery worker\n", None),
        ("[program:galaxy]\ncommand=gunicorn galaxy.webapps.galaxy.fast_factory:factory()\n", None),
        (f"[program:backup]\ncommand=/usr/local/bin/backup --stop uwsgi {CONFIG}\n", None),
        (f"[eventlistener:galaxy]\nevents=TICK_60\ncommand=uwsgi --yaml {CONFIG}\n", None),
        (f"[program:x]\ncommand=uwsgi --yaml /srv/b/galaxy.yml --touch-reload {CONFIG}\n", None),
    ],
)
def test_supervisord_programs(host, text, service):
    host.program(text)
    assert _found() == (service and ("supervisord", service))


@pytest.mark.parametrize(
    "text",
    [
        # each one names another Galaxy's configuration: by uWSGI, by a handler, in the group, through a shell, relative
        "[program:galaxy]\ncommand=uwsgi --yaml /srv/other/galaxy.yml\n",
        "[program:galaxy]\ncommand=python main.py -c /srv/other/galaxy.yml\n",
        "[program:galaxy]\ncommand=/srv/run.sh --config=/srv/other/galaxy.yml\n",
        "[program:galaxy]\ncommand=sh -c 'cd /srv/other && uwsgi --yaml config/galaxy.yml'\n",
        "[program:galaxy]\ncommand=uwsgi --yaml config/galaxy.yml\ndirectory=/srv/other\n",
        "[program:galaxy]\ncommand=uwsgi --yaml config/other.yml\n",
        "[program:galaxy-web]\ncommand=/srv/run.sh\n[program:h]\ncommand=python main.py -c /srv/other/galaxy.yml\n"
        "[group:galaxy]\nprograms=galaxy-web,h\n",
    ],
)
def test_a_definition_that_names_another_configuration_is_never_ours(host, text):
    host.program(text)
    assert _found() is None


def test_another_galaxys_group(host):
    """A group called galaxy that has another Galaxy's server and handler."""
    host.program(
        "[program:galaxy_web]\ncommand=uwsgi --yaml /srv/a/config/galaxy.yml\n"
        "[program:handler]\ncommand=/srv/a/venv/bin/python ./lib/galaxy/main.py -c /srv/a/config/galaxy.yml "
        "--server-name=handler0\ndirectory=/srv/a/server\n[group:galaxy]\nprograms=galaxy_web,handler\n"
    )
    assert _found("/srv/b/config/galaxy.yml") is None
    assert _found("/srv/a/config/galaxy.yml") == ("supervisord", "galaxy")
    host(
        "systemd",
        "galaxy.service",
        "[Service]\nExecStart=/srv/a/venv/bin/python ./lib/galaxy/main.py -c /srv/a/config/galaxy.yml\n",
    )
    assert _found("/srv/b/config/galaxy.yml") is None


def test_two_servers_in_one_group_are_two_services(host):
    host.program(
        f"[program:main]\ncommand=uwsgi --yaml {CONFIG}\n[program:test]\ncommand=uwsgi --yaml /srv/test/galaxy.yml\n"
        "[group:galaxy]\nprograms=main,test\n"
    )
    assert _found() == ("supervisord", "galaxy:main")
    assert _found("/srv/test/galaxy.yml") == ("supervisord", "galaxy:test")


def test_zerglings_of_one_configuration_are_named(host):
    """Two zerglings are defined, and nothing runs."""
    host.program(
        "[program:zergpool]\ncommand = uwsgi --master --zerg-pool /srv/zergpool.sock:127.0.0.1:4001\n"
        f"[program:zergling0]\ncommand = uwsgi --yaml {CONFIG} --stats 127.0.0.1:9190\n"
        f"[program:zergling1]\ncommand = uwsgi --yaml {CONFIG} --stats 127.0.0.1:9191\n"
        "[group:gx]\nprograms = zergpool,zergling0,zergling1\n"
    )
    with pytest.raises(ManagerError, match="gx:zergling0, gx:zergling1; say which with service="):
        _found()
    assert _found(service="gx:zergling0") == ("supervisord", "gx:zergling0")
    assert _found(service="zergling1") == ("supervisord", "gx:zergling1")
    assert _found(service="gx") == ("supervisord", "gx")


def test_several_processes_of_one_program(host):
    host.program(
        "[program:web]\nnumprocs=2\nprocess_name=%(program_name)s_%(process_num)02d\n"
        f"command=uwsgi --yaml {CONFIG} --stats 127.0.0.1:919%(process_num)d\n"
    )
    with pytest.raises(ManagerError, match="web:web_00, web:web_01"):
        _found()
    assert _found(service="web") == ("supervisord", "web")
    assert _found(service="web:web_01") == ("supervisord", "web:web_01")


@pytest.mark.parametrize("name", ["galaxy-cleanup", "galaxy-db", "mygalaxy", "galaxy-celery", "galaxy-handler0"])
def test_what_has_only_galaxy_in_its_name_is_not_galaxy(host, name):
    host.program(f"[program:{name}]\ncommand=sleep 1000\n")
    assert _found() is None


def test_a_configuration_is_known_behind_a_link(host, tmp_path):
    (tmp_path / "real.yml").touch()
    (tmp_path / "link.yml").symlink_to(tmp_path / "real.yml")
    host.program(f"[program:x]\ncommand=uwsgi --yaml {tmp_path}/link.yml\n")
    assert _found(str(tmp_path / "real.yml")) == ("supervisord", "x")


@pytest.mark.parametrize(
    ("given", "service"),
    [
        ("gx", "gx"),
        ("gx:", "gx"),
        ("gx:*", "gx"),
        ("many", "gx:many"),
        ("gx:many", "gx:many"),
        ("gx:many_00", "gx:many_00"),
        # the name of the program means its process
        ("galaxy_uwsgi", "gx:web"),
        ("gx:galaxy_uwsgi", "gx:web"),
        ("gx:web", "gx:web"),
    ],
)
def test_services_are_named_as_supervisorctl_names_them(host, given, service):
    host.program(
        "[program:many]\nnumprocs=2\nprocess_name=%(program_name)s_%(process_num)02d\ncommand=uwsgi\n"
        "[program:galaxy_uwsgi]\nprocess_name=web\ncommand=uwsgi\n[group:gx]\nprograms=many,galaxy_uwsgi\n"
    )
    assert _found(service=given) == ("supervisord", service)


def test_systemd_units(host):
    host("systemd", "portal.service", f"[Service]\nExecStart=/venv/bin/uwsgi --yaml {CONFIG}\n")
    host("systemd", "galaxy-cleanup.service", "[Service]\nExecStart=/srv/cleanup\n")
    assert _found() == ("systemd", "portal")
    relative = "[Service]\nWorkingDirectory=/srv/galaxy\nExecStart=/venv/bin/uwsgi --yaml config/galaxy.yml\n"
    host("systemd", "portal.service", relative)
    assert _found() == ("systemd", "portal")


def test_only_what_a_unit_executes_counts(host):
    """A configuration in a comment, a description or another program's words does not count."""
    host("systemd", "galaxy.service", f"[Service]\nExecStart=/srv/galaxy/venv/bin/uwsgi --yaml {CONFIG}\n")
    host(
        "systemd",
        "galaxy-backup.service",
        f"# stop uwsgi before this\n[Service]\nExecStart=/usr/local/bin/backup {CONFIG}\n",
    )
    host(
        "systemd",
        "galaxy-handler0.service",
        "[Unit]\nAfter=galaxy-uwsgi.service\nPartOf=galaxy-uwsgi.service\n[Service]\n"
        f"ExecStart=/srv/galaxy/venv/bin/python ./scripts/galaxy-main -c {CONFIG} "
        "--log-file=/var/log/galaxy/uwsgi-handler0.log\n",
    )
    host(
        "systemd",
        "galaxy-web.service",
        f"[Unit]\nDescription=uwsgi --yaml {CONFIG}\nX-Exec=uwsgi\n[Service]\n;ExecStart=uwsgi --yaml {CONFIG}\n"
        f"ExecStartPre=/usr/bin/uwsgi --yaml {CONFIG} --check\nExecStart=/usr/bin/true --yaml /srv/other.yml\n"
        f"ExecStop=uwsgi --yaml {CONFIG}\n",
    )
    assert _found() == ("systemd", "galaxy")


def test_an_alias_counts_for_its_name(host):
    host("systemd", "portal.service", "[Service]\nExecStart=/srv/run.sh\n", aliases=["galaxy.service"])
    assert _found() == ("systemd", "portal")


def test_a_unit_that_only_starts_supervisord_gives_way_to_the_program(host):
    host("systemd", "galaxy.service", "[Service]\nExecStart=/venv/bin/supervisord -n\n")
    host.program(f"[program:web]\ncommand=uwsgi --yaml {CONFIG}\n")
    assert _found() == ("supervisord", "web")
    with pytest.raises(ManagerError, match="Nothing like systemd"):
        _found(manager="systemd")


def test_two_managers_that_both_have_it_are_named(host):
    host("systemd", "portal.service", f"[Service]\nExecStart=/venv/bin/uwsgi --yaml {CONFIG}\n")
    host.program(f"[program:web]\ncommand=uwsgi --yaml {CONFIG}\n")
    with pytest.raises(ManagerError, match="supervisord web, systemd portal; say which with manager= and service="):
        _found()
    assert _found(manager="systemd") == ("systemd", "portal")


def test_two_supervisords_that_both_have_it_are_named(host, tmp_path, monkeypatch):
    text = f"{_SERVER}[program:web]\ncommand=uwsgi --yaml {CONFIG}\n"
    paths = [str(host("supervisord", name, text)) for name in ("a.conf", "b.conf")]
    monkeypatch.setattr(galaxy_manager_supervisor_config, "CONFIG_FILES", paths)
    with pytest.raises(ManagerError, match=f"Several supervisords have web: {paths[0]}, {paths[1]}; say which"):
        _found()
    assert _found(conf_file=paths[1]) == ("supervisord", "web")


def test_units_count_only_where_systemd_runs(host, tmp_path):
    host("systemd", "galaxy.service", f"[Service]\nExecStart=uwsgi --yaml {CONFIG}\n")
    (tmp_path / "systemd-runs").rmdir()
    assert _found() is None


def test_a_template_is_no_service(host):
    host("systemd", "galaxy.service", "[Service]\nExecStart=/srv/x\n")
    with pytest.raises(ManagerError, match="galaxy-zergling@ is a template; name an instance"):
        _found(service="galaxy-zergling@", manager="systemd")


@pytest.mark.parametrize(
    ("kind", "name", "manager"), [("init", "galaxy.conf", "upstart"), ("init.d", "galaxy", "sysvinit")]
)
def test_older_inits(host, kind, name, manager):
    host(kind, name, f"#!/bin/sh\n# don't start /srv/other.yml\nexec uwsgi --yaml {CONFIG}\n")
    assert _found() == (manager, "galaxy")


def test_backup_copies_links_and_comments_are_no_scripts(host, tmp_path):
    path = host("init.d", "portal", f"#!/bin/sh\nDAEMON=/usr/bin/uwsgi\nARGS='--yaml {CONFIG}'\n$DAEMON $ARGS\n")
    for name in ("portal.dpkg-old", "portal.bak", "portal~", "portal.rpmsave", "portal.orig", "portal.dpkg-dist"):
        host("init.d", name, path.read_text())
    (tmp_path / "init.d" / "galaxy").symlink_to(path)
    host("init.d", "galaxy-web", f"#!/bin/sh\n# uwsgi --yaml {CONFIG}\necho uwsgi /srv/other.yml\n")
    host("init.d", "not-executable", f"uwsgi --yaml {CONFIG}\n").chmod(0o644)
    assert _found() == ("sysvinit", "portal")


@pytest.mark.parametrize(
    "line",
    [
        "start-stop-daemon --start --chuid galaxy --exec /usr/bin/uwsgi -- --yaml {config}",
        "start-stop-daemon -S -x /usr/bin/uwsgi --pidfile=/run/x -- --daemonize /x.log --yaml {config}",
        "daemon --user galaxy /usr/bin/uwsgi --yaml {config}",
        "su - galaxy -c 'cd /srv/galaxy; uwsgi --yaml config/galaxy.yml'",
        'case "$1" in\nstart) cd /srv/galaxy && uwsgi --yaml config/galaxy.yml -d x ;;\nstop) kill 1 ;;\nesac',
        "start() {{\n  uwsgi --yaml {config}\n}}\ncat <<X\ndon't\nX\n",
    ],
)
def test_forms_of_init_scripts(host, line):
    host("init.d", "portal", f"#!/bin/sh\n{line.format(config=CONFIG)}\n")
    assert _found() == ("sysvinit", "portal")
    assert _found("/srv/other.yml") is None


def test_what_an_upstart_job_does_beside_its_process_is_no_server(host):
    host(
        "init",
        "portal.conf",
        f"description uwsgi\nenv C={CONFIG}\nchdir /srv/galaxy\npre-start script\n  uwsgi --yaml {CONFIG}\nend script\n"
        "script\n  exec sleep 1000\nend script\npost-stop exec uwsgi\n",
    )
    assert _found() is None
    host("init", "portal.conf", f"env C={CONFIG}\nscript\n  exec uwsgi --yaml $C\nend script\n")
    assert _found() == ("upstart", "portal")


def test_a_job_of_upstart_that_is_linked_as_a_script_is_one(host, tmp_path):
    host("init", "galaxy.conf", f"exec uwsgi --yaml {CONFIG}\n")
    (tmp_path / "init.d").mkdir()
    (tmp_path / "upstart-job").write_text("#!/bin/sh\n")
    (tmp_path / "upstart-job").chmod(0o755)
    (tmp_path / "init.d" / "galaxy").symlink_to(tmp_path / "upstart-job")
    assert _found() == ("upstart", "galaxy")


def test_a_configuration_that_cannot_be_read_is_named(host, tmp_path):
    path = host("supervisord", "supervisord.conf", "no section\n")
    with pytest.raises(ManagerError, match=str(path)):
        _found()
    with pytest.raises(ManagerError, match=r"gone.conf: no such"):
        _found(conf_file=str(tmp_path / "gone.conf"))
    host("supervisord", "supervisord.conf", f"[supervisord]\n[program:web]\ncommand=uwsgi --yaml {CONFIG}\n")
    with pytest.raises(ManagerError, match="no unix_http_server section"):
        _found()


def test_unknown_managers_and_services(host):
    host.program(f"[program:web]\ncommand=uwsgi --yaml {CONFIG}\n")
    with pytest.raises(ManagerError, match="Unknown process manager 'runit'; expected one of supervisord, systemd"):
        _found(manager="runit")
    with pytest.raises(ManagerError, match="Nothing like supervisord gone manages Galaxy here"):
        _found(manager="supervisord", service="gone")
    with pytest.raises(ManagerError, match="Nothing like gone manages"):
        _found(service="gone")
    assert _found(manager="sysvinit", service="gone") == ("sysvinit", "gone")


@pytest.mark.parametrize("where", ["file", "include"])
def test_a_configuration_that_others_can_write_is_not_used(host, tmp_path, where):
    """Whoever can write the configuration decides what root runs."""
    path = host.program("[include]\nfiles = conf.d/*.conf\n")
    extra = tmp_path / "supervisord" / "conf.d" / "x.conf"
    extra.parent.mkdir()
    extra.write_text(f"[program:galaxy]\ncommand=uwsgi --yaml {CONFIG}\n")
    assert _found() == ("supervisord", "galaxy")
    (path if where == "file" else extra).chmod(0o666)
    with pytest.raises(ManagerError, match=f"not used: {path if where == 'file' else extra}.*can write it"):
        _found()
    with pytest.raises(ManagerError, match="can write it"):
        _found(conf_file=str(path))
