"""Which command line a definition comes to."""

import os
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
