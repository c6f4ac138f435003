"""Where keys come from."""

import os
import pty
import secrets
import threading
from unittest import mock

import pytest
from salt.exceptions import CommandExecutionError

import galaxy_host_key
from galaxy_errors import KeySourceError
from galaxy_host_secret import MASK


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(b"two\nlines\0\n")
    path.chmod(0o600)
    return path


def test_a_key_file_is_read_byte_for_byte(key_file):
    assert galaxy_host_key.read_file(str(key_file)).reveal() == b"two\nlines\0\n"
    key_file.chmod(0o400)
    assert galaxy_host_key.read_file(str(key_file))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_key_file_open_to_others_is_refused(key_file, mode):
    key_file.chmod(mode)
    with pytest.raises(KeySourceError, match=f"{key_file}.*{mode:04o}.*chmod"):
        galaxy_host_key.read_file(str(key_file))


def test_a_key_file_of_another_user_is_refused(key_file):
    os.chown(key_file, 65534, 65534)
    with pytest.raises(KeySourceError, match="65534"):
        galaxy_host_key.read_file(str(key_file))


def test_what_is_no_key_file_is_refused(tmp_path, key_file):
    (tmp_path / "empty").touch(mode=0o600)
    (tmp_path / "link").symlink_to(key_file)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("empty", "link", "pipe", "missing", "."):
        with pytest.raises(KeySourceError):
            galaxy_host_key.read_file(str(tmp_path / name))


def test_the_last_newline_of_a_passphrase_is_left_out():
    assert galaxy_host_key.passphrase("words\n", "pillar").reveal() == b"words"
    assert galaxy_host_key.passphrase("words\n\n", "pillar").reveal() == b"words\n"
    assert galaxy_host_key.passphrase("grün", "pillar").reveal() == "grün".encode()
    assert galaxy_host_key.passphrase(b"\xff\n", "sdb").reveal() == b"\xff"


@pytest.mark.parametrize("value", [None, "", "\n", 1234, ["words"], {"a": "b"}, True, MASK])
def test_what_is_no_passphrase_is_refused(value):
    with pytest.raises(KeySourceError, match="pillar://where") as caught:
        galaxy_host_key.passphrase(value, "pillar://where")
    assert "words" not in str(caught.value)
    assert "1234" not in str(caught.value)


def test_a_database_that_fails_is_asked_again_until_it_answers():
    answers = iter([ConnectionRefusedError(), CommandExecutionError("sealed"), "words"])

    def get(source):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert galaxy_host_key.resolve("sdb://keys/galaxy", {"sdb.get": get}, {}, "x", timeout=30).reveal() == b"words"


def test_a_database_that_stays_down_is_an_error_that_quotes_salt_alone():
    for failure, said in (
        (CommandExecutionError("sealed"), "sealed"),
        (ValueError("the token hunter2 is bad"), "ValueError"),
    ):
        get = mock.Mock(side_effect=failure)
        with pytest.raises(KeySourceError, match=f"sdb://keys/galaxy: cannot be read: {said}$"):
            galaxy_host_key.resolve("sdb://keys/galaxy", {"sdb.get": get}, {}, "x")
        with pytest.raises(KeySourceError, match=rf"cannot be read \(\d+ times within 0.3 s\): {said}$") as caught:
            galaxy_host_key.resolve("sdb://keys/galaxy", {"sdb.get": get}, {}, "x", timeout=0.3)
        assert caught.value.__cause__ is None


def test_a_database_without_the_key_is_asked_once():
    asked = []
    with pytest.raises(KeySourceError, match="holds nothing, not a passphrase"):
        galaxy_host_key.resolve("sdb://keys/galaxy", {"sdb.get": asked.append}, {}, "x", timeout=30)
    assert asked == ["sdb://keys/galaxy"]


def test_a_generated_key_is_new_private_and_never_replaced(tmp_path):
    first, second = tmp_path / "keys" / "first", tmp_path / "keys" / "second"
    galaxy_host_key.generate_file(str(first))
    galaxy_host_key.generate_file(str(second))
    assert first.stat().st_mode & 0o777 == 0o600
    assert first.parent.stat().st_mode & 0o777 == 0o700
    key = galaxy_host_key.read_file(str(first)).reveal()
    assert len(key) == 128
    assert key != second.read_bytes()
    with pytest.raises(KeySourceError, match="already"):
        galaxy_host_key.generate_file(str(first))
    assert first.read_bytes() == key
    assert sorted(os.listdir(first.parent)) == ["first", "second"]


def test_a_prompted_passphrase_is_not_echoed():
    pid, terminal = pty.fork()
    if pid == 0:
        os._exit(galaxy_host_key.prompt("/dev/vdb").reveal() != b"typed words")
    shown = b""
    while b"Passphrase for /dev/vdb: " not in shown:
        shown += os.read(terminal, 1024)
    os.write(terminal, b"typed words\n")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert b"typed" not in shown + os.read(terminal, 1024)
    os.close(terminal)


def test_prompting_needs_a_terminal():
    # a new session has no controlling terminal
    pid = os.fork()
    if pid == 0:
        os.setsid()
        try:
            galaxy_host_key.prompt("/dev/vdb")
        except KeySourceError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_key_file_on_trial_is_not_made_and_fails_as_the_run(tmp_path):
    path = tmp_path / "keys" / "galaxy"
    galaxy_host_key.generate_file(str(path), test=True)
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("/nonexistent/file")
    for bad in (
        tmp_path / "file",
        tmp_path / "dangling",
        tmp_path / "file" / "key",
        "/proc/none/key",
        "/a\0b",
        f"{tmp_path}/{250 * 'x'}",
    ):
        for test in (True, False):
            with pytest.raises(KeySourceError):
                galaxy_host_key.generate_file(str(bad), test=test)


def test_of_two_runs_that_make_one_key_file_at_once_one_is_refused(tmp_path, monkeypatch):
    path, make, both = tmp_path / "key", secrets.token_hex, threading.Barrier(2)
    # until both have seen that there is no file
    monkeypatch.setattr(secrets, "token_hex", lambda size: (both.wait(120), make(size))[1])
    refused = []

    def run():
        try:
            galaxy_host_key.generate_file(str(path))
        except KeySourceError as exc:
            refused.append(str(exc))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 1
    assert "there already is a key file; it was left as it is" in refused[0]
    assert os.listdir(tmp_path) == ["key"]
    assert galaxy_host_key.read_file(str(path))


def test_clevis_that_is_not_there_or_knows_nothing(monkeypatch, tmp_path):
    for script, match in (
        ("echo 'no LUKS device' >&2; exit 1", "no LUKS device"),
        ("true", "no key slot is bound"),
        (
            "[ $2 = list ] && echo '1: tang {}' && exit; echo 'cannot reach tang' >&2; exit 1",
            r"slot 1 \(tang\).*cannot reach",
        ),
    ):
        program = tmp_path / "clevis"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        with pytest.raises(KeySourceError, match=f"clevis://: gives no passphrase of /dev/vdb: .*{match}"):
            galaxy_host_key.resolve("clevis:///dev/vdb", {}, {}, "/dev/vdb")
    program.write_text("#!/bin/sh\n[ $2 = list ] && echo '3: tpm2 {}' || printf 'pass phrase'\n")
    assert galaxy_host_key.resolve("clevis:///dev/vdb", {}, {}, "/dev/vdb").reveal() == b"pass phrase"
