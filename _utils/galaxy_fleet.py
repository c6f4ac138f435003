"""
Galaxies of many machines, one row each, made from what ``galaxy.status server='*'`` answered there.

An answer may be anything, because root of a minion need not be root of the Salt master. So numbers and texts of a row
are bounded, and no text of it harms a terminal.
"""

import enum
import math
from collections.abc import Iterable, Mapping
from typing import Any

import galaxy_remote
from galaxy_host_count import counted

# limits of a row: characters of a problem, characters of a name, problems. Limits of a minion: servers, services
TEXT, NAME, PROBLEMS, SERVERS, SERVICES = 300, 100, 10, 50, 100
# how a line for a monitoring system begins, and how many characters of a line from another machine are kept
CHECK, LINE = "GALAXY ", 4000

# how two messages begin: galaxy_spec's if pillar names no server, Salt's if a minion lacks this tree
_NO_SERVER = "pillar names no Galaxy server"
_NO_MODULE = "'galaxy.status' is not available"


class State(str, enum.Enum):
    """
    How one server is, worst first.

    ``DEGRADED``: it serves, but something is wrong. ``NOT_READY``: it runs, but no worker is ready. ``SILENT``: the
    minion did not answer in time. ``UNKNOWN``: this cannot be told; the row's problems say why.
    """

    DOWN = "down"
    SILENT = "silent"
    NOT_READY = "not ready"
    UNKNOWN = "unknown"
    DEGRADED = "degraded"
    READY = "ready"


_RANK = {state.value: rank for rank, state in enumerate(State)}
# exit codes, the same as those of monitoring plugins
OK, WARNING, CRITICAL, FAILED = range(4)
_CODES = {State.READY: OK, State.DEGRADED: WARNING, State.UNKNOWN: FAILED}
# the worst code first: a server that is certainly down counts more than an unknown state
_WORST = (CRITICAL, FAILED, WARNING, OK)


class _Malformed(Exception):
    """An answer has a wrong shape; the message says how."""


def fleet(answers: Mapping[str, list[dict[str, Any]]], silent: Iterable[str]) -> dict[str, Any]:
    """
    Make one table of all rows, worst first.

    answers
        by minion: its rows, as :py:func:`rows` makes them; an empty list if the minion has no Galaxy
    silent
        minions that did not answer

    Returns ``rows``; ``totals`` (``minions``, ``servers``, and the number of rows for each state); ``silent`` and
    ``without`` (lists of minions that did not answer, or have no Galaxy); and ``retcode``, from :py:func:`exit_code`.
    """
    silent = sorted(silent)
    found = [row for minion in answers for row in answers[minion]]
    found += [_row(minion, None, State.SILENT, ["no answer in time"]) for minion in silent]
    found.sort(key=lambda row: (_RANK[row["state"]], row["minion"], row["server"] or ""))
    counts = {state.value: 0 for state in State}
    for row in found:
        counts[row["state"]] += 1
    totals = {"minions": len(answers) + len(silent), "servers": len(found) - len(silent), **counts}
    without = sorted(minion for minion, rows_ in answers.items() if not rows_)
    return {
        "rows": found,
        "totals": totals,
        "silent": silent,
        "without": without,
        "retcode": exit_code(found) if found else FAILED,
    }


def exit_code(rows_: Iterable[Mapping[str, Any]]) -> int:
    """
    0 if all servers are ready; 1 if the worst is degraded; 2 if one is down, silent or not ready; 3 if none is, but the
    state of one cannot be told.
    """
    codes = {_CODES.get(State(row["state"]), CRITICAL) for row in rows_}
    return next((code for code in _WORST if code in codes), OK)


def rows(minion: str, returned: Any) -> list[dict[str, Any]]:
    """
    Make the rows of one minion; none if its pillar names no Galaxy.

    returned
        what ``galaxy.status`` returned: the status of one server, of several by name, or the text of an error

    Each row has

    minion, server
        ID of the minion, and name of the server in pillar (``None`` if it has none)
    state
        a value of :py:class:`State`
    ready_workers, workers
        how many workers are ready, and how many there are (without those that uWSGI put away as cheap)
    busy, stuck
        how many workers have a request, and how many are stuck
    oldest_request, uptime
        seconds
    queue, queue_limit
        how many connections wait, and how many may wait
    companions
        ``running`` and ``all``: how many services beside the web server there are; ``None`` if none is known
    web_server, version
        ``uwsgi`` or ``gunicorn``; the version of Galaxy, or else of the web server
    problems
        a list of sentences

    A number that is not known is ``None``.
    """
    if isinstance(returned, str):
        said = text(returned, TEXT)
        if _NO_SERVER in said:
            return []
        return [_row(minion, None, State.UNKNOWN, [_advised(said, minion)])]
    if not isinstance(returned, Mapping):
        return [_malformed(minion, None, f"it is a {type(returned).__name__}")]
    if not returned or "running" in returned:
        return [_of_server(minion, None, returned)]
    found = [_of_server(minion, name, status) for name, status in list(returned.items())[:SERVERS]]
    if len(returned) > SERVERS:
        found.append(_malformed(minion, None, f"it names {len(returned)} servers"))
    return found


def check_line(rows_: list[dict[str, Any]]) -> str:
    """
    The line of a monitoring plugin (Nagios, Icinga, Checkmk's MRPE): the worst state, what is wrong, and the numbers
    after ``|``.
    """
    code = exit_code(rows_)
    word = {OK: "OK", WARNING: "WARNING", CRITICAL: "CRITICAL", FAILED: "UNKNOWN"}[code]
    several = len(rows_) > 1
    said = "; ".join(_said(row, several) for row in rows_) or "pillar names no Galaxy server"
    numbers = [number for row in rows_ for number in _perfdata(row, several)]
    # a bar would end the text
    return f"{CHECK}{word} - {said.replace('|', '/')}" + (f" | {' '.join(numbers)}" if numbers else "")


def text(value: Any, limit: int) -> str:
    """A text from a minion: on one line, harmless for a terminal, with at most ``limit`` characters."""
    said = galaxy_remote.text(value[: 2 * limit] if isinstance(value, str) else value)
    said = " ".join(said.split())
    return said if len(said) <= limit else said[: limit - 1] + "…"


def _of_server(minion: str, name: Any, status: Any) -> dict[str, Any]:
    shown = None if name is None else text(name, NAME)
    if isinstance(status, str):
        return _row(minion, shown, State.UNKNOWN, [text(status, TEXT)])
    try:
        return _read(minion, shown, _mapping("the answer", status))
    except _Malformed as exc:
        return _malformed(minion, shown, str(exc))


def _read(minion: str, name: str | None, status: Mapping[str, Any]) -> dict[str, Any]:
    if "running" not in status:
        raise _Malformed("it has no `running`")
    server = status.get("server")
    workers = _mapping("workers", status.get("workers"))
    queue = _mapping("listen_queue", status.get("listen_queue"))
    galaxy_version = _mapping("galaxy_version", status.get("galaxy_version"))
    counts = {
        key: _count(f"workers:{key}", workers.get(key)) for key in ("total", "cheap", "busy", "saturated", "stuck")
    }
    total, busy = counts["total"], counts["busy"]
    companions, lost = _companions(status.get("services"))
    version = galaxy_version.get("running") or status.get("version")
    facts = {
        "ready_workers": _count("ready_workers", status.get("ready_workers")),
        "workers": None if total is None else max(0, total - (counts["cheap"] or 0)),
        "busy": None if busy is None else busy + (counts["saturated"] or 0),
        "stuck": counts["stuck"],
        "oldest_request": _seconds("oldest_request", status.get("oldest_request")),
        "queue": _count("listen_queue:length", queue.get("length")),
        "queue_limit": _count("listen_queue:max", queue.get("max")),
        "companions": companions,
        "web_server": _optional("web_server", status.get("web_server")),
        "version": _optional("version", version),
        "uptime": _seconds("uptime", status.get("uptime")),
    }
    problems = _problems(status.get("problems")) or lost
    state = _state(status, facts, problems)
    if name is None and server is not None:
        name = text(server, NAME)
    return _row(minion, name, state, problems, **facts)


def _state(status: Mapping[str, Any], facts: Mapping[str, Any], problems: list[str]) -> State:
    running, ready = (_typed(key, status.get(key), bool) for key in ("running", "ready"))
    if ready:
        return State.DEGRADED if problems or facts["stuck"] else State.READY
    if running is False:
        return State.DOWN
    if ready is None:
        return State.UNKNOWN
    return State.DEGRADED if facts["ready_workers"] else State.NOT_READY


def _companions(services: Any) -> tuple[dict[str, Any] | None, list[str]]:
    """How many services beside the web server run, and a sentence for each that does not run."""
    found = []
    for name, service in list(_mapping("services", services).items())[:SERVICES]:
        record = _mapping("a service", service)
        if record.get("role") != "web":
            found.append((text(name, NAME), text(record.get("state"), NAME)))
    lost = [f"{name} is {state}." for name, state in found if state != "running"]
    return ({"running": len(found) - len(lost), "all": len(found)} if found else None), lost[:PROBLEMS]


def _row(minion: str, server: str | None, state: State, problems: list[str], **facts: Any) -> dict[str, Any]:
    numbers = ("ready_workers", "workers", "busy", "stuck", "oldest_request", "queue", "queue_limit", "companions")
    unknown = dict.fromkeys((*numbers, "web_server", "version", "uptime"))
    named = {"minion": text(minion, NAME), "server": server, "state": state.value}
    return {**named, **unknown, **facts, "problems": problems}


def _malformed(minion: str, server: str | None, what: str) -> dict[str, Any]:
    return _row(minion, server, State.UNKNOWN, [f"The answer is malformed: {what}."])


def _advised(said: str, minion: str) -> str:
    if said.startswith(_NO_MODULE):
        return f"galaxy.status is not there: run salt {text(minion, NAME)} saltutil.sync_all"
    return said


def _problems(given: Any) -> list[str]:
    if given is None:
        return []
    if not isinstance(given, (list, tuple)):
        raise _Malformed(f"problems is a {type(given).__name__}")
    return [text(one, TEXT) for one in given[:PROBLEMS]]


def _mapping(what: str, value: Any) -> Mapping[str, Any]:
    return {} if value is None else _typed(what, value, Mapping)


def _typed(what: str, value: Any, kind: type) -> Any:
    if value is not None and not isinstance(value, kind):
        raise _Malformed(f"{what} is a {type(value).__name__}")
    return value


def _count(what: str, value: Any) -> int | None:
    number = _seconds(what, value)
    return number if number is None else int(number)


def _seconds(what: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _Malformed(f"{what} is a {type(value).__name__}")
    if not 0 <= value < 1 << 53 or not math.isfinite(value):
        raise _Malformed(f"{what} is out of range")
    return value


def _optional(what: str, value: Any) -> str | None:
    return None if value is None else text(_typed(what, value, str), NAME)


def _said(row: Mapping[str, Any], named: bool) -> str:
    name = f"{row['server']} " if named else ""
    is_known = row["workers"] is not None
    ready = f", {row['ready_workers'] or 0} of {counted(row['workers'], 'worker')} ready" if is_known else ""
    problem = f": {row['problems'][0]}" if row["problems"] else ""
    return f"{name}{row['state']}{ready}{problem}"


def _perfdata(row: Mapping[str, Any], named: bool) -> list[str]:
    prefix = f"{row['server']}_" if named else ""
    numbers = (
        ("workers", row["ready_workers"], "", row["workers"]),
        ("busy", row["busy"], "", row["workers"]),
        ("queue", row["queue"], "", row["queue_limit"]),
        ("oldest_request", row["oldest_request"], "s", None),
    )
    return [
        _perfvalue(f"{prefix}{label}", value, unit, most) for label, value, unit, most in numbers if value is not None
    ]


def _perfvalue(label: str, value: float, unit: str, most: float | None) -> str:
    # a quote or an equals sign would end a label
    plain = "".join(char if char.isalnum() or char in "._-" else "_" for char in label)
    return f"{plain}={value:g}{unit};;;0" + (f";{most:g}" if most is not None else "")
