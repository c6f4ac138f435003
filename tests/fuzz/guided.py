"""
libFuzzer tests the parsers of files, by atheris, if that installs. Beside hypothesis, because it learns from the
branches that an input takes. ``python tests/fuzz/guided.py [RUNS]`` tries so many inputs for each test.
"""

import importlib.util
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
# test: its module, and the arguments behind the path and the bytes
TARGETS = {
    **{"test_onedatactl_ini": ("inputs",), "test_cryptdev_ini": ("inputs",), "test_gravity_file": ("gunicorn",)},
    **{"test_supervisor_configuration": ("managers",), "test_unit": ("managers", "galaxy@1", None)},
    "test_uwsgi_configuration": ("inputs", ".yml"),
}
# the tests limit seconds and MiB themselves: libFuzzer must not use the alarm clock too
_OPTIONS = ("-timeout=0", "-rss_limit_mb=0", "-max_len=4000", "-print_final_stats=1")


def fuzz(name: str, runs: str) -> None:
    """Let libFuzzer call a test. It ends this process."""
    import atheris

    utils = HERE.parent.parent / "_utils"
    sys.path[:0] = [str(HERE), str(HERE.parent), str(utils)]
    kind, *more = TARGETS[name]
    ours = [path.stem for path in utils.glob("*.py")]
    with atheris.instrument_imports(include=[*ours, "configparser", "yaml"]):
        module = __import__(f"test_fuzz_{kind}")
    test = getattr(module, name).hypothesis.inner_test
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "input"
        atheris.Setup([sys.argv[0], f"-runs={runs}", *_OPTIONS], lambda data: test(path, data, *more))
        atheris.Fuzz()


def main(runs: str = "10000") -> int:
    """Run each test in a process of its own. Returns how many failed."""
    if not importlib.util.find_spec("atheris"):
        print("atheris is not installed here: hypothesis alone was at work")
        return 0
    failed = 0
    for name in TARGETS:
        print(name, flush=True)
        with tempfile.TemporaryDirectory() as corpus:
            argv = [sys.executable, __file__, runs, name]
            failed += subprocess.run(argv, cwd=corpus, env=dict(os.environ), check=False).returncode != 0
    return failed


if __name__ == "__main__":
    fuzz(sys.argv[2], sys.argv[1]) if len(sys.argv) == 3 else sys.exit(main(*sys.argv[1:]))
