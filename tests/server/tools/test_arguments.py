"""Arguments as models send them."""

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perstack.server.tools.arguments import InvalidArgumentsError, validate_arguments
from perstack.server.tools.schemas import CANCEL_INPUT, JOBS_INPUT, expert_input

SCHEMA = expert_input(45)


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        ({"query": "q"}, {"query": "q"}),
        ({"query": ""}, {"query": ""}),
        ({"query": "q", "job_id": None, "files": None}, {"query": "q"}),
        ({"query": "q", "job_id": "", "checkpoint_id": ""}, {"query": "q"}),
        ({"query": "q", "wait_seconds": 45.0}, {"query": "q", "wait_seconds": 45}),
        ({"query": "q", "files": []}, {"query": "q", "files": []}),
        ({"query": "q", "wait_seconds": "5"}, {"query": "q", "wait_seconds": 5}),
        ({"query": "q", "wait_seconds": "5.0"}, {"query": "q", "wait_seconds": 5}),
        ({"query": "q", "max_cost_usd": "0.5"}, {"query": "q", "max_cost_usd": 0.5}),
        ({"query": "q", "files": '["a.txt"]'}, {"query": "q", "files": ["a.txt"]}),
        ({"query": "q", "files": "[]"}, {"query": "q", "files": []}),
        ({"query": "q", "files": "", "wait_seconds": "null"}, {"query": "q"}),
        ({"query": "q", "job_id": "null", "checkpoint_id": "None"}, {"query": "q"}),
        ({"query": "q", "job_id": "undefined", "max_steps": ""}, {"query": "q"}),
        ({"query": "null"}, {"query": "null"}),
        ({"query": "[5]"}, {"query": "[5]"}),
        ({"query": "q", "toolCallId": "call_1", "sessionId": "s"}, {"query": "q"}),
        ({"query": "q", "tool_call_id": 1, "action": "x", "chatInput": "q"}, {"query": "q"}),
        ({"query": "q", "_meta": {}, "_as_extra": 1, "user-context": {}}, {"query": "q"}),
        ({"query": "q", "wait_for_previous": True, "task_progress": "-"}, {"query": "q"}),
    ],
)
def test_what_is_meant_is_understood(arguments: dict[str, Any], meant: dict[str, Any]) -> None:
    assert validate_arguments(arguments, SCHEMA) == meant


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"query": None}, "query must be a string"),
        ({"query": "q", "wait_seconds": "soon"}, "wait_seconds must be an integer"),
        ({"query": "q", "wait_seconds": True}, "wait_seconds must be an integer"),
        ({"query": "q", "wait_seconds": 0.5}, "wait_seconds must be an integer"),
        ({"query": "q", "wait_seconds": -1}, "wait_seconds must be from 0 to 3600"),
        ({"query": "q", "files": "a"}, "files must be an array"),
        ({"query": "q", "files": '{"a": 1}'}, "files must be an array"),
        ({"query": "q", "wait_seconds": "5000"}, "wait_seconds must be from 0 to 3600"),
        ({"query": "q", "wait_second": 5}, "'wait_second' is unknown (did you mean wait_seconds?)"),
        ({"qurey": "q"}, "'qurey' is unknown (did you mean query?)"),
        ({"query": "q", "run_id": "r"}, "'run_id' is unknown"),
        ({"query": "q", "files": ["a", 1]}, "files[1] must be a string"),
        ({"query": "q", "files": [""]}, "files[0] is empty"),
        ({"query": "q", "files": ["a"] * 33}, "files has 33 items, more than 32"),
        ({"query": "q", "x" * 100: 1}, f"'{'x' * 60}' is unknown"),
    ],
)
def test_what_is_wrong_is_named(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidArgumentsError) as caught:
        validate_arguments(arguments, SCHEMA)
    assert reason in str(caught.value)


def test_everything_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(InvalidArgumentsError) as caught:
        validate_arguments({"limit": 0, "status": "odd", "more": 1}, JOBS_INPUT)
    assert caught.value.message == (
        "Bad arguments: limit must be from 1 to 100; status must be one of completed, running, "
        "needs_input, max_steps, budget_exceeded, error, cancelled, interrupted; 'more' is unknown."
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
NAMES = st.sampled_from([*SCHEMA["properties"], "other"])


@given(st.dictionaries(NAMES, JSON, max_size=4))
def test_what_is_accepted_fits_the_schema_that_clients_see(arguments: dict[str, Any]) -> None:
    try:
        accepted = validate_arguments(arguments, SCHEMA)
    except InvalidArgumentsError:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(arguments, SCHEMA)
    else:
        jsonschema.validate(accepted, SCHEMA)


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a b"])
def test_what_cannot_be_a_name_is_not_repeated(name: str) -> None:
    with pytest.raises(InvalidArgumentsError) as refused:
        validate_arguments({"job_id": "job1", name: 1}, CANCEL_INPUT)
    assert name not in str(refused.value)
    assert "one is unknown" in str(refused.value)
