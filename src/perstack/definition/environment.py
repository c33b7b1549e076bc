"""The variables for keys and skills: the process's own, then those of `.env` files."""

import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from dotenv import dotenv_values

from perstack.errors import ConfigError


def load_environment(
    paths: Iterable[str], folder: Path, base: Mapping[str, str], *, must_exist: bool
) -> dict[str, str]:
    """Merge `.env` files into an environment without touching the process's own.

    What is set and not empty in `base` stays; of the files, the first that sets a name wins.

    Args:
        paths: The files, relative to `folder`.
        folder: Where they are.
        base: The process's environment.
        must_exist: Whether a missing file is an error.

    Raises:
        ConfigError: A file is missing although it was asked for, or cannot be read.
    """
    merged = {name: value for name, value in base.items() if value}
    for given in paths:
        path = folder / given
        if not path.is_file():
            if must_exist:
                raise ConfigError(
                    f"The environment file {given!r} is not found.", hint="Check --env-path."
                )
            continue
        for name, value in _values(path).items():
            merged.setdefault(name, value)
    return merged


def _values(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {type(error).__name__}.") from error
    found = dotenv_values(stream=io.StringIO(text), interpolate=False)
    return {name: value for name, value in found.items() if value}
