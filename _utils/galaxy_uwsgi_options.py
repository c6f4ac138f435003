"""
Collect the options that uWSGI has from its environment, its command line and its configuration files, in its own order.

This is uWSGI's order (``core/init.c``, ``core/config.c``): the ``UWSGI_*`` variables; the words from left to right,
with each file at the place where it is named; bare words, which are files. Then ``$(ENV)``, ``@(file)`` and
``%(option)`` are replaced in options that are not yet in effect. Last come the files of ``inherit``.
"""

import os
import socket
from collections.abc import Callable, Iterator, Mapping

import galaxy_host_files
import galaxy_uwsgi_command
import galaxy_uwsgi_file
from galaxy_errors import ConfigError, IsGravitys
from galaxy_host_pattern import Pattern
from galaxy_host_process import Invocation
from galaxy_uwsgi_file import MAX_TEXT, SECTION, UNKNOWN, Remark
from galaxy_uwsgi_option import MAX_VALUE, Option, evaluate, is_private, leading_int, shown

MAX_FILES = 64
MAX_DEPTH = 16
MAX_OPTIONS = 10_000
MAX_REPLACEMENTS = 20_000
_ENDS = {"end", "endfor", "endif", "end-for", "end-if"}
# the options that set a placeholder; True: the value is in effect at once, so nothing in it is replaced later
_SETS = {"set": False, "set-placeholder": True, "set-ph": True}
# how uWSGI reads the file that such an option names; "" means that the file's name decides
_LOADS = {
    **{"ini": "ini", "ini-paste": "ini", "ini-paste-logged": "ini", "yaml": "yaml", "yml": "yaml", "include": ""},
    **{"config": "", "xml": "xml", "xmlconfig": "xml", "json": "json", "js": "json"},
}
_BY_NAME = ((".ini", "ini"), (".yaml", "yaml"), (".yml", "yaml"))
_CONDITIONS = ("opt", "env", "reload", "hostname", "hostname-match", "exists", "plugin", "file", "dir")
_LOGIC = {
    *("for", "for-times", "for-glob", "for-readline", "ifenv", "ifexists", "ifplugin", "ifdir", "if-directory"),
    *(f"if-{negation}{condition}" for negation in ("", "not-") for condition in _CONDITIONS),
}
_SPECIAL = {*_ENDS, *_SETS, *_LOADS, *_LOGIC, "inherit"}
# uWSGI sets these variables itself, and does not read them as options
_OWN_VARIABLES = {
    *("UWSGI_RELOADS", "UWSGI_VASSALS_DIR", "UWSGI_EMPEROR_FD", "UWSGI_BROODLORD_NUM", "UWSGI_EMPEROR_FD_CONFIG"),
    *("UWSGI_EMPEROR_PROXY", "UWSGI_JAIL_PID", "UWSGI_ORIGINAL_PROC_NAME"),
}
_SCHEME = Pattern(r"[a-z0-9]+://")
_PLACEHOLDERS = {
    symbol: Pattern(rf"\{symbol}\(((?:[^{symbol}()]|\([^{symbol}()]*\))+)\)") for symbol in ("$", "@", "%")
}


class Options:
    """
    The options of one uWSGI.

    options
        in the order in which uWSGI applies them
    cwd
        the directory in which it starts; ``None`` if unknown
    is_alone
        no known command line starts uWSGI with the file
    problems, doubts
        option, source and sentence for options that could not be read, and for those that one build of uWSGI reads and
        another does not
    """

    def __init__(
        self,
        given: str | None = None,
        cwd: str | None = None,
        environment: Mapping[str, str] | None = None,
        user: int | None = None,
        is_alone: bool = False,
    ):
        self.options: list[Option] = []
        self._is_alone = is_alone
        self.cwd = cwd
        self.problems: list[Remark] = []
        self.doubts: list[Remark] = []
        self._given = given
        self._environment = environment
        self._first: dict[str, Option] = {}
        self._logic: Option | None = None
        self._top: tuple[str, str, str] | None = None
        self._inherited: list[Option] = []
        self._depth = self._files = self._text = self._replacements = 0
        self._last_ini = ""
        # the command line may bring any option
        self._has_brackets = environment is not None or cwd is not None
        self._deciders: dict[str, set[int]] = {}
        self._user = user

    @property
    def owners(self) -> frozenset[int]:
        """The users who chose the options: numeric IDs."""
        return frozenset(self._owners(""))

    def _owners(self, path: str) -> set[int]:
        """
        The users who had a part in naming a file: the owners of the files that were read, and of the words. The
        configuration that was asked for is nobody's choice but ours.
        """
        owners = set()
        if path != self._given:
            for one in {self._given, *self._deciders}:
                owners |= self.deciders(one) if one is not None else set()
            if self._user is not None:
                owners.add(self._user)
        return owners

    def deciders(self, path: str) -> set[int]:
        """The users who decide what a file says, as it was when it was read: numeric IDs."""
        if path not in self._deciders:
            # the file was asked for, but not read
            return galaxy_host_files.deciders(path)
        return self._deciders[path]

    def load(self, path: str, kind: str = "", section: str = SECTION, option: Option | None = None) -> None:
        """
        Read a file that ``option`` names, or that was asked for. ``kind`` is ``ini`` or ``yaml``; without it, the name
        or the text of the file decides.

        Raises ``ConfigError``.
        """
        self._files += 1
        if self._files > MAX_FILES:
            raise ConfigError(f"{path}: more than {MAX_FILES} files are read; remove some include options")
        if self._depth > MAX_DEPTH:
            raise ConfigError(f"{path}: included more than {MAX_DEPTH} levels deep; remove the loop of include options")
        written = self._split(option.key, option.value or "")[0] if option else path
        # magic variables with a capital letter never mean these files
        if self._top is None and (option is None or option.key not in ("include", "inherit", "")):
            self._top = path, section, written
        try:
            deciders: set[int] = set()
            text = galaxy_uwsgi_file.read_text(path, self._owners(path), deciders)
        except ConfigError as exc:
            if option and option.line:
                raise ConfigError(f"{option.source}: {option.key}: {exc}") from None
            raise
        self._deciders[path] = deciders
        self._text += len(text)
        self._has_brackets = self._has_brackets or "$(" in text or "@(" in text or "%(" in text
        if "%" in text:
            text = galaxy_uwsgi_file.magic(text, path, section, written, self._top, self.cwd)
        if not kind:
            kind = galaxy_uwsgi_file.kind_of(path, text)
        if self._is_alone and option is None and kind == "yaml" and galaxy_uwsgi_file.is_gravitys(text):
            raise IsGravitys(galaxy_uwsgi_file.GRAVITYS.format(path))
        if kind == "ini":
            self._last_ini = path
            lines = galaxy_uwsgi_file.ini_lines(text, section)
        else:
            lines = galaxy_uwsgi_file.yaml_lines(text, section, path, self.problems, self.doubts)
        self._depth += 1
        has_section = False
        options, known = self.options, self._first
        for line, key, value in lines:
            has_section = True
            if not key:
                continue
            if self._logic is None and key not in _SPECIAL and len(options) < MAX_OPTIONS and len(value) < MAX_VALUE:
                # the same as add, but quicker: nearly all lines come here
                option = Option(key, value, path, line)
                options.append(option)
                if key not in known:
                    known[key] = option
            else:
                self.add(Option(key, value, path, line))
        self._depth -= 1
        if not has_section:
            self.doubts.append(("", path, galaxy_uwsgi_file.no_section(path, text, kind, section)))

    def add(self, option: Option) -> None:
        """
        Add an option as uWSGI comes to it: inside the loop or condition that is open. Some options take effect at once.
        """
        key = option.key
        if key in _ENDS:
            self._logic = None
        elif self._logic is not None:
            logic, self._logic = self._logic, None
            secret = option.secret or ("%(_)" in (option.value or "") and self._is_secret(logic))
            for value, problem in self._turns(logic, option.value or ""):
                one = Option(key, value, option.path, option.line)
                one.secret, one.problem = secret, problem
                # a file that the option names is read once, outside of the loop
                self._export(one)
            self._logic = logic
        elif key in _LOGIC:
            self._logic = option
        else:
            self._export(option)

    def _export(self, option: Option) -> None:
        options, key = self.options, option.key
        options.append(option)
        if len(options) > MAX_OPTIONS or len(option.value or "") > MAX_VALUE or self._text > MAX_TEXT:
            limit = f"{MAX_OPTIONS} options, {MAX_VALUE} characters a value and {MAX_TEXT} in all"
            raise ConfigError(f"{option.source}: more than {limit}; shorten the configuration")
        if key not in self._first:
            self._first[key] = option
        if key in _LOADS:
            option.in_effect = True
            if option.problem is None:
                self.load_option(option)
        elif key in _SETS:
            option.in_effect = True
            name, equal, content = (option.value or "").partition("=")
            if equal and name:
                one = Option(name, content, option.path, option.line)
                one.secret, one.problem = option.secret, option.problem
                self._export(one)
                one.in_effect = one.in_effect or _SETS[key]
        elif key == "inherit" and option.problem is None:
            self._inherited.append(option)

    # Files that options name.

    def load_option(self, option: Option) -> None:
        """Read the file that an option names. A bare word has the key ``""``."""
        name = option.value or ""
        # a relative name starts from the directory of the file that has it
        directory = os.path.dirname(option.path) if option.line else ""
        path, kind, section = self._split(option.key, name)
        target = None
        if UNKNOWN in name:
            reason = f"{shown(option)} has a magic variable that only uWSGI knows"
        elif _SCHEME.match(name) or name == "-" or not name:
            reason = f"{shown(option)} is no file; only uWSGI itself can read that, so give stats= and socket="
        elif kind not in ("ini", "yaml"):
            reason = f"{shown(option)}: only INI and YAML are read here; give stats= and socket="
        else:
            target = self._locate(path, directory)
            reason = f"{shown(option)} is relative to a directory that only the running server knows"
        if option.secret and target != self._given:
            target, reason = None, "its file is named by an environment, and such a name is not followed"
        if target is None:
            self.problems.append((option.key, option.source, reason))
            return
        depth = self._depth
        try:
            self.load(target, kind, section, option)
        except ConfigError as exc:
            # if a configuration was asked for, the file that a word names is another one
            if directory or not self._given or target == self._given:
                raise
            self._depth = depth
            self.problems.append((option.key, option.source, str(exc)))

    def _split(self, key: str, name: str) -> tuple[str, str, str]:
        """Path, kind and section of ``path:section``."""
        path, colon, section = name.rpartition(":")
        if not colon:
            path, section = name, ""
        elif not path:
            path = self._last_ini
        kind = _LOADS.get(key, "") or next((kind for end, kind in _BY_NAME if path.endswith(end)), "unknown")
        return path, kind, section or SECTION

    def _locate(self, path: str, directory: str) -> str | None:
        """
        The path of a file. For uWSGI a relative path belongs to the directory in which it was started. If this is
        unknown, Galaxy's root is taken (the parent of the directory of the file that names it), or this directory
        itself.
        """
        given = self._given
        if os.path.isabs(path):
            candidates = [path]
        elif self.cwd:
            # the server may have left the directory in which it was started
            bases = (self.cwd, (self._environment or {}).get("PWD"))
            candidates = [os.path.join(base, path) for base in bases if base]
            if given and not any(map(os.path.exists, candidates)) and _ends_with(given, path):
                return given
        elif directory:
            candidates = [os.path.join(base, path) for base in (os.path.dirname(directory), directory)]
        else:
            return given if given and _ends_with(given, path) else None
        found = next(filter(os.path.exists, candidates), candidates[0] if self.cwd else candidates[-1])
        if given and found != given and os.path.realpath(found) == os.path.realpath(given):
            return given
        return found

    def names_given(self, option: Option) -> bool:
        """Whether an option, or a bare word, names the file that was asked for."""
        if option.key and option.key not in _LOADS:
            return False
        paths = (option.value or "", self._split(option.key, option.value or "")[0])
        return any(self._locate(path, "") == self._given for path in paths if path)

    # Loops and conditions.

    def _turns(self, logic: Option, value: str) -> Iterator[tuple[str, str | None]]:
        """Value and problem of an option inside ``for = …`` or ``if-… = …``, once for each turn."""
        kind, argument = logic.key, logic.value or ""
        if kind == "for":
            items = argument.split(" ")
            items = [item for item in items if item]
        elif kind == "for-times":
            count = leading_int(argument)
            if count > MAX_OPTIONS:
                raise ConfigError(f"{logic.source}: for-times asks for more than {MAX_OPTIONS} turns; lower it")
            items = [str(number) for number in range(1, count + 1)]
        else:
            negated = kind.startswith("if-not-")
            condition = kind.removeprefix("if").removeprefix("-").removeprefix("not-")
            holds = None if kind.startswith("for") else self._condition(condition, argument)
            if holds is None:
                yield value, f"is inside {kind} of {logic.source}, which only uWSGI can decide"
                return
            items = [] if (holds is not False) == negated else [holds if isinstance(holds, str) else argument]
        places = value.count("%(_)")
        for item in items:
            if places and len(value) + places * len(item) > MAX_VALUE:
                raise ConfigError(
                    f"{logic.source}: {kind} makes a value longer than {MAX_VALUE} characters; shorten it"
                )
            one = value.replace("%(_)", item) if places else value
            self._text += len(one)
            yield one, None

    def _is_secret(self, logic: Option) -> bool:
        """Whether what stands for ``%(_)`` comes from an environment."""
        name = (logic.value or "").partition("=")[0]
        if logic.key.endswith("opt"):
            tested = self._first.get(name)
            return logic.secret or bool(tested and tested.secret)
        return logic.secret or (logic.key.endswith("env") and is_private((self._environment or {}).get(name, "")))

    def _condition(self, kind: str, argument: str) -> bool | str | None:
        """Whether a condition holds. If it gives ``%(_)`` a text, the text; ``None`` if only uWSGI can tell."""
        if kind in ("exists", "file", "dir", "directory"):
            path = argument if os.path.isabs(argument) else self.cwd and os.path.join(self.cwd, argument)
            if not path or UNKNOWN in path:
                return None
            return {"exists": os.path.exists, "file": os.path.isfile}.get(kind, os.path.isdir)(path)
        if kind == "hostname":
            return argument == socket.gethostname()
        if kind == "reload":
            return None if self._environment is None else "UWSGI_RELOADS" in self._environment
        if kind in ("env", "opt"):
            name, equal, wanted = argument.partition("=")
            if kind == "opt":
                value = self._first[name].value if name in self._first else None
            elif self._environment is None:
                return None
            else:
                value = self._environment.get(name)
            return False if value is None or (equal and value != wanted) else value
        return None

    # Placeholders, once all options are known.

    def finish(self) -> None:
        """Replace the placeholders as far as they are known, and read the files of ``inherit``."""
        looks = {"$": self._variable, "@": self._content, "%": self._placeholder}
        for symbol, look in looks.items():
            # any value may have placeholders: in a file, a word, or a variable
            if self._has_brackets and any(f"{symbol}(" in (option.value or "") for option in self.options):
                self._replace(symbol, look)
        for option in self._inherited:
            self.load_option(option)

    def _replace(self, symbol: str, look: Callable[[str, Option], tuple[str | None, bool]]) -> None:
        mark, pattern = f"{symbol}(", _PLACEHOLDERS[symbol]
        for option in self.options:
            if option.in_effect or not option.value or mark not in option.value:
                continue
            start = 0
            while match := pattern.search(option.value, start):
                self._replacements += 1
                if self._replacements > MAX_REPLACEMENTS:
                    raise ConfigError(f"{option.source}: more than {MAX_REPLACEMENTS} placeholders; remove some")
                text, secret = look(match[1], option)
                if text is None:
                    start = match.end()
                    continue
                option.secret = option.secret or secret
                option.value = option.value[: match.start()] + text + option.value[match.end() :]
                self._text += len(text)
                if len(option.value) > MAX_VALUE or self._text > MAX_TEXT:
                    raise ConfigError(f"{option.source}: its placeholders make it longer than {MAX_VALUE} characters")
                # the replacement may hold placeholders too, but not at its very beginning
                start = 1

    def _variable(self, name: str, option: Option) -> tuple[str | None, bool]:
        value = (self._environment or {}).get(name)
        return value, value is not None and is_private(value)

    def _content(self, name: str, option: Option) -> tuple[str | None, bool]:
        """The text of a file. Nothing else is read here, and nothing is run."""
        path = name if os.path.isabs(name) else self.cwd and os.path.join(self.cwd, name)
        if not path or _SCHEME.match(name) or UNKNOWN in name or option.secret:
            return None, False
        self._files += 1
        if self._files > MAX_FILES:
            raise ConfigError(f"{option.source}: more than {MAX_FILES} files are read; remove some")
        try:
            text = galaxy_uwsgi_file.read_text(path, self._owners(path))
        except ConfigError as exc:
            self.problems.append((option.key, option.source, str(exc)))
            return None, False
        return (text[:-1] if text.endswith(("\n", "\r")) else text), True

    def _placeholder(self, expression: str, option: Option) -> tuple[str | None, bool]:
        return evaluate(expression, self._first, option.source)


def collect(path: str | None, invocation: Invocation | None = None) -> Options:
    """
    The options of a uWSGI that ``invocation`` starts with the configuration file ``path``. If no word names this file,
    it is read first.

    Raises ``ConfigError``.
    """
    if invocation is None:
        options = Options(path, is_alone=True)
        options.load(path or "")
        options.finish()
        return options
    command = galaxy_uwsgi_command.parse(invocation)
    options = Options(path, command.cwd, command.environment, invocation.user)
    source = invocation.source
    added = []
    for name, value in (command.environment or {}).items() if command.starts else ():
        if name.startswith("UWSGI_") and name not in _OWN_VARIABLES:
            option = Option(name[6:].lower().replace("_", "-"), value, f"{name} in the environment of {source}", 0)
            option.secret = is_private(value)
            added.append(option)
    # a bare word names a file, and no option
    for name, given, secret in (*command.options, *(("", file, secret) for file, secret in command.files)):
        option = Option(name, given, source, 0)
        option.secret = secret
        added.append(option)
    if path and not any(map(options.names_given, added)):
        options.load(path)
    for option in added:
        if option.key:
            options.add(option)
        else:
            options.load_option(option)
    options.finish()
    return options


def _ends_with(path: str, end: str) -> bool:
    """Whether a relative path may mean this file, if its directory is unknown."""
    return f"{os.sep}{path}".endswith(f"{os.sep}{os.path.normpath(end)}")
