"""What becomes of a server's answer."""

import base64
from typing import Any

import pytest
from mcp.types import CallToolResult

from perstack.core.messages import FileInlinePart, ImageInlinePart, ResultPart, TextPart
from perstack.redaction import Redactor, secret_variables
from perstack.skills.convert import to_tool_result
from tests.skills.harness import call

DATA = base64.b64encode(b"some bytes").decode()


def converted(*content: dict[str, Any], **fields: Any) -> tuple[ResultPart, ...]:
    answer = CallToolResult.model_validate({"content": list(content), **fields})
    return to_tool_result(call("look", where="here"), answer, str).result


@pytest.mark.parametrize(
    ("block", "part"),
    [
        ({"type": "text", "text": "words"}, TextPart(text="words")),
        (
            {"type": "image", "data": DATA, "mimeType": "image/png"},
            ImageInlinePart(encoded_data=DATA, mime_type="image/png"),
        ),
        (
            {"type": "audio", "data": DATA, "mimeType": "audio/wav"},
            TextPart(text="[A sound of type audio/wav, 12 bytes, not shown.]"),
        ),
        (
            {"type": "resource", "resource": {"uri": "a://b", "text": "inside"}},
            TextPart(text="inside"),
        ),
        (
            {
                "type": "resource",
                "resource": {"uri": "a://b", "blob": DATA, "mimeType": "application/pdf"},
            },
            FileInlinePart(encoded_data=DATA, mime_type="application/pdf"),
        ),
        (
            {
                "type": "resource",
                "resource": {"uri": "a://b", "blob": DATA, "mimeType": "image/png"},
            },
            ImageInlinePart(encoded_data=DATA, mime_type="image/png"),
        ),
        (
            {"type": "resource", "resource": {"uri": "a://b", "blob": DATA}},
            FileInlinePart(encoded_data=DATA, mime_type="application/octet-stream"),
        ),
        (
            {"type": "resource_link", "name": "b", "uri": "a://b", "description": "a letter"},
            TextPart(text="[Link to a resource: b, a://b, a letter]"),
        ),
        (
            {"type": "image", "data": "not base64!", "mimeType": "image/png"},
            TextPart(text="[image: its data of type image/png is not valid base64.]"),
        ),
    ],
)
def test_each_kind_of_content_becomes_a_part(block: dict[str, Any], part: ResultPart) -> None:
    assert converted(block) == (part,)


def test_structured_content_stands_in_for_missing_text() -> None:
    assert converted(structuredContent={"grüße": 1}) == (TextPart(text='{"grüße": 1}'),)


def test_structured_content_is_not_repeated_beside_text() -> None:
    block = {"type": "text", "text": "words"}

    assert converted(block, structuredContent={"words": True}) == (TextPart(text="words"),)


def test_an_answer_of_nothing_says_so() -> None:
    assert converted({"type": "text", "text": ""}) == (
        TextPart(text='Tool look returned nothing with arguments: {"where": "here"}'),
    )


def test_an_error_stays_an_error() -> None:
    answer = CallToolResult.model_validate(
        {"content": [{"type": "text", "text": "no"}], "isError": True}
    )

    assert to_tool_result(call("look"), answer, str).is_error


def test_diagnostics_lose_every_value_and_results_those_named_like_secrets() -> None:
    variables = {"API_TOKEN": "abcd-1234", "DATA_FOLDER": "/srv/data", "PIN_KEY": "123"}
    text = "token abcd-1234 in /srv/data, 123"

    assert (
        Redactor.of_variables(variables).redact(text) == "token [API_TOKEN] in [DATA_FOLDER], 123"
    )
    in_results = Redactor.of_variables(secret_variables(variables))
    assert in_results.redact(text) == "token [API_TOKEN] in /srv/data, 123"


def test_each_line_of_a_key_is_taken_out() -> None:
    redactor = Redactor.of_variables({"PRIVATE_KEY": "-----BEGIN-----\nMIIB1234\n-----END-----"})

    assert redactor.redact('"MIIB1234"') == '"[PRIVATE_KEY]"'
