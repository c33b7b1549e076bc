"""Writing, appending to and editing text files."""

import os
from pathlib import Path

import anyio
import pytest

from perstack.skills.builtin.skill import BuiltInSkill
from tests.skills.builtin.calling import put, refused, told

pytestmark = pytest.mark.anyio

needs_a_plain_user = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")


async def test_writing_makes_the_folders_on_the_way(skill: BuiltInSkill, workspace: Path) -> None:
    facts = await told(skill, "writeTextFile", path="a/b/c.txt", text="hello")

    assert facts == {"path": "a/b/c.txt", "text": "hello"}
    assert (workspace / "a/b/c.txt").read_text(encoding="utf-8") == "hello"


async def test_overwriting_keeps_the_mode_and_leaves_nothing_beside(
    skill: BuiltInSkill, workspace: Path
) -> None:
    path = put(workspace, "run.sh", "old, and longer than what comes")
    path.chmod(0o751)

    await told(skill, "writeTextFile", path="run.sh", text="new")

    assert path.read_text(encoding="utf-8") == "new"
    assert path.stat().st_mode & 0o7777 == 0o751
    assert sorted(item.name for item in workspace.iterdir()) == ["perstack", "run.sh"]


async def test_a_new_file_is_not_writable_by_others(skill: BuiltInSkill, workspace: Path) -> None:
    await told(skill, "writeTextFile", path="a.txt", text="a")

    assert (workspace / "a.txt").stat().st_mode & 0o133 == 0


async def test_a_reader_keeps_the_old_content_while_the_file_is_replaced(
    skill: BuiltInSkill, workspace: Path
) -> None:
    path = put(workspace, "a.txt", "old")

    with path.open(encoding="utf-8") as reader:
        await told(skill, "writeTextFile", path="a.txt", text="new content")
        assert reader.read() == "old"


@needs_a_plain_user
async def test_a_read_only_file_is_not_replaced(skill: BuiltInSkill, workspace: Path) -> None:
    put(workspace, "a.txt", "old").chmod(0o444)

    facts = await refused(skill, "writeTextFile", path="a.txt", text="new")

    assert facts["message"] == "File a.txt is not writable"


async def test_appending_adds_exactly_the_text(skill: BuiltInSkill, workspace: Path) -> None:
    path = put(workspace, "a.txt", "one")

    facts = await told(skill, "appendTextFile", path="a.txt", text="two\n")

    assert facts == {"path": "a.txt", "text": "two\n"}
    assert path.read_text(encoding="utf-8") == "onetwo\n"


async def test_only_the_first_occurrence_is_edited(skill: BuiltInSkill, workspace: Path) -> None:
    path = put(workspace, "a.txt", "x = 1\nx = 1\n")

    facts = await told(skill, "editTextFile", path="a.txt", oldText="x = 1", newText="x = 2")

    assert facts == {"path": "a.txt", "newText": "x = 2", "oldText": "x = 1"}
    assert path.read_text(encoding="utf-8") == "x = 2\nx = 1\n"


@pytest.mark.parametrize("new", ["$&", "$1 $` $' $$", r"\1 \g<0> \n", "a|b", ""])
async def test_what_is_put_in_is_taken_literally(
    skill: BuiltInSkill, workspace: Path, new: str
) -> None:
    path = put(workspace, "a.txt", "price: 10 (euro)*\n")

    await told(skill, "editTextFile", path="a.txt", oldText="10 (euro)*", newText=new)

    assert path.read_text(encoding="utf-8") == f"price: {new}\n"


async def test_what_is_sought_is_no_pattern(skill: BuiltInSkill, workspace: Path) -> None:
    put(workspace, "a.txt", "abc")

    assert (await refused(skill, "editTextFile", path="a.txt", oldText="a.c", newText="x"))[
        "error"
    ] == "NoMatch"


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
async def test_an_edit_keeps_carriage_returns_whatever_the_model_writes(
    skill: BuiltInSkill, workspace: Path, newline: str
) -> None:
    path = put(workspace, "a.txt", "one\r\ntwo\r\nthree\r\n")

    old, new = f"one{newline}two", f"1{newline}1.5{newline}2"
    await told(skill, "editTextFile", path="a.txt", oldText=old, newText=new)

    assert path.read_bytes() == b"1\r\n1.5\r\n2\r\nthree\r\n"


async def test_an_edit_leaves_the_other_newlines_of_a_mixed_file_alone(
    skill: BuiltInSkill, workspace: Path
) -> None:
    path = put(workspace, "a.txt", "a\nb\nc\r\nd\n")

    await told(skill, "editTextFile", path="a.txt", oldText="b\nc\nd", newText="x\r\ny")

    assert path.read_bytes() == b"a\nx\ny\n"


async def test_edits_of_one_file_at_the_same_time_all_take_effect_in_order(
    skill: BuiltInSkill, workspace: Path
) -> None:
    path = put(workspace, "a.txt", "start\n")

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(append_by_edit, skill, number)

    expected = "".join(f"{number}," for number in range(20))
    assert path.read_text(encoding="utf-8") == f"{expected}start\n"


async def append_by_edit(skill: BuiltInSkill, number: int) -> None:
    await told(skill, "editTextFile", path="a.txt", oldText="start", newText=f"{number},start")
