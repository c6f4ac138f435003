"""
Make Galaxy's definition for its process manager: the text of systemd's unit or supervisord's program, and its files.

The environment may hold secrets. So it is only in a file of mode 0600: systemd shows everybody what ``Environment=``
says, but the file that a unit names is read by PID 1 alone.

The settings, by key: ``service`` (``galaxy``), ``config``, ``uwsgi``, ``root`` (the directory of ``config``), ``user``,
``group``, ``environment`` (a mapping), ``autostart``, ``stop_timeout`` (seconds), ``log``, ``mounts`` (a list of mount
points that Galaxy needs), ``others`` (a list of mount points where other users write, and which Galaxy does not need),
``program_file`` (of supervisord).
"""

import difflib
import logging
import os
import re
import shlex
import stat
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import galaxy_host_command
import galaxy_host_files
import luks_cryptdev_ini
from galaxy_errors import DefinitionError, FileError, FileMissing
from galaxy_host_pattern import Pattern
from galaxy_host_record import record

log = logging.getLogger(__name__)

UNITS = "/etc/systemd/system"
_HEADER = "Managed by Salt (formula galaxy)."
_NAME = Pattern(r"[A-Za-z_][A-Za-z0-9_]*")
_USER = Pattern(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\$?")
_SERVICE = Pattern(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*")
# control characters except the tab, and code points that systemd (utf8.c) refuses: it drops a variable with such a one
_CONTROL = Pattern("[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
# MAX_ARG_STRLEN, execve(2)
_LONGEST = 128 << 10
_SECRETS = Pattern(r"(?i)^[+-]\s*environment\s*=")
_ADVICE = "Use uWSGI's logto, or leave it to the manager"
_HIDDEN = "changed; not shown, because it may hold secrets"


@record(frozen=True)
class File:
    """A file to write. If it is ``secret``, neither its content nor a difference is shown."""

    mode: int
    content: str
    secret: bool = False


def write(
    server: Mapping[str, Any], waits: bool = False, absent: bool = False, test: bool = False, others: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """
    Write the definition of a server, or remove it.

    server
        settings of the server, as ``galaxy_settings`` has them
    waits
        whether the server needs more than its volumes, such as Onedata spaces. Then its process manager must not start
        it at boot
    absent
        remove the definition instead
    test
        change nothing
    others
        directories beside its volumes where other users write: mount points of Onedata spaces, and of volumes of other
        servers

    Returns what changed, or would change, like ``apply``. Raises ``DefinitionError``, which names the setting, if this
    tree may not write the definition, or if a setting cannot be used.
    """
    if not server["manage_service"]:
        raise DefinitionError("manage_service", "is not set, so this tree may not write the definition")
    mounts = [mount_point(storage) for storage in server["storages"]]
    settings = {
        **server,
        "mounts": mounts,
        "others": others,
        "autostart": server["autostart"] and not (mounts or waits),
    }
    is_unit = server["manager"] == "systemd"
    if absent:
        # this works even if other settings are wrong
        files = dict.fromkeys(
            _unit_paths(settings) if is_unit else [_absolute("program_file", settings["program_file"])]
        )
    else:
        files = systemd_unit(settings) if is_unit else supervisord_program(settings)
    changes = apply(files, test)
    if changes and is_unit and not test:
        galaxy_host_command.run(["systemctl", "daemon-reload"])
    return changes


def mount_point(storage: Mapping[str, Any]) -> str:
    """The directory on which a volume is mounted. Raises ``ConfigError`` if its luks-cryptdev.ini does not tell."""
    ini = storage["cryptdev_ini"]
    return luks_cryptdev_ini.read(ini).mountpoint if ini else storage["mount_point"]


def systemd_unit(settings: Mapping[str, Any]) -> dict[str, File | None]:
    """
    The unit and the file of its environment, by path. A file that shall not exist is ``None``.

    Raises ``DefinitionError``, which names the setting and never its value.
    """
    environment, path = _unit_paths(settings)
    mounts = _mounts(settings)
    variables = _environment(settings)
    root, argv = _root(settings), _command(settings)
    lines = [f"# {_HEADER}", "[Unit]", "Description=Galaxy"]
    lines.append(f"After=network.target{' remote-fs.target' if mounts else ''}")
    lines += [*mount_lines(mounts), "", "[Service]", "Type=simple"]
    lines += [f"User={_user(settings, 'user')}", f"Group={_user(settings, 'group')}"]
    lines.append(f"WorkingDirectory={_systemd_path(root)}")
    if variables:
        lines += ["# PID 1 reads it; what Environment= says is shown to everybody", f"EnvironmentFile={environment}"]
    # systemd expands no variable in the program's path, but in the arguments
    program, *arguments = argv
    words = [_systemd_word(program), *(_systemd_word(argument).replace("$", "$$") for argument in arguments)]
    lines.append(f"ExecStart={' '.join(words)}")
    lines += [
        "# SIGTERM reloads uWSGI unless it has die-on-term; SIGINT ends it",
        "KillSignal=SIGINT",
        "KillMode=mixed",
    ]
    lines += [f"TimeoutStopSec={_stop_timeout(settings)}", "Restart=on-failure"]
    output = _log(settings)
    if output:
        lines += [f"StandardOutput=append:{_systemd_path(output)}", "StandardError=inherit"]
    lines += ["", "[Install]", "WantedBy=multi-user.target", ""]
    pairs = "".join(f"{name}={_systemd_value(value)}\n" for name, value in variables.items())
    # the environment comes first, so that no unit names a missing file
    return {
        environment: File(0o600, f"# {_HEADER}\n{pairs}", secret=True) if variables else None,
        path: File(0o644, "\n".join(lines)),
    }


def mount_lines(mounts: Iterable[str]) -> list[str]:
    """
    The lines of ``[Unit]`` that keep a unit from starting before these mount points have their data, whoever starts it.
    Raises ``DefinitionError``.
    """
    lines = []
    for mount in _mounts({"mounts": list(mounts)}):
        lines += [f"RequiresMountsFor={_systemd_word(mount)}", f"AssertPathIsMountPoint={_systemd_path(mount)}"]
    return lines


def supervisord_program(settings: Mapping[str, Any]) -> dict[str, File | None]:
    """The program's file, by path. Raises ``DefinitionError``, which names the setting and never its value."""
    path = _absolute("program_file", settings.get("program_file"))
    service = _service(settings)
    variables = _environment(settings)
    _mounts(settings)
    values = {
        "command": _ini("uwsgi or config", " ".join(map(shlex.quote, _command(settings)))),
        "directory": _ini("root", _root(settings)),
        "user": _user(settings, "user"),
    }
    if variables:
        pairs = [f"{name}={_supervisord_value(name, value)}" for name, value in variables.items()]
        values["environment"] = ",".join(pairs)
    values["autostart"] = "true" if _autostart(settings) else "false"
    values["autorestart"] = "true"
    # SIGTERM reloads uWSGI unless it has die-on-term; SIGINT ends it
    values["stopsignal"] = "INT"
    values |= {"stopwaitsecs": str(_stop_timeout(settings)), "killasgroup": "true", "redirect_stderr": "true"}
    output = _log(settings)
    if output:
        # supervisord expands this option twice
        values["stdout_logfile"] = _ini("log", output).replace("%", "%%")
    lines = [f"; {_HEADER}", f"[program:{service}]", *(f"{key} = {value}" for key, value in values.items()), ""]
    return {path: File(0o600 if variables else 0o644, "\n".join(lines), secret=bool(variables))}


def apply(files: Mapping[str, File | None], test: bool = False) -> dict[str, dict[str, Any]]:
    """
    Write the files that differ, remove those that shall not exist, and check the result.

    test
        change nothing

    Returns what changed, or would change, by path: ``diff`` (a text; for a secret file it only says that it changed)
    and ``mode``. Raises ``FileError``, also if a user other than root can write a directory on the way.
    """
    changes = {}
    for path, file in files.items():
        old = _there(path)
        if _is_same(old, file):
            continue
        galaxy_host_files.require_place(path)
        changes[path] = _difference(path, old, file)
        if test:
            continue
        if file is None:
            os.unlink(path)
            log.info("removed %s", path)
        else:
            galaxy_host_files.make_directories(os.path.dirname(path), os.geteuid(), os.getegid(), 0o755)
            galaxy_host_files.write_atomic(path, file.content.encode(), file.mode)
        if not _is_same(_there(path), file):
            raise FileError(path, "was written, but has other content now: something else writes it too")
    return changes


def _there(path: str) -> File | None:
    """The file as it is; ``None`` if there is none. A file that not everybody may read counts as secret."""
    try:
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            return File(0, f"a link to {os.readlink(path)}\n")
        content = galaxy_host_files.read(path).decode(errors="replace")
    except (FileNotFoundError, FileMissing):
        return None
    except OSError as exc:
        raise FileError(path, f"cannot be read: {exc.strerror}") from None
    mode = stat.S_IMODE(status.st_mode)
    return File(mode if status.st_uid == os.geteuid() else -1, content, secret=not mode & 0o004)


def _is_same(one: File | None, other: File | None) -> bool:
    return one is other or bool(one and other and (one.mode, one.content) == (other.mode, other.content))


def _difference(path: str, old: File | None, new: File | None) -> dict[str, Any]:
    change = {}
    if new is None:
        change["diff"] = "removed"
    elif old is None:
        change["diff"] = "new file"
    elif old.content != new.content:
        change["diff"] = _HIDDEN if old.secret or new.secret else _diff(path, old, new)
    if new and (old is None or old.mode != new.mode):
        change["mode"] = f"{new.mode:04o}"
    return change


def _diff(path: str, old: File, new: File) -> str:
    lines = difflib.unified_diff(old.content.splitlines(), new.content.splitlines(), path, path, lineterm="")
    # an older unit may have secrets of the environment in its text
    return "\n".join(f"{line[0]}Environment: {_HIDDEN}" if _SECRETS.match(line) else line for line in lines)


def _systemd_path(path: str) -> str:
    """A path that is alone on the line of an option."""
    return path.replace("%", "%%")


def _systemd_word(word: str) -> str:
    """A path beside other words on the line of an option, systemd.syntax(7)."""
    escaped = word.replace("%", "%%")
    return f'"{escaped}"' if re.search(r"[\s;]", escaped) else escaped


def _systemd_value(value: str) -> str:
    """A value in a file for ``EnvironmentFile=``, systemd.exec(5): it has no specifiers and no variables."""
    return '"' + re.sub(r'(["\\`$])', r"\\\1", value) + '"'


def _supervisord_value(name: str, value: str) -> str:
    """A value of ``environment``; supervisord's parser knows no escapes, and strips all quotes off both ends."""
    key = f"environment:{name}"
    if value[:1] in ("'", '"') or value[-1:] in ("'", '"') or ("'" in value and '"' in value):
        raise DefinitionError(
            key, "begins or ends with a quote, or has both kinds of them, which supervisord cannot read; use systemd"
        )
    quote = "'" if '"' in value else '"'
    return f"{quote}{_ini(key, value)}{quote}"


def _ini(key: str, value: str) -> str:
    """A value in supervisord's configuration."""
    if re.search(r"\s[;#]", value):
        raise DefinitionError(key, "has a blank before ; or #, where a comment begins for supervisord")
    if "%(here)s" in value:
        raise DefinitionError(key, "has %(here)s, which supervisord replaces even where it is quoted")
    return value.replace("%", "%%")


def _environment(settings: Mapping[str, Any]) -> dict[str, str]:
    given = settings.get("environment") or {}
    if not isinstance(given, Mapping):
        raise DefinitionError("environment", "is not a mapping of names to values")
    variables = {}
    for name in sorted(given, key=str):
        key, value = f"environment:{name}", given[name]
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise DefinitionError("environment", f"has {name!r}; a name has letters, digits and _ only")
        if not isinstance(value, (str, int, float)):
            raise DefinitionError(key, f"is a {type(value).__name__}; give a text")
        # a YAML block (a GPG-encrypted one too) ends in a newline that is not part of the value
        value = str(value).removesuffix("\n")
        if _CONTROL.search(value):
            raise DefinitionError(key, "has a control character, such as a newline, which no process manager can read")
        if len(f"{name}={value}".encode()) >= _LONGEST:
            raise DefinitionError(key, f"is longer than the kernel lets a variable be, {_LONGEST} bytes")
        variables[name] = value
    return variables


def _service(settings: Mapping[str, Any]) -> str:
    service = settings.get("service") or "galaxy"
    if not isinstance(service, str) or not _SERVICE.fullmatch(service):
        raise DefinitionError("service", "is no name of letters, digits and _ . - @ (without a group)")
    return service


def _user(settings: Mapping[str, Any], key: str) -> str:
    value = settings.get(key)
    value = "galaxy" if value is None else str(value)
    if not _USER.fullmatch(value):
        raise DefinitionError(key, "is no name or number of a user or group")
    return value


def _absolute(key: str, value: object) -> str:
    if not isinstance(value, str) or not os.path.isabs(value):
        raise DefinitionError(key, "is not an absolute path")
    path = os.path.normpath(value)
    # systemd takes no program's path with a quote or a backslash
    if _CONTROL.search(path) or re.search(r"[\t\"'\\]", path) or path != path.strip():
        raise DefinitionError(
            key, "has a control character, quote or backslash, or a blank at its end; choose another path"
        )
    return path


def _root(settings: Mapping[str, Any]) -> str:
    if settings.get("root"):
        return _absolute("root", settings["root"])
    return _absolute("config", os.path.dirname(_absolute("config", settings.get("config"))))


def _command(settings: Mapping[str, Any]) -> list[str]:
    config = _absolute("config", settings.get("config"))
    return [_absolute("uwsgi", settings.get("uwsgi")), "--ini" if config.endswith(".ini") else "--yaml", config]


def _unit_paths(settings: Mapping[str, Any]) -> tuple[str, str]:
    """Paths of the environment's file and of the unit."""
    path = f"{UNITS}/{_service(settings).removesuffix('.service')}.service"
    return f"{path}.environment", path


def _mounts(settings: Mapping[str, Any], key: str = "mounts") -> list[str]:
    given = settings.get(key) or []
    if not isinstance(given, (list, tuple)):
        raise DefinitionError(key, "is not a list of mount points")
    return [_absolute(key, each) for each in given]


def _autostart(settings: Mapping[str, Any]) -> bool:
    value = settings.get("autostart", True)
    if not isinstance(value, bool):
        raise DefinitionError("autostart", "is not true or false")
    return value


def _stop_timeout(settings: Mapping[str, Any]) -> int:
    value = settings.get("stop_timeout", 60)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1 <= value <= 1e9:
        raise DefinitionError("stop_timeout", "is not a number of seconds, 1 or more")
    return int(value)


def _log(settings: Mapping[str, Any]) -> str | None:
    """The file that root opens for Galaxy's output; only a path where no other user can put a link."""
    if not settings.get("log"):
        return None
    path = _absolute("log", settings["log"])
    for mount in [*_mounts(settings), *_mounts(settings, "others")]:
        if _is_below(path, mount) or _is_below(os.path.realpath(path), os.path.realpath(mount)):
            raise DefinitionError(
                "log", f"cannot be {path}, which root would open: on {mount} other users can put links. {_ADVICE}"
            )
    try:
        galaxy_host_files.require_place(path)
        galaxy_host_files.require_trusted(os.path.dirname(path))
    except FileError as exc:
        raise DefinitionError("log", f"cannot be {path}, which root would open: {exc}. {_ADVICE}") from None
    return path


def _is_below(path: str, directory: str) -> bool:
    directory = os.path.normpath(directory)
    return os.path.commonpath([os.path.normpath(path), directory]) == directory
