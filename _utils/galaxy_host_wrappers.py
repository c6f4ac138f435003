"""
Find out what a command line runs in the end, behind shells (``sh -c``), ``env``, ``nice``, ``sudo`` and the like.

Only words are looked at. No script is opened, and nothing is run.
"""

import dataclasses
import itertools
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

from galaxy_host_pattern import Pattern
from galaxy_host_process import Invocation

_ASSIGNMENT = Pattern(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_VARIABLE = Pattern(r"\$(?:(\w+)|\{(\w+)\})")
# shlex with punctuation_chars does the same, but slowly: one character at a time
_TOKEN = Pattern(
    r"""[ \t\r]+|([();<>|&\n]+|(?:[^ \t\r();<>|&\n'"\\]+|\\.|'[^']*'|"[^"\\]*(?:\\.[^"\\]*)*")+)""", re.DOTALL
)
_QUOTED = Pattern(r"""\\(.)|'([^']*)'|"([^"\\]*(?:\\.[^"\\]*)*)\"""", re.DOTALL)
_QUOTES = frozenset("\\'\"")
_ESCAPED = Pattern(r"""\\(["\\])""")
# the names of a shell and of a Python
SHELL = Pattern(r"(ba|da|a|k|z)?sh")
PYTHON = Pattern(r"(python|pypy)[\d.]*", re.IGNORECASE)
_KEYWORDS = {"if", "then", "else", "elif", "fi", "do", "done", "while", "until", "!", "{", "}", "time"}
# programs that run another program: their options that take the next word, and how many words stand before the program
_WRAPPERS = {
    **{"exec": ("-a", 0), "command": ("", 0), "nohup": ("", 0), "setsid": ("", 0), "builtin": ("", 0), "time": ("", 0)},
    **{"env": ("-u --unset", 0), "nice": ("-n --adjustment", 0)},
    **{"ionice": ("-c -n -p --class --classdata", 0), "eatmydata": ("", 0), "choom": ("-n --adjust", 0)},
    **{"chrt": ("-T -P -D", 1), "taskset": ("", 1), "stdbuf": ("-i -o -e --input --output --error", 0)},
    **{"timeout": ("-s -k --signal --kill-after", 1), "flock": ("-w -E --timeout --wait --conflict-exit-code", 1)},
    "numactl": (
        "-N -m -i -C -p -P --cpunodebind --membind --interleave --physcpubind --preferred --preferred-many --cpubind",
        0,
    ),
    "sudo": (
        "-u -g -h -p -C -r -t -T -U -D -R --user --group --host --prompt --chdir --chroot --role --type --close-from",
        0,
    ),
    **{"doas": ("-u -C", 0), "gosu": ("", 1), "su-exec": ("", 1), "s6-setuidgid": ("", 1), "envuidgid": ("", 1)},
    "setpriv": (
        "--reuid --regid --ruid --euid --rgid --egid --groups --inh-caps --ambient-caps --bounding-set --securebits "
        "--pdeathsig",
        0,
    ),
    **{"chpst": ("-u -U -b -/ -n -l -L -m -d -o -p -f -c -t -e", 0), "setuidgid": ("", 1), "authbind": ("", 0)},
    **{"softlimit": ("-m -d -s -l -a -o -p -f -c -r -t", 0), "envdir": ("", 1), "setlock": ("", 1)},
    **{"tini": ("-p -e", 0), "docker-init": ("-p -e", 0), "dumb-init": ("-r --rewrite", 0), "catatonit": ("", 0)},
    **{"pidproxy": ("", 1), "cgexec": ("-g", 0), "prlimit": ("", 0), "unbuffer": ("", 0), "catchsegv": ("", 0)},
    **{"daemon": ("--user --pidfile --check", 0), "start_daemon": ("-p -n", 0)},
    **{"systemd-cat": ("-t -p -i --identifier --priority", 0), "runcon": ("-t -u -r -l --type --user --role", 0)},
    **{"systemd-inhibit": ("--what --who --why --mode", 0), "aa-exec": ("-p -n --profile --namespace", 0)},
    **dict.fromkeys(("conda", "mamba", "micromamba"), ("-n -p --name --prefix --cwd", 0)),
    **{"newrelic-admin": ("", 1), "ddtrace-run": ("", 0), "linux64": ("", 0), "busybox": ("", 0)},
    "systemd-run": (
        "-p -u -M -E -G -H --unit --slice --uid --gid --property --description --setenv --working-directory --nice "
        "--service-type --on-active --host --machine",
        0,
    ),
}
# options of these programs that name the directory to start in
_DIRECTORIES = {
    **{"env": ("-C", "--chdir"), "sudo": ("-D", "--chdir"), "systemd-run": ("--working-directory",)},
    **dict.fromkeys(("conda", "mamba", "micromamba"), ("--cwd",)),
}
_RUN_AS = ("su", "runuser", "sg")
_LOGIN = Pattern(r"-|-[a-z]*l[a-z]*|--login")
_MAX_DEPTH = 5
_MAX_SCRIPT = 64 * 1024
_MAX_PATH = 4096


class Filled(str):
    """
    A word, or a directory, into which a shell filled variables. Their ``values`` may be secrets.
    """

    __slots__ = ("values",)
    values: tuple[str, ...]


def filled(text: str, *sources: str | None, values: Sequence[str] = ()) -> str:
    """A text made from other texts. It is ``Filled`` if one of these is, or if ``values`` are given."""
    known = [source.values for source in sources if isinstance(source, Filled)]
    if not values and not known:
        return text
    result = Filled(text)
    # the words of a script share the script's values
    is_shared = len(known) == 1 and not values
    result.values = known[0] if is_shared else tuple(dict.fromkeys(itertools.chain(*known, values)))
    return result


class _Room:
    """How many characters may still be read. A script that repeats a variable can have any number of them."""

    def __init__(self) -> None:
        # a script may contain others, but these are shorter
        self.left = _MAX_DEPTH * _MAX_SCRIPT

    def take(self, text: str) -> str:
        text = text[: max(self.left, 0)]
        # an empty text counts too
        self.left -= len(text) + 1
        return text


def unwrap(invocation: Invocation) -> list[Invocation]:
    """
    The simple commands that it runs, in order, each with the working directory and environment that its shell gives it.
    If there is no wrapper, this is the invocation itself. Words into which variables were filled are ``Filled``.
    """
    return list(_unwrap(invocation, _Room(), 0))


def script(text: str, invocation: Invocation) -> list[Invocation]:
    """
    The simple commands of a shell script, in order: those of all its branches, as far as its text tells.

    invocation
        how the script is run: source, working directory and environment of its first command
    """
    room = _Room()
    return [inner for command in _commands(text, invocation, room) for inner in _unwrap(command, room, 1)]


def program(argv: tuple[str, ...]) -> tuple[str, ...]:
    """
    The words from the program on; if a Python runs a script or module, from this on. If it runs code, ``-c`` and what
    follows.
    """
    if not argv or not PYTHON.fullmatch(os.path.basename(argv[0])):
        return argv
    index = 1
    while index < len(argv):
        word = argv[index]
        if word == "-m":
            return argv[index + 1 :]
        if word == "-c" or not word.startswith("-"):
            return argv[index:]
        index += 2 if word in ("-W", "-X") else 1
    return ()


def split(text: str) -> list[str]:
    """The words of a text that is quoted as for a shell; those between blanks if a quote is not closed."""
    try:
        words = shlex.split(text[:_MAX_SCRIPT])
    except ValueError:
        words = text.split()
    return [filled(word, text) for word in words]


def _unwrap(invocation: Invocation, room: _Room, depth: int) -> Iterator[Invocation]:
    argv = invocation.argv
    program = os.path.basename(argv[0]) if argv else ""
    if depth == _MAX_DEPTH or not program:
        yield invocation
        return
    text = None
    if SHELL.fullmatch(program):
        text = _shell_script(argv)
    elif program in _RUN_AS and "-u" not in argv:
        text = _behind_c(argv)
        if any(_LOGIN.fullmatch(word) for word in argv):
            # a login starts in the home directory
            invocation = dataclasses.replace(invocation, cwd=None)
    if text is not None:
        for command in _commands(text, invocation, room):
            yield from _unwrap(command, room, depth + 1)
        return
    inner = _inner(invocation, program)
    if inner and inner.argv:
        yield from _unwrap(inner, room, depth + 1)
    else:
        yield invocation


def _behind_c(argv: tuple[str, ...]) -> str | None:
    """The script of ``-c TEXT``, ``-lc TEXT`` or ``--command=TEXT``; ``None`` where there is none."""
    for word, following in itertools.pairwise([*argv, ""]):
        if word.startswith("--command="):
            return filled(word.partition("=")[2], word)
        if word == "--command" or re.fullmatch(r"-[a-z]*c", word):
            return following
        if word == "--":
            break
    return None


def _shell_script(argv: tuple[str, ...]) -> str | None:
    """What follows ``-c`` (or a cluster such as ``-ec``); ``None`` if the shell reads a file."""
    words = iter(argv[1:])
    for word in words:
        if not word.startswith(("-", "+")):
            return None
        if word in ("-O", "+O", "--rcfile", "--init-file") or re.fullmatch(r"[-+][a-z]*o", word):
            # an option with a value, as in -euo pipefail
            next(words, None)
        elif "c" in word[1:] and not word.startswith("--"):
            return next(words, None)
    return None


def _inner(invocation: Invocation, program: str) -> Invocation | None:
    """What a wrapper runs; ``None`` if the program is no wrapper."""
    if program == "start-stop-daemon":
        return _start_stop_daemon(invocation)
    if program == "runuser" and "-u" in invocation.argv:
        options, positional = "-u -g -G -s --user --group --shell", 0
    elif program in _WRAPPERS:
        options, positional = _WRAPPERS[program]
    else:
        return None
    words = list(invocation.argv[1:])
    if program.endswith(("conda", "mamba")):
        if words[:1] != ["run"]:
            return None
        del words[0]
    cwd, environment = invocation.cwd, dict(invocation.environment or {})
    is_env = program == "env"
    while words:
        word = words[0]
        if word in _DIRECTORIES.get(program, ()) and len(words) > 1:
            cwd = _join(cwd, words[1])
            del words[:2]
        elif word.partition("=")[0] in _DIRECTORIES.get(program, ()) and "=" in word:
            cwd = _join(cwd, filled(words.pop(0).partition("=")[2], word))
        elif is_env and (word == "--split-string" or re.fullmatch(r"-[0iv]*S", word)) and len(words) > 1:
            words[:2] = split(words[1])
        elif is_env and word.startswith("--split-string="):
            words[:1] = split(filled(word.partition("=")[2], word))
        elif is_env and word.partition("=")[0] in ("-u", "--unset"):
            environment.pop(word.partition("=")[2] or "".join(words[1:2]), None)
            del words[: 1 if "=" in word else 2]
        elif word == "--":
            del words[0]
            break
        elif is_env and word in ("-", "-i", "--ignore-environment"):
            environment = {}
            del words[0]
        elif word.startswith("-") and len(word) > 1:
            cwd = None if program == "sudo" and (word == "--login" or re.match(r"-[A-Zn]*i", word)) else cwd
            del words[: 2 if _takes_next(word, options.split()) else 1]
        elif program in ("env", "sudo") and _ASSIGNMENT.fullmatch(word):
            name, _, value = words.pop(0).partition("=")
            environment[name] = value
        else:
            break
    known = environment if environment or invocation.environment is not None else None
    del words[:positional]
    if program == "flock" and words[:1] in (["-c"], ["--command"]):
        words.insert(0, "sh")
    return dataclasses.replace(invocation, argv=tuple(words), cwd=cwd, environment=known)


def _takes_next(word: str, options: Sequence[str]) -> bool:
    """Whether the word behind an option, or behind a cluster such as ``-nu``, is its value."""
    if word.startswith("--"):
        return word in options
    takers = [index for index, letter in enumerate(word) if f"-{letter}" in options]
    return bool(takers) and takers[0] == len(word) - 1


def _start_stop_daemon(invocation: Invocation) -> Invocation:
    """
    Debian's start-stop-daemon: the program in ``--exec`` or ``--startas``, and its words behind ``--``. A stop has
    none.
    """
    words = list(invocation.argv[1:])
    end = words.index("--") if "--" in words else len(words)
    options: dict[str, str] = {}
    for before, word in itertools.pairwise(["", *words[:end], ""]):
        name, equal, value = before.partition("=")
        options.setdefault(name, value if equal else word)
    program = next((options[key] for key in ("--startas", "-a", "--exec", "-x") if key in options), "")
    directory = next((options[key] for key in ("--chdir", "-d") if key in options), None)
    if not program or not {"--stop", "-K"}.isdisjoint(options):
        return dataclasses.replace(invocation, argv=())
    cwd = _join(invocation.cwd, directory) if directory else invocation.cwd
    return dataclasses.replace(invocation, argv=(program, *words[end + 1 :]), cwd=cwd)


def _commands(text: str, invocation: Invocation, room: _Room) -> Iterator[Invocation]:
    """The simple commands of a shell's script."""
    cwd, environment = invocation.cwd, dict(invocation.environment or {})
    outside: list[tuple[str | None, dict[str, str]]] = []
    for written in _simple_commands(room.take(text[:_MAX_SCRIPT])):
        if written == ["("]:
            outside.append((cwd, environment))
            continue
        if written == [")"]:
            # a closing parenthesis of case has no opening one
            cwd, environment = outside.pop() if outside else (cwd, environment)
            continue
        if isinstance(text, Filled):
            written = [filled(one, text) for one in written]
        words = [word for one in written for word in _expand(one, environment, room)]
        if room.left < 0:
            return
        own = environment
        while words and (match := _ASSIGNMENT.fullmatch(words[0])):
            own = {**own, match[1]: match[2]}
            del words[0]
        if not words:
            # assignments without a command hold for the commands that follow
            environment = own
        elif words[0] in ("cd", "chdir", "pushd"):
            # cd without a word goes to the home directory
            cwd = _join(cwd, words[-1] if len(words) > 1 else "~")
        elif words[0] == "export":
            environment = {**environment, **dict(word.split("=", 1) for word in words[1:] if "=" in word)}
        else:
            known = own if own or invocation.environment is not None else None
            yield Invocation(tuple(words), invocation.source, cwd, known, invocation.user)


def _simple_commands(text: str) -> list[list[str]]:
    """The words of each simple command. ``(`` and ``)`` stand around those of a subshell."""
    text = text.replace("\\\n", " ")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    commands = _parse("\n".join(lines))
    # if a quote is left open (an apostrophe in a here-document), only its own line is lost
    return commands if commands is not None else [words for line in lines for words in _parse(line) or ()]


def _parse(text: str) -> list[list[str]] | None:
    tokens = _tokens(text)
    if tokens is None:
        return None
    commands: list[list[str]] = []
    words: list[str] = []
    is_comment = is_target = False
    for token in tokens:
        if token and not token.strip("();|&\n"):
            commands.append(words)
            if not is_comment:
                commands += [[mark] for mark in token if mark in "()"]
            words, is_comment = [], is_comment and "\n" not in token
        elif token and not token.strip("<>&|"):
            # 2>&1: the number before the sign and the word behind it belong to the redirection
            if words and words[-1].isdecimal():
                words.pop()
            is_target = True
        elif is_target:
            is_target = False
        elif is_comment or token.startswith("#"):
            is_comment = True
        elif words or token not in _KEYWORDS:
            words.append(token)
    return [*commands, words]


def _tokens(text: str) -> list[str] | None:
    """Its words, without their quotes, and its runs of operators; ``None`` if a quote is not closed."""
    tokens, position = [], 0
    while match := _TOKEN.match(text, position):
        position = match.end()
        token = match[1]
        if token:
            tokens.append(_QUOTED.sub(_unquoted, token) if _QUOTES.intersection(token) else token)
    return tokens if position == len(text) else None


def _unquoted(match: re.Match[str]) -> str:
    escaped, single, double = match.groups()
    if escaped is not None:
        return escaped
    return single if single is not None else _ESCAPED.sub(r"\1", double)


def _expand(word: str, environment: Mapping[str, str], room: _Room) -> list[str]:
    """
    Fill in ``$NAME`` and ``${NAME}`` if they are known; the rest stays. A variable that stands alone may hold several
    words.
    """
    if "$" not in word:
        return [word]
    values: list[str] = []

    def value(match: re.Match[str]) -> str:
        known = environment.get(match[1] or match[2])
        if known is None:
            return match[0]
        values.append(known)
        return room.take(known)

    text = filled(_VARIABLE.sub(value, word), word, values=values)
    room.left -= len(text.values) if isinstance(text, Filled) else 0
    return [filled(one, text) for one in text.split()] if _VARIABLE.fullmatch(word) else [text]


def _join(cwd: str | None, path: str) -> str | None:
    """The directory to which ``cd path`` leads; ``None`` if this cannot be told."""
    if "$" in path or "`" in path or path.startswith(("~", "-")) or len(cwd or "") + len(path) > _MAX_PATH:
        return None
    if os.path.isabs(path):
        return filled(os.path.normpath(path), path)
    return filled(os.path.normpath(os.path.join(cwd, path)), cwd, path) if cwd else None
