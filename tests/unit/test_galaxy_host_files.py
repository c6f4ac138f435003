"""Files that other users name. Each attacker is a process with its own user ID."""

import contextlib
import os
import pathlib
import pwd
import socket
import stat

import pytest
from support import fuse
from support.attacker import GALAXY, MALLORY, exchange, make, public_directory, racing, rounds, run_as

import galaxy_host_files as files
from galaxy_errors import FileError, FileMissing

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be other users")
SECRET = b"root:$6$topsecret:19000::::::\n"
NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def place():
    before = set(os.listdir("/proc/self/fd"))
    with public_directory() as path:
        yield pathlib.Path(path)
    assert len(os.listdir("/proc/self/fd")) <= len(before), "a descriptor was left open"


@pytest.fixture
def home(place):
    """A directory that belongs to user galaxy."""
    return pathlib.Path(make(place / "galaxy", GALAXY))


@pytest.fixture
def shadow(place):
    return make(place / "shadow", 0, 0o600, SECRET)


class TestRead:
    def test_what_root_alone_can_choose_is_read_whatever_its_mode(self, place, shadow):
        assert files.read(shadow) == SECRET
        os.symlink("shadow", place / "link")
        assert files.read(str(place / "link")) == SECRET
        assert files.read(f"{place}/./nothing/../link/..//shadow".replace("nothing/../link/..//", "")) == SECRET

    def test_galaxys_own_files(self, home):
        for mode in (0o600, 0o640, 0o644):
            assert files.read(make(home / f"{mode}.yml", GALAXY, mode, b"uwsgi:\n")) == b"uwsgi:\n"
        assert files.read(make(home / "root.yml", 0, 0o644, b"x")) == b"x"

    @pytest.mark.parametrize("kind", ["link", "link in a link", "linked directory", "relative", "swapped-in file"])
    def test_a_secret_by_a_name_of_galaxys(self, place, home, shadow, kind):
        path = home / "galaxy.log"
        if kind == "link":
            run_as(GALAXY, os.symlink, shadow, path)
        elif kind == "link in a link":
            run_as(GALAXY, os.symlink, shadow, home / "second")
            run_as(GALAXY, os.symlink, "second", path)
        elif kind == "linked directory":
            run_as(GALAXY, os.symlink, place, home / "there")
            path = home / "there" / "shadow"
        elif kind == "relative":
            run_as(GALAXY, os.symlink, "../shadow", path)
        else:
            make(path, 0, 0o600, SECRET)
        for look in (files.read, lambda name: files.tail(name, 10)):
            with pytest.raises(FileError, match="user 4001 controls its path, but may not read it") as caught:
                look(str(path))
            assert (caught.value.path, caught.value.user) == (str(path), "user 4001")
            assert "topsecret" not in str(caught.value)

    def test_a_link_of_galaxys_to_what_he_may_read(self, home):
        run_as(GALAXY, os.symlink, "/etc/passwd", home / "log")
        assert b"root:" in files.read(str(home / "log"))

    def test_a_readable_file_behind_a_closed_directory(self, place, home):
        make(place / "closed", 0, 0o700)
        make(place / "closed" / "file", 0, 0o644, SECRET)
        run_as(GALAXY, os.symlink, place / "closed" / "file", home / "log")
        with pytest.raises(FileError, match="may not read it"):
            files.read(str(home / "log"))
        assert files.read(str(place / "closed" / "file")) == SECRET
        with pytest.raises(FileError, match="may not read it"):
            files.read(str(place / "closed" / "file"), named_by=[GALAXY])

    def test_whose_word_the_path_is(self, shadow):
        assert files.read(shadow, named_by=[0, os.geteuid()]) == SECRET
        with pytest.raises(FileError, match="user 4001") as caught:
            files.tail(shadow, 10, named_by=[0, GALAXY])
        assert caught.value.user == "user 4001"

    def test_by_group(self, place):
        path = make(place / "log", 0, 0o640, b"x", gid=NOBODY.pw_gid)
        assert files.read(path, named_by=[NOBODY.pw_uid]) == b"x"
        for uid in (pwd.getpwnam("daemon").pw_uid, GALAXY):
            with pytest.raises(FileError, match="may not read it"):
                files.read(path, named_by=[uid])
        # this mode denies the group what it grants to all others
        os.chmod(path, 0o604)
        assert files.read(path, named_by=[GALAXY]) == b"x"
        with pytest.raises(FileError, match="user nobody"):
            files.read(path, named_by=[NOBODY.pw_uid])

    def test_every_user_on_the_way_counts(self, place, home):
        mallorys = make(home / "mallory", MALLORY)
        path = make(home / "mallory" / "log", GALAXY, 0o600, b"x")
        with pytest.raises(FileError, match="user 4002"):
            files.read(path)
        os.chmod(path, 0o644)
        assert files.read(path) == b"x"
        assert os.stat(mallorys).st_uid == MALLORY

    @pytest.mark.parametrize(
        ("mode", "gid", "who"), [(0o777, 0, "everybody"), (0o775, NOBODY.pw_gid, "group"), (0o2775, GALAXY, "group")]
    )
    def test_directories_that_many_can_write(self, place, shadow, mode, gid, who):
        make(place / "open", 0, mode, gid=gid)
        private = make(place / "open" / "private", GALAXY, 0o600, SECRET)
        with pytest.raises(FileError, match=who):
            files.read(private)
        assert files.read(make(place / "open" / "public", GALAXY, 0o644, b"x")) == b"x"
        of_group = make(place / "open" / "of-group", 0, 0o640, b"x", gid=gid)
        if who == "group":
            assert files.read(of_group) == b"x"

    def test_a_sticky_directory(self, place, shadow):
        make(place / "tmp", 0, 0o1777)
        assert files.read(make(place / "tmp" / "roots", 0, 0o600, SECRET)) == SECRET
        assert files.read(make(place / "tmp" / "galaxys", GALAXY, 0o600, b"x")) == b"x"
        run_as(GALAXY, os.symlink, shadow, place / "tmp" / "link")
        with pytest.raises(FileError, match="user 4001"):
            files.read(str(place / "tmp" / "link"))

    def test_what_is_no_file(self, place, home):
        os.mkfifo(home / "fifo")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(home / "socket"))
            for name in ("fifo", "socket", "."):
                for look in (files.read, lambda path: files.tail(path, 1)):
                    with pytest.raises(FileError, match="not a regular file"):
                        look(str(home / name))
        for device in ("/dev/zero", "/dev/full", "/dev/stdin", "/dev/fd/0"):
            run_as(GALAXY, os.symlink, device, home / device.replace("/", "-"))
            with pytest.raises(FileError):
                files.read(str(home / device.replace("/", "-")))

    def test_what_the_kernel_shows_root_alone(self, home):
        # their modes say that everybody may read them, but only root may
        for path in ("/proc/1/maps", "/proc/self/maps", "/sys/kernel/notes"):
            run_as(GALAXY, os.symlink, path, home / "log")
            with pytest.raises(FileError, match=r"it is a file of (proc|sysfs)"):
                files.read(str(home / "log"))
            os.unlink(home / "log")
        with pytest.raises(FileError, match="it is a file of proc"):
            files.read("/proc/self/status", named_by=[GALAXY])
        assert files.read("/proc/self/status")

    def test_size(self, place):
        path = make(place / "file", 0, 0o644, b"x" * 1000)
        assert len(files.read(path, limit=1000)) == 1000
        with pytest.raises(FileError, match="larger than 999 bytes"):
            files.read(path, limit=999)
        # a sparse file of 1 TiB
        os.truncate(path, 1 << 40)
        with pytest.raises(FileError, match="larger than 1048576 bytes"):
            files.read(path)
        assert files.tail(path, 5) == []

    @pytest.mark.parametrize(
        "path",
        ["", "galaxy.yml", "./x", "/etc/\0passwd", "/\udfff", "/" + "x" * 256, "/x" * 5000, None, 7, b"/etc/passwd"],
    )
    def test_what_is_no_path(self, path):
        with pytest.raises(FileError):
            files.read(path)

    def test_missing(self, home):
        run_as(GALAXY, os.symlink, "nowhere", home / "dangling")
        for name in ("gone", "gone/deeper", "dangling"):
            with pytest.raises(FileMissing, match="no such file"):
                files.read(str(home / name))
        make(home / "file", GALAXY, 0o644, b"")
        with pytest.raises(FileError, match="not a directory"):
            files.read(str(home / "file" / "deeper"))

    def test_a_race_of_file_and_link(self, home, shadow):
        make(home / "log", GALAXY, 0o644, b"mine\n")
        run_as(GALAXY, os.symlink, shadow, home / "link")
        self._race(home / "log", home / "link", home / "log", {b"mine\n"})

    def test_a_race_of_directories(self, place, home):
        make(place / "secret", 0, 0o700)
        make(place / "secret" / "log", 0, 0o600, SECRET)
        make(home / "logs", GALAXY)
        make(home / "logs" / "log", GALAXY, 0o644, b"mine\n")
        run_as(GALAXY, os.symlink, place / "secret", home / "link")
        self._race(home / "logs", home / "link", home / "logs" / "log", {b"mine\n"})

    @staticmethod
    def _race(one, two, path, allowed):
        seen = set()
        with racing(GALAXY, lambda: exchange(one, two)):
            for _ in rounds(lambda: len(seen) > 1):
                try:
                    seen.add(files.read(str(path)))
                except FileError:
                    seen.add(None)
        # each outcome of the race was seen
        assert seen == {None, *allowed}


class TestTail:
    def test_the_last_lines(self, home):
        path = make(home / "log", GALAXY, 0o644, "".join(f"line {number} \xe9\n" for number in range(20000)).encode())
        assert files.tail(path, 2) == ["line 19998 \xe9", "line 19999 \xe9"]
        assert files.tail(path, 0) == []
        everything = files.tail(path, 10**9)
        assert everything[-1] == "line 19999 \xe9"
        assert sum(len(line.encode()) + 1 for line in everything) <= files.TAIL
        assert all(line.startswith("line ") for line in everything)

    def test_short_and_not_text(self, home):
        assert files.tail(make(home / "short", GALAXY, 0o644, b"one\ntwo"), 10) == ["one", "two"]
        assert files.tail(make(home / "empty", GALAXY, 0o644, b""), 10) == []
        assert files.tail(make(home / "binary", GALAXY, 0o644, b"\xff\0\n"), 10) == ["\ufffd\0"]


def test_who_decides_what_a_file_says(place, home):
    path = make(home / "x", 0, 0o644, b"")
    assert files.deciders(path) == {0, GALAXY}
    os.symlink(path, place / "link")
    assert files.deciders(str(place / "link")) == {0, GALAXY}
    assert files.deciders(str(home / "none")) == {GALAXY}
    assert files.deciders("/etc/passwd") == {0}
    assert files.deciders(f"{path}/below") == set()
    for one in (path, str(place / "link"), "/etc/passwd"):
        found = set()
        files.read(one, deciders=found)
        assert found == files.deciders(one)


class TestTrust:
    def test_what_is_roots(self, place):
        for path in ("/bin/sh", "/etc/passwd", "/", "/usr", make(place / "conf", 0, 0o600, b""), str(place)):
            files.require_trusted(path)
        # a file that the group root may write is trusted
        files.require_trusted(make(place / "group", 0, 0o664, b"", gid=0))
        os.symlink("conf", place / "link")
        files.require_trusted(str(place / "link"))

    @pytest.mark.parametrize(
        ("uid", "gid", "mode", "who"),
        [(GALAXY, 0, 0o644, "user 4001"), (0, GALAXY, 0o664, "group 4001"), (0, 0, 0o646, "everybody")],
    )
    def test_what_others_can_write(self, place, uid, gid, mode, who):
        path = make(place / "supervisord.conf", uid, mode, b"", gid)
        with pytest.raises(FileError, match=f"{who} can write it") as caught:
            files.require_trusted(path)
        assert caught.value.user == who

    @pytest.mark.parametrize(("uid", "mode"), [(GALAXY, 0o755), (0, 0o777), (0, 0o775)])
    def test_what_others_can_replace(self, place, uid, mode):
        make(place / "directory", uid, mode, gid=GALAXY)
        make(place / "directory" / "deeper", 0)
        path = make(place / "directory" / "deeper" / "supervisord", 0, 0o755, b"")
        with pytest.raises(FileError, match="can put something else there"):
            files.require_trusted(path)
        # a link that root made to a file in that directory
        os.symlink(path, place / "link")
        with pytest.raises(FileError, match="can put something else there"):
            files.require_trusted(str(place / "link"))

    def test_a_link_of_somebody_elses(self, place):
        make(place / "tmp", 0, 0o1777)
        run_as(GALAXY, os.symlink, "/bin/sh", place / "tmp" / "sh")
        with pytest.raises(FileError, match="user 4001"):
            files.require_trusted(str(place / "tmp" / "sh"))

    def test_ourselves(self, place):
        path = make(place / "own", GALAXY, 0o755)
        make(place / "own" / "conf", GALAXY, 0o644, b"")
        run_as(GALAXY, files.require_trusted, f"{path}/conf")
        with pytest.raises(RuntimeError, match=r"FileError.*user 4001"):
            run_as(MALLORY, files.require_trusted, f"{path}/conf")

    def test_no_file(self, place):
        os.mkfifo(place / "fifo")
        with pytest.raises(FileError, match="neither"):
            files.require_trusted(str(place / "fifo"))
        with pytest.raises(FileMissing):
            files.require_trusted(str(place / "gone"))

    def test_places(self, place, home):
        os.symlink("galaxy", place / "to-home")
        os.symlink(home / "deeper", place / "into-home")
        os.symlink("loop", place / "loop")
        # the owner of the last directory does not matter
        for path in (place / "gone" / "deeper", home, place / "to-home", "/", f"{home}/"):
            files.require_place(str(path))
        for path in (home / "export", home / "gone" / "export", place / "into-home", "/tmp/gone-for-ever", "/tmp/a/b"):
            with pytest.raises(FileError, match="can put something else there"):
                files.require_place(str(path))
        for path in ("relative", "", None, str(place / "loop")):
            with pytest.raises(FileError):
                files.require_place(path)

    def test_a_place_where_nobody_answers(self, place):
        """A mount point whose filesystem hangs is still a place."""
        make(place / "mount", 0)
        with fuse.mounted(place / "mount", 0, answers=False):
            files.require_place(str(place / "mount"))


class TestMakeDirectories:
    def test_new_ones(self, place):
        path = place / "a" / "b"
        assert files.make_directories(str(path), GALAXY, MALLORY, 0o750) is True
        for each in (path, path.parent):
            status = each.stat()
            assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (GALAXY, MALLORY, 0o750)
        assert files.make_directories(str(path / "c"), GALAXY, GALAXY, 0o755) is True
        assert files.make_directories(str(path), 0, 0, 0o700) is False
        assert path.stat().st_uid == GALAXY

    def test_a_link_below_galaxys_directory(self, place, home):
        """galaxy owns the root of the volume, and the next boot makes what is missing there."""
        etc = pathlib.Path(make(place / "etc", 0))
        run_as(GALAXY, os.symlink, etc, home / "config")
        with pytest.raises(FileError, match="config is a symbolic link that user 4001 may have made"):
            files.make_directories(str(home / "config" / "cron.d"), GALAXY, GALAXY, 0o755)
        assert not (etc / "cron.d").exists()
        with pytest.raises(FileError, match="symbolic link"):
            files.make_directories(str(home / "config"), GALAXY, GALAXY, 0o755)

    def test_a_link_of_roots(self, place):
        make(place / "export", 0)
        os.symlink("export", place / "link")
        assert files.make_directories(str(place / "link" / "galaxy"), GALAXY, GALAXY, 0o755) is True
        assert (place / "export" / "galaxy").stat().st_uid == GALAXY

    def test_what_is_there_keeps_its_owner(self, home):
        make(home / "roots", 0, 0o700)
        assert files.make_directories(str(home / "roots"), GALAXY, GALAXY, 0o755) is False
        assert (home / "roots").stat().st_uid == 0
        make(home / "file", 0, 0o600, b"")
        with pytest.raises(FileError, match="not a directory"):
            files.make_directories(str(home / "file"), GALAXY, GALAXY, 0o755)

    def test_in_a_directory_of_a_third_user(self, place):
        make(place / "mallory", MALLORY)
        with pytest.raises(FileError, match="user 4002 can put something else there"):
            files.make_directories(str(place / "mallory" / "galaxy"), GALAXY, GALAXY, 0o755)
        assert not (place / "mallory" / "galaxy").exists()

    def test_a_race_for_roots_directory(self, home):
        """Before root gives the new directory away, galaxy exchanges it for one of root's that lies beside it."""
        precious = make(home / "precious", 0, 0o700)
        make(home / "precious" / "secret", 0, 0o600, SECRET)
        held = os.open(precious, os.O_RDONLY)

        def attack():
            try:
                exchange(home / "new", precious)
            except OSError:
                with contextlib.suppress(OSError):
                    os.rename(home / "new", precious)

        results = set()
        with racing(GALAXY, attack):
            for _ in rounds(lambda: len(results) > 2):
                try:
                    results.add(files.make_directories(str(home / "new"), GALAXY, GALAXY, 0o755))
                except FileError as exc:
                    results.add(str(exc).rpartition(": ")[2])
                for path in (home / "new", precious):
                    # root's directory is not empty, so it stays
                    with contextlib.suppress(OSError):
                        os.rmdir(path)
                assert os.fstat(held).st_uid == 0
        os.close(held)
        assert {True, False, "new was exchanged for another while it was made"} <= results


class TestGive:
    def test_from_root(self, place):
        directory, file = make(place / "directory", 0), make(place / "file", 0, 0o600, b"")
        for path in (directory, file):
            assert files.give(path, GALAXY, MALLORY, 0o640) is True
            status = os.stat(path)
            assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (GALAXY, MALLORY, 0o640)
            assert files.give(path, GALAXY, MALLORY, 0o640) is False
            assert files.give(path, GALAXY, GALAXY, 0o600) is True
            with pytest.raises(FileError, match="belongs to user 4001"):
                files.give(path, MALLORY, MALLORY, 0o600)

    def test_what_somebody_else_prepared(self, place, home, shadow):
        make(home / "roots", 0, 0o600, SECRET)
        run_as(GALAXY, os.symlink, shadow, home / "link")
        for name in ("roots", "link"):
            with pytest.raises(FileError, match="user 4001"):
                files.give(str(home / name), GALAXY, GALAXY, 0o644)
        os.link(shadow, place / "second")
        with pytest.raises(FileError, match="hard link"):
            files.give(str(place / "second"), GALAXY, GALAXY, 0o644)
        os.mkfifo(place / "fifo")
        with pytest.raises(FileError, match="neither"):
            files.give(str(place / "fifo"), GALAXY, GALAXY, 0o644)
        assert {os.stat(path).st_uid for path in (shadow, home / "roots", place / "fifo")} == {0}
        with pytest.raises(FileMissing):
            files.give(str(place / "gone"), GALAXY, GALAXY, 0o644)

    def test_a_race(self, place, home, shadow):
        """Making a file and then changing its owner by its path: an attacker won this race after 593 tries."""
        run_as(GALAXY, os.symlink, shadow, home / "link")
        make(home / "target", GALAXY, 0o700)
        with racing(GALAXY, lambda: exchange(home / "target", home / "link")):
            for number in range(3000):
                try:
                    files.give(str(home / "target"), GALAXY, GALAXY, 0o700 + number % 8)
                except FileError as exc:
                    assert "symbolic link" in str(exc)
        status = os.stat(shadow)
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (0, 0o600)


class TestWriteFifo:
    @pytest.fixture
    def fifo(self, home):
        """A FIFO of galaxy's, and an open descriptor that reads it."""
        path = home / "fifo"
        run_as(GALAXY, os.mkfifo, path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        yield path, reader
        os.close(reader)

    def test_it_is_written(self, fifo):
        path, reader = fifo
        files.write_fifo(str(path), b"r", GALAXY)
        assert os.read(reader, 10) == b"r"

    def test_nobody_reads(self, home, fifo):
        path, _ = fifo
        run_as(GALAXY, os.mkfifo, home / "idle")
        with pytest.raises(FileError, match="nobody reads it"):
            files.write_fifo(str(home / "idle"), b"r", GALAXY)
        writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, b"r" * 4096)
        os.close(writer)
        with pytest.raises(FileError, match="is full"):
            files.write_fifo(str(path), b"r", GALAXY)

    def test_what_is_not_the_masters_fifo(self, place, home, fifo):
        os.mkfifo(place / "roots", 0o600)
        roots = os.open(place / "roots", os.O_RDONLY | os.O_NONBLOCK)
        run_as(GALAXY, os.symlink, place / "roots", home / "link")
        run_as(GALAXY, os.symlink, fifo[0], home / "own-link")
        precious = make(place / "precious", 0, 0o600, b"# root's file")
        run_as(GALAXY, os.symlink, precious, home / "file-link")
        os.mkfifo(home / "roots-here")
        for path, reason in (
            (home / "link", "symbolic link"),
            (home / "own-link", "symbolic link"),
            (home / "file-link", "symbolic link"),
            (place / "roots", "the FIFO of user root, not of user 4001"),
            (home / "roots-here", "the FIFO of user root, not of user 4001"),
            (precious, "not a FIFO"),
            (home, "not a FIFO"),
        ):
            with pytest.raises(FileError, match=reason):
                files.write_fifo(str(path), b"r", GALAXY)
        # Galaxy runs as root, but galaxy can write the configuration
        with pytest.raises(FileError, match="user 4001 can put something else there"):
            files.write_fifo(str(home / "roots-here"), b"r", 0)
        assert os.read(roots, 10) == b""
        os.close(roots)
        assert pathlib.Path(precious).read_bytes() == b"# root's file"

    @pytest.mark.parametrize("target", ["file", "fifo"])
    def test_a_race(self, place, home, fifo, target):
        """An attacker won a race of this kind after 637 calls: root's file got an `r`."""
        path, reader = fifo
        precious = place / "precious"
        if target == "file":
            make(precious, 0, 0o600, b"# root's file")
        else:
            os.mkfifo(precious, 0o600)
        other = os.open(precious, os.O_RDONLY | os.O_NONBLOCK)
        run_as(GALAXY, os.symlink, precious, home / "link")
        results = set()
        with racing(GALAXY, lambda: exchange(path, home / "link")):
            for _ in rounds(lambda: len(results) > 1):
                try:
                    files.write_fifo(str(path), b"r", GALAXY)
                    os.read(reader, 100)
                    results.add("written")
                except FileError as exc:
                    results.add(str(exc).rpartition(": ")[2])
        assert results == {"written", "is a symbolic link, which is not followed here"}
        if target == "file":
            assert os.read(other, 100) == b"# root's file"
        else:
            assert os.read(other, 100) == b""
        os.close(other)


class TestWriteAtomic:
    def test_new_and_again(self, place):
        path = place / "galaxy.service"
        for content, mode in ((b"one\n", 0o600), (b"two\n", 0o644)):
            files.write_atomic(str(path), content, mode)
            status = path.stat()
            assert (path.read_bytes(), stat.S_IMODE(status.st_mode), status.st_uid) == (content, mode, 0)
        assert os.listdir(place) == ["galaxy.service"]

    def test_a_link_is_replaced(self, place, shadow):
        os.symlink(shadow, place / "unit")
        files.write_atomic(str(place / "unit"), b"x", 0o644)
        assert pathlib.Path(shadow).read_bytes() == SECRET
        assert not (place / "unit").is_symlink()

    def test_not_where_others_write(self, place, home):
        make(place / "shared", 0, 0o1777)
        for path in (home / "unit", place / "shared" / "unit"):
            with pytest.raises(FileError, match="can write the directory"):
                files.write_atomic(str(path), b"x", 0o644)
            assert not path.exists()
        make(home / "deeper", 0)
        with pytest.raises(FileError, match="can put something else there"):
            files.write_atomic(str(home / "deeper" / "unit"), b"x", 0o644)

    def test_failures(self, place):
        with pytest.raises(FileMissing):
            files.write_atomic(str(place / "gone" / "unit"), b"x", 0o644)
        (place / "directory").mkdir()
        with pytest.raises(FileError, match="cannot be used: Is a directory"):
            files.write_atomic(str(place / "directory"), b"x", 0o644)
        assert os.listdir(place) == ["directory"]


def test_names_in_a_directory(tmp_path):
    for name in ("b", "a"):
        (tmp_path / name).touch()
    assert files.names(str(tmp_path)) == ["a", "b"]
    assert files.names(f"{tmp_path}/none") == []
    with pytest.raises(FileError, match="more than 1 names"):
        files.names(str(tmp_path), limit=1)
    with pytest.raises(FileError, match="is not a directory"):
        files.names(f"{tmp_path}/a")


def test_names_that_who_named_the_directory_may_not_list():
    with public_directory() as path:
        inner = make(f"{path}/inner", 0, 0o711)
        assert files.names(inner) == []
        with pytest.raises(FileError, match="may not read it"):
            files.names(inner, named_by=[GALAXY])


def test_the_groups_of_its_owner_are_asked_for_where_a_group_can_write_alone(monkeypatch):
    asked = []
    monkeypatch.setattr(files, "_groups", lambda uid: asked.append(uid) or [GALAXY])
    with public_directory() as path:
        home = make(f"{path}/galaxy", GALAXY)
        own = make(f"{home}/own", GALAXY)
        assert (files.owner(own), asked) == (GALAXY, [])
        os.chown(home, GALAXY, GALAXY)
        os.chmod(home, 0o775)
        assert (files.owner(own), asked) == (GALAXY, [GALAXY])
        os.chown(home, GALAXY, MALLORY)
        with pytest.raises(FileError, match="can put something else there"):
            files.owner(own)


def test_whose_a_directory_is():
    with public_directory() as path:
        home = make(f"{path}/galaxy", GALAXY)
        own, roots = make(f"{home}/own", GALAXY), make(f"{home}/roots", 0)
        assert (files.owner(path), files.owner(own)) == (0, GALAXY)
        # galaxy can put another directory in place of root's
        with pytest.raises(FileError, match="can put something else there"):
            files.owner(roots)
        with pytest.raises(FileMissing):
            files.owner(f"{path}/none")
        os.chmod(home, 0o757)
        with pytest.raises(FileError, match="everybody can put something else there"):
            files.owner(own)
