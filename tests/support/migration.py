"""The lines of ``docs/migration.md``, and what it takes to run one."""

import pathlib
import re
import shlex

import salt.utils.args
import yaml

_TEXT = (pathlib.Path(__file__).resolve().parents[2] / "docs" / "migration.md").read_text(encoding="utf-8")
_ROW = re.compile(r"\| (.+) \| `(.+)` \|")
SECTIONS = re.findall(r"^## (.+)$", _TEXT, re.M)


def pillar():
    """``galaxy:`` of the example at its head."""
    return yaml.safe_load(_TEXT.split("```yaml\n")[1].split("```")[0])["galaxy"]


def rows(section):
    """``(before, now)`` of each line of all tables under that heading."""
    body = _TEXT.split(f"\n## {section}\n")[1].split("\n## ")[0]
    lines = [line for line in body.splitlines() if line.startswith("|")]
    found = [match.groups() for match in map(_ROW.fullmatch, lines) if match]
    # what is no row is a head and its rule, two lines a table
    assert len(lines) - len(found) == 2 * body.count("|---|---|")
    return found


def run(caller, line, **places):
    """Run ``salt-call …`` as it stands there, but for the places that this machine has instead."""
    command, function, *words = shlex.split(line)
    assert command == "salt-call"
    for there, here in places.items():
        words = [word.replace(there, str(here)) for word in words]
    positional, keywords = salt.utils.args.parse_input(words, condition=False)
    return caller.cmd(function, *positional, **keywords)
