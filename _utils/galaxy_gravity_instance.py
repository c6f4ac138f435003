"""
What Gravity is asked to run: one instance of its configuration, with its services.
"""

import dataclasses
from collections.abc import Mapping

from galaxy_host_address import Address
from galaxy_host_record import record
from galaxy_service import Role

DEFAULT_NAME = "_default_"


@record(frozen=True)
class Web:
    """
    A gunicorn as it is configured.

    binds
        addresses on which it listens, without ``fd://``
    workers, timeout, preload
        gunicorn's options; ``timeout`` in seconds
    is_blind
        it listens only on sockets that something else opens, and nobody can tell where these are
    """

    binds: tuple[Address, ...]
    workers: int = 1
    timeout: float = 300
    preload: bool = True
    is_blind: bool = False


@record(frozen=True)
class Program:
    """
    One process that Gravity is asked to run.

    name
        ``gunicorn``, ``gunicorn_0``, ``celery``, ``handler_1``, …; each name occurs once in the instance
    role
        what it does
    service
        Gravity's name of the service: ``gunicorn``, ``celery``, ``celery-beat``, ``handler``, …
    type
        Gravity's service type: ``gunicorn``, ``celery``, ``celery-beat``, ``standalone``, ``tusd``, ``gx-it-proxy``,
        ``reports``
    number
        its number among several service instances; ``None`` if the service is one process with its own name
    web
        its gunicorn; ``None`` for all other roles
    start_timeout, stop_timeout
        seconds
    server_name
        Galaxy's name of a handler in its database; ``None`` for all other roles
    environment
        the variables that Gravity sets for it, without ``PATH``. No ``repr`` shows them, because some are passwords
    """

    name: str
    role: Role
    service: str
    type: str
    number: int | None = None
    web: Web | None = None
    start_timeout: float = 10
    stop_timeout: float = 10
    server_name: str | None = None
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False, hash=False)


@record(frozen=True)
class Instance:
    """
    One instance of Gravity's configuration. All paths are absolute; a path that is not known is ``None``.

    path
        Gravity's configuration file
    name
        ``instance_name``; ``_default_`` if none is given
    manager
        Gravity's process manager: ``supervisor``, ``systemd``, ``multiprocessing``
    galaxy_config
        Galaxy's configuration file
    galaxy_root, virtualenv, data_dir, log_dir
        directories; ``data_dir`` is Galaxy's
    state_dir
        directory of Gravity's own files, with ``supervisor/supervisord.conf``
    user, group
        user and group as whom Galaxy runs. ``None``: the user who runs Gravity; under systemd this means units of this
        user
    prefix
        prefix of Galaxy's URLs; empty or ``/galaxy``
    command_style, umask, log_namespace
        ``service_command_style``, ``umask``, ``log_namespace`` as configured
    programs
        in the order in which Gravity writes them
    problems
        what in the configuration cannot be used: sentences
    is_one_of_several
        the file has other instances too
    variables
        ``GRAVITY_*`` variables of whoever runs Gravity, as far as they are known
    """

    path: str
    name: str
    manager: str
    galaxy_config: str
    galaxy_root: str | None
    virtualenv: str | None
    data_dir: str | None
    log_dir: str | None
    state_dir: str | None
    user: str | None = None
    group: str | None = None
    prefix: str = ""
    command_style: str = "gravity"
    umask: str = "022"
    log_namespace: str | None = None
    programs: tuple[Program, ...] = ()
    problems: tuple[str, ...] = ()
    is_one_of_several: bool = False
    variables: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False, hash=False)

    @property
    def is_named(self) -> bool:
        """Whether Gravity puts the instance's name into the names of its services."""
        return self.is_one_of_several or self.name != DEFAULT_NAME
