"""Images and PDFs, which go into the result as they are."""

import base64
from pathlib import Path

import pytest

from perstack.core.messages import FileInlinePart, ImageInlinePart
from perstack.skills.builtin.media import MAX_IMAGE_MEBIBYTES, MAX_PDF_MEBIBYTES, MEBIBYTE
from perstack.skills.builtin.skill import BuiltInSkill
from tests.skills.builtin.calling import ask, facts_of, refused

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


@pytest.mark.parametrize(
    ("name", "data", "mime_type"),
    [
        ("a.png", PNG, "image/png"),
        ("a.PNG", PNG, "image/png"),
        ("a.jpg", b"\xff\xd8\xff\xe0rest", "image/jpeg"),
        ("a.jpeg", b"\xff\xd8\xff\xe1rest", "image/jpeg"),
        ("a.gif", b"GIF89arest", "image/gif"),
        ("a.webp", b"RIFF\x10\x00\x00\x00WEBPVP8 ", "image/webp"),
        ("really-a-png.jpg", PNG, "image/png"),
    ],
)
async def test_an_image_is_part_of_the_result_with_the_type_of_its_content(
    skill: BuiltInSkill, workspace: Path, name: str, data: bytes, mime_type: str
) -> None:
    (workspace / name).write_bytes(data)

    result = await ask(skill, "readImageFile", path=name)

    assert not result.is_error
    assert facts_of(result) == {"path": name, "mimeType": mime_type, "size": len(data)}
    assert result.result[1:] == (
        ImageInlinePart(encoded_data=base64.b64encode(data).decode(), mime_type=mime_type),
    )


async def test_a_pdf_is_part_of_the_result(skill: BuiltInSkill, workspace: Path) -> None:
    data = b"%PDF-1.7\n..."
    (workspace / "a.pdf").write_bytes(data)

    result = await ask(skill, "readPdfFile", path="a.pdf")

    assert facts_of(result) == {"path": "a.pdf", "mimeType": "application/pdf", "size": len(data)}
    assert result.result[1:] == (
        FileInlinePart(encoded_data=base64.b64encode(data).decode(), mime_type="application/pdf"),
    )


@pytest.mark.parametrize(
    ("tool", "name", "message"),
    [
        ("readImageFile", "a.svg", "File a.svg is not supported."),
        ("readImageFile", "fake.png", "does not hold an image"),
        ("readImageFile", "no.png", "File no.png does not exist."),
        ("readImageFile", "folder.png", "is a directory."),
        ("readPdfFile", "a.svg", "File a.svg is not a PDF file."),
        ("readPdfFile", "fake.pdf", "does not hold a PDF"),
        ("readPdfFile", "no.pdf", "File no.pdf does not exist."),
    ],
)
async def test_what_is_no_image_or_pdf_is_refused(
    skill: BuiltInSkill, workspace: Path, tool: str, name: str, message: str
) -> None:
    for fake in ("a.svg", "fake.png", "fake.pdf"):
        (workspace / fake).write_text("<svg/>", encoding="utf-8")
    (workspace / "folder.png").mkdir()

    assert message in (await refused(skill, tool, path=name))["message"]


@pytest.mark.parametrize(
    ("tool", "name", "mebibytes", "words"),
    [
        ("readImageFile", "a.png", MAX_IMAGE_MEBIBYTES, "Image file too large (15.5MB)."),
        ("readPdfFile", "a.pdf", MAX_PDF_MEBIBYTES, "PDF file too large (30.5MB)."),
    ],
)
async def test_what_is_too_large_for_a_model_is_refused(
    skill: BuiltInSkill, workspace: Path, tool: str, name: str, mebibytes: int, words: str
) -> None:
    with (workspace / name).open("wb") as file:
        file.truncate(mebibytes * MEBIBYTE + MEBIBYTE // 2)

    facts = await refused(skill, tool, path=name)

    assert facts["error"] == "TooLarge"
    assert words in facts["message"]
    assert f"Maximum supported size is {mebibytes}MB." in facts["message"]
