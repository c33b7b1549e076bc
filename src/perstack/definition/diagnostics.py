"""Problems of a `perstack.toml`, with their positions and their texts for the user."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Self, TypeVar

from pydantic import AfterValidator

from perstack.definition.toml_positions import KeyPath, KeyPositions
from perstack.errors import DefinitionError

T = TypeVar("T")

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_NAMED_TABLES = frozenset({"experts", "skills", "tools"})


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """A problem of a definition file; as text it is one line for the user.

    Attributes:
        reason: What is wrong, as the end of a sentence about the key. It never repeats the value,
            which may be a secret.
        suggestion: What to write instead or to do next.
        key_path: The key concerned, relative to the validated table or to the file; empty for the
            table or file itself.
        path: The file, once the position is resolved.
        line: Counted from 1; `None` while or where there is no position.
        column: Counted from 1, in characters.
    """

    reason: str
    suggestion: str | None = None
    key_path: KeyPath = ()
    path: Path | None = None
    line: int | None = None
    column: int | None = None

    def within(self, *parents: str | int) -> Self:
        """The same problem, with its key path relative to an outer table."""
        return replace(self, key_path=(*parents, *self.key_path))

    @property
    def message(self) -> str:
        """The text without the position."""
        key = f"{render_key_path(self.key_path)}: " if self.key_path else ""
        hint = f" ({self.suggestion})" if self.suggestion else ""
        return f"{key}{self.reason}{hint}"

    def __str__(self) -> str:
        file = "" if self.path is None else f"{self.path.name}:"
        position = "" if self.line is None else f"{self.line}:{self.column}:"
        return f"{file}{position} {self.message}".lstrip()


class InvalidFieldsError(ValueError):
    """Carries every problem that a validator found; pydantic itself keeps one per validator."""

    def __init__(self, errors: Iterable[Diagnostic]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(error.reason for error in self.errors))


def raise_field_errors(errors: list[Diagnostic]) -> None:
    """Raise `InvalidFieldsError` if there are any errors."""
    if errors:
        raise InvalidFieldsError(errors)


def validated_by(check: Callable[[T], list[Diagnostic]]) -> AfterValidator:
    """A validator for the annotation of a field, from a function that lists the errors."""

    def validate(value: T) -> T:
        raise_field_errors(check(value))
        return value

    return AfterValidator(validate)


def parse_json(text: str, hint: str) -> object:
    """The value of a JSON text.

    Raises:
        InvalidFieldsError: The text is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        at = f" at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else ""
        raise InvalidFieldsError([Diagnostic(f"is not JSON{at}", hint)]) from None


class InvalidDefinitionError(DefinitionError):
    """A definition file is not valid.

    Args:
        path: The file.
        details: The errors, in the order of the file.
        warnings: Lint warnings beside them.
    """

    def __init__(
        self, path: Path, details: Sequence[Diagnostic], warnings: Sequence[Diagnostic] = ()
    ) -> None:
        lines = tuple(str(detail) for detail in details)
        count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
        listing = "\n".join(f"  {problem}" for problem in lines)
        super().__init__(f"{path} has {count}:\n{listing}", problems=lines)
        self.details = tuple(details)
        self.warnings = tuple(warnings)


def with_positions(
    diagnostics: Iterable[Diagnostic],
    positions: KeyPositions,
    path: Path,
    moved_keys: Mapping[KeyPath, KeyPath],
) -> tuple[Diagnostic, ...]:
    """Diagnostics with their positions, without duplicates, in the order of the file.

    Args:
        diagnostics: Problems whose key paths are relative to the file.
        positions: The positions of all keys.
        path: The file.
        moved_keys: Where a key was written that normalization moved to another table.
    """
    located: list[Diagnostic] = []
    for each in dict.fromkeys(diagnostics):
        key_path = moved_keys.get(each.key_path, each.key_path)
        position = positions.find(key_path)
        line, column = (position.line, position.column) if position else (None, None)
        located.append(replace(each, key_path=key_path, path=path, line=line, column=column))
    return tuple(sorted(located, key=lambda each: (each.line or 0, each.column or 0)))


def render_key_path(path: KeyPath) -> str:
    """A key path in TOML syntax: `experts."a".delegates[0]`."""
    text = ""
    parent: str | int = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            is_bare = _BARE_KEY.fullmatch(part) and parent not in _NAMED_TABLES
            quoted = part if is_bare else '"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"'
            text += f".{quoted}" if text else quoted
        parent = part
    return "".join(character if character.isprintable() else "?" for character in text)


def did_you_mean(word: str, options: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """A suggestion of the option closest to `word`, if any is close enough."""
    closest = closest_match(word, options, cutoff=cutoff)
    return None if closest is None else f'did you mean "{closest}"?'


def closest_match(word: str, options: Iterable[str], *, cutoff: float) -> str | None:
    """The option closest to `word`, ignoring case, `-` and `_`; `None` if none is close enough."""
    folded = {_fold_word(option): option for option in options}
    matches = get_close_matches(_fold_word(word), folded, n=1, cutoff=cutoff)
    return folded[matches[0]] if matches else None


def _fold_word(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")
