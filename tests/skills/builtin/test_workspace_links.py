"""A workspace that is reached through links: every path that leads into it is inside."""

from pathlib import Path

import pytest

from perstack.skills.builtin.skill import BuiltInSkill
from tests.skills.builtin.calling import ask, facts_of, put, told

pytestmark = pytest.mark.anyio


@pytest.fixture
def linked(workspace: Path) -> Path:
    """A folder outside of the workspace with links into it."""
    folder = workspace.parent / "links"
    folder.mkdir()
    (folder / "root").symlink_to(workspace)
    (folder / "again").symlink_to(folder / "root")
    (folder / "sub").symlink_to(workspace / "src")
    (folder / "own").symlink_to(workspace / "perstack")
    put(workspace, "src/a.txt", "hello")
    return folder


@pytest.mark.parametrize(
    "link", ["root/src", "again/src", "sub", "root/../root/src", "root//src/."]
)
@pytest.mark.parametrize("starts_at_link", [False, True])
async def test_a_path_through_a_link_to_the_workspace_is_inside(
    workspace: Path, linked: Path, link: str, *, starts_at_link: bool
) -> None:
    skill = BuiltInSkill(
        linked / "root" if starts_at_link else workspace, {"PATH": "/usr/bin:/bin"}
    )
    given = f"{linked}/{link}"

    read = await told(skill, "readTextFile", path=f"{given}/a.txt")
    await told(skill, "writeTextFile", path=f"{given}/new/b.txt", text="new")
    listed = await told(skill, "globFiles", pattern="*.txt", path=given)
    output = await told(skill, "exec", command="pwd", args=["-P"], cwd=given)

    assert (read["path"], read["content"]) == ("src/a.txt", "hello")
    assert (workspace / "src/new/b.txt").read_text(encoding="utf-8") == "new"
    assert "src/a.txt" in str(listed)
    assert output["output"].strip() == str(workspace.resolve() / "src")


async def test_the_workspace_itself_may_be_named_by_a_link(
    skill: BuiltInSkill, linked: Path
) -> None:
    listed = await told(skill, "listDirectory", path=str(linked / "again"))

    assert "src" in str(listed)


@pytest.mark.parametrize(
    "path", ["own/store.txt", "own", "root/perstack/store.txt", "sub/../own/store.txt", "absent/x"]
)
async def test_links_to_the_workspace_open_nothing_that_is_closed(
    skill: BuiltInSkill, linked: Path, path: str
) -> None:
    result = await ask(skill, "readTextFile", path=f"{linked}/{path}")

    assert facts_of(result)["error"] == "AccessDenied"


async def test_a_link_of_the_workspace_may_lead_outside_by_no_link(
    skill: BuiltInSkill, workspace: Path, linked: Path, outside: Path
) -> None:
    (workspace / "src/out").symlink_to(outside)

    result = await ask(skill, "readTextFile", path=f"{linked}/sub/out/secret.txt")

    assert facts_of(result)["error"] == "AccessDenied"


async def test_a_link_of_the_workspace_may_go_through_one_that_leads_back(
    skill: BuiltInSkill, workspace: Path, linked: Path
) -> None:
    (workspace / "around").symlink_to(linked / "sub")

    facts = await told(skill, "readTextFile", path="around/a.txt")

    assert facts["content"] == "hello"
