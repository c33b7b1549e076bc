"""Naming rules and limits of `perstack.toml` and what a name says about its expert."""

import re
from typing import Annotated

from pydantic import StringConstraints

EXPERT_NAME = r"(@[a-z0-9][a-z0-9_-]*/)?[a-z0-9][a-z0-9_.-]*"
SEMVER = (
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?"
)
TAG = r"[a-z0-9][a-z0-9_-]*"
PACKAGE_NAME = r"(@[a-z0-9][a-z0-9_.-]*/)?[a-z0-9][a-z0-9_.-]*"

ExpertKey = Annotated[str, StringConstraints(pattern=f"^{EXPERT_NAME}(@({SEMVER}|{TAG}))?$", max_length=511)]
Version = Annotated[str, StringConstraints(pattern=f"^{SEMVER}$", max_length=255)]
RuntimeVersion = Annotated[str, StringConstraints(pattern=f"^({SEMVER}|v?[0-9]+(\\.[0-9]+){{0,2}})$", max_length=255)]
Tag = Annotated[str, StringConstraints(pattern=f"^{TAG}$", max_length=255)]
PackageSpec = Annotated[str, StringConstraints(pattern=f"^{PACKAGE_NAME}(@({SEMVER}|{TAG}))?$", max_length=511)]
EnvironmentName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_][a-zA-Z0-9_-]*$", max_length=255)]
SkillName = Annotated[str, StringConstraints(min_length=1, max_length=255)]
ToolName = Annotated[str, StringConstraints(min_length=1, max_length=255)]

MAX_QUERY_CHARACTERS = 20_480
BASE_SKILL = "@perstack/base"


def coordinator_of(expert_name: str) -> str | None:
    """The coordinator that a delegate belongs to: `a` for `@a/x`, `None` for a coordinator."""
    scope = re.match(r"^@([^/]+)/", expert_name)
    return scope.group(1) if scope else None


def is_delegate_name(expert_name: str) -> bool:
    """Whether a name is of the form `@coordinator/delegate`."""
    return coordinator_of(expert_name) is not None


def last_segment(expert_name: str) -> str:
    """The part of an expert name that delegators see as the tool name: `x` for `@a/x`."""
    return expert_name.rsplit("/", 1)[-1]
