"""A conversation as the chat messages that litellm takes. Pure: equal input, equal bytes."""

from collections.abc import Iterable, Sequence
from typing import Any, assert_never

from perstack.core.messages import (
    ExpertMessage,
    InstructionMessage,
    Message,
    TextPart,
    ThinkingPart,
    ToolMessage,
    ToolResultPart,
    UserMessage,
)
from perstack.core.tools import ToolDefinition
from perstack.definition.model import ProviderName
from perstack.llm.parts import Block, content_block, text_block
from perstack.llm.tool_names import wire_name

ChatMessage = dict[str, Any]

REDACTED_THINKING = "redacted:"
"""Marks a signature that holds thinking which the provider sent encrypted; its text is empty."""

ERROR_MARK = "Error: "
_CACHED_TURNS = 2
_CACHE_CONTROL = {"type": "ephemeral"}


def chat_messages(messages: Sequence[Message], provider: ProviderName) -> list[ChatMessage]:
    """The conversation in chat form; for Anthropic with its thinking and with cache breakpoints."""
    chat: list[ChatMessage] = []
    for message in messages:
        match message:
            # The kinds that a long history is made of come first: to pydantic each miss is costly.
            case ExpertMessage():
                chat.extend(_assistant(message, provider))
            case ToolMessage():
                chat.extend(_tool_results(message, provider))
            case UserMessage():
                chat.append({"role": "user", "content": _user_content(message, provider)})
            case InstructionMessage():
                chat.append(_system(message, provider))
            case _:
                assert_never(message)
    if provider == "anthropic":
        _mark_last_turns(chat)
    return chat


def chat_tools(tools: Iterable[ToolDefinition]) -> list[dict[str, Any]]:
    """The tools as function definitions."""
    return [
        {
            "type": "function",
            "function": {
                "name": wire_name(tool.name),
                "description": tool.description,
                "parameters": tool.input_schema,
            },
        }
        for tool in tools
    ]


def can_think(messages: Sequence[Message]) -> bool:
    """Whether Anthropic accepts thinking for this history.

    It refuses a history whose tool calls were made without any thinking, which is what a run has
    that began with another model or with thinking switched off.
    """
    experts = [message for message in messages if isinstance(message, ExpertMessage)]
    return not any(message.tool_calls for message in experts) or any(
        _thinking_blocks(message) for message in experts
    )


def _system(message: InstructionMessage, provider: ProviderName) -> ChatMessage:
    if provider != "anthropic":
        text = "\n\n".join(part for part in (message.stable, message.volatile) if part)
        return {"role": "system", "content": text}
    blocks = [{**text_block(message.stable), "cache_control": _CACHE_CONTROL}]
    if message.volatile:
        blocks.append(text_block(message.volatile))
    return {"role": "system", "content": blocks}


def _user_content(message: UserMessage, provider: ProviderName) -> str | list[Block]:
    blocks = [content_block(part, provider) for part in message.contents]
    if all(block["type"] == "text" for block in blocks):
        return "\n".join(block["text"] for block in blocks)
    return blocks


def _assistant(message: ExpertMessage, provider: ProviderName) -> list[ChatMessage]:
    text, calls = message.text, message.tool_calls
    if not text and not calls:
        return []  # Providers refuse a turn that says nothing.
    chat: ChatMessage = {"role": "assistant", "content": text or None}
    if provider == "anthropic" and (blocks := _thinking_blocks(message)):
        chat["thinking_blocks"] = blocks
    if calls:
        chat["tool_calls"] = [
            {
                "id": call.tool_call_id,
                "type": "function",
                "function": {"name": wire_name(call.tool_name), "arguments": call.args_json},
            }
            for call in calls
        ]
    return [chat]


def _thinking_blocks(message: ExpertMessage) -> list[Block]:
    """What Anthropic wants back; it refuses thinking without a signature, which is not its own."""
    return [
        _thinking_block(part.thinking, part.signature)
        for part in message.contents
        if isinstance(part, ThinkingPart) and part.signature
    ]


def _thinking_block(thinking: str, signature: str) -> Block:
    if signature.startswith(REDACTED_THINKING):
        return {"type": "redacted_thinking", "data": signature.removeprefix(REDACTED_THINKING)}
    return {"type": "thinking", "thinking": thinking, "signature": signature}


def _tool_results(message: ToolMessage, provider: ProviderName) -> list[ChatMessage]:
    """The results, and after them the images and files that a result cannot hold."""
    chat: list[ChatMessage] = []
    shown_after: list[Block] = []
    for result in message.contents:
        inside, after = _result_content(result, provider)
        chat.append({"role": "tool", "tool_call_id": result.tool_call_id, "content": inside})
        shown_after += after
    if shown_after:
        chat.append({"role": "user", "content": shown_after})
    return chat


def _result_content(
    result: ToolResultPart, provider: ProviderName
) -> tuple[str | list[Block], list[Block]]:
    texts = [part.text for part in result.contents if isinstance(part, TextPart)]
    media = [part for part in result.contents if not isinstance(part, TextPart)]
    # Only Anthropic takes images and files inside a result.
    inside, after = (media, []) if provider == "anthropic" else ([], media)
    if after:
        texts.append("[The content of this result follows after the results.]")
    text = "\n".join(texts)
    if result.is_error:
        # Chat formats have no flag for it.
        text = ERROR_MARK + text
    shown_after: list[Block] = []
    if after:
        shown_after.append(text_block(f"Content of the result of {result.tool_name}:"))
        shown_after += [content_block(part, provider) for part in after]
    if not inside:
        return text, shown_after
    blocks = [text_block(text)] if text else []
    return [*blocks, *(content_block(part, provider) for part in inside)], shown_after


def _mark_last_turns(chat: list[ChatMessage]) -> None:
    """Put breakpoints on the newest turns of the caller, so that the next call finds this prefix.

    Two of them, because the turn before the newest is where the last call's breakpoint was. With
    the one on the instruction, three of the four that are allowed.
    """
    left = _CACHED_TURNS
    is_inside_turn = False
    for message in reversed(chat):
        is_callers = message["role"] in {"user", "tool"}
        if is_callers and not is_inside_turn and left > 0:
            _mark(message)
            left -= 1
        is_inside_turn = is_callers


def _mark(message: ChatMessage) -> None:
    content = message["content"]
    if message["role"] == "tool":
        # litellm takes the mark of a result from the message.
        message["cache_control"] = _CACHE_CONTROL
        return
    blocks = [text_block(content)] if isinstance(content, str) else list(content)
    blocks[-1] = {**blocks[-1], "cache_control": _CACHE_CONTROL}
    message["content"] = blocks
