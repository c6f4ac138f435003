import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

import galaxy_host_wrappers
import galaxy_uwsgi_command
from galaxy_host_process import Invocation


def _parse(words, cwd="/srv/galaxy", environment=None):
    argv = tuple(shlex.split(words) if isinstance(words, str) else words)
    return galaxy_uwsgi_command.parse(Invocation(argv, "galaxy.service", cwd, environment))


def _options(words, **more):
    return [(name, value) for name, value, _ in _parse(words, **more).options]


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("uwsgi --stats :1 --master", [("stats", ":1"), ("master", None)]),
        ("uwsgi --stats=:1 --master --stats=", [("stats", ":1"), ("master", None), ("stats", "")]),
        ("uwsgi -MTp 3 -s:1 -s :2 -d/x.log", [("master", None), ("enable-threads", None), ("processes", "3"),
                                                ("socket", ":1"), ("socket", ":2"), ("daemonize", "/x.log")]),
        ("uwsgi -C -C666 --chmod-socket x.ini", [("chmod-socket", None), ("chmod-socket", "666"),
                                                 ("chmod-socket", None)]),
        ("uwsgi --need-app --die-on-term --mule", [("need-app", None), ("die-on-term", None), ("mule", None)]),
        ("uwsgi --stats --master -H -p", [("stats", "--master"), ("home", "-p")]),
        ("uwsgi --unknown x --stats", [("unknown", "x"), ("stats", "")]),
        ("uwsgi --process 4 --stats-se=:1 --die-on-t --thread 2 --http-to x", [("processes", "4"),
                        ("stats-server", ":1"), ("die-on-term", None), ("thread", "2"), ("http-to", "x")]),
        ("uwsgi -", []),
    ],
)  # fmt: skip
def test_options_by_getopts_rules(words, options):
    assert _options(words) == options


def test_bare_words_come_after_all_options_and_names_of_processes_do_not_count():
    command = _parse("uwsgi a.ini --stats :1 b.yml -- --c.ini [uWSGI]")
    assert [value for value, _ in command.files] == ["a.ini", "b.yml", "--c.ini"]
    assert [name for name, _, _ in command.options] == ["stats"]


@pytest.mark.parametrize(
    "words",
    [
        "/usr/bin/uwsgi --stats :1",
        "uwsgi-core --stats :1",
        "/opt/uwsgi_python3 --stats :1",
        "/srv/venv/bin/pyuwsgi --stats :1",
        "/srv/venv/bin/python3.9 /srv/venv/bin/uwsgi --stats :1",
        "python -u -W ignore /srv/venv/bin/uwsgi --stats :1",
        "python -m pyuwsgi --stats :1",
        "env A=b uwsgi --stats :1",
        "/usr/bin/env -i -u HOME PATH=/bin nice -n 5 uwsgi --stats :1",
        "env -S 'A=b uwsgi' --stats :1",
        "A=b C=d uwsgi --stats :1",
        "sudo -u uwsgi -g uwsgi uwsgi --stats :1",
        "/usr/bin/sudo --user uwsgi -- /usr/bin/uwsgi --stats :1",
        "setpriv --reuid uwsgi --clear-groups uwsgi --stats :1",
        "tini -- uwsgi --stats :1",
        "/bin/sh -c 'exec uwsgi --stats :1'",
        "bash -lc '. venv/bin/activate; uwsgi --stats :1'",
        "sh -ec 'umask 022 && ulimit -n 4096 && A=b exec uwsgi --stats :1 >>log 2>&1 </dev/null'",
        "sh -c 'if true; then exec -a galaxy uwsgi --stats :1; fi'",
        "sh -c 'uwsgi --stats :1 | tee log'",
        "sh -c 'trap \"\" HUP; uwsgi --stats :1'",
        "sh -c 'uwsgi \\\n --stats :1'",
        "sudo bash -c 'env A=b sh -c \"uwsgi --stats :1\"'",
        "su galaxy -s /bin/sh -c 'uwsgi --stats :1'",
        "runuser -u galaxy -- uwsgi --stats :1",
        "sh -c 'cd /x && (exec python /venv/bin/uwsgi --stats :1)'",
        "python /srv/run_uwsgi.py --stats :1",
        "start-galaxy -u uwsgi uwsgi --stats :1",
        "start-galaxy -u uwsgi sh -c 'cd /x && exec uwsgi --stats :1'",
        "start-galaxy --log uwsgi.log -- python3 -m pyuwsgi --stats :1",
    ],
)
def test_words_before_uwsgi(words):
    assert _options(words) == [("stats", ":1")]


@pytest.mark.parametrize(
    "words",
    [
        "python lib/galaxy/main.py -c uwsgi.yml --server-name=handler0",
        "python -m http.server --stats :1",
        "gunicorn --stats :1",
        "sh run.sh --daemon",
        "sh -c 'tail -f /var/log/uwsgi.log'",
        "sh -c 'echo \"unclosed'",
        "bash",
        "env",
        "sudo -u uwsgi tail -f uwsgi.log --stats x",
        "/bin/cat /etc/uwsgi.ini --stats x",
        "python start.py uwsgi --stats :1",
        "",
    ],
)
def test_words_that_start_no_uwsgi(words):
    command = _parse(words)
    assert not command.starts
    assert command.options == command.files == []


def test_a_uwsgi_that_goes_by_another_name_is_known_by_the_file_that_it_names():
    assert _options("galaxy-web --stats :1 --yaml galaxy.yml") == [("stats", ":1"), ("yaml", "galaxy.yml")]


@pytest.mark.parametrize(
    ("words", "cwd", "expected"),
    [
        ("sh -c 'cd config && exec uwsgi'", "/srv/galaxy", "/srv/galaxy/config"),
        ("sh -c 'cd /x; cd ../y; uwsgi'", "/srv/galaxy", "/y"),
        ("sh -c 'cd config && uwsgi'", None, None),
        ("sh -c 'cd /x && uwsgi'", None, "/x"),
        ("sh -c 'cd $(dirname $0) && uwsgi'", "/srv/galaxy", None),
        ("sh -c 'cd ~galaxy && uwsgi'", "/srv/galaxy", None),
        ("env -C /x uwsgi", "/srv/galaxy", "/x"),
        ("env --chdir=x uwsgi", "/srv/galaxy", "/srv/galaxy/x"),
        ("sh -c '(cd /x; true); uwsgi'", "/srv/galaxy", "/srv/galaxy"),
        ("sh -c 'cd /x && (cd y && uwsgi)'", "/srv/galaxy", "/x/y"),
    ],
)
def test_where_it_starts(words, cwd, expected):
    assert _parse(words, cwd=cwd).cwd == expected


def test_variables_in_front():
    environment = {"HOME": "/", "X": "y"}
    words = "env X=z sh -c 'export A=1; B=$HOME/b C=\"$X\" uwsgi --ini ${HOME}/$UNSET/x.ini --stats $A'"
    command = _parse(words, environment=environment)
    assert command.environment == {"HOME": "/", "X": "z", "A": "1", "B": "//b", "C": "z"}
    # a value from the environment is marked as secret, unless it is an existing directory
    assert command.options == [("ini", "//$UNSET/x.ini", False), ("stats", "1", True)]
    assert environment == {"HOME": "/", "X": "y"}
    # without an environment, only the variables that the script itself sets are known
    unknown = _parse(words)
    assert unknown.options == [("ini", "${HOME}/$UNSET/x.ini", False), ("stats", "1", True)]
    assert unknown.environment is None
    assert _parse("env -i X=z uwsgi", environment=environment).environment == {"X": "z"}
    assert _parse("env -u X uwsgi", environment=environment).environment == {"HOME": "/"}


@pytest.mark.parametrize(
    "script", ["uwsgi --stats=$A", "uwsgi --stats $A", "uwsgi -s$A", "uwsgi $A", "sh -c 'uwsgi --stats $A'"]
)
def test_a_value_of_the_environment_stays_marked_in_the_commands_of_a_definition(script):
    given = Invocation(("sh", "-c", f'sh -c "{script}"'), "galaxy.service", "/", {"A": "hvs.secr\udcfft"})
    (inner,) = galaxy_host_wrappers.unwrap(given)
    for command in (galaxy_uwsgi_command.parse(given), galaxy_uwsgi_command.parse(inner)):
        assert [secret for *_, secret in (*command.options, *command.files)] == [True]


def test_a_directory_that_may_be_a_secret_is_not_known():
    assert _parse("sh -c 'cd $A && uwsgi'", environment={"A": "hvs.secret"}).cwd is None
    assert _parse("sh -c 'cd $A && uwsgi'", environment={"A": "/"}).cwd == "/"


def test_the_values_of_a_script_are_looked_at_once_for_all_of_its_words(monkeypatch):
    asked = []
    monkeypatch.setattr(galaxy_uwsgi_command, "is_private", lambda value: asked.append(value))
    variables = {f"A{index}": f"/tmp/{index}" for index in range(99)}
    script = f"uwsgi {' '.join(map('${}'.format, variables))} {'x ' * 1000}"
    command = _parse(["sh", "-c", f'sh -c "{script}"'], environment=variables)
    assert len(command.files) == 1099
    assert asked == list(variables.values())


def test_wrappers_have_an_end():
    script = "uwsgi --stats :1"
    for _ in range(6):
        script = f"sh -c {shlex.quote(script)}"
    assert _options(["sh", "-c", script]) == []
    assert _options(["env"] * 5000 + ["uwsgi"]) == []
    assert len(_options(["uwsgi"] + ["-M"] * 100_000)) < 20_000


_word = st.one_of(
    st.sampled_from(
        ["uwsgi", "sh", "-c", "env", "-S", "python", "-m", "--", "--stats", "-p", "sudo", "-u", "su", "A=b"]
    ),
    st.sampled_from(["cd x && uwsgi", "'", "exec -a", "uwsgi --ini $A >", "-ic", "${A}", "[x", "-", "--=", "--x="]),
    st.text(max_size=30),
)


@given(st.lists(_word, max_size=12))
def test_any_words_are_read(words):
    command = _parse(words, environment={"A": "uwsgi -M"})
    assert all(isinstance(name, str) for name, _, _ in command.options)
