"""Every block of data on every page is what it is said to be."""

import json
from pathlib import Path

import pytest
import tomli

from perstack.definition.loader import load_definitions
from perstack.llm.scripted.script import Script
from perstack.server.auth.token_file import parse_tokens
from tests.docs.blocks import Block, blocks
from tests.docs.written import PAGES

DATA = [
    (page.name, block)
    for page in PAGES
    for block in blocks(page.read_text(encoding="utf-8"))
    if block.language in ("toml", "json")
]
TRIED_LANGUAGES = {"toml", "json", "sh", "console", "python", "text"}


def of(page: str, language: str) -> list[Block]:
    return [block for name, block in DATA if (name, block.language) == (page, language)]


def test_no_block_is_of_a_kind_that_nobody_tries() -> None:
    unclosed = [page.name for page in PAGES if page.read_text(encoding="utf-8").count("```") % 2]
    languages = {
        block.language for page in PAGES for block in blocks(page.read_text(encoding="utf-8"))
    }
    fences = sum(page.read_text(encoding="utf-8").count("\n```") for page in PAGES)
    found = sum(len(blocks(page.read_text(encoding="utf-8"))) for page in PAGES)
    assert unclosed == []
    assert languages == TRIED_LANGUAGES
    assert fences == 2 * found


@pytest.mark.parametrize(("page", "block"), DATA, ids=lambda part: getattr(part, "line", part))
def test_data_can_be_read(page: str, block: Block) -> None:
    assert (tomli.loads if block.language == "toml" else json.loads)(block.text), page


@pytest.mark.parametrize(
    ("page", "block"),
    [(page, block) for page, block in DATA if "[experts." in block.text and page != "scripted.md"],
    ids=lambda part: getattr(part, "line", part),
)
def test_definitions_are_accepted_without_a_warning(
    page: str, block: Block, tmp_path: Path
) -> None:
    (tmp_path / "icons").mkdir()
    (tmp_path / "icons" / "invoice.svg").write_text("<svg/>", encoding="utf-8")
    text = block.text
    if "instruction" not in text:
        # A part of an expert that the page on definitions has as a whole.
        text += '\n[experts."invoice-reader"]\ninstruction = "Read."\n'
    path = tmp_path / "perstack.toml"
    path.write_text(text, encoding="utf-8")
    assert load_definitions(path, strict=True).definitions.experts, page


def test_the_scripted_provider_and_its_script_fit_each_other(tmp_path: Path) -> None:
    provider, replies = of("scripted.md", "toml")
    path = tmp_path / "perstack.toml"
    path.write_text(f'{provider.text}\n[experts.reader]\ninstruction = "Read."\n', encoding="utf-8")
    assert load_definitions(path, strict=True).definitions.experts
    script = Script.model_validate(tomli.loads(replies.text))
    assert [len(said) for said in script.experts.values()] == [2, 1]


def test_the_example_of_a_file_of_tokens_is_one() -> None:
    (example,) = of("http.md", "toml")
    (token,) = parse_tokens(example.text.encode())
    assert token.principal == "alice"
