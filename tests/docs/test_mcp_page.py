"""The page about the MCP server names what clients are offered, and nothing else."""

import re
from pathlib import Path

import pytest

from perstack.server.calls import excerpts, schemas
from perstack.server.calls.tools import RESERVED
from perstack.server.reading import documents
from perstack.server.reading.addresses import SHAPES
from perstack.server.reading.archive import MAX_ENTRIES, MAX_JOBS
from perstack.server.reading.resources import NEWEST_JOBS

PAGE = (Path(__file__).parents[2] / "docs" / "mcp.md").read_text(encoding="utf-8")


def test_every_resource_is_on_the_page_and_no_other() -> None:
    told = set(re.findall(r"^\| `(perstack://\S+)` \|", PAGE, re.MULTILINE))
    assert told == {shape.template for shape in SHAPES.values()}


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_the_tools_and_prompts_of_the_server_are_explained(name: str) -> None:
    assert f"`{name}`" in PAGE


def test_arguments_fields_and_statuses_are_explained() -> None:
    arguments = schemas.expert_input(45)["properties"]
    fields = schemas.RESULT_OUTPUT["properties"]
    missing = [name for name in (*arguments, *fields) if f"`{name}`" not in PAGE]
    assert missing == []
    assert re.findall(r"^\| `([a-z_]+)` \|.*\|.*\|$", PAGE, re.MULTILINE) == list(schemas.STATUSES)


def test_limits_are_those_of_the_code() -> None:
    assert f"{excerpts.USUAL.characters:,} characters" in PAGE
    assert f"{excerpts.USUAL.size:,} bytes" in PAGE
    assert f"{excerpts.ROOM_OF['codex'].size:,} for Codex" in PAGE
    assert f"{excerpts.MAX_ERROR_CHARACTERS:,} characters" in PAGE
    assert f"{documents.MAX_PAGE_BYTES // 1024} KiB, and {MAX_ENTRIES} entries" in PAGE
    assert f"({MAX_JOBS} of jobs)" in PAGE
    assert f"the {NEWEST_JOBS} newest jobs" in PAGE
