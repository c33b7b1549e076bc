"""Vertex AI: Google's models and those of Anthropic, by the credentials of Google Cloud."""

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from perstack.definition.model import ProviderSetting
from perstack.errors import ConfigError
from perstack.llm.providers.anthropic import ANTHROPIC
from perstack.llm.providers.google import (
    COMMON_TOOLS,
    GEMINI_MEDIA,
    TOOL_LIMITS,
    plain_tool,
    thinking_option,
)
from perstack.llm.providers.profile import ProviderProfile

CREDENTIALS_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"
PROJECT_VARIABLE = "GOOGLE_VERTEX_PROJECT"
LOCATION_VARIABLE = "GOOGLE_VERTEX_LOCATION"
DEFAULT_LOCATION = "global"
METADATA_HOST_VARIABLE = "GCE_METADATA_HOST"
METADATA_HOST = "metadata.google.internal"

_MULTI_REGIONS = frozenset({"eu", "us"})
_NO_CHECK_VARIABLE = "NO_GCE_CHECK"
_CLOUD_RUN_VARIABLE = "K_SERVICE"
_MACHINE_NAME = Path("/sys/class/dmi/id/product_name")


def publisher_url(setting: ProviderSetting, environment: Mapping[str, str]) -> str:
    """The address of Google's models in a project and a location.

    Raises:
        ConfigError: No project is named, or the location cannot be one.
    """
    project = setting.project or environment.get(PROJECT_VARIABLE, "").strip()
    if not project:
        raise ConfigError(
            f"{PROJECT_VARIABLE} is not set.",
            hint="Name the project in the environment, or in [provider.setting] as project.",
        )
    location = setting.location or environment.get(LOCATION_VARIABLE, "").strip()
    location = location or DEFAULT_LOCATION
    if not re.fullmatch(r"[a-z0-9-]+", location):
        raise ConfigError(
            f"{location!r} is no location of Google Cloud.",
            hint=f"Write one such as europe-west4 into {LOCATION_VARIABLE} or [provider.setting].",
        )
    path = f"projects/{quote(project, safe=':')}/locations/{location}/publishers/google"
    return f"https://{_host(location)}/v1/{path}"


def _host(location: str) -> str:
    if location == DEFAULT_LOCATION:
        return "aiplatform.googleapis.com"
    if location in _MULTI_REGIONS:
        return f"aiplatform.{location}.rep.googleapis.com"
    return f"{location}-aiplatform.googleapis.com"


def required_variables(setting: ProviderSetting, environment: Mapping[str, str]) -> tuple[str, ...]:
    """The file of credentials, unless there are others, and the project, unless it is set."""
    is_named = bool(environment.get(CREDENTIALS_VARIABLE))
    has_others = credentials_file(environment) or metadata_host(environment)
    names = [CREDENTIALS_VARIABLE] if is_named or not has_others else []
    if not setting.project and not setting.base_url:
        names.append(PROJECT_VARIABLE)
    return tuple(names)


def credentials_file(environment: Mapping[str, str]) -> Path | None:
    """The file that the environment names, else the one that `gcloud auth` has left."""
    if named := environment.get(CREDENTIALS_VARIABLE, "").strip():
        return Path(named)
    folder = environment.get("CLOUDSDK_CONFIG")
    if not folder:
        variable, below = ("APPDATA", "gcloud") if os.name == "nt" else ("HOME", ".config/gcloud")
        home = environment.get(variable)
        folder = os.path.join(home, below) if home else None  # noqa: PTH118 - one of two parts
    file = Path(folder, "application_default_credentials.json") if folder else None
    return file if file is not None and file.is_file() else None


def metadata_host(environment: Mapping[str, str]) -> str | None:
    """The server that gives tokens to programs on a machine of Google Cloud; else `None`.

    No address is tried for it: such a machine is known by its name or by a variable. `NO_GCE_CHECK`
    says, as elsewhere, that it is not one of them.
    """
    if named := environment.get(METADATA_HOST_VARIABLE, "").strip():
        return named
    if environment.get(_NO_CHECK_VARIABLE) == "true":
        return None
    try:
        is_google_machine = _MACHINE_NAME.read_text(encoding="utf-8").startswith("Google")
    except (OSError, ValueError):
        is_google_machine = False
    is_on_google_cloud = is_google_machine or _CLOUD_RUN_VARIABLE in environment
    return METADATA_HOST if is_on_google_cloud else None


_GEMINI = ProviderProfile(
    name="google-vertex",
    wire_format="gemini",
    litellm_prefix="vertex_ai",
    default_base_url=publisher_url,
    base_url_variable="GOOGLE_VERTEX_BASE_URL",
    required_variables=required_variables,
    authorization="google",
    reasoning=thinking_option,
    thinking_models=r"gemini-(2\.5|[3-9]).*",
    accepts_files=True,
    media_rules=GEMINI_MEDIA,
    tool_limits=TOOL_LIMITS,
    provider_tools={**COMMON_TOOLS, "enterpriseWebSearch": plain_tool("enterpriseWebSearch")},
)
# Its answers and its history are those of Anthropic, at another address.
_CLAUDE = replace(
    ANTHROPIC,
    name="google-vertex",
    wire_format="anthropic_vertex",
    litellm_prefix="vertex_ai",
    default_base_url=publisher_url,
    base_url_variable="GOOGLE_VERTEX_BASE_URL",
    key_variable=None,
    required_variables=required_variables,
    authorization="google",
    headers=_GEMINI.headers,
    appended_path="",
    accepts_file_urls=False,
    accepts_image_urls=False,
    provider_tools={},
    provider_tool_headers=_GEMINI.provider_tool_headers,
)
GOOGLE_VERTEX = replace(_GEMINI, families=((r"claude-.*", _CLAUDE),))
