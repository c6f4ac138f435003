import pytest
from salt.exceptions import SaltInvocationError

import galaxy_host_arguments as arguments


@pytest.mark.parametrize(
    ("check", "value", "taken"),
    [
        (arguments.seconds, 5, 5.0),
        (arguments.seconds, "2.5", 2.5),
        (arguments.count, 0, 0),
        (arguments.count, "12", 12),
        (arguments.count, 10**9, 10**9),
        (arguments.count, "1000000000", 10**9),
        (arguments.text, "x", "x"),
        (arguments.absolute, "/a/../b/", "/b"),
        (arguments.listed, "a,b", ("a", "b")),
        (arguments.listed, ["a", 1], ("a", "1")),
        (arguments.listed, (), ()),
    ],
)
def test_what_is_taken(check, value, taken):
    assert check("key", value) == taken


@pytest.mark.parametrize(
    ("check", "values", "text"),
    [
        (
            arguments.seconds,
            [0, -1, "x", None, True, float("inf"), float("nan"), [5], 10**400, 1e300],
            "give a number of seconds, more",
        ),
        (
            arguments.count,
            [-1, 1.0, "x", "-1", None, True, 10**9 + 1, "1000000001", "9" * 20, 10**400],
            "give a whole number, 0 or more",
        ),
        (arguments.text, ["", None, 5, ["x"]], "give a text"),
        (arguments.absolute, ["a", "", None, 5], "give an absolute path"),
        (arguments.listed, [None, 5, {"a": 1}], "give a list"),
    ],
)
def test_what_is_refused_with_its_name(check, values, text):
    for value in values:
        with pytest.raises(SaltInvocationError, match=f"^key is .*{text}"):
            check("key", value)


def test_no_wait_at_all_may_be_allowed():
    assert arguments.seconds("key", 0, allow_zero=True) == 0
    with pytest.raises(SaltInvocationError, match="0 or more"):
        arguments.seconds("key", -1, allow_zero=True)
