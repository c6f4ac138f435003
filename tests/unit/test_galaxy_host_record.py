"""A record is the same as ``dataclasses.dataclass`` would have made."""

import copy
import dataclasses
import pickle

import pytest

from galaxy_host_record import record


class _Fields:
    """The fields of the dataclass and of the record."""

    number: int
    text: str = "x"
    hidden: str = dataclasses.field(default="", repr=False, compare=False)
    many: list = dataclasses.field(default_factory=list)

    @property
    def double(self):
        return 2 * self.number


def _made(how):
    namespace = {name: value for name, value in vars(_Fields).items() if name not in ("__dict__", "__weakref__")}
    return how(type("Made", (), namespace))


@record(frozen=True)
class Frozen:
    """A record of this module, so that it can be pickled."""

    number: int
    text: str = "x"


KINDS = [record, dataclasses.dataclass]
FROZEN = [record(frozen=True), dataclasses.dataclass(frozen=True)]


@pytest.mark.parametrize("how", KINDS)
def test_fields(how):
    made = _made(how)
    one = made(1, many=[2])
    assert (one.number, one.text, one.hidden, one.many, one.double) == (1, "x", "", [2], 2)
    assert repr(one).endswith("Made(number=1, text='x', many=[2])")
    assert one == made(1, "x", "other", [2]) != made(2, many=[2])
    assert one != "x"
    assert dataclasses.asdict(one) == {"number": 1, "text": "x", "hidden": "", "many": [2]}
    assert dataclasses.replace(one, text="y") == made(1, "y", many=[2])
    assert made(1).many is not made(1).many
    one.number = 3
    assert one.number == 3
    with pytest.raises(TypeError):
        hash(one)


@pytest.mark.parametrize("how", FROZEN)
def test_frozen(how):
    made = _made(how)
    one = made(number=1, many=())
    assert hash(one) == hash(made(1, "x", "other", ())) != hash(made(2, "x", "", ()))
    assert {one, made(1, many=())} == {one}
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.number = 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        del one.number
    assert one.number == 1


@pytest.mark.parametrize("how", FROZEN)
def test_a_field_that_cannot_be_hashed(how):
    namespace = {"__annotations__": {"many": list}, "many": dataclasses.field(hash=False)}
    made = how(type("Made", (), namespace))
    assert hash(made([1])) == hash(made([1]))
    assert made([1]) != made([2])


@pytest.mark.parametrize("how", [record(frozen=True, eq=False), dataclasses.dataclass(frozen=True, eq=False)])
def test_identity(how):
    made = _made(how)
    one = made(1)
    assert one == one != made(1)
    assert one in {one}


@pytest.mark.parametrize("how", KINDS)
@pytest.mark.parametrize("call", [((), {}), ((1, "x", "", [], 5), {}), ((1,), {"number": 1}), ((1,), {"none": 1})])
def test_wrong_arguments(how, call):
    values, named = call
    with pytest.raises(TypeError):
        _made(how)(*values, **named)


def test_an_unknown_field_in_the_place_of_a_missing_one():
    with pytest.raises(TypeError):
        Frozen(text="x", none=1)


def test_copies():
    one = Frozen(1)
    assert copy.copy(one) == copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == one
