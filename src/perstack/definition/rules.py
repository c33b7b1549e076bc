"""Rules and lint warnings across the tables of a definition file.

They read tables and not validated experts, so that one invalid expert does not hide other errors;
wrong types are left to the models.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, cast

from perstack import RUNTIME_VERSION
from perstack.definition.diagnostics import Diagnostic, did_you_mean
from perstack.definition.expert_tool import schema_or_empty
from perstack.definition.field_checks import (
    check_command,
    check_headers,
    check_provider_setting,
    check_remote_server,
)
from perstack.definition.model import PROVIDER_SETTINGS, Definitions, Expert
from perstack.definition.provider_tools import provider_tool_errors
from perstack.definition.references import (
    BASE_SKILL,
    BASE_TOOL_NAMES,
    EXPERT_KEY_PATTERN,
    RUNTIME_VERSION_PATTERN,
    coordinator_of,
    is_delegate_name,
    strip_version,
)
from perstack.definition.schema_rules import IN_PLACE_APPLICATORS
from perstack.models import TomlTable, is_table, table_or_empty
from perstack.tool_names import short_tool_name, tool_name, with_hash_suffix


def delegation_error(delegator: str, delegate: str) -> str | None:
    """Why one expert may not delegate to another, judged by their keys; `None` if it may.

    A coordinator reaches its own delegates and other coordinators, a delegate its siblings and
    other coordinators. Coordinators may delegate to each other mutually; budgets bound that.
    """
    source, target = strip_version(delegator), strip_version(delegate)
    team, target_team = coordinator_of(source), coordinator_of(target)
    if source == target:
        return "an expert cannot delegate to itself"
    if team == target:
        return "a delegate cannot delegate to its own coordinator"
    if target_team is not None and target_team != (team or source):
        return (
            f"{target!r} may only be called by its coordinator {target_team!r} and that one's"
            " delegates"
        )
    return None


def delegate_tool_names(
    expert: Expert,
    definitions: Definitions,  # noqa: ARG001 - names of experts from a registry will depend on it
) -> dict[str, str]:
    """The tool name of each delegate of `expert`, by expert key, in the order of its `delegates`.

    A delegate is called by the last segment of its name. Delegates that would share it are called
    by their whole names, and should even these be alike, by names with a hash. Tools of MCP skills
    are known at run time only and ignored here.
    """
    short_names = {key: short_tool_name(strip_version(key)) for key in expert.delegates}
    uses = Counter(short_names.values())
    used_names = {name for name, count in uses.items() if count == 1}
    names: dict[str, str] = {}
    for key, name in short_names.items():
        if uses[name] > 1:
            full_name = tool_name(strip_version(key))
            names[key] = with_hash_suffix(full_name, key) if full_name in used_names else full_name
        else:
            names[key] = name
        used_names.add(names[key])
    return names


SCRIPTED_PROVIDER = "scripted"

RuleCheck = Callable[[TomlTable], Iterator[Diagnostic]]


def rule_errors(top: TomlTable, experts: TomlTable) -> list[Diagnostic]:
    """Every rule that a file breaks, by its top level and its expert tables."""
    issues = [issue for rule in _RULES for issue in rule(experts)]
    return [
        *_invalid_provider_settings(top),
        *_misplaced_scripts(top),
        *provider_tool_errors(top, experts),
        *issues,
    ]


def lint_warnings(top: TomlTable, experts: TomlTable) -> list[Diagnostic]:
    """Warnings about what is valid but probably a mistake."""
    issues = [issue for rule in _LINTS for issue in rule(experts)]
    if "perstackBaseSkillCommand" in top:
        # It may serve other tools, and is a process.
        return issues
    return [*issues, *_unknown_base_tools(experts), *_ineffective_base_keys(experts)]


def _iter_delegations(experts: TomlTable) -> Iterator[tuple[str, int, str, list[str]]]:
    for key, expert in experts.items():
        names = _list_or_empty(table_or_empty(expert).get("delegates"))
        if re.fullmatch(EXPERT_KEY_PATTERN, key) is None:
            continue
        for index, delegate in enumerate(names):
            if isinstance(delegate, str) and re.fullmatch(EXPERT_KEY_PATTERN, delegate):
                yield key, index, delegate, [name for name in names if isinstance(name, str)]


def _forbidden_delegates(experts: TomlTable) -> Iterator[Diagnostic]:
    for key, index, delegate, _ in _iter_delegations(experts):
        error = delegation_error(key, delegate)
        if error is not None:
            yield Diagnostic(
                f"is not allowed: {error}", key_path=("experts", key, "delegates", index)
            )


def _unknown_delegates(experts: TomlTable) -> Iterator[Diagnostic]:
    for key, index, delegate, _ in _iter_delegations(experts):
        if delegate in experts or delegation_error(key, delegate) is not None:
            continue
        callable_ones = [name for name in experts if delegation_error(key, name) is None]
        hint = did_you_mean(delegate, callable_ones) or f'add a table [experts."{delegate}"]'
        if strip_version(delegate) in experts:
            hint = (
                f'write "{strip_version(delegate)}": the experts of this file go without a version'
            )
        reason = f"{delegate!r} is not defined"
        yield Diagnostic(reason, hint, key_path=("experts", key, "delegates", index))


def _unsupported_runtime_versions(experts: TomlTable) -> Iterator[Diagnostic]:
    for key, expert in experts.items():
        required_version = table_or_empty(expert).get("minRuntimeVersion")
        if not isinstance(required_version, str) or not re.fullmatch(
            RUNTIME_VERSION_PATTERN, required_version
        ):
            continue
        if _precedence(required_version) > _precedence(RUNTIME_VERSION):
            reason = f"needs the runtime {required_version} or newer; this one is {RUNTIME_VERSION}"
            yield Diagnostic(
                reason, "update perstack", key_path=("experts", key, "minRuntimeVersion")
            )


def _precedence(version: str) -> tuple[int, int, int, bool]:
    """Order of versions: by their three numbers, pre-releases before the release."""
    numbers, _, pre_release = version.partition("+")[0].removeprefix("v").partition("-")
    major, minor, patch = (*(int(number) for number in numbers.split(".")), 0, 0)[:3]
    return major, minor, patch, not pre_release


def _duplicate_tool_names(experts: TomlTable) -> Iterator[Diagnostic]:
    yield from _conflicting_tool_names(experts, are_coordinators=True)


def _duplicate_delegate_tool_names(experts: TomlTable) -> Iterator[Diagnostic]:
    yield from _conflicting_tool_names(experts, are_coordinators=False)


def _conflicting_tool_names(experts: TomlTable, *, are_coordinators: bool) -> Iterator[Diagnostic]:
    """Experts of one tool name; only coordinators are always published and must differ."""
    owners: dict[str, str] = {}
    for key in experts:
        other = owners.setdefault(tool_name(key), key)
        are_both_coordinators = not is_delegate_name(key) and not is_delegate_name(other)
        if other != key and are_both_coordinators is are_coordinators:
            reason = f"would be published as the tool {tool_name(key)!r}, as {other!r} is already"
            yield Diagnostic(reason, "rename one of the two", key_path=("experts", key))


def _duplicate_interactive_tools(experts: TomlTable) -> Iterator[Diagnostic]:
    owners: dict[tuple[str, str], str] = {}
    for key, name, skill in _iter_skills(experts):
        if skill.get("type") == "interactiveSkill":
            for tool in table_or_empty(skill.get("tools")):
                other = owners.setdefault((key, tool), name)
                if other != name:
                    path = ("experts", key, "skills", name, "tools", tool)
                    yield Diagnostic(
                        f"is also a tool of the skill {other!r}", "rename one", key_path=path
                    )


def _repeated_delegates(experts: TomlTable) -> Iterator[Diagnostic]:
    for key, index, delegate, names in _iter_delegations(experts):
        if delegate in names[:index]:
            path = ("experts", key, "delegates", index)
            yield Diagnostic(f"{delegate!r} is listed twice", "remove one", key_path=path)


def _ineffective_keys(experts: TomlTable) -> Iterator[Diagnostic]:
    """What could be taken for a limit that is not there."""
    for key, name, skill in _iter_skills(experts):
        if skill.get("type") == "mcpStdioSkill" and skill.get("allowedDomains"):
            path = ("experts", key, "skills", name, "allowedDomains")
            reason = "has no effect: a program that is started here may reach any host"
            yield Diagnostic(reason, "let the machine or a container limit it", key_path=path)


def _unknown_base_tools(experts: TomlTable) -> Iterator[Diagnostic]:
    """Names that the built-in base skill does not have."""
    for key, name, skill in _iter_base_skills(experts):
        for field in ("pick", "omit"):
            for index, tool in enumerate(_list_or_empty(skill.get(field))):
                if isinstance(tool, str) and tool not in BASE_TOOL_NAMES:
                    reason = f"names {tool!r}, which the base skill does not have"
                    hint = did_you_mean(tool, BASE_TOOL_NAMES) or (
                        f"it has {', '.join(BASE_TOOL_NAMES)}"
                    )
                    path = ("experts", key, "skills", name, field, index)
                    yield Diagnostic(reason, hint, key_path=path)


def _composed_input_schemas(experts: TomlTable) -> Iterator[Diagnostic]:
    """Warnings about schemas that some models refuse."""
    for key, expert in experts.items():
        tool = table_or_empty(table_or_empty(expert).get("tool"))
        for keyword in schema_or_empty(tool.get("inputSchema")):
            if keyword in IN_PLACE_APPLICATORS:
                path = ("experts", key, "tool", "inputSchema", keyword)
                reason = "is refused by several models at the top of the arguments of a tool"
                yield Diagnostic(
                    reason, "put it into a property, or say it in the description", key_path=path
                )


def _invalid_skills(experts: TomlTable) -> Iterator[Diagnostic]:
    """Errors that pydantic reports only once all keys of a skill have the right type."""
    for key, name, skill in _iter_skills(experts):
        for error in _check_skill(skill):
            yield error.within("experts", key, "skills", name)


def _check_skill(skill: TomlTable) -> list[Diagnostic]:
    if skill.get("type") == "mcpStdioSkill":
        package = skill.get("packageName")
        return check_command(
            str(skill.get("command")),
            package and str(package),
            [word for word in _list_or_empty(skill.get("args")) if isinstance(word, str)],
        )
    endpoint = skill.get("endpoint")
    if skill.get("type") == "mcpSseSkill" and isinstance(endpoint, str) and endpoint:
        headers = _string_headers(skill)
        allow_private = skill.get("allowPrivate") is True
        required_env = _list_or_empty(skill.get("requiredEnv"))
        return [
            *_prefix_headers(check_headers(headers)),
            *check_remote_server(endpoint, headers, required_env, allow_private=allow_private),
        ]
    return []


def _invalid_provider_settings(top: TomlTable) -> Iterator[Diagnostic]:
    yield from _invalid_provider_setting(table_or_empty(top.get("provider")))
    for index, fallback in enumerate(_list_or_empty(top.get("fallbacks"))):
        provider = table_or_empty(table_or_empty(fallback).get("provider"))
        for error in _invalid_provider_setting(provider):
            yield error.within("fallbacks", index)


def _misplaced_scripts(top: TomlTable) -> Iterator[Diagnostic]:
    """A script plays for every model of a file, or for none."""
    if table_or_empty(top.get("provider")).get("providerName") == SCRIPTED_PROVIDER:
        return
    for index, fallback in enumerate(_list_or_empty(top.get("fallbacks"))):
        provider = table_or_empty(table_or_empty(fallback).get("provider"))
        if provider.get("providerName") == SCRIPTED_PROVIDER:
            yield Diagnostic(
                "scripted stands in for no other provider",
                'write providerName = "scripted" at [provider]: its script plays for fallbacks too',
                key_path=("fallbacks", index, "provider", "providerName"),
            )


def _invalid_provider_setting(provider: TomlTable) -> Iterator[Diagnostic]:
    setting = table_or_empty(provider.get("setting"))
    name, url = provider.get("providerName"), setting.get("baseUrl")
    if not isinstance(name, str) or name not in PROVIDER_SETTINGS:
        return
    base_url = url if isinstance(url, str) else None
    errors = check_provider_setting(name, PROVIDER_SETTINGS[name], setting, base_url)
    for error in errors:
        yield error.within("provider")
    for error in _prefix_headers(check_headers(_string_headers(setting))):
        yield error.within("provider", "setting")


def _string_headers(table: TomlTable) -> dict[str, str]:
    headers = table_or_empty(table.get("headers")).items()
    return {name: value for name, value in headers if isinstance(value, str)}


def _prefix_headers(errors: list[Diagnostic]) -> list[Diagnostic]:
    return [error.within("headers") for error in errors]


def _ineffective_base_keys(experts: TomlTable) -> Iterator[Diagnostic]:
    """What is about a process, which the built-in base skill does not have."""
    for key, name, skill in _iter_base_skills(experts):
        for field, value in (("lazyInit", True), ("scope", "engine")):
            if skill.get(field) == value:
                path = ("experts", key, "skills", name, field)
                yield Diagnostic(
                    "has no effect: the base skill is built in", "remove it", key_path=path
                )


def _iter_base_skills(experts: TomlTable) -> Iterator[tuple[str, str, TomlTable]]:
    for key, name, skill in _iter_skills(experts):
        package = skill.get("packageName")
        words = [package] if package else _list_or_empty(skill.get("args"))
        if [word for word in words if word not in ("-y", "--yes")] == [BASE_SKILL]:
            yield key, name, skill


def _iter_skills(experts: TomlTable) -> Iterator[tuple[str, str, TomlTable]]:
    for key, expert in experts.items():
        for name, skill in table_or_empty(table_or_empty(expert).get("skills")).items():
            if is_table(skill):
                yield key, name, skill


def _list_or_empty(value: object) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


_RULES: tuple[RuleCheck, ...] = (
    _forbidden_delegates,
    _unknown_delegates,
    _unsupported_runtime_versions,
    _duplicate_tool_names,
    _duplicate_interactive_tools,
    _invalid_skills,
)
_LINTS: tuple[RuleCheck, ...] = (
    _duplicate_delegate_tool_names,
    _repeated_delegates,
    _ineffective_keys,
    _composed_input_schemas,
)
