"""The version of the Galaxy on disk."""

import os

import pytest

from galaxy_version import on_disk

# Galaxy 26.1 and newer have the second file
FILES = ("version.py", "version/__init__.py")


def _tree(root, text, file=FILES[0]):
    path = root / "lib" / "galaxy" / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return str(root)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ('VERSION_MAJOR = "26.1"\nVERSION_MINOR = "1"\nVERSION = VERSION_MAJOR\n', "26.1.1"),
        ("VERSION_MAJOR = '22.05'\nVERSION_MINOR = 'rc1'\n", "22.05.rc1"),
        ('VERSION_MAJOR = "26.1"\nVERSION_MINOR = None\n', "26.1"),
        ('VERSION = "26.1"\n', None),
        ('VERSION_MAJOR = "$(id)"\n', None),
        ("", None),
    ],
)
def test_of_a_source_tree(tmp_path, text, version):
    assert on_disk(_tree(tmp_path, text), None) == version


@pytest.mark.parametrize("file", FILES)
def test_of_either_file(tmp_path, file):
    assert on_disk(_tree(tmp_path, 'VERSION_MAJOR = "26.1"\nVERSION_MINOR = "1"\n', file), None) == "26.1.1"


@pytest.mark.parametrize("file", FILES)
def test_of_a_package(tmp_path, file):
    path = tmp_path / "lib" / "python3.11" / "site-packages" / "galaxy" / file
    path.parent.mkdir(parents=True)
    path.write_text('VERSION_MAJOR = "26.1"\nVERSION_MINOR = "1"\n')
    assert on_disk(str(tmp_path / "nowhere"), str(tmp_path)) == "26.1.1"
    assert on_disk(None, None) is None


def test_what_its_user_cannot_read_is_not_read(tmp_path):
    root = _tree(tmp_path, 'VERSION_MAJOR = "26.1"\n')
    (tmp_path / "lib" / "galaxy" / "version.py").chmod(0o600)
    assert on_disk(root, None, [os.getuid()]) == "26.1"
    assert on_disk(root, None, [os.getuid() + 1]) is None
