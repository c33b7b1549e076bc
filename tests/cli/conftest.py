"""What the tests of the command line share."""

from pathlib import Path

import pytest

from tests.cli.harness import Stage, stage


@pytest.fixture
def here(tmp_path: Path) -> Stage:
    """A folder with experts."""
    return stage(tmp_path)
