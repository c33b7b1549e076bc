"""`perstack check`: whether a definition file is accepted, and what its experts will have."""

import json
import os
import re
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from perstack.cli.arguments import add_file_arguments
from perstack.cli.check_view import checked_lines
from perstack.cli.choices import Choices, choices
from perstack.cli.exits import COMPLETED, MISUSED
from perstack.cli.output import Terminal
from perstack.cli.surface import ExpertSurface, SkillSurface, Variable, surfaces, typed_kinds
from perstack.definition.environment import load_environment
from perstack.definition.load import Loaded, find_config, load
from perstack.errors import DefinitionError, PerstackError

Json = dict[str, Any]
_PLACE = re.compile(r"(?P<file>.+?):(?P<line>\d+):(?P<column>\d+): (?P<message>.+)", re.DOTALL)


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of the command."""
    add_file_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of text")


def execute(options: Namespace, terminal: Terminal) -> int:
    """Check, and show what there is.

    Raises:
        PerstackError: The file, or one that it names, cannot be read, and text was asked for.
    """
    try:
        path = find_config(options.config, Path.cwd())
        loaded = load(path, strict=options.strict)
        environment = load_environment(
            loaded.definitions.env_path, path.parent, os.environ, must_exist=False
        )
    except DefinitionError as error:
        return _reject(error, options, terminal)
    except PerstackError as error:
        if not options.json:
            raise
        return _reject_in_json([str(error)], [], terminal)
    found = surfaces(loaded.definitions, environment)
    chosen = choices(loaded.definitions, environment)
    warnings = (*map(str, loaded.warnings), *chosen.problems)
    if options.json:
        _print_json(terminal, _document(loaded, found, chosen, warnings))
        return COMPLETED
    for line in checked_lines(loaded.path, found, chosen):
        terminal.line(line)
    for warning in warnings:
        terminal.note(f"warning: {warning}", "yellow")
    return COMPLETED


def _reject(error: DefinitionError, options: Namespace, terminal: Terminal) -> int:
    problems = list(error.problems)
    warnings = [] if options.strict else _warnings_beside(problems, options)
    if options.json:
        return _reject_in_json(problems or [str(error)], warnings, terminal)
    terminal.complain(error)
    for warning in warnings:
        terminal.note(f"warning: {warning}", "yellow")
    return MISUSED


def _warnings_beside(problems: list[str], options: Namespace) -> list[str]:
    """What is merely odd in a file that is rejected for something else."""
    try:
        load(find_config(options.config, Path.cwd()), strict=True)
    except DefinitionError as error:
        return [problem for problem in error.problems if problem not in problems]
    return []


def _reject_in_json(problems: list[str], warnings: list[str], terminal: Terminal) -> int:
    document = {
        "ok": False,
        "problems": [_placed(problem) for problem in problems],
        "warnings": [_placed(warning) for warning in warnings],
    }
    _print_json(terminal, document)
    return MISUSED


def _print_json(terminal: Terminal, document: Json) -> None:
    terminal.line(json.dumps(document, ensure_ascii=False, indent=2))


def _placed(problem: str) -> Json:
    """A problem with its place apart, for editors."""
    found = _PLACE.fullmatch(problem)
    if found is None:
        return {"message": problem}
    return {
        "file": found["file"],
        "line": int(found["line"]),
        "column": int(found["column"]),
        "message": found["message"],
    }


def _document(
    loaded: Loaded, found: tuple[ExpertSurface, ...], chosen: Choices, warnings: tuple[str, ...]
) -> Json:
    return {
        "ok": True,
        "path": str(loaded.path),
        "provider": {"name": chosen.provider, "key": _variable(chosen.key)},
        "experts": [_expert(surface, chosen) for surface in found],
        "problems": [],
        "warnings": [_placed(warning) for warning in warnings],
    }


def _expert(surface: ExpertSurface, chosen: Choices) -> Json:
    key = surface.expert.key
    return {
        "key": key,
        "toolName": surface.published_name,
        "typed": list(typed_kinds(surface.expert)),
        "model": chosen.models.get(key),
        "skills": [_skill(skill) for skill in surface.skills],
        "verifications": [
            {"name": each.name, "priority": each.priority} for each in surface.expert.verifications
        ],
        "tests": len(surface.expert.tests),
        "delegates": [{"key": key, "toolName": name} for key, name in surface.delegates.items()],
    }


def _skill(skill: SkillSurface) -> Json:
    return {
        "name": skill.name,
        "tools": list(skill.tools),
        "source": skill.source,
        "pick": list(skill.pick),
        "omit": list(skill.omit),
        "requiredEnv": [_variable(variable) for variable in skill.variables],
        "isInteractive": skill.is_interactive,
    }


def _variable(variable: Variable | None) -> Json | None:
    return {"name": variable.name, "isSet": variable.is_set} if variable else None
