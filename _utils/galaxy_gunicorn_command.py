"""
Read gunicorn's command line. Its configuration file is a Python program, and is not read.
"""

import argparse
import functools
import os
import shlex
from collections.abc import Mapping
from typing import Any, NoReturn

import galaxy_host_address
import galaxy_host_wrappers
from galaxy_errors import ConfigError
from galaxy_host_address import Address
from galaxy_host_pattern import Pattern
from galaxy_host_process import Invocation, Process
from galaxy_host_record import record

_PROGRAM = Pattern(r"gunicorn[\d.]*")
_DEFAULT_PORT = 8000


@record(frozen=True)
class Options:
    """
    gunicorn's options, with defaults filled in: ``binds`` (without ``fd://``), ``timeout`` (seconds; 0: no limit),
    ``workers``, ``preload``, ``pidfile``, ``daemon``, ``tls``, ``inherits`` (sockets that something else opened).
    """

    binds: tuple[Address, ...]
    timeout: float = 30
    workers: int = 1
    preload: bool = False
    pidfile: str | None = None
    daemon: bool = False
    tls: bool = False
    inherits: bool = False


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def is_gunicorn(process: Process) -> bool:
    """Whether the process runs gunicorn, by its command line. Its owner can write anything there."""
    return bool(_words(process.argv)) or is_titled(process.argv)


def is_titled(argv: tuple[str, ...]) -> bool:
    """Whether setproctitle has overwritten the command line, so that its options are not known."""
    return bool(argv) and argv[0].startswith("gunicorn: ")


def read(invocation: Invocation) -> Options | None:
    """
    The options of a command that runs gunicorn. ``None`` if the command does not run gunicorn, or if its command line
    is overwritten.

    Raises ``ConfigError``.
    """
    words = _words(invocation.argv)
    if not words:
        return None
    environment = invocation.environment or {}
    try:
        extra = shlex.split(environment.get("GUNICORN_CMD_ARGS", ""))
        # gunicorn's order: an option of the command line replaces the same option of the variable
        early, late = _parsed(tuple(extra)), _parsed(words[1:])
    except (ValueError, ConfigError) as exc:
        raise ConfigError(f"{invocation.source}: gunicorn's options cannot be read: {exc}") from None
    given = {**early, **late}
    directory = os.path.join(invocation.cwd or "/", given.get("chdir", ""))
    port = environment.get("PORT", "")
    binds = given.get("bind") or [f"0.0.0.0:{port}" if port else f"127.0.0.1:{_DEFAULT_PORT}"]
    own = [text for text in binds if not text.strip().startswith("fd://")]
    return Options(
        binds=tuple(address(text, directory) for text in own),
        timeout=given.get("timeout", 30),
        workers=given.get("workers", _number(environment.get("WEB_CONCURRENCY"), 1)),
        preload="preload" in given,
        pidfile=given.get("pid"),
        daemon="daemon" in given,
        tls="certfile" in given,
        inherits=len(own) < len(binds),
    )


def address(bind: str, directory: str = "/") -> Address:
    """
    The address that gunicorn means by ``HOST``, ``HOST:PORT``, ``:PORT`` or ``unix:PATH``. Raises ``AddressError``.
    """
    text = bind.strip().removeprefix("tcp://")
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        path = path.removeprefix("//") if path.startswith("//") else path
        return galaxy_host_address.parse(os.path.normpath(os.path.join(directory, path)))
    if not text:
        text = "0.0.0.0"
    if text.endswith("]") or ":" not in text:
        text = f"{text}:{_DEFAULT_PORT}"
    host, _, port = text.rpartition(":")
    return galaxy_host_address.parse(f"{host.lower()}:{port}")


# in one look, the same words come from the configuration and from the process
@functools.lru_cache(maxsize=64)
def _parsed(words: tuple[str, ...]) -> Mapping[str, Any]:
    return vars(_parser().parse_known_args(words)[0]) if words else {}


@functools.cache
def _parser() -> _Parser:
    parser = _Parser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("-b", "--bind", action="append")
    parser.add_argument("-t", "--timeout", type=float)
    parser.add_argument("-w", "--workers", type=int)
    for option in ("-p --pid", "--chdir", "--certfile", "-c --config", "-k --worker-class", "-e --env", "-n --name"):
        parser.add_argument(*option.split())
    for option in ("-u --user", "-g --group", "-m --umask"):
        parser.add_argument(*option.split())
    for option in ("--preload", "-D --daemon", "-R --enable-stdio-inheritance"):
        parser.add_argument(*option.split(), action="store_true")
    return parser


def _number(text: str | None, default: int) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 6 else default


def _words(argv: tuple[str, ...]) -> tuple[str, ...]:
    """gunicorn's own words, beginning with its name; empty if the command runs another program."""
    words = galaxy_host_wrappers.program(argv)
    return words if words and _PROGRAM.fullmatch(os.path.basename(words[0])) else ()
