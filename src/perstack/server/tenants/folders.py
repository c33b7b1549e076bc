"""The folders and settings of the tenants of a server with authentication."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from perstack.errors import ConfigError
from perstack.settings import Settings
from perstack.stores import has_unfinished_jobs

TENANT_ENV_FILES = (".env",)
WORKSPACE = "workspace"


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantSettings:
    """Where the tenants of a server live, and for how long their engines stay open.

    Attributes:
        folder: Holds a folder for each principal; else `perstack/principals` in the workspace.
        idle_seconds: How long an idle engine stays open.
        max_open: How many engines may be open at once.
    """

    folder: Path | None = None
    idle_seconds: float = 600.0
    max_open: int = 64


def ensure_tenants_folder(
    settings: Settings, tenant_settings: TenantSettings, config: Path
) -> Path:
    """The folder that holds the folders of principals, created if necessary.

    Raises:
        ConfigError: It cannot be created or written.
    """
    workspace = settings.workspace or config.parent
    folder = tenant_settings.folder or workspace / "perstack" / "principals"
    _make_folder(folder)
    return folder.resolve()


def settings_for_tenant(settings: Settings, folder: Path, principal: str) -> Settings:
    """The settings of one principal's engine.

    Experts work in `workspace` below the principal's folder. The operator may put an `.env` beside
    it, where experts cannot reach it; its variables override those of the server.

    Raises:
        ConfigError: The folder cannot be created, or its `.env` cannot be read.
    """
    # A server without authentication does not need it.
    from perstack.definition.loader import load_environment  # noqa: PLC0415 - see above

    home = folder / principal
    workspace = home / WORKSPACE
    _make_folder(home)
    _make_folder(workspace)
    shared: Mapping[str, str] = os.environ if settings.environment is None else settings.environment
    own = load_environment(TENANT_ENV_FILES, (home,), {}, must_exist=False)
    return replace(settings, workspace=workspace, environment={**shared, **own})


def tenants_with_unfinished_jobs(folder: Path, since_ms: int) -> tuple[str, ...]:
    """The principals with unfinished jobs, driven by a process or not."""
    return tuple(
        home.name
        for home in sorted(folder.iterdir())
        if has_unfinished_jobs(home / WORKSPACE, since_ms)
    )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"The folder {folder} for users cannot be made: {error.strerror}.",
            hint="See that the server may write there, or name another with --principals.",
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(
            f"The folder {folder} for users cannot be written.",
            hint="Change its permissions, or name another with --principals.",
        )
