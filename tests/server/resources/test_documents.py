"""Resources that are too long for one answer."""

import json
from pathlib import Path
from typing import Any

import pytest

from perstack.core.messages import ToolCall, ToolResult, text_result
from perstack.server.resources.reader import ResourceReader
from perstack.server.resources.uris import parse_uri
from perstack.server.summaries import MAX_PAGE_BYTES, Document
from tests.engines import TOML
from tests.fakes import FakeModel, FakeSkills, call, calls, done
from tests.server.harness import Stage, facts, stage

pytestmark = pytest.mark.anyio

ENTRY = 100_000
"""Characters of a tool's result: two fit on a page, three do not."""
UNLIMITED = f"maxToolResultCharacters = 1_000_000\n{TOML}"
"""Nothing is shortened for the model."""


def answering(size: int) -> FakeSkills:
    def answer(called: ToolCall) -> ToolResult:
        short = called.tool_name != "echo"
        return text_result(called, "Done." if short else "語" * (size // 3), is_error=False)

    return FakeSkills(handler=answer)


async def read(here: Stage, uri: str) -> Document:
    address = parse_uri(uri)
    assert address is not None
    return await ResourceReader(here.engine).read(address)


async def pages(here: Stage, uri: str) -> list[Document]:
    found = [await read(here, uri)]
    while found[-1].next_uri is not None:
        found.append(await read(here, found[-1].next_uri))
    return found


def model(steps: int) -> FakeModel:
    looking = [calls(call("echo", f"c{number}", x=number)) for number in range(steps)]
    return FakeModel({"reviewer": [*looking, done("Fine.")]})


async def test_a_page_of_events_is_as_long_as_is_allowed_and_no_longer(tmp_path: Path) -> None:
    async with stage(tmp_path, "auto", model(8), skills=answering(ENTRY), toml=UNLIMITED) as here:
        job_id = facts(await here.call("reviewer", query="look"))["job_id"]
        found = await pages(here, f"perstack://jobs/{job_id}/events")
        trail = await here.engine.history(job_id)
    assert len(found) > 3
    assert all(len(page.text.encode()) <= MAX_PAGE_BYTES for page in found)
    events = [json.loads(line) for page in found for line in page.text.splitlines()]
    assert [event["id"] for event in events] == [event.id for event, _ in trail]
    # The checkpoint at the end holds the whole conversation, so it is named and not sent.
    assert events[-1]["type"] == "completeRun"
    assert events[-1]["omitted"]["bytes"] > MAX_PAGE_BYTES
    assert "checkpoint" not in events[-1]


async def test_what_an_event_leaves_out_is_where_it_says(tmp_path: Path) -> None:
    async with stage(tmp_path, "auto", model(8), skills=answering(ENTRY), toml=UNLIMITED) as here:
        job_id = facts(await here.call("reviewer", query="look"))["job_id"]
        last = (await pages(here, f"perstack://jobs/{job_id}/events"))[-1]
        uri = json.loads(last.text.splitlines()[-1])["omitted"]["checkpoint"]
        found = [json.loads(page.text) for page in await pages(here, uri)]
        _, checkpoint = (await here.engine.history(job_id))[-1]
    assert len(found) > 3
    messages = [message for page in found for message in page["messages"]]
    assert len(messages) == len(checkpoint.messages)
    assert {page["id"] for page in found} == {checkpoint.id}
    assert [("next" in page) for page in found] == [True] * (len(found) - 1) + [False]


async def test_an_entry_that_is_longer_than_a_page_is_a_page_of_its_own(tmp_path: Path) -> None:
    async with stage(
        tmp_path, "auto", model(1), skills=answering(4 * ENTRY), toml=UNLIMITED
    ) as here:
        job_id = facts(await here.call("reviewer", query="look"))["job_id"]
        found = await pages(here, f"perstack://jobs/{job_id}/events")
        events = [json.loads(line) for page in found for line in page.text.splitlines()]
        uris = [event["omitted"]["checkpoint"] for event in events if "omitted" in event]
        messages: list[Any] = []
        for page in await pages(here, uris[-1]):
            messages += json.loads(page.text)["messages"]
    assert all(len(page.text.encode()) <= MAX_PAGE_BYTES for page in found)
    assert "recordToolResult" in {event["type"] for event in events if "omitted" in event}
    assert any("語" * 1000 in json.dumps(each, ensure_ascii=False) for each in messages)


async def test_of_a_shortened_result_only_its_whole_text_is_left_out(tmp_path: Path) -> None:
    async with stage(tmp_path, "auto", model(1), skills=answering(4 * ENTRY)) as here:
        job_id = facts(await here.call("reviewer", query="look"))["job_id"]
        found = await pages(here, f"perstack://jobs/{job_id}/events")
    events = [json.loads(line) for page in found for line in page.text.splitlines()]
    partial = [event for event in events if "omitted" in event]
    assert [event["type"] for event in partial] == ["recordToolResult"]
    assert "wholeText" not in partial[0]
    assert "語" * 1000 in partial[0]["toolResult"]["result"][0]["text"]
    assert partial[0]["omitted"]["bytes"] > 4 * ENTRY


async def test_a_limit_beyond_what_is_allowed_means_what_is_allowed(tmp_path: Path) -> None:
    async with stage(tmp_path, "auto", model(0)) as here:
        job_id = facts(await here.call("reviewer", query="look"))["job_id"]
        every = await read(here, f"perstack://jobs/{job_id}/events?limit=100000")
        least = await read(here, f"perstack://jobs/{job_id}/events?limit=0")
        behind = await read(here, f"perstack://jobs/{job_id}/events?after=1000")
        trail = await here.engine.history(job_id)
    assert len(every.text.splitlines()) == len(trail)
    assert len(least.text.splitlines()) == 1
    assert (behind.text, behind.next_uri) == ("", None)


async def test_a_list_of_jobs_shows_the_beginning_of_a_long_query(tmp_path: Path) -> None:
    async with stage(tmp_path, "auto", FakeModel({"reviewer": [done("Fine.")]})) as here:
        job_id = facts(await here.call("reviewer", query="look " * 50_000))["job_id"]
        for uri in ("perstack://jobs", f"perstack://jobs/{job_id}"):
            text = (await read(here, uri)).text
            assert len(text) < 5_000
            assert "look look" in text
