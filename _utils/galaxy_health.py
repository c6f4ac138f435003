"""
Find out whether Celery answers, and whether each of Galaxy's processes gives signs of life. No process manager knows
this.

Galaxy's own Python asks, as Galaxy's user and with Galaxy's own configuration. So the passwords of the broker and the
database do not pass through us. The answer comes from Galaxy's user, so it is checked.
"""

import json
import time
from collections.abc import Mapping
from typing import Any

from galaxy_errors import CommandError
from galaxy_gravity_command import Commands
from galaxy_host_pattern import Pattern
from galaxy_host_process import Process
from galaxy_host_redaction import printable
from galaxy_service import Role

# a process gives a sign of life every 60 s, later if it is busy
SILENT = 180
# seconds for Celery's workers to reply
_PING = 3
_MAX_ROWS, _MAX_TEXT = 500, 255

# Prints only the names of exceptions, because their texts may hold passwords. Galaxy's own output goes elsewhere.
_SCRIPT = """
import os, sys
answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
sys.path[:] = [path for path in sys.path if path]
import datetime, json, socket, threading, time

config_file, asks_celery, seconds, ping, limit = sys.argv[1], sys.argv[2] == "celery", *map(float, sys.argv[3:6])
end = time.monotonic() + seconds
host = socket.gethostname()
found = {"host": host, "celery": None, "processes": None, "errors": {}}


def read_processes():
    from galaxy.config import Configuration
    from galaxy.util.properties import load_app_properties
    import sqlalchemy

    properties = load_app_properties(config_file=config_file, config_section="galaxy")
    url = sqlalchemy.engine.make_url(Configuration(**{**properties, "override_tempdir": False}).database_connection)
    if url.drivername.startswith("sqlite") and not os.path.exists(url.database or ""):
        raise FileNotFoundError
    query = "SELECT * FROM worker_process WHERE hostname = :host ORDER BY update_time DESC LIMIT :limit"
    with sqlalchemy.create_engine(url).connect() as connection:
        rows = connection.execute(sqlalchemy.text(query), {"host": host, "limit": int(limit)})
        rows = [dict(row) for row in rows.mappings()]
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    found["processes"] = [
        [row["server_name"], row["pid"], row.get("app_type"), age(now, row["update_time"])]
        for row in rows
        if row["server_name"] and row.get("pid") and row["update_time"]
    ]


def age(now, updated):
    if isinstance(updated, str):
        updated = datetime.datetime.fromisoformat(updated)
    return (now - updated).total_seconds()


def ask_celery():
    from celery.app.utils import find_app

    replies = find_app("galaxy.celery").control.inspect(timeout=ping).ping() or {}
    found["celery"] = {name: "ok" in reply for name, reply in replies.items()}


def part(name, ask):
    try:
        ask()
    except BaseException as exc:
        found["errors"][name] = type(exc).__name__


asked = {"processes": read_processes, **({"celery": ask_celery} if asks_celery else {})}
# one after the other: both import much of Galaxy
for name, ask in asked.items():
    thread = threading.Thread(target=part, args=(name, ask), daemon=True)
    thread.start()
    thread.join(max(0.0, end - time.monotonic()))
    if thread.is_alive():
        found["errors"].setdefault(name, "TimeoutError")
json.dump(found, answer)
answer.flush()
os._exit(0)
"""
_NAME = Pattern(r"[A-Za-z_][A-Za-z0-9_]{0,80}")


def read(commands: Commands, timeout: float = 120) -> dict[str, Any]:
    """
    Ask Galaxy's Celery workers, and look at the signs of life of its processes on this machine.

    timeout
        seconds

    Returns

    healthy
        ``False`` if something is wrong, ``None`` if not all could be asked
    celery
        ``"pong"`` for each worker that replied, by its name
    processes
        by server name: ``pid``, ``age`` (seconds since its last sign of life) and ``app_type`` (``webapp``; ``None``
        for a handler)
    seconds
        how long this took
    problems
        sentences

    Raises ``ConfigError`` or ``FileError`` if Galaxy's Python is not there, or cannot be trusted.
    """
    started = time.monotonic()
    roles = [program.role for program in commands.instance.programs]
    asks_celery = Role.CELERY in roles
    # a little less than the time limit: if one part hangs, the others are still reported
    words = [
        *(commands.instance.galaxy_config, "celery" if asks_celery else "-"),
        *(f"{max(timeout - 2, timeout / 2):g}", f"{_PING:g}", f"{_MAX_ROWS:g}"),
    ]
    doubts: list[str] = []
    faults: list[str] = []
    try:
        answer = _checked(commands.python(_SCRIPT, *words, role=Role.CELERY, timeout=timeout))
    except CommandError as exc:
        answer = None
        doubts.append(f"Galaxy's own Python does not tell how Galaxy is: {exc}")
    except ValueError as exc:
        answer = None
        doubts.append(
            f"Galaxy's own Python does not tell how Galaxy is: {exc}; see whether, as {commands.account.name}, "
            "python -c 'import galaxy.config' works with it"
        )
    celery: dict[str, str] = {}
    processes: dict[str, dict[str, Any]] = {}
    if answer:
        celery = {name: "pong" for name, is_well in answer["celery"].items() if is_well}
        if asks_celery:
            _judge_celery(answer, celery, doubts, faults)
        _judge_processes(commands, answer, processes, doubts, faults)
    return {
        "healthy": False if faults else None if doubts else True,
        "celery": celery,
        "processes": processes,
        "seconds": round(time.monotonic() - started, 1),
        "problems": [*faults, *doubts],
    }


def _judge_celery(answer: Mapping[str, Any], celery: Mapping[str, str], doubts: list[str], faults: list[str]) -> None:
    error = answer["errors"].get("celery")
    if error:
        doubts.append(f"Celery's workers could not be asked ({error}): see that the broker runs and can be reached")
    elif not celery:
        faults.append(f"no Celery worker replies within {_PING} s: it does not run, is stopped, or hangs")
    elif not any(name.partition("@")[2] == answer["host"] for name in celery):
        doubts.append(
            f"Celery workers of other machines reply, but none with this machine's name, {answer['host']}: it "
            "cannot be told whether this Galaxy's own workers are well"
        )


def _judge_processes(
    commands: Commands,
    answer: Mapping[str, Any],
    processes: dict[str, dict[str, Any]],
    doubts: list[str],
    faults: list[str],
) -> None:
    error = answer["errors"].get("processes")
    if error:
        doubts.append(f"The signs of life of Galaxy's processes could not be read ({error}): see its database")
        return
    for name, pid, app_type, age in answer["processes"]:
        process = Process.of(pid)
        # killed processes leave their rows, and another process may have the PID now
        uids = process.uids if process else None
        if not process or not uids or uids[1] != commands.account.uid or process.create_time > time.time() - age + 1:
            continue
        processes[name] = {"pid": pid, "age": round(max(age, 0.0), 1), "app_type": app_type}
        if process.is_suspended:
            faults.append(f"{name} (PID {pid}) is stopped by a signal: kill -CONT {pid}, or restart it")
        elif age > SILENT:
            faults.append(f"{name} (PID {pid}) lives, but has given no sign of life for {age:.0f} s")
    wanted = [program.server_name for program in commands.instance.programs if program.role is Role.HANDLER]
    faults += [
        f"{name} gives no sign of life: it does not run, or has not come up yet"
        for name in wanted
        if name not in processes
    ]


def _checked(text: str) -> dict[str, Any]:
    """
    The script's answer, with ``host``, ``celery`` (by name, whether it is well), ``processes`` (rows) and ``errors``
    (by part). Raises ``ValueError`` if the answer has another shape.
    """
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("its answer is not JSON") from None
    is_shaped = isinstance(answer, dict) and isinstance(answer.get("errors"), dict)
    if not is_shaped or not isinstance(answer.get("host"), str):
        raise ValueError("its answer has another shape")
    celery, rows = answer.get("celery") or {}, answer.get("processes") or []
    if not isinstance(celery, dict) or not isinstance(rows, list) or len(celery) > _MAX_ROWS or len(rows) > _MAX_ROWS:
        raise ValueError("its answer has another shape")
    return {
        "host": _text(answer["host"]),
        "celery": {_text(name): is_well is True for name, is_well in celery.items()},
        "processes": [_row(row) for row in rows],
        "errors": {
            part: error if isinstance(error, str) and _NAME.fullmatch(error) else "Exception"
            for part, error in answer["errors"].items()
            if part in ("celery", "processes")
        },
    }


def _row(row: object) -> tuple[str, int, str | None, float]:
    if isinstance(row, list) and len(row) == 4:
        name, pid, app_type, age = row
        is_number = isinstance(age, (int, float)) and not isinstance(age, bool) and abs(age) < 1e10
        is_pid = isinstance(pid, int) and not isinstance(pid, bool) and 0 < pid < 1 << 31
        if isinstance(name, str) and is_pid and is_number and isinstance(app_type, (str, type(None))):
            return _text(name), pid, app_type and _text(app_type), float(age)
    raise ValueError("a row of its answer has another shape")


def _text(value: str) -> str:
    return printable(value[:_MAX_TEXT])
