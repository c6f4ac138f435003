"""
Check the text of a unit that Gravity made as Galaxy's user: is it one that root may install?

The system's systemd runs a unit as root, unless ``User=`` names another user. So if Galaxy's user can change the
program that made the text, it is installed only if each line is one of Gravity's own and everything runs as this user.
"""

from collections.abc import Callable, Collection, Mapping

from galaxy_errors import DefinitionError
from galaxy_host_pattern import Pattern

_LINE = Pattern(r"([A-Za-z]+)\s*=\s*(.*)")
_SECONDS = Pattern(r"\d{1,9}(\.\d{1,9})?")
_MEMORY = Pattern(r"\d{1,9}(\.\d{1,9})?G")
_UMASK = Pattern(r"[0-7]{1,4}")
_NAME = Pattern(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,100}")
_VARIABLE = Pattern(r"[A-Za-z_]\w*=.*")
# no prefix: a character before the path would give the command more rights, or another meaning
_COMMAND = Pattern(r"['\"]?[A-Za-z0-9_./].*")
_NEXT_COMMAND = Pattern(r"(^|.*\s);(\s.*|$)")
_UNIT = Pattern(r"[A-Za-z0-9:_.\\-]+(@\d*)?\.service")

_Test = Callable[[str], object]


def require_service(name: str, text: str, target: str, user: str, group: str | None) -> None:
    """
    Raises ``DefinitionError`` unless the text is a service of Gravity's that is part of ``target`` and runs as ``user``
    and ``group``.
    """
    tests: Mapping[str, Mapping[str, _Test]] = {
        "Unit": {"Description": _any, "After": _is_after, "PartOf": target.__eq__},
        "Service": {
            **{"UMask": _UMASK.fullmatch, "Type": "simple".__eq__, "User": user.__eq__, "Group": str(group).__eq__},
            **{"WorkingDirectory": _is_absolute, "ExecStart": _is_command, "Environment": _VARIABLE.fullmatch},
            **{"ExecReload": "/bin/kill -HUP $MAINPID".__eq__, "Restart": "always".__eq__},
            **dict.fromkeys(("TimeoutStartSec", "TimeoutStopSec"), _SECONDS.fullmatch),
            **dict.fromkeys(("MemoryMax", "MemoryHigh"), _MEMORY.fullmatch),
            **dict.fromkeys(("MemoryAccounting", "CPUAccounting", "BlockIOAccounting"), "yes".__eq__),
            "LogNamespace": _NAME.fullmatch,
        },
        "Install": {"WantedBy": "multi-user.target".__eq__},
    }
    if not (_UNIT.fullmatch(name) and name.startswith(f"{target.removesuffix('.target')}-")):
        raise DefinitionError(name, f"is no name of a service of {target}; rename the handler or instance")
    seen = _require(name, text, tests)
    wanted = ["PartOf", "User", "ExecStart", *(["Group"] if group else [])]
    for key in wanted:
        if seen.count(key) != 1:
            raise DefinitionError(name, f"has {key}= {seen.count(key)} times; it is not installed")


def require_target(name: str, text: str, services: Collection[str]) -> None:
    """Raises ``DefinitionError`` unless the text is a target of Gravity's that wants ``services`` and nothing else."""

    def is_own(value: str) -> bool:
        # instances count by the name of their template
        wanted = [_template(unit) for unit in value.split()]
        return set(wanted) <= set(services)

    tests: Mapping[str, Mapping[str, _Test]] = {
        "Unit": {"Description": _any, "After": _is_after, "Wants": is_own},
        "Install": {"WantedBy": "multi-user.target".__eq__},
    }
    _require(name, text, tests)


def _require(name: str, text: str, tests: Mapping[str, Mapping[str, _Test]]) -> list[str]:
    """The keys of the text, in order; a key that occurs several times is there as often."""
    section, seen = "", []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip(" \t")
        if line.endswith("\\") or not line.replace("\t", " ").isprintable():
            raise DefinitionError(f"{name}:{number}", "ends in a backslash or has a control character; not installed")
        if not line or line.startswith((";", "#")):
            continue
        if line.startswith("["):
            section = line[1:-1]
            if line != f"[{section}]" or section not in tests:
                raise DefinitionError(f"{name}:{number}", "begins a section that Gravity does not write; not installed")
            continue
        match = _LINE.fullmatch(line)
        test = tests.get(section, {}).get(match[1]) if match else None
        if not match or not test:
            raise DefinitionError(
                f"{name}:{number}", f"is a line that Gravity does not write in [{section}]; not installed"
            )
        if not test(match[2]):
            raise DefinitionError(f"{name}:{number}", f"has a {match[1]} that root does not install")
        seen.append(match[1])
    return seen


def _template(unit: str) -> str:
    before, at, behind = unit.partition("@")
    return f"{before}@.service" if at and behind.removesuffix(".service").isdecimal() else unit


def _any(value: str) -> bool:
    return True


def _is_after(value: str) -> bool:
    return value in ("network.target", "time-sync.target")


def _is_absolute(value: str) -> bool:
    return value.startswith("/")


def _is_command(value: str) -> bool:
    return bool(_COMMAND.fullmatch(value)) and not _NEXT_COMMAND.fullmatch(value)
