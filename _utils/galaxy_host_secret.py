"""
The one type in which a passphrase, key or token travels.
"""

import contextlib
import resource
from typing import NoReturn, SupportsIndex

MASK = "**********"


class Secret:
    """
    A value that no ``str``, ``repr``, format, log, pickle or JSON shows; only ``reveal`` does, for a command's standard
    input or a 0600 file.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str | bytes):
        self._value = value.encode() if isinstance(value, str) else bytes(value)

    def __repr__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return MASK

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a Secret is never serialised")

    def reveal(self) -> bytes:
        """The plain bytes."""
        return self._value


def forbid_core_dump(pid: int) -> None:
    """
    A command that is given a secret leaves no core file with it in: called between its start and its first input.

    Our own process, Salt's, has the whole pillar in its memory anyway, and keeps its limit, which all that it starts
    inherits.
    """
    # it may have ended already
    with contextlib.suppress(OSError):
        # of 0, a core_pattern with a program is asked all the same, of 1 it is not: core(5), fs/coredump.c
        resource.prlimit(pid, resource.RLIMIT_CORE, (1, 1))
