"""The page about the definition file names every key, and its example is accepted."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from perstack.definition.expert_tool import ExpertTool
from perstack.definition.loader import load_definitions
from perstack.definition.model import Expert, InteractiveTool, McpSseSkill, McpStdioSkill
from perstack.definition.provider_tools import ProviderSkill
from perstack.definition.tests import Expectation, ExpertTest
from perstack.definition.verification import Verification
from tests.docs.blocks import blocks

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "definition.md").read_text(encoding="utf-8")
TESTING = (DOCS / "testing.md").read_text(encoding="utf-8")
UNEXPLAINED = {"key"}


@pytest.mark.parametrize(
    "model",
    [
        Expert,
        ExpertTool,
        ProviderSkill,
        Verification,
        McpStdioSkill,
        McpSseSkill,
        InteractiveTool,
    ],
)
def test_every_key_is_explained(model: type[BaseModel]) -> None:
    keys = {field.alias or name for name, field in model.model_fields.items()}
    assert [key for key in sorted(keys - UNEXPLAINED) if f"`{key}`" not in PAGE] == []


@pytest.mark.parametrize("model", [ExpertTest, Expectation])
def test_every_key_of_a_test_is_explained(model: type[BaseModel]) -> None:
    keys = {field.alias or name for name, field in model.model_fields.items()}
    assert [key for key in sorted(keys) if f"`{key}`" not in TESTING] == []


@pytest.mark.parametrize("page", [PAGE, TESTING], ids=["definition", "testing"])
def test_the_examples_are_accepted_without_a_warning(tmp_path: Path, page: str) -> None:
    path = tmp_path / "perstack.toml"
    for block in (found for found in blocks(page) if found.language == "toml"):
        path.write_text(block.text, encoding="utf-8")
        assert load_definitions(path, strict=True).definitions.experts
