"""`perstack check`: whether a definition file is accepted, and what its experts will have."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from perstack.cli.args import add_env_path_argument, add_file_arguments, add_json_argument
from perstack.cli.formatting import format_count
from perstack.cli.terminal import EXIT_SUCCESS, EXIT_USAGE_ERROR, Terminal
from perstack.definition.diagnostics import Diagnostic, InvalidDefinitionError
from perstack.definition.loader import (
    LoadedDefinitions,
    environment_folders,
    find_config,
    load_definitions,
    load_environment,
    locate_problems,
)
from perstack.errors import DefinitionError, PerstackError
from perstack.expert_tools import (
    ExpertToolset,
    SkillToolset,
    declared_schema_kinds,
    expert_toolsets,
)
from perstack.model_resolution import (
    EnvironmentVariable,
    FallbackResolution,
    ModelResolution,
    resolve_models,
)
from perstack.skill_checks import skill_problems

Json = dict[str, Any]


def add_arguments(parser: ArgumentParser) -> None:
    add_file_arguments(parser)
    add_env_path_argument(parser)
    add_json_argument(parser)


def execute(options: Namespace, terminal: Terminal) -> int:
    try:
        path = find_config(options.config, Path.cwd())
        loaded = load_definitions(path, strict=options.strict)
        environment = load_environment(
            options.env_path or loaded.definitions.env_path,
            environment_folders(path),
            os.environ,
            must_exist=bool(options.env_path),
        )
        problems = locate_problems(
            path, skill_problems(loaded.definitions, environment, (Path.cwd(),))
        )
        if problems and options.strict:
            raise InvalidDefinitionError(path, problems)
    except PerstackError as error:
        if not options.json and not isinstance(error, DefinitionError):
            raise
        return _report_rejection(error, options, terminal)
    toolsets = expert_toolsets(loaded.definitions, environment)
    resolution = resolve_models(loaded.definitions, environment)
    warnings = (*loaded.warnings, *problems, *resolution.problems)
    if options.json:
        terminal.write_json(_report_document(loaded, toolsets, resolution, warnings))
    else:
        terminal.write_lines(_report_lines(loaded.path, toolsets, resolution))
        _print_warnings(warnings, terminal)
    return EXIT_SUCCESS


def _report_rejection(error: PerstackError, options: Namespace, terminal: Terminal) -> int:
    details = error.details if isinstance(error, InvalidDefinitionError) else ()
    warnings: list[Diagnostic] = []
    if isinstance(error, DefinitionError) and not options.strict:
        warnings = _strict_warnings(details, options)
    if options.json:
        problems = [_problem_document(problem) for problem in details or [str(error)]]
        warning_documents = [_problem_document(warning) for warning in warnings]
        terminal.write_json({"ok": False, "problems": problems, "warnings": warning_documents})
    else:
        terminal.error(error)
        _print_warnings(warnings, terminal)
    return EXIT_USAGE_ERROR


def _print_warnings(warnings: Sequence[Diagnostic | str], terminal: Terminal) -> None:
    for warning in warnings:
        terminal.info(f"warning: {warning}", "yellow")


def _strict_warnings(errors: Sequence[Diagnostic], options: Namespace) -> list[Diagnostic]:
    """The lint warnings of a rejected file."""
    try:
        load_definitions(find_config(options.config, Path.cwd()), strict=True)
    except InvalidDefinitionError as error:
        return [each for each in error.details if each not in errors]
    except DefinitionError:
        pass
    return []


def _problem_document(problem: Diagnostic | str) -> Json:
    """A problem with its position apart, for editors."""
    if isinstance(problem, str) or problem.path is None or problem.line is None:
        return {"message": str(problem)}
    return {
        "file": problem.path.name,
        "line": problem.line,
        "column": problem.column,
        "message": problem.message,
    }


def _report_document(
    loaded: LoadedDefinitions,
    toolsets: tuple[ExpertToolset, ...],
    resolution: ModelResolution,
    warnings: Sequence[Diagnostic | str],
) -> Json:
    return {
        "ok": True,
        "path": str(loaded.path),
        "provider": {
            "name": resolution.provider,
            "requiredEnv": [_variable_document(each) for each in resolution.variables],
        },
        "fallbacks": [_fallback_document(fallback) for fallback in resolution.fallbacks],
        "experts": [_expert_document(toolset, resolution) for toolset in toolsets],
        "problems": [],
        "warnings": [_problem_document(warning) for warning in warnings],
    }


def _fallback_document(fallback: FallbackResolution) -> Json:
    return {
        "provider": fallback.provider,
        "model": fallback.model,
        "requiredEnv": [_variable_document(each) for each in fallback.variables],
    }


def _expert_document(toolset: ExpertToolset, resolution: ModelResolution) -> Json:
    key = toolset.expert.key
    return {
        "key": key,
        "toolName": toolset.published_name,
        "typed": list(declared_schema_kinds(toolset.expert)),
        "model": resolution.models.get(key),
        "skills": [_skill_document(skill) for skill in toolset.skills],
        "providerTools": _provider_tools(toolset),
        "verifications": [
            {"name": each.name, "priority": each.priority} for each in toolset.expert.verifications
        ],
        "tests": len(toolset.expert.tests),
        "delegates": [{"key": key, "toolName": name} for key, name in toolset.delegates.items()],
    }


def _provider_tools(toolset: ExpertToolset) -> list[str]:
    asked = toolset.expert.asked_of_provider
    return [*asked.names, *(f"skill {skill.skill_id or skill.name}" for skill in asked.skills)]


def _skill_document(skill: SkillToolset) -> Json:
    return {
        "name": skill.name,
        "tools": list(skill.tools),
        "source": skill.source,
        "pick": list(skill.pick),
        "omit": list(skill.omit),
        "requiredEnv": [_variable_document(variable) for variable in skill.variables],
        "isInteractive": skill.is_interactive,
    }


def _variable_document(variable: EnvironmentVariable) -> Json:
    return {"name": variable.name, "isSet": variable.is_set}


def _report_lines(
    path: Path, toolsets: tuple[ExpertToolset, ...], resolution: ModelResolution
) -> Iterator[str]:
    toolsets_by_key = {toolset.expert.key: toolset for toolset in toolsets}
    yield f"{path}: {format_count(len(toolsets_by_key), 'expert')}"
    yield ", ".join(
        [f"provider {resolution.provider}", *map(_variable_label, resolution.variables)]
    )
    for fallback in resolution.fallbacks:
        label = f"fallback {fallback.model} of {fallback.provider}"
        yield ", ".join([label, *map(_variable_label, fallback.variables)])
    tree = _ExpertTree(toolsets_by_key, resolution.models)
    for toolset in toolsets:
        if toolset.published_name is not None:
            yield from tree.root_lines(toolset, f"MCP tool {toolset.published_name}")
    for toolset in toolsets:
        if toolset.expert.key not in tree.described_keys:
            yield from tree.root_lines(toolset, "a delegate that no coordinator reaches")


class _ExpertTree:
    """Draws experts below those that call them, and describes each once."""

    def __init__(self, toolsets: Mapping[str, ExpertToolset], models: Mapping[str, str]) -> None:
        self._toolsets = toolsets
        self._models = models
        self.described_keys: set[str] = set()

    def root_lines(self, toolset: ExpertToolset, role: str) -> Iterator[str]:
        key = toolset.expert.key
        yield ""
        yield f"{key}  ({role}{self._description_suffix(key)})"
        yield from self._content_lines(toolset, "", (key,))

    def _content_lines(
        self, toolset: ExpertToolset, indent: str, ancestors: tuple[str, ...]
    ) -> Iterator[str]:
        self.described_keys.add(toolset.expert.key)
        bar = "│" if toolset.delegates else " "
        for skill in toolset.skills:
            yield f"{indent}{bar}  {_skill_line(skill)}"
        if provider_tools := _provider_tools(toolset):
            yield f"{indent}{bar}  the provider itself: {', '.join(provider_tools)}"
        verifications = [
            each.name if each.priority == "must" else f"{each.name} (should)"
            for each in toolset.expert.verifications
        ]
        if verifications:
            yield f"{indent}{bar}  verified: {', '.join(verifications)}"
        last = len(toolset.delegates) - 1
        for position, (key, name) in enumerate(toolset.delegates.items()):
            branch, below = ("└─", "   ") if position == last else ("├─", "│  ")
            note = self._omission_suffix(key, ancestors)
            cycle = "; a cycle" if self._can_reach(key, toolset.expert.key) else ""
            suffix = note or self._description_suffix(key)
            yield f"{indent}{branch} {key}  (called as {name}{cycle}{suffix})"
            if note is None:
                yield from self._content_lines(
                    self._toolsets[key], f"{indent}{below}", (*ancestors, key)
                )

    def _omission_suffix(self, key: str, ancestors: tuple[str, ...]) -> str | None:
        """Why an expert is not described here; `None` if it is."""
        toolset = self._toolsets.get(key)
        if toolset is None:
            return "; not defined here"
        if key in ancestors:
            return "; described above"
        if toolset.published_name is not None or key in self.described_keys:
            return "; described by itself"
        return None

    def _can_reach(self, start: str, goal: str) -> bool:
        """Whether an expert can come to be called, over others or not, on behalf of another."""
        visited: set[str] = set()
        pending = [start]
        while pending:
            key = pending.pop()
            if key == goal:
                return True
            if key not in visited and key in self._toolsets:
                visited.add(key)
                pending += self._toolsets[key].delegates
        return False

    def _description_suffix(self, key: str) -> str:
        """Which of an expert's calls follow a schema, and its model."""
        kinds = declared_schema_kinds(self._toolsets[key].expert)
        typed = f"; typed {' and '.join(kinds)}" if kinds else ""
        return typed + (f"; model {self._models[key]}" if key in self._models else "")


def _skill_line(skill: SkillToolset) -> str:
    """A skill with its tools as far as they are known."""
    if skill.is_interactive:
        asking_tools = (
            ", ".join(skill.tools) or "nothing, nobody can be asked on behalf of a delegate"
        )
        return f"{skill.name}: asks {asking_tools}"
    if skill.source is None:
        return f"{skill.name}: {', '.join(skill.tools) or 'no tools'}"
    tools = ", ".join(skill.pick) or "tools"
    without = f" without {', '.join(skill.omit)}" if skill.omit else ""
    needs = f"; {', '.join(map(_variable_label, skill.variables))}" if skill.variables else ""
    return f"{skill.name}: {tools}{without}, known when it runs: {skill.source}{needs}"


def _variable_label(variable: EnvironmentVariable) -> str:
    return f"{variable.name} is {'set' if variable.is_set else 'NOT set'}"
