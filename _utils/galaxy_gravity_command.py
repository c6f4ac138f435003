"""
Find Gravity's galaxyctl and Galaxy's own Python, and run them as Galaxy's user.

Both programs, and what they import, belong to Galaxy's user. So root runs neither. They run as a user only if nobody
but this user and root decides which program it is and what the configuration says. So nobody gets the rights of
another.
"""

import os
import shlex
from collections.abc import Iterable, Mapping

import galaxy_gravity_installed
import galaxy_host_command
import galaxy_host_files
import galaxy_host_redaction
from galaxy_errors import CommandError, ConfigError, FileMissing
from galaxy_gravity_instance import Instance
from galaxy_host_command import Account
from galaxy_host_walk import Group
from galaxy_service import Role

_LIMIT = 1 << 20
# how many lines of galaxyctl's message to show
_LINES = 12
_KEYS = ("ExecStart", "command")
_PLACES = ("WorkingDirectory", "directory")


class Commands:
    """
    The programs of one instance.

    texts
        texts of the units and programs that Gravity wrote for the instance: they name galaxyctl and the working
        directory

    Raises ``ConfigError`` if Galaxy's user cannot be told, or is root. Raises ``FileError`` if anybody but root and
    this user decides what the configuration says.
    """

    def __init__(self, instance: Instance, texts: Iterable[str] = ()):
        self.instance = instance
        self._texts = tuple(texts)
        self.account = account(instance)
        for path in {instance.path, instance.galaxy_config}:
            self._require_own(path)

    def galaxyctl(self, *words: str, environment: Mapping[str, str] | None = None, timeout: float = 60) -> str:
        """
        Run galaxyctl with the instance's configuration, and return its output.

        Raises ``ConfigError`` if there is no galaxyctl, ``FileError`` if others than Galaxy's user and root can change
        it, and ``CommandError`` if it fails.
        """
        argv = [self._find("galaxyctl"), "--config-file", self.instance.path, *words]
        try:
            return self._run(argv, None, {**self._environment(), **(environment or {})}, timeout)
        except CommandError as exc:
            if exc.returncode is None:
                raise
            # the message quotes the configuration
            lines = [galaxy_host_redaction.blank(line) for line in exc.stderr.splitlines()[:_LINES]]
            raise CommandError(argv, f"exit status {exc.returncode}: {'; '.join(lines)}", exc.returncode) from None

    def python(self, script: str, *words: str, role: Role = Role.WEB, timeout: float = 60) -> str:
        """
        Run a script with Galaxy's own Python, with the variables that Gravity gives to the service of this role (or to
        any service). Returns its output, whatever its exit status is.

        Raises like ``galaxyctl``; but ``CommandError`` only if it does not run, or does not end in time.
        """
        argv = [self._find("python"), "-", *words]
        programs = sorted(self.instance.programs, key=lambda program: program.role is not role)
        variables = {**self._environment(), **(programs[0].environment if programs else {})}
        return self._run(argv, script.encode(), variables, timeout, check=False)

    @property
    def directory(self) -> str:
        """The working directory of its services."""
        if self.instance.galaxy_root:
            return self.instance.galaxy_root
        named = (galaxy_gravity_installed.value(text, key) for text in self._texts for key in _PLACES)
        return next(filter(None, named), self.instance.data_dir or "/")

    def _run(
        self, argv: list[str], data: bytes | None, variables: Mapping[str, str], timeout: float, check: bool = True
    ) -> str:
        return galaxy_host_command.run(
            argv,
            stdin=data,
            timeout=timeout,
            check=check,
            account=self.account,
            cwd=self.directory,
            environment=variables,
            limit=_LIMIT,
        )

    def _environment(self) -> dict[str, str]:
        # in the C locale, Python before 3.7 fails on letters that are not ASCII
        variables = {"LC_ALL": "C.UTF-8", **self.instance.variables}
        if self.instance.virtualenv:
            variables["VIRTUAL_ENV"] = self.instance.virtualenv
        return variables

    def _find(self, program: str) -> str:
        """The path of a program that exists, and that only Galaxy's user and root can change."""
        directories = [os.path.dirname(path) for path in self._named()]
        if self.instance.virtualenv:
            # the units may run galaxyctl with another Python, but Galaxy's Python is the virtualenv's
            own = os.path.join(self.instance.virtualenv, "bin")
            directories = [*directories, own] if program == "galaxyctl" else [own, *directories]
        for directory in dict.fromkeys(directories):
            path = os.path.join(directory, program)
            try:
                self._require_own(path)
            except FileMissing:
                continue
            return path
        places = ", ".join(dict.fromkeys(directories)) or "no virtualenv, and nothing that Gravity wrote"
        raise ConfigError(
            f"{self.instance.path}: no {program} of this Galaxy (looked in: {places}); set virtualenv in its gravity: "
            "section"
        )

    def _named(self) -> list[str]:
        """Paths of the galaxyctl that units and programs run."""
        found = []
        for text in self._texts:
            for key in _KEYS:
                try:
                    words = shlex.split(galaxy_gravity_installed.value(text, key) or "")
                except ValueError:
                    continue
                if words and os.path.isabs(words[0]) and os.path.basename(words[0]) == "galaxyctl":
                    found.append(words[0])
        return list(dict.fromkeys(found))

    def _require_own(self, path: str) -> None:
        # an administrator may let others work on Galaxy through the group of Galaxy's user
        galaxy_host_files.require_trusted(path, self.account.uid, Group(self.account.gid))


def account(instance: Instance) -> Account:
    """
    Galaxy's user, as an account to run programs with.

    Raises ``ConfigError`` like ``galaxy_gravity_installed.user_id``, and also if the user is root or has no account
    here.
    """
    uid = galaxy_gravity_installed.user_id(instance)
    found = Account.of(uid, instance.group)
    if not found:
        group = f", or there is no group {instance.group}" if instance.group else ""
        raise ConfigError(f"{instance.path}: no account here has the ID of Galaxy's user, {uid}{group}")
    if found.uid == 0:
        raise ConfigError(
            f"{instance.path}: this Galaxy runs as root, and no program of Galaxy's is run as root; let it run as a "
            "user of its own"
        )
    return found
