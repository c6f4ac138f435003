import json
import os
import pathlib
import shlex
import stat

import pytest
from supervisor.options import ServerOptions, UnhosedConfigParser
from support.attacker import GALAXY, make, public_directory, run_as

import galaxy_definition
from galaxy_definition import File
from galaxy_errors import DefinitionError, FileError

GIVEN = {"config": "/srv/galaxy/config/galaxy.yml", "uwsgi": "/srv/galaxy/venv/bin/uwsgi"}
PROGRAM = {**GIVEN, "program_file": "/etc/supervisor/conf.d/galaxy.conf"}
UNIT = "/etc/systemd/system/galaxy.service"


@pytest.fixture
def place():
    with public_directory() as path:
        yield pathlib.Path(path)


def unit(**more):
    return galaxy_definition.systemd_unit({**GIVEN, **more})


def program(**more):
    return galaxy_definition.supervisord_program({**PROGRAM, **more})


def parse(text):
    """A program file as supervisord itself reads it."""
    options = ServerOptions()
    options.here = "/etc/supervisor/conf.d"
    options.environ_expansions = {"ENV_PATH": "/bin"}
    parser = UnhosedConfigParser()
    parser.read_string(text)
    parser.expand_here(options.here)
    (section,) = parser.sections()
    options.configfile = "x"
    (process,) = options.processes_from_section(parser, section, section.partition(":")[2])
    return process


class TestUnit:
    def test_text(self):
        assert unit(user="www", group=33, root="/srv/galaxy", stop_timeout=90, mounts=["/export"]) == {
            f"{UNIT}.environment": None,
            UNIT: File(
                0o644,
                """# Managed by Salt (formula galaxy).
[Unit]
Description=Galaxy
After=network.target remote-fs.target
RequiresMountsFor=/export
AssertPathIsMountPoint=/export

[Service]
Type=simple
User=www
Group=33
WorkingDirectory=/srv/galaxy
ExecStart=/srv/galaxy/venv/bin/uwsgi --yaml /srv/galaxy/config/galaxy.yml
# SIGTERM reloads uWSGI unless it has die-on-term; SIGINT ends it
KillSignal=SIGINT
KillMode=mixed
TimeoutStopSec=90
Restart=on-failure

[Install]
WantedBy=multi-user.target
""",
            ),
        }

    def test_the_environment_has_a_file_of_its_own(self):
        files = unit(environment={"B": "hunter2", "A": 1})
        assert files[f"{UNIT}.environment"] == File(
            0o600, '# Managed by Salt (formula galaxy).\nA="1"\nB="hunter2"\n', secret=True
        )
        assert "hunter2" not in files[UNIT].content
        assert f"EnvironmentFile={UNIT}.environment\n" in files[UNIT].content
        # the environment comes first, because the unit names it
        assert list(files) == [f"{UNIT}.environment", UNIT]

    def test_defaults_and_forms(self):
        text = unit(config="/srv/galaxy.ini", service="g-1.service")["/etc/systemd/system/g-1.service"].content
        assert "User=galaxy\nGroup=galaxy\nWorkingDirectory=/srv\n" in text
        assert "--ini /srv/galaxy.ini\n" in text
        assert "RequiresMountsFor" not in text


class TestProgram:
    def test_text(self):
        assert program(user="www", root="/srv/galaxy", autostart=False) == {
            PROGRAM["program_file"]: File(
                0o644,
                """; Managed by Salt (formula galaxy).
[program:galaxy]
command = /srv/galaxy/venv/bin/uwsgi --yaml /srv/galaxy/config/galaxy.yml
directory = /srv/galaxy
user = www
autostart = false
autorestart = true
stopsignal = INT
stopwaitsecs = 60
killasgroup = true
redirect_stderr = true
""",
            )
        }

    @pytest.mark.parametrize(
        "value",
        [
            "plain",
            "",
            "a b",
            "50%",
            "%(ENV_PATH)s",
            "%%",
            'say "x" now',
            "it's so",
            "a,b=c",
            "#a",
            "a;b",
            "\\n\\",
            "ü",
            "tab\tx",
        ],
    )
    def test_values_arrive(self, value):
        (file,) = program(environment={"GALAXY_X": value, "OTHER": "o"}, user="root").values()
        assert (file.mode, file.secret) == (0o600, True)
        assert parse(file.content).environment == {"GALAXY_X": value, "OTHER": "o"}

    def test_paths_arrive(self, place):
        root = place / "50% of $x ü"
        root.mkdir()
        (file,) = program(root=str(root), config=f"{root}/g.yml", user="root", log=f"{root}/%h.log").values()
        process = parse(file.content)
        assert process.directory == str(root)
        assert process.stdout_logfile == f"{root}/%h.log"
        # supervisord splits the command in the same way (Subprocess.get_execv_args)
        assert shlex.split(process.command)[1:] == ["--yaml", f"{root}/g.yml"]

    def test_autostart(self):
        with pytest.raises(DefinitionError, match="autostart is not true or false"):
            program(autostart="yes")

    @pytest.mark.parametrize("value", ["'a'", '"a', "a'", 'it\'s "x" y', "a #b", "a ;b", "a\u00a0#b", "%(here)s/x"])
    def test_what_supervisord_cannot_read(self, value):
        with pytest.raises(DefinitionError, match="environment:GALAXY_X") as caught:
            program(environment={"GALAXY_X": value})
        assert value not in str(caught.value)
        assert unit(environment={"GALAXY_X": value})


@pytest.mark.parametrize("build", [unit, program])
class TestBadInput:
    @pytest.mark.parametrize(
        ("more", "key"),
        [
            ({"environment": {"A": "TOPSECRET\nUser=root"}}, "environment:A has a control character"),
            ({"environment": {"A": "TOPSECRET\n\n"}}, "environment:A has a control character"),
            ({"environment": {"A": "TOPSECRET\0"}}, "environment:A has a control character"),
            ({"environment": {"A": "TOPSECRET\r"}}, "environment:A has a control character"),
            ({"environment": {"A": "TOPSECRET\x7f"}}, "environment:A has a control character"),
            ({"environment": {"A": "TOPSECRET\ud800"}}, "environment:A has a control character"),
            ({"environment": {"A": "TOPSECRET\uffff"}}, "environment:A has a control character"),
            ({"environment": {"A": "TOPSECRET" * 20000}}, "environment:A is longer"),
            ({"environment": {"A": None}}, "environment:A is a NoneType; give a text"),
            ({"environment": {"A": ["TOPSECRET"]}}, "environment:A is a list; give a text"),
            ({"environment": {"A B": "TOPSECRET"}}, "environment has 'A B'; a name has letters"),
            ({"environment": {"A\nB": "TOPSECRET"}}, "environment has 'A\\nB'; a name has letters"),
            ({"environment": {"": "TOPSECRET"}}, "environment has ''; a name has letters"),
            ({"environment": {1: "TOPSECRET"}}, "environment has 1; a name has letters"),
            ({"environment": {1: "x", "a": "x"}}, "environment has 1; a name has letters"),
            ({"environment": ["A=TOPSECRET"]}, "environment is not a mapping"),
            ({"service": "a:b"}, "service is no name"),
            ({"service": "../../x"}, "service is no name"),
            ({"service": "a\n[Service]"}, "service is no name"),
            ({"service": 7}, "service is no name"),
            ({"user": "a b"}, "user is no name"),
            ({"user": "galaxy\nx"}, "user is no name"),
            ({"user": ""}, "user is no name"),
            ({"config": None}, "config is not an absolute path"),
            ({"config": "galaxy.yml"}, "config is not an absolute path"),
            ({"config": "/srv/x\nUser=root"}, "config has a control character"),
            ({"uwsgi": None}, "uwsgi is not an absolute path"),
            ({"uwsgi": "/bin/uwsgi\\"}, "uwsgi has a control character, quote or backslash"),
            ({"uwsgi": "/bin/'uwsgi'"}, "uwsgi has a control character, quote or backslash"),
            ({"mounts": ["/srv", "export"]}, "mounts is not an absolute path"),
            ({"mounts": "/export"}, "mounts is not a list"),
            ({"root": "/srv /"}, "root has a control character, quote or backslash, or a blank"),
            ({"config": "/srv /g.yml"}, "config has a control character, quote or backslash, or a blank"),
            ({"root": "/srv "}, "root has a control character, quote or backslash, or a blank"),
            ({"stop_timeout": "soon"}, "stop_timeout is not a number"),
            ({"stop_timeout": 0}, "stop_timeout is not a number"),
            ({"stop_timeout": float("nan")}, "stop_timeout is not a number"),
            ({"stop_timeout": float("inf")}, "stop_timeout is not a number"),
            ({"log": "galaxy.log"}, "log is not an absolute path"),
        ],
    )  # fmt: skip
    def test_it_is_named_and_never_shown(self, build, more, key):
        with pytest.raises(DefinitionError) as caught:
            build(**more)
        assert str(caught.value).startswith(key)
        assert "TOPSECRET" not in str(caught.value)

    def test_one_newline_at_the_end_is_left_by_yaml(self, build):
        (secret,) = (file for file in build(environment={"A": "TOPSECRET\n"}).values() if file and file.secret)
        assert "TOPSECRET\n" not in secret.content
        assert "TOPSECRET" in secret.content


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
@pytest.mark.parametrize("build", [unit, program])
class TestLog:
    def test_roots_place(self, build, place):
        for file in build(log=f"{place}/galaxy.log").values():
            assert file is None or f"{place}/galaxy.log\n" in file.content

    def test_a_link_in_a_place_of_galaxys(self, build, place):
        """An attack: a log of galaxy's choice becomes a file of root's in /etc/cron.d."""
        make(place / "galaxy", GALAXY)
        run_as(GALAXY, os.symlink, "/etc/cron.d/x", place / "galaxy" / "galaxy.log")
        make(place / "shared", 0, 0o1777)
        make(place / "group", 0, 0o775, gid=GALAXY)
        (place / "link.log").symlink_to(place / "galaxy" / "galaxy.log")
        for name in (
            "galaxy/galaxy.log",
            "galaxy/new.log",
            "galaxy/new/x.log",
            "shared/x.log",
            "group/x.log",
            "link.log",
        ):
            with pytest.raises(DefinitionError, match=r"log cannot be .*, which root would open: .*logto"):
                build(log=str(place / name))
        with pytest.raises(DefinitionError, match="no such file or directory"):
            build(log=str(place / "gone" / "x.log"))
        # the volume is not mounted yet, so the directory still belongs to root
        for name in ("x.log", "deeper/x.log"):
            with pytest.raises(DefinitionError, match=rf"on {place} other users can put links\. Use uWSGI's logto"):
                build(log=str(place / name), mounts=["/srv", str(place)])
        assert build(log=f"{place}/x.log", mounts=[f"{place}/x", f"{place}x"])

    def test_below_what_others_mount(self, build, place):
        (place / "export").mkdir()
        (place / "link").symlink_to(place / "export")
        for name in ("export/x.log", "none/../export/x.log", "link/x.log"):
            with pytest.raises(
                DefinitionError, match=rf"log cannot be .*: on {place}/export other users can put links"
            ):
                build(log=f"{place}/{name}", others=[f"{place}/export/"])
        with pytest.raises(DefinitionError, match=rf"on {place}/link other users can put links"):
            build(log=f"{place}/export/x.log", others=[f"{place}/link"])
        for file in build(log=f"{place}/x.log", others=[f"{place}/export"]).values():
            # a mount point of another Galaxy is no reason to wait
            assert file is None or "export" not in file.content


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
class TestApply:
    def test_first_second_and_test(self, place):
        path, secret = str(place / "new" / "unit"), str(place / "new" / "unit.environment")
        files = {secret: File(0o600, "A=TOPSECRET\n", secret=True), path: File(0o644, "one\n")}
        expected = {secret: {"diff": "new file", "mode": "0600"}, path: {"diff": "new file", "mode": "0644"}}
        assert galaxy_definition.apply(files, test=True) == expected
        assert not (place / "new").exists()
        assert galaxy_definition.apply(files) == expected
        assert stat.S_IMODE(os.stat(secret).st_mode) == 0o600
        for test in (True, False):
            assert galaxy_definition.apply(files, test) == {}
        files[path] = File(0o644, "two\n")
        files[secret] = File(0o600, "A=TOPSECRET2\n", secret=True)
        done = galaxy_definition.apply(files)
        assert done == {
            secret: {"diff": "changed; not shown, because it may hold secrets"},
            path: {"diff": f"--- {path}\n+++ {path}\n@@ -1 +1 @@\n-one\n+two"},
        }
        assert "TOPSECRET" not in json.dumps(done)
        assert pathlib.Path(path).read_text() == "two\n"
        assert galaxy_definition.apply({secret: None, path: files[path]}) == {secret: {"diff": "removed"}}
        assert galaxy_definition.apply({secret: None}) == {}

    def test_mode_and_owner_are_mended(self, place):
        path = make(place / "unit", GALAXY, 0o666, b"one\n")
        assert galaxy_definition.apply({path: File(0o644, "one\n")}) == {path: {"mode": "0644"}}
        status = os.stat(path)
        assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o644, 0)

    def test_the_unit_of_before_had_its_environment_in_it(self, place):
        path = str(place / "unit")
        for mode in (0o600, 0o644):
            pathlib.Path(path).write_text('[Service]\nEnvironment="A=TOPSECRET"\nenvironment = A="TOPSECRET"\n')
            os.chmod(path, mode)
            changes = galaxy_definition.apply({path: File(0o644, "[Service]\n")}, test=True)
            assert changes[path]["diff"]
            assert "TOPSECRET" not in json.dumps(changes)

    def test_a_link_is_replaced(self, place):
        precious = make(place / "precious", 0, 0o600, b"precious")
        os.symlink(precious, place / "unit")
        assert galaxy_definition.apply({str(place / "unit"): File(0o644, "x\n")})
        assert pathlib.Path(precious).read_bytes() == b"precious"

    def test_not_below_a_directory_of_galaxys(self, place):
        make(place / "galaxy", GALAXY)
        make(place / "galaxy" / "there", 0, 0o644, b"x")
        for name in ("unit", "new/unit", "there"):
            for content in (File(0o644, "y\n"), None):
                if name == "there" or content:
                    for test in (True, False):
                        with pytest.raises(FileError, match="user 4001"):
                            galaxy_definition.apply({str(place / "galaxy" / name): content}, test)
        assert (place / "galaxy" / "there").read_bytes() == b"x"

    def test_removed_whatever_else_the_settings_say(self, place):
        make(place / "galaxy", GALAXY)
        server = {"manage_service": True, "manager": "supervisord", "storages": [], "autostart": True, **PROGRAM}
        server |= {"program_file": f"{place}/conf.d/galaxy.conf", "user": "root", "environment": {"A": "TOPSECRET"}}
        assert galaxy_definition.write(server) == {server["program_file"]: {"diff": "new file", "mode": "0600"}}
        wrong = {**server, "log": f"{place}/galaxy/x.log", "environment": {"A": "a\nb"}, "uwsgi": None}
        with pytest.raises(DefinitionError):
            galaxy_definition.write(wrong)
        for test in (True, False):
            assert galaxy_definition.write(wrong, absent=True, test=test) == {
                server["program_file"]: {"diff": "removed"}
            }
        assert os.listdir(place / "conf.d") == []
        assert galaxy_definition.write(wrong, absent=True) == {}
