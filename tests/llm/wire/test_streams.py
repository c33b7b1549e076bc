"""Replies of every wire format, split and cut in every way, and calls told apart."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perstack.core.messages import ThinkingPart, Usage
from perstack.llm.wire.anthropic_messages import AnthropicMessages
from perstack.llm.wire.bedrock_converse import BedrockConverse
from perstack.llm.wire.chat_completions import ChatCompletions
from perstack.llm.wire.event_stream import EventStream
from perstack.llm.wire.format import StreamError, WireFormat
from perstack.llm.wire.framing import Framing, JsonLines, ServerSentEvents
from perstack.llm.wire.gemini import Gemini
from perstack.llm.wire.ollama_chat import OllamaChat
from perstack.llm.wire.reply import InvalidReplyError
from perstack.llm.wire.responses import Responses
from perstack.runtime.ports import Generation
from tests.llm.conversation import Listener
from tests.llm.wire.reading import read_stream, split_at
from tests.model_server.dialects.bedrock import frame


def chunk(delta: dict[str, Any], finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {
        "id": "r1",
        "model": "m",
        "choices": [{"delta": delta, "finish_reason": finish}],
        **fields,
    }


def tool_piece(index: object, call_id: object, name: object, arguments: object) -> dict[str, Any]:
    call = {"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}
    return chunk({"tool_calls": [call]})


def sse(*documents: object, end: bytes = b"data: [DONE]\n\n") -> bytes:
    return b"".join(b"data: %s\n\n" % json.dumps(each).encode() for each in documents) + end


USAGE = {"prompt_tokens": 10, "completion_tokens": "4", "total_tokens": 14}
CHAT = sse(
    chunk({"role": "assistant", "reasoning_content": "hm"}),
    chunk({"content": "see [DONE] \u2028\x85 \ud83d"}),
    chunk({"content": "\ude00"}),
    tool_piece(0, "c1", "add", '{"a": '),
    tool_piece(0, None, None, "1}"),
    tool_piece(1, "c2", "add", '{"a": 2}'),
    chunk({}, "tool_calls"),
    {"choices": [], "usage": USAGE},
)
ANTHROPIC = sse(
    {"type": "message_start", "message": {"id": "r1", "model": "m", "usage": {"input_tokens": 10}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking"}},
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "thinking_delta", "thinking": "hm"},
    },
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "signature_delta", "signature": "s"},
    },
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {
        "type": "content_block_delta",
        "index": 1,
        "delta": {"type": "text_delta", "text": "see [DONE]"},
    },
    {
        "type": "content_block_start",
        "index": 2,
        "content_block": {"type": "tool_use", "id": "c1", "name": "add", "input": {}},
    },
    {
        "type": "content_block_delta",
        "index": 2,
        "delta": {"type": "input_json_delta", "partial_json": '{"a": '},
    },
    {
        "type": "content_block_delta",
        "index": 2,
        "delta": {"type": "input_json_delta", "partial_json": "1}"},
    },
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 4}},
    {"type": "message_stop"},
    end=b"",
)
OLLAMA = b"".join(
    json.dumps({"model": "m", "done": False, **line}).encode() + b"\n"
    for line in (
        {"message": {"thinking": "hm"}},
        {"message": {"content": "see [DONE]"}},
        {"message": {"tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}]}},
        {"message": {"tool_calls": [{"function": {"name": "add", "arguments": {"a": 2}}}]}},
        {"done": True, "done_reason": "stop", "prompt_eval_count": 10, "eval_count": 4},
    )
)
RESPONSES = sse(
    {"type": "response.created", "response": {"id": "r1"}},
    {"type": "response.reasoning_summary_text.delta", "output_index": 0, "delta": "hm"},
    {
        "type": "response.output_item.done",
        "output_index": 0,
        "item": {"type": "reasoning", "summary": [{"text": "hm"}], "encrypted_content": "s"},
    },
    {"type": "response.output_text.delta", "output_index": 1, "delta": "see "},
    {"type": "response.output_text.delta", "output_index": 1, "delta": "[DONE]"},
    {
        "type": "response.output_item.done",
        "output_index": 1,
        "item": {"type": "message", "content": [{"type": "output_text", "text": "see [DONE]"}]},
    },
    *(
        {
            "type": "response.output_item.done",
            "output_index": 1 + a,
            "item": {"type": "function_call", "call_id": f"c{a}", "name": "add"}
            | {"arguments": json.dumps({"a": a})},
        }
        for a in (1, 2)
    ),
    {
        "type": "response.completed",
        "response": {"status": "completed", "usage": {"input_tokens": 10, "output_tokens": 4}},
    },
    end=b"",
)
GEMINI = sse(
    {"candidates": [{"content": {"parts": [{"text": "hm", "thought": True}]}}]},
    {"candidates": [{"content": {"parts": [{"text": "see "}]}}]},
    {"candidates": [{"content": {"parts": [{"text": "[DONE]"}]}}]},
    {
        "candidates": [
            {
                "content": {
                    "parts": [
                        {
                            "functionCall": {"name": "add", "args": {"a": 1}},
                            "thoughtSignature": "s",
                        },
                        {"functionCall": {"name": "add", "args": {"a": 2}}},
                    ]
                },
                "finishReason": "STOP",
            }
        ],
        "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 4},
    },
    end=b"",
)


def block(index: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"contentBlockDelta": {"contentBlockIndex": index, "delta": delta}}


def opened(index: int, call_id: str) -> dict[str, Any]:
    start = {"toolUse": {"toolUseId": call_id, "name": "add"}}
    return {"contentBlockStart": {"contentBlockIndex": index, "start": start}}


BEDROCK = b"".join(
    frame(event)
    for event in (
        {"messageStart": {"role": "assistant"}},
        block(0, {"reasoningContent": {"text": "h"}}),
        block(0, {"reasoningContent": {"text": "m"}}),
        block(0, {"reasoningContent": {"signature": "s"}}),
        block(1, {"text": "see "}),
        block(1, {"text": "[DONE]"}),
        opened(2, "c1"),
        block(2, {"toolUse": {"input": '{"a": '}}),
        block(2, {"toolUse": {"input": "1}"}}),
        {"contentBlockStop": {"contentBlockIndex": 2}},
        opened(3, "c2"),
        block(3, {"toolUse": {"input": '{"a": 2}'}}),
        {"messageStop": {"stopReason": "tool_use"}},
        {"metadata": {"usage": {"inputTokens": 10, "outputTokens": 4}}},
    )
)
STREAMS: dict[str, tuple[WireFormat, Callable[[], Framing], bytes]] = {
    "chat completions": (ChatCompletions(), ServerSentEvents, CHAT),
    "anthropic messages": (AnthropicMessages(), ServerSentEvents, ANTHROPIC),
    "bedrock converse": (BedrockConverse(), EventStream, BEDROCK),
    "gemini": (Gemini(), ServerSentEvents, GEMINI),
    "ollama chat": (OllamaChat(), JsonLines, OLLAMA),
    "responses": (Responses(), ServerSentEvents, RESPONSES),
}
SIGNATURES = {
    "anthropic messages": "s",
    "bedrock converse": "s",
    "gemini": "google:s",
    "responses": "openai:s",
}
every_stream = pytest.mark.parametrize("name", STREAMS)


def read(name: str, pieces: Sequence[bytes], listener: Listener | None = None) -> Generation:
    wire, create_framing, _ = STREAMS[name]
    return read_stream(wire, create_framing(), pieces, listener)


def without_ids(generation: Generation) -> object:
    return (
        generation.text,
        generation.thinking,
        [(call.tool_name, call.args, call.args_error) for call in generation.tool_calls],
        generation.finish_reason,
        generation.usage,
    )


@every_stream
def test_nothing_of_a_stream_is_lost(name: str) -> None:
    listener = Listener()
    reply = read(name, [STREAMS[name][2]], listener)
    text = "see [DONE] \u2028\x85 \U0001f600" if name == "chat completions" else "see [DONE]"
    assert reply.text == text == "".join(listener.texts)
    assert reply.thinking == (ThinkingPart(thinking="hm", signature=SIGNATURES.get(name)),)
    assert reply.tool_calls[0].args == {"a": 1}
    assert len(reply.tool_calls) == (1 if "anthropic" in name else 2)
    assert len({call.tool_call_id for call in reply.tool_calls}) == len(reply.tool_calls)
    assert reply.finish_reason == "toolCalls"
    assert reply.usage == Usage(input_tokens=10, output_tokens=4, total_tokens=14)


@every_stream
@given(cuts=st.lists(st.integers(0, 5_000), max_size=40))
def test_a_reply_does_not_depend_on_how_its_bytes_are_split(name: str, cuts: list[int]) -> None:
    body = STREAMS[name][2]
    assert without_ids(read(name, split_at(body, cuts))) == without_ids(read(name, [body]))


@every_stream
def test_a_stream_that_is_cut_before_its_end_is_never_a_whole_reply(name: str) -> None:
    body = STREAMS[name][2]
    finish = {"chat": b'"finish_reason": "tool', "anth": b'"message_stop"', "olla": b'"eval_count"'}
    finish["resp"] = b'"response.completed"'
    finish |= {"bedr": b'"tool_use"', "gemi": b'"STOP"'}
    for cut in range(body.index(finish[name[:4]])):
        with pytest.raises(InvalidReplyError):
            read(name, [body[:cut]])


@pytest.mark.parametrize("name", ["anthropic messages", "bedrock converse"])
def test_what_follows_the_end_is_not_read(name: str) -> None:
    body = STREAMS[name][2]
    assert without_ids(read(name, [body, b"data: what?\n\n"])) == without_ids(read(name, [body]))


def converse(*events: dict[str, Any], stop: str = "end_turn") -> Generation:
    stream = (*events, {"messageStop": {"stopReason": stop}})
    return read("bedrock converse", [b"".join(map(frame, stream))])


def test_each_block_of_thinking_has_its_own_signature() -> None:
    reply = converse(
        block(0, {"reasoningContent": {"text": "one"}}),
        block(0, {"reasoningContent": {"signature": "s1"}}),
        block(1, {"text": "so"}),
        block(2, {"reasoningContent": {"redactedContent": "c2VjcmV0"}}),
        {"anEventOfLaterVersions": {}},
    )
    assert reply.thinking == (
        ThinkingPart(thinking="one", signature="s1"),
        ThinkingPart(thinking="", signature="redacted:c2VjcmV0"),
    )


@pytest.mark.parametrize("reason", ["malformed_tool_use", "malformed_model_output", ""])
def test_a_bad_end_of_bedrock_is_no_reply(reason: str) -> None:
    with pytest.raises(InvalidReplyError, match="it ended with"):
        converse(block(0, {"text": "half"}), stop=reason)


def test_a_context_window_that_is_used_up_is_named() -> None:
    with pytest.raises(StreamError, match="the prompt is too long") as caught:
        converse(block(0, {"text": "half"}), stop="model_context_window_exceeded")
    assert caught.value.status == 400


def calls_of(*pieces: dict[str, Any]) -> list[tuple[str, object]]:
    body = sse(*pieces, chunk({}, "stop"))
    return [(call.tool_name, call.args) for call in read("chat completions", [body]).tool_calls]


TWO = [("add", {"a": 1}), ("add", {"a": 2})]


@pytest.mark.parametrize(
    "pieces",
    [
        [tool_piece(0, "c1", "add", '{"a": 1}'), tool_piece(0, "c2", "add", '{"a": 2}')],
        [tool_piece(0, None, "add", '{"a": 1}'), tool_piece(0, None, "add", '{"a": 2}')],
        [tool_piece(0, "c", "add", '{"a": 1}'), tool_piece(1, "c", "add", '{"a": 2}')],
        [tool_piece(None, None, "add", {"a": 1}), tool_piece(None, None, "add", {"a": 2})],
        [
            tool_piece(0, "c1", "add", ""),
            tool_piece(1, "c2", "add", ""),
            tool_piece(1, "c2", None, '{"a": 2}'),
            tool_piece(0, "c1", None, '{"a": 1}'),
        ],
        [
            tool_piece(0, "c1", "add", '{"a"'),
            tool_piece(0, "c1", "add", ": 1}"),
            tool_piece(1, "c2", "add", '{"a": 2}'),
            tool_piece(1, "c2", "add", ""),
        ],
        [
            tool_piece(0, "c1", "a", None),
            tool_piece(0, None, "dd", '{"a": 1}'),
            tool_piece(1, "c2", "add", '{"a": 2}'),
        ],
    ],
    ids=["one index", "no ids", "one id", "neither", "interleaved", "repeated", "name in pieces"],
)
def test_calls_are_told_apart_however_they_are_numbered(pieces: list[dict[str, Any]]) -> None:
    assert calls_of(*pieces) == TWO


@pytest.mark.parametrize(
    ("arguments", "args", "has_error"),
    [
        ('{"a": "\\ud83d"}', {"a": "\ufffd"}, False),
        ('{"a": NaN}', {}, True),
        ("[1]", {}, True),
        ("", {}, False),
        ("null", {}, False),
        ('{"a": ', {}, True),
    ],
)
def test_arguments_are_fit_to_be_stored_or_wrong(
    arguments: str, args: dict[str, Any], has_error: bool
) -> None:
    body = sse(tool_piece(0, "c1", "add", arguments), chunk({}, "tool_calls"))
    [call] = read("chat completions", [body]).tool_calls
    assert (call.args, call.args_error is not None) == (args, has_error)


@pytest.mark.parametrize("reason", ["error", "abort", "network_error", "MALFORMED_FUNCTION_CALL"])
def test_an_end_that_is_not_known_to_be_good_is_no_reply(reason: str) -> None:
    with pytest.raises(InvalidReplyError, match=reason):
        read("chat completions", [sse(chunk({"content": "half"}), chunk({}, reason))])


def test_an_error_inside_a_stream_has_its_status() -> None:
    body = sse(chunk({"content": "half"}), {"error": {"code": 502, "message": "gone"}})
    with pytest.raises(StreamError, match="gone") as caught:
        read("chat completions", [body])
    assert caught.value.status == 502
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    with pytest.raises(StreamError, match="busy") as caught:
        read("anthropic messages", [sse(overloaded)])
    assert caught.value.status == 529


@pytest.mark.parametrize(
    "pieces",
    [["<think>hm</think>\n\nyes"], ["<thi", "nk>", "h", "m</thi", "nk>", "\n", "\nyes"]],
)
def test_thinking_in_tags_is_thinking(pieces: list[str]) -> None:
    body = sse(*(chunk({"content": piece}) for piece in pieces), chunk({}, "stop"))
    reply = read("chat completions", [body])
    assert (reply.text, [part.thinking for part in reply.thinking]) == ("yes", ["hm"])


def test_tags_in_the_middle_of_a_text_are_text() -> None:
    body = sse(chunk({"content": "so: <think>"}), chunk({"content": " <"}), chunk({}, "stop"))
    assert read("chat completions", [body]).text == "so: <think> <"


def test_content_in_parts_is_read() -> None:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]
    body = sse(
        chunk({"content": parts}),
        chunk({"content": [{"type": "text", "text": "yes"}]}),
        chunk({}, "stop"),
    )
    reply = read("chat completions", [body])
    assert (reply.text, reply.thinking[0].thinking) == ("yes", "hm")


@pytest.mark.parametrize("payload", [b"data: {\n\n", b"data: 1\n\n", b'data: "\xff"\n\n'])
def test_a_part_that_cannot_be_read_makes_the_reply_invalid(payload: bytes) -> None:
    with pytest.raises(InvalidReplyError, match="a part of it"):
        read("chat completions", [sse(chunk({"content": "pay "}), end=payload)])
