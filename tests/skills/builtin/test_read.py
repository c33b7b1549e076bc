"""Reading text files, and what every file tool says when it cannot."""

import os
from pathlib import Path

import anyio
import pytest

from perstack.definition.references import DEFAULT_MAX_TOOL_RESULT_CHARACTERS
from perstack.skills.builtin.read import MAX_CONTENT_CHARACTERS, MAX_FILE_BYTES
from perstack.skills.builtin.skill import BuiltInSkill
from tests.skills.builtin.calling import ask, ask_with, facts_of, put, refused, told

pytestmark = pytest.mark.anyio


async def read_range(skill: BuiltInSkill, path: str, **limits: int) -> dict[str, object]:
    result = await ask_with(skill, "readTextFile", {"path": path, **limits})
    assert not result.is_error
    return facts_of(result)


async def test_a_text_file_is_read_whole(skill: BuiltInSkill, workspace: Path) -> None:
    put(workspace, "notes/day.txt", "one\ntwo\n")

    assert await told(skill, "readTextFile", path="notes/day.txt") == {
        "path": "notes/day.txt",
        "content": "one\ntwo\n",
        "from": 0,
        "to": 2,
        "totalLines": 2,
    }


async def test_consecutive_ranges_put_together_are_the_file(
    skill: BuiltInSkill, workspace: Path
) -> None:
    text = "zero\r\none\n\nthree"
    put(workspace, "a.txt", text)

    first = await read_range(skill, "a.txt", to=2)
    second = await read_range(skill, "a.txt", **{"from": 2, "to": 99})

    assert f"{first['content']}{second['content']}" == text
    assert (second["from"], second["to"]) == (2, 4)


async def test_a_range_behind_the_end_is_empty(skill: BuiltInSkill, workspace: Path) -> None:
    put(workspace, "a.txt", "one\n")

    facts = await read_range(skill, "a.txt", **{"from": 7})

    assert (facts["content"], facts["totalLines"]) == ("", 1)


async def test_an_empty_file_has_no_lines(skill: BuiltInSkill, workspace: Path) -> None:
    put(workspace, "a.txt", "")

    facts = await told(skill, "readTextFile", path="a.txt")

    assert (facts["content"], facts["totalLines"]) == ("", 0)


async def test_an_absolute_path_inside_the_workspace_is_accepted(
    skill: BuiltInSkill, workspace: Path
) -> None:
    path = put(workspace, "a.txt", "one")

    facts = await told(skill, "readTextFile", path=str(path))

    assert (facts["path"], facts["content"]) == ("a.txt", "one")


async def test_a_workspace_behind_a_link_is_known_by_both_names(
    workspace: Path, tmp_path: Path
) -> None:
    alias = tmp_path / "alias"
    alias.symlink_to(workspace)
    skill = BuiltInSkill(alias, {})
    put(workspace, "a.txt", "one")

    for path in ("a.txt", str(alias / "a.txt"), str(workspace / "a.txt")):
        assert (await told(skill, "readTextFile", path=path))["content"] == "one"


@pytest.mark.parametrize(
    "name", ["日本語 ファイル.txt", "é.txt", "a b\n'\"$.txt", "~tilde.txt", "-rf"]
)
async def test_any_name_can_be_written_listed_and_read(skill: BuiltInSkill, name: str) -> None:
    await told(skill, "writeTextFile", path=name, text="内容 ✓")

    listed = await told(skill, "listDirectory", path=".")
    facts = await told(skill, "readTextFile", path=name)

    assert [item["name"] for item in listed["items"]] == [name]
    assert facts["content"] == "内容 ✓"


async def test_a_long_file_is_shown_in_pieces_that_say_how_to_go_on(
    skill: BuiltInSkill, workspace: Path
) -> None:
    text = "".join(f"line {number}\n" for number in range(40_000))
    put(workspace, "long.log", text)

    pieces: list[str] = []
    start = 0
    while True:
        facts = await read_range(skill, "long.log", **{"from": start})
        content, end = facts["content"], facts["to"]
        assert isinstance(content, str)
        assert isinstance(end, int)
        assert len(content) <= MAX_CONTENT_CHARACTERS
        pieces.append(content)
        if "note" not in facts:
            break
        assert f"from={end}" in str(facts["note"])
        start = end

    assert "".join(pieces) == text
    assert len(pieces) > 1


@pytest.mark.parametrize("line", ['{"key": "value"}', "\x01\x02\\", "plain", '"' * 40_000])
async def test_a_result_is_not_so_long_that_the_run_would_shorten_it(
    skill: BuiltInSkill, workspace: Path, line: str
) -> None:
    put(workspace, "a.txt", f"{line}\n" * (100_000 // len(line)))

    result = await ask(skill, "readTextFile", path="a.txt")
    found = await ask(skill, "grepFiles", pattern=".")

    assert MAX_CONTENT_CHARACTERS // 2 < len(result.text) <= DEFAULT_MAX_TOOL_RESULT_CHARACTERS
    assert len(found.text) <= DEFAULT_MAX_TOOL_RESULT_CHARACTERS


async def test_a_line_that_is_too_long_is_cut_and_said_to_be(
    skill: BuiltInSkill, workspace: Path
) -> None:
    put(workspace, "min.js", "x" * (MAX_CONTENT_CHARACTERS + 5) + "\nnext\n")

    facts = await told(skill, "readTextFile", path="min.js", to=1)

    assert len(facts["content"]) == MAX_CONTENT_CHARACTERS
    assert "only its beginning" in facts["note"]
    assert (await read_range(skill, "min.js", **{"from": 1}))["content"] == "next\n"


async def test_a_cut_line_does_not_hide_that_there_is_more(
    skill: BuiltInSkill, workspace: Path
) -> None:
    put(workspace, "min.js", "x" * (MAX_CONTENT_CHARACTERS + 5) + "\nnext\n")

    facts = await told(skill, "readTextFile", path="min.js")

    assert "only its beginning" in facts["note"]
    assert "from=1" in facts["note"]


async def test_a_huge_file_is_refused_with_another_way(
    skill: BuiltInSkill, workspace: Path
) -> None:
    with (workspace / "huge.log").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)

    facts = await refused(skill, "readTextFile", path="huge.log")

    assert facts["error"] == "TooLarge"
    assert "exec" in facts["message"]


@pytest.mark.parametrize("data", [b"a\x00b", b"\xff\xfe", b"caf\xe9"])
async def test_a_binary_file_is_not_read_as_text(
    skill: BuiltInSkill, workspace: Path, data: bytes
) -> None:
    (workspace / "a.bin").write_bytes(data)

    facts = await refused(skill, "readTextFile", path="a.bin")

    assert facts["error"] == "Unsupported"
    assert "binary" in facts["message"]


async def test_a_byte_order_mark_is_not_shown_and_survives_an_edit(
    skill: BuiltInSkill, workspace: Path
) -> None:
    path = put(workspace, "bom.txt", "\ufeffhello\n")

    assert (await told(skill, "readTextFile", path="bom.txt"))["content"] == "hello\n"
    await told(skill, "editTextFile", path="bom.txt", oldText="hello", newText="bye")
    assert path.read_bytes() == "\ufeffbye\n".encode()


async def test_a_named_pipe_is_refused_and_not_waited_for(
    skill: BuiltInSkill, workspace: Path
) -> None:
    os.mkfifo(workspace / "pipe")

    with anyio.fail_after(30):
        reading = await refused(skill, "readTextFile", path="pipe")
        writing = await refused(skill, "writeTextFile", path="pipe", text="a")

    assert "not a regular file" in reading["message"]
    assert "not a regular file" in writing["message"]


@pytest.mark.parametrize(
    ("tool", "args", "error", "message"),
    [
        ("readTextFile", {"path": "no.txt"}, "NotFound", "File no.txt does not exist."),
        ("readTextFile", {"path": "no/a.txt"}, "NotFound", "File no/a.txt does not exist."),
        ("readTextFile", {"path": "folder"}, "IsADirectory", "Path folder is a directory."),
        ("readTextFile", {"path": "."}, "IsADirectory", "Path . is a directory."),
        ("readTextFile", {"path": "a.txt/b"}, "NotADirectory", "not a directory"),
        ("readTextFile", {"path": "x" * 300}, "IOError", "name too long"),
        ("appendTextFile", {"path": "no.txt", "text": "a"}, "NotFound", "does not exist."),
        ("writeTextFile", {"path": "folder", "text": "a"}, "IsADirectory", "is a directory."),
        ("writeTextFile", {"path": ".", "text": "a"}, "AccessDenied", "cannot be changed"),
        ("writeTextFile", {"path": "a.txt/b", "text": "a"}, "NotADirectory", "not a directory"),
        (
            "editTextFile",
            {"path": "a.txt", "oldText": "no such", "newText": ""},
            "NoMatch",
            "Could not find exact match for oldText in file a.txt",
        ),
        (
            "editTextFile",
            {"path": "no.txt", "oldText": "a", "newText": ""},
            "NotFound",
            "File no.txt does not exist.",
        ),
        ("moveFile", {"source": "no", "destination": "b"}, "NotFound", "does not exist."),
        (
            "moveFile",
            {"source": "a.txt", "destination": "folder"},
            "AlreadyExists",
            "Destination folder already exists.",
        ),
        (
            "moveFile",
            {"source": "folder", "destination": "folder/inner"},
            "InvalidArguments",
            "into itself",
        ),
        ("deleteFile", {"path": "no.txt"}, "NotFound", "File no.txt does not exist."),
        (
            "deleteFile",
            {"path": "folder"},
            "IsADirectory",
            "Path folder is a directory. Use delete directory tool instead.",
        ),
        ("getFileInfo", {"path": "no"}, "NotFound", "does not exist."),
    ],
)
async def test_what_cannot_be_done_is_said_in_terms_of_the_path(
    skill: BuiltInSkill, workspace: Path, tool: str, args: dict[str, str], error: str, message: str
) -> None:
    put(workspace, "a.txt", "hello")
    (workspace / "folder").mkdir()

    facts = facts_of(result := await ask(skill, tool, **args))

    assert result.is_error
    assert facts["error"] == error
    assert message in facts["message"]
    assert str(workspace) not in facts["message"]
