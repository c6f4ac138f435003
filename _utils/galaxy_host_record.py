"""
Records: dataclasses without code of their own. Salt loads every file anew in each job, and the functions that
``dataclasses.dataclass`` compiles for each class took a third of that time.
"""

import dataclasses


def record(cls: type | None = None, *, frozen: bool = False, eq: bool = True):
    """
    As ``dataclasses.dataclass``, with functions that all records share; ``dataclasses.fields``, ``replace``, ``asdict``
    and ``field`` work as there.
    """
    if cls is None:
        return lambda given: record(given, frozen=frozen, eq=eq)
    dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
    cls.__init__, cls.__repr__ = _init, _repr
    if eq:
        cls.__eq__, cls.__hash__ = _eq, _hash if frozen else None
    if frozen:
        cls.__setattr__ = cls.__delattr__ = _refuse
    return cls


def _init(self, *values, **named) -> None:
    fields = self.__dataclass_fields__
    given = dict(zip(fields, values, strict=False))
    if len(values) > len(fields) or not given.keys().isdisjoint(named):
        raise TypeError(f"{type(self).__name__}: a field is given twice, or there are not that many")
    given.update(named)
    if given.keys() != fields.keys():
        if not given.keys() <= fields.keys():
            raise TypeError(f"{type(self).__name__} has no field {', '.join(given.keys() - fields.keys())}")
        for name, field in fields.items():
            if name not in given:
                given[name] = _default(self, field)
    # past the __setattr__ of a frozen one
    self.__dict__.update(given)


def _default(self, field: dataclasses.Field) -> object:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    raise TypeError(f"{type(self).__name__} needs {field.name}")


def _repr(self) -> str:
    shown = (f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _compared(self) -> tuple:
    return tuple(getattr(self, field.name) for field in dataclasses.fields(self) if field.compare)


def _eq(self, other: object) -> bool:
    return _compared(self) == _compared(other) if other.__class__ is self.__class__ else NotImplemented


def _hash(self) -> int:
    return hash(_compared(self))


def _refuse(self, name: str, *_) -> None:
    raise dataclasses.FrozenInstanceError(f"{type(self).__name__}.{name} cannot be changed")
