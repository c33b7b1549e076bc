"""The guide for contributors names files that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TABLE = TEXT[TEXT.index("## Where do I add") : TEXT.index("## House rules")]
PATHS = sorted(set(re.findall(r"`([a-z_/]+/(?:[a-z_]+\.(?:py|json|md))?)`", TABLE)))


@pytest.mark.parametrize("path", PATHS)
def test_a_place_to_add_something_exists(path: str) -> None:
    assert (ROOT / path).exists() or (ROOT / "src" / "perstack" / path).exists()


def test_the_table_names_places() -> None:
    assert len(PATHS) > 10
