"""Listing, making and deleting directories."""

from pathlib import Path

import pytest

from perstack.skills.builtin.directories import MAX_ITEMS
from perstack.skills.builtin.skill import BuiltInSkill
from tests.skills.builtin.calling import ask, facts_of, put, refused, told

pytestmark = pytest.mark.anyio


async def test_a_directory_is_listed_one_level_in_alphabetical_order(
    skill: BuiltInSkill, workspace: Path
) -> None:
    put(workspace, "docs/Beta.txt", "hello")
    put(workspace, "docs/alpha/deep.txt", "")
    put(workspace, "docs/gamma.txt", "")

    facts = await told(skill, "listDirectory", path="docs")

    assert facts["path"] == "docs"
    assert [(item["name"], item["path"], item["type"]) for item in facts["items"]] == [
        ("alpha", "docs/alpha", "directory"),
        ("Beta.txt", "docs/Beta.txt", "file"),
        ("gamma.txt", "docs/gamma.txt", "file"),
    ]
    assert facts["items"][1]["size"] == len("hello")
    assert facts["items"][1]["modified"].endswith("Z")


async def test_the_own_folder_of_perstack_is_not_listed(
    skill: BuiltInSkill, workspace: Path
) -> None:
    (workspace / "PerStack").mkdir()
    (workspace / "perstack.toml").touch()
    (workspace / "deeper/perstack").mkdir(parents=True)

    root = await told(skill, "listDirectory", path=".")
    deeper = await told(skill, "listDirectory", path="deeper")

    assert [item["name"] for item in root["items"]] == ["deeper", "perstack.toml"]
    assert [item["name"] for item in deeper["items"]] == ["perstack"]


async def test_a_link_is_a_directory_only_if_it_leads_to_one_inside(
    skill: BuiltInSkill, workspace: Path, outside: Path
) -> None:
    (workspace / "real").mkdir()
    (workspace / "inward").symlink_to("real")
    (workspace / "outward").symlink_to(outside)

    facts = await told(skill, "listDirectory", path=".")

    kinds = {item["name"]: item["type"] for item in facts["items"]}
    assert kinds == {"inward": "directory", "outward": "file", "real": "directory"}


async def test_a_long_listing_is_cut_and_said_to_be(skill: BuiltInSkill, workspace: Path) -> None:
    for number in range(MAX_ITEMS + 1):
        (workspace / f"{number:05}").touch()

    facts = await told(skill, "listDirectory", path=".")

    assert len(facts["items"]) == MAX_ITEMS
    assert str(MAX_ITEMS + 1) in facts["note"]


async def test_a_file_name_that_is_no_unicode_is_listed_readably(
    skill: BuiltInSkill, workspace: Path
) -> None:
    Path(f"{workspace}/caf\udce9").touch()

    facts = await told(skill, "listDirectory", path=".")

    assert [item["name"] for item in facts["items"]] == ["caf\ufffd"]


async def test_a_directory_is_made_with_those_on_the_way(
    skill: BuiltInSkill, workspace: Path
) -> None:
    assert await told(skill, "createDirectory", path="a/b/c") == {"path": "a/b/c"}
    assert (workspace / "a/b/c").is_dir()


async def test_an_empty_directory_is_deleted(skill: BuiltInSkill, workspace: Path) -> None:
    (workspace / "a").mkdir()

    assert await told(skill, "deleteDirectory", path="a") == {"path": "a"}
    assert not (workspace / "a").exists()


async def test_a_full_directory_is_deleted_only_when_that_was_said(
    skill: BuiltInSkill, workspace: Path
) -> None:
    path = put(workspace, "a/b.txt", "b")

    facts = await refused(skill, "deleteDirectory", path="a")

    assert facts["error"] == "NotEmpty"
    assert "recursive" in facts["message"]
    assert path.exists()
    await told(skill, "deleteDirectory", path="a", recursive=True)
    assert not (workspace / "a").exists()


async def test_deleting_a_directory_does_not_follow_the_links_in_it(
    skill: BuiltInSkill, workspace: Path, outside: Path
) -> None:
    (workspace / "a").mkdir()
    (workspace / "a/link").symlink_to(outside)

    await told(skill, "deleteDirectory", path="a", recursive=True)

    assert (outside / "secret.txt").exists()


@pytest.mark.parametrize(
    ("tool", "args", "error", "message"),
    [
        ("listDirectory", {"path": "no"}, "NotFound", "Directory no does not exist."),
        ("listDirectory", {"path": "a.txt"}, "NotADirectory", "Path a.txt is not a directory"),
        ("createDirectory", {"path": "full"}, "AlreadyExists", "Directory full already exists"),
        ("createDirectory", {"path": "a.txt"}, "AlreadyExists", "Directory a.txt already exists"),
        ("createDirectory", {"path": "."}, "AlreadyExists", "Directory . already exists"),
        ("createDirectory", {"path": "a.txt/b"}, "NotADirectory", "is not a directory"),
        ("deleteDirectory", {"path": "no"}, "NotFound", "Directory no does not exist."),
        (
            "deleteDirectory",
            {"path": "no", "recursive": True},
            "NotFound",
            "Directory no does not exist.",
        ),
        ("deleteDirectory", {"path": "a.txt"}, "NotADirectory", "Path a.txt is not a directory."),
        ("deleteDirectory", {"path": ".", "recursive": True}, "AccessDenied", "cannot be changed"),
        (
            "deleteDirectory",
            {"path": "full/..", "recursive": True},
            "AccessDenied",
            "cannot be changed",
        ),
    ],
)
async def test_what_cannot_be_done_with_a_directory_is_said(
    skill: BuiltInSkill,
    workspace: Path,
    tool: str,
    args: dict[str, object],
    error: str,
    message: str,
) -> None:
    put(workspace, "a.txt", "")
    put(workspace, "full/a.txt", "")

    result = await ask(skill, tool, **args)

    assert result.is_error
    facts = facts_of(result)
    assert facts["error"] == error
    assert message in facts["message"]
