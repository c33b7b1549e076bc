"""Removes unknown and obsolete keys of a definition file, and moves misplaced ones."""

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, cast

from perstack.definition.budget import Budget, JobBudget
from perstack.definition.diagnostics import Diagnostic, did_you_mean
from perstack.definition.expert_tool import ExpertTool
from perstack.definition.model import (
    Definitions,
    Expert,
    Fallback,
    InteractiveSkill,
    InteractiveTool,
    McpSseSkill,
    McpStdioSkill,
    Provider,
    ProviderSetting,
)
from perstack.definition.model_facts import LongInputPrices, ModelFacts, Price
from perstack.definition.provider_tools import ProviderSkill
from perstack.definition.tests import Expectation, ExpertTest
from perstack.definition.toml_positions import KeyPath
from perstack.definition.verification import Verification
from perstack.models import FrozenModel, TomlTable, is_table, table_or_empty

TOP_LEVEL_KEYS = (
    "model",
    "maxSteps",
    "maxRetries",
    "timeout",
    "reasoningBudget",
    "maxToolResultCharacters",
)
REMOVED_KEYS = {
    "runtime": "has no effect any more: every expert runs in this process",
    "temperature": "has no effect any more: the default of the provider is used",
}
SKILL_MODELS: dict[str, type[FrozenModel]] = {
    "mcpStdioSkill": McpStdioSkill,
    "mcpSseSkill": McpSseSkill,
    "interactiveSkill": InteractiveSkill,
}
_MOVE_TO_TOP_HINT = "move it above the first [table]"


@dataclass(frozen=True, slots=True)
class NormalizedDocument:
    """A document with known keys only.

    Attributes:
        top: The top level without its experts.
        experts: The expert tables, not yet validated.
        issues: A warning for each key removed, moved or ignored.
        moved_keys: Keys of `top` that are written elsewhere in the file.
    """

    top: TomlTable
    experts: TomlTable
    issues: list[Diagnostic] = field(default_factory=list[Diagnostic])
    moved_keys: dict[KeyPath, KeyPath] = field(default_factory=dict[KeyPath, KeyPath])


def normalize(document: TomlTable) -> NormalizedDocument:
    """The document as the models expect it.

    TOML puts keys below a table header into that table, so top-level keys written below
    `[provider]` are moved to the top.
    """
    issues: list[Diagnostic] = []
    top, moved_keys = _lift_misplaced_keys(document, issues)
    issues += [Diagnostic(REMOVED_KEYS[key], key_path=(key,)) for key in REMOVED_KEYS if key in top]
    top = {key: value for key, value in top.items() if key not in REMOVED_KEYS}
    known_top = _keep_known_keys(top, Definitions, (), issues)
    experts = table_or_empty(known_top.pop("experts", None))
    return NormalizedDocument(known_top, experts, issues, moved_keys)


def _lift_misplaced_keys(
    document: TomlTable, issues: list[Diagnostic]
) -> tuple[TomlTable, dict[KeyPath, KeyPath]]:
    provider = document.get("provider")
    if not is_table(provider):
        return document, {}
    top: TomlTable = {**document, "provider": dict(provider)}
    moved_keys: dict[KeyPath, KeyPath] = {}
    for key in (key for key in (*TOP_LEVEL_KEYS, *REMOVED_KEYS) if key in provider):
        value = top["provider"].pop(key)
        path = ("provider", key)
        if key in REMOVED_KEYS:
            issues.append(Diagnostic(REMOVED_KEYS[key], key_path=path))
        elif key in document:
            reason = f"has no effect: {key} is set at the top of the file"
            issues.append(Diagnostic(reason, "remove it", key_path=path))
        else:
            top[key] = value
            moved_keys[(key,)] = path
            reason = "belongs to the top of the file and is taken as if it stood there"
            issues.append(Diagnostic(reason, _MOVE_TO_TOP_HINT, key_path=path))
    return top, moved_keys


def known_keys(model: type[FrozenModel]) -> list[str]:
    """The keys of a table as they are written in the file."""
    return [
        info.alias or name for name, info in model.model_fields.items() if info.exclude is not True
    ]


def _keep_known_keys(
    table: TomlTable, model: type[FrozenModel], path: KeyPath, issues: list[Diagnostic]
) -> TomlTable:
    allowed = known_keys(model)
    issues += [
        Diagnostic(
            "is unknown and has no effect", _unknown_key_hint(key, model), key_path=(*path, key)
        )
        for key in table
        if key not in allowed
    ]
    known = {key: _shallow_copy(value) for key, value in table.items() if key in allowed}
    for inner_path, inner, inner_model in list(_inner_tables(known, model)):
        known_inner = _keep_known_keys(inner, inner_model, (*path, *inner_path), issues)
        name, *below = inner_path
        if below:
            known[str(name)][below[0]] = known_inner
        else:
            known[str(name)] = known_inner
    return known


def _shallow_copy(value: object) -> Any:
    if is_table(value):
        return dict(value)
    return list(cast("list[object]", value)) if isinstance(value, list) else value


InnerTables = Generator[tuple[KeyPath, TomlTable, type[FrozenModel]]]


def _inner_tables(table: TomlTable, model: type[FrozenModel]) -> InnerTables:
    if model is Definitions:
        yield from _single_table(table, "provider", Provider)
        yield from _listed_tables(table, "fallbacks", Fallback)
        yield from _single_table(table, "budget", JobBudget)
        yield from _named_tables(table, "models", ModelFacts)
        yield from _named_tables(table, "experts", Expert)
    elif model is Fallback:
        yield from _single_table(table, "provider", Provider)
    elif model is Provider:
        yield from _single_table(table, "setting", ProviderSetting)
    elif model is Expert:
        yield from _single_table(table, "budget", Budget)
        yield from _single_table(table, "tool", ExpertTool)
        yield from _listed_tables(table, "verifications", Verification)
        yield from _listed_tables(table, "tests", ExpertTest)
        yield from _listed_tables(table, "providerSkills", ProviderSkill)
        yield from _skill_tables(table)
    elif model is ModelFacts:
        yield from _single_table(table, "price", Price)
    elif model is Price:
        yield from _single_table(table, "longInput", LongInputPrices)
    elif model is ExpertTest:
        yield from _single_table(table, "expect", Expectation)
    elif model is InteractiveSkill:
        yield from _named_tables(table, "tools", InteractiveTool)


def _single_table(table: TomlTable, key: str, model: type[FrozenModel]) -> InnerTables:
    inner = table.get(key)
    if is_table(inner):
        yield (key,), inner, model


def _named_tables(table: TomlTable, key: str, model: type[FrozenModel]) -> InnerTables:
    for name, inner in table_or_empty(table.get(key)).items():
        if is_table(inner):
            yield (key, name), inner, model


def _listed_tables(table: TomlTable, key: str, model: type[FrozenModel]) -> InnerTables:
    entries = table.get(key)
    if isinstance(entries, list):
        for index, inner in enumerate(cast("list[object]", entries)):
            if is_table(inner):
                yield (key, index), inner, model


def _skill_tables(table: TomlTable) -> InnerTables:
    for name, inner in table_or_empty(table.get("skills")).items():
        # The models report an unknown type; its keys cannot be checked.
        model = SKILL_MODELS.get(str(inner.get("type"))) if is_table(inner) else None
        if model is not None:
            yield ("skills", name), inner, model


def _unknown_key_hint(key: str, model: type[FrozenModel]) -> str | None:
    closest = did_you_mean(key, known_keys(model), cutoff=0.75)
    if closest is not None:
        return closest
    for owner, hint in _KEY_OWNERS:
        if owner is not model and key in known_keys(owner):
            return hint
    return did_you_mean(key, known_keys(model))


_KEY_OWNERS: tuple[tuple[type[FrozenModel], str], ...] = (
    (Definitions, _MOVE_TO_TOP_HINT),
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
