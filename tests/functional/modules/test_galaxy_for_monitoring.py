"""What monitoring gets from one machine: ``galaxy.summary``, ``check`` and ``metrics``, with their exit codes."""

import os
import stat
import subprocess

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from salt.exceptions import CommandExecutionError, SaltInvocationError
from support.site import BIN

from galaxy_errors import FileError


@pytest.fixture
def call(minion_config):
    """``salt-call``, with the function's exit code."""

    def run(*arguments, program="salt-call"):
        local = ["--local", "--retcode-passthrough"] if program == "salt-call" else []
        argv = [BIN / program, "-c", minion_config, *local, *arguments]
        return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)

    return run


def test_a_galaxy_that_serves(modules, make_site, call):
    site = make_site().start()
    assert modules["galaxy.summary"](**site.keywords).startswith("ready, 2/2 workers ready, queue 0")
    done = call("--out=galaxy", "galaxy.check", f"config={site.config}")
    assert done.stdout.startswith("GALAXY OK - ready, 2 of 2 workers ready | workers=2;;;0;2 busy=0;;;0;2 queue=0;;;0")
    assert done.returncode == 0
    done = call("--out=galaxy", "galaxy.status", f"config={site.config}")
    assert [line.split()[:2] for line in done.stdout.splitlines()[:2]] == [["STATE", "MINION"], ["ready", "local"]]
    families = text_string_to_metric_families(modules["galaxy.metrics"](**site.keywords))
    values = {one.name: one.value for family in families for one in family.samples if one.labels["server"] == "galaxy"}
    assert (values["galaxy_running"], values["galaxy_ready"], values["galaxy_ready_workers"]) == (1, 1, 2)


def test_a_galaxy_that_is_down(modules, make_site, call):
    site = make_site()
    assert modules["galaxy.summary"](**site.keywords).startswith("down, 0 workers ready: ")
    done = call("--out=galaxy", "galaxy.check", f"config={site.config}")
    assert done.stdout.startswith("GALAXY CRITICAL - down, 0 of 0 workers ready: ")
    assert done.returncode == 2


@pytest.mark.parametrize("keywords", [{}, {"config": "/nonexistent/galaxy.yml", "timeout": "soon"}, {"nosuch": 1}])
def test_what_cannot_be_told_is_unknown_and_no_traceback(modules, keywords):
    assert modules["galaxy.check"](**keywords).startswith("GALAXY UNKNOWN - unknown: ")
    assert modules.pack["__context__"]["retcode"] == 3
    with pytest.raises((CommandExecutionError, SaltInvocationError)):
        modules["galaxy.metrics"](**keywords)


def test_metrics_go_into_a_file_in_one_step(modules, make_site, tmp_path):
    site, path = make_site(), tmp_path / "galaxy.prom"
    path.write_text("old")
    with path.open() as reader:
        assert modules["galaxy.metrics"](path=str(path), **site.keywords) == str(path)
        # a reader that has the old file open still reads all of it
        assert reader.read() == "old"
    assert path.read_text().endswith("# EOF\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [name for name in os.listdir(tmp_path) if "prom" in name] == ["galaxy.prom"]
    with pytest.raises(SaltInvocationError, match=r"path is 'galaxy.prom'; give an absolute path"):
        modules["galaxy.metrics"](path="galaxy.prom", **site.keywords)
    with pytest.raises(FileError, match="nosuch"):
        modules["galaxy.metrics"](path=str(tmp_path / "nosuch" / "galaxy.prom"), **site.keywords)


@pytest.mark.parametrize(("arguments", "code"), [(("galaxy.fleet",), 3), (("galaxy.status", "one"), 1)])
def test_a_runner_that_reaches_no_master_exits_with_its_code(minion_config, tmp_path, tree, arguments, code):
    # a master makes this directory when it first starts
    (tmp_path / "var/cache/salt/master/proc").mkdir(parents=True)
    (tmp_path / "master").write_text(
        f"root_dir: {tmp_path}\nrunner_dirs: [{tree}/_runners]\nutils_dirs: [{tree}/_utils]\n"
        f"outputter_dirs: [{tree}/_output]\nsock_dir: {tmp_path}\nuser: root\n"
    )
    argv = [BIN / "salt-run", "-c", tmp_path, "--log-level=quiet", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert "The salt master could not be contacted. Is master running?" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode == code
