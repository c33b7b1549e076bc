"""What clients read beside the tools: definitions, jobs, events, checkpoints and results."""

import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp_types import INVALID_PARAMS, ReadResourceResult, TextResourceContents

from perstack.core.step import steps_of
from perstack.core.wire import to_wire
from perstack.server.handlers.resources import IMMUTABLE_TTL_MS, RESOURCE_NOT_FOUND
from perstack.server.resources.uris import TEMPLATES
from perstack.store.memory import MemoryStore
from tests.fakes import FakeModel, FakeSkills, Reply, call, calls, done
from tests.server.harness import Mode, Stage, facts, stage, until_called

pytestmark = pytest.mark.anyio

DELEGATING: dict[str, list[Reply]] = {
    "reviewer": [calls(call("file", "c1", query="a.py")), done("All is well.")],
    "@reviewer/file": [done("Fine.")],
}


async def read(client: Client, uri: str) -> tuple[str, TextResourceContents, ReadResourceResult]:
    result = await client.read_resource(uri)
    assert isinstance(result, ReadResourceResult)
    [contents] = result.contents
    assert isinstance(contents, TextResourceContents)
    assert contents.uri == uri
    return contents.text, contents, result


async def read_json(client: Client, uri: str) -> dict[str, Any]:
    return json.loads((await read(client, uri))[0])


async def job_of(here: Stage) -> str:
    return facts(await here.call("reviewer", query="look"))["job_id"]


async def test_the_definitions_the_experts_and_the_jobs_are_listed(
    tmp_path: Path, mode: Mode
) -> None:
    model = FakeModel({"reviewer": [done("Well.")]})
    async with stage(tmp_path, mode, model) as here:
        await here.client.list_tools()
        job_id = await job_of(here)
        listed = (await here.client.list_resources()).resources
    assert [resource.uri for resource in listed] == [
        "perstack://definitions",
        "perstack://experts/reviewer",
        "perstack://experts/writer",
        "perstack://jobs",
        f"perstack://jobs/{job_id}",
    ]
    assert listed[-1].title == "reviewer: look"
    assert listed[-1].description == "A job of reviewer, completed."


async def test_whatever_is_listed_can_be_read(tmp_path: Path, mode: Mode) -> None:
    async with stage(tmp_path, mode, FakeModel(DELEGATING)) as here:
        await job_of(here)
        for resource in (await here.client.list_resources()).resources:
            _, contents, _ = await read(here.client, resource.uri)
            assert contents.mime_type == resource.mime_type


async def test_a_template_stands_for_every_kind_of_address(tmp_path: Path, mode: Mode) -> None:
    async with stage(tmp_path, mode, FakeModel({})) as here:
        templates = (await here.client.list_resource_templates()).resource_templates
    assert {template.uri_template for template in templates} == {
        shape.text for kind, shape in TEMPLATES.items() if kind != "definitions"
    }
    assert "perstack://jobs/{job_id}/events{?after,limit}" in {
        template.uri_template for template in templates
    }


async def test_a_job_tells_how_it_stands_and_has_its_runs_as_a_tree(
    tmp_path: Path, mode: Mode
) -> None:
    async with stage(tmp_path, mode, FakeModel(DELEGATING)) as here:
        job_id = await job_of(here)
        document = await read_json(here.client, f"perstack://jobs/{job_id}")
    assert document["status"] == "completed"
    assert document["text"] == "All is well."
    [root] = document["runs"]
    [delegate] = root["delegates"]
    assert (root["expert"], delegate["expert"]) == ("reviewer", "@reviewer/file")
    assert document["result"] == f"perstack://jobs/{job_id}/result"


async def test_events_are_those_of_the_event_stream(tmp_path: Path, mode: Mode) -> None:
    async with stage(tmp_path, mode, FakeModel(DELEGATING)) as here:
        job_id = await job_of(here)
        text, contents, _ = await read(here.client, f"perstack://jobs/{job_id}/events")
        trail = await here.engine.history(job_id)
    assert contents.mime_type == "application/jsonl"
    lines = [json.loads(line) for line in text.splitlines()]
    steps = steps_of(trail)
    assert lines == [to_wire(event, checkpoint, steps.get(event.id)) for event, checkpoint in trail]
    assert "step" in lines[-1]
    assert lines[0]["type"] == "startRun"
    assert lines[-1]["type"] == "completeRun"


async def test_pages_of_events_lose_nothing_and_full_ones_last(tmp_path: Path, mode: Mode) -> None:
    async with stage(tmp_path, mode, FakeModel(DELEGATING)) as here:
        job_id = await job_of(here)
        whole, _, _ = await read(here.client, f"perstack://jobs/{job_id}/events")
        uri: str | None = f"perstack://jobs/{job_id}/events?after=0&limit=4"
        pieces: list[str] = []
        lifetimes: list[int] = []
        while uri is not None:
            text, contents, result = await read(here.client, uri)
            pieces.append(text)
            lifetimes.append(result.ttl_ms)
            uri = (contents.meta or {}).get("perstack/next")
    assert "".join(pieces) == whole
    assert all(len(piece.splitlines()) == 4 for piece in pieces[:-1])
    if mode == "auto":
        assert lifetimes == [IMMUTABLE_TTL_MS] * (len(pieces) - 1) + [0]


async def test_checkpoints_are_listed_and_each_can_be_read(tmp_path: Path, mode: Mode) -> None:
    async with stage(tmp_path, mode, FakeModel(DELEGATING)) as here:
        job_id = await job_of(here)
        listed = await read_json(here.client, f"perstack://jobs/{job_id}/checkpoints")
        newest = listed["checkpoints"][-1]
        checkpoint = await read_json(here.client, newest["uri"])
        page = await read_json(here.client, f"perstack://jobs/{job_id}/checkpoints?after=2&limit=3")
    assert newest["status"] == "completed"
    assert checkpoint["id"] == newest["checkpoint_id"]
    assert checkpoint["messages"][0]["type"] == "instructionMessage"
    assert page["checkpoints"] == listed["checkpoints"][2:5]
    assert page["next"].endswith("/checkpoints?after=5&limit=3")
    assert {entry["can_be_continued"] for entry in listed["checkpoints"]} == {True, False}


async def test_a_result_is_whole_however_long(tmp_path: Path, mode: Mode) -> None:
    answer = "".join(chr(97 + index % 26) for index in range(120_000))
    async with stage(tmp_path, mode, FakeModel({"reviewer": [done(answer)]})) as here:
        job_id = await job_of(here)
        text, contents, result = await read(here.client, f"perstack://jobs/{job_id}/result")
    assert text == answer
    assert contents.mime_type == "text/markdown"
    assert result.cache_scope == "private"


async def test_a_running_job_can_be_read(tmp_path: Path, mode: Mode) -> None:
    skills = FakeSkills(gate=anyio.Event())
    model = FakeModel({"reviewer": [calls(call("echo", "c1")), done("late")]})
    async with stage(tmp_path, mode, model, skills=skills) as here:
        job_id = facts(await here.call("reviewer", query="look", wait_seconds=0))["job_id"]
        await until_called(skills)
        document = await read_json(here.client, f"perstack://jobs/{job_id}")
        text, _, result = await read(here.client, f"perstack://jobs/{job_id}/events")
    assert document["status"] == "running"
    assert json.loads(text.splitlines()[-1])["type"] == "startToolCalls"
    assert result.ttl_ms == 0


async def test_the_jobs_come_in_pages_newest_first(tmp_path: Path, mode: Mode) -> None:
    model = FakeModel({"reviewer": [done(str(number)) for number in range(3)]})
    async with stage(tmp_path, mode, model) as here:
        ids = [await job_of(here) for _ in range(3)]
        page = await read_json(here.client, "perstack://jobs?limit=2")
        rest = await read_json(here.client, page["next"])
    found = [job["job_id"] for job in page["jobs"] + rest["jobs"]]
    assert found == ids[::-1]
    assert "next" not in rest


async def test_another_process_s_job_is_read_from_the_store(tmp_path: Path, mode: Mode) -> None:
    store = MemoryStore(owner="one")
    async with stage(tmp_path, mode, FakeModel(DELEGATING), store=store) as here:
        job_id = await job_of(here)
    other = store.as_owner("another")
    async with stage(tmp_path, mode, FakeModel({}), store=other) as here:
        text, _, _ = await read(here.client, f"perstack://jobs/{job_id}/result")
    assert text == "All is well."


@pytest.mark.parametrize(
    "uri",
    [
        "perstack://jobs/none",
        "perstack://jobs/none/events",
        "perstack://jobs/none/checkpoints",
        "perstack://jobs/none/checkpoints/x-1",
        "perstack://jobs/none/result",
        "perstack://jobs/..%2F..%2Fetc%2Fpasswd",
        "perstack://jobs/../../etc/passwd",
        "perstack://jobs/%00",
        "perstack://jobs//events",
        "perstack://jobs/none/events#x",
        "perstack://experts/nobody",
        "perstack://experts/reviewer__file",
        "perstack://nothing",
        "perstack://",
        "file:///etc/passwd",
        "test://nonexistent-resource-for-conformance-testing",
    ],
)
async def test_what_is_not_there_is_answered_by_the_code_of_its_era(
    tmp_path: Path, mode: Mode, uri: str
) -> None:
    async with stage(tmp_path, mode, FakeModel({})) as here:
        with pytest.raises(MCPError) as caught:
            await here.client.read_resource(uri)
    assert caught.value.code == (INVALID_PARAMS if mode == "auto" else RESOURCE_NOT_FOUND)
    assert caught.value.message == "Resource not found"
    assert caught.value.data == {"uri": uri}


async def test_an_unknown_checkpoint_of_a_job_is_not_there(tmp_path: Path, mode: Mode) -> None:
    async with stage(tmp_path, mode, FakeModel(DELEGATING)) as here:
        job_id = await job_of(here)
        with pytest.raises(MCPError, match="Resource not found"):
            await here.client.read_resource(f"perstack://jobs/{job_id}/checkpoints/x-1")


@pytest.mark.parametrize("query", ["after=-1", "after=x", "after=", "page=2", "after=٣"])
async def test_a_number_that_makes_no_sense_is_named(
    tmp_path: Path, mode: Mode, query: str
) -> None:
    async with stage(tmp_path, mode, FakeModel({})) as here:
        with pytest.raises(MCPError) as caught:
            await here.client.read_resource(f"perstack://jobs/any/events?{query}")
    assert caught.value.code == INVALID_PARAMS
    assert query.partition("=")[0] in caught.value.message


async def test_a_cursor_of_nobody_is_refused(tmp_path: Path, mode: Mode) -> None:
    async with stage(tmp_path, mode, FakeModel({})) as here:
        await here.client.list_tools()
        with pytest.raises(MCPError, match="cursor"):
            await here.client.list_resources(cursor="elsewhere")
