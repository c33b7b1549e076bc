"""Where the definition file is."""

from pathlib import Path

from perstack.errors import DefinitionError

FILE_NAME = "perstack.toml"


def find_config(explicit: Path | str | None, cwd: Path) -> Path:
    """The definition file: `explicit`, or the nearest `perstack.toml` in `cwd` and above it.

    Args:
        explicit: A file, or a folder with a `perstack.toml`, relative to `cwd`.
        cwd: Where to begin.

    Raises:
        DefinitionError: There is none, or `explicit` is a URL.
    """
    if explicit is not None:
        return _given(explicit, cwd)
    for folder in (cwd, *cwd.parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    raise DefinitionError(
        "perstack.toml not found.", hint="Create one or specify its path with --config."
    )


def _given(explicit: Path | str, cwd: Path) -> Path:
    if str(explicit).lower().startswith(("http:", "https:")):
        raise DefinitionError(
            "A definition file on the web is not read, since it decides which programs are started"
            " here.",
            hint="Download it, read it, and give its path with --config.",
        )
    path = cwd / explicit
    if path.is_dir():
        path /= FILE_NAME
    if not path.exists():
        raise DefinitionError(
            f'Given config path "{explicit}" is not found.',
            hint="Give the path of a perstack.toml with --config.",
        )
    return path.absolute()
