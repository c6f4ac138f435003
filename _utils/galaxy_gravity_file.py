"""
Read the YAML files that Gravity reads, with limits, because whoever writes them may not use up our memory or time.
"""

from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import yaml

import galaxy_host_files
from galaxy_errors import ConfigError, FileError, FileMissing

MAX_FILE = 1 << 20
MAX_DEPTH = 50
# galaxy.yml lists all options, nearly all of them commented out
MAX_NODES = 50_000


class _Bounded:
    """Counts what an alias stands for as if it were written out. Refuses deep nesting."""

    depth = deepest = nodes = 0
    # the parser class provides these
    peek_event: Callable[[], yaml.Event]
    check_event: Callable[[type[yaml.Event]], bool]

    def __init__(self, stream: bytes):
        super().__init__(stream)  # type: ignore[call-arg]
        # for each complete node: how many values and how many levels are in it
        self._sizes: dict[int, tuple[int, int]] = {}

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node:
        event = self.peek_event()
        is_alias = self.check_event(yaml.AliasEvent)
        nodes, deepest = self.nodes, self.deepest
        self.nodes += 1
        self.depth += 1
        self.deepest = self.depth
        self._require_small(event)
        node: yaml.Node = super().compose_node(parent, index)  # type: ignore[misc]
        if is_alias:
            if id(node) not in self._sizes:
                _refuse(event, "an alias of a value that contains it; write the value out")
            inner, below = self._sizes[id(node)]
            self.nodes += inner
            self.deepest += below
            self._require_small(event)
        else:
            self._sizes[id(node)] = self.nodes - nodes, self.deepest - self.depth
        self.depth -= 1
        self.deepest = max(self.deepest, deepest)
        return node

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)  # type: ignore[misc]
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                _refuse(key, "a key that is not a text; write the key as a text")
        return node

    def _require_small(self, event: yaml.Event) -> None:
        if self.deepest > MAX_DEPTH or self.nodes > MAX_NODES:
            _refuse(event, f"more than {MAX_DEPTH} levels or {MAX_NODES} values; make the file smaller")


class _Loader(_Bounded, yaml.SafeLoader):
    pass


_FastLoader: Any = None
if yaml.__with_libyaml__:

    class _Parts(yaml.composer.Composer, yaml.cyaml.CParser, yaml.constructor.SafeConstructor, yaml.resolver.Resolver):
        def __init__(self, stream: bytes):
            yaml.cyaml.CParser.__init__(self, stream)
            yaml.composer.Composer.__init__(self)
            yaml.constructor.SafeConstructor.__init__(self)
            yaml.resolver.Resolver.__init__(self)

    class _Fast(_Bounded, _Parts):
        """The same with libyaml, which is quick also with the three thousand lines of comments in Galaxy's sample."""

    _FastLoader = _Fast


def _refuse(place: yaml.Event | yaml.Node, what: str) -> NoReturn:
    raise yaml.MarkedYAMLError(problem=f"has {what}", problem_mark=place.start_mark)


def read_mapping(path: str, named_by: Iterable[int] = ()) -> dict[str, Any]:
    """
    Read a YAML file whose document is a mapping; an empty file gives an empty one. If a key occurs several times, the
    last one counts, as for Gravity: the section of uWSGI repeats keys.

    named_by
        numeric IDs of the users who chose the path, as for ``galaxy_host_files.read``

    Raises ``ConfigError``, which names the file and the line, and says what to do.
    """
    try:
        data = galaxy_host_files.read(path, MAX_FILE, named_by)
    except FileMissing:
        raise ConfigError(f"{path}: no such configuration file; name the file with the gravity: section") from None
    except FileError as exc:
        raise ConfigError(str(exc)) from None
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{path!r}: cannot be read: {getattr(exc, 'strerror', None) or exc}") from None
    try:
        # libyaml accepts tabs in places where Gravity's reader does not
        loader = _Loader if _FastLoader is None or b"\t" in data else _FastLoader
        document = yaml.load(data, loader)  # noqa: S506
    except yaml.MarkedYAMLError as exc:
        line = f":{exc.problem_mark.line + 1}" if exc.problem_mark else ""
        raise ConfigError(f"{path}{line}: {exc.problem or 'is not YAML'}") from None
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
        raise ConfigError(f"{path}: is not YAML that can be read; correct the file") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: is not a mapping; name Galaxy's or Gravity's YAML file")
    return document
