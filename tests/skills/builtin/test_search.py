"""Finding files of the workspace by their names and by what they say."""

import os
from pathlib import Path

import anyio
import pytest

from perstack.skills.builtin import search
from perstack.skills.builtin.read import MAX_FILE_BYTES
from perstack.skills.builtin.skill import BuiltInSkill
from tests.skills.builtin.calling import ask_with, facts_of, put, refused, told

pytestmark = pytest.mark.anyio


def line(path: str, number: int, text: str) -> dict[str, object]:
    return {"path": path, "line": number, "text": text}


async def test_files_are_found_by_name_in_a_stable_order(
    skill: BuiltInSkill, workspace: Path
) -> None:
    for name in ("b.py", "A.py", "src/z.py", "src/deep/a.py", "src/a.txt", ".hidden/c.py"):
        put(workspace, name, "")

    assert await told(skill, "globFiles", pattern="*.py") == {
        "files": ["A.py", "b.py", ".hidden/c.py", "src/z.py", "src/deep/a.py"]
    }
    assert await told(skill, "globFiles", pattern="*.py", path="src") == {
        "files": ["src/z.py", "src/deep/a.py"]
    }
    assert await told(skill, "globFiles", pattern="src/*") == {"files": ["src/a.txt", "src/z.py"]}
    assert await told(skill, "globFiles", pattern="*.c") == {"files": []}


async def test_lines_are_found_with_numbers_that_readTextFile_takes(  # noqa: N802 - its name
    skill: BuiltInSkill, workspace: Path
) -> None:
    put(workspace, "a.txt", "one\r\nTwo needles\r\n")
    put(workspace, "src/b.py", "x = 1\n\n\nneedle = 2\n")

    found = await told(skill, "grepFiles", pattern="needles?\\b")

    assert found == {
        "matches": [line("a.txt", 1, "Two needles"), line("src/b.py", 3, "needle = 2")]
    }
    read = await ask_with(skill, "readTextFile", {"path": "src/b.py", "from": 3, "to": 4})
    assert facts_of(read)["content"] == "needle = 2\n"


async def test_a_search_is_narrowed_by_folder_file_glob_and_case(
    skill: BuiltInSkill, workspace: Path
) -> None:
    for name in ("a.py", "a.md", "src/b.py"):
        put(workspace, name, "Word\n")

    async def paths(**args: object) -> list[str]:
        facts = await told(skill, "grepFiles", **args)
        return [match["path"] for match in facts["matches"]]

    assert await paths(pattern="Word", glob="*.py") == ["a.py", "src/b.py"]
    assert await paths(pattern="Word", path="src") == ["src/b.py"]
    assert await paths(pattern="Word", path="a.md") == ["a.md"]
    assert await paths(pattern="word") == []
    assert await paths(pattern="word", ignoreCase=True, path="src") == ["src/b.py"]


async def test_what_is_no_text_is_left_out(skill: BuiltInSkill, workspace: Path) -> None:
    (workspace / "a.bin").write_bytes(b"word\x00word")
    (workspace / "latin.txt").write_bytes(b"caf\xe9 word\n")
    os.mkfifo(workspace / "pipe")

    with anyio.fail_after(30):
        found = await told(skill, "grepFiles", pattern="word")

    assert found == {"matches": [line("latin.txt", 0, "caf\ufffd word")]}


async def test_neither_links_nor_the_folders_of_perstack_and_git_are_entered(
    skill: BuiltInSkill, workspace: Path, outside: Path
) -> None:
    put(workspace, "src/real.txt", "canary-7f3a")
    put(workspace, ".git/config", "canary-7f3a")
    put(workspace, "src/perstack/mine.txt", "canary-7f3a")
    (workspace / "out").symlink_to(outside)
    (workspace / "out.txt").symlink_to(outside / "secret.txt")
    (workspace / "loop").symlink_to(workspace)

    found = await told(skill, "grepFiles", pattern="canary")
    listed = await told(skill, "globFiles", pattern="**/*")

    assert [match["path"] for match in found["matches"]] == [
        "src/real.txt",
        "src/perstack/mine.txt",
    ]
    assert listed["files"] == ["out.txt", "src/real.txt", "src/perstack/mine.txt"]


async def test_more_than_fits_is_cut_and_said_to_be(skill: BuiltInSkill, workspace: Path) -> None:
    put(workspace, "a.log", "hit\n" * 1_000)
    put(workspace, "wide.log", ("x" * 250 + "\n") * 1_000)
    for number in range(1_050):
        put(workspace, f"many/{number:04}.txt", "")

    matches = await told(skill, "grepFiles", pattern="hit")
    wide = await told(skill, "grepFiles", pattern="x{20}")
    files = await told(skill, "globFiles", pattern="*.txt")

    assert len(matches["matches"]) == 200
    assert (
        matches["note"] == "Only the first 200 matches are shown. Narrow the pattern or the path."
    )
    assert 50 < len(wide["matches"]) < 200
    assert f"Only the first {len(wide['matches'])} matches" in wide["note"]
    assert files["files"] == [f"many/{number:04}.txt" for number in range(1_000)]
    assert "Only the first 1000 files" in files["note"]


async def test_a_file_that_is_too_large_is_named(skill: BuiltInSkill, workspace: Path) -> None:
    with (workspace / "huge.log").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    put(workspace, "a.txt", "word\n")

    found = await told(skill, "grepFiles", pattern="word")

    assert found["matches"] == [line("a.txt", 0, "word")]
    assert "huge.log" in found["note"]


async def test_what_lies_too_deep_is_left_out_with_a_note(
    skill: BuiltInSkill, workspace: Path
) -> None:
    put(workspace, "/".join(["d"] * 49) + "/in.txt", "")
    put(workspace, "/".join(["d"] * 60) + "/out.txt", "")

    found = await told(skill, "globFiles", pattern="*.txt")

    assert [Path(path).name for path in found["files"]] == ["in.txt"]
    assert "50 levels deep" in found["note"]


async def test_a_search_without_time_left_shows_what_it_has(
    skill: BuiltInSkill, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(workspace, "a.txt", "word\n")
    monkeypatch.setattr(search, "MAX_SECONDS", -1.0)

    found = await told(skill, "grepFiles", pattern="word")
    listed = await told(skill, "globFiles", pattern="*")
    single = await told(skill, "grepFiles", pattern="word", path="a.txt")

    assert (found["matches"], listed["files"], single["matches"]) == ([], [], [])
    for facts in (found, listed, single):
        assert "ended after" in facts["note"]


async def test_a_pattern_that_would_never_end_elsewhere_lets_others_work(
    skill: BuiltInSkill, workspace: Path
) -> None:
    put(workspace, "a.txt", ("a" * 40 + "!\n") * 20_000)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await anyio.sleep(0.001)
            ticks += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        assert await told(skill, "grepFiles", pattern="(a+)+$") == {"matches": []}
        tasks.cancel_scope.cancel()

    assert ticks > 0


@pytest.mark.parametrize(
    ("tool", "args", "error"),
    [
        ("globFiles", {"pattern": "*", "path": "no"}, "NotFound"),
        ("globFiles", {"pattern": "*", "path": "a.txt"}, "NotADirectory"),
        ("grepFiles", {"pattern": "a", "path": "no"}, "NotFound"),
        ("grepFiles", {"pattern": "a", "path": "../outside"}, "AccessDenied"),
        ("globFiles", {"pattern": "*", "path": "perstack"}, "AccessDenied"),
    ],
)
async def test_a_place_that_cannot_be_searched_is_refused(
    skill: BuiltInSkill, workspace: Path, tool: str, args: dict[str, object], error: str
) -> None:
    put(workspace, "a.txt", "a")

    assert (await refused(skill, tool, **args))["error"] == error
