"""`perstack check`: whether a definition file is accepted, and what its experts will have."""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from perstack.cli.arguments import add_file_arguments
from perstack.cli.exits import COMPLETED, MISUSED
from perstack.cli.output import Terminal
from perstack.cli.surface import ExpertSurface, SkillSurface, surfaces
from perstack.definition.load import Loaded, find_config, load
from perstack.errors import DefinitionError


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of the command."""
    add_file_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of text")


def execute(options: Namespace, terminal: Terminal) -> int:
    """Check, and show what there is.

    Raises:
        DefinitionError: The file cannot be found or accepted, and text was asked for.
    """
    try:
        loaded = load(find_config(options.config, Path.cwd()), strict=options.strict)
    except DefinitionError as error:
        if not options.json:
            raise
        problems = list(error.problems) or [str(error)]
        _print_json(terminal, {"ok": False, "problems": problems})
        return MISUSED
    if options.json:
        _print_json(terminal, _document(loaded))
    else:
        for line in _lines(loaded):
            terminal.line(line)
        for warning in loaded.warnings:
            terminal.note(f"warning: {warning}", "yellow")
    return COMPLETED


def _print_json(terminal: Terminal, document: dict[str, Any]) -> None:
    terminal.line(json.dumps(document, ensure_ascii=False, indent=2))


def _document(loaded: Loaded) -> dict[str, Any]:
    return {
        "ok": True,
        "path": str(loaded.path),
        "experts": [
            {
                "key": surface.expert.key,
                "toolName": surface.published_name,
                "skills": [
                    {
                        "name": skill.name,
                        "tools": list(skill.tools),
                        "source": skill.source,
                        "pick": list(skill.pick),
                        "omit": list(skill.omit),
                    }
                    for skill in surface.skills
                ],
                "delegates": [
                    {"key": key, "toolName": name} for key, name in surface.delegates.items()
                ],
            }
            for surface in surfaces(loaded.definitions)
        ],
        "warnings": [str(warning) for warning in loaded.warnings],
    }


def _lines(loaded: Loaded) -> Iterator[str]:
    known = {surface.expert.key: surface for surface in surfaces(loaded.definitions)}
    yield f"{loaded.path}: {len(known)} expert{'' if len(known) == 1 else 's'}"
    shown: set[str] = set()
    for surface in known.values():
        if surface.published_name is not None:
            yield ""
            yield f"{surface.expert.key}  (MCP tool {surface.published_name})"
            yield from _branch(surface, known, shown, "")
    for key, surface in known.items():
        if key not in shown:
            yield ""
            yield f"{key}  (a delegate that no expert calls)"
            yield from _branch(surface, known, shown, "")


def _branch(
    surface: ExpertSurface, known: Mapping[str, ExpertSurface], shown: set[str], indent: str
) -> Iterator[str]:
    """The tools of an expert, then its delegates with theirs; each expert is described once."""
    shown.add(surface.expert.key)
    bar = "│" if surface.delegates else " "
    for skill in surface.skills:
        yield f"{indent}{bar}  {_tools(skill)}"
    last = len(surface.delegates) - 1
    for position, (key, name) in enumerate(surface.delegates.items()):
        yield f"{indent}{'└─' if position == last else '├─'} {key}  (called as {name})"
        below = f"{indent}{'   ' if position == last else '│  '}"
        delegate = known.get(key)
        if delegate is None:
            yield f"{below}   not defined here"
        elif delegate.published_name is not None or key in shown:
            yield f"{below}   (described by itself)"
        else:
            yield from _branch(delegate, known, shown, below)


def _tools(skill: SkillSurface) -> str:
    if skill.source is None:
        return f"{skill.name}: {', '.join(skill.tools) or 'no tools'}"
    if skill.pick:
        which = ", ".join(skill.pick)
    else:
        which = "its tools" + (f" but {', '.join(skill.omit)}" if skill.omit else "")
    return f"{skill.name}: {which}, at run time from {skill.source}"
