"""What jobs have stored that no provider takes: a conversation with it goes on all the same."""

import base64

import pytest

from perstack.core.media import MEBIBYTE
from perstack.core.messages import (
    FileBinaryPart,
    FileInlinePart,
    ImageBinaryPart,
    ImageInlinePart,
    ResultPart,
    ToolMessage,
    ToolResultPart,
    UserMessage,
    UserPart,
)
from perstack.llm.messages import Block, chat_messages, content_block
from perstack.llm.providers.amazon_bedrock import AMAZON_BEDROCK
from perstack.llm.providers.anthropic import ANTHROPIC
from perstack.llm.providers.google import GOOGLE
from perstack.llm.providers.openai import OPENAI
from perstack.llm.providers.profile import ProviderProfile

PNG, JPEG, GZIP = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"\x1f\x8b\x08\0"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


def image(data: bytes, mime_type: str) -> ImageInlinePart:
    return ImageInlinePart(encoded_data=base64.b64encode(data).decode(), mime_type=mime_type)


def file(data: bytes, mime_type: str) -> FileInlinePart:
    return FileInlinePart(encoded_data=base64.b64encode(data).decode(), mime_type=mime_type)


@pytest.mark.parametrize("profile", [ANTHROPIC, OPENAI, GOOGLE, AMAZON_BEDROCK])
@pytest.mark.parametrize(
    ("part", "block"),
    [
        (image(b"<svg/>", "image/svg+xml"), {"type": "text", "text": "<svg/>"}),
        (
            image(b"", "image/png"),
            {"type": "text", "text": "[attachment: its data of type image/png is empty.]"},
        ),
        (
            file(GZIP, "application/gzip"),
            {
                "type": "text",
                "text": "[attachment: content of type application/gzip, 4 bytes, that the model "
                "cannot be shown.]",
            },
        ),
        (
            file(b'{"a": 1}', "application/json; charset=utf-8"),
            {"type": "text", "text": '{"a": 1}'},
        ),
        (
            image(JPEG, "image/png"),
            {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,/9j/4A=="}},
        ),
        (
            image(PNG, "IMAGE/PNG"),
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
        ),
        (
            ImageBinaryPart(data="/9j/4A==", mime_type="image/jpg"),
            {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,/9j/4A=="}},
        ),
        (
            FileBinaryPart(data="iVBORw0KGgo=", mime_type="application/octet-stream"),
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
        ),
    ],
)
def test_a_stored_part_is_sent_as_what_it_is(
    profile: ProviderProfile, part: UserPart, block: Block
) -> None:
    assert content_block(part, profile) == block


@pytest.mark.parametrize(
    ("profile", "kind"),
    [(ANTHROPIC, "text"), (AMAZON_BEDROCK, "text"), (OPENAI, "image_url"), (GOOGLE, "image_url")],
)
def test_an_image_is_sent_if_the_provider_takes_one_of_its_size(
    profile: ProviderProfile, kind: str
) -> None:
    large = image(PNG + bytes(4 * MEBIBYTE), "image/png")

    block = content_block(large, profile)

    assert block["type"] == kind
    assert kind != "text" or "too large to be shown" in block["text"]


@pytest.mark.parametrize(
    ("profile", "mime_type", "kind"),
    [
        (AMAZON_BEDROCK, DOCX, "file"),
        (ANTHROPIC, DOCX, "text"),
        (OPENAI, DOCX, "text"),
        (GOOGLE, "audio/mpeg", "file"),
        (OPENAI, "audio/mpeg", "text"),
    ],
)
def test_a_file_is_sent_if_the_provider_takes_its_kind(
    profile: ProviderProfile, mime_type: str, kind: str
) -> None:
    assert content_block(file(b"PK\x03\x04\0", mime_type), profile)["type"] == kind


def test_what_becomes_a_note_stays_in_the_result_that_it_is_part_of() -> None:
    contents: tuple[ResultPart, ...] = (image(b"", "image/png"), file(GZIP, "application/gzip"))
    result = ToolResultPart(tool_call_id="c1", tool_name="look", contents=contents)

    chat = chat_messages([UserMessage(contents=()), ToolMessage(contents=(result,))], OPENAI)

    assert [message["role"] for message in chat] == ["user", "tool"]
    assert "is empty" in chat[1]["content"]
    assert "application/gzip" in chat[1]["content"]
