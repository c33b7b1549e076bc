"""Paths in the command line of a skill, which are relative to the folder of the definition file."""

import re
from collections.abc import Sequence
from pathlib import Path

FOLDER_PREFIX = re.compile(r"\.{1,2}/")


def resolve_paths(words: Sequence[str], folder: Path) -> tuple[str, ...]:
    """A command line in which what names something in a folder has its whole path.

    Args:
        words: The command and its arguments.
        folder: Where the definition file is.
    """
    command, *arguments = words
    if "/" in command and not Path(command).is_absolute():
        command = str(folder / command)
    return (command, *(_resolve_argument(argument, folder) for argument in arguments))


def _resolve_argument(argument: str, folder: Path) -> str:
    option, equals, value = argument.partition("=")
    if not argument.startswith("-"):
        return _resolve(argument, folder)
    return f"{option}={_resolve(value, folder)}" if equals else argument


def _resolve(word: str, folder: Path) -> str:
    """A path that is there, or begins with ./ or ../; other words may mean anything."""
    if not _may_be_path(word) or Path(word).is_absolute():
        return word
    path = folder / word
    try:
        is_there = path.exists() if "/" in word else path.is_file()
    except (OSError, ValueError):
        return word
    return str(path) if is_there or FOLDER_PREFIX.match(word) else word


def _may_be_path(word: str) -> bool:
    # A word without a dot or a slash is a subcommand rather than a file of that name.
    return ("/" in word or "." in word.strip(".")) and "://" not in word
