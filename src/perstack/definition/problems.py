"""What is wrong in a `perstack.toml`, where it stands, and how it is said to the user."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from perstack.definition.positions import KeyPath, Place, Positions
from perstack.errors import DefinitionError

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_NAMED_TABLES = frozenset({"experts", "skills", "tools"})


@dataclass(frozen=True, slots=True)
class Finding:
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
class Problem:
    """A finding with its place in the file; its text is one line for the user."""

    path: Path
    line: int | None
    column: int | None
    key_path: KeyPath
    reason: str
    suggestion: str | None = None

    def __str__(self) -> str:
        place = "" if self.line is None else f":{self.line}:{self.column}"
        key = f" {render_key_path(self.key_path)}:" if self.key_path else ""
        hint = f" ({self.suggestion})" if self.suggestion else ""
        return f"{self.path.name}{place}:{key} {self.reason}{hint}"


class InvalidDefinitionError(DefinitionError):
    """A definition file was found and cannot be accepted.

    Args:
        path: The file.
        details: Everything that must be put right, in the order of the file.
        warnings: What else is odd.
    """

    def __init__(
        self, path: Path, details: Sequence[Problem], warnings: Sequence[Problem] = ()
    ) -> None:
        problems = tuple(str(problem) for problem in details)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        listing = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(f"{path} has {count}:\n{listing}", problems=problems)
        self.details = tuple(details)
        self.warnings = tuple(warnings)


def locate(
    findings: Iterable[Finding],
    positions: Positions,
    path: Path,
    moved: dict[KeyPath, KeyPath] | None = None,
) -> tuple[Problem, ...]:
    """Give findings their places, in the order of the file.

    Args:
        findings: What was found.
        positions: Where the keys stand.
        path: The file.
        moved: Where a key really stands that was taken from another table.
    """
    located: list[tuple[Place | None, Finding]] = []
    for finding in dict.fromkeys(findings):
        written = (moved or {}).get(finding.key_path, finding.key_path)
        at = Finding(written, finding.reason, finding.suggestion)
        located.append((positions.of(written), at))
    located.sort(key=lambda item: (item[0].line, item[0].column) if item[0] else (0, 0))
    return tuple(
        Problem(
            path=path,
            line=place.line if place else None,
            column=place.column if place else None,
            key_path=finding.key_path,
            reason=finding.reason,
            suggestion=finding.suggestion,
        )
        for place, finding in located
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
    near = near_word(word, options, cutoff=cutoff)
    return None if near is None else f'did you mean "{near}"?'


def near_word(word: str, options: Iterable[str], *, cutoff: float) -> str | None:
    """The option nearest to `word` but for case, - and _; `None` if none is near."""
    plain = {_plain(option): option for option in options}
    found = get_close_matches(_plain(word), plain, n=1, cutoff=cutoff)
    return plain[found[0]] if found else None


def _plain(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")
