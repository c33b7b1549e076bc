"""Replies in which a provider called tools itself: kept as they were, told, and sent back."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perstack.core.messages import Citation, ImageInlinePart
from perstack.llm.wire.anthropic_messages import AnthropicMessages
from perstack.llm.wire.format import WireFormat
from perstack.llm.wire.framing import ServerSentEvents
from perstack.llm.wire.gemini import Gemini
from perstack.llm.wire.reply import InvalidReplyError, ReplyBuilder
from perstack.llm.wire.responses import Responses
from perstack.runtime.ports import Generation
from tests.llm.provider_replies import (
    CLAUDE_SEARCHES,
    GEMINI_SEARCHES,
    GPT_SEARCHES,
    PIXEL,
    SEARCH,
    claude,
    gemini,
    gpt,
)
from tests.llm.wire.reading import read_stream, split_at
from tests.model_server import Verbatim

FORMATS: dict[str, tuple[WireFormat, Verbatim]] = {
    "anthropic": (AnthropicMessages(), CLAUDE_SEARCHES),
    "google": (Gemini(), GEMINI_SEARCHES),
    "openai": (Responses(), GPT_SEARCHES),
}
every_format = pytest.mark.parametrize("provider", FORMATS)


def body_of(events: Verbatim) -> bytes:
    return b"".join(b"data: %s\n\n" % json.dumps(event).encode() for event in events.events)


def streamed(provider: str, pieces: list[bytes]) -> Generation:
    return read_stream(FORMATS[provider][0], ServerSentEvents(), pieces, provider=provider)


def whole(wire: WireFormat, reply: Verbatim, provider: str = "") -> Generation:
    builder = ReplyBuilder(None, provider=provider)
    wire.reader(builder).add_whole(dict(reply.whole))
    return builder.build()


@every_format
def test_a_streamed_reply_is_the_same_as_a_whole_one(provider: str) -> None:
    wire, reply = FORMATS[provider]

    assert streamed(provider, [body_of(reply)]) == whole(wire, reply, provider)


@every_format
@given(cuts=st.lists(st.integers(0, 5_000), max_size=20))
def test_it_does_not_depend_on_how_its_bytes_are_split(provider: str, cuts: list[int]) -> None:
    wire, reply = FORMATS[provider]

    assert streamed(provider, split_at(body_of(reply), cuts)) == whole(wire, reply, provider)


@every_format
def test_a_stream_that_is_cut_is_never_a_whole_reply(provider: str) -> None:
    body = body_of(FORMATS[provider][1])
    end = {"anthropic": b'"message_stop"', "google": b'"finishReason"'}
    last = body.index(end.get(provider, b'"response.completed"'))

    for cut in range(0, last, 7):
        with pytest.raises(InvalidReplyError):
            streamed(provider, [body[:cut]])


@every_format
def test_only_the_tools_of_the_expert_are_its_to_call(provider: str) -> None:
    reply = whole(*FORMATS[provider])

    assert [(call.tool_call_id, call.tool_name, call.args) for call in reply.tool_calls] == [
        ("c1", "add", {"a": 1})
    ]
    assert reply.finish_reason == "toolCalls"


@pytest.mark.parametrize(
    ("provider", "text", "citation", "tools", "media"),
    [
        (
            "anthropic",
            "I look. The sun is hot.",
            Citation(
                url="https://sun.example", title="Sun", cited_text="It is hot.", start=8, end=22
            ),
            ("web_search",),
            (),
        ),
        (
            "google",
            "Ja: die Sonne ist heiß.",
            Citation(url="https://sun.example", title="Sun", start=4, end=23),
            ("google_search_web", "code_execution"),
            (ImageInlinePart(encoded_data=PIXEL, mime_type="image/png"),),
        ),
        (
            "openai",
            "The sun is hot.",
            Citation(url="https://sun.example", title="Sun", start=4, end=14),
            ("web_search", "image_generation"),
            (ImageInlinePart(encoded_data=PIXEL, mime_type="image/png"),),
        ),
    ],
)
def test_sources_images_and_tools_are_told(
    provider: str,
    text: str,
    citation: Citation,
    tools: tuple[str, ...],
    media: tuple[ImageInlinePart, ...],
) -> None:
    reply = whole(*FORMATS[provider], provider)
    part = reply.provider_part

    assert part is not None
    assert (reply.text, reply.citations, reply.media) == (text, (citation,), media)
    assert (part.provider, part.tools) == (provider, tools)
    assert PIXEL not in json.dumps(part.content)


@pytest.mark.parametrize(
    ("wire", "reply"),
    [
        (AnthropicMessages(), claude({"type": "text", "text": "Hello."})),
        (Gemini(), gemini({"text": "Hello."})),
        (Responses(), gpt({"type": "message", "content": [{"type": "text", "text": "Hello."}]})),
    ],
    ids=["anthropic", "google", "openai"],
)
def test_a_reply_without_such_tools_is_kept_as_text_alone(
    wire: WireFormat, reply: Verbatim
) -> None:
    assert whole(wire, reply).provider_part is None
    assert whole(wire, reply).text == "Hello."


def test_a_paused_reply_is_no_end() -> None:
    reply = whole(AnthropicMessages(), claude(SEARCH, stop="pause_turn"))

    assert reply.finish_reason == "paused"
    assert reply.provider_part is not None
    assert reply.provider_part.content == {"content": [SEARCH]}


ODD_REPLIES: list[tuple[WireFormat, dict[str, Any]]] = [
    (AnthropicMessages(), {"content": [{"type": None}, {"type": "odd"}, 1]}),
    (AnthropicMessages(), {"content": [{"type": "text", "citations": [None, 1, {}]}]}),
    (
        AnthropicMessages(),
        {"content": [{"type": "server_tool_use", "name": None}], "container": {"id": 5}},
    ),
    (Responses(), {"output": [{"type": "odd_call"}, {"type": 1}, 2, {}]}),
    (
        Responses(),
        {"output": [{"type": "message", "content": [{"text": "a", "annotations": [1, None, {}]}]}]},
    ),
    (Responses(), {"output": [{"type": "image_generation_call", "result": 5}]}),
]


@pytest.mark.parametrize(("wire", "document"), ODD_REPLIES)
def test_odd_pieces_of_a_reply_break_nothing(wire: WireFormat, document: dict[str, object]) -> None:
    ended = {"stop_reason": "end_turn", "status": "completed", **document}
    builder = ReplyBuilder(None)

    wire.reader(builder).add_whole(ended)

    assert builder.build().tool_calls == ()


def test_a_reply_that_is_nested_too_deeply_is_no_reply() -> None:
    nested: dict[str, Any] = {"type": "server_tool_use", "name": "web_search"}
    for _ in range(950):
        nested = {"type": "odd", "content": nested}

    with pytest.raises(InvalidReplyError, match="nested too deeply"):
        whole(AnthropicMessages(), claude(nested))


@pytest.mark.parametrize(
    "grounding",
    [
        {"groundingChunks": [1, {}, {"web": None}], "groundingSupports": [None, {"segment": 1}]},
        {"groundingSupports": [{"groundingChunkIndices": [0, 7, "a", -1]}]},
        {
            "groundingChunks": [{"web": {"uri": "https://a.example"}}],
            "groundingSupports": [
                {"segment": {"startIndex": 900, "text": "nowhere"}, "groundingChunkIndices": [0]}
            ],
        },
    ],
)
def test_odd_sources_break_nothing(grounding: dict[str, object]) -> None:
    reply = whole(Gemini(), gemini({"text": "Hello."}, groundingMetadata=grounding))

    assert all(citation.start is None for citation in reply.citations)
