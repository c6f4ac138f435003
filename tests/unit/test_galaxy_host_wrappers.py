import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

import galaxy_host_wrappers
from galaxy_host_process import Invocation


def _unwrap(*argv, cwd="/w", environment=None):
    return galaxy_host_wrappers.unwrap(Invocation(argv, "test", cwd, environment))


@pytest.mark.parametrize(
    ("argv", "inner", "cwd"),
    [
        (["uwsgi", "--yaml", "g.yml"], ["uwsgi", "--yaml", "g.yml"], "/w"),
        (
            ["/bin/sh", "-c", "cd /srv && uwsgi --yaml config/galaxy.yml"],
            ["uwsgi", "--yaml", "config/galaxy.yml"],
            "/srv",
        ),
        (["sh", "-ec", "cd a; cd ../b; exec uwsgi >>/var/log/x 2>&1 </dev/null"], ["uwsgi"], "/w/b"),
        (["bash", "--norc", "-o", "pipefail", "-c", "exec uwsgi 2>&1 | logger -t x"], ["uwsgi"], "/w"),
        (["sh", "-c", "cd $HOME/galaxy && uwsgi"], ["uwsgi"], None),
        (["sh", "-c", "cd; uwsgi"], ["uwsgi"], None),
        (["sh", "-c", "chdir a && (cd /x && cd b) && uwsgi"], ["uwsgi"], "/w/a"),
        (["sh", "-c", "cd a && (cd b; uwsgi)"], ["uwsgi"], "/w/a/b"),
        (["sh", "-c", "cd a # (cd b\nuwsgi"], ["uwsgi"], "/w/a"),
        (["sh", "-c", "case x in x) cd a;; esac; uwsgi"], ["case", "x", "in", "x"], "/w"),
        (["sh", "-c", "(uwsgi --ini 'a b.ini' &)"], ["uwsgi", "--ini", "a b.ini"], "/w"),
        (["sh", "-c", "# uwsgi is the server\nuwsgi --ini \\\n  x.ini # not y.ini"], ["uwsgi", "--ini", "x.ini"], "/w"),
        (["sh", "-c", "if true; then exec uwsgi; fi"], ["true"], "/w"),
        (["env", "-u", "A", "B=c", "uwsgi", "X=y"], ["uwsgi", "X=y"], "/w"),
        (["env", "-C", "/srv", "uwsgi"], ["uwsgi"], "/srv"),
        (["env", "-S", "uwsgi --ini x"], ["uwsgi", "--ini", "x"], "/w"),
        (["nice", "-n", "5", "ionice", "-c2", "stdbuf", "-oL", "uwsgi"], ["uwsgi"], "/w"),
        (["timeout", "-k", "5", "60", "uwsgi"], ["uwsgi"], "/w"),
        (["sudo", "-u", "galaxy", "A=b", "--", "uwsgi", "-i"], ["uwsgi", "-i"], "/w"),
        (["sudo", "-i", "-u", "galaxy", "uwsgi", "-i"], ["uwsgi", "-i"], None),
        (["su", "galaxy", "-c", "uwsgi --ini x"], ["uwsgi", "--ini", "x"], "/w"),
        (["su", "-", "galaxy", "-c", "uwsgi --ini x"], ["uwsgi", "--ini", "x"], None),
        (["runuser", "-u", "galaxy", "--", "uwsgi"], ["uwsgi"], "/w"),
        (["setpriv", "--reuid", "galaxy", "--clear-groups", "uwsgi"], ["uwsgi"], "/w"),
        (["sudo", "-nu", "galaxy", "-D", "/srv", "uwsgi"], ["uwsgi"], "/srv"),
        (["sudo", "-iu", "galaxy", "uwsgi"], ["uwsgi"], None),
        (["doas", "-u", "galaxy", "uwsgi"], ["uwsgi"], "/w"),
        (["sudo", "-ugalaxy", "--chdir=/srv", "uwsgi"], ["uwsgi"], "/srv"),
        (["env", "-", "A=b", "uwsgi"], ["uwsgi"], "/w"),
        (["env", "-iu", "X", "uwsgi"], ["uwsgi"], "/w"),
        (["env", "-vS", "uwsgi --ini x"], ["uwsgi", "--ini", "x"], "/w"),
        (["env", "--split-string=uwsgi --ini x"], ["uwsgi", "--ini", "x"], "/w"),
        (["su", "galaxy", "-lc", "uwsgi --ini x"], ["uwsgi", "--ini", "x"], None),
        (["su", "--command=uwsgi --ini x", "galaxy"], ["uwsgi", "--ini", "x"], "/w"),
        (["sg", "galaxy", "-c", "uwsgi --ini x"], ["uwsgi", "--ini", "x"], "/w"),
        (["flock", "-n", "/run/x", "-c", "uwsgi --ini x"], ["uwsgi", "--ini", "x"], "/w"),
        (["flock", "--timeout", "5", "/run/x", "uwsgi", "-c", "x"], ["uwsgi", "-c", "x"], "/w"),
        (["bash", "-euo", "pipefail", "-c", "trap '' HUP; uwsgi"], ["trap", "", "HUP"], "/w"),
        (["numactl", "--cpunodebind", "0", "-m", "0", "uwsgi"], ["uwsgi"], "/w"),
        (["systemd-run", "--scope", "-p", "MemoryMax=4G", "--working-directory=/srv", "uwsgi"], ["uwsgi"], "/srv"),
        (["conda", "run", "-n", "galaxy", "--cwd", "/srv", "uwsgi"], ["uwsgi"], "/srv"),
        (["conda", "activate", "uwsgi"], ["conda", "activate", "uwsgi"], "/w"),
        (["s6-setuidgid", "galaxy", "envdir", "/env", "uwsgi"], ["uwsgi"], "/w"),
        (["start-stop-daemon", "--start", "--exec=/bin/uwsgi", "-d", "/srv", "--", "-i"], ["/bin/uwsgi", "-i"], "/srv"),
        # a stop runs nothing
        (
            ["start-stop-daemon", "--stop", "--exec", "/bin/uwsgi"],
            ["start-stop-daemon", "--stop", "--exec", "/bin/uwsgi"],
            "/w",
        ),
        (["su", "galaxy", "--", "-c", "x"], ["su", "galaxy", "--", "-c", "x"], "/w"),
        # options behind the script's name belong to the script
        (["bash", "run.sh", "-c", "uwsgi"], ["bash", "run.sh", "-c", "uwsgi"], "/w"),
        (["nice"], ["nice"], "/w"),
        (["sh", "-c"], ["sh", "-c"], "/w"),
    ],
)
def test_the_command_inside(argv, inner, cwd):
    commands = _unwrap(*argv)
    assert (list(commands[0].argv), commands[0].cwd) == (inner, cwd)


def test_variables_that_the_script_and_the_definition_set():
    environment = {"ROOT": "/srv"}
    script = 'export G=$ROOT/galaxy; X=1 uwsgi --yaml "${G}/galaxy.yml" --set "$UNKNOWN"'
    (command,) = _unwrap("sh", "-c", script, environment=environment)
    assert command.argv == ("uwsgi", "--yaml", "/srv/galaxy/galaxy.yml", "--set", "$UNKNOWN")
    assert command.environment == {"ROOT": "/srv", "G": "/srv/galaxy", "X": "1"}
    assert environment == {"ROOT": "/srv"}
    assert _unwrap("sh", "-c", "uwsgi")[0].environment is None


def test_a_subshell_keeps_what_it_sets():
    first, second = _unwrap("sh", "-c", "export A=1; (A=2; export B=3; cd /x; a $A); b $A $B", environment={})
    assert (first.argv, first.cwd, first.environment) == (("a", "2"), "/x", {"A": "2", "B": "3"})
    assert (second.argv, second.cwd, second.environment) == (("b", "1", "$B"), "/w", {"A": "1"})


def test_env_takes_variables_away():
    for words in (["-u", "A"], ["--unset", "A"], ["--unset=A"]):
        (command,) = _unwrap("env", *words, "uwsgi", environment={"A": "1", "B": "2"})
        assert (command.argv, command.environment) == (("uwsgi",), {"B": "2"})


@pytest.mark.parametrize(
    "script",
    [
        "uwsgi --stats $A",
        "cd $A && uwsgi",
        "B=x$A; uwsgi $B",
        "sh -c 'uwsgi $A'",
        'sh -c "uwsgi $A"',
        'env -S "uwsgi $A"',
        "env --chdir=$A uwsgi",
        'su galaxy --command="uwsgi $A"',
    ],
)
def test_what_a_shell_filled_in_is_known(script):
    (command,) = _unwrap("sh", "-c", script, environment={"A": "secret"})
    (word,) = [word for word in (*command.argv, command.cwd) if "secret" in word]
    assert isinstance(word, galaxy_host_wrappers.Filled)
    assert "secret" in word.values[0]


@pytest.mark.parametrize(
    ("script", "variable"),
    [
        ("A=$A$A;" * 30 + "uwsgi $A", "x" * 100),
        ("uwsgi " + "$A " * 20_000, "x" * 60_000),
        ('sh -c "$A ";' * 5_000, 'sh -c "$A ";' * 5_000),
        ('sh -c "uwsgi ' + "$A " * 20_000 + '"', "x"),
        ("cd $A; uwsgi;" * 5_000, "x"),
    ],
)
def test_a_script_that_repeats_a_variable_has_an_end(script, variable):
    commands = _unwrap("sh", "-c", script, environment={"A": variable})
    words = [word for command in commands for word in (*command.argv, command.cwd or "")]
    values = {id(word.values): len(word.values) for word in words if isinstance(word, galaxy_host_wrappers.Filled)}
    assert sum(map(len, words)) + sum(values.values()) < 50_000_000


def test_a_python_with_options_alone_runs_no_program():
    assert galaxy_host_wrappers.program(("/usr/bin/python3", "-W", "error", "-u")) == ()


def test_several_commands_are_all_there():
    commands = _unwrap("sh", "-c", "install -d /run/x && uwsgi --ini x || echo failed; wait")
    assert [command.argv[0] for command in commands] == ["install", "uwsgi", "echo", "wait"]


def test_it_ends(monkeypatch):
    nested = ["sh", "-c", "uwsgi"]
    for _ in range(30):
        nested = ["env", *nested]
    assert _unwrap(*nested)
    assert _unwrap("sh", "-c", "uwsgi '") == []


@given(st.text(max_size=80))
def test_no_script_ends_in_an_exception(script):
    for command in _unwrap("sh", "-c", script):
        assert command.argv


@given(st.lists(st.sampled_from(["env", "sudo", "-u", "nice", "--", "-", "X=y", "sh", "-c", "", "timeout", "su"])))
def test_no_words_end_in_an_exception(words):
    assert isinstance(_unwrap(*words), list)


@pytest.mark.parametrize(
    "text",
    [
        "a\\ b 'c  d'e\"f\\\"g\\h\\\\\" '' ;;x>>y 2>&1&&z\n\n#w",
        '\'a\nb\' "c\n;d"\t|\r e=$(f "$g")',
        "a 'not closed",
        'a "not \\"closed',
        "ends with \\",
        "",
    ],
)
def test_text_is_split_as_by_shlex(text):
    lexer = shlex.shlex(text, posix=True, punctuation_chars="();<>|&\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, ""
    try:
        tokens = list(lexer)
    except ValueError:
        tokens = None
    assert galaxy_host_wrappers._tokens(text) == tokens
