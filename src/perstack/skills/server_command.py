"""The command line and environment of the server of a stdio skill."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from perstack.definition.model import Definitions, McpSseSkill, McpStdioSkill
from perstack.definition.references import BASE_SKILL
from perstack.errors import SkillError
from perstack.skills.child_environment import child_environment
from perstack.skills.context import SkillTimeouts

INSTALL_HINTS = {
    "npx": "Install Node.js, which brings npx, and see that it is on the PATH.",
    "node": "Install Node.js and see that it is on the PATH.",
    "uvx": "Install uv, which brings uvx, and see that it is on the PATH.",
    "uv": "Install uv and see that it is on the PATH.",
}

# Commands that get the server from elsewhere before they start it for the first time.
DOWNLOADING_COMMANDS = frozenset(
    {"npx", "npm", "pnpm", "yarn", "bunx", "bun", "deno", "uvx", "uv", "pipx", "docker", "podman"}
)

PRESENTATION_FIELDS = {"description", "rule", "pick", "omit", "lazy_init", "start_timeout"}


@dataclass(frozen=True)
class ServerSpec:
    """A skill that has a server; `command_line` replaces the command of its definition."""

    skill: McpStdioSkill | McpSseSkill
    command_line: tuple[str, ...] | None = None

    @cached_property
    def identity(self) -> str:
        """Equal for definitions that start the same server, which their experts share."""
        return repr((self.command_line, self.skill.model_dump_json(exclude=PRESENTATION_FIELDS)))

    def timeouts(self, default: SkillTimeouts) -> SkillTimeouts:
        """How long things may take for this server."""
        if self.skill.start_timeout is not None:
            return replace(default, start_seconds=self.skill.start_timeout / 1000)
        if isinstance(self.skill, McpSseSkill):
            return default
        command = (self.command_line or (self.skill.command,))[0]
        is_download = Path(command).stem in DOWNLOADING_COMMANDS
        return replace(default, start_seconds=default.download_seconds) if is_download else default

    @property
    def is_shared(self) -> bool:
        """Whether the jobs of an engine use one process."""
        return isinstance(self.skill, McpStdioSkill) and self.skill.scope == "engine"


def shared_identities(definitions: Definitions) -> frozenset[str]:
    """The identities of the servers that the jobs of an engine share."""
    base_command = definitions.perstack_base_skill_command
    skills = (skill for expert in definitions.experts.values() for skill in expert.skills.values())
    servers = (
        ServerSpec(skill, base_command if skill.is_built_in else None)
        for skill in skills
        if isinstance(skill, McpStdioSkill)
    )
    return frozenset(server.identity for server in servers if server.is_shared)


@dataclass(frozen=True, slots=True)
class ServerCommand:
    """A server process to be started; `required_variables` are those of `requiredEnv`."""

    skill_name: str
    command: str
    args: tuple[str, ...]
    workspace: Path
    environment: Mapping[str, str] = field(repr=False)
    required_variables: Mapping[str, str] = field(repr=False)
    refused_variables: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """Equal for commands that start the same program, wherever it reads its secrets."""
        return repr((self.command, self.args, str(self.workspace), sorted(self.required_variables)))


def build_command(
    name: str,
    skill: McpStdioSkill,
    workspace: Path,
    environment: Mapping[str, str],
    command_line: tuple[str, ...] | None = None,
) -> ServerCommand:
    """The process of a stdio skill.

    Args:
        name: Name of the skill.
        skill: Its definition.
        workspace: Where it runs.
        environment: Where it finds what it names in `requiredEnv`.
        command_line: Takes the place of the command and arguments in the definition.

    Raises:
        SkillError: The definition names nothing to start, a required variable is not set, or the
            command is not on this machine.
    """
    if command_line is None:
        command_line = (skill.command, *command_arguments(name, skill))
    required = required_values(name, skill.required_env, environment)
    child_env, refused = child_environment(environment, skill.required_env)
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
        refused_variables=refused,
    )


def command_arguments(name: str, skill: McpStdioSkill) -> tuple[str, ...]:
    """The arguments of a definition's command: a package for its runner, or `args`.

    Raises:
        SkillError: The definition has neither.
    """
    package_args = skill.package_args
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


def is_pinned_base_skill(skill: McpStdioSkill) -> bool:
    """Whether a definition names a published version of the base skill."""
    return any(re.fullmatch(rf"{re.escape(BASE_SKILL)}@.+", arg) for arg in skill.package_args)
