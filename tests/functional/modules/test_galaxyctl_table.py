"""The table in docs/gravity.md says what replaces each command of galaxyctl. Each line is run, with a real Gravity."""

import re

import pytest
from support.bed import virtualenv
from support.site import REPO

from galaxy_host_wait import Deadline, wait_until

_SECTION = (REPO / "docs" / "gravity.md").read_text().partition("## From galaxyctl")[2].partition("\n## ")[0]
ROWS = [line.split("|")[1:3] for line in _SECTION.splitlines() if line.startswith("| ") and "---" not in line][1:]
# functions that are not only for a Galaxy under Gravity, or that need a whole machine
ELSEWHERE = {"galaxy.servers": "tests/functional/modules/test_galaxy.py", "galaxy.held": "test_gravity_formula.py"}


def _words(cell):
    return re.findall(r"`([^`]+)`", cell)


def test_every_command_of_galaxyctls_has_its_line(make_bed):
    told = {word.removeprefix("galaxyctl ") for gravitys, _ in ROWS for word in _words(gravitys)}
    helped = make_bed().run(str(virtualenv("bed") / "bin" / "galaxyctl"), "--help").stdout
    known = set(re.findall(r"^  ([a-z]+) {2,}", helped.partition("Commands:")[2], re.MULTILINE))
    assert len(known) > 5
    # galaxyctl has an alias
    assert told == known - {"configs"}


@pytest.fixture
def run(state, modules):
    """Call what a cell names: a function of the module, or else a state."""

    def call(text, config):
        name, *options = text.split()
        given = {"config": config, "timeout": 60}
        given.update((key, value == "True") for key, value in (option.split("=") for option in options))
        if name in ("galaxy.reload", "galaxy.restart"):
            given["settle"] = 0.1
        if name == "galaxy.commands":
            del given["timeout"]
        if name in modules:
            return modules[name](**given)
        done = state(name, **given)
        assert done["result"] is True, done
        return done

    return call


def test_each_line_does_what_it_says(make_bed, modules, run):
    bed = make_bed(gunicorns=2, celery=True)
    config = str(bed.config)
    bed.update()

    def status():
        return modules["galaxy.status"](config=config)

    after = {
        "galaxyctl status": lambda: True,
        **dict.fromkeys(("galaxyctl start", "galaxyctl restart", "galaxyctl graceful"), lambda: status()["ready"]),
        "galaxyctl stop": lambda: status()["running"] is False,
        "galaxyctl update": lambda: bed.update().stdout == "",
        "galaxyctl pm": lambda: True,
    }
    done = set()
    for gravitys, ours in ROWS:
        for text in _words(ours):
            if text.split()[0] in ELSEWHERE or not text.startswith("galaxy."):
                continue
            run(text, config)
            done.add(text.split()[0])
            holds = after.get(next(iter(_words(gravitys)), ""), lambda: True)
            assert wait_until(holds, Deadline(180)), (text, status())
    named = {text.split()[0] for _, ours in ROWS for text in _words(ours)}
    assert done == named - set(ELSEWHERE)
