"""Credentials and region of AWS, from the environment."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from perstack.definition.model import ProviderSetting
from perstack.errors import ConfigError
from perstack.llm.providers.keys import optional_key, required_key

KEY_ID_VARIABLE = "AWS_ACCESS_KEY_ID"
SECRET_VARIABLE = "AWS_SECRET_ACCESS_KEY"  # noqa: S105 - the name of a variable
SESSION_VARIABLE = "AWS_SESSION_TOKEN"
REGION_VARIABLE = "AWS_REGION"
OTHER_REGION_VARIABLE = "AWS_DEFAULT_REGION"


@dataclass(frozen=True, slots=True, repr=False)
class AwsCredentials:
    """What requests to a region are signed with. Holds keys, so it has no `repr`."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None
    region: str


def aws_credentials(setting: ProviderSetting, environment: Mapping[str, str]) -> AwsCredentials:
    """The credentials for the region that the settings name.

    Raises:
        ConfigError: A key or the region is not set, or cannot be one.
    """
    return AwsCredentials(
        access_key_id=required_key(KEY_ID_VARIABLE, environment),
        secret_access_key=required_key(SECRET_VARIABLE, environment),
        session_token=optional_key(SESSION_VARIABLE, environment),
        region=aws_region(setting, environment),
    )


def aws_region(setting: ProviderSetting, environment: Mapping[str, str]) -> str:
    """The region.

    Raises:
        ConfigError: It is not set, or cannot be one.
    """
    named = environment.get(REGION_VARIABLE) or environment.get(OTHER_REGION_VARIABLE) or ""
    region = setting.region or named.strip()
    if not region:
        raise ConfigError(
            f"{REGION_VARIABLE} is not set.",
            hint="Name the region in the environment, or in [provider.setting] as region.",
        )
    if not re.fullmatch(r"[a-z0-9-]+", region):
        raise ConfigError(
            f"{region!r} is no region of AWS.",
            hint=f"Write one such as us-east-1 into {REGION_VARIABLE} or [provider.setting].",
        )
    return region
