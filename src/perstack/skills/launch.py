"""How the server of a stdio skill is started: its command line and its environment."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from perstack.definition.model import McpStdioSkill
from perstack.definition.names import BASE_SKILL
from perstack.errors import SkillError
from perstack.skills.guard import child_environment

INSTALL_HINTS = {
    "npx": "Install Node.js, which brings npx, and see that it is on the PATH.",
    "node": "Install Node.js and see that it is on the PATH.",
    "uvx": "Install uv, which brings uvx, and see that it is on the PATH.",
    "uv": "Install uv and see that it is on the PATH.",
}


@dataclass(frozen=True, slots=True)
class Launch:
    """A server process to be started; `required` are the variables the skill asked for by name."""

    skill_name: str
    command: str
    args: tuple[str, ...]
    workspace: Path
    environment: Mapping[str, str] = field(repr=False)
    required: Mapping[str, str] = field(repr=False)
    refused_names: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The command line, as a person reads it."""
        return " ".join((self.command, *self.args))


def launch(
    name: str, skill: McpStdioSkill, workspace: Path, environment: Mapping[str, str]
) -> Launch:
    """The process that a definition asks for.

    Raises:
        SkillError: The definition names nothing to start, a required variable is not set, or the
            command is not on this machine.
    """
    return launch_command(
        name, (skill.command, *arguments(name, skill)), skill.required_env, workspace, environment
    )


def launch_command(
    name: str,
    command_line: tuple[str, ...],
    required_env: tuple[str, ...],
    workspace: Path,
    environment: Mapping[str, str],
) -> Launch:
    """The process of a ready command line.

    Raises:
        SkillError: As for `launch`.
    """
    required = required_values(name, required_env, environment)
    child, refused = child_environment(environment, required_env)
    command = command_line[0]
    if shutil.which(command, path=child.get("PATH"), mode=1) is None and not (
        "/" in command and (workspace / command).exists()
    ):
        raise SkillError(
            f"Skill {name!r} cannot be started: the command {command!r} was not found.",
            skill=name,
            hint=INSTALL_HINTS.get(command, "Install it, or give its full path in `command`."),
        )
    return Launch(
        skill_name=name,
        command=command,
        args=command_line[1:],
        workspace=workspace,
        environment=child,
        required=required,
        refused_names=tuple(refused),
    )


def arguments(name: str, skill: McpStdioSkill) -> tuple[str, ...]:
    """The arguments of the command: a package for the runner, or what the definition lists.

    Raises:
        SkillError: The definition has neither.
    """
    given = (skill.package_name,) if skill.package_name is not None else skill.args
    if not given:
        raise SkillError(
            f"Skill {name!r} has no packageName or args.",
            skill=name,
            hint="Give one of them.",
        )
    if skill.command == "npx" and not {"-y", "--yes"} & set(given):
        # Without it npx asks whether it may install, on a stdin that belongs to the protocol.
        return ("-y", *given)
    return given


def required_values(
    name: str, required_env: tuple[str, ...], environment: Mapping[str, str]
) -> dict[str, str]:
    """The values of the variables that a skill requires.

    Raises:
        SkillError: One of them is not set.
    """
    missing = [variable for variable in required_env if not environment.get(variable)]
    if missing:
        plural = "s" if len(missing) > 1 else ""
        raise SkillError(
            f"Skill {name!r} requires environment variable{plural} {', '.join(missing)}.",
            skill=name,
            hint="Set it in the environment or in the .env file next to perstack.toml.",
        )
    return {variable: environment[variable] for variable in required_env}


def is_built_in(skill: McpStdioSkill) -> bool:
    """Whether a definition means the base skill of this version, which needs no process."""
    given = (skill.package_name,) if skill.package_name is not None else skill.args
    return tuple(arg for arg in given if arg not in {"-y", "--yes"}) == (BASE_SKILL,)


def is_pinned_base(skill: McpStdioSkill) -> bool:
    """Whether a definition asks for a certain published version of the base skill."""
    given = (skill.package_name,) if skill.package_name is not None else skill.args
    return any(re.fullmatch(rf"{re.escape(BASE_SKILL)}@.+", arg) for arg in given)
