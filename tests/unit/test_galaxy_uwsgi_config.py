import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

import galaxy_uwsgi_config
from galaxy_errors import AddressError, ConfigError
from galaxy_host_process import Invocation


@pytest.fixture
def read(tmp_path):
    """``read(text, name)``: the configuration in a file of that content."""

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


def test_stats_http(read):
    assert read("uwsgi:\n  stats: :9191\n  stats-http: true\n").stats.value.http
    assert not read("uwsgi:\n  stats: :9191\n  stats-http: false\n").stats.value.http


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("galaxy:\n  x: 1\n", ConfigError, ["no uwsgi: section"]),
        ("gravity:\n  gunicorn:\n", ConfigError, ["Gunicorn serves this Galaxy"]),
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
