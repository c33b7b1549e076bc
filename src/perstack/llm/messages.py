"""A conversation as the chat messages that litellm takes. Pure: equal input, equal bytes."""

from collections.abc import Iterable, Sequence
from typing import Any, assert_never

from perstack.core.media import media_part
from perstack.core.messages import (
    ExpertMessage,
    FileBinaryPart,
    FileInlinePart,
    FileUrlPart,
    ImageBinaryPart,
    ImageInlinePart,
    ImageUrlPart,
    InstructionMessage,
    Message,
    ResultPart,
    TextPart,
    ThinkingPart,
    ToolMessage,
    ToolResultPart,
    UserMessage,
    UserPart,
    media_note,
)
from perstack.core.tools import ToolDefinition
from perstack.llm.conversions import ChatMessage, Conversions, Convert
from perstack.llm.providers.profile import ProviderProfile
from perstack.tool_names import wire_name

Block = dict[str, Any]


def content_block(part: UserPart | ResultPart, profile: ProviderProfile) -> Block:
    match part:
        case TextPart():
            return text_block(part.text)
        case ImageUrlPart():
            return _image_url_block(part, profile)
        case FileUrlPart():
            return _file_url_block(part, profile)
        case ImageInlinePart() | FileInlinePart():
            return _media_block(part.mime_type, part.encoded_data, profile)
        case ImageBinaryPart() | FileBinaryPart():
            return _media_block(part.mime_type, part.data, profile)


def text_block(text: str) -> Block:
    return {"type": "text", "text": text}


def _image_block(url: str) -> Block:
    return {"type": "image_url", "image_url": {"url": url}}


def _image_url_block(part: ImageUrlPart, profile: ProviderProfile) -> Block:
    if profile.accepts_image_urls:
        return _image_block(part.url)
    # litellm would fetch it from this machine, past every check of addresses.
    return text_block(f"[image of type {part.mime_type} at {part.url}]")


def _file_url_block(part: FileUrlPart, profile: ProviderProfile) -> Block:
    if profile.accepts_file_urls:
        return {"type": "file", "file": {"file_id": part.url, "format": part.mime_type}}
    return text_block(f"[file of type {part.mime_type} at {part.url}]")


def _media_block(declared_type: str, encoded: str, profile: ProviderProfile) -> Block:
    # Also what was stored long ago, by a version that asked less of it, must not be refused.
    part = media_part(encoded, declared_type, "attachment", profile.media_rules)
    if isinstance(part, TextPart):
        return text_block(part.text)
    data_url = f"data:{part.mime_type};base64,{part.encoded_data}"
    if isinstance(part, ImageInlinePart):
        return _image_block(data_url)
    if not profile.accepts_files:
        return text_block(
            f"[a file of type {part.mime_type}, which {profile.name} models cannot be shown]"
        )
    name = f"file.{part.mime_type.rpartition('/')[2]}"
    file = {"filename": name, "file_data": data_url, "format": part.mime_type}
    return {"type": "file", "file": file}


REDACTED_THINKING = "redacted:"
"""Marks a signature that holds thinking which the provider sent encrypted; its text is empty."""

GOOGLE_SIGNATURE, OPENAI_SIGNATURE = "google:", "openai:"
"""Mark the signatures of these formats; those of Anthropic have no mark."""

ERROR_PREFIX = "Error: "
_CACHE_BREAKPOINT_TURNS = 2
_CACHE_CONTROL = {"type": "ephemeral"}


def chat_messages(messages: Sequence[Message], profile: ProviderProfile) -> list[ChatMessage]:
    """The conversation in chat form; for Anthropic with its thinking and with cache breakpoints."""
    return _chat_of(messages, profile, _convert)


def shared_chat_messages(
    messages: Sequence[Message], profile: ProviderProfile
) -> list[ChatMessage]:
    """As `chat_messages`, with documents that must not be changed.

    Each generation repeats the conversation, so what a message becomes is kept as long as it is.
    """
    return _chat_of(messages, profile, _shared_conversions)


def provider_chat_messages(
    messages: Sequence[Message], profile: ProviderProfile
) -> list[ChatMessage]:
    """As `shared_chat_messages`, with replies in which this provider called tools itself.

    Such a reply has its own form as `provider_content`, and the images and files that belong into
    it as `media`.
    """
    return _chat_of(messages, profile, _provider_conversions)


def _chat_of(
    messages: Sequence[Message],
    profile: ProviderProfile,
    convert: Convert,
) -> list[ChatMessage]:
    chat = [each for message in messages for each in convert(message, profile)]
    if profile.has_cache_breakpoints:
        _add_cache_breakpoints(chat)
    return chat


def _convert(message: Message, profile: ProviderProfile) -> list[ChatMessage]:
    match message:
        # The kinds that a long history is made of come first: to pydantic each miss is costly.
        case ExpertMessage():
            return _assistant_messages(message, profile)
        case ToolMessage():
            return _tool_messages(message, profile)
        case UserMessage():
            return [{"role": "user", "content": _user_content(message, profile)}]
        case InstructionMessage():
            return [_system_message(message, profile)]
        case _:
            assert_never(message)


def _convert_for_provider(message: Message, profile: ProviderProfile) -> list[ChatMessage]:
    chat = _convert(message, profile)
    if not isinstance(message, ExpertMessage):
        return chat
    part = message.provider_part
    if part is None or part.provider != profile.name:
        return chat
    reply = chat[0] if chat else {"role": "assistant", "content": None}
    media = [each.encoded_data for each in message.media]
    return [{**reply, "provider_content": part.content, "media": media}]


_shared_conversions = Conversions(_convert)
_provider_conversions = Conversions(_convert_for_provider)


def chat_tools(tools: Iterable[ToolDefinition]) -> list[dict[str, Any]]:
    """The tools, as the provider takes them, as function definitions."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
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


def signatures_by_call(messages: Sequence[Message], mark: str) -> dict[str, str]:
    """The signatures with a mark, without it, by the id of the first call of their turn."""
    return {
        message.tool_calls[0].tool_call_id: part.signature.removeprefix(mark)
        for message in messages
        if isinstance(message, ExpertMessage) and message.tool_calls
        for part in message.contents
        if isinstance(part, ThinkingPart) and part.signature and part.signature.startswith(mark)
    }


def _system_message(message: InstructionMessage, profile: ProviderProfile) -> ChatMessage:
    if not profile.has_cache_breakpoints:
        text = "\n\n".join(part for part in (message.stable, message.volatile) if part)
        return {"role": "system", "content": text}
    blocks = [{**text_block(message.stable), "cache_control": _CACHE_CONTROL}]
    if message.volatile:
        blocks.append(text_block(message.volatile))
    return {"role": "system", "content": blocks}


def _user_content(message: UserMessage, profile: ProviderProfile) -> str | list[Block]:
    blocks = [content_block(part, profile) for part in message.contents]
    if all(block["type"] == "text" for block in blocks):
        return "\n".join(block["text"] for block in blocks)
    return blocks


def _assistant_messages(message: ExpertMessage, profile: ProviderProfile) -> list[ChatMessage]:
    notes = map(media_note, message.media)
    text, calls = "\n".join([message.text, *notes]).strip("\n"), message.tool_calls
    if not text and not calls:
        return []  # Providers refuse a turn that says nothing.
    chat: ChatMessage = {"role": "assistant", "content": text or None}
    if profile.has_signed_thinking and (blocks := _thinking_blocks(message)):
        chat["thinking_blocks"] = blocks
    reasoning = "".join(
        part.thinking
        for part in message.contents
        if isinstance(part, ThinkingPart) and part.signature is None
    )
    if calls and reasoning and profile.returns_reasoning:
        chat["reasoning_content"] = reasoning
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
        if isinstance(part, ThinkingPart)
        and part.signature
        and not part.signature.startswith((GOOGLE_SIGNATURE, OPENAI_SIGNATURE))
    ]


def _thinking_block(thinking: str, signature: str) -> Block:
    if signature.startswith(REDACTED_THINKING):
        return {"type": "redacted_thinking", "data": signature.removeprefix(REDACTED_THINKING)}
    return {"type": "thinking", "thinking": thinking, "signature": signature}


def _tool_messages(message: ToolMessage, profile: ProviderProfile) -> list[ChatMessage]:
    """The results, and after them the images and files that a result cannot hold."""
    chat: list[ChatMessage] = []
    deferred_blocks: list[Block] = []
    for result in message.contents:
        content, deferred = _result_content(result, profile)
        chat.append({"role": "tool", "tool_call_id": result.tool_call_id, "content": content})
        deferred_blocks += deferred
    if deferred_blocks:
        chat.append({"role": "user", "content": deferred_blocks})
    return chat


def _result_content(
    result: ToolResultPart, profile: ProviderProfile
) -> tuple[str | list[Block], list[Block]]:
    all_blocks = [content_block(part, profile) for part in result.contents]
    texts = [block["text"] for block in all_blocks if block["type"] == "text"]
    media = [block for block in all_blocks if block["type"] != "text"]
    is_inline = profile.accepts_media_in_results
    inline_media, deferred_media = (media, []) if is_inline else ([], media)
    if deferred_media:
        texts.append("[The content of this result follows after the results.]")
    text = "\n".join(texts)
    if result.is_error:
        # Chat formats have no flag for it.
        text = ERROR_PREFIX + text
    deferred_blocks: list[Block] = []
    if deferred_media:
        deferred_blocks.append(text_block(f"Content of the result of {result.tool_name}:"))
        deferred_blocks += deferred_media
    if not inline_media:
        return text, deferred_blocks
    blocks = [text_block(text)] if text else []
    return [*blocks, *inline_media], deferred_blocks


def _add_cache_breakpoints(chat: list[ChatMessage]) -> None:
    """Put breakpoints on the newest turns of the caller, so that the next call finds this prefix.

    Two of them, because the turn before the newest is where the last call's breakpoint was. With
    the one on the instruction, three of the four that are allowed.
    """
    remaining = _CACHE_BREAKPOINT_TURNS
    is_in_user_turn = False
    for index in range(len(chat) - 1, -1, -1):
        is_user_message = chat[index]["role"] in {"user", "tool"}
        if is_user_message and not is_in_user_turn and remaining > 0:
            chat[index] = _with_cache_breakpoint(chat[index])
            remaining -= 1
        is_in_user_turn = is_user_message


def _with_cache_breakpoint(message: ChatMessage) -> ChatMessage:
    content = message["content"]
    if message["role"] == "tool":
        # litellm takes the mark of a result from the message.
        return {**message, "cache_control": _CACHE_CONTROL}
    blocks = [text_block(content)] if isinstance(content, str) else list(content)
    blocks[-1] = {**blocks[-1], "cache_control": _CACHE_CONTROL}
    return {**message, "content": blocks}
