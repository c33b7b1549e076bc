"""What must hold between the parts of a definition file.

The rules look at the tables and not at validated experts, so that one wrong expert does not hide
what is wrong elsewhere; whatever has the wrong type is left to the models.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

from perstack.definition.checks import command_faults, header_faults, remote_faults, setting_faults
from perstack.definition.delegates import delegation_fault
from perstack.definition.expert_tool import written_schema
from perstack.definition.faults import Fault
from perstack.definition.model import PROVIDER_SETTINGS
from perstack.definition.names import (
    EXPERT_KEY_PATTERN,
    RUNTIME_VERSION,
    RUNTIME_VERSION_PATTERN,
    is_delegate_name,
    name_of,
)
from perstack.definition.problems import Finding, did_you_mean
from perstack.definition.tables import Table, is_table, table_or_empty
from perstack.definition.tool_names import tool_name
from perstack.definition.value_schemas import COMPOSING

RuleCheck = Callable[[Table], Iterator[Finding]]


def broken_rules(top: Table, experts: Table) -> list[Finding]:
    """Every rule that a file breaks, by its top level and its expert tables."""
    found = [finding for rule in _RULES for finding in rule(experts)]
    return [*_settings(top), *found]


def odd_but_allowed(experts: Table) -> list[Finding]:
    """What is legal between experts and yet hardly meant."""
    return [finding for rule in _ODDITIES for finding in rule(experts)]


def _delegations(experts: Table) -> Iterator[tuple[str, int, str, list[str]]]:
    for key, expert in experts.items():
        names = _strings(table_or_empty(expert).get("delegates"))
        if re.fullmatch(EXPERT_KEY_PATTERN, key) is None:
            continue
        for index, delegate in enumerate(names):
            if isinstance(delegate, str) and re.fullmatch(EXPERT_KEY_PATTERN, delegate):
                yield key, index, delegate, [name for name in names if isinstance(name, str)]


def _forbidden_delegates(experts: Table) -> Iterator[Finding]:
    for key, index, delegate, _ in _delegations(experts):
        fault = delegation_fault(key, delegate)
        if fault is not None:
            yield Finding(("experts", key, "delegates", index), f"is not allowed: {fault}")


def _unknown_delegates(experts: Table) -> Iterator[Finding]:
    for key, index, delegate, _ in _delegations(experts):
        if delegate in experts or delegation_fault(key, delegate) is not None:
            continue
        callable_ones = [name for name in experts if delegation_fault(key, name) is None]
        hint = did_you_mean(delegate, callable_ones) or f'add a table [experts."{delegate}"]'
        if name_of(delegate) in experts:
            hint = f'write "{name_of(delegate)}": the experts of this file go without a version'
        reason = f"{delegate!r} is not defined"
        yield Finding(("experts", key, "delegates", index), reason, hint)


def _runtime_versions(experts: Table) -> Iterator[Finding]:
    for key, expert in experts.items():
        wanted = table_or_empty(expert).get("minRuntimeVersion")
        if not isinstance(wanted, str) or not re.fullmatch(RUNTIME_VERSION_PATTERN, wanted):
            continue
        if _precedence(wanted) > _precedence(RUNTIME_VERSION):
            reason = f"needs the runtime {wanted} or newer; this one is {RUNTIME_VERSION}"
            yield Finding(("experts", key, "minRuntimeVersion"), reason, "update perstack")


def _precedence(version: str) -> tuple[int, int, int, bool]:
    """Order of versions: by their three numbers, pre-releases before the release."""
    numbers, _, pre_release = version.partition("+")[0].removeprefix("v").partition("-")
    major, minor, patch = (*(int(number) for number in numbers.split(".")), 0, 0)[:3]
    return major, minor, patch, not pre_release


def _published_names(experts: Table) -> Iterator[Finding]:
    yield from _shared_names(experts, are_coordinators=True)


def _delegate_names(experts: Table) -> Iterator[Finding]:
    yield from _shared_names(experts, are_coordinators=False)


def _shared_names(experts: Table, *, are_coordinators: bool) -> Iterator[Finding]:
    """Experts of one tool name; only coordinators are always published and must differ."""
    taken: dict[str, str] = {}
    for key in experts:
        other = taken.setdefault(tool_name(key), key)
        both_coordinate = not is_delegate_name(key) and not is_delegate_name(other)
        if other != key and both_coordinate is are_coordinators:
            reason = f"would be published as the tool {tool_name(key)!r}, as {other!r} is already"
            yield Finding(("experts", key), reason, "rename one of the two")


def _question_names(experts: Table) -> Iterator[Finding]:
    asked: dict[tuple[str, str], str] = {}
    for key, name, skill in _skills(experts):
        if skill.get("type") == "interactiveSkill":
            for tool in table_or_empty(skill.get("tools")):
                other = asked.setdefault((key, tool), name)
                if other != name:
                    path = ("experts", key, "skills", name, "tools", tool)
                    yield Finding(path, f"is also a tool of the skill {other!r}", "rename one")


def _repeated_delegates(experts: Table) -> Iterator[Finding]:
    for key, index, delegate, names in _delegations(experts):
        if delegate in names[:index]:
            path = ("experts", key, "delegates", index)
            yield Finding(path, f"{delegate!r} is listed twice", "remove one")


_IDLE_KEYS = ("providerTools", "providerToolOptions", "providerSkills")


def _idle_keys(experts: Table) -> Iterator[Finding]:
    """What could be taken for a limit or an ability that is not there."""
    for key, expert in experts.items():
        for idle in _IDLE_KEYS:
            if table_or_empty(expert).get(idle):
                reason = "has no effect: perstack asks providers for text and tool calls only"
                yield Finding(("experts", key, idle), reason, "use an MCP server as a skill")
    for key, name, skill in _skills(experts):
        if skill.get("type") == "mcpStdioSkill" and skill.get("allowedDomains"):
            path = ("experts", key, "skills", name, "allowedDomains")
            reason = "has no effect: a program that is started here may reach any host"
            yield Finding(path, reason, "let the machine or a container limit it")


def _composed_inputs(experts: Table) -> Iterator[Finding]:
    """What is legal at the top of a schema, and yet not taken by all that read it."""
    for key, expert in experts.items():
        tool = table_or_empty(table_or_empty(expert).get("tool"))
        for keyword in written_schema(tool.get("inputSchema")):
            if keyword in COMPOSING:
                path = ("experts", key, "tool", "inputSchema", keyword)
                reason = "is refused by several models at the top of the arguments of a tool"
                yield Finding(path, reason, "put it into a property, or say it in the description")


def _starts(experts: Table) -> Iterator[Finding]:
    """What the models say only of skills whose keys are all of the right type."""
    for key, name, skill in _skills(experts):
        for fault in _skill_faults(skill):
            path = ("experts", key, "skills", name, *fault.at)
            yield Finding(path, fault.reason, fault.suggestion)


def _skill_faults(skill: Table) -> list[Fault]:
    if skill.get("type") == "mcpStdioSkill":
        package = skill.get("packageName")
        return command_faults(
            str(skill.get("command")),
            package and str(package),
            [word for word in _strings(skill.get("args")) if isinstance(word, str)],
        )
    endpoint = skill.get("endpoint")
    if skill.get("type") == "mcpSseSkill" and isinstance(endpoint, str) and endpoint:
        headers = _headers(skill)
        allow_private = skill.get("allowPrivate") is True
        required_env = _strings(skill.get("requiredEnv"))
        return [
            *_at_headers(header_faults(headers)),
            *remote_faults(endpoint, headers, required_env, allow_private=allow_private),
        ]
    return []


def _settings(top: Table) -> Iterator[Finding]:
    provider = table_or_empty(top.get("provider"))
    setting = table_or_empty(provider.get("setting"))
    name, url = provider.get("providerName"), setting.get("baseUrl")
    if not isinstance(name, str) or name not in PROVIDER_SETTINGS:
        return
    base_url = url if isinstance(url, str) else None
    faults = setting_faults(name, PROVIDER_SETTINGS[name], setting, base_url)
    for fault in faults:
        yield Finding(("provider", *fault.at), fault.reason, fault.suggestion)
    for fault in _at_headers(header_faults(_headers(setting))):
        yield Finding(("provider", "setting", *fault.at), fault.reason, fault.suggestion)


def _headers(table: Table) -> dict[str, str]:
    headers = table_or_empty(table.get("headers")).items()
    return {name: value for name, value in headers if isinstance(value, str)}


def _at_headers(faults: list[Fault]) -> list[Fault]:
    return [replace(fault, at=("headers", *fault.at)) for fault in faults]


def _skills(experts: Table) -> Iterator[tuple[str, str, Table]]:
    for key, expert in experts.items():
        for name, skill in table_or_empty(table_or_empty(expert).get("skills")).items():
            if is_table(skill):
                yield key, name, skill


def _strings(value: object) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


_RULES: tuple[RuleCheck, ...] = (
    _forbidden_delegates,
    _unknown_delegates,
    _runtime_versions,
    _published_names,
    _question_names,
    _starts,
)
_ODDITIES: tuple[RuleCheck, ...] = (
    _delegate_names,
    _repeated_delegates,
    _idle_keys,
    _composed_inputs,
)
