"""The pictures beside tools and prompts."""

from base64 import b64decode
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from perstack.server.tools.icons import generate_icon
from tests.fakes import FakeModel
from tests.server.harness import Mode, stage

SMALL = 600


def drawing(src: str) -> ET.Element:
    head, _, data = src.partition(",")
    assert head == "data:image/svg+xml;base64"
    return ET.fromstring(b64decode(data))  # noqa: S314 - drawn by the product itself


@pytest.mark.parametrize(
    ("key", "letters"),
    [
        ("reviewer", "RE"),
        ("security-reviewer", "SR"),
        ("@reviewer/read_every_file", "RE"),
        ("a", "A"),
        ("_", ""),
    ],
)
def test_an_expert_without_a_picture_has_its_initials(key: str, letters: str) -> None:
    icon = generate_icon(key)
    assert "".join(drawing(icon.src).itertext()) == letters
    assert len(icon.src) < SMALL


def test_a_picture_is_always_the_same_and_differs_by_expert() -> None:
    keys = [f"expert-{number}" for number in range(40)]
    generate_icon.cache_clear()
    first = [generate_icon(key).src for key in keys]
    generate_icon.cache_clear()
    assert [generate_icon(key).src for key in keys] == first
    assert len(set(first)) > len(keys) / 2


@pytest.mark.anyio
async def test_tools_prompts_and_the_server_have_pictures(tmp_path: Path, mode: Mode) -> None:
    async with stage(tmp_path, mode, FakeModel({})) as here:
        tools = {tool.name: tool for tool in (await here.client.list_tools()).tools}
        info = here.client.server_info
    assert tools["reviewer"].icons == [generate_icon("reviewer")]
    assert info is not None
    assert info.icons == [generate_icon("perstack")]
