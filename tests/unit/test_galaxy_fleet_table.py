"""Rows shown as a table, and as a line."""

import tracemalloc

import pytest
from support.answers import down, status, workers

import galaxy_fleet
import galaxy_fleet_table as tables


def _fleet(silent=(), **answers):
    return galaxy_fleet.fleet({minion: galaxy_fleet.rows(minion, answer) for minion, answer in answers.items()}, silent)


def test_a_table():
    busy = status(workers=workers(idle=1, busy=2, stuck=1), oldest_request=185, uptime=3 * 86400)
    found = _fleet(silent=["gone"], one=busy, two=down(), three="ERROR: pillar names no Galaxy server: x")
    assert tables.table(found).splitlines() == [
        "STATE    MINION WORKERS BUSY OLDEST QUEUE VERSION UP PROBLEM",
        "down     two          0    0      -     - -        - connection refused",
        "silent   gone         -    -      -     - -        - no answer in time",
        "degraded one        2/4 2+1!     3m 0/100 2.0.30  3d",
        "2 servers on 4 minions: 1 down, 1 silent, 1 degraded",
        "no Galaxy in the pillar of: three",
    ]


def test_servers_are_named_where_a_minion_has_several():
    lines = tables.table(_fleet(one={"main": status(), "test": status()})).splitlines()
    assert lines[:2] == [
        "STATE MINION SERVER WORKERS BUSY QUEUE VERSION UP",
        "ready one    main       2/2    0 0/100 2.0.30  2h",
    ]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal(width):
    found = _fleet(one=down(problems=["x" * 300]), two={"a": status(), "b" * 30: status()}, **{"三" * 20: down()})
    lines = tables.table(found, width).splitlines()
    assert max(tables._width(line) for line in lines[:5]) <= width
    # the most important columns stay
    assert lines[0].startswith("STATE ")


def test_wide_characters_keep_the_columns():
    lines = tables.table(_fleet(三=status(), abc=status())).splitlines()
    assert len({tables._width(line[: line.index("2/2")]) for line in lines[1:3]}) == 1


def test_an_accent_of_its_own_takes_no_column():
    lines = tables.table(_fleet(**{"e\u0301a": status(), "abc": status()})).splitlines()
    assert {line.replace("\u0301", "").index("2/2") for line in lines[1:3]} == {lines[0].index("WORKERS") + 4}


def test_colors_surround_lines_and_change_no_text():
    found = _fleet(one=status(), two=down())
    plain, colored = tables.table(found).splitlines(), tables.table(found, color=True).splitlines()
    assert colored[1] == f"\x1b[1;31m{plain[1]}\x1b[0m"
    assert colored[2] == f"\x1b[32m{plain[2]}\x1b[0m"
    assert colored[0] == plain[0]


def test_nothing_to_show():
    assert tables.table(_fleet()) == "0 servers on 0 minions"


def test_a_line():
    busy = status(workers=workers(busy=2, stuck=1), oldest_request=9, problems=["1 of 3 workers is stuck."])
    services = {"celery": {"role": "celery", "state": "running"}}
    (row,) = galaxy_fleet.rows("one", {**busy, "services": services})
    assert tables.line(row) == (
        "degraded, 2/3 workers ready, 2 busy, 1 stuck, oldest request 9s, queue 0/100, 1/1 companion, version 2.0.30,"
        " up 2h: 1 of 3 workers is stuck."
    )
    (row,) = galaxy_fleet.rows("one", "ERROR: no")
    assert tables.line(row) == "unknown: ERROR: no"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (0, "0s"), (119.9, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (172800, "2d")],
)
def test_seconds(value, shown):
    assert tables.seconds(value) == shown


def test_what_the_outputter_shows():
    answers = {"one": status(), "two": {"main": down()}, "gone": "Minion did not return. [No response]", "off": False}
    lines = tables.rendered(answers).splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["down", "silent", "silent", "ready"]
    assert lines[-7:] == [
        "",
        *("two main:", "  - connection refused"),
        *("gone:", "  - no answer in time", "off:", "  - no answer in time"),
    ]
    found = {**_fleet(one=status()), "outputter": "galaxy"}
    assert tables.rendered(found) == tables.table(found)
    assert tables.rendered({"problem": "no minion", "retcode": 3, "outputter": "galaxy"}) == "no minion"


def test_lines_of_the_check_are_shown_as_they_are():
    assert tables.rendered({"local": "GALAXY OK - ready"}) == "GALAXY OK - ready"
    answers = {"one": "GALAXY OK - ready", "two": "GALAXY \x1b[2J\nUNKNOWN"}
    assert tables.rendered(answers) == "one: GALAXY OK - ready\ntwo: GALAXY \\x1b[2J UNKNOWN"


@pytest.mark.parametrize("data", [None, [], {}, "text", 3])
def test_other_data_is_left_to_another_outputter(data):
    with pytest.raises(KeyError):
        tables.rendered(data)


def test_a_thousand_answers_are_small():
    tracemalloc.start()
    rows = {name: galaxy_fleet.rows(name, status()) for name in map(str, range(1000))}
    tables.table(galaxy_fleet.fleet(rows, []), 120)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 50 << 20
