"""
The type for all passphrases, keys and tokens.
"""

import contextlib
import resource
from typing import NoReturn, SupportsIndex

MASK = "**********"


class Secret:
    """
    A value that no ``str``, ``repr``, format, log, pickle or JSON shows. Only ``reveal`` does, for a command's standard
    input or a file of mode 0600.
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
    Make sure that a command leaves no core file with a secret in it. Call this after the command has started, and
    before it gets its first input.

    Our own process keeps its limit: it is Salt's and has the whole pillar in its memory anyway, and all that it starts
    would inherit the limit.
    """
    # the process may have ended already
    with contextlib.suppress(OSError):
        # with a limit of 0 the kernel still calls a program in core_pattern, with 1 it does not: core(5), fs/coredump.c
        resource.prlimit(pid, resource.RLIMIT_CORE, (1, 1))
