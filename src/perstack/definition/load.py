"""From a file to a validated snapshot, or to the list of everything that is wrong with it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from perstack.definition.find import FILE_NAME, find_config
from perstack.definition.icons import with_pictures
from perstack.definition.model import Definitions, Expert
from perstack.definition.positions import Positions
from perstack.definition.problems import Finding, InvalidDefinitionError, Problem, locate
from perstack.definition.rules import broken_rules, odd_but_allowed
from perstack.definition.shape import Shaped, put_in_shape
from perstack.definition.source import decode, parse, read_bytes
from perstack.definition.tables import Table, is_table
from perstack.definition.wording import findings_of

__all__ = ["FILE_NAME", "Loaded", "find_config", "load"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A definition file as it was read.

    Attributes:
        path: The file.
        definitions: What it says.
        warnings: What is odd about it, but was accepted.
        digest: SHA-256 of its bytes, in hexadecimal.
    """

    path: Path
    definitions: Definitions
    warnings: tuple[Problem, ...]
    digest: str


def load(path: Path, *, strict: bool = False) -> Loaded:
    """Read and validate a definition file.

    Args:
        path: The file.
        strict: Whether what is merely odd, such as an unknown key, is an error too.

    Raises:
        DefinitionError: The file cannot be read.
        InvalidDefinitionError: The file cannot be accepted; it has every problem with its place.
    """
    content = read_bytes(path)
    source = decode(content, path)
    document = parse(source, path)
    shaped = put_in_shape(document)
    definitions, errors = _validate(document, shaped)
    experts, unseen = with_pictures(definitions.experts, path.parent)
    odd = [*shaped.findings, *odd_but_allowed(shaped.experts), *unseen]
    if not document.get("experts"):
        odd.append(Finding((), "the file defines no expert", _EXAMPLE))
    if strict:
        errors, odd = [*errors, *odd], []
    positions = Positions(source if errors or odd else "")
    warnings = locate(odd, positions, path, shaped.moved)
    if errors:
        raise InvalidDefinitionError(path, locate(errors, positions, path, shaped.moved), warnings)
    return Loaded(
        path=path,
        definitions=definitions.model_copy(update={"path": path, "experts": experts}),
        warnings=warnings,
        digest=hashlib.sha256(content).hexdigest(),
    )


_EXAMPLE = 'write a table [experts."my-expert"] with description = "…" and instruction = "…"'


def _validate(document: Table, shaped: Shaped) -> tuple[Definitions, list[Finding]]:
    """Validate part by part, so that a wrong part does not hide what is wrong with the others."""
    errors: list[Finding] = []
    definitions = Definitions()
    try:
        definitions = Definitions.model_validate(shaped.top, by_alias=True, by_name=False)
    except ValidationError as error:
        errors += findings_of(error, shaped.top, document)
    experts: dict[str, Expert] = {}
    for key, table in shaped.experts.items():
        path = ("experts", key)
        if not is_table(table):
            errors.append(Finding(path, "must be a table", f'write [experts."{key}"]'))
            continue
        keyed = {**table, "key": key}
        try:
            experts[key] = Expert.model_validate(keyed, by_alias=True, by_name=False)
        except ValidationError as error:
            errors += findings_of(error, keyed, document["experts"][key], path)
    if not is_table(document.get("experts", {})):
        errors.append(Finding(("experts",), "must hold tables", 'write [experts."name"]'))
    errors += broken_rules(shaped.top, shaped.experts)
    return definitions.model_copy(update={"experts": experts}), errors
