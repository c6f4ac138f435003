"""Names of services. tests/functional/managers tests the unit itself with a real supervisord."""

import pytest

from galaxy_host_process import Invocation
from galaxy_manager_supervisor_config import Program, SupervisorConfig
from galaxy_manager_supervisord import Supervisord, plain, resolve


def _program(name, group=None, process=None):
    return Program(name, group or name, process or name, Invocation(("x",), "test"), 10)


PROGRAMS = [
    _program("alone"),
    _program("galaxy_uwsgi", "gx", "web"),
    _program("many", "gx", "many_00"),
    _program("many", "gx", "many_01"),
    _program("odd", "odd", "process"),
]


@pytest.mark.parametrize(
    ("given", "service"),
    [
        ("alone", "alone"),
        ("alone:", "alone"),
        ("alone:*", "alone"),
        ("alone:alone", "alone:alone"),
        ("gx", "gx"),
        ("gx:web", "gx:web"),
        ("gx:galaxy_uwsgi", "gx:web"),
        ("galaxy_uwsgi", "gx:web"),
        ("web", "gx:web"),
        ("many", "gx:many"),
        ("many_01", "gx:many_01"),
        ("gx:many_00", "gx:many_00"),
        ("odd", "odd"),
        ("odd:odd", "odd:process"),
        ("gone", None),
        ("gx:gone", None),
        ("other:web", None),
        ("", None),
    ],
)
def test_what_a_name_means(given, service):
    assert resolve(given, PROGRAMS) == service


def test_all_of_a_group():
    assert [plain(name) for name in ("gx", "gx:", "gx:*", "gx:web")] == ["gx", "gx", "gx", "gx:web"]


@pytest.mark.parametrize(
    ("users", "uid"), [(("4001",), 4001), ((None,), None), (("4001", None), None), (("4001", "4002"), None)]
)
def test_whom_it_runs_as(tmp_path, users, uid):
    """The user that all programs have. A handler beside the server counts only if nobody can tell them apart."""
    path = tmp_path / "supervisord.conf"
    texts = [f"[program:p{number}]\ncommand=x\n" + f"user={user}\n" * bool(user) for number, user in enumerate(users)]
    programs = ",".join(f"p{number}" for number in range(len(users)))
    path.write_text(f"[unix_http_server]\nfile=s\n[group:galaxy]\nprograms={programs}\n" + "".join(texts))
    config = SupervisorConfig(str(path))
    assert Supervisord("galaxy", config).runs_as == uid
    assert Supervisord("galaxy:p0", config).runs_as == (4001 if users[0] else None)
