"""Conversations as the chat messages that go to litellm."""

import base64

from inline_snapshot import snapshot

from perstack.core.messages import (
    ExpertMessage,
    FileInlinePart,
    FileUrlPart,
    ImageInlinePart,
    ImageUrlPart,
    TextPart,
    ThinkingPart,
    ToolMessage,
    ToolResultPart,
    UserMessage,
)
from perstack.llm.conversions import Conversions
from perstack.llm.messages import can_think, chat_messages, chat_tools, shared_chat_messages
from perstack.llm.providers.anthropic import ANTHROPIC
from perstack.llm.providers.ollama import OLLAMA
from perstack.llm.providers.openai import OPENAI
from perstack.llm.providers.profile import ProviderProfile
from tests.llm.conversation import ADD, INSTRUCTION, answers, calls, returns, says

IMAGE = ImageInlinePart(encoded_data="iVBORw0KGgo=", mime_type="image/png")
PDF = FileInlinePart(encoded_data="JVBERi0=", mime_type="application/pdf")
NOTE = FileInlinePart(encoded_data=base64.b64encode(b"a note").decode(), mime_type="text/plain")
SIGNED = ThinkingPart(thinking="one and two", signature="seal")


def result_with(*contents: TextPart | ImageInlinePart | FileInlinePart) -> ToolMessage:
    return ToolMessage(
        contents=(ToolResultPart(tool_call_id="c1", tool_name="look", contents=contents),)
    )


def test_openai_gets_plain_chat_messages() -> None:
    conversation = [INSTRUCTION, says("add"), calls("c1"), returns("c1", "3"), answers("It is 3.")]

    assert chat_messages(conversation, OPENAI) == snapshot(
        [
            {
                "role": "system",
                "content": """\
You add.

It is noon.\
""",
            },
            {"role": "user", "content": "add"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "add", "arguments": '{"a": 1}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "3"},
            {"role": "assistant", "content": "It is 3."},
        ]
    )


def test_anthropic_gets_thinking_back_and_cache_breakpoints() -> None:
    conversation = [INSTRUCTION, says("add"), calls("c1", SIGNED), returns("c1", "3")]

    assert chat_messages(conversation, ANTHROPIC) == snapshot(
        [
            {
                "role": "system",
                "content": [
                    {"type": "text", "text": "You add.", "cache_control": {"type": "ephemeral"}},
                    {"type": "text", "text": "It is noon."},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "add", "cache_control": {"type": "ephemeral"}}
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "thinking_blocks": [
                    {"type": "thinking", "thinking": "one and two", "signature": "seal"}
                ],
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "add", "arguments": '{"a": 1}'},
                    }
                ],
            },
            {
                "role": "tool",
                "tool_call_id": "c1",
                "content": "3",
                "cache_control": {"type": "ephemeral"},
            },
        ]
    )


def test_only_the_last_two_turns_and_the_instruction_are_breakpoints() -> None:
    conversation = [INSTRUCTION]
    for number in range(5):
        conversation += [says("add"), calls(f"c{number}"), returns(f"c{number}", "3"), answers("3")]
    chat = chat_messages(conversation, ANTHROPIC)

    marked = [index for index, message in enumerate(chat) if "cache_control" in repr(message)]

    assert marked == [0, len(chat) - 4, len(chat) - 2]


def test_the_prefix_of_a_conversation_stays_the_same_when_it_grows() -> None:
    start = [INSTRUCTION, says("add"), calls("c1"), returns("c1", "3")]

    short = chat_messages(start, OPENAI)
    long = chat_messages([*start, answers("3"), says("and 4?")], OPENAI)

    assert long[: len(short)] == short


def test_a_failed_tool_call_says_so() -> None:
    chat = chat_messages([returns("c1", "no such file", is_error=True)], OPENAI)

    assert chat[0]["content"] == "Error: no such file"


def test_thinking_of_another_provider_is_not_sent_to_anthropic() -> None:
    chat = chat_messages([calls("c1", ThinkingPart(thinking="hm"))], ANTHROPIC)

    assert "thinking_blocks" not in chat[0]


def test_thinking_that_came_encrypted_goes_back_encrypted() -> None:
    chat = chat_messages(
        [calls("c1", ThinkingPart(thinking="", signature="redacted:c2VjcmV0"))], ANTHROPIC
    )

    assert chat[0]["thinking_blocks"] == [{"type": "redacted_thinking", "data": "c2VjcmV0"}]


def test_a_turn_that_says_nothing_is_left_out() -> None:
    assert chat_messages([ExpertMessage(contents=(SIGNED,))], OPENAI) == []


def test_images_and_files_of_the_caller_become_content_blocks() -> None:
    message = UserMessage(
        contents=(
            TextPart(text="look"),
            ImageUrlPart(url="https://example.com/a.png", mime_type="image/png"),
            IMAGE,
            PDF,
            NOTE,
        )
    )

    assert chat_messages([message], OPENAI) == snapshot(
        [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "look"},
                    {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                    {
                        "type": "image_url",
                        "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="},
                    },
                    {
                        "type": "file",
                        "file": {
                            "filename": "file.pdf",
                            "file_data": "data:application/pdf;base64,JVBERi0=",
                            "format": "application/pdf",
                        },
                    },
                    {"type": "text", "text": "a note"},
                ],
            }
        ]
    )


def test_what_a_provider_cannot_show_is_named() -> None:
    message = UserMessage(
        contents=(
            PDF,
            ImageUrlPart(url="https://example.com/a.png", mime_type="image/png"),
            FileUrlPart(url="https://example.com/a.pdf", mime_type="application/pdf"),
        )
    )

    assert chat_messages([message], OLLAMA)[0]["content"] == snapshot("""\
[a file of type application/pdf, which ollama models cannot be shown]
[image of type image/png at https://example.com/a.png]
[file of type application/pdf at https://example.com/a.pdf]\
""")


def test_an_image_in_a_result_follows_the_results_where_a_result_holds_text_only() -> None:
    assert chat_messages([result_with(TextPart(text="taken"), IMAGE)], OPENAI) == snapshot(
        [
            {
                "role": "tool",
                "tool_call_id": "c1",
                "content": """\
taken
[The content of this result follows after the results.]\
""",
            },
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Content of the result of look:"},
                    {
                        "type": "image_url",
                        "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="},
                    },
                ],
            },
        ]
    )


def test_an_image_in_a_result_stays_inside_for_anthropic() -> None:
    chat = chat_messages([result_with(TextPart(text="taken"), IMAGE)], ANTHROPIC)

    assert [block["type"] for block in chat[0]["content"]] == ["text", "image_url"]
    assert len(chat) == 1


def test_images_follow_all_results_of_a_turn() -> None:
    results = [
        ToolResultPart(tool_call_id=call_id, tool_name="look", contents=(IMAGE,))
        for call_id in ("c1", "c2")
    ]
    chat = chat_messages([ToolMessage(contents=tuple(results))], OPENAI)

    assert [message["role"] for message in chat] == ["tool", "tool", "user"]


def test_tools_become_functions() -> None:
    assert chat_tools([ADD]) == snapshot(
        [
            {
                "type": "function",
                "function": {
                    "name": "add",
                    "description": "Adds",
                    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
                },
            }
        ]
    )


def test_thinking_is_possible_until_a_call_was_made_without_it() -> None:
    assert can_think([says("add")])
    assert can_think([says("add"), calls("c1", SIGNED), returns("c1", "3")])
    assert not can_think([says("add"), calls("c1"), returns("c1", "3")])


def test_shared_messages_are_the_same_conversation_for_each_profile() -> None:
    conversation = [INSTRUCTION, says("add"), calls("c1"), returns("c1", "3"), says("and 4?")]

    for profile in (ANTHROPIC, OPENAI, ANTHROPIC, OPENAI):
        assert shared_chat_messages(conversation, profile) == chat_messages(conversation, profile)


def test_a_message_is_converted_once_for_a_profile_and_forgotten_with_the_message() -> None:
    converted: list[str] = []

    def convert(_message: UserMessage, profile: ProviderProfile) -> None:
        converted.append(profile.name)

    conversions = Conversions(convert)
    message = says("add")

    for profile in (OPENAI, OPENAI, ANTHROPIC, ANTHROPIC):
        conversions(message, profile)
    assert converted == ["openai", "anthropic"]
    assert len(conversions) == 1

    del message
    assert len(conversions) == 0
