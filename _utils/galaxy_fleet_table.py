"""
Show rows of ``galaxy_fleet`` as text: as a table that fits its place, or one row as one line.
"""

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import galaxy_fleet
from galaxy_fleet import State
from galaxy_host_count import counted

_COLORS = {
    State.DOWN.value: "\x1b[1;31m",
    State.SILENT.value: "\x1b[1;35m",
    State.NOT_READY.value: "\x1b[31m",
    State.UNKNOWN.value: "\x1b[35m",
    State.DEGRADED.value: "\x1b[33m",
    State.READY.value: "\x1b[32m",
}
_PLAIN = "\x1b[0m"
_NONE = "-"
# least width of the column PROBLEM
_NARROWEST = 12


def seconds(value: float | None) -> str:
    """``7s``, ``3m``, ``5h``, ``12d``."""
    if value is None:
        return _NONE
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if value >= 2 * size:
            return f"{int(value // size)}{unit}"
    return f"{int(value)}s"


def rendered(data: Any, width: int | None = None, color: bool = False) -> str:
    """
    The text that the outputter ``galaxy`` shows.

    data
        one of these: what the runner ``galaxy.fleet`` returns (shown as :py:func:`table`), or its ``problem``; what
        ``galaxy.status`` returned, by minion (all problems stand below the table); the lines of ``galaxy.check``
        (without the minion's ID if there is one line)

    Raises ``KeyError`` for other data. Salt then uses another outputter.
    """
    if not isinstance(data, Mapping) or not data:
        raise KeyError("no answers of galaxy.status")
    if "rows" in data and "totals" in data:
        return table(data, width, color)
    if set(data) == {"problem", "retcode", "outputter"}:
        return str(data["problem"])
    if all(isinstance(one, str) and one.startswith(galaxy_fleet.CHECK) for one in data.values()):
        lines = {minion: galaxy_fleet.text(line, galaxy_fleet.LINE) for minion, line in data.items()}
        return "\n".join(lines.values() if len(lines) == 1 else (f"{minion}: {lines[minion]}" for minion in lines))
    silent = [minion for minion, returned in data.items() if _is_silent(returned)]
    answers = {minion: galaxy_fleet.rows(minion, data[minion]) for minion in data if minion not in silent}
    found = galaxy_fleet.fleet(answers, silent)
    below = problems(found["rows"])
    return table(found, width, color) + (f"\n\n{below}" if below else "")


def _is_silent(returned: Any) -> bool:
    """Whether Salt's command line says that the minion did not answer."""
    return returned is False or (isinstance(returned, str) and returned.startswith("Minion did not return"))


def _of(part: float | None, whole: float | None) -> str:
    if part is None:
        return _NONE
    return f"{part}/{whole}" if whole else f"{part}"


def _busy(row: Mapping[str, Any]) -> str:
    if row["busy"] is None:
        return _NONE
    return f"{row['busy']}+{row['stuck']}!" if row["stuck"] else f"{row['busy']}"


def _companions(row: Mapping[str, Any]) -> str:
    companions = row["companions"]
    return _of(companions["running"], companions["all"]) if companions else _NONE


# heading, text of a row, and whether it is a number
_COLUMNS: tuple[tuple[str, Callable[[Mapping[str, Any]], str], bool], ...] = (
    ("STATE", lambda row: row["state"], False),
    ("MINION", lambda row: row["minion"], False),
    ("SERVER", lambda row: row["server"] or _NONE, False),
    ("WORKERS", lambda row: _of(row["ready_workers"], row["workers"]), True),
    ("BUSY", _busy, True),
    ("OLDEST", lambda row: seconds(row["oldest_request"]), True),
    ("QUEUE", lambda row: _of(row["queue"], row["queue_limit"]), True),
    ("OTHERS", _companions, True),
    ("VERSION", lambda row: row["version"] or _NONE, False),
    ("UP", lambda row: seconds(row["uptime"]), True),
    ("PROBLEM", lambda row: row["problems"][0] if row["problems"] else "", False),
)
# if there is too little room, these columns are left out, in this order
_LEAST = ("VERSION", "OTHERS", "UP", "OLDEST", "QUEUE", "SERVER")


def table(found: Mapping[str, Any], width: int | None = None, color: bool = False) -> str:
    """
    The rows as a table, with the totals below.

    found
        what ``galaxy_fleet.fleet`` returned
    width
        columns of the terminal; ``None``: as wide as the texts are
    color
        use escape sequences of terminals

    A column in which no row has a value is left out. The servers' names are left out if no minion has several servers.
    """
    rows = found["rows"]
    columns = [(heading, [text(row) for row in rows], is_number) for heading, text, is_number in _COLUMNS]
    columns = [one for one in columns if one[0] in ("STATE", "MINION") or set(one[1]) - {_NONE, ""}]
    if len({row["minion"] for row in rows}) == len(rows):
        columns = [one for one in columns if one[0] != "SERVER"]
    lines = _lines(_fitted(columns, width), width) if rows else []
    if color:
        painted = [f"{_COLORS[row['state']]}{line}{_PLAIN}" for row, line in zip(rows, lines[1:], strict=True)]
        lines = [*lines[:1], *painted]
    return "\n".join([*lines, *_totals(found)])


def line(row: Mapping[str, Any]) -> str:
    """One row as a sentence, with the first problem at the end."""
    parts = []
    if row["ready_workers"] is not None:
        parts.append(f"{_part(row['ready_workers'], row['workers'], 'worker')} ready")
    if row["busy"]:
        parts.append(f"{row['busy']} busy")
    if row["stuck"]:
        parts.append(f"{row['stuck']} stuck")
    if row["oldest_request"]:
        parts.append(f"oldest request {seconds(row['oldest_request'])}")
    if row["queue"] is not None:
        parts.append(f"queue {_of(row['queue'], row['queue_limit'])}")
    if row["companions"]:
        parts.append(_part(row["companions"]["running"], row["companions"]["all"], "companion"))
    if row["version"]:
        parts.append(f"version {row['version']}")
    if row["uptime"] is not None:
        parts.append(f"up {seconds(row['uptime'])}")
    problem = f": {row['problems'][0]}" if row["problems"] else ""
    return ", ".join([row["state"], *parts]) + problem


def _part(part: int, whole: int | None, noun: str) -> str:
    """``1/2 workers``."""
    return f"{part}/{counted(whole, noun)}" if whole else counted(part, noun)


def problems(rows: Iterable[Mapping[str, Any]]) -> str:
    """All problems of the rows, each below the name of its server; empty if there is none."""
    lines = []
    for row in rows:
        if row["problems"]:
            name = f"{row['minion']} {row['server']}" if row["server"] else row["minion"]
            lines += [f"{name}:", *(f"  - {problem}" for problem in row["problems"])]
    return "\n".join(lines)


def _totals(found: Mapping[str, Any]) -> list[str]:
    totals = found["totals"]
    states = [f"{totals[state.value]} {state.value}" for state in State if totals[state.value]]
    minions, servers = totals["minions"], totals["servers"]
    ours = f"{counted(servers, 'server')} on {counted(minions, 'minion')}"
    said = [": ".join([ours, ", ".join(states)]) if states else ours]
    if found["without"]:
        said.append(f"no Galaxy in the pillar of: {_names(found['without'])}")
    return said


def _names(names: list[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _fitted(columns: list[Any], width: int | None) -> list[Any]:
    """Leave out the least important columns, until there is room for the problem."""
    for heading in _LEAST:
        fixed = sum(_wide(one) + 1 for one in columns if one[0] != "PROBLEM")
        if width is None or fixed + _NARROWEST <= width:
            break
        columns = [one for one in columns if one[0] != heading]
    return columns


def _wide(column: tuple[Any, ...]) -> int:
    heading, texts, _ = column
    return max(map(_width, (heading, *texts)))


def _lines(columns: list[Any], width: int | None) -> list[str]:
    lines = [""] * (len(columns[0][1]) + 1)
    for heading, texts, is_number in columns:
        wide = _wide((heading, texts, is_number))
        for number, text in enumerate((heading, *texts)):
            gap = " " * (wide - _width(text))
            lines[number] += (gap + text if is_number else text + gap) + " "
    return [_cut(one.rstrip(), width) for one in lines]


def _width(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(_columns(char) for char in text)


def _columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _cut(text: str, width: int | None) -> str:
    if width is None or _width(text) <= width:
        return text
    taken, used = [], 1
    for char in text:
        used += _columns(char)
        if used > width:
            break
        taken.append(char)
    return "".join(taken) + "…"
