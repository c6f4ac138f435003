"""
The result of one look at a Galaxy: the facts of each of its services at one moment.
"""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from galaxy_errors import GalaxyError, MasterGone
from galaxy_host_process import Process
from galaxy_host_record import record
from galaxy_manager_unit import State, Unit, UnitStatus
from galaxy_service import Role
from galaxy_webserver import Snapshot, WebServer

log = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")


@record
class Service:
    """
    One service of a Galaxy.

    unit
        its unit; ``None`` if no process manager has it, or if this is not known yet
    web
        its web server; ``None`` if the service is not one
    start_timeout
        seconds that a service without web server must have run to count as started
    """

    name: str
    role: Role
    unit: Unit | None = None
    web: WebServer | None = None
    start_timeout: float = 0

    @property
    def is_server(self) -> bool:
        """Whether it serves Galaxy itself, and so tells more than its process manager does."""
        return self.role is Role.WEB


@record
class ServiceLook:
    """
    All facts of one service. A fact that could not be learnt is ``None``; ``errors`` says why.

    status
        what its process manager says
    snapshot
        what its web server tells
    master
        its web server's master
    survivors
        PIDs of its processes whose master is gone
    silent
        whether nobody listens at its web server's addresses
    unclear
        why it cannot be told which process manager has it
    """

    service: Service
    status: UnitStatus | None = None
    snapshot: Snapshot | None = None
    master: Process | None = None
    survivors: tuple[int, ...] = ()
    silent: bool | None = None
    unclear: str = ""
    errors: list[str] = dataclasses.field(default_factory=list)

    @property
    def running(self) -> bool | None:
        """Whether it runs; ``False`` only if this is proven."""
        if self.master or self.snapshot or self.survivors or (self.status and self.status.left):
            return True
        if self.silent:
            return False
        if self.status and self.status.state in (State.STOPPED, State.FAILED):
            return False
        if not self.service.is_server and self.status and self.status.state in (State.RUNNING, State.STARTING):
            return True
        return None

    @property
    def is_loading(self) -> bool:
        """Whether its web server's master has forked no worker yet: it loads the application."""
        return bool(self.master and self.service.web and not self.service.web.family(self.master))

    @property
    def is_starting(self) -> bool:
        """Whether it has not run for long enough yet. Then supervisord says STARTING, but systemd says that it runs."""
        if not self.status:
            return False
        age = self.status.age
        is_young = self.status.state is State.RUNNING and age is not None and age < self.service.start_timeout
        return self.status.state is State.STARTING or is_young

    @property
    def is_kept_up(self) -> bool:
        """Whether its process manager says that it runs."""
        return self.status is not None and self.status.state in (State.RUNNING, State.STARTING)

    @property
    def is_active(self) -> bool | None:
        """Whether its process manager has a process of it running, or will start it again by itself."""
        return self.status.active if self.status else None

    @property
    def loaded(self) -> float | None:
        """When it loaded the configuration with which it runs, in epoch seconds; ``None`` if this is not known."""
        if self.snapshot:
            return self.snapshot.loaded
        return time.time() - self.status.age if self.status and self.status.age is not None else None

    def attempt(self, ask: Callable[..., _Answer], *arguments: object) -> _Answer | None:
        """The result of ``ask``; ``None`` if it fails: then ``errors`` has the reason."""
        try:
            return ask(*arguments)
        except GalaxyError as exc:
            if isinstance(exc, MasterGone):
                self.survivors = tuple(exc.pids)
            if str(exc) not in self.errors:
                log.debug("galaxy: %s", exc)
                self.errors.append(str(exc))
            return None


@record
class Look:
    """
    All facts of a Galaxy.

    services
        in the order in which they are started
    problems
        what is wrong with the installation of its services: sentences
    """

    services: list[ServiceLook]
    problems: list[str] = dataclasses.field(default_factory=list)

    @property
    def webs(self) -> list[ServiceLook]:
        """The services that serve Galaxy itself."""
        return [one for one in self.services if one.service.role is Role.WEB]

    @property
    def companions(self) -> list[ServiceLook]:
        """The services beside the web servers."""
        return [one for one in self.services if one.service.role is not Role.WEB]

    @property
    def snapshots(self) -> list[Snapshot]:
        """Snapshots of the web servers that tell something."""
        return [one.snapshot for one in self.webs if one.snapshot]

    @property
    def masters(self) -> list[Process]:
        """Masters of the web servers that run."""
        return [one.master for one in self.webs if one.master]

    @property
    def errors(self) -> list[str]:
        """Why some facts could not be learnt: sentences."""
        return [text for one in self.services for text in one.errors]

    @property
    def running(self) -> bool | None:
        """Whether one of its web servers runs; ``False`` only if this is proven."""
        verdicts = {one.running for one in self.webs}
        if True in verdicts:
            return True
        return None if None in verdicts or not verdicts else False

    @property
    def ready_workers(self) -> int | None:
        """How many workers are ready; ``None`` if a web server tells nothing."""
        known = [one.snapshot.ready if one.snapshot else 0 for one in self.webs if one.snapshot or one.running is False]
        return sum(known) if len(known) == len(self.webs) and known else None

    @property
    def oldest_request(self) -> float | None:
        """Seconds that the oldest request under way has taken; ``None`` if no request is known."""
        ages = [snapshot.oldest_request for snapshot in self.snapshots]
        return max((age for age in ages if age is not None), default=None)

    def is_ready(self, wanted: int) -> bool | None:
        """Whether each web server serves, with ``wanted`` ready workers in all."""
        if self.ready_workers is None:
            return None
        return len(self.snapshots) == len(self.webs) and are_ready(self.snapshots, wanted)

    @property
    def is_kept_up(self) -> bool:
        """Whether the process manager says that all services run."""
        return all(one.is_kept_up for one in self.services)

    @property
    def is_active(self) -> bool | None:
        """Whether the process manager has a process of a service running, or will start one again by itself."""
        verdicts = {one.is_active for one in self.services}
        if True in verdicts:
            return True
        return None if None in verdicts else False


def are_ready(snapshots: Iterable[Snapshot], wanted: int) -> bool:
    """
    Whether web servers are ready. Only this function decides it. Each has a ready worker (unless none is wanted),
    together they have ``wanted`` ready workers, and each one that was asked has answered.
    """
    found = list(snapshots)
    return sum(one.ready for one in found) >= wanted and all(
        (one.ready > 0 or not wanted) and one.answers is not False for one in found
    )
