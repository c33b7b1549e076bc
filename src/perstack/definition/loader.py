"""Finds, reads and validates `perstack.toml`, and loads its `.env` files."""

import hashlib
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import tomli
from pydantic import ValidationError

from perstack.definition.diagnostics import (
    Diagnostic,
    InvalidDefinitionError,
    with_positions,
)
from perstack.definition.faults import find_faults
from perstack.definition.icons import load_icons
from perstack.definition.model import Definitions, Expert
from perstack.definition.normalize import NormalizedDocument, normalize
from perstack.definition.pydantic_errors import issues_from_validation_error
from perstack.definition.rules import lint_warnings, rule_errors
from perstack.definition.toml_positions import KeyPositions
from perstack.errors import ConfigError, DefinitionError
from perstack.models import TomlTable, is_table


def environment_folders(config: Path) -> tuple[Path, ...]:
    """Where the `.env` files of a definition file are looked for; the first folder wins."""
    return (Path.cwd(), config.parent)


def load_environment(
    paths: Iterable[str], folders: Sequence[Path], base: Mapping[str, str], *, must_exist: bool
) -> dict[str, str]:
    """Merge `.env` files into an environment without touching the process's own.

    Values in `base` that are not empty take precedence; then the first folder that has a file that
    sets a name; then the last file there that does, so that `.env.local` wins over `.env`.

    Args:
        paths: The files, relative to the folders.
        folders: Where they are looked for.
        base: The process's environment.
        must_exist: Whether a file that no folder has is an error; of each, only the first is read.

    Raises:
        ConfigError: A file that must exist is missing, or a file cannot be read.
    """
    merged = {name: value for name, value in base.items() if value}
    for path in _env_files(tuple(paths), folders, must_exist=must_exist):
        for name, value in _read_env_file(path).items():
            merged.setdefault(name, value)
    return merged


def _env_files(
    names: tuple[str, ...], folders: Sequence[Path], *, must_exist: bool
) -> Iterable[Path]:
    """The files that exist, the one that wins first."""
    if not must_exist:
        paths = (folder / name for folder in folders for name in reversed(names))
        return [path for path in paths if path.is_file()]
    return [_find_env_file(name, folders) for name in reversed(names)]


def _find_env_file(name: str, folders: Sequence[Path]) -> Path:
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    places = " and ".join(str(folder) for folder in dict.fromkeys(folders))
    raise ConfigError(
        f"The environment file {name!r} is not found; looked in {places}.",
        hint="Check --env-path.",
    )


def _read_env_file(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {type(error).__name__}.") from error
    from dotenv import dotenv_values  # noqa: PLC0415 - most commands read no .env file

    values = dotenv_values(stream=io.StringIO(text), interpolate=False)
    return {name: value for name, value in values.items() if value}


FILE_NAME = "perstack.toml"


def find_config(explicit: Path | str | None, cwd: Path) -> Path:
    """The definition file: `explicit`, or the nearest `perstack.toml` in `cwd` and above it.

    Args:
        explicit: A file, or a folder with a `perstack.toml`, relative to `cwd`.
        cwd: The folder to search from.

    Raises:
        DefinitionError: There is none, or `explicit` is a URL.
    """
    if explicit is not None:
        return _explicit_config(explicit, cwd)
    for folder in (cwd, *cwd.parents):
        if _is_true_of_path(Path.is_file, folder / FILE_NAME):
            return folder / FILE_NAME
    raise DefinitionError(
        "perstack.toml not found.", hint="Create one or specify its path with --config."
    )


def _explicit_config(explicit: Path | str, cwd: Path) -> Path:
    if str(explicit).lower().startswith(("http:", "https:")):
        raise DefinitionError(
            "A definition file on the web is not read, since it decides which programs are started"
            " here.",
            hint="Download it, read it, and give its path with --config.",
        )
    path = cwd / explicit
    if _is_true_of_path(Path.is_dir, path):
        path /= FILE_NAME
    if not _is_true_of_path(Path.exists, path):
        raise DefinitionError(
            f'Given config path "{explicit}" is not found.',
            hint="Give the path of a perstack.toml with --config.",
        )
    # Relative paths in the file are resolved beside a link, not beside its target.
    return path.parent.resolve() / path.name


def _is_true_of_path(predicate: Callable[[Path], bool], path: Path) -> bool:
    """`predicate(path)`, or false if the path cannot be accessed."""
    try:
        return predicate(path)
    except OSError:
        return False


MAX_DEFINITION_BYTES = 8 * 1024 * 1024

_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_DUPLICATE_MESSAGES = ("Cannot overwrite", "Cannot declare", "Duplicate inline", "Cannot redefine")
_SYNTAX_MESSAGES: tuple[tuple[str, str, str | None], ...] = (
    ("Unterminated string", "a string has no closing quotes", None),
    ("Illegal character '\\n'", "a string has no closing quote on its line", 'use """ for several'),
    ("Illegal character", "a character is not allowed here", "write it as an escape, such as \\t"),
    ("Unclosed array", "a list has no closing ] or lacks a comma", None),
    ("Unclosed inline table", "an inline table has no closing } or lacks a comma", None),
    ("Expected ']", "a table header has no closing ]", 'write [experts."name"]'),
    ("Invalid initial character", "a key cannot begin like this", "put the key in quotes"),
    ("Expected '='", "a key has no = after it", "quote keys that contain other characters"),
    ("Invalid value", "this is no TOML value", "put texts in quotes"),
    ("Unescaped", "a backslash in a string starts no escape", "write \\\\ or use '…'"),
    ("Invalid hex value", "a \\u escape lacks its hexadecimal digits", None),
    ("Invalid statement", "this is neither a key nor a table header", None),
    ("Expected newline", "something follows a value on its line", "begin a new line"),
    ("Cannot mutate", "a list or inline table cannot be extended further down", None),
)
_DUPLICATE_HINT = "keep one of them"


def read_bytes(path: Path) -> bytes:
    """The content of a definition file.

    Raises:
        DefinitionError: It does not exist, is a folder, cannot be read or is too large.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_DEFINITION_BYTES + 1)
    except FileNotFoundError:
        raise DefinitionError(
            f'Given config path "{path}" is not found.',
            hint="Create the file or give another path.",
        ) from None
    except IsADirectoryError:
        raise DefinitionError(
            f"{path} is a folder.", hint="Give the path of the perstack.toml in it."
        ) from None
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise DefinitionError(
            f"{path} cannot be read: {reason}.", hint="Check the path and its permissions."
        ) from error
    if len(content) > MAX_DEFINITION_BYTES:
        raise DefinitionError(
            f"{path} has more than {MAX_DEFINITION_BYTES} bytes.",
            hint="Is this really a perstack.toml?",
        )
    return content


def decode_source(content: bytes, path: Path) -> str:
    """The text of a definition file with plain line feeds and without a byte order mark.

    Raises:
        InvalidDefinitionError: The bytes are not UTF-8.
    """
    hint = "save the file as UTF-8"
    if content.startswith(_UTF16_BOMS):
        raise _invalid_source(path, 1, 1, "the file is UTF-16", hint)
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        # Positions are relative to the end of the byte order mark.
        body = bytes(error.object)[: error.start]
        column = len(body.rpartition(b"\n")[2].decode("utf-8", errors="replace")) + 1
        line = body.count(b"\n") + 1
        raise _invalid_source(path, line, column, "the file is not UTF-8 text", hint) from None


def parse_toml(source: str, path: Path) -> dict[str, Any]:
    """The tables of a TOML text.

    Raises:
        InvalidDefinitionError: The text is not TOML; the first error is reported.
    """
    try:
        return tomli.loads(source)
    except tomli.TOMLDecodeError as error:
        raise _syntax_error(error, source, path) from None
    except RecursionError:
        raise _invalid_source(path, 1, 1, "lists or tables are nested too deeply", None) from None
    except ValueError:
        reason = "the file has a number with far too many digits"
        position = _locate_long_number(source)
        raise _invalid_source(path, *position, reason, None) from None


def _syntax_error(error: tomli.TOMLDecodeError, source: str, path: Path) -> InvalidDefinitionError:
    if error.msg.startswith(_DUPLICATE_MESSAGES):
        duplicate = KeyPositions(source).duplicate
        if duplicate is not None:
            key, first, second = duplicate
            reason = f"stands twice, first in line {first.line}"
            detail = Diagnostic(reason, _DUPLICATE_HINT, key, path, second.line, second.column)
            return InvalidDefinitionError(path, [detail])
    return _invalid_source(path, error.lineno, error.colno, *_describe_syntax_error(error.msg))


def _describe_syntax_error(message: str) -> tuple[str, str | None]:
    if message.startswith(_DUPLICATE_MESSAGES):
        return "a key or table stands twice", _DUPLICATE_HINT
    for start, reason, hint in _SYNTAX_MESSAGES:
        if message.startswith(start):
            return reason, hint
    return message[:1].lower() + message[1:], None


def _locate_long_number(source: str) -> tuple[int, int]:
    match = re.search(r"[0-9_]{4000,}", source)
    start = match.start() if match else 0
    line_start = source.rfind("\n", 0, start) + 1
    return source.count("\n", 0, start) + 1, start - line_start + 1


def _invalid_source(
    path: Path, line: int, column: int, reason: str, suggestion: str | None
) -> InvalidDefinitionError:
    return InvalidDefinitionError(path, [Diagnostic(reason, suggestion, (), path, line, column)])


__all__ = ["FILE_NAME", "LoadedDefinitions", "find_config", "load_definitions"]


@dataclass(frozen=True, slots=True)
class LoadedDefinitions:
    """A definition file as it was read.

    Attributes:
        path: The file.
        definitions: Its content.
        warnings: Lint warnings.
        digest: SHA-256 of its bytes, in hexadecimal.
        faults: What is wrong with the experts that are left out, by their keys.
    """

    path: Path
    definitions: Definitions
    warnings: tuple[Diagnostic, ...]
    digest: str
    faults: Mapping[str, tuple[Diagnostic, ...]] = field(
        default_factory=dict[str, tuple[Diagnostic, ...]]
    )

    @property
    def fault_reports(self) -> tuple[str, ...]:
        """A sentence for each expert that is left out."""
        return tuple(
            f"{'; '.join(map(str, faults))}. Expert {key!r} is left out."
            for key, faults in self.faults.items()
        )


def load_definitions(
    path: Path, *, strict: bool = False, keep_sound: bool = False
) -> LoadedDefinitions:
    """Read and validate a definition file.

    Args:
        path: The file.
        strict: Whether lint warnings, such as an unknown key, are errors, of the whole file.
        keep_sound: Whether a file is accepted without the experts that have errors, or delegate to
            one that has, if others remain.

    Raises:
        DefinitionError: The file cannot be read.
        InvalidDefinitionError: The file is invalid; it carries every problem with its position.
    """
    content = read_bytes(path)
    source = decode_source(content, path)
    document = parse_toml(source, path)
    normalized = normalize(document)
    definitions, errors = _validate(document, normalized)
    experts, icon_issues = load_icons(definitions.experts, path.parent)
    lint_issues = [
        *normalized.issues,
        *lint_warnings(normalized.top, normalized.experts),
        *icon_issues,
    ]
    if not document.get("experts"):
        lint_issues.append(Diagnostic("the file defines no expert", _EXPERT_EXAMPLE))
    if strict:
        errors, lint_issues = [*errors, *lint_issues], []
    positions = KeyPositions(source if errors or lint_issues else "")
    warnings = with_positions(lint_issues, positions, path, normalized.moved_keys)
    located = partial(
        with_positions, positions=positions, path=path, moved_keys=normalized.moved_keys
    )
    faults = find_faults(experts, errors) if keep_sound and not strict else None
    if errors and faults is None:
        raise InvalidDefinitionError(path, located(errors), warnings)
    faults = faults or {}
    sound = {key: expert for key, expert in experts.items() if key not in faults}
    return LoadedDefinitions(
        path=path,
        definitions=definitions.model_copy(update={"path": path, "experts": sound}),
        warnings=warnings,
        digest=hashlib.sha256(content).hexdigest(),
        faults={key: located(each) for key, each in faults.items()},
    )


def locate_problems(path: Path, problems: Sequence[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Problems that were found after a file had been loaded, with their positions in it.

    Raises:
        DefinitionError: The file cannot be read any more.
    """
    if not problems:
        return ()
    source = decode_source(read_bytes(path), path)
    moved_keys = normalize(parse_toml(source, path)).moved_keys
    return with_positions(problems, KeyPositions(source), path, moved_keys)


_EXPERT_EXAMPLE = 'write a table [experts."my-expert"] with description = "…" and instruction = "…"'


def _validate(
    document: TomlTable, normalized: NormalizedDocument
) -> tuple[Definitions, list[Diagnostic]]:
    """Validate each part by itself, so that one invalid part does not hide errors of the others."""
    errors: list[Diagnostic] = []
    definitions = Definitions()
    try:
        definitions = Definitions.model_validate(normalized.top, by_alias=True, by_name=False)
    except ValidationError as error:
        errors += issues_from_validation_error(error, normalized.top, document)
    experts: dict[str, Expert] = {}
    for key, table in normalized.experts.items():
        path = ("experts", key)
        if not is_table(table):
            errors.append(Diagnostic("must be a table", f'write [experts."{key}"]', key_path=path))
            continue
        expert_table = {**table, "key": key}
        try:
            experts[key] = Expert.model_validate(expert_table, by_alias=True, by_name=False)
        except ValidationError as error:
            errors += issues_from_validation_error(
                error, expert_table, document["experts"][key], path
            )
    if not is_table(document.get("experts", {})):
        errors.append(
            Diagnostic("must hold tables", 'write [experts."name"]', key_path=("experts",))
        )
    errors += rule_errors(normalized.top, normalized.experts)
    return definitions.model_copy(update={"experts": experts}), errors
