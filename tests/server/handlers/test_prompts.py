"""Experts as prompts, for people to pick, and the prompt that has a job looked back at."""

import json
from pathlib import Path

import pytest
from mcp import Client, MCPError
from mcp_types import INVALID_PARAMS, EmbeddedResource, GetPromptResult, TextContent

from perstack.server.resources.documents import MAX_OUTLINE_CHARACTERS, MAX_VALUE_CHARACTERS
from tests.fakes import FakeModel, call, calls, done
from tests.server.harness import Mode, facts, stage

pytestmark = pytest.mark.anyio


async def text_of(client: Client, name: str, arguments: dict[str, str]) -> str:
    result = await client.get_prompt(name, arguments)
    assert isinstance(result, GetPromptResult)
    content = result.messages[0].content
    assert isinstance(content, TextContent)
    assert result.messages[0].role == "user"
    return content.text


async def test_each_expert_is_a_prompt_named_like_its_tool(tmp_path: Path, mode: Mode) -> None:
    async with stage(tmp_path, mode, FakeModel({})) as here:
        tools = (await here.client.list_tools()).tools
        prompts = (await here.client.list_prompts()).prompts
    assert [prompt.name for prompt in prompts] == ["reviewer", "writer", "perstack_review_job"]
    assert prompts[0].description == "Reviews files."
    assert [argument.name for argument in prompts[0].arguments or []] == ["query", "job_id"]
    assert [argument.required for argument in prompts[0].arguments or []] == [True, False]
    assert prompts[0].icons == tools[0].icons


async def test_an_experts_prompt_has_its_tool_called_with_the_query(
    tmp_path: Path, mode: Mode
) -> None:
    async with stage(tmp_path, mode, FakeModel({})) as here:
        plain = await text_of(here.client, "reviewer", {"query": "Look at {a.py}."})
        following = await text_of(here.client, "reviewer", {"query": "And b?", "job_id": "job1"})
    assert "`reviewer`" in plain
    assert plain.endswith("\nquery: Look at {a.py}.")
    assert "job_id" not in plain
    assert following.endswith("\nquery: And b?\njob_id: job1")


TYPED = """
[experts."reader"]
instruction = "Read."
[experts."reader".tool]
title = "Invoice reader"
[experts."reader".tool.inputSchema]
type = "object"
required = ["invoice"]
[experts."reader".tool.inputSchema.properties.invoice]
type = "string"
title = "Invoice"
description = "Path of the file."
[experts."reader".tool.inputSchema.properties.pages]
type = "integer"
"""


async def test_the_prompt_of_a_typed_expert_takes_its_values(tmp_path: Path, mode: Mode) -> None:
    async with stage(tmp_path, mode, FakeModel({}), toml=TYPED) as here:
        prompt = (await here.client.list_prompts()).prompts[0]
        text = await text_of(here.client, "reader", {"invoice": "a.pdf", "pages": "3"})
        later = await text_of(here.client, "reader", {"job_id": "job1"})
        with pytest.raises(MCPError, match="invoice"):
            await here.client.get_prompt("reader", {"pages": "3"})
    assert prompt.title == "Invoice reader"
    assert [(each.name, each.required) for each in prompt.arguments or []] == [
        ("invoice", True),
        ("pages", False),
        ("query", False),
        ("job_id", False),
    ]
    assert (prompt.arguments or [])[0].title == "Invoice"
    assert text.endswith("\ninvoice: a.pdf\npages: 3")
    assert later.endswith("\njob_id: job1")


async def test_a_prompt_without_arguments_needs_none(tmp_path: Path, mode: Mode) -> None:
    toml = "[experts.now]\ninstruction='Do.'\n[experts.now.tool.inputSchema]\ntype='object'\n"
    async with stage(tmp_path, mode, FakeModel({}), toml=toml) as here:
        assert "`now`" in await text_of(here.client, "now", {})


@pytest.mark.parametrize(
    ("name", "arguments", "named"),
    [
        ("nobody", {"query": "x"}, "nobody"),
        ("reviewer__file", {"query": "x"}, "reviewer__file"),
        ("reviewer", {}, "query"),
        ("reviewer", {"query": "  "}, "query"),
        ("reviewer", {"query": "x", "depth": "3"}, "depth"),
        ("perstack_review_job", {}, "job_id"),
        ("perstack_review_job", {"job_id": "none"}, "job_id"),
    ],
)
async def test_a_wrong_prompt_or_argument_is_named(
    tmp_path: Path, mode: Mode, name: str, arguments: dict[str, str], named: str
) -> None:
    async with stage(tmp_path, mode, FakeModel({})) as here:
        with pytest.raises(MCPError, match=named) as caught:
            await here.client.get_prompt(name, arguments)
    assert caught.value.code == INVALID_PARAMS


async def test_a_review_has_the_events_of_the_job_and_how_it_stands(
    tmp_path: Path, mode: Mode
) -> None:
    long = "y" * 5000
    model = FakeModel({"reviewer": [calls(call("echo", "c1", what=long)), done("Fine.")]})
    async with stage(tmp_path, mode, model) as here:
        job_id = facts(await here.call("reviewer", query="look"))["job_id"]
        text = await text_of(here.client, "perstack_review_job", {"job_id": job_id})
        result = await here.client.get_prompt("perstack_review_job", {"job_id": job_id})
    assert isinstance(result, GetPromptResult)
    _, _, record = text.partition(f"/{job_id}/events:\n")
    events = [json.loads(line) for line in record.splitlines()]
    assert events[0]["type"] == "startRun"
    assert events[-1] | {"timestamp": 0} == {
        "type": "completeRun",
        "timestamp": 0,
        "runId": events[0]["runId"],
        "expertKey": "reviewer",
        "stepNumber": 2,
        "text": "Fine.",
    }
    assert "y" * MAX_VALUE_CHARACTERS + "… (5,000 characters)" in record
    assert long not in record
    embedded = result.messages[1].content
    assert isinstance(embedded, EmbeddedResource)
    assert embedded.resource.uri == f"perstack://jobs/{job_id}"


async def test_of_a_very_long_job_the_middle_is_left_out(tmp_path: Path, mode: Mode) -> None:
    steps = [
        calls(call("echo", f"c{number}", what=f"{number}" + "z" * 500)) for number in range(40)
    ]
    model = FakeModel({"reviewer": [*steps, done("Fine.")]})
    async with stage(tmp_path, mode, model) as here:
        job_id = facts(await here.call("reviewer", query="look"))["job_id"]
        text = await text_of(here.client, "perstack_review_job", {"job_id": job_id})
    _, _, record = text.partition(f"/{job_id}/events:\n")
    assert len(record) <= MAX_OUTLINE_CHARACTERS + 100
    assert "events are left out here]" in record
    assert '"startRun"' in record.splitlines()[0]
    assert '"completeRun"' in record.splitlines()[-1]
