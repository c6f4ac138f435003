"""
Read the words that start uWSGI as uWSGI reads them: getopt_long(3) with its table of options (``core/init.c``).
"""

import dataclasses
import functools
import os
from collections.abc import Iterator

import galaxy_host_wrappers
from galaxy_host_pattern import Pattern
from galaxy_host_process import Invocation
from galaxy_host_record import record
from galaxy_host_wrappers import PYTHON, SHELL, Filled, filled
from galaxy_uwsgi_option import is_private
from galaxy_uwsgi_table import NO_ARGUMENT, OPTIONAL, SHORT, full_name

# after these options of wrappers comes a name, which is no program: sudo -u uwsgi uwsgi
_TAKES_A_NAME = {"-u", "-g", "-U", "-G", "-a", "--user", "--group", "--reuid", "--regid", "--name"}
_CONFIGURATION = Pattern(r"\.(ini|ya?ml|xml|js|json|conf|cfg|sock|pid|log|py)(:|\Z)")
_SURROGATES = Pattern("[\ud800-\udfff]")
_NAMES_A_FILE = Pattern(r"--(ini|ya?ml|ini-paste(-logged)?)(=|\Z)|-y\Z")
_MAX_WORDS = 10_000
_MAX_DEPTH = 4


@record
class Command:
    """
    What a command line says to uWSGI.

    starts
        whether its words visibly start a uWSGI
    options
        for each option in their order: its name, its value (``None`` if there is none), and whether the value holds
        something of the environment that may be a secret
    files
        bare words, which uWSGI reads as configurations after all options
    cwd, environment
        the directory in which uWSGI starts, and its variables; ``None`` if unknown
    """

    starts: bool = False
    options: list[tuple[str, str | None, bool]] = dataclasses.field(default_factory=list)
    files: list[tuple[str, bool]] = dataclasses.field(default_factory=list)
    cwd: str | None = None
    environment: dict[str, str] | None = None


def parse(invocation: Invocation) -> Command:
    """The options of the uWSGI that ``invocation`` starts. There are none if its words do not visibly start a uWSGI."""
    argv = tuple(map(_text, invocation.argv[:_MAX_WORDS]))
    environment = None
    if invocation.environment is not None:
        environment = {name: _text(value) for name, value in invocation.environment.items()}
    given = dataclasses.replace(invocation, argv=argv, environment=environment)
    found = _uwsgi(given, 0)
    if found is None and any(map(_NAMES_A_FILE.match, argv[1:])):
        # the uWSGI has another name
        found = dataclasses.replace(given, argv=argv[1:])
    if found is None:
        return Command(cwd=invocation.cwd, environment=environment)

    # a script's words may share their values, and to look at each costs a call of the kernel
    @functools.cache
    def are_private(values: tuple[str, ...]) -> bool:
        return any(map(is_private, values))

    def is_secret(word: str | None) -> bool:
        return isinstance(word, Filled) and are_private(word.values)

    # if the environment is unknown, it is more than the variables that the shell sets
    known = dict(found.environment or {}) if environment is not None else None
    command = Command(True, cwd=None if is_secret(found.cwd) else found.cwd, environment=known)
    for name, value in getopt(list(found.argv)):
        if name is None:
            command.files.append((value or "", is_secret(value)))
        else:
            command.options.append((name, value, is_secret(value)))
    return command


def _text(word: str) -> str:
    """A word as text that can be sent and shown, even if its bytes are not UTF-8. C's texts end at a NUL."""
    text = word.partition("\0")[0]
    return filled(text if text.isascii() else _SURROGATES.sub("\ufffd", text), word)


def getopt(words: list[str]) -> Iterator[tuple[str | None, str | None]]:
    """Name and value of each option, then each bare word with the name ``None``."""
    bare: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            bare += rest
        elif word.startswith("--"):
            name, equal, value = word[2:].partition("=")
            name = full_name(name)
            if equal:
                yield name, filled(value, word)
            elif name in NO_ARGUMENT or name in OPTIONAL:
                yield name, None
            else:
                yield name, next(rest, "")
        elif word.startswith("-") and len(word) > 1:
            yield from _short(word, rest)
        else:
            bare.append(word)
    for word in bare:
        # uWSGI skips text that a process wrote into its own name
        if not word.startswith("["):
            yield None, word


def _short(word: str, rest: Iterator[str]) -> Iterator[tuple[str, str | None]]:
    for index, letter in enumerate(word[1:], 2):
        name = SHORT.get(letter, letter)
        attached = filled(word[index:], word)
        if name.startswith(":"):
            yield name[1:], attached or next(rest, "")
            return
        if name.startswith("?"):
            yield name[1:], attached or None
            return
        yield name, None


# What stands before uWSGI's own words.


def _uwsgi(invocation: Invocation, depth: int) -> Invocation | None:
    """The first uWSGI that a command line visibly starts, with uWSGI's own words alone; ``None`` if there is none."""
    for command in galaxy_host_wrappers.unwrap(invocation):
        words = galaxy_host_wrappers.program(command.argv)
        is_python = words != command.argv
        if words and _names_uwsgi(words[0], is_python):
            return dataclasses.replace(command, argv=words[1:])
        behind = () if is_python else _behind_wrapper(words)
        if behind and depth < _MAX_DEPTH and (found := _uwsgi(dataclasses.replace(command, argv=behind), depth + 1)):
            return found
    return None


def _names_uwsgi(word: str, is_script: bool = False) -> bool:
    name = os.path.basename(word).lower()
    return "uwsgi" in name and (is_script or not _CONFIGURATION.search(name))


def _behind_wrapper(words: tuple[str, ...]) -> tuple[str, ...]:
    """
    The words behind a program that is not known: from the next one on that names uWSGI, or a program that starts uWSGI.
    """
    for before, word in enumerate(words[1:]):
        name = os.path.basename(word)
        is_starter = name == "env" or SHELL.fullmatch(name) or PYTHON.fullmatch(name)
        if (is_starter or _names_uwsgi(word)) and not word.startswith("-") and words[before] not in _TAKES_A_NAME:
            return words[before + 1 :]
    return ()
