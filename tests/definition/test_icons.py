"""The pictures of experts: files that are read, URIs that are looked at, and what is neither."""

import os
from base64 import b64encode
from pathlib import Path

import pytest

from perstack.definition.icons import MAX_ICON_BYTES
from perstack.definition.loader import load_definitions

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>'
JPEG = b"\xff\xd8\xff\xe0" + bytes(20)
WEBP = b"RIFF\x00\x00\x00\x00WEBPVP8 "


def data(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{b64encode(content).decode()}"


def loaded(folder: Path, icon: str) -> tuple[str | None, list[str]]:
    config = folder / "perstack.toml"
    config.write_text(
        f"[experts.a]\ninstruction = 'Work.'\n[experts.a.tool]\nicon = '{icon}'\n", encoding="utf-8"
    )
    found = load_definitions(config)
    return found.definitions.experts["a"].tool.icon, [str(each) for each in found.warnings]


@pytest.mark.parametrize(
    ("content", "kind"),
    [(PNG, "image/png"), (SVG, "image/svg+xml"), (JPEG, "image/jpeg"), (WEBP, "image/webp")],
)
def test_a_file_is_taken_for_what_it_is_whatever_its_name(
    tmp_path: Path, content: bytes, kind: str
) -> None:
    (tmp_path / "icons").mkdir()
    (tmp_path / "icons" / "a.bin").write_bytes(content)
    assert loaded(tmp_path, "icons/a.bin") == (data(content, kind), [])


@pytest.mark.parametrize("uri", [data(PNG, "image/png"), "https://example.com/a.png"])
def test_a_uri_stays_as_it_is(tmp_path: Path, uri: str) -> None:
    assert loaded(tmp_path, uri) == (uri, [])


@pytest.mark.parametrize(
    ("icon", "reason"),
    [
        ("none.png", "names no file"),
        (".", "names no file"),
        ("pipe", "names no file"),
        ("text.png", "is no picture"),
        ("large.png", "is larger than 32 KiB"),
        ("http://example.com/a.png", "must be a path, or a data: or https: URI"),
        ("javascript:alert(1)", "must be a path, or a data: or https: URI"),
        ("https://", "is no URL"),
        ("https://user@example.com/a.png", "is no URL"),
        ("data:image/png,raw", "must be written as data:TYPE;base64,DATA"),
        ("data:image/png;base64,A", "has no sound Base64"),
        (data(b"plain", "image/png"), "is no picture"),
        (data(PNG, "text/html"), "is not of the type that it names"),
        (data(PNG + bytes(MAX_ICON_BYTES), "image/png"), "is larger than 32 KiB"),
    ],
    ids=lambda value: value[:30],
)
def test_what_is_no_picture_is_a_warning_and_is_not_sent(
    tmp_path: Path, icon: str, reason: str
) -> None:
    (tmp_path / "text.png").write_text("SECRET=1", encoding="utf-8")
    (tmp_path / "large.png").write_bytes(PNG + bytes(MAX_ICON_BYTES))
    os.mkfifo(tmp_path / "pipe")
    shown, warnings = loaded(tmp_path, icon)
    assert shown is None
    assert len(warnings) == 1
    assert warnings[0].startswith(f'perstack.toml:4:1: experts."a".tool.icon: {reason}')
