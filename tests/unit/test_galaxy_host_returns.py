from salt.exceptions import CommandExecutionError, SaltInvocationError

import galaxy_host_returns as returns


def test_each_way_to_end():
    assert returns.same("x", "is") == {"name": "x", "result": True, "comment": "is", "changes": {}}
    assert returns.would("x", "would", {"a": 1}) == {
        "name": "x",
        "result": None,
        "comment": "would",
        "changes": {"a": 1},
    }
    assert returns.changed("x", "did", {"a": 1}) == {"name": "x", "result": True, "comment": "did", "changes": {"a": 1}}
    error = CommandExecutionError("why")
    assert returns.failed("x", error) == {"name": "x", "result": False, "comment": "why", "changes": {}}
    assert returns.failed("x", "why", {"a": 1})["changes"] == {"a": 1}


def test_the_changes_are_the_callers_no_more():
    changes = {"a": 1}
    ret = returns.changed("x", "did", changes)
    changes["b"] = 2
    assert ret["changes"] == {"a": 1}


def test_what_a_module_raises_is_a_result():
    assert issubclass(CommandExecutionError, returns.ERRORS)
    assert issubclass(SaltInvocationError, returns.ERRORS)
