"""
The configuration of a uWSGI: what its options in effect say of its sockets, its stats server, its processes and files.

``galaxy_uwsgi_options`` reads the options, each with its source. A value that cannot be read never hides the others.
"""

import contextlib
import dataclasses
import functools
import ipaddress
import os
import re
import socket
from collections.abc import Iterator
from typing import Any

import galaxy_host_address
import galaxy_uwsgi_options
import galaxy_uwsgi_table
from galaxy_errors import AddressError, ConfigError
from galaxy_host_address import Address
from galaxy_host_pattern import Pattern
from galaxy_host_process import Invocation
from galaxy_host_record import record
from galaxy_uwsgi_file import UNKNOWN
from galaxy_uwsgi_option import Option, leading_int, shown
from galaxy_uwsgi_options import Options

# option: its field. uWSGI's own sockets come first, then the sockets of its routers
_FIELDS = {
    **dict.fromkeys(("socket", "uwsgi-socket", "http-socket", "http11-socket", "puwsgi-socket"), "sockets"),
    **dict.fromkeys(("suwsgi-socket", "ssl-socket", "https-socket", "raw-socket"), "sockets"),
    **dict.fromkeys(("fastcgi-socket", "fastcgi-nph-socket", "scgi-socket", "scgi-nph-socket"), "sockets"),
    **dict.fromkeys(("http", "httprouter", "https", "https2", "http-to-https", "fastrouter", "rawrouter"), "sockets"),
    **dict.fromkeys(("zerg", "zergpool", "zerg-pool"), "sockets"),
    **dict.fromkeys(("shared-socket", "undeferred-shared-socket"), "shared"),
    **dict.fromkeys(("stats", "stats-server"), "stats"),
    **dict.fromkeys(("processes", "workers"), "processes"),
    **dict.fromkeys(("pidfile", "pidfile2", "safe-pidfile", "safe-pidfile2"), "pidfile"),
    **dict.fromkeys(("logto", "logto2", "daemonize", "daemonize2"), "logs"),
    **dict.fromkeys(("mule", "mules"), "mules"),
    **{
        name: name
        for name in ("threads", "master-fifo", "master", "need-app", "die-on-term", "stats-http", "no-server")
    },
    **{name: name for name in ("chdir", "abstract-socket")},
    **dict.fromkeys(("uid", "immediate-uid"), "user"),
}
# uWSGI opens these files before its chdir, all others after it
_BEFORE_CHDIR = {"pidfile", "logto", "logto2", "daemonize"}
_FALSE = {"false", "off", "no", "0"}
_DEFAULT = "uWSGI default"
_UNRESOLVED = Pattern(rf"\$\(|@\(|%\(|{UNKNOWN}")
_RELATIVE = "is relative to a directory that only the running server knows"
_MAX_NUMBER = 1 << 20
# the longest name that uWSGI takes (core/socket.c); the system would take 107
_MAX_UNIX = 102
_NUMBERS = Pattern(r"[\d.]+\Z")
_PORT = Pattern(r"[ \t]*([1-9]\d*)")


@record(frozen=True)
class Setting:
    """
    A value and its source: uWSGI's option, and ``file:line``, or whose command line it is.

    secret
        the value holds something of an environment
    """

    value: Any
    option: str
    source: str
    secret: bool = False


_SWITCHES = ("master", "need-app", "die-on-term", "no-server", "stats-http", "abstract-socket")
_OFF = {name: Setting(False, name, _DEFAULT) for name in _SWITCHES}
# fields of a Config, in the order in which they are shown
FIELDS = (
    *("path", "sockets", "stats", "processes", "threads", "mules", "master", "need_app", "die_on_term", "no_server"),
    *("pidfile", "master_fifo", "logs", "unusable", "doubts"),
)


class Config:
    """
    What a uWSGI's options say about the server. Each field is worked out when it is first asked for. If the options say
    nothing, it is ``None`` or empty.

    path
        path of the configuration that was asked for; ``None`` if only a command line was
    sockets
        addresses on which it listens, in uWSGI's order: ``Setting`` of ``Address``
    stats
        address of the stats server: ``Setting`` of ``Address``. ``stats_off`` says whether there really is one
    processes, threads, mules
        ``Setting`` of int; of ``None`` if the option cannot be read (then it is among ``unusable``). If no option is
        given, uWSGI's default (source ``uWSGI default``)
    master, need_app, die_on_term, no_server
        ``Setting`` of bool
    pidfile, master_fifo, logs
        ``Setting`` of an absolute path
    unusable
        settings that cannot be used or read. ``value`` is an error that says which and why
    doubts
        the same for options that one build of uWSGI reads and another does not; mention them if the server does not
        answer
    owners
        numeric IDs of the users who chose the options
    deciders
        numeric IDs of the users who decide what the configuration that was asked for says
    """

    def __init__(self, path: str | None, options: Options):
        self.path = path
        self._cwd = options.cwd
        self._groups: dict[str, list[Option]] = {}
        self._problems = [self._remark(*remark) for remark in options.problems]
        # sorted by option, because fields may be asked for in any order
        self._refused: dict[Option, dict[str, Setting]] = {}
        self.doubts = tuple(self._remark(*remark) for remark in options.doubts)
        groups = self._groups
        for option in options.options:
            field = _FIELDS.get(option.key)
            if field is not None:
                groups.setdefault(field, []).append(option)
        self._options = options.options
        self._whole = options
        # uWSGI's directory after its chdir
        self._after = self._directory()

    def __repr__(self) -> str:
        return f"Config({', '.join(f'{name}={getattr(self, name)!r}' for name in FIELDS)})"

    @staticmethod
    def _remark(key: str, source: str, sentence: str) -> Setting:
        # a sentence without an option is about the file itself; in a file, an option may be any text
        name = key if key.isprintable() and len(key) <= 60 else repr(key[:60])
        return Setting(ConfigError(f"{source}: {name}: {sentence}" if key else sentence), key, source)

    @functools.cached_property
    def owners(self) -> frozenset[int]:
        return self._whole.owners

    @functools.cached_property
    def deciders(self) -> set[int]:
        return self._whole.deciders(self.path) if self.path else set()

    @functools.cached_property
    def sockets(self) -> tuple[Setting, ...]:
        return tuple(self._sockets())

    @functools.cached_property
    def stats(self) -> Setting | None:
        option = self._last("stats")
        return self._stats(option) if option else None

    @functools.cached_property
    def processes(self) -> Setting:
        return self._number("processes", 1)

    @functools.cached_property
    def threads(self) -> Setting:
        return self._number("threads", 1)

    @functools.cached_property
    def mules(self) -> Setting:
        counts = [self._mules(option) for option in self._groups.get("mules", ())]
        known = [count for count in counts if count is not None]
        last = self._last("mules")
        return self._setting(last, sum(known) if known == counts else None) if last else Setting(0, "mules", _DEFAULT)

    @functools.cached_property
    def master(self) -> Setting:
        setting = self._bool("master")
        if setting.source != _DEFAULT:
            return setting
        for option in self._options:
            if option.problem is None and option.key in galaxy_uwsgi_table.MASTER:
                return Setting(True, option.key, option.source)
        return setting

    @functools.cached_property
    def need_app(self) -> Setting:
        return self._bool("need-app")

    @functools.cached_property
    def die_on_term(self) -> Setting:
        return self._bool("die-on-term")

    @functools.cached_property
    def no_server(self) -> Setting:
        return self._bool("no-server")

    @functools.cached_property
    def pidfile(self) -> Setting | None:
        paths = self._paths("pidfile")
        return paths[-1] if paths else None

    @functools.cached_property
    def master_fifo(self) -> tuple[Setting, ...]:
        return self._paths("master-fifo")

    @functools.cached_property
    def logs(self) -> tuple[Setting, ...]:
        return self._paths("logs")

    @functools.cached_property
    def unusable(self) -> tuple[Setting, ...]:
        for name in FIELDS:
            if name != "unusable":
                getattr(self, name)
        refused = [self._refused.get(option, {}).values() for option in self._options]
        return (*self._problems, *(setting for settings in refused for setting in settings))

    @property
    def user(self) -> str | None:
        """The user, by name or number, that uWSGI becomes if root starts it; ``None`` if the options do not tell."""
        options = self._groups.get("user", [])
        values = [option.value or "" for option in options if option.problem is None]
        if len(values) != len(options) or any(map(_UNRESOLVED.search, values)):
            return None
        # a name wins over a number, in any order (uwsgi_opt_set_uid, uwsgi_as_root)
        named = [value for value in values if not leading_int(value)]
        return next(iter([*reversed(named), *reversed(values)]), None)

    @property
    def stats_off(self) -> str | None:
        """Why this uWSGI has no stats server, even if it has the option; ``None`` if nothing says so."""
        if self.no_server.value:
            return f"{self.no_server.source}: {self.no_server.option} ends uWSGI once it has loaded; remove it"
        if self.master.value or self.master.source == _DEFAULT:
            return None
        return (
            f"{self.master.source}: master is off, and without its master uWSGI has no stats server; set master: true "
            "there, or start uWSGI with --master behind the configuration"
        )

    def _last(self, field: str) -> Option | None:
        group = self._groups.get(field)
        return group[-1] if group else None

    def _setting(self, option: Option, value: object) -> Setting:
        return Setting(value, option.key, option.source, option.secret)

    def _refuse(
        self, option: Option, sentence: str, kind: type[ConfigError] | type[AddressError] = ConfigError
    ) -> None:
        error = kind(f"{option.source}: {sentence}")
        # each sentence once
        self._refused.setdefault(option, {})[sentence] = Setting(error, option.key, option.source, option.secret)

    def _is_known(self, option: Option, kind: type = ConfigError) -> bool:
        """Whether the option is in effect and its value is resolved. If not, it is refused."""
        if option.problem is not None:
            self._refuse(option, f"{option.key} {option.problem}", kind)
            return False
        if option.value and _UNRESOLVED.search(option.value):
            self._refuse(option, f"{shown(option)} has a placeholder that is not known here; write its value", kind)
            return False
        return True

    # numbers and switches

    def _number(self, field: str, default: int) -> Setting:
        option = self._last(field)
        if option is None:
            return Setting(default, field, _DEFAULT)
        return self._setting(option, self._integer(option))

    def _integer(self, option: Option) -> int | None:
        """The number as uWSGI reads it: the digits at the beginning of the text. Without an argument it is 1."""
        if not self._is_known(option):
            return None
        if option.value is None:
            return 1
        number = leading_int(option.value)
        if not re.match(r"\s*[+-]?\d", option.value):
            self._refuse(option, f"{shown(option)} is not a number, and uWSGI reads it as 0")
            return None
        if not 0 <= number <= _MAX_NUMBER:
            self._refuse(option, f"{shown(option)} is not a number from 0 to {_MAX_NUMBER}")
            return None
        return number

    def _mules(self, option: Option) -> int | None:
        if option.key == "mule":
            if option.problem is None:
                return 1
            self._refuse(option, f"{option.key} {option.problem}")
            return None
        known = option.problem is None and not _UNRESOLVED.search(option.value or "")
        number = self._integer(option)
        return 0 if number is None and known else number

    def _bool(self, field: str) -> Setting:
        option = self._last(field)
        if option is None:
            return _OFF[field]
        if option.problem is not None:
            self._refuse(option, f"{option.key} {option.problem}")
            return self._setting(option, None)
        return self._setting(option, (option.value or "true").lower() not in _FALSE)

    # addresses

    def _sockets(self) -> Iterator[Setting]:
        for option in self._groups.get("sockets", ()):
            if not self._is_known(option, AddressError):
                continue
            key, text = option.key, option.value or ""
            if key == "zerg":
                self._refuse(option, f"{shown(option)}: the zerg server holds its sockets; give socket=", AddressError)
                continue
            if key.startswith("zerg"):
                texts = text.partition(":")[2].split(",")
            elif key == "https2":
                texts = [item[5:] for item in text.split(",") if item.startswith("addr=")]
            else:
                # https = address,certificate,key
                texts = [text.partition(",")[0]]
            for one in texts:
                address = self._address(option, one)
                if address is not None:
                    yield self._setting(option, address)

    def _stats(self, option: Option) -> Setting | None:
        if not self._is_known(option, AddressError):
            return None
        address = self._address(option, option.value or "")
        if address is not None and self._bool("stats-http").value:
            address = dataclasses.replace(address, http=True)
        return None if address is None else self._setting(option, address)

    def _address(self, option: Option, text: str) -> Address | None:
        """The address as uWSGI reads it (``core/socket.c``): TCP if it has a colon, else a unix socket."""
        is_stats = _FIELDS[option.key] == "stats"
        if not is_stats and text.startswith("="):
            shared = self._groups.get("shared", [])
            number = leading_int(text[1:])
            if not 0 <= number < len(shared):
                self._refuse(option, f"{shown(option)} names a shared socket that is not there", AddressError)
                return None
            option = shared[number]
            if not self._is_known(option, AddressError):
                return None
            text = option.value or ""
        text = text.lstrip()
        try:
            if text.startswith("fd://") and not is_stats:
                raise AddressError("is a descriptor that uWSGI is started with; give socket=")
            return self._tcp(option, text, is_stats) if ":" in text else self._unix(option, text)
        except AddressError as exc:
            reason = f"{shown(option)}: {exc}" if str(exc).startswith("Bad") else f"{shown(option)} {exc}"
            if option.secret:
                reason = f"{shown(option)} is not a host's number with a port; write the address instead"
            self._refuse(option, reason, AddressError)
            return None

    def _unix(self, option: Option, text: str) -> Address:
        if option.secret:
            raise AddressError("is a name that would be shown")
        if self._bool("abstract-socket").value:
            # uWSGI gives other abstract names a closing NUL, but not this one
            raise AddressError("is made abstract by abstract-socket, and is not asked for here; write @name instead")
        if text.startswith(("@", "\\0")):
            return galaxy_host_address.parse(text)
        if text and not text.startswith("/"):
            if self._after is None:
                raise AddressError(f"{_RELATIVE}; write host:port or an absolute path")
            text = os.path.join(self._after, text)
        if len(os.fsencode(text)) > _MAX_UNIX:
            raise AddressError(f"is longer than {_MAX_UNIX} bytes, uWSGI's limit for a unix socket")
        return galaxy_host_address.parse(text)

    def _tcp(self, option: Option, text: str, is_stats: bool) -> Address:
        host, _, port = text.rpartition(":")
        if text.startswith(("unix:", "/", "@", "http:")):
            raise AddressError(
                "is a form that uWSGI does not know, so it makes a TCP socket of it; write host:port, or a bare path "
                "such as /run/galaxy.sock, without a colon"
            )
        if "*" in host and (is_stats or host != "*"):
            raise AddressError("has an asterisk for the host; write :port for every interface, or an address")
        number = _PORT.match(port)
        if not number:
            raise AddressError("names no port from 1 to 65535, so that the system chooses one; write the port")
        if option.secret and not _is_literal(host):
            raise AddressError("has a host name")
        if _NUMBERS.match(host):
            # inet_aton(3): 0 is every interface, 127.1 is 127.0.0.1
            with contextlib.suppress(OSError):
                host = socket.inet_ntoa(socket.inet_aton(host))
        return galaxy_host_address.parse(f"{host}:{number[1]}")

    # files

    def _paths(self, field: str) -> tuple[Setting, ...]:
        group = self._groups.get(field)
        if group is None:
            return ()
        settings: dict[object, Setting] = {}
        for option in group:
            text = option.value
            # a log whose name has a colon goes to another machine
            if not text or (field == "logs" and ":" in text) or not self._is_known(option):
                continue
            base = self._cwd if option.key in _BEFORE_CHDIR else self._after
            if option.secret:
                self._refuse(option, f"{shown(option)} would be shown with it; write the path instead")
                continue
            if text[0] != "/":
                if base is None:
                    self._refuse(option, f"{shown(option)} {_RELATIVE}; write an absolute path")
                    continue
                text = os.path.join(base, text)
            # uWSGI has one such file, the last, but any number of FIFOs
            settings.pop(option.key, None)
            settings[option if field == "master-fifo" else option.key] = self._setting(option, text)
        return tuple(settings.values())

    def _directory(self) -> str | None:
        option = self._last("chdir")
        if option is None:
            return self._cwd
        text = option.value or ""
        if option.problem is not None or option.secret or _UNRESOLVED.search(text):
            return None
        return os.path.normpath(os.path.join(self._cwd, text)) if self._cwd else text if text[:1] == "/" else None


def read(path: str | None, invocation: Invocation | None = None) -> Config:
    """
    The configuration of the uWSGI that ``invocation`` starts, or started, with the configuration file ``path``.

    path
        read first if no word of ``invocation`` names it; ``None``: only the words count
    invocation
        its environment resolves ``$(NAME)``, and relative paths belong to its directory. Without it only the file
        counts, and environment and directory are unknown

    Raises ``ConfigError``, which names the file, if a file is missing, cannot be read, has no uWSGI section, includes
    itself, or is too large. A value that cannot be read or used is kept in ``unusable``.
    """
    if path is not None:
        path = os.path.abspath(path)
    elif invocation is None:
        raise ConfigError("No Galaxy configuration is known: give config=, or set galaxy:config in pillar")
    options = galaxy_uwsgi_options.collect(path, invocation)
    missing = [sentence for key, _, sentence in options.doubts if key == ""]
    if missing and not any(option.key in _FIELDS for option in options.options):
        raise ConfigError(missing[0])
    return Config(path, options)


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host in ("", "localhost")
    return True
