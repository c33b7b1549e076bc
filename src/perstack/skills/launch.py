"""How the server of a stdio skill is started: its command line and its environment."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from perstack.definition.model import McpSseSkill, McpStdioSkill
from perstack.definition.references import BASE_SKILL
from perstack.errors import SkillError
from perstack.skills.child_environment import child_environment

INSTALL_HINTS = {
    "npx": "Install Node.js, which brings npx, and see that it is on the PATH.",
    "node": "Install Node.js and see that it is on the PATH.",
    "uvx": "Install uv, which brings uvx, and see that it is on the PATH.",
    "uv": "Install uv and see that it is on the PATH.",
}

PRESENTATION_FIELDS = {"description", "rule", "pick", "omit", "lazy_init"}


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """A skill backed by a server; `command_line` takes the place of what the definition starts."""

    skill: McpStdioSkill | McpSseSkill
    command_line: tuple[str, ...] | None = None

    @property
    def identity(self) -> str:
        """Equal for definitions that differ only in what is shown of the server: these share it."""
        return repr((self.command_line, self.skill.model_dump_json(exclude=PRESENTATION_FIELDS)))


@dataclass(frozen=True, slots=True)
class ServerCommand:
    """A server process to be started; `required_variables` are what the skill names itself."""

    skill_name: str
    command: str
    args: tuple[str, ...]
    workspace: Path
    environment: Mapping[str, str] = field(repr=False)
    required_variables: Mapping[str, str] = field(repr=False)
    refused_variables: tuple[str, ...] = ()

    @property
    def command_line(self) -> str:
        """The command line, as a person reads it."""
        return " ".join((self.command, *self.args))


def build_skill_command(
    name: str, skill: McpStdioSkill, workspace: Path, environment: Mapping[str, str]
) -> ServerCommand:
    """The process that a definition asks for.

    Raises:
        SkillError: The definition names nothing to start, a required variable is not set, or the
            command is not on this machine.
    """
    return build_command(
        name,
        (skill.command, *command_arguments(name, skill)),
        skill.required_env,
        workspace,
        environment,
    )


def build_command(
    name: str,
    command_line: tuple[str, ...],
    required_env: tuple[str, ...],
    workspace: Path,
    environment: Mapping[str, str],
) -> ServerCommand:
    """The process of a ready command line.

    Raises:
        SkillError: As for `launch`.
    """
    required = required_values(name, required_env, environment)
    child_env, refused = child_environment(environment, required_env)
    command = command_line[0]
    if shutil.which(command, path=child_env.get("PATH"), mode=1) is None and not (
        "/" in command and (workspace / command).exists()
    ):
        raise SkillError(
            f"Skill {name!r} cannot be started: the command {command!r} was not found.",
            skill=name,
            hint=INSTALL_HINTS.get(command, "Install it, or give its full path in `command`."),
        )
    return ServerCommand(
        skill_name=name,
        command=command,
        args=command_line[1:],
        workspace=workspace,
        environment=child_env,
        required_variables=required,
        refused_variables=tuple(refused),
    )


def command_arguments(name: str, skill: McpStdioSkill) -> tuple[str, ...]:
    """The arguments of the command: a package for the runner, or what the definition lists.

    Raises:
        SkillError: The definition has neither.
    """
    package_args = (skill.package_name,) if skill.package_name is not None else skill.args
    if not package_args:
        raise SkillError(
            f"Skill {name!r} has no packageName or args.",
            skill=name,
            hint="Give one of them.",
        )
    if skill.command == "npx" and not {"-y", "--yes"} & set(package_args):
        # Without it npx asks whether it may install, on a stdin that belongs to the protocol.
        return ("-y", *package_args)
    return package_args


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
    package_args = (skill.package_name,) if skill.package_name is not None else skill.args
    return tuple(arg for arg in package_args if arg not in {"-y", "--yes"}) == (BASE_SKILL,)


def is_pinned_base_skill(skill: McpStdioSkill) -> bool:
    """Whether a definition asks for a certain published version of the base skill."""
    package_args = (skill.package_name,) if skill.package_name is not None else skill.args
    return any(re.fullmatch(rf"{re.escape(BASE_SKILL)}@.+", arg) for arg in package_args)


@dataclass(frozen=True, slots=True)
class SkillTimeouts:
    """Seconds; generous, because the first start of a server may download it.

    Attributes:
        start_seconds: From the first attempt until a server's tools are known.
        call_seconds: For one call of a tool.
        grace_seconds: For a process to end after its stdin has ended, and again after SIGTERM.
        close_seconds: For ending a session over HTTP.
    """

    start_seconds: float = 60.0
    call_seconds: float = 600.0
    grace_seconds: float = 2.0
    close_seconds: float = 5.0
