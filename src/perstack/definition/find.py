"""Where the definition file is."""

from collections.abc import Callable
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
        if _answers(Path.is_file, folder / FILE_NAME):
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
    if _answers(Path.is_dir, path):
        path /= FILE_NAME
    if not _answers(Path.exists, path):
        raise DefinitionError(
            f'Given config path "{explicit}" is not found.',
            hint="Give the path of a perstack.toml with --config.",
        )
    # The folder's true name, but the file's own: what lies beside a link belongs to it.
    return path.parent.resolve() / path.name


def _answers(question: Callable[[Path], bool], path: Path) -> bool:
    """Whether a path is something; what cannot be looked at, is not."""
    try:
        return question(path)
    except OSError:
        return False
