"""What the skills of a file need of this machine and do not find; no skill is started."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from perstack.definition.diagnostics import Diagnostic
from perstack.definition.field_checks import PACKAGE_RUNNERS
from perstack.definition.model import Definitions, McpStdioSkill
from perstack.definition.skill_paths import resolve_paths
from perstack.skills.server_command import (
    ProgramProblem,
    ServerSpec,
    find_program,
    is_pinned_base_skill,
    server_spec,
)

SCRIPT_SUFFIXES = frozenset(
    {".py", ".js", ".mjs", ".cjs", ".ts", ".mts", ".sh", ".rb", ".php", ".pl", ".jar"}
)

CODE_OPTIONS = frozenset({"-c", "-e", "--eval", "-m"})
"""What follows is a program or a module, and no file."""


def skill_problems(
    definitions: Definitions, environment: Mapping[str, str], workspaces: Sequence[Path]
) -> list[Diagnostic]:
    """Why servers of skills would not start here, each with the key concerned.

    Args:
        definitions: The file.
        environment: Where skills will run.
        workspaces: Folders in which they may run.
    """
    search_path = environment.get("PATH")
    problems: dict[Diagnostic, None] = {}
    for keys, server in _servers(definitions):
        problems |= dict.fromkeys(_server_problems(keys, server, search_path, workspaces))
    return list(problems)


def server_commands(definitions: Definitions) -> tuple[str, ...]:
    """The commands that the skills of a file start, as they stand in it."""
    return tuple(dict.fromkeys(_command_line(server)[0] for _, server in _servers(definitions)))


def _servers(definitions: Definitions) -> Iterator[tuple[tuple[str, ...], ServerSpec]]:
    for expert in definitions.experts.values():
        for name, skill in expert.skills.items():
            if not isinstance(skill, McpStdioSkill) or is_pinned_base_skill(skill):
                continue
            server = server_spec(skill, definitions)
            if server.command_line is not None:
                yield ("perstackBaseSkillCommand",), server
            elif not skill.is_built_in:
                yield ("experts", expert.key, "skills", name), server


def _command_line(server: ServerSpec) -> tuple[str, ...]:
    skill = server.skill
    own = (skill.command, *skill.package_args) if isinstance(skill, McpStdioSkill) else ()
    return server.command_line or own


def _server_problems(
    keys: tuple[str, ...],
    server: ServerSpec,
    search_path: str | None,
    workspaces: Sequence[Path],
) -> Iterator[Diagnostic]:
    words = _command_line(server)
    folder = server.folder or Path()
    resolved = resolve_paths(words, folder)
    command_path = keys if server.command_line is not None else (*keys, "command")
    program = find_program(resolved[0], search_path, folder, folder)
    if isinstance(program, ProgramProblem):
        yield Diagnostic(program.reason, program.hint.rstrip("."), key_path=command_path)
    script = _script(words[0], resolved[1:])
    # Such as that of uv --directory.
    named = (folder / word for word in resolved[1:])
    if script and not any(_is_there(each / script) for each in (folder, *workspaces, *named)):
        argument_path = keys if server.command_line is not None else (*keys, "args")
        reason = f"names the file {script!r}, which is not there"
        hint = "a relative path begins at the folder of the definition file"
        yield Diagnostic(reason, hint, key_path=argument_path)


def _script(command: str, arguments: Sequence[str]) -> str | None:
    """The file that an interpreter is to run, as far as its name tells."""
    for word in arguments:
        if word in CODE_OPTIONS:
            return None
        if Path(word).suffix in SCRIPT_SUFFIXES and not word.startswith("-") and "://" not in word:
            # A runner of packages may know a command of this name.
            return None if command in PACKAGE_RUNNERS and not Path(word).is_absolute() else word
    return None


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
