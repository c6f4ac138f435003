"""The order of the options, whose files are read, what an environment may say, and the limits of each part."""

import os
import pathlib
import socket
import subprocess
import sys

import pytest
from support.attacker import GALAXY, make, public_directory

import galaxy_uwsgi_config
import galaxy_uwsgi_options
from galaxy_errors import ConfigError
from galaxy_host_process import Invocation

SECRET = "hvs.TOPSECRET"


@pytest.fixture
def write(tmp_path):
    def run(name, text):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, newline="")
        return str(path)

    return run


def _invocation(*words, cwd=None, environment=None, **more):
    return Invocation(("uwsgi", *words), "galaxy.service", cwd, environment, **more)


def _pairs(path, invocation=None):
    options = galaxy_uwsgi_options.collect(path, invocation).options
    return [(option.key, option.value) for option in options if option.key not in ("yaml", "ini")]


class TestOrder:
    def test_a_configuration_that_no_word_names_is_read_first(self, write, tmp_path):
        path, other = write("galaxy.yml", "uwsgi:\n  stats: :1\n"), write("other.ini", "[uwsgi]\nstats = :2\n")
        assert _pairs(path, _invocation("--stats", ":3")) == [("stats", ":1"), ("stats", ":3")]
        assert _pairs(path, _invocation("--ini", other)) == [("stats", ":1"), ("stats", ":2")]
        assert _pairs(path, _invocation("--yaml", path, "--stats", ":3")) == [("stats", ":1"), ("stats", ":3")]
        assert _pairs(path, _invocation("--stats", ":3", "--yaml", path)) == [("stats", ":3"), ("stats", ":1")]
        assert _pairs(path, _invocation(path, "--stats", ":3")) == [("stats", ":3"), ("stats", ":1")]

    @pytest.mark.parametrize("how", ["absolute", "relative", "by a link", "without a directory", "its own variable"])
    def test_however_a_word_names_it(self, write, tmp_path, how):
        path = write("config/galaxy.yml", "uwsgi:\n  stats: :1\n")
        (tmp_path / "link.yml").symlink_to(path)
        word = {"absolute": path, "by a link": f"{tmp_path}/link.yml"}.get(how, "config/galaxy.yml")
        cwd = None if how == "without a directory" else str(tmp_path)
        words = ["--stats", ":3"] if how == "its own variable" else ["--stats", ":3", "--yaml", word]
        environment = {"UWSGI_YAML": path} if how == "its own variable" else {}
        options = galaxy_uwsgi_options.collect(path, _invocation(*words, cwd=cwd, environment=environment))
        pairs = [(option.value, option.source) for option in options.options if option.key == "stats"]
        # if only a variable names the file, the file comes before the words
        order = [(":3", "galaxy.service"), (":1", f"{path}:2")]
        assert pairs == (order[::-1] if how == "its own variable" else order)

    def test_words_without_a_file_and_a_file_without_a_section(self, write):
        config = galaxy_uwsgi_config.read(None, _invocation("--stats", ":1", "--master"))
        assert (str(config.stats.value), config.path) == (":1", None)
        path = write("galaxy.yml", "galaxy:\n  brand: x\n")
        config = galaxy_uwsgi_config.read(path, _invocation("--yaml", path, "--stats", ":1"))
        assert str(config.stats.value) == ":1"
        assert config.unusable == ()
        assert "no uwsgi: section" in str(config.doubts[0].value)
        with pytest.raises(ConfigError, match="no uwsgi: section"):
            galaxy_uwsgi_config.read(path, _invocation("--yaml", path))
        with pytest.raises(ConfigError, match="No Galaxy configuration is known"):
            galaxy_uwsgi_config.read(None)

    def test_a_file_of_its_words_that_cannot_be_read_hides_nothing(self, write, tmp_path):
        path = write("galaxy.yml", "uwsgi:\n  stats: :1\n")
        words = ["--ini", "/no/such.ini", "--xml", "x.xml", "--json", "x.json", "--ini", "exec://touch /x", "x.conf"]
        config = galaxy_uwsgi_config.read(path, _invocation(*words, "--yaml", "-", cwd=str(tmp_path)))
        assert str(config.stats.value) == ":1"
        texts = [str(setting.value) for setting in config.unusable]
        assert len(texts) == 6
        assert "no such configuration file" in texts[0]
        assert all("only INI and YAML" in texts[index] for index in (1, 2, 5))
        assert all("only uWSGI itself can read that" in texts[index] for index in (3, 4))

    def test_a_configuration_itself_in_another_language(self, write):
        with pytest.raises(ConfigError, match=r"galaxy\.xml: has no .*section"):
            galaxy_uwsgi_config.read(write("galaxy.xml", "<uwsgi><stats>:1</stats></uwsgi>"))
        with pytest.raises(ConfigError, match=r"galaxy\.json: has no .*section"):
            galaxy_uwsgi_config.read(write("galaxy.json", '{"uwsgi": {"stats": ":1"}}'))

    def test_relative_files_from_where_it_starts(self, write, tmp_path):
        write("here/common.ini", "[uwsgi]\nstats = :2\n")
        path = write("config/galaxy.ini", "[uwsgi]\ninclude = common.ini\n")
        cwd = str(tmp_path / "here")
        assert ("stats", ":2") in _pairs(path, _invocation("--ini", path, cwd=cwd))
        with pytest.raises(ConfigError, match=r"common\.ini: no such"):
            _pairs(path)


class TestEnvironment:
    def test_only_that_of_the_invocation_counts(self, write, monkeypatch):
        monkeypatch.setenv("VAULT_TOKEN", SECRET)
        path = write("galaxy.yml", "uwsgi:\n  processes: $(VAULT_TOKEN)\n  stats: $(VAULT_TOKEN).example.org:9191\n")
        for invocation in (None, _invocation(environment=None), _invocation(environment={})):
            config = galaxy_uwsgi_config.read(path, invocation)
            assert config.processes.value is config.stats is None
            assert len(config.unusable) == 2
            assert SECRET not in str(config)
            assert all("$(VAULT_TOKEN)" in str(setting.value) for setting in config.unusable)

    @pytest.mark.parametrize(
        "text",
        [
            "processes = $(VAULT_TOKEN)",
            "threads = -$(VAULT_TOKEN)",
            "mules = x$(VAULT_TOKEN)",
            "stats = $(VAULT_TOKEN)",
            "stats = $(VAULT_TOKEN).example.org:9191",
            "stats = 127.0.0.1:$(VAULT_TOKEN)",
            "socket = unix:/$(VAULT_TOKEN)",
            "socket = =$(VAULT_TOKEN)",
            "socket = fd://$(VAULT_TOKEN)",
            "shared-socket = $(VAULT_TOKEN):x\nsocket = =0",
            "zerg = $(VAULT_TOKEN)",
            "pidfile = $(VAULT_TOKEN).pid",
            "logto = logs/$(VAULT_TOKEN)",
            "set = token=$(VAULT_TOKEN)\nstats = %(token)",
            "set = token=$(VAULT_TOKEN)\nstats = x%(token token)",
            "set = token=$(VAULT_TOKEN)\nprocesses = x%(token + token)%(token)",
            "if-env = VAULT_TOKEN\nstats = %(_)\nendif =",
            "if-env = VAULT_TOKEN\nprocesses = %(_)\nendif =",
            "if-env = VAULT_TOKEN\ninclude = %(_)\nendif =",
            "stats = @(secret.txt)",
            "processes = @(secret.txt)",
            "stats = @($(VAULT_TOKEN))",
            "chdir = /srv/$(VAULT_TOKEN)\nsocket = s",
            "chdir = $(VAULT_TOKEN)\nmaster-fifo = s",
            "stats = /run/$(VAULT_TOKEN).sock",
            "http-socket = @$(VAULT_TOKEN)",
            "master-fifo = /run/$(VAULT_TOKEN)",
        ],
    )
    def test_what_it_says_is_never_quoted(self, write, tmp_path, text):
        write("secret.txt", f"{SECRET}\n")
        path = write("galaxy.ini", f"[uwsgi]\n{text}\nhttp = :8080\n")
        environment = {"VAULT_TOKEN": SECRET, "UWSGI_STATS_SERVER": f"{SECRET}:0"}
        config = galaxy_uwsgi_config.read(path, _invocation("--ini", path, environment=environment, cwd=str(tmp_path)))
        assert [str(setting.value) for setting in config.sockets] == [":8080"]
        # neither the good values nor the messages show it
        assert SECRET not in str(config)
        assert config.unusable

    def test_variables_are_options_of_whom_they_belong_to(self, write):
        path = write("galaxy.yml", "uwsgi:\n  processes: 2\n")
        environment = {"UWSGI_STATS": "127.0.0.1:1", "UWSGI_WORKERS": "5", "UWSGI_INI": SECRET, "UWSGI_RELOADS": "1"}
        config = galaxy_uwsgi_config.read(path, _invocation("--yaml", path, environment=environment))
        assert (str(config.stats.value), config.stats.secret) == ("127.0.0.1:1", True)
        assert config.stats.source == "UWSGI_STATS in the environment of galaxy.service"
        assert config.processes.value == 2
        assert SECRET not in str(config)
        # the command does not run uWSGI, so its variables are not uWSGI's
        invocation = Invocation(("sh", "run.sh"), "galaxy.service", None, environment)
        assert galaxy_uwsgi_config.read(path, invocation).stats is None

    def test_what_is_known_only_to_uwsgi_stays_as_written(self, write):
        path = write("galaxy.ini", "[uwsgi]\nstats = /run/%u.sock\npidfile = /run/%t.pid\nprocesses = %i\nhttp = :1\n")
        config = galaxy_uwsgi_config.read(path)
        assert config.stats is config.pidfile is config.processes.value is None
        texts = [str(setting.value) for setting in config.unusable]
        assert len(texts) == 3
        assert any("'/run/%u.sock'" in text for text in texts)

    def test_conditions_that_the_machine_decides(self, write):
        name = socket.gethostname()
        lines = f"if-hostname = {name}\nstats = :1\nendif =\nif-hostname = {name}.other\nstats = :2\nendif =\n"
        assert _pairs(write("galaxy.ini", f"[uwsgi]\n{lines}")) == [("stats", ":1")]
        # relative to a directory that is not known
        config = galaxy_uwsgi_config.read(write("galaxy.ini", "[uwsgi]\nif-exists = x\nstats = :1\nendif =\n"))
        assert config.stats is None
        assert "only uWSGI can decide" in str(config.unusable[0].value)

    def test_the_name_of_a_file_that_is_known_only_to_uwsgi(self, write):
        path = write("galaxy.ini", "[uwsgi]\nstats = :1\ninclude = %t.ini\n")
        collected = galaxy_uwsgi_options.collect(path)
        assert [key for key, *_ in collected.problems] == ["include"]
        assert "only uWSGI knows" in collected.problems[0][2]

    def test_nothing_is_run(self, write, tmp_path):
        mark = tmp_path / "ran"
        path = write(
            "galaxy.ini", f"[uwsgi]\nstats = @(exec://touch {mark})\ninclude = exec://touch {mark}\nhttp = :1\n"
        )
        config = galaxy_uwsgi_config.read(path, _invocation("--ini", path, environment={}, cwd="/"))
        assert not mark.exists()
        assert config.stats is None
        assert len(config.unusable) == 2


class TestWhoseFiles:
    """The owner of the configuration may name a file. It is read only if that owner may read it."""

    pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be other users")

    @pytest.fixture
    def place(self):
        with public_directory() as path:
            yield pathlib.Path(path)

    @pytest.mark.parametrize(
        "text",
        [
            "include = {0}:client\nstats = %(password)",
            "inherit = {0}:client\nstats = %(password)",
            "ini = {0}:client\nsocket = %(password)",
            "stats = @({0})",
            "for = 1\ninclude = {0}:client\nend =\nstats = %(password)",
        ],
    )
    def test_no_secret_of_roots_by_galaxys_word(self, place, text):
        secret = make(place / "my.ini", 0, 0o600, b"[client]\npassword = TOPSECRET\n")
        home = make(place / "galaxy", GALAXY)
        path = make(f"{home}/galaxy.ini", GALAXY, 0o644, f"[uwsgi]\nhttp = :1\n{text.format(secret)}\n".encode())
        try:
            config = galaxy_uwsgi_config.read(path, _invocation("--ini", path, environment={}, cwd="/"))
        except ConfigError as exc:
            assert "may not read it" in str(exc)
            assert "TOPSECRET" not in str(exc)
        else:
            assert "TOPSECRET" not in str(config)

    @pytest.mark.parametrize("user", [GALAXY, None])
    def test_nor_by_the_words_of_his_process(self, place, user):
        secret = make(place / "my.ini", 0, 0o600, b"[client]\npassword = TOPSECRET\n")
        path = make(place / "galaxy.yml", 0, 0o644, b"uwsgi:\n  http: :1\n")
        words = ["--ini", f"{secret}:client", "--stats", "%(password)"]
        config = galaxy_uwsgi_config.read(path, _invocation(*words, environment={}, cwd="/", user=user))
        # if root wrote the words, root's file is read
        assert ("TOPSECRET" in str(config)) is (user is None)


class TestBounds:
    """Whatever another user can make long ends in an error that names the file, soon and in little memory."""

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("for-times = 999999999\nsocket = :%(_)\nend =\n", "for-times"),
            ("for-times = 9999\nsocket = :%(_)\nsocket = :%(_)\nend =\n", "more than 10000 options"),
            ("for = " + "x " * 30000 + "\n" + "a = b\n" * 9 + "end =\n", "more than 10000 options"),
            ("a = b\n" * 20000, "more than 10000 options"),
            ("a = " + "x" * 70000 + "\n", "65536 characters a value"),
            ("a = b%(a)\n", "placeholders"),
            ("a = xx%(b)\nb = yy%(a)\n", "placeholders"),
            ("".join(f"a{n} = %(a{n - 1})%(a{n - 1})\n" for n in range(1, 60)) + "a0 = x\n", "placeholders"),
            ("a = " + "x" * 60000 + "\n" + "b = %(a)\n" * 5000, "placeholders"),
            ("a = " + "%(b)" * 16000 + "\n" + "c = " + "%(d)" * 16000 + "\n", "placeholders"),
            ("a = " + "x" * 9000 + "\nb = %(" + "a " * 30000 + ")\n", "placeholders"),
            ("a = " + "%d" * 30000 + "\n" + "b = %d%d%d%d\n" * 40000, "magic"),
            ("a = " + "%(_)" * 15000 + "\nfor = " + "x" * 9000 + "\na = " + "%(_)" * 15000 + "\nend =\n", "for makes"),
        ],
        ids=str,
    )
    def test_of_a_text(self, write, text, words):
        path = write("galaxy.ini", f"[uwsgi]\nstats = :1\n{text}")
        with pytest.raises(ConfigError) as caught:
            galaxy_uwsgi_config.read(path)
        assert path in str(caught.value)
        assert words in str(caught.value)
        assert len(str(caught.value)) < 1000

    @pytest.mark.parametrize("kind", ["fifo", "device", "directory", "long", "endless", "socket"])
    @pytest.mark.parametrize("how", ["itself", "included", "inherited", "in a value"])
    def test_of_a_file(self, tmp_path, write, kind, how):
        name = str(tmp_path / "x.ini")
        if kind == "fifo":
            os.mkfifo(name)
        elif kind == "directory":
            os.mkdir(name)
        elif kind == "long":
            pathlib.Path(name).write_text("[uwsgi]\n" + "# x\n" * 300_000)
        elif kind == "socket":
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(name)
        else:
            os.symlink("/dev/zero" if kind == "endless" else "/dev/tty", name)
        option = {"included": f"include = {name}", "inherited": f"inherit = {name}"}.get(how, f"stats = @({name})")
        path = name if how == "itself" else write("galaxy.ini", f"[uwsgi]\nhttp = :1\n{option}\n")
        try:
            config = galaxy_uwsgi_config.read(path, _invocation("--ini", path, environment={}, cwd="/"))
        except ConfigError as exc:
            assert name in str(exc)
            assert how != "in a value"
        else:
            assert how == "in a value"
            assert config.stats is None
            assert name in str(config.unusable[0].value)

    def test_of_files_that_include_many(self, write):
        for level in range(16):
            write(f"{level}.ini", "[uwsgi]\n" + f"include = {level + 1}.ini\n" * 8)
        write("16.ini", "[uwsgi]\na = b\n")
        with pytest.raises(ConfigError, match="more than"):
            galaxy_uwsgi_config.read(write("galaxy.ini", "[uwsgi]\ninclude = 0.ini\n"))

    def test_of_files_in_values(self, write):
        name = write("a", "x")
        with pytest.raises(ConfigError, match="more than 64 files"):
            galaxy_uwsgi_config.read(write("galaxy.ini", "[uwsgi]\n" + f"env = A=@({name})\n" * 65))

    def test_of_a_loop_of_files_that_are_inherited(self, write):
        write("a.ini", "[uwsgi]\ninherit = a.ini\ninherit = a.ini\n")
        with pytest.raises(ConfigError, match="more than 64 files"):
            galaxy_uwsgi_config.read(write("galaxy.ini", "[uwsgi]\ninherit = a.ini\n"))

    def test_all_of_it_is_soon_and_small(self, tmp_path):
        """The worst texts, in a process that may use 64 MiB beside what Python itself takes."""
        texts = {
            "deep.yml": "uwsgi:\n" + "".join(f"{' ' * n}- [{{\n" for n in range(1, 1400)),
            "dots.ini": "[uwsgi]\n" + "a = $($($(%(%(@(@(\n" * 9000,
            "open.ini": "[uwsgi]\na = " + "%(" * 30000 + "\n",
            "wide.ini": "[uwsgi]\n" + "".join(f"a{n} = %(a{n + 1} + 1)\n" for n in range(9000)),
            "math.ini": "[uwsgi]\na = 999999999999999999\nb = %(" + "a * " * 16000 + "a)\n",
            "long.ini": "[uwsgi]\n" + "a" * 1_000_000 + "\n",
            "many.ini": "[uwsgi]\nsocket = " + "x" * 60000 + "\n" + "socket = var/x\n" * 9000,
            "many.yml": "uwsgi:\n  socket: [" + "x," * 32000 + "]\n",
        }
        for name, text in texts.items():
            (tmp_path / name).write_text(text)
        code = (
            "import sys, resource, galaxy_uwsgi_config\nfrom galaxy_errors import GalaxyError\n"
            "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
            "resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20),) * 2)\n"
            "for path in sys.argv[1:]:\n"
            "    try:\n        repr(galaxy_uwsgi_config.read(path))\n"
            "    except GalaxyError as exc:\n        assert path in str(exc) and len(str(exc)) < 1000\n"
            "print('read')\n"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        paths = [str(tmp_path / name) for name in texts]
        done = subprocess.run(
            [sys.executable, "-c", code, *paths],
            capture_output=True,
            text=True,
            env=environment,
            timeout=60,
            check=False,
        )
        assert done.stdout == "read\n", done.stderr[-2000:]
