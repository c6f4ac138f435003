"""
Read systemd's unit files (systemd.unit(5), systemd.service(5)): what a service executes, and with which environment.

Only ``[Service]`` is read. Comments, descriptions and dependencies run nothing.
"""

import glob
import itertools
import logging
import os
import platform
import pwd
import re
from collections.abc import Callable, Iterable, Mapping

import galaxy_host_files
import galaxy_host_wrappers
from galaxy_errors import FileError, ManagerError
from galaxy_host_pattern import Pattern
from galaxy_host_process import Invocation

log = logging.getLogger(__name__)

_MAX_FILES = 100
_PREFIXES = "@-:+!|"
_SPECIFIER = Pattern(r"%(.)")
_VARIABLE = Pattern(r"\$(?:\$|\{(\w+)\})")
# systemd.syntax(7), QUOTING: words with quotes, and with C's escapes inside and outside of them
_WORD = Pattern(r"""(?:\\.|'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^\s'"\\])+""", re.DOTALL)
_PART = Pattern(r"""'((?:\\.|[^'\\])*)'|"((?:\\.|[^"\\])*)"|((?:\\.|[^'"\\])+)""", re.DOTALL)
_ESCAPE = Pattern(rb"\\(?:x([0-9a-fA-F]{2})|([0-3][0-7]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([abfnrtvs\\\"']))")
_ESCAPED = dict(zip(b"abfnrtvs", b"\a\b\f\n\r\t\v ", strict=True))
# values in the system's manager; systemd.unit(5), SPECIFIERS
_DIRECTORIES = {
    **{"t": "/run", "S": "/var/lib", "C": "/var/cache", "L": "/var/log", "E": "/etc"},
    **{"T": "/tmp", "V": "/var/tmp"},  # noqa: S108
}


class Definition:
    """
    A service as its files describe it.

    name
        name of the unit without ``.service``; for an instance, the instance's own name
    paths
        paths of its file and its drop-ins, in systemd's order
    user
        the user whose manager has it; ``None``: the system's manager

    A file that cannot be read counts as empty, and the log says so.
    """

    def __init__(self, name: str, paths: Iterable[str], user: str | None = None):
        self.name = name
        self._paths = list(paths)[:_MAX_FILES]
        self._user = user
        self._lines: list[tuple[str, str]] = []
        for path in self._paths:
            self._lines += _service_lines(_read(path, user))

    def commands(self, secrets: bool = False) -> list[Invocation]:
        """
        The commands in ``ExecStart=``. What runs before, after or at the stop is left out.

        secrets
            ``True``: read ``EnvironmentFile=`` too
        """
        environment = self._environment(secrets)
        return [
            Invocation(argv, self._source, self._directory, environment)
            for line in self._list("ExecStart")
            for argv in self._split(line, environment)
        ]

    @property
    def _source(self) -> str:
        return f"{self.name}.service"

    @property
    def _owner(self) -> pwd.struct_passwd | None:
        name = self._specified(self._last("User")) or self._user or "root"
        try:
            return pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
        except (KeyError, OverflowError):
            return None

    @property
    def _directory(self) -> str | None:
        text = self._specified(self._last("WorkingDirectory")).removeprefix("-")
        if text == "~":
            return self._owner and self._owner.pw_dir
        if self._last("WorkingDirectory").startswith("-") and not os.path.isdir(text):
            return "/"
        if text:
            return text if os.path.isabs(text) else None
        # systemd.exec(5): the root directory, or the home directory in a user's manager
        return (self._owner and self._owner.pw_dir) if self._user else "/"

    def _environment(self, secrets: bool) -> Mapping[str, str]:
        environment: dict[str, str] = {}
        for line in self._list("Environment"):
            for word in _words(line):
                name, equal, value = self._specified(word).partition("=")
                if equal:
                    environment[name] = value
        for line in self._list("EnvironmentFile") if secrets else ():
            pattern = self._specified(line.strip("\"' ")).removeprefix("-")
            # a pattern could search all of /proc and never end, and users write units of their own
            paths = [pattern] if self._user else itertools.islice(sorted(glob.glob(pattern)), _MAX_FILES)
            for path in paths:
                environment.update(_assignments(_read(path, self._user)))
        for line in self._list("UnsetEnvironment"):
            for word in _words(line):
                environment.pop(word.partition("=")[0], None)
        return environment

    def _split(self, line: str, environment: Mapping[str, str]) -> list[tuple[str, ...]]:
        """The commands of one line. A oneshot service may have several, with ``;`` between."""
        commands: list[tuple[str, ...]] = []
        words: list[str] = []
        for word in [*_raw_words(line), ";"]:
            if word != ";":
                words.append(";" if word == "\\;" else _text(word))
            elif words:
                commands.append(self._command(words, environment))
                words = []
        return [command for command in commands if command]

    def _command(self, words: list[str], environment: Mapping[str, str]) -> tuple[str, ...]:
        program = words[0].lstrip(_PREFIXES)
        prefixes = words[0][: len(words[0]) - len(program)]
        words = [program, *words[1:]] if program else words[1:]
        if "@" in prefixes and len(words) > 1:
            # the second word is not an argument: it becomes the program's argv[0]
            del words[1]
        argv: list[str] = []
        for index, word in enumerate(words):
            text = self._specified(word)
            if ":" in prefixes or index == 0:
                argv.append(text)
            elif text.startswith("$") and text[1:2] not in ("", "$", "{"):
                # a variable that is a whole word may become several words, or none
                argv += galaxy_host_wrappers.split(environment.get(text[1:], ""))
            else:
                argv.append(_VARIABLE.sub(lambda match: _value(match, environment), text))
        return tuple(argv)

    def _specified(self, text: str) -> str:
        """Fill in specifiers. An unknown one stays as it is."""
        return _SPECIFIER.sub(lambda match: self._specifier(match[1], match[0]), text) if "%" in text else text

    def _specifier(self, letter: str, whole: str) -> str:
        prefix, _, instance = self.name.partition("@")
        known: dict[str, Callable[[], str]] = {
            **{"%": lambda: "%", "i": lambda: instance, "I": lambda: unescape(instance)},
            **{"n": lambda: f"{self.name}.service", "N": lambda: self.name},
            **{"p": lambda: prefix, "P": lambda: unescape(prefix)},
            **{"j": lambda: prefix.rpartition("-")[2], "J": lambda: unescape(prefix.rpartition("-")[2])},
            **{"H": platform.node, "l": lambda: platform.node().partition(".")[0], "v": platform.release},
        }
        if letter in known:
            return known[letter]()
        if letter in "huUgG":
            # the user whose manager has the unit counts, not User=
            owner = _password_entry(self._user or "root")
            values = {"h": owner.pw_dir, "u": owner.pw_name, "U": owner.pw_uid, "G": owner.pw_gid} if owner else {}
            return str(values.get(letter, whole))
        return _DIRECTORIES.get(letter, whole) if not self._user else whole

    def _list(self, key: str) -> list[str]:
        """The values of a key that can occur several times. An empty one drops those before it; drop-ins use this."""
        values: list[str] = []
        for name, value in self._lines:
            if name == key:
                values = [*values, value] if value else []
        return values

    def _last(self, key: str) -> str:
        return next((value for name, value in reversed(self._lines) if name == key), "")


def unescape(text: str) -> str:
    r"""Undo systemd.unit(5)'s escaping: ``-`` is ``/``, and ``\x2d`` is a character by its code."""
    data = re.sub(rb"\\x([0-9a-fA-F]{2})", lambda match: bytes([int(match[1], 16)]), text.replace("-", "/").encode())
    return data.decode(errors="replace")


def _password_entry(user: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        return None


def _value(match: re.Match[str], environment: Mapping[str, str]) -> str:
    return environment.get(match[1], "") if match[1] else "$"


def _read(path: str, user: str | None) -> str:
    owner = _password_entry(user) if user else None
    try:
        return galaxy_host_files.read(path, named_by=[owner.pw_uid] if owner else []).decode(errors="replace")
    except FileError as exc:
        log.info("A definition of systemd is not read: %s", exc)
        return ""


def _service_lines(text: str) -> list[tuple[str, str]]:
    """Key and value of each line of ``[Service]``; continued lines are joined."""
    lines: list[tuple[str, str]] = []
    section, pending = "", ""
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith(("#", ";")):
            # comments are skipped, also between the lines of a continued one
            continue
        if line.endswith("\\"):
            pending += line[:-1] + " "
            continue
        line, pending = (pending + line).strip(), ""
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line:
            key, _, value = line.partition("=")
            lines.append((key.strip(), value.strip()))
    return lines


def _words(line: str) -> list[str]:
    return [_text(word) for word in _raw_words(line)]


def _raw_words(line: str) -> list[str]:
    """The words of a line as they are written, with their quotes; between blanks where a quote is not closed."""
    words = _WORD.findall(line)
    return words if not _WORD.sub("", line).strip() else line.split()


def _text(word: str) -> str:
    return "".join(_unescaped(next(filter(None, parts), "")) for parts in _PART.findall(word)) if word else ""


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(_character, text.encode()).decode(errors="replace") if "\\" in text else text


def _character(match: re.Match[bytes]) -> bytes:
    byte, octal, short, long, letter = match.groups()
    if short or long:
        number = int(short or long, 16)
        return chr(number).encode(errors="replace") if number < 0x110000 else match[0]
    if letter:
        return bytes([_ESCAPED.get(letter[0], letter[0])])
    return bytes([int(byte, 16) if byte else int(octal, 8)])


def _assignments(text: str) -> dict[str, str]:
    """The variables of an ``EnvironmentFile=``: lines ``KEY=value``, quoted or not."""
    assignments = {}
    for raw in text.replace("\\\n", "").splitlines():
        name, equal, value = raw.strip().partition("=")
        if equal and not name.startswith(("#", ";")):
            words = galaxy_host_wrappers.split(value) if value[:1] in "\"'" else [value.strip()]
            assignments[name.strip()] = " ".join(words)
    return assignments


def require_instance(name: str) -> None:
    """Raises ``ManagerError`` for the name of a template, because this is not a service yet."""
    if name.endswith("@"):
        raise ManagerError(f"systemd: {name} is a template; name an instance of it, such as {name}0")
