"""
Read the words that start uWSGI as uWSGI reads them: getopt_long(3) with its table of options (``core/init.c``).

Words of other programs may stand before these: a Python, ``env``, a shell's ``-c``, ``sudo`` and the like.
"""

import dataclasses
import os
import re
import shlex
from collections.abc import Iterator, Mapping

import galaxy_host_process
from galaxy_host_pattern import Pattern
from galaxy_host_record import record
from galaxy_uwsgi_option import is_private
from galaxy_uwsgi_table import NO_ARGUMENT, OPTIONAL, SHORT, full_name

# after these options of wrappers comes a name, which is no program: sudo -u uwsgi uwsgi
_TAKES_A_NAME = {"-u", "-g", "-U", "-G", "-a", "--user", "--group", "--reuid", "--regid", "--name"}
_SHELLS = {"sh", "bash", "dash", "ash", "ksh", "zsh", "busybox", "su", "runuser"}
_SHELL_WORDS = {"exec", "command", "if", "then", "else", "elif", "do", "while", "until", "!", "{", "time", "nohup"}
_ASSIGNMENT = Pattern(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_VARIABLE = Pattern(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})")
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
        something of the environment
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


class _Word(str):
    """A word that holds a part of an environment, which may be a secret."""

    __slots__ = ()


def parse(invocation: galaxy_host_process.Invocation) -> Command:
    """The options of the uWSGI that ``invocation`` starts. There are none if its words do not visibly start a uWSGI."""
    environment = None
    if invocation.environment is not None:
        environment = {name: _text(value) for name, value in invocation.environment.items()}
    command = Command(cwd=invocation.cwd, environment=environment)
    argv = [_text(word) for word in invocation.argv[:_MAX_WORDS]]
    words = _program(list(argv), command, 0)
    if words is None and any(map(_NAMES_A_FILE.match, argv[1:])):
        # then the next word is the name under which it runs
        words = argv[1:]
    command.starts = words is not None
    for name, value in getopt(words or []):
        secret = isinstance(value, _Word)
        if name is None:
            command.files.append((value or "", secret))
        else:
            command.options.append((name, value, secret))
    return command


def _text(word: str) -> str:
    """A word as text that can be sent and shown, even if its bytes are not UTF-8. C's texts end at a NUL."""
    word = word.partition("\0")[0]
    return word if word.isascii() else _SURROGATES.sub("\ufffd", word)


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
                yield name, _Word(value) if isinstance(word, _Word) else value
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
        attached = word[index:]
        if isinstance(word, _Word):
            attached = _Word(attached)
        if name.startswith(":"):
            yield name[1:], attached or next(rest, "")
            return
        if name.startswith("?"):
            yield name[1:], attached or None
            return
        yield name, None


# What stands before uWSGI's own words.


def _program(words: list[str], command: Command, depth: int) -> list[str] | None:
    """The words behind uWSGI's name. The words before it change the directory and environment of ``command``."""
    while words and depth <= _MAX_DEPTH:
        name = os.path.basename(words[0])
        assignment = _ASSIGNMENT.fullmatch(words[0])
        if assignment:
            _assign(command, *assignment.groups())
            words = words[1:]
        elif "uwsgi" in name.lower() and not _CONFIGURATION.search(name):
            return words[1:]
        elif name in _SHELLS:
            return _in_shell(words[1:], command, depth)
        elif name == "env":
            words = _in_env(words[1:], command)
        elif re.fullmatch(r"(python|pypy)[\d.]*", name):
            return _in_python(words[1:])
        else:
            words = _behind_wrapper(words)
    return None


def _assign(command: Command, name: str, value: str) -> None:
    if command.environment is not None:
        command.environment[name] = value


def _in_python(words: list[str]) -> list[str] | None:
    while words and words[0].startswith("-"):
        option = words[0]
        if option in ("-m", "-c"):
            return words[2:] if option == "-m" and "uwsgi" in "".join(words[1:2]) else None
        words = words[2:] if option in ("-W", "-X") else words[1:]
    return words[1:] if words and "uwsgi" in os.path.basename(words[0]).lower() else None


def _in_env(words: list[str], command: Command) -> list[str]:
    while words and words[0].startswith("-"):
        option, equal, value = words[0].partition("=")
        if option in ("-i", "-", "--ignore-environment"):
            command.environment = {}
        elif option in ("-S", "--split-string"):
            return _split(value if equal else "".join(words[1:2])) + words[1 if equal else 2 :]
        elif option in ("-u", "--unset", "-C", "--chdir"):
            value = value if equal else "".join(words[1:2])
            if option in ("-C", "--chdir"):
                _change_directory(command, value)
            elif command.environment is not None:
                command.environment.pop(value, None)
            words = words if equal else words[1:]
        words = words[1:]
    return words


def _behind_wrapper(words: list[str]) -> list[str]:
    """The words from the next one on that names uWSGI, or a program that starts uWSGI."""
    for index, word in enumerate(words[1:], 1):
        name = os.path.basename(word)
        program = name in _SHELLS or name == "env" or bool(re.match(r"(python|pypy)[\d.]*\Z", name))
        program = program or ("uwsgi" in name.lower() and not _CONFIGURATION.search(name))
        if program and not word.startswith("-") and words[index - 1] not in _TAKES_A_NAME:
            return words[index:]
    return []


def _in_shell(words: list[str], command: Command, depth: int) -> list[str] | None:
    script = None
    for index, word in enumerate(words):
        if re.fullmatch(r"-[a-z]*c|--command", word):
            script = "".join(words[index + 1 : index + 2])
            break
    if script is None:
        return _program(_behind_wrapper(["", *words]), command, depth + 1)
    directories: list[str | None] = []
    for simple in _commands(script):
        if simple == ["("]:
            directories.append(command.cwd)
            continue
        if simple == [")"]:
            command.cwd = directories.pop() if directories else command.cwd
            continue
        one = [_expand(word, command) for word in simple]
        while one and one[0] in _SHELL_WORDS:
            one = one[1:]
            if one[:1] == ["-a"]:
                one = one[2:]
        if not one:
            continue
        if one[0] in ("cd", "chdir"):
            _change_directory(command, one[1] if len(one) > 1 else "")
        elif one[0] == "export" or all(map(_ASSIGNMENT.fullmatch, one)):
            for assignment in filter(None, map(_ASSIGNMENT.fullmatch, one)):
                _assign(command, *assignment.groups())
        else:
            inner = Command(cwd=command.cwd, environment=command.environment and dict(command.environment))
            found = _program(one, inner, depth + 1)
            if found is not None:
                command.cwd, command.environment = inner.cwd, inner.environment
                return found
    return None


def _commands(script: str) -> Iterator[list[str]]:
    """
    The simple commands of a shell's script, without redirections. ``(`` and ``)`` stand around those of a subshell.
    """
    lexer = shlex.shlex(script[:65536].replace("\\\n", " ").replace("\n", " ; "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    skip = False
    try:
        for token in lexer:
            if skip:
                skip = False
            elif token[:1] in ("<", ">") or token.startswith("&>"):
                skip = True
                if words and words[-1].isdecimal():
                    words.pop()
            elif token and token[0] in ";&|()":
                yield words
                words = []
                yield from ([mark] for mark in token if mark in "()")
            else:
                words.append(token)
    except ValueError:
        # a quote that is not closed
        return
    yield words


def _expand(word: str, command: Command) -> str:
    """Fill in the shell's variables in a word, if they are known."""
    if "$" not in word or command.environment is None:
        return word
    environment: Mapping[str, str] = command.environment
    result = _VARIABLE.sub(lambda match: environment.get(match[1] or match[2], match[0]), word)[:65536]
    values = [environment.get(match[1] or match[2], "/") for match in _VARIABLE.finditer(word)]
    return _Word(result) if any(map(is_private, values)) else result


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text[:65536])
    except ValueError:
        return []


def _change_directory(command: Command, directory: str) -> None:
    if isinstance(directory, _Word):
        command.cwd = None
    elif os.path.isabs(directory):
        command.cwd = os.path.normpath(directory)
    elif not directory or "$" in directory or "`" in directory or directory.startswith(("~", "-")):
        command.cwd = None
    elif command.cwd is not None:
        command.cwd = os.path.normpath(os.path.join(command.cwd, directory))
