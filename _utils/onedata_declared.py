"""
Read the Onedata spaces that a machine declares: in ``galaxy:onedata:spaces``, and in the INI of the old scripts.
"""

import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

from salt.exceptions import SaltInvocationError

import galaxy_host_key
import onedata_mount
import onedata_space
from galaxy_errors import GalaxyError, OnedataError
from galaxy_host_secret import Secret
from onedata_space import Space

log = logging.getLogger(__name__)

_SPACES = "galaxy:onedata:spaces"


class Declared:
    """
    The declared spaces of a minion.

    config_get
        Salt's ``config.get``

    Spaces in ``galaxy:onedata:spaces`` win. The INI is only read for a space that is not among them.
    """

    def __init__(self, config_get: Callable[..., object]):
        spaces = config_get(_SPACES, None) or {}
        if not isinstance(spaces, Mapping):
            raise SaltInvocationError(f"{_SPACES} must be a mapping of names to spaces; see pillar.example")
        self._spaces = {str(name): settings for name, settings in spaces.items()}
        self._ini = config_get("galaxy:onedata:ini", None)
        self._of_ini: dict[str, tuple[dict[str, Any], Secret | None]] | None = None

    def names(self) -> list[str]:
        """The names of all spaces. Raises ``ConfigError`` if the INI cannot be read."""
        return list({**self._read_ini(), **self._spaces})

    def mount_points(self) -> list[str]:
        """
        Mount points of all spaces that are declared correctly; no other is ever mounted. Raises ``ConfigError`` like
        ``names``.
        """
        found = []
        for name in self.names():
            with contextlib.suppress(GalaxyError):
                found.append(self.space(name).mount_point)
        return found

    def space(self, name: str) -> Space:
        """
        The space of this name. Raises ``SaltInvocationError`` if there is none, ``ConfigError`` if it is declared
        wrongly.
        """
        return onedata_space.of(name, self._find(name)[0])

    def token(
        self, name: str, functions: Mapping[str, Callable[..., Any]], pillar: Mapping[str, Any], timeout: float
    ) -> Secret:
        """
        Its token, from the INI or from the place that ``token`` names, without blanks around it.
        ``galaxy_host_key.resolve`` has the parameters.

        Raises ``KeySourceError``, and ``OnedataError`` if what is there is no token.
        """
        settings, token = self._find(name)
        if not token:
            source = settings.get("token") or f"pillar://{_SPACES}:{name}:access_token"
            if not isinstance(source, str):
                raise OnedataError(name, "token is not the place of a token: pillar://…, sdb://…, or an absolute path")
            token = galaxy_host_key.resolve(source, functions, pillar, f"Onedata space {name}", "token", timeout)
        # a token file ends in a newline, a token does not; a newline inside it would begin another line of the
        # configuration
        token = Secret(token.reveal().strip())
        if not token or len(token.reveal().splitlines()) > 1 or b"\0" in token.reveal():
            raise OnedataError(name, "its token is empty or more than one line")
        return token

    def statuses(self) -> dict[str, dict[str, Any]]:
        """
        ``onedata_mount.status`` of each space. A space that is declared wrongly has its ``problem``, and hides no
        other.
        """
        found = {}
        try:
            names = self.names()
        except GalaxyError as exc:
            found[str(self._ini)] = onedata_mount.unknown(str(exc))
            names = list(self._spaces)
        for name in names:
            try:
                found[name] = onedata_mount.status(self.space(name))
            except GalaxyError as exc:
                log.warning("%s", exc)
                found[name] = onedata_mount.unknown(str(exc))
        return found

    def _find(self, name: object) -> tuple[dict[str, Any], Secret | None]:
        if isinstance(name, str):
            if name in self._spaces:
                return self._spaces[name], None
            of_ini = self._read_ini()
            if name in of_ini:
                return of_ini[name]
        known = ", ".join(self.names()) or "none"
        raise SaltInvocationError(f"No Onedata space {name!r} is declared in {_SPACES}; known: {known}")

    def _read_ini(self) -> dict[str, tuple[dict[str, Any], Secret | None]]:
        if self._of_ini is None:
            if self._ini is not None and not isinstance(self._ini, str):
                raise SaltInvocationError(f"galaxy:onedata:ini is {self._ini!r}, not a path")
            self._of_ini = onedata_space.read_ini(self._ini) if self._ini else {}
        return self._of_ini
