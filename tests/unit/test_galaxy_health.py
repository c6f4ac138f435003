"""Signs of life: a real Celery under the real Gravity, and Galaxy's answers about its processes."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pytest

import galaxy_gravity_config
import galaxy_health
from galaxy_errors import CommandError
from galaxy_gravity_command import Commands
from galaxy_host_process import Process
from galaxy_host_wait import Deadline, wait_until


def commands(bed):
    return Commands(galaxy_gravity_config.read(str(bed.config)))


class Answering:
    """Stands for the commands; Python answers what a test says."""

    def __init__(self, bed, answer):
        real = commands(bed)
        self.instance, self.account = real.instance, dataclasses.replace(real.account, uid=os.geteuid())
        self.answer = answer

    def python(self, script, *words, **more):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer if isinstance(self.answer, str) else json.dumps(self.answer)


def read(bed, **answer):
    given = {"host": "here", "celery": None, "processes": [], "errors": {}, **answer}
    return galaxy_health.read(Answering(bed, given))


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def test_celery_that_answers_and_celery_that_is_stopped(make_bed):
    bed = make_bed(celery=True)
    bed.start()
    found = wait_until(lambda: _pinged(bed), Deadline(90), interval=0.5)
    assert found, bed.log()
    assert (list(found["celery"].values()), found["processes"]) == (["pong"], {})
    # the small Galaxy has no database
    assert found["healthy"] is None
    assert "could not be read (ModuleNotFoundError)" in found["problems"][0]
    workers = [process for process in bed.processes() if "worker" in process.cmdline()]
    assert workers
    for process in workers:
        process.suspend()
    found = galaxy_health.read(commands(bed))
    assert (found["healthy"], found["celery"]) == (False, {})
    assert "no Celery worker replies" in found["problems"][0]


def _pinged(bed):
    found = galaxy_health.read(commands(bed))
    return found if found["celery"] else None


def test_celery_whose_application_fails(make_bed):
    bed = make_bed(celery=True)
    bed.open("celery-is-broken")
    found = galaxy_health.read(commands(bed))
    assert found["healthy"] is None
    assert "could not be asked (RuntimeError)" in found["problems"][0]


def test_a_galaxy_without_celery_is_not_asked_for_it(make_bed):
    found = galaxy_health.read(commands(make_bed()))
    assert (found["celery"], len(found["problems"])) == ({}, 1)


def test_all_is_well(make_bed, sleeper, monkeypatch):
    monkeypatch.setattr(Process, "create_time", 1.0)
    bed = make_bed(celery=True, handlers=1)
    found = read(
        bed,
        celery={"celery@here": True},
        processes=[["handler_0", sleeper.pid, None, 30.04], ["main.1", os.getpid(), "webapp", -0.2]],
    )
    assert (found["healthy"], found["problems"], found["celery"]) == (True, [], {"celery@here": "pong"})
    assert found["processes"] == {
        "handler_0": {"pid": sleeper.pid, "age": 30.0, "app_type": None},
        "main.1": {"pid": os.getpid(), "age": 0.0, "app_type": "webapp"},
    }


def test_a_handler_that_is_stopped_silent_or_gone(make_bed, sleeper):
    bed = make_bed(handlers=1)
    sleeper.send_signal(signal.SIGSTOP)
    assert wait_until(lambda: Process.of(sleeper.pid).is_suspended, Deadline(180))
    found = read(bed, processes=[["handler_0", sleeper.pid, None, 0]])
    assert found["healthy"] is False
    assert f"handler_0 (PID {sleeper.pid}) is stopped by a signal" in found["problems"][0]
    age = time.time() - Process.of(os.getpid()).create_time - 0.5
    found = read(bed, processes=[["handler_0", (1 << 31) - 1, None, 20]])
    assert "handler_0 gives no sign of life" in found["problems"][0]
    found = read(bed, processes=[["handler_0", os.getpid(), None, age + 500]])
    # the row is older than the process: it is of a killed process, and its PID was given again
    assert (found["processes"], found["healthy"]) == ({}, False)


def test_silence(make_bed, monkeypatch):
    bed = make_bed(handlers=1)
    monkeypatch.setattr(Process, "create_time", 1.0)
    # a busy handler gives its sign of life late
    assert read(bed, processes=[["handler_0", os.getpid(), None, 100]])["healthy"] is True
    found = read(bed, processes=[["handler_0", os.getpid(), None, 200]])
    assert found["healthy"] is False
    assert f"handler_0 (PID {os.getpid()}) lives, but has given no sign of life for 200 s" in found["problems"][0]


def test_workers_of_other_machines(make_bed):
    bed = make_bed(celery=True)
    found = read(bed, celery={"celery@there": True, "celery@here": False})
    assert (found["healthy"], found["celery"]) == (None, {"celery@there": "pong"})
    assert "none with this machine's name, here" in found["problems"][0]


@pytest.mark.parametrize(
    "answer",
    [
        *("", "[]", "{}", "null", "[" * 100_000, '{"host": "h", "errors": {}, "processes": [1]}'),
        *(
            json.dumps({"host": "h", "errors": {}, "processes": [row]})
            for row in (["n", True, None, 1], ["n", 1, 1, 1])
        ),
        *('{"host": "h", "errors": {}, "processes": [["n", 1, null, NaN]]}', '{"host": 1, "errors": {}}'),
        *('{"host": "h", "errors": []}', '{"host": "h", "errors": {}, "celery": [1]}'),
        json.dumps({"host": "h", "errors": {}, "processes": [["n", 1 << 40, None, 1]]}),
        json.dumps({"host": "h", "errors": {}, "celery": {str(number): True for number in range(501)}}),
    ],
)
def test_an_answer_that_is_none(make_bed, answer):
    found = galaxy_health.read(Answering(make_bed(), answer))
    assert (found["healthy"], len(found["problems"])) == (None, 1)
    assert "does not tell how Galaxy is: " in found["problems"][0]


def test_texts_of_the_answer_are_bounded_and_printable(make_bed):
    bed = make_bed(celery=True)
    found = read(bed, celery={"a\x1b[2J\n" * 200: True}, errors={"processes": "password=hunter2", "other": "X"})
    assert "hunter2" not in str(found)
    assert "could not be read (Exception)" in found["problems"][1]
    assert all(len(name) < 2000 and "\x1b" not in name and "\n" not in name for name in found["celery"])


def test_a_python_that_does_not_end(make_bed):
    found = galaxy_health.read(Answering(make_bed(), CommandError(["python"], "did not end within 1 s")))
    assert (found["healthy"], len(found["problems"])) == (None, 1)
    assert "did not end within 1 s" in found["problems"][0]
