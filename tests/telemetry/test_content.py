"""Content in spans: wanted, bounded, valid, and without secrets."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from perstack.core import messages as msg
from perstack.runtime.ports import Generation
from tests.telemetry.driver import Driver, a_checkpoint, a_request
from tests.telemetry.span_tree import Recorder

pytestmark = pytest.mark.anyio

LIMIT = 4096
CANARY = 'canary-"quoted"-secret'
CALL = msg.ToolCall(id="c1", skill_name="files", tool_name="read", args={"path": "a.txt"})


def chat_attributes(
    messages: tuple[msg.Message, ...], reply: Generation | None = None, limit: int = LIMIT
) -> Mapping[str, Any]:
    recorder = Recorder(content_limit=limit, secrets=(CANARY,))
    run = Driver(recorder.tracing, a_checkpoint())
    with run.active(), run.span.generation(a_request(messages), 1) as span:
        span.finished(reply or Generation(text="fine"))
    return recorder.named("chat m1").attributes or {}


def tool_attributes(call: msg.ToolCall, result: msg.ToolResult) -> Mapping[str, Any]:
    recorder = Recorder(content_limit=LIMIT, secrets=(CANARY,))
    run = Driver(recorder.tracing, a_checkpoint())
    with run.active(), run.span.tool_call(call, "planner") as span:
        span.finished(result)
    return recorder.named("execute_tool read").attributes or {}


def user(text: str) -> msg.UserMessage:
    return msg.UserMessage(contents=(msg.TextPart(text=text),))


async def test_a_conversation_is_written_as_the_conventions_want_it() -> None:
    call = msg.ToolCallPart(tool_call_id="c1", tool_name="read", args={"path": "a.txt"})
    response = msg.ToolResultPart(
        tool_call_id="c1", tool_name="read", contents=(msg.TextPart(text="hello"),)
    )
    spoken = (
        msg.InstructionMessage(stable="You read.", volatile="It is noon."),
        msg.UserMessage(
            contents=(
                msg.TextPart(text="read it"),
                msg.ImageInlinePart(encoded_data="AAAA", mime_type="image/png"),
            )
        ),
        msg.ExpertMessage(contents=(msg.ThinkingPart(thinking="hm"), call)),
        msg.ToolMessage(contents=(response,)),
    )

    attributes = chat_attributes(spoken, Generation(text="it says hello", finish_reason="stop"))

    assert json.loads(attributes["gen_ai.system_instructions"]) == [
        {"type": "text", "content": "You read."},
        {"type": "text", "content": "It is noon."},
    ]
    assert json.loads(attributes["gen_ai.input.messages"]) == [
        {
            "role": "user",
            "parts": [
                {"type": "text", "content": "read it"},
                {"type": "blob", "mime_type": "image/png", "size": 3},
            ],
        },
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "hm"},
                {"type": "tool_call", "id": "c1", "name": "read", "arguments": {"path": "a.txt"}},
            ],
        },
        {
            "role": "tool",
            "parts": [{"type": "tool_call_response", "id": "c1", "response": "hello"}],
        },
    ]
    assert json.loads(attributes["gen_ai.output.messages"]) == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "it says hello"}],
            "finish_reason": "stop",
        }
    ]
    assert "perstack.content.truncated" not in attributes


async def test_the_tools_of_a_provider_are_named_and_images_have_their_sizes() -> None:
    part = msg.ProviderPart(provider="anthropic", tools=("web_search",), content={"opaque": 1})
    image = msg.ImageInlinePart(encoded_data="aGV5", mime_type="image/png")
    earlier = msg.ExpertMessage(contents=(part, msg.TextPart(text="found")))

    attributes = chat_attributes(
        (user("look"), earlier), Generation(text="again", provider_part=part, media=(image,))
    )

    assert attributes["perstack.provider_tool_calls"] == ("web_search",)
    assert json.loads(attributes["gen_ai.input.messages"])[1]["parts"] == [
        {"type": "server_tool_calls", "tools": ["web_search"]},
        {"type": "text", "content": "found"},
    ]
    assert json.loads(attributes["gen_ai.output.messages"])[0]["parts"] == [
        {"type": "text", "content": "again"},
        {"type": "blob", "mime_type": "image/png", "size": 3},
    ]


@pytest.mark.parametrize("filler", ["x", '"', "\n", "é", "\ud800", "\x00"])
async def test_a_megabyte_of_result_becomes_short_valid_json(filler: str) -> None:
    result = msg.text_result(CALL, filler * 1_000_000)

    attributes = tool_attributes(CALL, result)

    text = attributes["gen_ai.tool.call.result"]
    assert len(text) <= LIMIT
    content = json.loads(text)[0]["content"]
    assert content.endswith(" chars]")
    assert attributes["perstack.content.truncated"] is True


async def test_the_longest_texts_are_shortened_first() -> None:
    attributes = chat_attributes((user("a short question"), user("long " * 10_000)))

    first, second = json.loads(attributes["gen_ai.input.messages"])
    assert first["parts"][0]["content"] == "a short question"
    assert "…[truncated " in second["parts"][0]["content"]
    assert len(attributes["gen_ai.input.messages"]) > LIMIT * 3 // 4


async def test_of_a_long_conversation_the_end_is_kept() -> None:
    attributes = chat_attributes(tuple(user(f"message {number}") for number in range(1000)))

    shown = json.loads(attributes["gen_ai.input.messages"])
    assert len(attributes["gen_ai.input.messages"]) <= LIMIT
    assert shown[-1]["parts"][0]["content"] == "message 999"
    assert attributes["perstack.content.truncated"] is True


async def test_arguments_that_are_too_long_become_a_string() -> None:
    call = CALL.model_copy(update={"args": {"path": "a.txt", "text": "y" * 100_000}})

    attributes = tool_attributes(call, msg.text_result(call, "written"))

    arguments = json.loads(attributes["gen_ai.tool.call.arguments"])
    assert arguments.startswith('{"path":"a.txt","text":"yyy')
    assert len(attributes["gen_ai.tool.call.arguments"]) <= LIMIT


@pytest.mark.parametrize("before", ["", "z" * (LIMIT - 10)])
async def test_a_secret_is_replaced_wherever_it_stands(before: str) -> None:
    call = CALL.model_copy(update={"args": {"token": CANARY, CANARY: ["see", CANARY]}})
    result = msg.text_result(call, f"{before}{CANARY} and {json.dumps(CANARY)}")

    attributes = tool_attributes(call, result)

    assert "canary" not in json.dumps(dict(attributes))
    assert json.loads(attributes["gen_ai.tool.call.arguments"]) == {
        "token": "[redacted]",
        "[redacted]": ["see", "[redacted]"],
    }


async def test_the_secret_of_a_skill_is_learned_from_its_definition() -> None:
    recorder = Recorder(content_limit=LIMIT)
    run = Driver(recorder.tracing, a_checkpoint())

    with run.active():
        run.start("my secret is canary-of-the-skill")
        run.finish()

    everything = "".join(span.to_json() for span in recorder.spans)
    assert "my secret is [redacted]" in everything
    assert "canary-of-the-skill" not in everything


async def test_a_secret_that_is_a_number_leaves_valid_json() -> None:
    recorder = Recorder(content_limit=LIMIT, secrets=("12345678",))
    run = Driver(recorder.tracing, a_checkpoint())
    call = CALL.model_copy(update={"args": {"pin": 12345678}})

    with run.active(), run.span.tool_call(call, "planner"):
        pass

    attributes = recorder.named("execute_tool read").attributes or {}
    assert json.loads(str(attributes["gen_ai.tool.call.arguments"])) == '{"pin":[redacted]}'


async def test_no_span_has_many_attributes() -> None:
    recorder = Recorder(content_limit=LIMIT)
    run = Driver(recorder.tracing, a_checkpoint())

    with run.active():
        run.start()
        run.ask_for(("read", "mcp"), path="a.txt")
        await run.call_tools()
        run.next_step()
        run.finish()

    assert max(len(span.attributes or {}) for span in recorder.spans) <= 40
