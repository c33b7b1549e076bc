"""Which command line a definition comes to."""

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from perstack.definition.model import McpStdioSkill
from perstack.errors import SkillError
from perstack.skills.server_command import (
    build_command,
    command_arguments,
    is_pinned_base_skill,
)


def skill(command: str, **fields: Any) -> McpStdioSkill:
    # Not validated: what a file may say is tested where files are read.
    return McpStdioSkill.model_construct(type="mcpStdioSkill", command=command, **fields)


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        (skill("npx", package_name="@scope/server"), ("-y", "@scope/server")),
        (skill("npx", args=("@scope/server", "now")), ("-y", "@scope/server", "now")),
        (skill("npx", args=("-y", "server")), ("-y", "server")),
        (skill("npx", args=("--yes", "server")), ("--yes", "server")),
        (skill("uvx", package_name="server@1.2.3"), ("server@1.2.3",)),
        (skill("python", args=("-m", "server")), ("-m", "server")),
        (skill("./server", package_name="mode"), ("mode",)),
    ],
)
def test_arguments_follow_the_runner(definition: McpStdioSkill, expected: tuple[str, ...]) -> None:
    assert command_arguments("s", definition) == expected


def test_a_definition_needs_a_package_or_arguments() -> None:
    with pytest.raises(SkillError, match="'s' has no packageName or args"):
        command_arguments("s", skill("npx"))


def test_all_missing_variables_are_named_at_once(tmp_path: Path) -> None:
    definition = skill(sys.executable, args=("-V",), required_env=("ONE", "TWO", "SET"))

    with pytest.raises(SkillError, match="environment variables ONE, TWO"):
        build_command("s", definition, tmp_path, {"SET": "yes", "ONE": ""})


def test_a_command_may_lie_in_the_workspace(tmp_path: Path) -> None:
    (tmp_path / "serve").touch(mode=0o755)
    environment = {"PATH": os.environ["PATH"]}

    start = build_command("s", skill("./serve", args=("now",)), tmp_path, environment)

    assert (start.command, *start.args) == ("./serve", "now")


def test_the_environment_is_in_no_representation(tmp_path: Path) -> None:
    definition = skill(sys.executable, args=("-V",), required_env=("TOKEN",))

    start = build_command("s", definition, tmp_path, {"TOKEN": "s3cr3t-value"})

    assert start.environment["TOKEN"] == "s3cr3t-value"
    assert "s3cr3t-value" not in repr(start)


@pytest.mark.parametrize(
    ("definition", "built_in", "pinned"),
    [
        (skill("npx", package_name="@perstack/base"), True, False),
        (skill("npx", args=("-y", "@perstack/base")), True, False),
        (skill("npx", package_name="@perstack/base@0.0.54"), False, True),
        (skill("npx", args=("-y", "@perstack/base@0.0.54")), False, True),
        (skill("npx", package_name="@perstack/other"), False, False),
    ],
)
def test_only_an_unpinned_base_skill_is_built_in(
    definition: McpStdioSkill, built_in: bool, pinned: bool
) -> None:
    assert (definition.is_built_in, is_pinned_base_skill(definition)) == (built_in, pinned)


def test_a_command_needs_no_arguments(tmp_path: Path) -> None:
    (tmp_path / "server.sh").touch(mode=0o755)

    start = build_command("s", skill("./server.sh"), tmp_path, {"PATH": ""}, folder=tmp_path)

    assert (start.command, start.args) == (str(tmp_path / "server.sh"), ())


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("server.py", "HERE/server.py"),
        ("./server.py", "HERE/server.py"),
        ("tools/extra.py", "HERE/tools/extra.py"),
        ("./tools", "HERE/tools"),
        ("../elsewhere.py", "HERE/../elsewhere.py"),
        ("./absent.py", "HERE/absent.py"),
        ("--config=./absent.json", "--config=HERE/absent.json"),
        ("--config=server.py", "--config=HERE/server.py"),
        # What may mean anything else, or a file of the workspace.
        ("absent.py", "absent.py"),
        ("tools/absent.py", "tools/absent.py"),
        ("tools", "tools"),
        ("run", "run"),
        (".", "."),
        ("..", ".."),
        ("--config", "--config"),
        ("-m", "-m"),
        ("@scope/server", "@scope/server"),
        ("https://example.com/./a", "https://example.com/./a"),
        ("/etc/hosts", "/etc/hosts"),
        ("1.5", "1.5"),
        ("x" * 5000 + "/y", "x" * 5000 + "/y"),
        ("", ""),
    ],
)
def test_paths_of_arguments_begin_at_the_folder_of_the_definition_file(
    tmp_path: Path, argument: str, expected: str
) -> None:
    here, workspace = tmp_path / "here", tmp_path / "workspace"
    (here / "tools").mkdir(parents=True)
    (here / "server.py").touch()
    (here / "run").touch()
    (here / "tools" / "extra.py").touch()
    definition = skill(sys.executable, args=("-S", argument))

    start = build_command("s", definition, workspace, {"PATH": os.environ["PATH"]}, folder=here)

    assert start.args == ("-S", expected.replace("HERE", str(here)))


@pytest.mark.parametrize(
    ("command", "why", "hint"),
    [
        ("./absent", "'FOLDER/absent' was not found", "folder of the definition file"),
        ("./folder", "'FOLDER/folder' is a folder", "Name a program in it"),
        ("./plain.txt", "'FOLDER/plain.txt' may not be executed", "chmod"),
        ("plain.txt", "'plain.txt' was not found", "Write ./plain.txt"),
        ("no-such-command", "'no-such-command' was not found", "Install it"),
        ("uvx", "'uvx' was not found", "Install uv"),
    ],
)
def test_a_command_that_cannot_be_started_is_told_with_the_reason(
    tmp_path: Path, command: str, why: str, hint: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "plain.txt").touch(mode=0o644)
    (tmp_path / "bin").mkdir()
    definition = skill(command, args=("now",))

    with pytest.raises(SkillError, match=re.escape(why.replace("FOLDER", str(tmp_path)))) as caught:
        build_command("s", definition, Path("/"), {"PATH": str(tmp_path / "bin")}, folder=tmp_path)

    assert hint in str(caught.value)
