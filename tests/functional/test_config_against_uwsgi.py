"""
Our reading of files, command lines and environments equals what the real uWSGI reads (``--show-config``). A uWSGI that
runs listens where we say, and runs what we say.
"""

import os
import pathlib
import re
import socket
import subprocess
import sys

import pytest
from support.site import UWSGI, free_port

import galaxy_uwsgi_config
import galaxy_uwsgi_file
import galaxy_uwsgi_options
import galaxy_uwsgi_stats
from galaxy_errors import StatsError
from galaxy_host_process import Invocation
from galaxy_host_wait import Deadline, wait_until
from galaxy_uwsgi_table import ARGUMENT, NO_ARGUMENT, OPTIONAL

INI = """
[server:main]
socket = 127.0.0.1:1
[uwsgi]
; comment
base = %d
port=4000
count = 5
  socket = 127.0.0.1:%(port)
socket = :%(port ++)
uwsgi-socket = 127.0.0.1:%(port + 2)
http-socket = @%n-%x
stats = %(base)%n.stats
for = 4011 4012
http-socket = 127.0.0.1:%(_)
endfor =
for-times = 2
http-socket = :402%(_)
end =
if-env = GALAXY_PIDFILE
pidfile = %(_)
endif =
if-not-env = GALAXY_PIDFILE
pidfile = /tmp/wrong.pid
endif =
if-opt = port=4000
threads = 2
endif =
if-exists = /no/such/file
threads = 9
endif =
if-not-reload =
cheaper = 1
endif =
set-placeholder = extra=3
set = workers=%(count)
master-fifo = $(GALAXY_RUN)/fifo
logto2 = /tmp/100%%-%(extra).log
odd = 100%
is = joined%z
[other]
processes = 77
"""

YAML = """
galaxy:
  http: 127.0.0.1:1
uwsgi:
  # comment
  http: 127.0.0.1:8080
  socket: 127.0.0.1:4001   # behind nginx
  socket: :4002
  base: /run/galaxy
  stats: %(base)/%n.%e
  workers: 3
  processes: 4
  threads: 2
  pidfile: $(GALAXY_RUN)/galaxy.pid
  master-fifo: %dfifo
  hook-master-start: unix_signal:2 gracefully_kill_them_all
webhooks:
  socket: 127.0.0.1:2
"""


class Place:
    """A directory in which the real uWSGI is started, and in which we read the same options."""

    def __init__(self, path, environment):
        self.path = path
        self.environment = {"PATH": os.environ["PATH"], **environment}
        self.process = None

    def write(self, **files):
        for name, text in files.items():
            path = self.path / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, newline="")

    def invocation(self, words):
        # as in /proc/PID/cmdline: Python runs the script of pyuwsgi
        return Invocation((sys.executable, UWSGI, *words), "the test", str(self.path), self.environment)

    def shown(self, words):
        """Key and value of each option, as uWSGI shows them."""
        argv = [UWSGI, "--show-config", "--no-server", *words]
        done = subprocess.run(
            argv, capture_output=True, env=self.environment, check=False, cwd=self.path, stdin=subprocess.DEVNULL
        )
        # bytes, not text: a carriage return is part of a value
        output = os.fsdecode(done.stderr + done.stdout)
        section = re.search(r"\[uwsgi\]\n(.*?);end of configuration", output, re.DOTALL)
        assert section, output
        lines = [line.partition(" = ")[::2] for line in section[1].split("\n")]
        return [(key, value) for key, value in lines if key not in ("show-config", "no-server", "", "for", "for-times")]

    def ours(self, words, path=None):
        """Key and value of each option, as we read them."""
        options = galaxy_uwsgi_options.collect(path, self.invocation(words))
        # uWSGI shows an option without a value as true
        return [(option.key, "true" if option.value is None else option.value) for option in options.options]

    def start(self, words):
        """Start uWSGI. Returns when it serves."""
        with open(self.path / "uwsgi.out", "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [UWSGI, *words],
                stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=self.environment, cwd=self.path,
            )  # fmt: skip
        assert wait_until(lambda: "spawned uWSGI worker" in self.output(), Deadline(180)), self.output()

    def output(self):
        return (self.path / "uwsgi.out").read_text(errors="replace")

    def stop(self):
        if self.process:
            # no-orphans ends its workers too
            self.process.kill()
            self.process.wait()


@pytest.fixture
def place(tmp_path):
    made = Place(
        tmp_path,
        {
            "GALAXY_PIDFILE": str(tmp_path / "g.pid"),
            "GALAXY_RUN": str(tmp_path),
            "NESTED": "x$(GALAXY_RUN)",
            "WORD": "1",
        },
    )
    yield made
    made.stop()


def _without_logic(options):
    return [(key, value) for key, value in options if not re.match(r"(if-|for|end)", key)]


WORDS = {
    "an INI": ["--ini", "galaxy.ini"],
    "a YAML": ["--yaml", "galaxy.yml"],
    "the file, then words": ["--yaml", "galaxy.yml", "--stats", "127.0.0.1:5001", "--processes=7"],
    "words, then the file": ["--stats", "127.0.0.1:5001", "--yaml=galaxy.yml", "-p7"],
    "a bare file comes last": ["galaxy.yml", "--stats", "127.0.0.1:5001", "-M"],
    "two bare files": ["galaxy.ini", "--master", "galaxy.yml"],
    "short options": ["-MTp", "3", "-s:4001", "-s", ":4002", "-C666", "-C", "-yplain.yml", "-H/tmp"],
    "optional arguments": ["--mule", "--mule=a.py", "--need-app", "--check-cache=x", "--http-keepalive=3", "plain.ini"],
    "arguments like options": ["--stats", "-x", "--ini", "plain.ini", "--", "plain.yml"],
    "a section": ["--ini", "sections.ini:other", "--ini", ":uwsgi"],
    "a section of YAML": ["--yaml", "sections.yml:other"],
    "includes": ["--ini", "including.ini", "--stats", ":5001"],
    "capital magic": ["--ini", "magic.ini", "--ini", "conf/inner.ini"],
    "magic of a bare file": ["magic.ini"],
    "set": ["-S", "stats=:1", "--set", "workers=%(n)", "--set-ph", "n=3", "--set-placeholder=m=%(n)", "--pidfile=%(m)"],
    "inherited": ["--ini", "inheriting.ini", "--stats", ":5001"],
    "files in loops and conditions": ["--ini", "looping.ini", "--stats", ":5001"],
    "placeholders": ["--ini", "placeholders.ini", "--stats", "$(GALAXY_RUN)/%(a).s"],
    "comments": ["--ini", "comments.ini", "--yaml", "comments.yml"],
    "CR LF": ["--ini", "crlf.ini", "--yaml", "crlf.yml"],
    "tabs": ["--yaml", "tabs.yml"],
    "documents": ["--yaml", "documents.yml"],
    "a byte order mark": ["--yaml", "mark.yml", "--ini", "mark.ini"],
    "beginnings of names": ["--yam", "galaxy.yml", "--stats-serve", ":5001", "--process=7", "--die-on-t", "--need-a"],
    "none but words": ["--socket", "127.0.0.1:4001", "--master", "--stats=:1"],
    "python's": ["--ini-paste", "sections.ini", "--enable-threads", "plain.ini"],
}  # fmt: skip

FILES = {
    "galaxy_ini": INI,
    "galaxy_yml": YAML,
    "plain_ini": "[uwsgi]\nprocesses = 2\nmaster\n",
    "plain_yml": "uwsgi:\n  processes: 5\n",
    "sections_ini": "[uwsgi]\nsocket = :1\n[other]\nsocket = :2\nname = %x\n",
    "sections_yml": "uwsgi:\n  socket: :1\nother:\n  socket: :2\n  name: %x%n\n",
    "including_ini": "[uwsgi]\nbase = x\ninclude = conf/inner.ini\nsocket = :9\n",
    "conf__inner_ini": "[uwsgi]\nsocket = %d %s %n %e %c %p %0\ntop = %D %S %N %X|\n",
    "magic_ini": "[uwsgi]\nown = %o %p %s %d %c %n %e %x|%v %h %k %%x %j-\ntop = %O %P %S|\ninclude = conf/inner.ini\n",
    "inheriting_ini": "[uwsgi]\nbase = conf\ninherit = %(base)/inherited.ini\nsocket = :9\n",
    "conf__inherited_ini": "[uwsgi]\nstats = %(base)\nname = $(GALAXY_RUN)\n",
    "looping_ini": (
        "[uwsgi]\nfor = a b\ninclude = conf/inner.ini\nset = mule=%(_)\nend =\n"
        "if-env = WORD\nini = plain.ini\nhttp = :1\nendif =\nif-not-env = WORD\nini = magic.ini\nendif =\n"
    ),
    "placeholders_ini": (
        "[uwsgi]\na = 4\nb = %(a)0\nc = %(a b)\nd = %(a + 1)\ne = %(d * 2 - 1)\nf = %(no + 1)\ng = %(no)\n"
        "h = %(a / 0)\ni = %(a ++)\nj = %(b --) %(a - 9)\nk = $(NESTED) $(GALAXY_RUN)\nl = $(NO)-%(a%(no))\n"
        "m = %(-7 / 2)\nn = %()x\nr = %(a  +  1)%( a )\ns = %(a + )\n"
        "o = @(conf/text.txt)|\np = $(NESTED\nfor = %(a) x\nq = %(_)\nend =\n"
    ),
    "conf__text_txt": ":77\n",
    "comments_ini": "[uwsgi]\nprocesses = 3 ; three\n;threads = 2\n # x\nsocket = :1 # nginx\n[uwsgi]\nmaster\n=x\n",
    "comments_yml": "uwsgi: # ours\n  socket: :1#x\n # c\n#d\n\n  name: a:b: c\n  key : v \ngalaxy:\n  x: y\n",
    "crlf_ini": "[uwsgi]\r\nsocket = :1\r\n\r\nmaster = false\r\n",
    "crlf_yml": "uwsgi:\r\n  socket: :1\r\n\r\n  master: false\r\n",
    "tabs_yml": "uwsgi:\n\tsocket:\t:1\n\t name:  x\t\n",
    "documents_yml": "---\ngalaxy:\n  a: b\n---\nuwsgi:\n  socket: :1\n---\nuwsgi:\n  stats: :2\n",
    "mark_yml": "\ufeffuwsgi:\n  socket: :1\n",
    "mark_ini": "\ufeff# first\n[uwsgi]\nsocket = :1\n",
}  # fmt: skip


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_we_read_what_uwsgi_reads(place, words):
    place.write(**FILES)
    shown = _without_logic(place.shown(words))
    ours = _without_logic(place.ours(words))
    # %j is a hash of the path; we leave it unknown
    unknown = galaxy_uwsgi_file.UNKNOWN
    assert len(ours) == len(shown), (ours, shown)
    for one, other in zip(ours, shown, strict=True):
        pattern = re.escape(one[1]).replace(re.escape(f"{unknown}j"), "[0-9A-F]+")
        assert one[0] == other[0], (one, other)
        assert re.fullmatch(pattern, other[1].rstrip(" ")) or re.fullmatch(pattern, other[1]), (one, other)


@pytest.mark.parametrize(
    "variables",
    [
        {"UWSGI_STATS": "127.0.0.1:5001", "UWSGI_WORKERS": "3"},
        {"UWSGI_RELOADS": "0", "UWSGI_MY_OPTION": "$(GALAXY_RUN)", "UWSGI_SET": "stats=:1"},
    ],
)
def test_its_environment_has_options_too(place, variables):
    place.write(**FILES)
    place.environment.update(variables)
    words = ["--ini", "plain.ini", "--workers", "2"]
    assert sorted(place.ours(words)) == sorted(place.shown(words))


def test_a_shell_in_front(place):
    place.write(**FILES)
    script = f"cd conf && exec {UWSGI} --ini ../plain.ini --show-config --no-server --stats $GALAXY_RUN/s 2>&1"
    done = subprocess.run(
        ["/bin/sh", "-c", script], capture_output=True, text=True, env=place.environment, cwd=place.path, check=False
    )
    assert f"stats = {place.path}/s" in done.stdout
    invocation = Invocation(("/bin/sh", "-c", script), "the test", str(place.path), place.environment)
    config = galaxy_uwsgi_config.read(None, invocation)
    assert str(config.stats.value) == f"{place.path}/s"
    assert config.processes.source == f"{place.path}/conf/../plain.ini:2"


def test_options_take_an_argument_as_the_table_says():
    """uWSGI's getopt tells: an option without argument refuses one, and an option that needs one cannot come last."""
    done = subprocess.run([UWSGI, "--help"], capture_output=True, text=True, check=True)
    names = set(re.findall(r"^ +(?:-.\|)?--([\w-]+)", done.stdout, re.MULTILINE))
    assert len(names) > 900
    assert names <= {*ARGUMENT, *NO_ARGUMENT, *OPTIONAL}
    for name in sorted(names & NO_ARGUMENT)[::8]:
        refused = subprocess.run([UWSGI, f"--{name}=x"], capture_output=True, text=True, check=False)
        assert "doesn't allow an argument" in refused.stderr, name
    for name in sorted(names - NO_ARGUMENT - OPTIONAL)[::40]:
        refused = subprocess.run([UWSGI, f"--{name}"], capture_output=True, text=True, check=False)
        assert "requires an argument" in refused.stderr, name


# Running servers.

APP = "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'ok']\n"
BASE = ["--wsgi-file", "app.py", "--no-orphans"]


def _listens(address):
    family = socket.AF_UNIX if address.is_unix else socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family) as client:
        client.settimeout(5)
        try:
            client.connect(address.peer)
        except OSError:
            return False
    return True


def _compare(place, words, path=None):
    """Start uWSGI with these words, and compare it with what we read. Returns the configuration that we read."""
    place.write(app_py=APP)
    words = [*BASE, *words]
    config = galaxy_uwsgi_config.read(path, place.invocation(words))
    place.start(words)
    has_master = "spawned uWSGI master process" in place.output()
    assert config.master.value is has_master
    if config.stats and not config.stats_off:
        assert wait_until(lambda: "*** Stats server enabled" in place.output(), Deadline(180)), place.output()
    else:
        assert "*** Stats server enabled" not in place.output()
    for setting in config.sockets:
        assert _listens(setting.value), setting
    if config.stats and not config.stats_off:
        document = galaxy_uwsgi_stats.read(config.stats.value, 10).document
        assert len(document["workers"]) == config.processes.value
        assert len(document["workers"][0]["cores"]) == config.threads.value
        assert document["pid"] == place.process.pid
        if config.pidfile:
            assert pathlib.Path(config.pidfile.value).read_text().strip() == str(document["pid"])
    for setting in (*config.master_fifo, *config.logs):
        assert os.path.exists(setting.value), setting
    return config


def _sockets(config):
    return [str(setting.value) for setting in config.sockets]


@pytest.fixture
def ports():
    return [free_port() for _ in range(4)]


def test_stats_on_the_command_line(place, ports):
    place.write(galaxy_yml=f"uwsgi:\n  socket: 127.0.0.1:{ports[0]}\n  processes: 1\n  threads: 2\n  master: true\n")
    config = _compare(place, ["--yaml", "galaxy.yml", "--stats", f"127.0.0.1:{ports[1]}"])
    assert str(config.stats.value) == f"127.0.0.1:{ports[1]}"
    assert config.stats.source == "the test"


@pytest.mark.parametrize("order", ["file first", "word first", "bare file"])
def test_the_last_stats_address_wins(place, ports, order):
    place.write(galaxy_yml=f"uwsgi:\n  socket: 127.0.0.1:{ports[0]}\n  stats: 127.0.0.1:{ports[1]}\n")
    word, file = ["--stats", f"127.0.0.1:{ports[2]}"], ["--yaml", "galaxy.yml"]
    words = {"file first": file + word, "word first": word + file, "bare file": ["galaxy.yml", *word]}[order]
    config = _compare(place, words)
    assert config.stats.value.port == ports[2 if order == "file first" else 1]


def test_everything_on_the_command_line(place, ports):
    place.write(galaxy_yml="uwsgi:\n  buffer-size: 16384\ngalaxy:\n  brand: x\n")
    words = ["--yaml", "galaxy.yml", "--master", "--processes", "2", "--threads", "2"]
    words += ["--socket", f"127.0.0.1:{ports[0]}", f"--stats=127.0.0.1:{ports[1]}"]
    config = _compare(place, [*words, "--pidfile", "var.pid", "--master-fifo", "fifo", "--logto2", "uwsgi.out"])
    assert config.pidfile.value == f"{place.path}/var.pid"
    assert (config.processes.value, config.threads.value) == (2, 2)


@pytest.mark.parametrize(
    ("master", "words", "off"),
    [
        ("  master: false\n", [], True),
        ("", [], False),
        ("  master: false\n", ["--master"], False),
        ("  master: no\n  master: true\n", [], False),
        ("  master: 0\n", ["--touch-reload", "x"], True),
    ],
)
def test_a_stats_server_without_a_master(place, ports, master, words, off):
    text = f"uwsgi:\n  http-socket: 127.0.0.1:{ports[0]}\n  stats: 127.0.0.1:{ports[1]}\n  processes: 1\n{master}"
    place.write(galaxy_yml=text)
    config = _compare(place, ["--yaml", "galaxy.yml", *words])
    assert bool(config.stats_off) is off
    if off:
        assert "galaxy.yml:5: master is off" in config.stats_off
        assert not _listens(config.stats.value)
        with pytest.raises(StatsError):
            galaxy_uwsgi_stats.read(config.stats.value, 1)


def test_comments_behind_values(place, ports):
    place.write(
        comment_ini=f"[uwsgi]\nmaster = true\nprocesses = 3 ; web workers\nthreads = 2 # each\n"
        f"socket = 127.0.0.1:{ports[0]} ; nginx asks here\nstats = 127.0.0.1:{ports[1]} # uwsgitop\n"
    )
    config = _compare(place, ["--ini", "comment.ini"])
    assert _sockets(config) == [f"127.0.0.1:{ports[0]}"]
    assert (config.processes.value, config.threads.value) == (3, 2)


def test_a_list_that_uwsgi_skips(place, ports):
    place.write(
        nested_yml=f"uwsgi:\n  master: true\n  socket: 127.0.0.1:{ports[0]}\n  stats: 127.0.0.1:{ports[1]}\n"
        "  mules:\n    - mule: x\n    - mule: y\n"
    )
    config = _compare(place, ["--yaml", "nested.yml"])
    assert config.mules.value == 0
    assert "mule 1" not in place.output()
    assert [setting.option for setting in config.unusable] == ["mules"]


def test_numbers_and_addresses_of_the_environment(place, ports):
    place.environment.update({"UWSGI_PROCESSES": "2x", "ADDRESS": f"127.0.0.1:{ports[1]}"})
    place.write(
        galaxy_yml=f"uwsgi:\n  processes: $(UWSGI_PROCESSES)\n  socket: 127.0.0.1:{ports[0]}\n  stats: $(ADDRESS)\n"
    )
    config = _compare(place, ["--yaml", "galaxy.yml"])
    assert config.processes.value == 2
    assert config.stats.value.port == ports[1]


@pytest.mark.parametrize("form", ["relative", "after chdir", "abstract", "absolute"])
def test_unix_sockets(place, form):
    (place.path / "root").mkdir()
    name = {"abstract": f"@galaxy-{os.urandom(8).hex()}", "absolute": f"{place.path}/s"}.get(form, "s")
    words = ["--socket", name, "--stats", f"{name}.stats", "--pidfile", "a.pid"]
    words += ["--chdir", "root"] if form == "after chdir" else []
    config = _compare(place, words)
    if form == "after chdir":
        assert _sockets(config) == [f"{place.path}/root/s"]


@pytest.mark.parametrize(("host", "meant"), [("0", "0.0.0.0"), ("127.1", "127.0.0.1"), ("[::1]", "[::1]")])
def test_numbers_of_hosts(place, ports, host, meant):
    config = _compare(place, ["--socket", f"{host}:{ports[0]}", "--stats", f"{host}:{ports[1]}"])
    assert (_sockets(config), str(config.stats.value)) == ([f"{meant}:{ports[0]}"], f"{meant}:{ports[1]}")


def test_shared_sockets_and_routers(place, ports):
    place.write(
        shared_ini=f"[uwsgi]\nshared-socket = 127.0.0.1:{ports[0]}\nhttp-socket = =0\nhttp = 127.0.0.1:{ports[1]}\n"
        f"stats = :{ports[2]}\nprocesses = %k\n"
    )
    config = _compare(place, ["--ini", "shared.ini"])
    assert _sockets(config) == [f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}"]
    assert config.processes.value == os.cpu_count()


def test_what_is_no_address_of_uwsgis_is_not_where_it_listens(place, ports):
    place.write(galaxy_yml=f"uwsgi:\n  socket: unix:{place.path}/s\n  stats: 127.0.0.1:{ports[0]}\n  master: true\n")
    config = _compare(place, ["--yaml", "galaxy.yml"])
    assert config.sockets == ()
    assert "bound to TCP address unix:" in place.output()
    assert not os.path.exists(place.path / "s")
    assert "bare path" in str(config.unusable[0].value)


def test_a_section_of_an_ini_and_files_that_are_inherited(place, ports):
    place.write(
        a_ini=f"[uwsgi]\nprocesses = 9\n[web]\ninherit = b.ini\nprocesses = 2\nsocket = 127.0.0.1:{ports[0]}\n",
        b_ini=f"[uwsgi]\nprocesses = 3\nstats = 127.0.0.1:{ports[1]}\n",
    )
    config = _compare(place, ["--ini", "a.ini:web"])
    # the inherited options come last
    assert config.processes.value == 3
    assert config.processes.source == f"{place.path}/b.ini:2"
