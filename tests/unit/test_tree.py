"""What must hold for the whole tree: documentation, defaults, layout."""

import ast
import re

import pytest
import yaml
from salt.exceptions import CommandExecutionError
from support.site import REPO

import galaxy_errors


def _module(path):
    return ast.parse(path.read_text())


@pytest.mark.parametrize("path", sorted((REPO / "_utils").glob("*.py")), ids=lambda path: path.stem)
def test_utils_are_plain_python(path):
    text = path.read_text()
    assert not re.search(r"__(salt|opts|pillar|grains|context|utils)__\[", text)
    for node in ast.walk(_module(path)):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("salt"):
            assert node.module == "salt.exceptions"
        if isinstance(node, ast.FunctionDef):
            # Salt's loader has its directory on the path only while it loads a file
            inner = [one.names[0].name for one in ast.walk(node) if isinstance(one, ast.Import)]
            inner += [one.module for one in ast.walk(node) if isinstance(one, ast.ImportFrom)]
            ours = [name for name in inner if name.startswith(("galaxy_", "luks_", "onedata_"))]
            assert ours == [], f"import inside {node.name}"


@pytest.mark.parametrize("directory", ["_utils", "_modules", "_runners", "_states"])
def test_nothing_but_the_runner_spawns_and_nothing_but_the_waiting_sleeps(directory):
    for path in (REPO / directory).glob("*.py"):
        text = path.read_text()
        assert ("subprocess" in text) == (path.name == "galaxy_host_command.py"), path
        assert ("time.sleep" in text) == (path.name == "galaxy_host_wait.py"), path
        assert "shell=True" not in text
        # used only for an identified process, if the kernel has no pidfd
        assert ("os.kill" in text) == (path.name == "galaxy_host_process.py"), path


def test_every_error_is_one_that_salt_shows_without_traceback():
    ours = [node.name for node in _module(REPO / "_utils" / "galaxy_errors.py").body if isinstance(node, ast.ClassDef)]
    for found in map(galaxy_errors.__dict__.get, ours):
        assert issubclass(found, CommandExecutionError)


_HEADERS = "needs real LUKS headers: tests/functional/test_luks_header.py"
_GUEST = "needs device-mapper: tests/uml/guest"
# utils without a unit test of their own: here is where they are tested
ELSEWHERE = {
    "galaxy_errors": "each class is raised by some other",
    "galaxy_gunicorn_server": "needs a real gunicorn: tests/functional/test_gunicorn.py",
    "galaxy_host_sysfs": "needs block devices: tests/uml/guest",
    **dict.fromkeys(("luks_backup", "luks_header", "luks_key", "luks_status", "luks_trial"), _HEADERS),
    **dict.fromkeys(("luks_device", "luks_encrypt", "luks_grow", "luks_mapping", "luks_open"), _GUEST),
    **dict.fromkeys(("luks_reencrypt", "luks_token", "luks_unlock"), _GUEST),
}


@pytest.mark.parametrize("name", sorted(path.stem for path in (REPO / "_utils").glob("*.py")))
def test_each_util_has_its_test(name):
    assert (REPO / "tests" / "unit" / f"test_{name}.py").exists() != (name in ELSEWHERE)


def test_states_publish_no_function_of_a_util():
    """The loader takes every function in a file's namespace: ``from x import y`` would make ``y`` a state."""
    for directory in ("_modules", "_states", "_runners"):
        for path in (REPO / directory).glob("*.py"):
            for node in _module(path).body:
                if isinstance(node, ast.ImportFrom) and node.module.startswith(("galaxy_", "luks_", "onedata_")):
                    assert all(name.name[0].isupper() for name in node.names), f"{path}: from {node.module} import …"


def test_what_is_loaded_later_is_there():
    """A wrong name would otherwise show only when a function is called."""
    for path in REPO.glob("_*/*.py"):
        for node in ast.walk(_module(path)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Later":
                assert (REPO / "_utils" / f"{node.args[0].value}.py").is_file(), f"{path}: {ast.unparse(node)}"
            if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("Later("):
                assert ast.unparse(node) == f"{node.targets[0].id} = Later('{node.targets[0].id}')"


def test_records_are_made_by_the_util_that_makes_them():
    """``dataclasses.dataclass`` compiles code for each class, which costs each job a millisecond."""
    makers = [path.name for path in (REPO / "_utils").glob("*.py") if "dataclasses.dataclass(" in path.read_text()]
    assert makers == ["galaxy_host_record.py"]


def test_a_plural_is_made_by_the_util_that_makes_them():
    for path in REPO.glob("_*/*.py"):
        assert not re.search(r"'e?s' (\*|if)", path.read_text()) or path.name == "galaxy_host_count.py", path


def test_no_util_has_string_annotations():
    """Salt 3008 executes a util before it is in sys.modules, and then dataclasses fail with such annotations."""
    for path in (REPO / "_utils").glob("*.py"):
        assert "from __future__ import annotations" not in path.read_text(), path


def test_the_formula_has_the_trees_version():
    formula = yaml.safe_load((REPO / "FORMULA").read_text())
    assert str(formula["version"]) == (REPO / "VERSION").read_text().strip()


def test_each_change_is_told_in_whole_sentences():
    kinds = "|".join(sorted(set(re.findall(r"^### (\w+)$", (REPO / "CHANGELOG.md").read_text(), re.MULTILINE)))).lower()
    for path in (REPO / "changelog.d").iterdir():
        if path.name != "README.md":
            assert re.fullmatch(rf"(\d+|\+[\w-]+)\.({kinds})(\.\d+)?\.md", path.name)
            assert re.fullmatch(r"\S[^\n]+\.\n", path.read_text()), path
