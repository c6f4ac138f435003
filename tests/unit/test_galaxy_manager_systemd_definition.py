"""Unit files by systemd's rules (systemd.service(5), systemd.exec(5)). tests/functional/managers has a real systemd."""

import platform

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import galaxy_manager_systemd_definition
from galaxy_errors import ManagerError
from galaxy_manager_systemd_definition import Definition, require_instance, unescape


@pytest.fixture
def define(tmp_path):
    """A unit of one or more files, in order."""

    def define(*texts, name="galaxy", user=None):
        paths = []
        for number, text in enumerate(texts):
            paths.append(tmp_path / f"{number}.conf")
            paths[-1].write_text(text)
        return Definition(name, map(str, paths), user)

    return define


def _argv(definition):
    return [command.argv for command in definition.commands()]


@pytest.mark.parametrize(
    ("line", "argv"),
    [
        ("/bin/uwsgi --yaml x.yml", ["/bin/uwsgi", "--yaml", "x.yml"]),
        ("-/bin/uwsgi x", ["/bin/uwsgi", "x"]),
        ("+/bin/uwsgi x", ["/bin/uwsgi", "x"]),
        ("!!-:/bin/uwsgi $A", ["/bin/uwsgi", "$A"]),
        ("@/bin/uwsgi galaxy --yaml x", ["/bin/uwsgi", "--yaml", "x"]),
        ("-@/bin/uwsgi galaxy x", ["/bin/uwsgi", "x"]),
        ("- /bin/uwsgi x", ["/bin/uwsgi", "x"]),
        ("/bin/sh -c \"cd /srv && uwsgi --yaml 'a b'\"", ["/bin/sh", "-c", "cd /srv && uwsgi --yaml 'a b'"]),
        (
            "/bin/x ${A}/y $A $B $UNKNOWN $$A ${A}${B} $A/z",
            # the last word is a variable with the name A/z
            ["/bin/x", "one/y", "one", "t", "w", "$A", "onet w"],
        ),
        (
            "/bin/x %i %I %n %N %p %P %% %q",
            [
                *("/bin/x", "srv-x\\x2dy", "srv/x-y", "gal-axy@srv-x\\x2dy.service", "gal-axy@srv-x\\x2dy"),
                *("gal-axy", "gal/axy", "%", "%q"),
            ],
        ),
        (
            r"""/bin/x a\x20b "c\td" 'it\'s' e"f g" \u00e9\s\101 \q \$A ';' \;""",
            ["/bin/x", "a b", "c\td", "it's", "ef g", "é A", "\\q", "\\$A", ";", ";"],
        ),
        ("/bin/x 'unclosed", ["/bin/x", "unclosed"]),
    ],
)
def test_command_lines(define, line, argv):
    text = f'[Service]\nEnvironment=A=one "B=t w"\nExecStart={line}\n'
    assert _argv(define(text, name="gal-axy@srv-x\\x2dy")) == [tuple(argv)]


def test_only_exec_start_of_the_service_section(define):
    definition = define(
        "# ExecStart=/bin/a\n; ExecStart=/bin/b\n[Unit]\nExecStart=/bin/c\nDescription=ExecStart=/bin/d\n"
        "[Service]\nExecStartPre=/bin/e\nExecStart=/bin/f \\\n  # between\n  --x\\\n  y\nExecStop=/bin/g\n"
        "[Install]\nExecStart=/bin/h\n"
    )
    assert _argv(definition) == [("/bin/f", "--x", "y")]


def test_drop_ins_add_and_reset(define):
    first = "[Service]\nType=oneshot\nExecStart=/bin/a ; /bin/b x\nEnvironment=A=1 B=2\nWorkingDirectory=/a\n"
    assert _argv(define(first)) == [("/bin/a",), ("/bin/b", "x")]
    assert _argv(define(first, "[Service]\nExecStart=/bin/c\n")) == [("/bin/a",), ("/bin/b", "x"), ("/bin/c",)]
    reset = define(
        first, "[Service]\nExecStart=\nExecStart=/bin/c $A $B\nEnvironment=\nEnvironment=B=3\nWorkingDirectory=/b\n"
    )
    (command,) = reset.commands()
    assert command.argv == ("/bin/c", "3")
    assert (command.cwd, command.environment, command.source) == ("/b", {"B": "3"}, "galaxy.service")


@pytest.mark.parametrize(
    ("text", "user", "cwd"),
    [
        ("", None, "/"),
        ("WorkingDirectory=-/srv/x", None, "/"),
        ("WorkingDirectory=-/usr", None, "/usr"),
        ("WorkingDirectory=/srv/%i", None, "/srv/one"),
        ("WorkingDirectory=~", None, "/root"),
        ("WorkingDirectory=~\nUser=nobody", None, "/nonexistent"),
        ("WorkingDirectory=~\nUser=65534", None, "/nonexistent"),
        ("WorkingDirectory=~\nUser=no-such-user", None, None),
        ("WorkingDirectory=relative", None, None),
        ("WorkingDirectory=%h/x", "root", "/root/x"),
        ("", "root", "/root"),
        # its manager is that of a user whom this machine does not know
        ("WorkingDirectory=/srv/%u", "no-such-user", "/srv/%u"),
    ],
)
def test_working_directories(define, text, user, cwd):
    definition = define(f"[Service]\nExecStart=/bin/x\n{text}\n", name="galaxy@one", user=user)
    assert definition.commands()[0].cwd == cwd


def test_environment_files(define, tmp_path):
    (tmp_path / "a.env").write_text("# comment\n; other\nA=plain text \nB='quo ted' \nexport=x\nC=\\\n1\nbad line\n")
    (tmp_path / "b.env").write_text("A=later\n")
    text = f"[Service]\nExecStart=/bin/x\nEnvironment=A=unit Z=z\nEnvironmentFile={tmp_path}/a.env\n"
    text += f"EnvironmentFile=-{tmp_path}/[b].env\nEnvironmentFile=-/none\nUnsetEnvironment=Z\n"
    assert define(text).commands()[0].environment == {"A": "unit"}
    environment = define(text).commands(secrets=True)[0].environment
    assert environment == {"A": "later", "B": "quo ted", "export": "x", "C": "1"}


def test_a_user_makes_nobody_search_the_machine(define, tmp_path, monkeypatch):
    (tmp_path / "a.env").write_text("A=1\n")
    text = f"[Service]\nExecStart=/bin/x\nEnvironmentFile=-{tmp_path}/*.env\nEnvironmentFile=-/proc/*/task/*/fd/*\n"
    text += f"EnvironmentFile={tmp_path}/a.env\n"
    monkeypatch.delattr(galaxy_manager_systemd_definition.glob, "glob")
    assert define(text, user="root").commands(secrets=True)[0].environment == {"A": "1"}


def test_specifiers_of_the_machine(define):
    (command,) = define("[Service]\nExecStart=/bin/x %H %t %S %u %U %h %j\n", name="a-b").commands()
    assert command.argv == ("/bin/x", platform.node(), "/run", "/var/lib", "root", "0", "/root", "b")


@pytest.mark.parametrize(("text", "plain"), [("srv-galaxy", "srv/galaxy"), (r"a\x2db", "a-b"), ("0", "0"), ("", "")])
def test_unescape(text, plain):
    assert unescape(text) == plain


def test_a_template_is_refused():
    require_instance("galaxy@0")
    with pytest.raises(ManagerError, match="galaxy@ is a template"):
        require_instance("galaxy@")


def test_a_file_that_is_gone_is_empty(tmp_path):
    assert Definition("x", [str(tmp_path / "gone")]).commands() == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.one_of(st.text(max_size=30), st.sampled_from(["[Service]", "ExecStart=", "ExecStart=@", "\\", "%"])))
)
def test_whatever_a_file_holds_ends_in_commands(define, lines):
    for command in define(
        "[Service]\n" + "\n".join(lines).replace("\0", "").encode("utf-8", "replace").decode()
    ).commands():
        assert command.argv
