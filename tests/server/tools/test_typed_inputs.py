"""An expert that declares its arguments: what callers are shown, held to, and what it is told."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from mcp_types import Tool

from perstack.core.messages import TextPart
from tests.fakes import FakeModel, call, calls, done
from tests.server.harness import Mode, Stage, facts, stage, texts

pytestmark = pytest.mark.anyio

OWN = {
    "type": "object",
    "properties": {
        "invoice": {"type": "string", "minLength": 1, "description": "Path of the invoice."},
        "currency": {"type": "string", "enum": ["EUR", "USD"], "default": "EUR"},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
        "note": {"type": ["string", "null"]},
        "limit": {"type": "integer"},
    },
    "required": ["invoice"],
    "$defs": {
        "line": {
            "type": "object",
            "properties": {"amount": {"type": "number"}},
            "required": ["amount"],
            "additionalProperties": False,
        }
    },
}
TOML = f"""
[experts."invoice-reader"]
description = "Reads invoices."
instruction = "Read."
[experts."invoice-reader".tool]
title = "Invoice reader"
readOnlyHint = true
openWorldHint = true
inputSchema = '{json.dumps(OWN)}'

[experts."searcher"]
instruction = "Search."
[experts."searcher".tool.inputSchema]
type = "object"
required = ["query"]
[experts."searcher".tool.inputSchema.properties]
query = {{ type = "string", minLength = 3, description = "What to look for." }}
limit = {{ type = "integer", minimum = 1 }}

[experts."caller"]
instruction = "Call."
[experts."caller".tool.inputSchema]
"$schema" = "https://json-schema.org/draft/2020-12/schema"
type = "object"
properties = {{ phone = {{ type = "string" }}, mail = {{ "$ref" = "#mail" }} }}
anyOf = [{{ required = ["phone"] }}, {{ required = ["mail"] }}]
"$defs" = {{ mail = {{ "$anchor" = "mail", type = "string", "x-order" = 1 }} }}

[experts."idle"]
instruction = "Do as always."
[experts."idle".tool.inputSchema]
type = "object"
"""


OWN_NULL = 'Input: {"invoice": "null", "currency": "EUR"}'


async def tools(present: Stage) -> dict[str, Tool]:
    return {tool.name: tool for tool in (await present.client.list_tools()).tools}


def told(model: FakeModel, position: int = -1) -> str:
    """The newest thing that the expert was told."""
    message = model.requests[position].messages[-1]
    assert message.type == "userMessage"
    return "".join(part.text for part in message.contents if part.type == "textPart")


async def test_declared_arguments_are_published_before_those_of_jobs(
    tmp_path: Path, mode: Mode
) -> None:
    async with stage(tmp_path, mode, FakeModel({}), toml=TOML) as present:
        tool = (await tools(present))["invoice-reader"]

    assert tool.title == "Invoice reader"
    assert tool.annotations is not None
    hints = tool.annotations
    assert (hints.read_only_hint, hints.destructive_hint, hints.open_world_hint) == (
        True,
        False,
        True,
    )
    schema = tool.input_schema
    jsonschema.Draft202012Validator.check_schema(schema)
    assert list(schema["properties"]) == [
        *("invoice", "currency", "lines", "note", "limit"),
        *("query", "job_id", "checkpoint_id", "files", "wait_seconds"),
        *("max_steps", "max_tokens", "max_cost_usd", "max_seconds"),
    ]
    assert schema["required"] == ["invoice"]
    assert schema["additionalProperties"] is False
    jsonschema.validate({"invoice": "a.pdf", "lines": [{"amount": 1}], "job_id": "j"}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"invoice": "a.pdf", "lines": [{"amount": "1"}]}, schema)


async def test_whatever_a_schema_says_is_published_and_holds(tmp_path: Path, mode: Mode) -> None:
    model = FakeModel(lambda _: done("ok"))
    async with stage(tmp_path, mode, model, toml=TOML) as present:
        schema = (await tools(present))["caller"].input_schema
        refused = await present.call("caller")
        first = facts(await present.call("caller", mail="a@b"))
        second = facts(await present.call("caller", job_id=first["job_id"], query="Again."))

    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["anyOf"] == [{"required": ["phone"]}, {"required": ["mail"]}]
    assert schema["$defs"] == {"mail": {"$anchor": "mail", "type": "string", "x-order": 1}}
    assert "fits none of the 2 allowed forms (the nearest: phone is missing)" in texts(refused)[0]
    assert (first["status"], second["status"]) == ("completed", "completed")


async def test_an_expert_may_describe_the_free_text_itself(tmp_path: Path, mode: Mode) -> None:
    async with stage(tmp_path, mode, FakeModel({}), toml=TOML) as present:
        schema = (await tools(present))["searcher"].input_schema

    assert schema["properties"]["query"] == {
        "type": "string",
        "minLength": 3,
        "maxLength": 500000,
        "description": "What to look for.",
    }
    assert schema["required"] == ["query"]


@pytest.mark.parametrize(
    ("tool", "arguments", "query"),
    [
        (
            "invoice-reader",
            {"lines": [{"amount": 1.5}], "invoice": "a.pdf"},
            'Input: {"invoice": "a.pdf", "currency": "EUR", "lines": [{"amount": 1.5}]}',
        ),
        (
            "invoice-reader",
            {"query": "Be brief.", "invoice": "ä.pdf", "currency": None, "note": None},
            'Be brief.\n\nInput: {"invoice": "ä.pdf", "currency": "EUR", "note": null}',
        ),
        (
            "invoice-reader",
            {"invoice": "x" * 120},
            'Input:\n{\n  "invoice": "' + "x" * 120 + '",\n  "currency": "EUR"\n}',
        ),
        (
            "invoice-reader",
            {
                "invoice": "5",
                "currency": "",
                "note": "null",
                "limit": "3",
                "lines": '[{"amount": "1.5"}]',
                "toolCallId": "call_1",
                "job_id": "null",
            },
            (
                'Input: {"invoice": "5", "currency": "EUR", "lines": [{"amount": 1.5}], '
                '"note": "null", "limit": 3}'
            ),
        ),
        ("invoice-reader", {"invoice": "null", "limit": "", "lines": "null"}, OWN_NULL),
        ("searcher", {"query": "cats"}, "cats"),
        ("searcher", {"query": "cats", "limit": 3}, 'cats\n\nInput: {"limit": 3}'),
        ("idle", {}, "Input: {}"),
        ("idle", {"query": None}, "Input: {}"),
        ("idle", {"query": "More."}, "More."),
    ],
)
async def test_arguments_become_the_query_that_is_stored(
    tmp_path: Path, mode: Mode, tool: str, arguments: dict[str, Any], query: str
) -> None:
    model = FakeModel(lambda _: done("ok"))
    async with stage(tmp_path, mode, model, toml=TOML) as present:
        result = await present.call(tool, **arguments)
        (job,) = await present.engine.jobs()

    assert facts(result)["status"] == "completed"
    assert told(model) == query
    assert job.query == query


@pytest.mark.parametrize(
    ("tool", "arguments", "reasons"),
    [
        ("invoice-reader", {}, ["invoice is missing"]),
        ("invoice-reader", {"query": "Read a.pdf"}, ["invoice is missing"]),
        (
            "invoice-reader",
            {
                "invoice": "",
                "currency": "GBP",
                "lines": [{"amount": 1}, {"amount": "two", "tax": 1}, {}],
                "wait_seconds": "long",
                "colour": "red",
            },
            [
                "invoice is empty",
                'currency must be one of "EUR", "USD"',
                "lines[1].amount must be a number",
                "lines[1].tax is unknown",
                "lines[2].amount is missing",
                "wait_seconds must be an integer",
                "'colour' is unknown",
                "The arguments are: invoice, currency, lines, note, limit, query, job_id,",
            ],
        ),
        ("invoice-reader", {"invoice": "a", "query": "x" * 500_001}, ["more than 500,000"]),
        ("invoice-reader", {"invoice": "x" * 500_001}, ["characters together, more than 500,000"]),
        ("searcher", {"query": "ab"}, ["query has fewer than 3 characters"]),
        ("searcher", {"limit": 0}, ["query is missing", "limit must be 1 or more"]),
    ],
)
async def test_every_problem_is_named_by_its_path_in_one_result(
    tmp_path: Path, mode: Mode, tool: str, arguments: dict[str, Any], reasons: list[str]
) -> None:
    async with stage(tmp_path, mode, FakeModel({}), toml=TOML) as present:
        result = await present.call(tool, **arguments)
        jobs = await present.engine.jobs()

    (text,) = texts(result)
    assert result.is_error
    assert [reason for reason in reasons if reason not in text] == []
    assert jobs == ()


async def test_a_job_goes_on_without_the_arguments_of_its_beginning(
    tmp_path: Path, mode: Mode
) -> None:
    model = FakeModel({"invoice-reader": [done("42"), done("43")]})
    async with stage(tmp_path, mode, model, toml=TOML) as present:
        job_id = facts(await present.call("invoice-reader", invoice="a.pdf"))["job_id"]
        again = facts(await present.call("invoice-reader", job_id=job_id))
        more = facts(await present.call("invoice-reader", job_id=job_id, query="Sure?"))

    assert (again["text"], more["text"]) == ("42", "43")
    assert told(model) == "Sure?"


async def test_a_caller_that_must_repeat_the_arguments_is_not_taken_to_change_them(
    tmp_path: Path, mode: Mode
) -> None:
    ask = calls(call("askUser", question="Which tax?"))
    model = FakeModel({"invoice-reader": [ask, done("42"), done("43"), done("44")]})
    async with stage(tmp_path, mode, model, toml=TOML) as present:
        job_id = facts(await present.call("invoice-reader", invoice="a.pdf"))["job_id"]
        answered = await present.call(
            "invoice-reader", job_id=job_id, invoice="a.pdf", query="Seven percent."
        )
        waited = await present.call("invoice-reader", job_id=job_id, invoice="a.pdf")
        changed = await present.call("invoice-reader", job_id=job_id, invoice="b.pdf", query="And?")

    answer = model.requests[1].messages[-1]
    assert answer.type == "toolMessage"
    assert answer.contents[0].contents == (TextPart(text="Seven percent."),)
    assert facts(answered)["text"] == facts(waited)["text"] == "42"
    assert facts(changed)["text"] == "43"
    assert told(model) == 'And?\n\nInput: {"invoice": "b.pdf", "currency": "EUR"}'


async def test_arguments_given_to_a_job_that_goes_on_are_checked_too(
    tmp_path: Path, mode: Mode
) -> None:
    async with stage(
        tmp_path, mode, FakeModel({"invoice-reader": [done("42")]}), toml=TOML
    ) as present:
        job_id = facts(await present.call("invoice-reader", invoice="a.pdf"))["job_id"]
        result = await present.call("invoice-reader", job_id=job_id, limit="many")

    assert "limit must be an integer" in texts(result)[0]
