"""Looks at a Galaxy, made by hand: for decisions that a real Galaxy rarely asks for."""

from galaxy_host_address import Address
from galaxy_look import Look, Service, ServiceLook
from galaxy_manager_unit import State, UnitStatus
from galaxy_service import Role
from galaxy_uwsgi_stats import Stats

from .document import document

ADDRESS = Address("127.0.0.1", 9191)


class FakeProcess:
    """A process that lives until ``end`` is called."""

    def __init__(self, pid):
        self.pid = pid
        self.is_alive, self.is_suspended = True, False
        self.create_time = 1_700_000_000.0
        self.sent = []

    def children(self):
        return []

    def signal(self, number):
        self.sent.append(int(number))
        self.is_alive = False
        return True


class FakeUnit:
    """A unit that obeys. ``told`` lists what it was told to do."""

    manager, service = "systemd", "galaxy"

    def __init__(self, state=State.RUNNING, active=True, owns=True, pids=(), problems=(), **more):
        self.told = []
        self._owns = owns
        more = {"pids": tuple(pids), "problems": tuple(problems), **more}
        self.now = UnitStatus(state, state.value.upper(), active=active, **more)

    def status(self):
        return self.now

    def owns(self, _):
        return self._owns

    def start(self):
        self.told.append("start")

    def stop(self):
        self.told.append("stop")

    def bring_up(self, _):
        return False

    def invocation(self):
        return None

    def log(self, _):
        return []

    def commands(self):
        return {}


def snapshot(*workers):
    return Stats(ADDRESS, document(workers))


def service_look(*workers, unit=None, master=None, errors=(), name="uwsgi", role=Role.WEB, web=None, **more):
    """The look at one service: a snapshot with ``workers`` (if any), a unit with its status, a master."""
    return ServiceLook(
        Service(name, role, unit, web),
        status=unit.status() if unit else None,
        snapshot=snapshot(*workers) if workers else None,
        master=master,
        errors=list(errors),
        **more,
    )


def look(*workers, **facts):
    """The look at a Galaxy with one service."""
    return Look([service_look(*workers, **facts)])
