"""Chunks that no fake provider sends, put together."""

from types import SimpleNamespace
from typing import Any

import pytest

from perstack.core.messages import ThinkingPart
from perstack.llm.litellm_responses import (
    IncompleteResponseError,
    StreamedResponse,
    parse_tool_call,
)
from tests.llm.conversation import Listener


def chunk(finish: str | None = None, **delta: Any) -> SimpleNamespace:
    content = SimpleNamespace(**{"content": None, "tool_calls": None, **delta})
    choice = SimpleNamespace(delta=content, finish_reason=finish)
    return SimpleNamespace(id="r1", model="m", choices=[choice])


def test_thinking_blocks_end_with_their_signatures() -> None:
    reply = StreamedResponse(Listener())
    for block in (
        {"type": "thinking", "thinking": "one "},
        {"type": "thinking", "thinking": "two"},
        {"type": "thinking", "thinking": "", "signature": "seal1"},
        {"type": "redacted_thinking", "data": "c2VjcmV0"},
        {"type": "thinking", "thinking": "three", "signature": "seal2"},
    ):
        reply.add(chunk(thinking_blocks=[block]))
    reply.add(chunk("stop"))

    assert reply.result(None).thinking == (
        ThinkingPart(thinking="one two", signature="seal1"),
        ThinkingPart(thinking="", signature="redacted:c2VjcmV0"),
        ThinkingPart(thinking="three", signature="seal2"),
    )


def test_plain_chunks_carry_text_and_the_end() -> None:
    reply = StreamedResponse(Listener())
    reply.add({"text": "hello", "is_finished": False, "finish_reason": ""})
    reply.add({"text": "", "is_finished": True, "finish_reason": "length"})

    generation = reply.result(0.5)

    assert (generation.text, generation.finish_reason) == ("hello", "length")
    assert generation.first_chunk_seconds == 0.5


def test_a_stream_without_an_end_is_no_reply() -> None:
    reply = StreamedResponse(Listener())
    reply.add(chunk(content="half a"))

    with pytest.raises(IncompleteResponseError):
        reply.result(None)


def test_an_unknown_finish_reason_is_another_one() -> None:
    reply = StreamedResponse(Listener())
    reply.add(chunk("pause_turn", content="x"))

    assert reply.result(None).finish_reason == "other"


@pytest.mark.parametrize(
    ("arguments", "args", "error"),
    [
        ("", {}, None),
        (None, {}, None),
        ({"a": 1}, {"a": 1}, None),
        ("[1]", {}, "The arguments must be a JSON object."),
        ("[" * 100_000, {}, "The arguments are not valid JSON"),
    ],
)
def test_arguments_are_an_object_or_an_error(
    arguments: Any, args: dict[str, Any], error: str | None
) -> None:
    made = parse_tool_call("c1", "add", arguments)

    assert made.args == args
    assert (made.args_error or "").startswith(error or "")
    assert (made.args_error is None) is (error is None)
