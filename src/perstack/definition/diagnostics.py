"""What is wrong in a `perstack.toml`, where it stands, and how it is said to the user."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from perstack.definition.toml_positions import KeyPath, KeyPositions, Position
from perstack.errors import DefinitionError


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong in a table.

    Attributes:
        reason: What is wrong, without the value, which may be a secret.
        at: Path of the key within the validated table; empty for the table itself.
        suggestion: What to write instead.
    """

    reason: str
    at: tuple[str | int, ...] = ()
    suggestion: str | None = None


class InvalidFieldsError(ValueError):
    """All that a validator found, where pydantic would keep one error a validator."""

    def __init__(self, *errors: FieldError) -> None:
        super().__init__("; ".join(fault.reason for fault in errors))
        self.errors = errors


def raise_field_errors(errors: list[FieldError]) -> None:
    """Raise what was found.

    Raises:
        FaultsError: `errors` is not empty.
    """
    if errors:
        raise InvalidFieldsError(*errors)


_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_NAMED_TABLES = frozenset({"experts", "skills", "tools"})


@dataclass(frozen=True, slots=True)
class Issue:
    """Something that a check found, by key.

    Attributes:
        key_path: The key concerned; empty for the whole file.
        reason: What is wrong, as the end of a sentence about the key; holds no secret.
        suggestion: What to write instead or to do next.
    """

    key_path: KeyPath
    reason: str
    suggestion: str | None = None


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """A finding with its place in the file; its text is one line for the user."""

    path: Path
    line: int | None
    column: int | None
    key_path: KeyPath
    reason: str
    suggestion: str | None = None

    def __str__(self) -> str:
        position = "" if self.line is None else f":{self.line}:{self.column}"
        key = f" {render_key_path(self.key_path)}:" if self.key_path else ""
        hint = f" ({self.suggestion})" if self.suggestion else ""
        return f"{self.path.name}{position}:{key} {self.reason}{hint}"


class InvalidDefinitionError(DefinitionError):
    """A definition file was found and cannot be accepted.

    Args:
        path: The file.
        details: Everything that must be put right, in the order of the file.
        warnings: What else is odd.
    """

    def __init__(
        self, path: Path, details: Sequence[Diagnostic], warnings: Sequence[Diagnostic] = ()
    ) -> None:
        lines = tuple(str(problem) for problem in details)
        count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
        listing = "\n".join(f"  {problem}" for problem in lines)
        super().__init__(f"{path} has {count}:\n{listing}", problems=lines)
        self.details = tuple(details)
        self.warnings = tuple(warnings)


def to_diagnostics(
    issues: Iterable[Issue],
    positions: KeyPositions,
    path: Path,
    moved: dict[KeyPath, KeyPath] | None = None,
) -> tuple[Diagnostic, ...]:
    """Give findings their places, in the order of the file.

    Args:
        issues: What was found.
        positions: Where the keys stand.
        path: The file.
        moved: Where a key really stands that was taken from another table.
    """
    located: list[tuple[Position | None, Issue]] = []
    for issue in dict.fromkeys(issues):
        key_path = (moved or {}).get(issue.key_path, issue.key_path)
        located_issue = Issue(key_path, issue.reason, issue.suggestion)
        located.append((positions.find(key_path), located_issue))
    located.sort(key=lambda item: (item[0].line, item[0].column) if item[0] else (0, 0))
    return tuple(
        Diagnostic(
            path=path,
            line=position.line if position else None,
            column=position.column if position else None,
            key_path=finding.key_path,
            reason=finding.reason,
            suggestion=finding.suggestion,
        )
        for position, finding in located
    )


def render_key_path(path: KeyPath) -> str:
    """A key path as one would write it in TOML: `experts."a".delegates[0]`."""
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
    """A suggestion of the option nearest to `word`, if one is near."""
    closest = closest_match(word, options, cutoff=cutoff)
    return None if closest is None else f'did you mean "{closest}"?'


def closest_match(word: str, options: Iterable[str], *, cutoff: float) -> str | None:
    """The option nearest to `word` but for case, - and _; `None` if none is near."""
    folded = {_fold_word(option): option for option in options}
    matches = get_close_matches(_fold_word(word), folded, n=1, cutoff=cutoff)
    return folded[matches[0]] if matches else None


def _fold_word(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")
