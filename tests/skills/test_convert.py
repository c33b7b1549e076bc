"""What becomes of a server's answer."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perstack.core.messages import FileInlinePart, ImageInlinePart, ResultPart, TextPart
from perstack.redaction import Redactor, secret_variables
from perstack.skills.convert import to_tool_result
from tests.skills.harness import call

PNG, JPEG, GIF, WEBP = (
    b"\x89PNG\r\n\x1a\n rest",
    b"\xff\xd8\xff\xe0\0\x10JFIF",
    b"GIF89a rest",
    b"RIFF\x10\0\0\0WEBPVP8 ",
)
PDF = b"%PDF-1.7 rest"
GZIP = b"\x1f\x8b\x08\0"


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def image(data: bytes, mime_type: str) -> dict[str, Any]:
    return {"type": "image", "data": encoded(data), "mimeType": mime_type}


def blob(data: bytes, **fields: Any) -> dict[str, Any]:
    return {"type": "resource", "resource": {"uri": "a://b", "blob": encoded(data), **fields}}


def converted(*content: Any, **fields: Any) -> tuple[ResultPart, ...]:
    return to_tool_result(call("look", where="here"), {"content": [*content], **fields}, str).result


def text_of(result: dict[str, Any]) -> str:
    return to_tool_result(call("look"), result, str).text


@pytest.mark.parametrize(
    ("block", "part"),
    [
        ({"type": "text", "text": "words"}, TextPart(text="words")),
        (
            {"type": "audio", "data": encoded(b"some bytes"), "mimeType": "audio/wav"},
            TextPart(text="[A sound of type audio/wav, 12 bytes, not shown.]"),
        ),
        (
            {"type": "resource", "resource": {"uri": "a://b", "text": "inside"}},
            TextPart(text="inside"),
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


@pytest.mark.parametrize(
    ("data", "kind"),
    [(PNG, "image/png"), (JPEG, "image/jpeg"), (GIF, "image/gif"), (WEBP, "image/webp")],
)
@pytest.mark.parametrize(
    "declared",
    ["image/png", "image/jpg", "IMAGE/PNG", "image/png; charset=binary", "", "application/pdf"],
)
def test_the_bytes_of_an_image_tell_its_type(data: bytes, kind: str, declared: str) -> None:
    expected = (ImageInlinePart(encoded_data=encoded(data), mime_type=kind),)

    assert converted(image(data, declared)) == expected
    assert converted(blob(data, mimeType=declared)) == expected
    assert converted(blob(data)) == expected


@pytest.mark.parametrize(
    "written",
    [
        f"data:image/png;base64,{encoded(PNG)}",
        encoded(PNG)[:8] + "\n" + encoded(PNG)[8:] + "\r\n",
        encoded(PNG).rstrip("="),
        base64.urlsafe_b64encode(PNG).decode(),
    ],
)
def test_base64_is_read_in_each_way_that_it_is_written(written: str) -> None:
    block = {"type": "image", "data": written, "mimeType": "image/png"}

    assert converted(block) == (ImageInlinePart(encoded_data=encoded(PNG), mime_type="image/png"),)


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (image(b"<svg/>", "image/svg+xml"), "<svg/>"),
        (image(b"404 not found", "image/png"), "404 not found"),
        (blob(b'{"a": 1}', mimeType="application/json; charset=utf-8"), '{"a": 1}'),
        (blob("grüße".encode("latin-1"), mimeType="text/plain; charset=latin-1"), "grüße"),
        (blob("grüße".encode("utf-16"), mimeType="text/csv"), "grüße"),
        (blob(b"\xef\xbb\xbfa,b", mimeType="text/csv"), "a,b"),
        (blob(b"a = 1", mimeType="application/octet-stream"), "a = 1"),
        (blob(b"a", mimeType="text/plain; charset=undefined"), "a"),
        (blob(b"a", mimeType="text/plain; charset=hex"), "a"),
        (blob(rb"a\ud800", mimeType="text/plain; charset=unicode_escape"), "a\ufffd"),
        (blob(b"gr\xfc\xdfe", mimeType="application/xml"), "gr\ufffd\ufffde"),
    ],
)
def test_text_in_base64_becomes_text(block: dict[str, Any], text: str) -> None:
    assert converted(block) == (TextPart(text=text),)


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (image(b"", "image/png"), "[image: its data of type image/png is empty.]"),
        (image(b"BM\0\0\0\1", "image/bmp"), "[image: content of type image/bmp, 6 bytes, that"),
        (
            image(PNG + bytes(6_000_000), "image/png"),
            "too large to be shown: 3,932,160 are allowed",
        ),
        (image(bytes(6_000_000), "image/png"), "an image of 6,000,000 bytes, too large"),
        (blob(GZIP, mimeType="application/gzip"), "[a://b: content of type application/gzip, 4 by"),
        (blob(GZIP), "[a://b: content of type application/octet-stream, 4 bytes, that"),
        (blob(GZIP, mimeType="application/pdf"), "[a://b: content of type application/pdf, 4 by"),
        (blob(b"ID3\x04\0", mimeType="audio/mpeg"), "[a://b: content of type audio/mpeg, 5 byt"),
        (blob(PDF + bytes(32_000_000)), "a file of type application/pdf, 32,000,013 bytes, too l"),
    ],
)
def test_what_no_model_can_be_shown_becomes_a_note(block: dict[str, Any], words: str) -> None:
    (part,) = converted(block)

    assert isinstance(part, TextPart)
    assert words in part.text


@pytest.mark.parametrize("declared", ["application/pdf", "application/octet-stream", ""])
def test_documents_stay_files(declared: str) -> None:
    expected = FileInlinePart(encoded_data=encoded(PDF), mime_type="application/pdf")

    assert converted(blob(PDF, mimeType=declared)) == (expected,)


@pytest.mark.parametrize(
    ("block", "text"),
    [
        ({"type": "error", "text": "date is in the past"}, "date is in the past"),
        ({"type": "table", "rows": [1]}, '[content of type table] {"type": "table", "rows": [1]}'),
        ({"type": "text", "text": 5}, "5"),
        ({"type": "text", "text": {"a": None}}, '{"a": null}'),
        ({"type": "text", "text": ["a"]}, '["a"]'),
        ({"type": "text", "value": "a"}, '{"value": "a"}'),
        ({"text": "untyped"}, "untyped"),
        ("a string", "a string"),
        (5, "5"),
        ({"type": "image"}, '[content of type image] {"type": "image"}'),
        (
            {"type": "image", "data": None},
            '[content of type image] {"type": "image", "data": null}',
        ),
        ({"type": "resource", "resource": {"text": 1}}, "1"),
        ({"type": "resource", "resource": {"uri": "a://b"}}, '[content of type resource] {"uri": '),
        ({"type": "resource", "resource": "a://b"}, "a://b"),
        ({"type": "resource_link", "uri": "a://b"}, "[Link to a resource: a://b]"),
        ({"type": ["text"], "text": "a"}, "a"),
        ({"type": "text", "text": "a", "annotations": {"priority": "high", "audience": 1}}, "a"),
        ({"type": "text", "text": "a", "_meta": 1}, "a"),
    ],
)
def test_a_block_that_the_protocol_does_not_have_costs_no_other(block: object, text: str) -> None:
    kept, odd, last = converted({"type": "text", "text": "saved"}, block, "end")

    assert (kept, last) == (TextPart(text="saved"), TextPart(text="end"))
    assert isinstance(odd, TextPart)
    assert text in odd.text


@pytest.mark.parametrize("nothing", [None, "", {"type": "text", "text": None}, {"type": "text"}])
def test_a_block_of_nothing_is_nothing(nothing: object) -> None:
    assert converted(nothing, "end") == (TextPart(text="end"),)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ({"toolResult": {"rows": 3}}, '{"toolResult": {"rows": 3}}'),
        ({"content": "words"}, "words"),
        ({"content": {"type": "text", "text": "words"}}, "words"),
        ({"content": {"rows": 3}}, '{"rows": 3}'),
        ({"content": 7}, "7"),
        ({"content": None, "rows": 3, "_meta": {"a": 1}}, '{"rows": 3}'),
        ({"content": [], "structuredContent": [1, 2]}, "[1, 2]"),
        ({"structuredContent": {"a": 1}, "isError": False}, '{"a": 1}'),
        ({"structuredContent": 0}, "0"),
        ({}, "Tool look returned nothing with arguments: {}"),
    ],
)
def test_content_of_another_form_is_told_as_it_is(result: dict[str, Any], text: str) -> None:
    assert text_of(result) == text


KEYS = st.sampled_from(
    ["type", "text", "data", "mimeType", "resource", "uri", "blob", "content", "source", "isError"]
)
WORDS = st.sampled_from(["text", "image", "audio", "resource", "resource_link", "odd", "image/png"])
DATA = st.binary(max_size=20).map(encoded)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | DATA,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


@given(st.dictionaries(KEYS, JSON_VALUES) | JSON_VALUES.map(lambda value: {"content": [value]}))
def test_any_json_is_a_result(result: dict[str, Any]) -> None:
    converted_result = to_tool_result(call("look"), result, str)

    assert converted_result.result
    assert converted_result.text.encode().decode() == converted_result.text


def test_json_that_is_nested_too_deep_is_named() -> None:
    nested: list[Any] = []
    for _ in range(50_000):
        nested = [nested]

    assert "nested too deep" in text_of({"structuredContent": nested})


def test_an_image_as_models_write_it_is_an_image() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": encoded(PNG)}

    (part,) = converted({"type": "image", "source": source})

    assert isinstance(part, ImageInlinePart)


def test_structured_content_stands_in_for_missing_text() -> None:
    assert converted(structuredContent={"grüße": 1}) == (TextPart(text='{"grüße": 1}'),)


def test_structured_content_is_not_repeated_beside_text() -> None:
    block = {"type": "text", "text": "words"}

    assert converted(block, structuredContent={"words": True}) == (TextPart(text="words"),)


def test_an_answer_of_nothing_says_so() -> None:
    assert converted({"type": "text", "text": ""}) == (
        TextPart(text='Tool look returned nothing with arguments: {"where": "here"}'),
    )


@pytest.mark.parametrize(
    ("flag", "is_error"),
    [(True, True), ("true", True), (False, False), (None, False), ("false", False), ({}, False)],
)
def test_an_error_stays_an_error(flag: object, is_error: bool) -> None:
    result = {"content": [{"type": "text", "text": "no"}, {"type": "odd"}], "isError": flag}

    assert to_tool_result(call("look"), result, str).is_error is is_error


def test_secrets_are_taken_out_of_each_text() -> None:
    result = {"content": [blob(b"key-1"), {"type": "odd", "a": "key-1"}, "key-1", {"key-1": 1}]}

    converted_result = to_tool_result(
        call("look"), result, lambda text: text.replace("key-1", "[KEY]")
    )

    assert "key-1" not in converted_result.text
    assert converted_result.text.count("[KEY]") == 4


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
