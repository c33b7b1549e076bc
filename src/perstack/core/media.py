"""Images and files as models take them: their bytes tell what they are, not their declared types.

A provider refuses a whole conversation for one image that is not what it is said to be, and with it
every later request of the job.
"""

import base64
import binascii
import re
from dataclasses import dataclass

from perstack.core.messages import FileInlinePart, ImageInlinePart, ResultPart, TextPart
from perstack.text import replace_surrogates

MEBIBYTE = 1024 * 1024
PDF_MIME_TYPE = "application/pdf"
UNKNOWN_MIME_TYPE = "application/octet-stream"
DOCUMENT_TYPES = {
    PDF_MIME_TYPE: "pdf",
    "application/msword": "doc",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
}
"""The kinds of documents that some provider reads, and their usual extensions."""

_IMAGE_SIGNATURES = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/gif": re.compile(rb"GIF8[79]a"),
    "image/webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
}
# Readers accept leading bytes, which mail programs and servers add.
_PDF_HEADER_SEARCH_BYTES = 1024
_TEXT_TYPE = re.compile(
    r"text/.*|.*\+(?:json|xml|yaml)|"
    r"application/(?:x-)?(?:json|jsonl|ndjson|json5|xml|yaml|toml|sql|graphql|sh|javascript|"
    r"ecmascript|typescript|python|www-form-urlencoded)"
)
_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w.:-]+)""", re.IGNORECASE)
_DATA_URL = re.compile(r"\s*data:([^,]*);base64,", re.IGNORECASE)
_BASE64_REPAIR = str.maketrans("-_", "+/", " \t\r\n=")
_BINARY_CHARACTERS = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


@dataclass(frozen=True, slots=True)
class MediaRules:
    """What may stay an image or a file; anything else becomes text, or a note in words.

    Attributes:
        max_image_characters: Of one image in base64, as providers count.
        max_file_bytes: Of one file.
        file_types: The types of files, by a pattern.
    """

    max_image_characters: int = 5 * MEBIBYTE
    max_file_bytes: int = 30 * MEBIBYTE
    file_types: str = "|".join(map(re.escape, DOCUMENT_TYPES))


DEFAULT_RULES = MediaRules()


def image_type(data: bytes) -> str | None:
    """The type of an image that models can be shown; `None` if it is another or none."""
    return next(
        (kind for kind, signature in _IMAGE_SIGNATURES.items() if signature.match(data)), None
    )


def is_pdf(data: bytes) -> bool:
    return b"%PDF-" in data[:_PDF_HEADER_SEARCH_BYTES]


def media_part(
    encoded: str, declared_type: str, label: str, rules: MediaRules = DEFAULT_RULES
) -> ResultPart:
    """What is shown of base64 data: an image, a file, the text that it is, or a note in words.

    Args:
        encoded: The data, in any of the usual ways to write base64, or as a data URL.
        declared_type: Its type as its source has it; empty if unknown.
        label: What it is or where it comes from, for a note.
        rules: What may stay an image or a file.
    """
    data_url = _DATA_URL.match(encoded)
    if data_url is not None:
        declared_type = declared_type or data_url[1]
        encoded = encoded[data_url.end() :]
    kind = _bare_type(declared_type)
    data = _decode_base64(encoded)
    if data is None:
        return _note(label, f"its data of type {kind} is not valid base64.")
    if not data:
        return _note(label, f"its data of type {kind} is empty.")
    found_type = image_type(data)
    canonical = base64.b64encode(data).decode("ascii")
    if (found_type or kind.startswith("image/")) and len(canonical) > rules.max_image_characters:
        limit = rules.max_image_characters * 3 // 4
        problem = f"an image of {len(data):,} bytes, too large to be shown: {limit:,} are allowed."
        return _note(label, problem)
    if found_type is not None:
        return ImageInlinePart(encoded_data=canonical, mime_type=found_type)
    if is_pdf(data):
        kind = PDF_MIME_TYPE
    if re.fullmatch(rules.file_types, kind) and (kind != PDF_MIME_TYPE or is_pdf(data)):
        if len(data) > rules.max_file_bytes:
            return _note(label, f"a file of type {kind}, {len(data):,} bytes, too large.")
        return FileInlinePart(encoded_data=canonical, mime_type=kind)
    text = _decode_text(data, kind, declared_type)
    if text is not None:
        return TextPart(text=text)
    return _note(
        label, f"content of type {kind}, {len(data):,} bytes, that the model cannot be shown."
    )


def _note(label: str, problem: str) -> TextPart:
    return TextPart(text=f"[{label}: {problem}]")


def _bare_type(declared_type: str) -> str:
    return declared_type.partition(";")[0].strip().lower() or UNKNOWN_MIME_TYPE


def _decode_base64(encoded: str) -> bytes | None:
    """The bytes; line breaks, missing padding and the alphabet of URLs do no harm."""
    try:
        return base64.b64decode(encoded, validate=True)
    except ValueError:
        repaired = encoded.translate(_BASE64_REPAIR)
    try:
        return base64.b64decode(repaired + "=" * (-len(repaired) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _decode_text(data: bytes, kind: str, declared_type: str) -> str | None:
    """The text that the bytes are; `None` if they are none."""
    is_declared = _TEXT_TYPE.fullmatch(kind) is not None
    charset = _CHARSET.search(declared_type)
    encodings = [charset[1]] if charset is not None else []
    if is_declared and data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings.append("utf-16")
    for encoding in (*encodings, "utf-8-sig"):
        try:
            text = replace_surrogates(data.decode(encoding))
        except (UnicodeError, LookupError):
            continue
        if not _BINARY_CHARACTERS.search(text):
            return text
    return data.decode("utf-8", "replace") if is_declared else None
