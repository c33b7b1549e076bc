"""`perstack check`: whether a definition file is accepted, and what its experts will have."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perstack.cli.args import add_file_arguments, add_json_argument
from perstack.cli.render.check import check_report_lines
from perstack.cli.terminal import EXIT_SUCCESS, EXIT_USAGE_ERROR, Terminal
from perstack.definition.diagnostics import Diagnostic, InvalidDefinitionError
from perstack.definition.loader import (
    LoadedDefinitions,
    find_config,
    load_definitions,
    load_environment,
)
from perstack.errors import DefinitionError, PerstackError
from perstack.expert_tools import (
    ExpertToolset,
    SkillToolset,
    declared_schema_kinds,
    expert_toolsets,
)
from perstack.model_resolution import EnvironmentVariable, ModelResolution, resolve_models

Json = dict[str, Any]


def add_arguments(parser: ArgumentParser) -> None:
    add_file_arguments(parser)
    add_json_argument(parser)


def execute(options: Namespace, terminal: Terminal) -> int:
    try:
        path = find_config(options.config, Path.cwd())
        loaded = load_definitions(path, strict=options.strict)
        environment = load_environment(
            loaded.definitions.env_path, path.parent, os.environ, must_exist=False
        )
    except PerstackError as error:
        if not options.json and not isinstance(error, DefinitionError):
            raise
        return _report_rejection(error, options, terminal)
    toolsets = expert_toolsets(loaded.definitions, environment)
    resolution = resolve_models(loaded.definitions, environment)
    warnings = (*loaded.warnings, *resolution.problems)
    if options.json:
        terminal.write_json(_report_document(loaded, toolsets, resolution, warnings))
    else:
        terminal.write_lines(check_report_lines(loaded.path, toolsets, resolution))
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
        "provider": {"name": resolution.provider, "key": _variable_document(resolution.key)},
        "experts": [_expert_document(toolset, resolution) for toolset in toolsets],
        "problems": [],
        "warnings": [_problem_document(warning) for warning in warnings],
    }


def _expert_document(toolset: ExpertToolset, resolution: ModelResolution) -> Json:
    key = toolset.expert.key
    return {
        "key": key,
        "toolName": toolset.published_name,
        "typed": list(declared_schema_kinds(toolset.expert)),
        "model": resolution.models.get(key),
        "skills": [_skill_document(skill) for skill in toolset.skills],
        "verifications": [
            {"name": each.name, "priority": each.priority} for each in toolset.expert.verifications
        ],
        "tests": len(toolset.expert.tests),
        "delegates": [{"key": key, "toolName": name} for key, name in toolset.delegates.items()],
    }


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


def _variable_document(variable: EnvironmentVariable | None) -> Json | None:
    return {"name": variable.name, "isSet": variable.is_set} if variable else None
