"""The page about the definition file names every key, and its example is accepted."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from perstack.definition.expert_tool import ExpertTool
from perstack.definition.load import load
from perstack.definition.model import Expert, InteractiveTool, McpSseSkill, McpStdioSkill
from tests.docs.blocks import blocks

PAGE = (Path(__file__).parents[2] / "docs" / "definition.md").read_text(encoding="utf-8")
UNEXPLAINED = {
    "allowedDomains",
    "key",
    "lazyInit",
    "providerSkills",
    "providerToolOptions",
    "providerTools",
}


@pytest.mark.parametrize("model", [Expert, ExpertTool, McpStdioSkill, McpSseSkill, InteractiveTool])
def test_every_key_is_explained(model: type[BaseModel]) -> None:
    keys = {field.alias or name for name, field in model.model_fields.items()}
    assert [key for key in sorted(keys - UNEXPLAINED) if f"`{key}`" not in PAGE] == []


def test_the_examples_are_accepted_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "perstack.toml"
    for block in blocks(PAGE):
        path.write_text(block.text, encoding="utf-8")
        assert load(path, strict=True).definitions.experts
