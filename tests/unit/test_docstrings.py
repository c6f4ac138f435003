"""
The docstring of each public function has one form: its parameters one by one, with type and default, what the function
returns and raises, and an example that can be typed as it is.
"""

import importlib.util
import inspect
import re

import pytest
import yaml
from support.site import REPO

import galaxy_spec
from luks_header import PBKDFS, Options

KINDS = {
    "_modules": r"salt(?:-call)? .*?",
    "_runners": r"salt-run ",
    "_states": None,
    "_beacons": None,
}
# the parameters that **options and **keywords stand for; below, those that Salt gives to every state
_KEYWORDS = {"options": set(Options.__dataclass_fields__), "keywords": set(galaxy_spec.KEYWORDS)}
_OF_EVERY_STATE = {"watch", "require", "order"}
# defaults of these parameters
_DEFAULTS = {**vars(galaxy_spec.Limits()), **vars(Options()), "pbkdf": PBKDFS[2][0]}
_TYPES = {"str", "int", "float", "bool", "list", "dict", "str or list"}
_ENTRY = re.compile(r"^(\w+)(?: : ([a-z ]+?))?(?: = (\S+))?\n    \S", re.MULTILINE)
# the entries of parameters end here
_END = re.compile(r"^(Returns|``changes``|CLI Example|Raises|\.\. )", re.MULTILINE)


def _load(path):
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FUNCTIONS = [
    pytest.param(kind, path.stem, name, function, id=f"{kind}/{path.stem}.{name}")
    for kind in KINDS
    for path in sorted((REPO / kind).glob("*.py"))
    for module in [_load(path)]
    for name, function in vars(module).items()
    if inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_")
]
each_function = pytest.mark.parametrize(("kind", "module", "name", "function"), FUNCTIONS)


def _takes(function, keyword):
    """Whether a function takes this keyword itself, or hands it on in its **keywords."""
    parameters = inspect.signature(function).parameters
    others = [one.name for one in parameters.values() if one.kind is one.VAR_KEYWORD]
    return keyword in parameters or any(keyword in _KEYWORDS[name] for name in others)


@each_function
def test_each_parameter_has_its_entry(kind, module, name, function):
    text = inspect.getdoc(function)
    entries = {one: (type_, default) for one, type_, default in _ENTRY.findall(_END.split(text)[0])}
    defaults = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            # an entry for each of them, or one for all
            assert parameter.name in entries or _KEYWORDS[parameter.name] <= entries.keys()
            continue
        assert parameter.name in entries
        if parameter.default not in (parameter.empty, None):
            defaults[parameter.name] = "[]" if parameter.default == () else str(parameter.default)
    for keyword, (type_, default) in entries.items():
        assert keyword in _KEYWORDS or (_takes(function, keyword) and type_ in _TYPES), keyword
        if default or keyword in defaults:
            assert default == defaults.get(keyword, str(_DEFAULTS.get(keyword))), keyword


@each_function
def test_it_says_what_comes_of_it(kind, module, name, function):
    text = inspect.getdoc(function)
    if kind == "_states":
        assert "``changes``" in text
    else:
        assert re.search(r"^Returns\b|\. Returns\b", text, re.MULTILINE)
    if kind == "_modules":
        # a runner raises nothing: it returns success: False
        assert re.search(r"\bRaises\b|Nothing is raised", text)


@each_function
def test_its_example_can_be_typed(kind, module, name, function):
    text = inspect.getdoc(function)
    name = name.rstrip("_")
    if KINDS[kind]:
        commands = text.partition("CLI Example:\n\n.. code-block:: bash\n\n")[2].splitlines()
        assert commands
        for command in commands:
            called = re.fullmatch(rf"    {KINDS[kind]}{module}\.{name}(?![.\w])(.*)", command)
            assert called, command
            for keyword in re.findall(r" (\w+)=", called[1]):
                assert _takes(function, keyword), command
    elif kind == "_states" and name != "mod_watch":
        example = yaml.safe_load(text.partition(".. code-block:: yaml\n\n")[2])
        for declared in example.values():
            for argument in declared[f"{module}.{name}"]:
                (keyword,) = argument
                assert keyword in _OF_EVERY_STATE or _takes(function, keyword)
