"""Keys from the environment, checked before anything is sent."""

import re
from collections.abc import Mapping

from perstack.errors import ConfigError

_PLACEHOLDER = re.compile(r"<.*>|\$\{.*\}|\.\.\.|…", re.DOTALL)
_HEADER_VALUE = re.compile(r"[\x21-\x7e]+")


def required_key(variable: str, environment: Mapping[str, str]) -> str:
    """The value of a variable.

    Raises:
        ConfigError: It is not set, or cannot be a key.
    """
    # Keys that are read from files end in a newline.
    key = environment.get(variable, "").strip()
    hint = "Put it into .env or into the environment."
    if not key:
        raise ConfigError(f"{variable} is not set.", hint=hint)
    if _PLACEHOLDER.fullmatch(key):
        raise ConfigError(f"{variable} has a placeholder instead of a key.", hint=hint)
    if not _HEADER_VALUE.fullmatch(key):
        raise ConfigError(
            f"{variable} has a character that no key has, such as a line break.",
            hint="Write the key on one line.",
        )
    return key


def optional_key(variable: str, environment: Mapping[str, str]) -> str | None:
    """The value of a variable, if it has one.

    Raises:
        ConfigError: It cannot be a key.
    """
    is_set = environment.get(variable, "").strip()
    return required_key(variable, environment) if is_set else None
