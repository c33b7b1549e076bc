"""Moving and deleting files, and what is known about them."""

import os
from pathlib import Path

import pytest

from perstack.skills.builtin.read import format_size
from perstack.skills.builtin.skill import BuiltInSkill
from tests.skills.builtin.calling import put, refused, told

pytestmark = pytest.mark.anyio


async def test_a_file_is_moved_and_folders_on_the_way_are_made(
    skill: BuiltInSkill, workspace: Path
) -> None:
    put(workspace, "a.txt", "hello")

    facts = await told(skill, "moveFile", source="a.txt", destination="new/b.txt")

    assert facts == {"source": "a.txt", "destination": "new/b.txt"}
    assert not (workspace / "a.txt").exists()
    assert (workspace / "new/b.txt").read_text(encoding="utf-8") == "hello"


async def test_a_directory_is_moved_with_its_content(skill: BuiltInSkill, workspace: Path) -> None:
    put(workspace, "old/a.txt", "hello")

    await told(skill, "moveFile", source="old", destination="new")

    assert (workspace / "new/a.txt").read_text(encoding="utf-8") == "hello"


async def test_a_move_onto_something_leaves_both_as_they_were(
    skill: BuiltInSkill, workspace: Path
) -> None:
    put(workspace, "a.txt", "a")
    put(workspace, "b.txt", "b")

    facts = await refused(skill, "moveFile", source="a.txt", destination="b.txt")

    assert facts["message"] == "Destination b.txt already exists."
    assert (workspace / "a.txt").read_text(encoding="utf-8") == "a"
    assert (workspace / "b.txt").read_text(encoding="utf-8") == "b"


async def test_a_file_is_deleted(skill: BuiltInSkill, workspace: Path) -> None:
    path = put(workspace, "a.txt", "a")

    assert await told(skill, "deleteFile", path="a.txt") == {"path": "a.txt"}
    assert not path.exists()


async def test_deleting_a_link_deletes_the_link_only(
    skill: BuiltInSkill, workspace: Path, outside: Path
) -> None:
    (workspace / "link").symlink_to(outside / "secret.txt")

    await told(skill, "deleteFile", path="link")

    assert not (workspace / "link").is_symlink()
    assert (outside / "secret.txt").exists()


async def test_what_is_known_about_a_file_is_told(skill: BuiltInSkill, workspace: Path) -> None:
    path = put(workspace, "notes/day.md", "hello")
    os.utime(path, (1_700_000_000, 1_700_000_000.5))

    facts = await told(skill, "getFileInfo", path="notes/day.md")

    created = facts.pop("created")
    assert created.endswith("Z")
    assert facts == {
        "exists": True,
        "path": "notes/day.md",
        "absolutePath": str(workspace.resolve() / "notes/day.md"),
        "name": "day.md",
        "directory": str(workspace.resolve() / "notes"),
        "extension": ".md",
        "type": "file",
        "mimeType": "text/markdown",
        "size": 5,
        "sizeFormatted": "5 B",
        "modified": "2023-11-14T22:13:20.500Z",
        "accessed": "2023-11-14T22:13:20.000Z",
        "permissions": {"readable": True, "writable": True, "executable": False},
    }


async def test_a_directory_has_no_extension_and_no_mime_type(
    skill: BuiltInSkill, workspace: Path
) -> None:
    (workspace / "notes.d").mkdir()

    facts = await told(skill, "getFileInfo", path="notes.d")

    assert (facts["type"], facts["extension"], facts["mimeType"]) == ("directory", None, None)
    assert (await told(skill, "getFileInfo", path="."))["name"] == workspace.name


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1239, "1.21 KB"),
        (5 * 1024**2, "5.00 MB"),
        (1024**4, "1.00 TB"),
    ],
)
def test_a_size_is_said_in_a_unit_that_fits(size: int, words: str) -> None:
    assert format_size(size) == words
