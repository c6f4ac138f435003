"""The lines of ``docs/migration.md``, and how a test runs one."""

import pathlib
import re
import shlex

import salt.utils.args
import yaml

_TEXT = (pathlib.Path(__file__).resolve().parents[2] / "docs" / "migration.md").read_text(encoding="utf-8")
_ROW = re.compile(r"\| (.+) \| `(.+)` \|")
SECTIONS = re.findall(r"^## (.+)$", _TEXT, re.M)


def pillar():
    """``galaxy:`` from the example at the beginning of the page."""
    return yaml.safe_load(_TEXT.split("```yaml\n")[1].split("```")[0])["galaxy"]


def rows(section):
    """``(before, now)`` of each row of all tables below that heading."""
    body = _TEXT.split(f"\n## {section}\n")[1].split("\n## ")[0]
    lines = [line for line in body.splitlines() if line.startswith("|")]
    found = [match.groups() for match in map(_ROW.fullmatch, lines) if match]
    # each table has two lines more: its head and the rule below it
    assert len(lines) - len(found) == 2 * body.count("|---|---|")
    return found


def run(caller, line, **places):
    """Run a ``salt-call …`` of the page as it is; ``places`` replaces paths with those of this machine."""
    command, function, *words = shlex.split(line)
    assert command == "salt-call"
    for there, here in places.items():
        words = [word.replace(there, str(here)) for word in words]
    positional, keywords = salt.utils.args.parse_input(words, condition=False)
    return caller.cmd(function, *positional, **keywords)
