"""The page about the MCP server names what clients are offered, and nothing else."""

import re
from pathlib import Path

import pytest

from perstack.server import summaries
from perstack.server.resources.reader import MAX_ENTRIES, MAX_JOBS
from perstack.server.resources.uris import MAX_LISTED_JOBS, TEMPLATES
from perstack.server.tools import schemas, truncation
from perstack.tool_names import RESERVED_TOOL_NAMES

PAGE = (Path(__file__).parents[2] / "docs" / "mcp.md").read_text(encoding="utf-8")


def test_every_resource_is_on_the_page_and_no_other() -> None:
    told = set(re.findall(r"^\| `(perstack://\S+)` \|", PAGE, re.MULTILINE))
    assert told == {shape.text for shape in TEMPLATES.values()}


@pytest.mark.parametrize("name", sorted(RESERVED_TOOL_NAMES))
def test_the_tools_and_prompts_of_the_server_are_explained(name: str) -> None:
    assert f"`{name}`" in PAGE


def test_arguments_fields_and_statuses_are_explained() -> None:
    arguments = schemas.expert_input(45)["properties"]
    fields = schemas.RESULT_OUTPUT["properties"]
    missing = [name for name in (*arguments, *fields) if f"`{name}`" not in PAGE]
    assert missing == []
    assert re.findall(r"^\| `([a-z_]+)` \|.*\|.*\|$", PAGE, re.MULTILINE) == list(schemas.STATUSES)


def test_limits_are_those_of_the_code() -> None:
    assert f"{truncation.DEFAULT_BUDGET.characters:,} characters" in PAGE
    assert f"{truncation.DEFAULT_BUDGET.utf8_bytes:,} bytes" in PAGE
    assert f"{truncation.BUDGET_BY_CLIENT['codex'].utf8_bytes:,} for Codex" in PAGE
    assert f"{truncation.MAX_ERROR_CHARACTERS:,} characters" in PAGE
    assert f"{summaries.MAX_PAGE_BYTES // 1024} KiB, and {MAX_ENTRIES} entries" in PAGE
    assert f"({MAX_JOBS} of jobs)" in PAGE
    assert f"the {MAX_LISTED_JOBS} newest jobs" in PAGE
