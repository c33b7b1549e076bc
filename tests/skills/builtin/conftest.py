"""A workspace with its surroundings, and the base skill on it."""

import os
from pathlib import Path

import pytest

from perstack.skills.builtin.skill import BuiltInSkill

CANARY = "canary-7f3a"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """The folder that the tools may touch; beside it there is one that they may not."""
    root = tmp_path / "workspace"
    root.mkdir()
    (root / "perstack").mkdir()
    (root / "perstack" / "store.txt").write_text(CANARY, encoding="utf-8")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text(CANARY, encoding="utf-8")
    (outside / "secret.png").write_bytes(b"\x89PNG\r\n\x1a\n" + CANARY.encode())
    (outside / "secret.pdf").write_bytes(b"%PDF-1.7 " + CANARY.encode())
    return root


@pytest.fixture
def outside(workspace: Path) -> Path:
    """A folder that the tools must not reach."""
    return workspace.parent / "outside"


@pytest.fixture
def skill(workspace: Path) -> BuiltInSkill:
    """The base skill, with credentials in its environment that no command may see."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(workspace.parent / "outside"),
        "ANTHROPIC_API_KEY": CANARY,
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={CANARY}",
        "DATABASE_PASSWORD": CANARY,
        "LD_PRELOAD": CANARY,
        "NODE_PATH": CANARY,
        "PYTHONPATH": CANARY,
    }
    return BuiltInSkill(workspace, environment)
