"""An expert that declares what it answers: what callers are shown, and what they get."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from mcp_types import CallToolResult

from tests.fakes import FakeModel, call, calls, done, says
from tests.server.harness import Mode, Stage, facts, stage, texts

pytestmark = pytest.mark.anyio

OWN = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "description": "The invoice, and the one that it replaces.",
    "type": "object",
    "properties": {
        "total": {"$ref": "#/$defs/money"},
        "replaces": {"$ref": "#/$defs/invoice"},
    },
    "required": ["total"],
    "$defs": {
        "money": {"type": "number", "minimum": 0},
        "invoice": {"type": "object", "properties": {"replaces": {"$ref": "#/$defs/invoice"}}},
    },
}
TOML = f"""
[experts."reader"]
instruction = "Read."
tool.outputSchema = '{json.dumps(OWN)}'

[experts."rater"]
instruction = "Rate."
[experts."rater".tool.outputSchema]
type = ["integer", "null"]
"""
VALUE: dict[str, Any] = {"total": 3, "replaces": {"replaces": {}}}


async def held_to_its_schema(present: Stage, tool: str, result: CallToolResult) -> dict[str, Any]:
    """The structured content of a result, once it fits what the tool publishes."""
    (schema,) = [
        listed.output_schema
        for listed in (await present.client.list_tools()).tools
        if listed.name == tool
    ]
    assert schema is not None
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(facts(result))  # pyright: ignore[reportUnknownMemberType] - its stubs leave the type of a value open
    return facts(result)


async def test_the_value_is_part_of_the_result_and_fits_what_is_published(
    tmp_path: Path, mode: Mode
) -> None:
    model = FakeModel(lambda _: calls(call("attemptCompletion", "end", result=VALUE)))
    async with stage(tmp_path, mode, model, toml=TOML) as present:
        result = await present.call("reader", query="a.pdf")
        given = await held_to_its_schema(present, "reader", result)
        collected = facts(await present.call("perstack_job", job_id=given["job_id"]))
        view = await present.engine.job(given["job_id"])

    assert given["output"] == VALUE
    assert json.loads(given["text"]) == VALUE
    assert texts(result)[0] == '{"total":3,"replaces":{"replaces":{}}}'
    assert collected["output"] == VALUE
    assert view.output == VALUE


async def test_a_strict_caller_refuses_what_does_not_fit(tmp_path: Path, mode: Mode) -> None:
    async with stage(tmp_path, mode, FakeModel({}), toml=TOML) as present:
        schema = (await present.client.list_tools()).tools[0].output_schema

    assert schema is not None
    whole = {"job_id": "j", "run_id": "r", "checkpoint_id": "c", "expert": "reader", "steps": 1}
    whole |= {"status": "completed", "text": "{}", "usage": {}}
    jsonschema.validate(whole, schema)
    with pytest.raises(jsonschema.ValidationError, match="-1 is less than the minimum"):
        jsonschema.validate({**whole, "output": {"total": -1}}, schema)
    with pytest.raises(jsonschema.ValidationError, match="3 is not of type 'object'"):
        jsonschema.validate({**whole, "output": {"total": 1, "replaces": 3}}, schema)


@pytest.mark.parametrize("value", [7, None])
async def test_the_value_may_be_no_object(tmp_path: Path, mode: Mode, value: object) -> None:
    async with stage(
        tmp_path, mode, FakeModel({"rater": [says(json.dumps(value))]}), toml=TOML
    ) as present:
        result = await present.call("rater", query="a.pdf")
        given = await held_to_its_schema(present, "rater", result)

    assert "output" in given
    assert (given["output"], given["text"]) == (value, json.dumps(value))


async def test_a_result_without_a_value_fits_what_is_published_too(
    tmp_path: Path, mode: Mode
) -> None:
    ask = calls(call("askUser", question="Which page?"))
    model = FakeModel(lambda request: ask if len(request.messages) == 2 else says("no JSON"))
    async with stage(tmp_path, mode, model, toml=TOML) as present:
        asked = await held_to_its_schema(
            present, "reader", await present.call("reader", query="a.pdf")
        )
        failed = await held_to_its_schema(
            present, "reader", await present.call("reader", job_id=asked["job_id"], query="One.")
        )

    assert (asked["status"], failed["status"]) == ("needs_input", "error")
    assert "output" not in {**asked, **failed}


async def test_a_follow_up_is_held_to_the_same_form(tmp_path: Path, mode: Mode) -> None:
    model = FakeModel({"rater": [says("7"), done("eight"), done("8")]})
    async with stage(tmp_path, mode, model, toml=TOML) as present:
        first = facts(await present.call("rater", query="a.pdf"))
        second = facts(await present.call("rater", job_id=first["job_id"], query="Sure?"))

    assert (first["output"], second["output"]) == (7, 8)
    assert len(model.requests) == 3
