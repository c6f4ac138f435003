"""Utils that are loaded at their first use."""

import importlib
import os
import pathlib
import sys
import threading

import pytest

import galaxy_host_later


@pytest.fixture
def later(tmp_path, monkeypatch):
    """The util, synced to a directory that is not on the path, as in a job."""
    there = tmp_path / "galaxy_host_later.py"
    there.write_text(pathlib.Path(galaxy_host_later.__file__).read_text())
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    spec = importlib.util.spec_from_file_location("later_of_a_test", there)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    before = set(sys.modules)
    yield module
    for name in set(sys.modules) - before:
        del sys.modules[name]


def _write(directory, name, text):
    (directory / f"{name}.py").write_text(text)


def test_our_utils_are_found_where_no_path_leads_to_them(later, tmp_path):
    _write(tmp_path, "galaxy_found", "value = 1\n")
    _write(tmp_path, "other_found", "value = 1\n")
    assert importlib.import_module("galaxy_found").value == 1
    for missing in ("other_found", "galaxy_that_there_is_not"):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(missing)


def test_one_that_was_synced_again_finds_them_in_place_of_the_one_before(later):
    before = list(sys.meta_path)
    later.__spec__.loader.exec_module(later)
    assert len(sys.meta_path) == len(before)
    assert (sys.meta_path[0] is before[0], sys.meta_path[1:]) == (False, before[1:])


def test_the_loader_of_utils_changes_nothing_of_how_they_are_found(later):
    before = list(sys.meta_path)
    spec = importlib.util.spec_from_file_location("salt.loaded.ext.utils.galaxy_host_later", later.__file__)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert sys.meta_path == before


def test_it_is_loaded_once_and_when_it_is_used(later, tmp_path):
    _write(
        tmp_path,
        "galaxy_x",
        "import sys, galaxy_y\nloads = getattr(sys, 'loads_of_x', 0) + 1\nsys.loads_of_x = loads\n",
    )
    _write(tmp_path, "galaxy_y", "value = 7\n")
    path = list(sys.path)
    module = later.Later("galaxy_x")
    assert "galaxy_x" not in sys.modules
    try:
        assert module.galaxy_y.value == 7
        assert later.Later("galaxy_x").loads == module.loads == sys.loads_of_x == 1
    finally:
        del sys.loads_of_x
    assert sys.path == path
    with pytest.raises(AttributeError, match="nothing"):
        _ = module.nothing


def test_a_file_with_a_fault_leaves_the_path_alone_and_is_tried_again(later, tmp_path):
    path = list(sys.path)
    _write(tmp_path, "galaxy_z", "raise OSError('once')\n")
    module = later.Later("galaxy_z")
    with pytest.raises(OSError, match="once"):
        _ = module.value
    assert sys.path == path
    (tmp_path / "galaxy_z.py").write_text("value = 'of another length'\n")
    importlib.invalidate_caches()
    assert module.value == "of another length"


def test_all_that_waits(later, tmp_path):
    _write(tmp_path, "galaxy_a", "import later_of_a_test\nb = later_of_a_test.Later('galaxy_b')\n")
    _write(tmp_path, "galaxy_b", "value = 1\n")
    sys.modules["later_of_a_test"] = later
    module = later.Later("galaxy_a")
    later.load_all()
    (tmp_path / "galaxy_b.py").unlink()
    assert "galaxy_b" in sys.modules
    assert module.b.value == 1


def test_threads_get_it_whole(later, tmp_path):
    _write(tmp_path, "galaxy_t", "import time\ntime.sleep(0.2)\nvalue = 1\n")
    module, found = later.Later("galaxy_t"), []
    threads = [threading.Thread(target=lambda: found.append(module.value)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 4


def test_what_a_sync_has_replaced_is_imported_anew(later, tmp_path, monkeypatch):
    monkeypatch.setattr(later, "_OURS", ("outdated_",))
    monkeypatch.syspath_prepend(str(tmp_path))
    _write(tmp_path, "outdated_x", "value = 1\n")
    _write(tmp_path, "outdated_y", "from outdated_x import value\n")
    for name in ("outdated_x", "outdated_y"):
        os.utime(tmp_path / f"{name}.py", (later._BORN - 9, later._BORN - 9))
    module = importlib.import_module("outdated_y")
    later.drop_outdated()
    assert importlib.import_module("outdated_y") is module
    # a time in the future does not count as a change
    os.utime(tmp_path / "outdated_x.py", (later._BORN + 9999, later._BORN + 9999))
    later.drop_outdated()
    assert importlib.import_module("outdated_y") is module
    _write(tmp_path, "outdated_x", "value = 22\n")
    later.drop_outdated()
    assert importlib.import_module("outdated_y").value == 22
