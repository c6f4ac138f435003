import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

import galaxy_uwsgi_config
from galaxy_errors import AddressError, ConfigError
from galaxy_host_process import Invocation


@pytest.fixture
def read(tmp_path):
    """``read(text, name)``: the configuration in a file with this text."""

    def run(text, name="galaxy.yml", environment=None, words=(), cwd=None):
        path = tmp_path / name
        path.write_text(text, newline="")
        if environment is None and not words and cwd is None:
            return galaxy_uwsgi_config.read(str(path))
        argv = words or ("uwsgi", f"--{'ini' if name.endswith('ini') else 'yaml'}", str(path))
        return galaxy_uwsgi_config.read(str(path), Invocation(tuple(argv), "galaxy.service", cwd, environment))

    return run


def _addresses(config):
    return [str(setting.value) for setting in config.sockets]


def test_galaxy_yml(read, tmp_path):
    config = read(
        "uwsgi:\n"
        "  # the address and port\n"
        "  http: 127.0.0.1:8080\n"
        "  socket: 127.0.0.1:4001   # behind nginx\n"
        "  socket: :4002\n"
        "\n"
        "  stats: 127.0.0.1:9191#comment\n"
        "  processes: 4\n"
        "  threads: 4\n"
        "  mule: lib/galaxy/main.py\n"
        "  mule: lib/galaxy/main.py\n"
        "  farm: job-handlers:1,2\n"
        "  hook-master-start: unix_signal:2 gracefully_kill_them_all\n"
        "  master-fifo: /srv/galaxy/fifo\n"
        "  pidfile: /srv/galaxy/galaxy.pid\n"
        "  logto: /srv/galaxy/uwsgi.log\n"
        "galaxy:\n"
        "  socket: 127.0.0.1:1\n"
    )
    assert _addresses(config) == ["127.0.0.1:8080", "127.0.0.1:4001", ":4002"]
    assert config.sockets[1].source == f"{tmp_path}/galaxy.yml:4"
    assert str(config.stats.value) == "127.0.0.1:9191"
    assert (config.processes.value, config.threads.value, config.mules.value) == (4, 4, 2)
    assert config.pidfile.value == "/srv/galaxy/galaxy.pid"
    assert [setting.value for setting in config.master_fifo] == ["/srv/galaxy/fifo"]
    assert [setting.value for setting in config.logs] == ["/srv/galaxy/uwsgi.log"]


def test_galaxy_ini(read):
    config = read(
        "[server:main]\nsocket = 127.0.0.1:1\n"
        "[uwsgi]\n"
        "; a comment\n# another\n"
        "uwsgi-socket=127.0.0.1:4001\n"
        "  stats-server = /run/stats.sock\n"
        "workers = 3\n"
        "mules = 2\nmule = x.py\n"
        "master\n"
        "[app:main]\nprocesses = 9\n",
        "galaxy.ini",
    )
    assert _addresses(config) == ["127.0.0.1:4001"]
    assert str(config.stats.value) == "/run/stats.sock"
    assert (config.processes.value, config.threads.value, config.mules.value) == (3, 1, 3)
    assert config.threads.source == "uWSGI default"


@pytest.mark.parametrize("option", ["processes", "workers"])
def test_aliases_of_processes(read, option):
    assert read(f"uwsgi:\n  {option}: 7\n").processes.value == 7


@pytest.mark.parametrize("option", ["socket", "uwsgi-socket", "http-socket", "http", "http11-socket", "httprouter"])
def test_aliases_of_sockets(read, option):
    (setting,) = read(f"[uwsgi]\n{option} = 127.0.0.1:4001\n", "plain").sockets
    assert (setting.option, str(setting.value)) == (option, "127.0.0.1:4001")


def test_values_that_strict_yaml_refuses(read):
    config = read("uwsgi:\n  port: 4001\n  socket: *:%(port)\n  stats: @stats\n  http: '[::1]:8080'\n")
    assert _addresses(config) == [":4001", "[::1]:8080"]
    assert str(config.stats.value) == "@stats"


def test_lists_of_real_yaml_repeat_the_option(read):
    config = read(
        "uwsgi:\n  socket:\n    - 127.0.0.1:1\n    - 127.0.0.1:2\n  http-socket: [':3', '[::1]:4']\n  workers: 2\n"
    )
    assert _addresses(config) == ["127.0.0.1:1", "127.0.0.1:2", ":3", "[::1]:4"]
    assert config.processes.value == 2


def test_placeholders(read, tmp_path):
    config = read(
        "[uwsgi]\nbase = %d\nname = %n\nport = 4000\n"
        "socket = 127.0.0.1:%(port)\nhttp = :%(port ++)\nhttp-socket = :%(port + 100 - 2)\n"
        "stats = %(base)%(name).stats\npidfile = $(RUN)/%c.pid\nprocesses = $(COUNT)\nlogto = /var/log/$(UNSET).log\n",
        "server.ini",
        {"RUN": "/run", "COUNT": "5"},
    )
    assert _addresses(config) == ["127.0.0.1:4000", ":4001", ":4098"]
    assert str(config.stats.value) == f"{tmp_path}/server.stats"
    assert config.pidfile.value == f"/run/{tmp_path.name}.pid"
    assert config.processes.value == 5
    assert config.logs == ()
    assert "$(UNSET)" in str(config.unusable[-1].value)


def test_set_and_set_placeholder(read):
    config = read("uwsgi:\n  set-placeholder: port=4001\n  set: workers=6\n  socket: :%(port)\n")
    assert _addresses(config) == [":4001"]
    assert config.processes.value == 6


def test_conditions_and_loops(read, tmp_path):
    (tmp_path / "here").touch()
    config = read(
        "[uwsgi]\n"
        "for = 4001 4002\nsocket = 127.0.0.1:%(_)\nendfor =\n"
        "for-times = 2\nhttp-socket = :808%(_)\nend =\n"
        f"if-exists = {tmp_path}/here\nprocesses = 2\nendif =\n"
        f"if-not-file = {tmp_path}/here\nprocesses = 3\nendif =\n"
        "if-env = PORT\nstats = :%(_)\nendif =\n"
        "if-env = PORT=1\nthreads = 9\nendif =\n"
        "if-not-env = OTHER\nmules = 4\nendif =\n"
        "if-opt = processes=2\npidfile = /run/%(_).pid\nendif =\n",
        "galaxy.ini",
        {"PORT": "9191"},
    )
    assert _addresses(config) == ["127.0.0.1:4001", "127.0.0.1:4002", ":8081", ":8082"]
    assert (config.processes.value, config.threads.value, config.mules.value) == (2, 1, 4)
    assert str(config.stats.value) == ":9191"
    assert config.pidfile.value == "/run/2.pid"


def test_includes_are_followed_and_named_as_sources(read, tmp_path):
    (tmp_path / "common.ini").write_text("[uwsgi]\nsocket = :4001\n")
    config = read("uwsgi:\n  include: common.ini\n  processes: 2\n")
    assert config.sockets[0].source == f"{tmp_path}/common.ini:2"
    assert config.processes.value == 2


def test_shared_sockets_and_certificates(read):
    config = read("uwsgi:\n  shared-socket: :443\n  https: =0,cert.pem,key.pem\n  http-socket: =0\n")
    assert _addresses(config)[1] == ":443"


def test_a_number_is_read_as_uwsgi_reads_it(read):
    config = read(
        "[uwsgi]\nmaster = true\nprocesses = 3 ; web workers\nthreads = 2 # each\nmules = 2x\n"
        "socket = 127.0.0.1:4001 ; nginx asks here\nstats = 127.0.0.1:9191 # uwsgitop\n",
        "comment.ini",
    )
    assert (config.processes.value, config.threads.value, config.mules.value) == (3, 2, 2)
    assert _addresses(config) == ["127.0.0.1:4001"]
    assert str(config.stats.value) == "127.0.0.1:9191"
    assert config.unusable == ()


@pytest.mark.parametrize(
    "value", ["many", "-3", "9" * 5000, "99999999999", "$(COUNT)", "%(unset)", "0x", "", "@(/no/such)"]
)
@pytest.mark.parametrize("option", ["processes", "threads", "mules"])
def test_a_number_that_cannot_be_read_hides_nothing(read, option, value):
    text = f"[uwsgi]\nmaster = true\n{option} = {value}\nsocket = 127.0.0.1:4001\nstats = 127.0.0.1:9191\n"
    config = read(text, "galaxy.ini")
    assert _addresses(config) == ["127.0.0.1:4001"]
    assert str(config.stats.value) == "127.0.0.1:9191"
    if value == "0x":
        assert getattr(config, option).value == 0
        return
    assert getattr(config, option).value in ((0, None) if option == "mules" else (None,))
    setting = next(setting for setting in config.unusable if setting.option == option)
    assert setting.source.endswith("galaxy.ini:3")
    assert str(setting.value).startswith(f"{setting.source}: {option}")


def test_a_list_of_mappings_is_no_number(read):
    config = read(
        "uwsgi:\n  master: true\n  stats: 127.0.0.1:9191\n  mules:\n    - mule: lib/galaxy/main.py\n"
        "    - mule: lib/galaxy/main.py\n  socket: 127.0.0.1:4001\n"
    )
    assert config.mules.value == 0
    assert _addresses(config) == ["127.0.0.1:4001"]
    assert [(setting.option, setting.source[-12:]) for setting in config.unusable] == [("mules", "galaxy.yml:5")]
    # uWSGI's own YAML reader stops at this list
    assert "libyaml" in str(config.doubts[0].value)


@pytest.mark.parametrize(
    ("text", "words", "master", "off"),
    [
        ("stats = :1\nmaster = false\n", (), False, True),
        ("stats = :1\nmaster = off\n", (), False, True),
        ("stats = :1\nmaster = 0\nmules = 2\n", (), False, True),
        ("stats = :1\nmaster = False\nmaster = true\n", (), True, False),
        ("stats = :1\nmaster = maybe\n", (), True, False),
        ("stats = :1\nmaster\n", (), True, False),
        # many options turn the master on, this one too
        ("stats = :1\n", (), True, False),
        ("cheaper = 1\n", (), True, False),
        ("socket = :1\n", (), False, False),
        ("stats = :1\nmaster = false\n", ("--master",), True, False),
        ("stats = :1\nmaster = false\n", ("-M",), True, False),
        ("stats = :1\nmaster = true\nno-server = true\n", (), True, True),
        ("stats = :1\nno-server = false\n", (), True, False),
    ],
)
def test_whether_there_is_a_master_and_so_a_stats_server(read, tmp_path, text, words, master, off):
    config = read(f"[uwsgi]\n{text}", "galaxy.ini", words=("uwsgi", "--ini", f"{tmp_path}/galaxy.ini", *words))
    assert config.master.value is master
    assert bool(config.stats_off) is off
    if off:
        assert config.stats_off.startswith(f"{tmp_path}/galaxy.ini:")


def test_master_before_the_file_loses(read, tmp_path):
    words = ("uwsgi", "--master", "--ini", f"{tmp_path}/galaxy.ini")
    assert (
        f"{tmp_path}/galaxy.ini:3" in read("[uwsgi]\nstats = :1\nmaster = false\n", "galaxy.ini", words=words).stats_off
    )


def test_switches(read):
    config = read("uwsgi:\n  need-app: true\n  die-on-term: yes\n")
    assert (config.need_app.value, config.die_on_term.value) == (True, True)
    assert config.need_app.source.endswith("galaxy.yml:2")
    config = read("uwsgi:\n  need-app: false\n")
    assert (config.need_app.value, config.die_on_term.value) == (False, False)
    assert config.die_on_term.source == "uWSGI default"


@pytest.mark.parametrize(
    "value",
    ["unix:///srv/galaxy/var/uwsgi.sock", "unix:/run/s", "unix:@x", "http://127.0.0.1:9191", "/run/a:b", "@a:1"],
)
@pytest.mark.parametrize("option", ["socket", "stats", "http-socket"])
def test_a_notation_that_uwsgi_has_not(read, option, value):
    config = read(f"uwsgi:\n  {option}: {value}\n  http: :8080\n")
    assert config.stats is None
    assert _addresses(config) == [":8080"]
    (setting,) = config.unusable
    assert isinstance(setting.value, AddressError)
    assert "bare path" in str(setting.value)
    assert repr(value) in str(setting.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("socket = fd://3", "descriptor"),
        ("socket = =1", "shared socket"),
        ("socket = 127.0.0.1:", "port"),
        ("socket = 127.0.0.1:0", "port"),
        ("socket = 127.0.0.1:04001", "port"),
        ("socket = 127.0.0.1::", "port"),
        ("socket = 192.168.*:4001", "asterisk"),
        ("stats = *:9191", "asterisk"),
        ("socket = localhost", "relative"),
        ("socket = /" + "x" * 110, "longer"),
        ("socket = a b:1", "host name"),
        ("socket =", "empty"),
        ("zerg = /run/zerg.sock", "zerg server holds its sockets"),
        ("socket = /run/s\nabstract-socket = true", "abstract"),
        ("https = $(X),a.crt,a.key", "placeholder"),
        ("socket = 127.0.0.1:4001 ; see http://x", "port"),
        ("shared-socket = $(X)\nhttp-socket = =0", "placeholder"),
    ],
)
def test_what_is_no_address_here(read, line, words):
    config = read(f"[uwsgi]\n{line}\nhttp = :8080\n", "galaxy.ini")
    assert _addresses(config) == [":8080"]
    (setting,) = config.unusable
    assert words in str(setting.value)
    assert setting.source.endswith("galaxy.ini:2")


def test_shared_sockets_routers_and_pools(read):
    config = read(
        "[uwsgi]\nshared-socket = 10.0.0.1:80\nundeferred-shared-socket = /run/s\nhttp-socket = =0\nhttps = =1,a,b\n"
        "https2 = addr=:443,cert=a,key=b,spdy=1\nzergpool = /run/zerg:127.0.0.1:1,127.0.0.1:2\nsocket = @x\n",
        "galaxy.ini",
    )
    assert _addresses(config) == ["10.0.0.1:80", "/run/s", ":443", "127.0.0.1:1", "127.0.0.1:2", "@x"]
    # the option at which it listens
    assert config.sockets[0].source.endswith("galaxy.ini:4")


def test_paths_are_relative_to_where_uwsgi_is_then(read, tmp_path):
    text = (
        "[uwsgi]\nchdir = server\nsocket = s\nstats = t\npidfile = a\nlogto = b\nlogto2 = c\ndaemonize2 = d\n"
        "master-fifo = e\nmaster-fifo = f\n"
    )
    config = read(text, "galaxy.ini", cwd="/srv", environment={})
    assert _addresses(config) == ["/srv/server/s"]
    assert str(config.stats.value) == "/srv/server/t"
    assert config.pidfile.value == "/srv/a"
    assert [setting.value for setting in config.logs] == ["/srv/b", "/srv/c", "/srv/server/d"]
    assert [setting.value for setting in config.master_fifo] == ["/srv/server/e", "/srv/server/f"]
    config = read(text, "galaxy.ini")
    assert (config.pidfile, config.logs, config.master_fifo, config.sockets, config.stats) == (None, (), (), (), None)
    assert len(config.unusable) == 8
    assert all("only the running server knows" in str(setting.value) for setting in config.unusable)
    config = read(text.replace("server", "/srv/x").replace("a\n", "/a\n"), "galaxy.ini")
    assert str(config.stats.value) == "/srv/x/t"
    assert config.pidfile.value == "/a"


def test_of_files_uwsgi_has_the_last_and_a_log_elsewhere_is_no_file(read):
    config = read(
        "[uwsgi]\nlogto = /a\nlogto = /b\ndaemonize = 10.0.0.1:514\npidfile = /c\npidfile2 = /d\n", "galaxy.ini"
    )
    assert [setting.value for setting in config.logs] == ["/b"]
    assert config.pidfile.value == "/d"


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("uwsgi:\r\n  socket: 127.0.0.1:1\r\n  stats: :2\r\n", ["127.0.0.1:1"]),
        ("uwsgi:\n\tsocket: 127.0.0.1:1\n\tstats:\t:2\n", ["127.0.0.1:1"]),
        ("---\ngalaxy:\n  a: b\n---\nuwsgi:\n  socket: :1\n  stats: :2\n---\nuwsgi:\n  socket: :3\n", [":1"]),
        ("uwsgi: # ours\n  socket: ':1'\n  stats: \":2\"\nother: x\n", [":1"]),
        ("galaxy:\n  uwsgi:\n    socket: :9\nuwsgi:\n  socket: :1\n  stats: :2\n", [":1"]),
        ("uwsgi:\n  socket:\n  - :1\n  - :3\n  stats: :2\n", [":1", ":3"]),
        ("uwsgi:\n  env:\n  novalue\n  socket: :1\n  stats: :2\n", [":1"]),
        ("x: y\nuwsgi:\n    socket: :1\n  stats: :2", [":1"]),
    ],
)
def test_forms_of_yaml(read, text, addresses):
    config = read(text)
    assert _addresses(config) == addresses
    assert str(config.stats.value) == ":2"
    assert config.unusable == ()


@pytest.mark.parametrize(
    "text", ["uwsgi:\n  - socket: :1\n  - stats: :2\n", "uwsgi: {socket: :1}\n", "uwsgi:\n- socket: :1\n"]
)
def test_a_section_that_is_no_mapping_of_lines(read, text):
    config = read(text)
    assert config.sockets == ()
    assert "write each as option: value" in str(config.unusable[0].value)


def test_a_byte_order_mark_is_named(read):
    for name, text in (("galaxy.yml", "\ufeffuwsgi:\n  socket: :1\n"), ("galaxy.ini", "\ufeff[uwsgi]\nsocket = :1\n")):
        with pytest.raises(ConfigError, match="byte order mark"):
            read(text, name)


def test_what_nobody_but_uwsgi_can_decide_is_said_and_hides_nothing(read):
    config = read(
        "[uwsgi]\nhttp = :8080\nif-plugin = python\nsocket = :1\nprocesses = 4\nendif =\nfor-glob = /x/*\n"
        "pidfile = %(_)\nend =\nif-env = X\nthreads = 2\nendif =\n",
        "galaxy.ini",
    )
    assert _addresses(config) == [":8080"]
    assert config.processes.value is config.threads.value is config.pidfile is None
    texts = {setting.option: str(setting.value) for setting in config.unusable}
    assert set(texts) == {"socket", "processes", "pidfile", "threads"}
    assert "galaxy.ini:4: socket is inside if-plugin of" in texts["socket"]
    config = read("[uwsgi]\nif-plugin = python\nmule = lib/galaxy/main.py\nmaster = true\nendif =\n", "galaxy.ini")
    assert config.mules.value is config.master.value is None
    assert [setting.option for setting in config.unusable] == ["mule", "master"]
    # known if the environment is known
    config = read(
        "[uwsgi]\nif-env = X\nthreads = 2\nendif =\nif-reload =\nmules = 3\nend =\n", "galaxy.ini", {"X": "y"}
    )
    assert (config.threads.value, config.mules.value) == (2, 0)


@pytest.mark.parametrize(
    ("lines", "user"),
    [
        *((("processes: 2",), None), (("uid: galaxy",), "galaxy"), (("uid: 1000", "uid: 1001"), "1001")),
        # as in uWSGI, a name wins over a number, in any order
        *((("uid: galaxy", "uid: 1001"), "galaxy"), (("immediate-uid: galaxy",), "galaxy"), (("uid: 0",), "0")),
        *((("uid: $(WHO)",), None), (("uid: 1000", "if-opt: x", "uid: galaxy", "endif: true"), "1000")),
    ],
)
def test_whom_it_becomes(read, lines, user):
    assert read("uwsgi:\n" + "".join(f"  {line}\n" for line in lines)).user == user


def test_stats_http(read):
    assert read("uwsgi:\n  stats: :9191\n  stats-http: true\n").stats.value.http
    assert not read("uwsgi:\n  stats: :9191\n  stats-http: false\n").stats.value.http


def test_a_uwsgi_that_is_started_with_it_serves_whatever_gravity_says(tmp_path):
    path = tmp_path / "galaxy.yml"
    path.write_text("gravity:\n  x: y\nuwsgi:\n  socket: 127.0.0.1:4001\n")
    invocation = Invocation(("uwsgi", "--yaml", str(path)), "PID 1", str(tmp_path), {})
    assert [str(one.value) for one in galaxy_uwsgi_config.read(str(path), invocation).sockets] == ["127.0.0.1:4001"]


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("galaxy:\n  x: 1\n", ConfigError, ["no uwsgi: section"]),
        ("gravity:\n  gunicorn:\n", ConfigError, ["gunicorn serves this Galaxy"]),
        # old files have both sections, and Gravity ignores uwsgi:
        ("uwsgi:\n  socket: :4001\ngravity:\n  x: y\n", ConfigError, ["gravity:", "gunicorn serves this Galaxy"]),
        ("gravity:\n  x: y\nuwsgi:\n  socket: :4001\n", ConfigError, ["gravity:", "gunicorn serves this Galaxy"]),
        ("uwsgi:\n  include: galaxy.yml\n", ConfigError, ["galaxy.yml", "loop"]),
        ("uwsgi:\n  include: gone.yml\n", ConfigError, ["gone.yml", "no such"]),
    ],
)
def test_errors_name_file_and_line(read, text, error, words):
    with pytest.raises(error) as caught:
        read(text)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_bad_address_is_kept_with_its_error_and_hides_nothing(read):
    config = read(
        "uwsgi:\n  socket: var/uwsgi.sock\n  socket: 127.0.0.1:4001\n  http: 127.0.0.1:0\n  stats: 127.0.0.1:99999\n"
        "  pidfile: run/galaxy.pid\n"
    )
    assert _addresses(config) == ["127.0.0.1:4001"]
    assert config.stats is None
    assert config.pidfile is None
    texts = [str(setting.value) for setting in config.unusable]
    assert len(texts) == 4
    for line, quoted in (
        (2, "'var/uwsgi.sock'"),
        (4, "'127.0.0.1:0'"),
        (5, "'127.0.0.1:99999'"),
        (6, "'run/galaxy.pid'"),
    ):
        assert any(f"galaxy.yml:{line}: " in text and quoted in text for text in texts), texts


def test_includes_are_looked_for_from_galaxys_root_first(tmp_path):
    (tmp_path / "config").mkdir()
    for directory, port in (("", 4001), ("config", 4002)):
        (tmp_path / directory / "common.ini").write_text(f"[uwsgi]\nsocket = :{port}\n")
    (tmp_path / "config" / "only.ini").write_text("[uwsgi]\nsocket = :4003\n")
    path = tmp_path / "config" / "galaxy.yml"
    path.write_text("uwsgi:\n  include: common.ini\n  include: only.ini\n")
    assert _addresses(galaxy_uwsgi_config.read(str(path))) == [":4001", ":4003"]


def test_errors_of_the_file_itself(tmp_path, read):
    with pytest.raises(ConfigError, match="no such configuration file"):
        galaxy_uwsgi_config.read(str(tmp_path / "gone.ini"))
    with pytest.raises(ConfigError, match="is a directory"):
        galaxy_uwsgi_config.read(str(tmp_path))
    with pytest.raises(ConfigError, match=r"no \[uwsgi\] section"):
        read("[app:main]\n", "galaxy.ini")


_value = st.text(string.ascii_letters + string.digits + "/.:_-", min_size=1, max_size=20).filter(
    lambda value: value.strip("-:") and not value.startswith(("- ", ":"))
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["socket", "http", "processes", "threads", "pidfile", "master-fifo", "mule", "my-option"]),
            _value,
        ),
        min_size=1,
        max_size=12,
    )
)
def test_both_forms_say_the_same(tmp_path_factory, options):
    directory = tmp_path_factory.mktemp("both")
    ini, yml = directory / "galaxy.ini", directory / "galaxy.yml"
    ini.write_text("[uwsgi]\n" + "".join(f"{key} = {value}\n" for key, value in options))
    yml.write_text("uwsgi:\n" + "".join(f"  {key}: {value}\n" for key, value in options))

    def outcome(path):
        try:
            found = galaxy_uwsgi_config.read(str(path))
        except (ConfigError, AddressError) as exc:
            return type(exc), str(exc).replace(path.name, "")
        return str(found).replace(path.name, "")

    assert outcome(ini) == outcome(yml)


@given(st.text())
def test_any_text_is_a_configuration_or_its_error(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("any") / "galaxy.yml"
    path.write_text("uwsgi:\n" + text, encoding="utf-8", errors="replace")
    try:
        galaxy_uwsgi_config.read(str(path))
    except (ConfigError, AddressError) as exc:
        assert str(path) in str(exc)
