"""Text, images and files as chat content."""

import base64
import binascii
from typing import Any

from perstack.core.messages import (
    FileBinaryPart,
    FileInlinePart,
    FileUrlPart,
    ImageBinaryPart,
    ImageInlinePart,
    ImageUrlPart,
    ResultPart,
    TextPart,
    UserPart,
)
from perstack.definition.model import ProviderName

Block = dict[str, Any]

# The others are told that a file is there, because their chat format has no place for one.
_TAKES_FILES = frozenset({"anthropic", "openai"})
_FETCHES_IMAGES = frozenset({"anthropic", "openai"})
_TAKES_FILE_URLS = frozenset({"anthropic"})
_TEXT_LIKE = frozenset({"application/json", "application/xml", "application/yaml"})


def content_block(part: UserPart | ResultPart, provider: ProviderName) -> Block:
    """One part as a content block."""
    match part:
        case TextPart():
            return text_block(part.text)
        case ImageUrlPart():
            return _linked_image(part, provider)
        case ImageInlinePart():
            return _image(_data_url(part.mime_type, part.encoded_data))
        case ImageBinaryPart():
            return _image(_data_url(part.mime_type, part.data))
        case FileUrlPart():
            return _linked_file(part, provider)
        case FileInlinePart():
            return _file(part.mime_type, part.encoded_data, provider)
        case FileBinaryPart():
            return _file(part.mime_type, part.data, provider)


def text_block(text: str) -> Block:
    """A text block."""
    return {"type": "text", "text": text}


def _image(url: str) -> Block:
    return {"type": "image_url", "image_url": {"url": url}}


def _linked_image(part: ImageUrlPart, provider: ProviderName) -> Block:
    if provider in _FETCHES_IMAGES:
        return _image(part.url)
    # litellm would fetch it from this machine, past every check of addresses.
    return text_block(f"[image of type {part.mime_type} at {part.url}]")


def _data_url(mime_type: str, encoded: str) -> str:
    return f"data:{mime_type};base64,{encoded}"


def _linked_file(part: FileUrlPart, provider: ProviderName) -> Block:
    if provider in _TAKES_FILE_URLS:
        return {"type": "file", "file": {"file_id": part.url, "format": part.mime_type}}
    return text_block(f"[file of type {part.mime_type} at {part.url}]")


def _file(mime_type: str, encoded: str, provider: ProviderName) -> Block:
    if mime_type.startswith("text/") or mime_type in _TEXT_LIKE:
        return text_block(_decoded(encoded))
    if provider not in _TAKES_FILES:
        return text_block(f"[a file of type {mime_type}, which {provider} models cannot be shown]")
    name = f"file.{mime_type.rpartition('/')[2]}"
    data = _data_url(mime_type, encoded)
    return {"type": "file", "file": {"filename": name, "file_data": data, "format": mime_type}}


def _decoded(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode("utf-8", errors="replace")
    except binascii.Error:
        return "[a text file that cannot be decoded]"
