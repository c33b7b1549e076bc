"""Naming rules and limits of `perstack.toml` and what a name says about its expert."""

import re
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

EXPERT_NAME = r"(@[a-z0-9][a-z0-9_-]*/)?[a-z0-9][a-z0-9_.-]*"
SEMVER = (
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?"
)
TAG = r"[a-z0-9][a-z0-9_-]*"
PACKAGE_NAME = r"(@[a-z0-9][a-z0-9_.-]*/)?[a-z0-9][a-z0-9_.-]*"

EXPERT_KEY_PATTERN = f"^{EXPERT_NAME}(@({SEMVER}|{TAG}))?$"
VERSION_PATTERN = f"^{SEMVER}$"
RUNTIME_VERSION_PATTERN = f"^({SEMVER}|v?[0-9]+(\\.[0-9]+){{0,2}})$"
TAG_PATTERN = f"^{TAG}$"
PACKAGE_PATTERN = f"^{PACKAGE_NAME}(@({SEMVER}|{TAG}))?$"
ENVIRONMENT_PATTERN = r"^[a-zA-Z0-9_][a-zA-Z0-9_-]*$"

MAX_NAME = 255
MAX_KEY = 511
MAX_QUERY_CHARACTERS = 20_480
BASE_SKILL = "@perstack/base"
VARIABLE_REFERENCE = re.compile(r"\$\{([^}]*)\}")
"""`${NAME}` in a header of a remote skill stands for the value of that variable."""

RUNTIME_VERSION = "1.0.0"
"""The version of the definition language that `minRuntimeVersion` is compared with."""


def name_of(expert_key: str) -> str:
    """The expert's name without the version or tag that a key may end in."""
    return expert_key[:1] + expert_key[1:].split("@", 1)[0]


def coordinator_of(expert_name: str) -> str | None:
    """The coordinator that a delegate belongs to: `a` for `@a/x`, `None` for a coordinator."""
    scope = re.match(r"^@([^/]+)/", expert_name)
    return scope.group(1) if scope else None


def is_delegate_name(expert_name: str) -> bool:
    """Whether a name is of the form `@coordinator/delegate`."""
    return coordinator_of(expert_name) is not None


def _check_name_length(expert_key: str) -> str:
    if len(name_of(expert_key)) > MAX_NAME:
        raise ValueError(f"has a name of more than {MAX_NAME} characters")
    return expert_key


ExpertKey = Annotated[
    str,
    StringConstraints(pattern=EXPERT_KEY_PATTERN, max_length=MAX_KEY),
    AfterValidator(_check_name_length),
]
Version = Annotated[str, StringConstraints(pattern=VERSION_PATTERN, max_length=MAX_NAME)]
RuntimeVersion = Annotated[
    str, StringConstraints(pattern=RUNTIME_VERSION_PATTERN, max_length=MAX_NAME)
]
Tag = Annotated[str, StringConstraints(pattern=TAG_PATTERN, max_length=MAX_NAME)]
PackageSpec = Annotated[str, StringConstraints(pattern=PACKAGE_PATTERN, max_length=MAX_KEY)]
EnvironmentName = Annotated[
    str, StringConstraints(pattern=ENVIRONMENT_PATTERN, max_length=MAX_NAME)
]
SkillName = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME)]
ToolName = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME)]
