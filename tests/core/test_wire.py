"""Events as others read them: what the JSON of each type says, and that the document is true."""

import json
import re
from pathlib import Path
from typing import Any, cast, get_args

import pytest

from perstack.core import events as ev
from perstack.core import transient_events
from perstack.core.history import JobHistory
from perstack.core.messages import Citation, ImageInlinePart, ProviderPart
from perstack.core.step import StepTracker
from perstack.core.wire import (
    EVENT_TYPES,
    RUN_TYPES,
    RUNTIME_TYPES,
    STREAMING_TYPES,
    to_wire,
)
from perstack.runtime.ports import Generation
from tests.fakes import FakeModel, FakeStore, Reply, call, calls, done, experts, job_context, says
from tests.runtime.acting import work

pytestmark = pytest.mark.anyio

DOCUMENT = Path(__file__).parents[2] / "docs" / "events.md"
GOLDEN = Path(__file__).parent / "golden" / "stream.jsonl"
Json = dict[str, Any]
STAMP = ev.Stamp(
    job_id="job1", run_id="run1", expert_key="a", step_number=3, sequence=7, timestamp=1000
)


async def played(replies: dict[str, list[Reply]], **options: Any) -> list[Json]:
    """The stream of a job of the expert `a`, which has the delegate `@a/x`."""
    store = FakeStore()
    definitions = experts(a=("a_x",), a_x=())
    await work(job_context(definitions, FakeModel(replies), store=store, **options))
    steps = StepTracker()
    return [
        to_wire(event, checkpoint, steps.follow(event, checkpoint))
        for event, checkpoint in JobHistory(store.events_written).recorded_events
    ]


def of_type(stream: list[Json], event_type: str) -> list[Json]:
    return [event for event in stream if event["type"] == event_type]


def without_stamp(event: Json) -> Json:
    stamp = {"id", "timestamp", "jobId", "runId", "expertKey", "stepNumber"}
    return {name: value for name, value in event.items() if name not in stamp}


CALL = {"id": "c1", "skillName": "@perstack/base", "toolName": "echo", "args": {"x": 1}}
RESULT = {
    "id": "c1",
    "skillName": "@perstack/base",
    "toolName": "echo",
    "result": [{"id": "c1-p0", "type": "textPart", "text": '{"x": 1}'}],
    "isError": False,
}
SAID = {
    "type": "expertMessage",
    "id": "run1-m2",
    "contents": [
        {"id": "run1-m2-p0", "type": "textPart", "text": "I look."},
        {
            "id": "run1-m2-p1",
            "type": "toolCallPart",
            "toolCallId": "c1",
            "toolName": "echo",
            "args": {"x": 1},
        },
    ],
}
ANSWERED = {
    "type": "toolMessage",
    "id": "run1-m3",
    "contents": [
        {
            "id": "run1-m3-p0",
            "type": "toolResultPart",
            "toolCallId": "c1",
            "toolName": "echo",
            "contents": [{"id": "run1-m3-p0-p0", "type": "textPart", "text": '{"x": 1}'}],
            "isError": False,
        }
    ],
}
USAGE = {
    "inputTokens": 0,
    "outputTokens": 0,
    "reasoningTokens": 0,
    "totalTokens": 0,
    "cachedInputTokens": 0,
    "cacheCreationInputTokens": 0,
}


async def test_a_step_reads_like_this() -> None:
    stream = await played({"a": [calls(call("echo", "c1", x=1), text="I look."), done("fine")]})
    step = [event for event in stream if event["stepNumber"] == 1 and event["type"] != "startRun"]
    assert [without_stamp(event) for event in step] == [
        {"type": "startGeneration"},
        {"type": "callTools", "newMessage": SAID, "toolCalls": [CALL], "usage": USAGE},
        {"type": "startToolCalls", "toolCalls": [CALL]},
        {"type": "recordToolResult", "toolResult": RESULT},
        {"type": "resolveToolResults", "toolResults": [RESULT]},
        {"type": "finishToolCall", "newMessages": [ANSWERED]},
        {"type": "continueToNextStep", "nextStepNumber": 2},
    ]


async def test_a_whole_job_is_streamed_as_it_was_before() -> None:
    stream = await played(
        {
            "a": [calls(call("x", "d1", query="go"), call("echo", "c1", x=1)), done("end")],
            "@a/x": [says("child")],
        }
    )
    # The line breaks of a file are those of the stream: one event, one line.
    lines = [json.dumps(lasting(event), ensure_ascii=False) for event in stream]
    assert lines == GOLDEN.read_text(encoding="utf-8").splitlines()


def lasting(value: Any) -> Any:
    """The same without times and the words of system prompts, which are not part of the format."""
    if isinstance(value, list):
        return [lasting(item) for item in cast("list[object]", value)]
    if not isinstance(value, dict):
        return value
    table = cast("Json", value)
    if table.get("type") == "instructionMessage":
        return {"type": table["type"], "id": table["id"]}
    times = ("timestamp", "startedAt", "finishedAt")
    return {name: lasting(item) for name, item in table.items() if name not in times}


async def test_every_run_event_bears_its_whole_stamp() -> None:
    stream = await played({"a": [says("hello")]})
    head = ("type", "id", "timestamp", "jobId", "runId", "expertKey", "stepNumber")
    assert all(tuple(event)[:7] == head for event in stream)
    assert stream[0]["id"] == "run1-1"


async def test_a_run_begins_with_its_messages_and_ends_with_its_checkpoint() -> None:
    stream = await played({"a": [says("hello")]})
    start, *_, end = stream
    assert [message["type"] for message in start["inputMessages"]] == [
        "instructionMessage",
        "userMessage",
    ]
    assert start["initialCheckpoint"]["status"] == "init"
    assert start["initialCheckpoint"]["messages"] == []
    assert (end["text"], end["checkpoint"]["status"]) == ("hello", "completed")
    assert end["checkpoint"]["id"] == end["id"]
    assert end["checkpoint"]["messages"][:2] == start["inputMessages"]


async def test_a_message_has_the_same_id_in_its_event_and_in_every_checkpoint() -> None:
    stream = await played({"a": [calls(call("echo", "c1")), says("hello")]})
    told = [event["newMessage"] for event in of_type(stream, "callTools")]
    told += [
        message for event in of_type(stream, "finishToolCall") for message in event["newMessages"]
    ]
    final = stream[-1]["checkpoint"]["messages"]
    assert all(message in final for message in told)
    ids = [message["id"] for message in final]
    assert len(set(ids)) == len(ids)


async def test_only_beginnings_stops_and_ends_carry_a_checkpoint() -> None:
    replies: dict[str, list[Reply]] = {
        "a": [calls(call("x", "d1", query="go")), calls(call("echo", "c1")), done("end")],
        "@a/x": [done("child")],
    }
    stream = await played(replies)
    carrying = {event["type"] for event in stream if "checkpoint" in event}
    assert carrying == {"stopRunByDelegate", "resumeFromStop", "completeRun"}


async def test_a_delegation_says_who_is_called_in_which_run() -> None:
    replies: dict[str, list[Reply]] = {
        "a": [calls(call("x", "d1", query="go")), done("end")],
        "@a/x": [done("child")],
    }
    stream = await played(replies)
    (delegation,) = of_type(stream, "callDelegate")
    assert [made["toolName"] for made in delegation["toolCalls"]] == ["x"]
    (to,) = delegation["delegateTo"]
    (stop,) = of_type(stream, "stopRunByDelegate")
    child = of_type(stream, "startRun")[1]
    assert (to["query"], to["runId"], to["expert"]["key"]) == ("go", child["runId"], "@a/x")
    assert stop["checkpoint"]["delegateTo"] == [to]
    assert stop["checkpoint"]["pendingToolCalls"] == delegation["toolCalls"]
    assert child["initialCheckpoint"]["delegatedBy"]["toolCallId"] == "d1"


async def test_skill_results_are_told_apart_when_others_are_still_open() -> None:
    replies: dict[str, list[Reply]] = {
        "a": [calls(call("echo", "c1"), call("askUser", "q1", text="which?"))]
    }
    stream = await played(replies)
    (finished,) = of_type(stream, "finishMcpTools")
    assert [result["id"] for result in finished["newToolResults"]] == ["c1"]
    (asked,) = of_type(stream, "callInteractiveTool")
    assert asked["toolCall"] == {
        "id": "q1",
        "skillName": "ask",
        "toolName": "askUser",
        "args": {"text": "which?"},
    }
    stop = stream[-1]["checkpoint"]
    assert stop["status"] == "stoppedByInteractiveTool"
    assert [pending["id"] for pending in stop["pendingToolCalls"]] == ["q1"]
    assert [result["id"] for result in stop["partialToolResults"]] == ["c1"]


async def test_a_changed_list_of_todos_is_a_plain_list() -> None:
    reply = calls(call("todo", "t1", newTodos=["one"]))
    stream = await played({"a": [reply]}, max_steps=1)
    (recorded,) = of_type(stream, "recordToolResult")
    assert recorded["todos"] == [{"id": 0, "title": "one", "completed": False}]
    assert stream[-1]["type"] == "stopRunByExceededMaxSteps"


async def test_the_whole_stream_is_json_of_known_types() -> None:
    replies: dict[str, list[Reply]] = {
        "a": [
            calls(call("echo", "c1"), call("x", "d1", query="go"), call("nothing", "n1")),
            done("end"),
        ],
        "@a/x": [says("child")],
    }
    stream = await played(replies)
    assert json.loads(json.dumps(stream)) == stream
    assert {event["type"] for event in stream} <= set(RUN_TYPES)


def test_streaming_events_have_the_stamp_of_a_run_and_runtime_events_a_shorter_one() -> None:
    delta = transient_events.StreamReasoning(stamp=STAMP, ordinal=2, delta="hm")
    assert to_wire(delta, None) == {
        "type": "streamReasoning",
        "id": "run1-7.2",
        "timestamp": 1000,
        "jobId": "job1",
        "runId": "run1",
        "expertKey": "a",
        "stepNumber": 3,
        "delta": "hm",
    }
    gone = transient_events.SkillDisconnected(stamp=STAMP, ordinal=3, skill_name="time")
    assert to_wire(gone, None) == {
        "type": "skillDisconnected",
        "id": "run1-7.3",
        "timestamp": 1000,
        "jobId": "job1",
        "runId": "run1",
        "skillName": "time",
    }


def test_a_stored_event_needs_its_checkpoint() -> None:
    with pytest.raises(ValueError, match="startGeneration needs the checkpoint"):
        to_wire(ev.StartGeneration(stamp=STAMP), None)


async def test_a_failed_run_says_why_in_the_event_and_in_the_checkpoint() -> None:
    failing = says("")
    stream = await played({"a": [failing]}, max_retries=0)
    stop = stream[-1]
    assert stop["type"] == "stopRunByError"
    assert stop["error"]["name"] == "MaxRetriesExceeded"
    assert stop["checkpoint"]["error"] == stop["error"]
    assert (stop["finishReason"], stop["maxRetries"]) == ("stop", 0)


async def test_a_retry_says_why_the_reply_ended() -> None:
    stream = await played({"a": [says(""), says("hello")]}, max_retries=1)
    retry = next(document for document in stream if document["type"] == "retry")
    assert retry["finishReason"] == "stop"


async def test_what_the_tools_of_a_provider_did_stands_in_its_reply() -> None:
    reply = Generation(
        text="It is hot.",
        citations=(Citation(url="https://sun.example", title="Sun", start=0, end=10),),
        provider_part=ProviderPart(
            provider="anthropic", tools=("web_search",), content={"content": [{"a": None}]}
        ),
        media=(ImageInlinePart(encoded_data="iVBORw0KGgo=", mime_type="image/png"),),
    )

    [completed] = of_type(await played({"a": [reply]}), "completeRun")

    parts = completed["checkpoint"]["messages"][-1]["contents"]
    assert [{key: part[key] for key in part if key != "id"} for part in parts] == [
        {
            "type": "providerPart",
            "provider": "anthropic",
            "tools": ["web_search"],
            "content": {"content": [{"a": None}]},
        },
        {
            "type": "textPart",
            "text": "It is hot.",
            "citations": [{"url": "https://sun.example", "title": "Sun", "start": 0, "end": 10}],
        },
        {"type": "imageInlinePart", "encodedData": "iVBORw0KGgo=", "mimeType": "image/png"},
    ]


async def test_a_checkpoint_leaves_out_what_is_empty() -> None:
    stream = await played({"a": [says("hello")]})
    assert sorted(stream[-1]["checkpoint"]) == [
        "contextWindow",
        "expert",
        "id",
        "jobId",
        "messages",
        "model",
        "provider",
        "runId",
        "status",
        "stepNumber",
        "usage",
    ]


def documented_types() -> dict[str, str]:
    """The types of docs/events.md, each with the section that it stands in."""
    section = ""
    found: dict[str, str] = {}
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        row = re.match(r"\| `(\w+)` \|", line)
        if row is not None and row[1] in EVENT_TYPES:
            found[row[1]] = section
    return found


def test_the_document_lists_every_type_where_it_belongs() -> None:
    found = documented_types()
    sections = {
        "Run events": RUN_TYPES,
        "Streaming events": STREAMING_TYPES,
        "Runtime events": RUNTIME_TYPES,
    }
    assert found == {kind: title for title, kinds in sections.items() for kind in kinds}
    assert (len(RUN_TYPES), len(STREAMING_TYPES), len(RUNTIME_TYPES)) == (28, 6, 8)


async def test_the_document_names_every_field_that_an_event_has() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)$", text, re.MULTILINE))
    ignored = {"stamp", "type", "ordinal"}
    for event in get_args(get_args(transient_events.RuntimeEvent)[0]):
        fields = [field.alias for name, field in event.model_fields.items() if name not in ignored]
        assert all(f"`{field}`" in rows[event.model_fields["type"].default] for field in fields)
    replies: dict[str, list[Reply]] = {
        "a": [
            says(""),
            calls(call("echo", "c1"), call("x", "d1", query="go"), call("askUser", "q1")),
        ],
        "@a/x": [calls(call("todo", "t1", newTodos=["one"])), done("child")],
    }
    for event in await played(replies, max_steps=8):
        for field in without_stamp(event).keys() - {"type"}:
            assert f"`{field}`" in rows[event["type"]], f"{event['type']} has {field}"
