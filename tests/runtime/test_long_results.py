"""Results that are too long for a conversation: what the model gets, and how it reads the rest."""

import json
from collections.abc import Sequence

import pytest

from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint
from perstack.core.long_results import is_shortened
from perstack.core.messages import (
    ImageInlinePart,
    TextPart,
    ToolCall,
    ToolMessage,
    ToolResult,
    text_result,
    tool_result,
)
from perstack.definition.model import Definitions, McpStdioSkill
from perstack.definition.references import BASE_SKILL
from perstack.errors import StoreError
from perstack.runtime.context import JobStepCounter
from perstack.runtime.run import RunStart
from perstack.runtime.runner import start_run
from tests.fakes import (
    STANDARD_TOOLS,
    FakeModel,
    FakeSkills,
    FakeStore,
    Reply,
    call,
    calls,
    done,
    experts,
    job_context,
    says,
    tool,
)
from tests.runtime.acting import go_on, work

pytestmark = pytest.mark.anyio

LIMIT = 2_000
LINES = "".join(f"line {number}\n" for number in range(2_000))
IMAGE = ImageInlinePart(encoded_data="AAAA", mime_type="image/png")


def limited(definitions: Definitions, limit: int = LIMIT) -> Definitions:
    return definitions.model_copy(update={"max_tool_result_characters": limit})


ONE = limited(experts(a=()))


def skills(*texts: str, image: bool = False) -> FakeSkills:
    """Skills whose tool `echo` returns these texts."""

    def answer(call_: ToolCall) -> ToolResult:
        if call_.tool_name != "echo":
            return text_result(call_, "short")
        parts = tuple(TextPart(text=text) for text in texts)
        return tool_result(call_, (*parts, IMAGE) if image else parts)

    return FakeSkills(
        handler=answer, tools_of=(*STANDARD_TOOLS, tool("readToolResult", is_repeatable=True))
    )


def read(call_id: str, tool_call_id: str = "c1", **args: object) -> Reply:
    return calls(call("readToolResult", call_id, toolCallId=tool_call_id, **args))


def results(checkpoint: Checkpoint) -> dict[str, str]:
    """What the model read, by call."""
    return {
        part.tool_call_id: "".join(
            each.text for each in part.contents if isinstance(each, TextPart)
        )
        for message in checkpoint.messages
        if isinstance(message, ToolMessage)
        for part in message.contents
    }


async def after(
    *replies: Reply, texts: Sequence[str] = (LINES,), definitions: Definitions = ONE
) -> dict[str, str]:
    """What the model read in a run that got a long result and then gave these replies."""
    model = FakeModel({"a": [calls(call("echo", "c1")), *replies, done("end")]})
    return results(await work(job_context(definitions, model, skills=skills(*texts))))


def recorded(store: FakeStore, call_id: str) -> ev.RecordToolResult:
    return next(
        event
        for event in store.events_written
        if isinstance(event, ev.RecordToolResult) and event.tool_result.id == call_id
    )


async def test_the_model_gets_the_two_ends_and_is_told_how_to_read_the_rest() -> None:
    text = (await after())["c1"]

    head, note, tail = (
        text.partition("\n[…")[0],
        text.partition("[…")[2],
        text.rpartition("…]\n")[2],
    )
    assert len(text) <= LIMIT
    assert LINES.startswith(head)
    assert LINES.endswith(tail)
    assert head.splitlines()[-1] in LINES.splitlines()
    assert tail.startswith("line ")
    assert len(head) > LIMIT // 4 < len(tail)
    assert f"of {len(LINES):,} characters left out" in note
    assert f'readToolResult, toolCallId "c1"; they begin at offset {len(head)}.' in note


async def test_a_result_up_to_the_limit_is_left_as_it_is() -> None:
    assert (await after(texts=["x" * LIMIT]))["c1"] == "x" * LIMIT
    assert is_shortened((await after(texts=["x" * (LIMIT + 1)]))["c1"])


async def test_the_texts_of_a_result_count_together_and_its_images_stay() -> None:
    store = FakeStore()
    model = FakeModel({"a": [calls(call("echo", "c1")), done("end")]})
    parts = skills("x" * 1_500, "y" * 1_500, image=True)

    await work(job_context(ONE, model, skills=parts, store=store))

    event = recorded(store, "c1")
    assert event.whole_text == "x" * 1_500 + "\n" + "y" * 1_500
    assert event.tool_result.result[1:] == (IMAGE,)
    assert len(event.tool_result.text) <= LIMIT


async def test_what_is_not_shortened_is_stored_as_before() -> None:
    store = FakeStore()
    model = FakeModel({"a": [calls(call("echo", "c1")), done("end")]})

    await work(job_context(ONE, model, skills=skills("short"), store=store))

    assert "whole_text" not in recorded(store, "c1").model_dump(exclude_none=True)


async def test_all_of_it_can_be_read_in_pieces_without_a_gap() -> None:
    offset, pieces = 0, list[str]()
    while offset < len(LINES):
        text = (await after(read("r1", offset=offset)))["r1"]
        heading, _, piece = text.partition("\n")
        assert len(text) <= LIMIT
        assert heading.startswith(f"[Characters {offset} to {offset + len(piece)} of {len(LINES)};")
        offset += len(piece)
        pieces.append(piece)
        if offset < len(LINES):
            assert heading.endswith(f"go on with offset {offset}]")
        else:
            assert heading.endswith("this is the end]")

    assert "".join(pieces) == LINES
    assert all(piece.endswith("\n") for piece in pieces)


async def test_a_range_of_characters_is_read() -> None:
    text = "".join(chr(0x4E00 + number) for number in range(5_000))
    read_texts = await after(
        read("r1", offset=4_990),
        read("r2", offset=100, limit=5),
        read("r3", offset=9_999),
        texts=[text],
    )

    assert read_texts["r1"] == f"[Characters 4990 to 5000 of 5000; this is the end]\n{text[4990:]}"
    assert read_texts["r2"].endswith(f"go on with offset 105]\n{text[100:105]}")
    assert read_texts["r3"] == "[Characters 5000 to 5000 of 5000; this is the end]\n"


async def test_a_search_finds_places_and_goes_on_where_it_stopped() -> None:
    first = (await after(read("r1", pattern=r"LINE \d+5$", ignoreCase=True)))["r1"]
    heading, *places = first.splitlines()
    next_offset = int(heading.rpartition(" ")[2].rstrip("]"))
    second = (await after(read("r1", pattern=r"line \d+5$", offset=next_offset)))["r1"]

    assert places[0] == f"offset {LINES.index('line 15')}, line 16: line 15"
    assert heading.startswith(f"[{len(places)} found from offset 0 of {len(LINES)}; go on")
    assert len(first) <= LIMIT
    assert LINES[next_offset:].startswith(second.splitlines()[1].rpartition(": ")[2])


async def test_a_search_in_one_line_of_a_megabyte_shows_what_stands_around() -> None:
    text = json.dumps([{"id": number, "name": f"item {number}"} for number in range(30_000)])

    found = await after(
        read("r1", pattern="item 29999"), read("r2", pattern="item x"), texts=[text]
    )

    _, place = found["r1"].splitlines()
    offset = int(place.split(",")[0].removeprefix("offset "))
    assert text[offset:].startswith(place.partition(": ")[2])
    assert '"name": "item 29999"' in place
    assert found["r2"] == f"[0 found from offset 0 of {len(text)}; there are no others]"


async def test_a_pattern_that_would_never_end_elsewhere_is_answered() -> None:
    found = await after(read("r1", pattern="(a+)+b"), texts=["a" * 100_000])

    assert found["r1"] == "[0 found from offset 0 of 100000; there are no others]"


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        ({"toolCallId": "c9"}, "These were: c1 (echo)."),
        ({"toolCallId": "c1", "pattern": "foo("}, "unclosed group"),
        ({"toolCallId": "c1", "offset": -1}, "offset"),
        ({}, "toolCallId"),
    ],
)
async def test_a_wrong_call_is_answered_with_what_is_wrong(
    args: dict[str, object], problem: str
) -> None:
    store = FakeStore()
    replies = [calls(call("echo", "c1")), calls(call("readToolResult", "r1", **args)), done("end")]
    job = job_context(ONE, FakeModel({"a": replies}), skills=skills(LINES), store=store)

    await work(job)

    assert recorded(store, "r1").tool_result.is_error
    assert problem in recorded(store, "r1").tool_result.text


async def test_a_result_that_is_whole_is_not_among_those_to_read() -> None:
    assert (await after(read("r1"), texts=["short"]))["r1"] == (
        "No result with the id 'c1' was shortened. None was so far."
    )


async def test_a_store_that_cannot_be_read_is_an_error_result() -> None:
    class BrokenStore(FakeStore):
        async def shortened_results(
            self, job_id: str, tool_call_id: str
        ) -> tuple[ev.RecordToolResult, ...]:
            raise StoreError("the disk is gone.")

    model = FakeModel({"a": [calls(call("echo", "c1")), read("r1"), done("end")]})

    end = await work(job_context(ONE, model, skills=skills(LINES), store=BrokenStore()))

    assert "the disk is gone" in results(end)["r1"]
    assert end.text == "end"


async def test_an_expert_without_the_tool_is_told_to_ask_for_less() -> None:
    picked = McpStdioSkill(
        type="mcpStdioSkill", package_name=BASE_SKILL, command="npx", pick=("attemptCompletion",)
    )
    expert = ONE.experts["a"].model_copy(update={"skills": {BASE_SKILL: picked}})
    definitions = ONE.model_copy(update={"experts": {"a": expert}})

    text = (await after(definitions=definitions))["c1"]

    assert "readToolResult" not in text
    assert "Call again for less, if you need them." in text


async def test_the_answer_of_a_delegate_is_shortened_and_can_be_read() -> None:
    team = limited(experts(a=("a_x",), a_x=()))
    replies: dict[str, list[Reply]] = {
        "a": [
            calls(call("x", "d1", query="go")),
            read("r1", "d1", offset=len(LINES) - 10),
            done("end"),
        ],
        "@a/x": [says(LINES)],
    }

    end = await work(job_context(team, FakeModel(replies), skills=skills()))

    assert is_shortened(results(end)["d1"])
    assert results(end)["r1"].endswith(LINES[-10:])


async def test_the_answer_of_the_user_is_shortened_and_can_be_read() -> None:
    store = FakeStore()
    asks = FakeModel({"a": [calls(call("askUser", "q1"))]})
    stopped = await work(job_context(ONE, asks, skills=skills(), store=store))
    assert stopped.status == "stoppedByInteractiveTool"
    answers = FakeModel({"a": [read("r1", "q1", offset=len(LINES) - 10), done("end")]})
    job = job_context(
        ONE, answers, skills=skills(), store=store, steps=JobStepCounter(last=1, limit=9)
    )

    end = await go_on(job, stopped, text_result(stopped.pending("interactive")[0], LINES))

    assert is_shortened(results(end)["q1"])
    assert results(end)["r1"].endswith(LINES[-10:])


async def test_a_delegate_cannot_read_the_results_of_its_coordinator() -> None:
    team = limited(experts(a=("a_x",), a_x=()))
    replies: dict[str, list[Reply]] = {
        "a": [calls(call("echo", "c1")), calls(call("x", "d1", query="go")), done("end")],
        "@a/x": [read("r1"), done("tried")],
    }
    store = FakeStore()

    await work(job_context(team, FakeModel(replies), skills=skills(LINES), store=store))

    assert recorded(store, "r1").tool_result.is_error
    assert "None was so far." in recorded(store, "r1").tool_result.text


async def test_of_two_runs_with_the_same_id_each_reads_its_own() -> None:
    team = limited(experts(a=("a_x",), a_x=()))
    replies: dict[str, list[Reply]] = {
        "a": [
            calls(call("echo", "c1")),
            calls(call("x", "d1", query="go")),
            read("r2"),
            done("end"),
        ],
        "@a/x": [calls(call("echo", "c1")), read("r1"), done("done")],
    }
    texts = iter([LINES, LINES.upper()])
    store, two = FakeStore(), skills()
    two.handler = lambda call_: text_result(call_, next(texts))

    await work(job_context(team, FakeModel(replies), skills=two, store=store))

    assert "\nline 0\n" in recorded(store, "r2").tool_result.text
    assert "\nLINE 0\n" in recorded(store, "r1").tool_result.text


async def test_a_branch_reads_the_results_of_the_run_that_it_left() -> None:
    store = FakeStore()
    first = FakeModel({"a": [calls(call("echo", "c1")), done("end")]})
    base = await work(job_context(ONE, first, skills=skills(LINES), store=store))
    second = FakeModel({"a": [read("r1", offset=len(LINES) - 10), done("end")]})
    job = job_context(
        ONE, second, skills=skills(), store=store, steps=JobStepCounter(last=2, limit=9)
    )

    branch = await start_run(
        job,
        ONE.experts["a"],
        RunStart(continued_from=base.id, is_fork=True),
        base,
        run_id="run2",
        first_step=3,
    )

    assert results(branch)["r1"].endswith(LINES[-10:])
