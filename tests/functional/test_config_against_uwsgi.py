"""What we read from a configuration is what the real uWSGI reads from it (``--show-config``)."""

import os
import re
import subprocess

import pytest
from support.site import UWSGI

import galaxy_uwsgi_config

_NAMES = ("socket", "uwsgi-socket", "s", "http-socket", "http")

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
s = @%n-%x
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
set-placeholder = extra=3
set = workers=%(count)
master-fifo = $(GALAXY_RUN)/fifo
master-fifo = $(NOT_SET)/fifo
logto2 = /tmp/100%%-%(extra).log
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


def _shown(path, environment):
    argv = [UWSGI, "--ini" if path.suffix == ".ini" else "--yaml", path, "--show-config", "--no-server"]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False, cwd=path.parent)
    section = re.search(r"\[uwsgi\]\n(.*?);end of configuration", done.stderr + done.stdout, re.DOTALL)
    assert section, done.stderr
    return [tuple(line.split(" = ", 1)) for line in section[1].splitlines() if " = " in line]


@pytest.mark.parametrize(("name", "text"), [("galaxy.ini", INI), ("galaxy.yml", YAML)])
def test_we_read_what_uwsgi_reads(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    environment = {**os.environ, "GALAXY_PIDFILE": str(tmp_path / "g.pid"), "GALAXY_RUN": str(tmp_path)}
    shown = _shown(path, environment)
    ours = galaxy_uwsgi_config.read(str(path), environment)

    def last(*keys):
        return [value for key, value in shown if key in keys][-1]

    assert [(one.option, str(one.value)) for one in ours.sockets] == [one for one in shown if one[0] in _NAMES]
    assert str(ours.stats.value) == last("stats")
    assert str(ours.processes.value) == last("processes", "workers")
    assert str(ours.threads.value) == last("threads")
    assert ours.pidfile.value == last("pidfile")
    fifos = [value for key, value in shown if key == "master-fifo"]
    assert [one.value for one in ours.master_fifo] == [value for value in fifos if value.startswith("/")]
    assert [one.value for one in ours.logs] == [value for key, value in shown if key == "logto2"]
