"""
Dataclasses without code of their own. Salt loads every file anew in each job, and the functions that
``dataclasses.dataclass`` compiles for each class took a third of this time.
"""

import dataclasses
from typing import Any, NoReturn

# a type checker takes a record for a dataclass
TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import dataclass as record
else:

    def record(cls: type | None = None, *, frozen: bool = False, eq: bool = True):
        """
        Like ``dataclasses.dataclass``, but all records share the same functions. ``dataclasses.fields``, ``replace``,
        ``asdict`` and ``field`` work as usual.
        """
        if cls is None:
            return lambda given: record(given, frozen=frozen, eq=eq)
        dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
        cls.__init__, cls.__repr__ = _init, _repr
        fields = cls.__dataclass_fields__.values()
        cls._plain_defaults = {one.name: one.default for one in fields if one.default is not dataclasses.MISSING}
        cls._made_defaults = [one for one in fields if one.default_factory is not dataclasses.MISSING]
        if eq:
            cls.__eq__, cls.__hash__ = _eq, _hash if frozen else None
        if frozen:
            cls.__setattr__ = cls.__delattr__ = _refuse
        return cls


def _init(self: Any, *values: object, **named: object) -> None:
    cls = type(self)
    fields = cls.__dataclass_fields__
    given = dict(zip(fields, values, strict=False))
    if len(values) > len(fields) or not given.keys().isdisjoint(named):
        raise TypeError(f"{cls.__name__}: a field is given twice, or there are not that many")
    given = {**cls._plain_defaults, **given, **named}
    for field in cls._made_defaults:
        if field.name not in given:
            given[field.name] = field.default_factory()
    if given.keys() != fields.keys():
        missing, unknown = fields.keys() - given.keys(), given.keys() - fields.keys()
        raise TypeError(f"{cls.__name__} {'has no field' if unknown else 'needs'} {', '.join(unknown or missing)}")
    # a frozen record refuses __setattr__
    self.__dict__.update(given)


def _repr(self: Any) -> str:
    shown = (f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _compared(self: Any) -> tuple[Any, ...]:
    return tuple(getattr(self, field.name) for field in dataclasses.fields(self) if field.compare)


def _hashed(self: Any) -> tuple[Any, ...]:
    fields = dataclasses.fields(self)
    chosen = (field for field in fields if (field.compare if field.hash is None else field.hash))
    return tuple(getattr(self, field.name) for field in chosen)


def _eq(self: Any, other: object) -> bool:
    return _compared(self) == _compared(other) if other.__class__ is self.__class__ else NotImplemented


def _hash(self: Any) -> int:
    return hash(_hashed(self))


def _refuse(self: Any, name: str, *_: object) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"{type(self).__name__}.{name} cannot be changed")
