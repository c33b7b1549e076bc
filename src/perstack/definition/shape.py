"""Which keys a definition file may have where; what has no effect is taken out and reported."""

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, cast

from perstack.definition.expert_test import Expectation, ExpertTest
from perstack.definition.expert_tool import ExpertTool
from perstack.definition.model import (
    Definitions,
    Expert,
    InteractiveSkill,
    InteractiveTool,
    McpSseSkill,
    McpStdioSkill,
    Provider,
    ProviderSetting,
)
from perstack.definition.positions import KeyPath
from perstack.definition.problems import Finding, did_you_mean
from perstack.definition.record import Record
from perstack.definition.tables import Table, is_table, table_or_empty
from perstack.definition.verification import Verification

MISPLACED = ("model", "maxSteps", "maxRetries", "timeout", "reasoningBudget")
RETIRED = {
    "runtime": "has no effect any more: every expert runs in this process",
    "temperature": "has no effect any more: the default of the provider is used",
}
SKILL_MODELS: dict[str, type[Record]] = {
    "mcpStdioSkill": McpStdioSkill,
    "mcpSseSkill": McpSseSkill,
    "interactiveSkill": InteractiveSkill,
}
_MOVE_UP = "move it above the first [table]"


@dataclass(frozen=True, slots=True)
class Shaped:
    """A document with known keys only.

    Attributes:
        top: The top level without its experts.
        experts: The expert tables, which may be no tables at all.
        findings: What was taken out, moved or ignored.
        moved: Keys of `top` that stand elsewhere in the file.
    """

    top: Table
    experts: Table
    findings: list[Finding] = field(default_factory=list[Finding])
    moved: dict[KeyPath, KeyPath] = field(default_factory=dict[KeyPath, KeyPath])


def put_in_shape(document: Table) -> Shaped:
    """The document as the models expect it, and what had to be changed for that.

    Keys that stand under `[provider]` because TOML puts whatever follows a table header into that
    table are moved to the top, where they were meant to be.
    """
    findings: list[Finding] = []
    top, moved = _without_misplaced(document, findings)
    findings += [Finding((key,), RETIRED[key]) for key in RETIRED if key in top]
    top = {key: value for key, value in top.items() if key not in RETIRED}
    known = _known_part(top, Definitions, (), findings)
    experts = table_or_empty(known.pop("experts", None))
    return Shaped(known, experts, findings, moved)


def _without_misplaced(
    document: Table, findings: list[Finding]
) -> tuple[Table, dict[KeyPath, KeyPath]]:
    provider = document.get("provider")
    if not is_table(provider):
        return document, {}
    top: Table = {**document, "provider": dict(provider)}
    moved: dict[KeyPath, KeyPath] = {}
    for key in (key for key in (*MISPLACED, *RETIRED) if key in provider):
        value = top["provider"].pop(key)
        path = ("provider", key)
        if key in RETIRED:
            findings.append(Finding(path, RETIRED[key]))
        elif key in document:
            reason = f"has no effect: {key} is set at the top of the file"
            findings.append(Finding(path, reason, "remove it"))
        else:
            top[key] = value
            moved[(key,)] = path
            reason = "belongs to the top of the file and is taken as if it stood there"
            findings.append(Finding(path, reason, _MOVE_UP))
    return top, moved


def known_keys(model: type[Record]) -> list[str]:
    """The keys of a table as they are written in the file."""
    return [
        info.alias or name for name, info in model.model_fields.items() if info.exclude is not True
    ]


def _known_part(table: Table, model: type[Record], path: KeyPath, findings: list[Finding]) -> Table:
    known = known_keys(model)
    findings += [
        Finding((*path, key), "is unknown and has no effect", _hint(key, model))
        for key in table
        if key not in known
    ]
    kept = {key: _copied(value) for key, value in table.items() if key in known}
    for inner_path, inner, inner_model in list(_inner_tables(kept, model)):
        shaped = _known_part(inner, inner_model, (*path, *inner_path), findings)
        name, *below = inner_path
        if below:
            kept[str(name)][below[0]] = shaped
        else:
            kept[str(name)] = shaped
    return kept


def _copied(value: object) -> Any:
    if is_table(value):
        return dict(value)
    return list(cast("list[object]", value)) if isinstance(value, list) else value


Inner = Generator[tuple[KeyPath, Table, type[Record]]]


def _inner_tables(table: Table, model: type[Record]) -> Inner:
    if model is Definitions:
        yield from _single(table, "provider", Provider)
        yield from _named(table, "experts", Expert)
    elif model is Provider:
        yield from _single(table, "setting", ProviderSetting)
    elif model is Expert:
        yield from _single(table, "tool", ExpertTool)
        yield from _listed(table, "verifications", Verification)
        yield from _listed(table, "tests", ExpertTest)
        yield from _skills(table)
    elif model is ExpertTest:
        yield from _single(table, "expect", Expectation)
    elif model is InteractiveSkill:
        yield from _named(table, "tools", InteractiveTool)


def _single(table: Table, key: str, model: type[Record]) -> Inner:
    inner = table.get(key)
    if is_table(inner):
        yield (key,), inner, model


def _named(table: Table, key: str, model: type[Record]) -> Inner:
    for name, inner in table_or_empty(table.get(key)).items():
        if is_table(inner):
            yield (key, name), inner, model


def _listed(table: Table, key: str, model: type[Record]) -> Inner:
    entries = table.get(key)
    if isinstance(entries, list):
        for index, inner in enumerate(cast("list[object]", entries)):
            if is_table(inner):
                yield (key, index), inner, model


def _skills(table: Table) -> Inner:
    for name, inner in table_or_empty(table.get("skills")).items():
        # Without a known type nobody can tell which keys belong here; the models report the type.
        model = SKILL_MODELS.get(str(inner.get("type"))) if is_table(inner) else None
        if model is not None:
            yield ("skills", name), inner, model


def _hint(key: str, model: type[Record]) -> str | None:
    near = did_you_mean(key, known_keys(model), cutoff=0.75)
    if near is not None:
        return near
    for home, where in _HOMES:
        if home is not model and key in known_keys(home):
            return where
    return did_you_mean(key, known_keys(model))


_HOMES: tuple[tuple[type[Record], str], ...] = (
    (Definitions, _MOVE_UP),
    (ProviderSetting, "it belongs to [provider.setting]"),
    (Expert, 'it belongs to [experts."name"]'),
    (ExpertTool, 'it belongs to [experts."name".tool]'),
    (Verification, 'it belongs to [[experts."name".verifications]]'),
    (ExpertTest, 'it belongs to [[experts."name".tests]]'),
    (Expectation, "it belongs to expect of a test"),
    (McpStdioSkill, 'it belongs to a skill with type = "mcpStdioSkill"'),
    (McpSseSkill, 'it belongs to a skill with type = "mcpSseSkill"'),
    (InteractiveSkill, 'it belongs to a skill with type = "interactiveSkill"'),
)
