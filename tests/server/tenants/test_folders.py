"""Where a principal's files are, and what their engine gets to know."""

from pathlib import Path

import pytest

from perstack.errors import ConfigError
from perstack.server.tenants.folders import (
    TenantSettings,
    ensure_tenants_folder,
    settings_for_tenant,
)
from perstack.settings import Settings


def test_their_folders_are_in_the_workspace_unless_told_otherwise(tmp_path: Path) -> None:
    config = tmp_path / "perstack.toml"
    beside = ensure_tenants_folder(Settings(), TenantSettings(), config)
    given = ensure_tenants_folder(Settings(), TenantSettings(folder=tmp_path / "x" / "y"), config)
    elsewhere = ensure_tenants_folder(Settings(workspace=tmp_path / "w"), TenantSettings(), config)
    assert beside == tmp_path / "perstack" / "principals"
    assert given == tmp_path / "x" / "y"
    assert elsewhere == tmp_path / "w" / "perstack" / "principals"
    assert beside.stat().st_mode & 0o777 == 0o700


def test_a_principals_environment_wins_and_is_out_of_reach_of_their_experts(
    tmp_path: Path,
) -> None:
    shared = Settings(environment={"KEY": "of the server", "OTHER": "kept"})
    before = settings_for_tenant(shared, tmp_path, "alice-1")
    (tmp_path / "alice-1" / ".env").write_text("KEY=of alice\nEMPTY=\n", encoding="utf-8")
    after = settings_for_tenant(shared, tmp_path, "alice-1")
    other = settings_for_tenant(shared, tmp_path, "bob-1")
    assert before.environment == other.environment == {"KEY": "of the server", "OTHER": "kept"}
    assert after.environment == {"KEY": "of alice", "OTHER": "kept"}
    assert after.workspace == tmp_path / "alice-1" / "workspace"
    assert (tmp_path / "alice-1" / "workspace").is_dir()


def test_an_environment_that_experts_have_written_is_not_read(tmp_path: Path) -> None:
    first = settings_for_tenant(Settings(environment={}), tmp_path, "alice-1")
    assert first.workspace is not None
    (first.workspace / ".env").write_text("KEY=theirs\n", encoding="utf-8")
    assert settings_for_tenant(Settings(environment={}), tmp_path, "alice-1").environment == {}


def test_a_folder_that_cannot_be_made_is_a_readable_error(tmp_path: Path) -> None:
    (tmp_path / "perstack").write_text("in the way", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"perstack/principals .* cannot be made.*--principals"):
        ensure_tenants_folder(Settings(), TenantSettings(), tmp_path / "perstack.toml")
