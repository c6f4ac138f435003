"""Who controls a path: with real users and their links."""

import os
import pathlib

import pytest
from support import fuse
from support.attacker import GALAXY, MALLORY, make, public_directory, run_as

from galaxy_errors import FileError, FileMissing
from galaxy_host_walk import EVERYBODY, Group, describe, ours, walk

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be other users")


@pytest.fixture
def place():
    with public_directory() as path:
        yield pathlib.Path(path)


def controllers(path):
    with walk(str(path)) as entry:
        return set(entry.controllers)


def test_who_controls_a_path(place):
    make(place / "galaxy", GALAXY)
    make(place / "galaxy" / "deeper", MALLORY)
    make(place / "galaxy" / "deeper" / "file", 0, 0o600, b"")
    make(place / "group", 0, 0o775, gid=GALAXY)
    make(place / "all", 0, 0o777)
    make(place / "tmp", 0, 0o1777)
    make(place / "tmp" / "roots", 0, 0o644, b"")
    make(place / "tmp" / "mallorys", MALLORY, 0o644, b"")
    make(place / "galaxys-tmp", GALAXY, 0o1777)
    make(place / "galaxys-tmp" / "mallorys", MALLORY, 0o644, b"")
    for path, expected in (
        ("/", set()),
        ("/etc/passwd", set()),
        (place, set()),
        # the owner of the last directory itself does not count here
        (place / "galaxy", set()),
        (place / "galaxy" / "deeper", {GALAXY}),
        (place / "galaxy" / "deeper" / "file", {GALAXY, MALLORY}),
        (place / "galaxy" / "deeper" / ".." / ".." / "tmp", {GALAXY, MALLORY}),
        (place / "galaxy" / "gone" / "file", {GALAXY}),
        (place / "group" / "x", {Group(GALAXY)}),
        (place / "all" / "x", {EVERYBODY}),
        (place / "tmp" / "roots", set()),
        (place / "tmp" / "mallorys", {MALLORY}),
        # the path does not exist, so anybody can make it
        (place / "tmp" / "gone", {EVERYBODY}),
        (place / "galaxys-tmp" / "mallorys", {GALAXY, MALLORY}),
    ):
        assert controllers(path) == expected, path


def test_links(place):
    make(place / "galaxy", GALAXY)
    make(place / "tmp", 0, 0o1777)
    run_as(GALAXY, os.symlink, "../file", place / "galaxy" / "link")
    run_as(MALLORY, os.symlink, "/etc/passwd", place / "tmp" / "link")
    make(place / "file", 0, 0o644, b"")
    os.symlink("galaxy/link", place / "roots")
    assert controllers(place / "roots") == {GALAXY}
    assert controllers(place / "tmp" / "link") == {MALLORY}
    with walk(str(place / "roots")) as entry:
        assert os.path.samestat(entry.status, os.stat(place / "file"))
        assert os.path.samefile(entry.link, place / "file")
    for strict in ({"links": False}, {"last_link": False}):
        with pytest.raises(FileError, match="symbolic link"), walk(str(place / "galaxy" / "link"), **strict):
            pass
    # a link that root made, on the way
    os.symlink(place, place / "here")
    with walk(str(place / "here" / "file"), links=False, last_link=False) as entry:
        assert entry.status


def test_links_without_end(place):
    for name, target in (("a", "b"), ("b", "a"), ("c", "c/c"), ("d", "d/d/d/d/d")):
        os.symlink(target, place / name)
        if name != "a":
            with pytest.raises(FileError, match="more than 40 symbolic links"), walk(str(place / name)):
                pass
    os.symlink("/", place / "root")
    os.symlink(".", place / "dot")
    with walk(str(place / "root")) as entry:
        assert os.path.samestat(entry.status, os.stat("/"))
    with walk(str(place / "dot")) as entry:
        assert os.path.samestat(entry.status, os.stat(place))
    with walk(f"{place}/root/etc/passwd") as entry:
        assert os.path.samestat(entry.status, os.stat("/etc/passwd"))


def test_what_is_not_there(place):
    made = []
    with walk(str(place / "a" / "b")) as entry:
        assert (entry.status, entry.name) == (None, "a")
        with pytest.raises(FileMissing):
            entry.require_there()

    def make_it(entry):
        made.append(entry.name)
        os.mkdir(entry.name, dir_fd=entry.directory)

    with walk(str(place / "a" / "b"), make_it) as entry:
        assert os.path.samestat(entry.status, os.stat(place / "a" / "b"))
    assert made == ["a", "b"]


def test_errors_of_the_caller_are_of_the_path(place):
    with pytest.raises(FileError, match=f"{place}: cannot be used: Not a directory"), walk(str(place)):
        raise NotADirectoryError(20, "Not a directory")
    with pytest.raises(ZeroDivisionError), walk(str(place)):
        _ = 1 / 0


def test_a_filesystem_of_another_users(place):
    """It says that root owns all of it, with mode 0644. But its user decides what it holds, and when it answers."""
    make(place / "mount", 0)
    with fuse.mounted(place / "mount", MALLORY):
        assert os.stat(place / "mount" / "file").st_uid == 0
        os.symlink(place / "mount" / "file", place / "link")
        for path in (place / "mount" / "file", place / "mount", place / "link"):
            with pytest.raises(FileError, match="on a filesystem that a process of user 4002 serves"):
                controllers(path)
    # root may serve one, such as CVMFS
    with fuse.mounted(place / "mount", 0):
        assert controllers(place / "mount" / "file") == set()


def test_no_descriptor_is_left(place):
    os.symlink("loop", place / "loop")
    before = os.listdir("/proc/self/fd")
    for path in (
        place,
        place / "loop",
        place / "gone" / "x",
        "/etc/passwd/x",
        "/etc/passwd",
        "",
        "/\0",
        "/" + "x" * 300,
    ):
        try:
            controllers(path)
        except FileError:
            continue
    assert os.listdir("/proc/self/fd") == before


def test_names():
    assert [describe(user) for user in (0, 4001, 1 << 40, Group(0), Group(4001), EVERYBODY)] == [
        *("user root", "user 4001", f"user {1 << 40}", "group root", "group 4001", "everybody")
    ]
    assert ours() == {0, os.geteuid()}
