"""The command line and environment of the server of a stdio skill."""

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from perstack.definition.field_checks import PACKAGE_RUNNERS
from perstack.definition.model import Definitions, McpSseSkill, McpStdioSkill
from perstack.definition.references import BASE_SKILL
from perstack.definition.skill_paths import resolve_paths
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
    """A skill that has a server.

    Attributes:
        skill: Its definition.
        command_line: Takes the place of the command and arguments in the definition.
        folder: Where its definition file is, for paths in it.
    """

    skill: McpStdioSkill | McpSseSkill
    command_line: tuple[str, ...] | None = None
    folder: Path | None = None

    @cached_property
    def identity(self) -> str:
        """Equal for definitions that start the same server, which their experts share."""
        skill = self.skill.model_dump_json(exclude=PRESENTATION_FIELDS)
        return repr((self.command_line, str(self.folder), skill))

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

    @property
    def is_lazy(self) -> bool:
        """Whether it is started by the first call of one of its tools, if these are known."""
        skill = self.skill
        return isinstance(skill, McpStdioSkill) and skill.lazy_init and not skill.is_built_in


def shared_identities(definitions: Definitions) -> frozenset[str]:
    """The identities of the servers that the jobs of an engine share."""
    skills = (skill for expert in definitions.experts.values() for skill in expert.skills.values())
    servers = (
        server_spec(skill, definitions) for skill in skills if isinstance(skill, McpStdioSkill)
    )
    return frozenset(server.identity for server in servers if server.is_shared)


def server_spec(skill: McpStdioSkill | McpSseSkill, definitions: Definitions) -> ServerSpec:
    """The server of a skill of a definition file."""
    is_base_skill = isinstance(skill, McpStdioSkill) and skill.is_built_in
    return ServerSpec(
        skill,
        definitions.perstack_base_skill_command if is_base_skill else None,
        definitions.path and definitions.path.parent,
    )


@dataclass(frozen=True, slots=True)
class ServerCommand:
    """A server process to be started.

    `program` is the file that `command` stands for; `required_variables` are those of
    `requiredEnv`.
    """

    skill_name: str
    command: str
    program: str
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
    folder: Path | None = None,
) -> ServerCommand:
    """The process of a stdio skill.

    Args:
        name: Name of the skill.
        skill: Its definition.
        workspace: Where it runs.
        environment: Where it finds what it names in `requiredEnv`.
        command_line: Takes the place of the command and arguments in the definition.
        folder: Where its definition file is, for paths in it.

    Raises:
        SkillError: The definition names nothing to start, a required variable is not set, or the
            command is not on this machine.
    """
    if command_line is None:
        command_line = (skill.command, *command_arguments(name, skill))
    if folder is not None:
        command_line = resolve_paths(command_line, folder)
    required = required_values(name, skill.required_env, environment)
    child_env, refused = child_environment(environment, skill.required_env)
    command = command_line[0]
    program = find_program(command, child_env.get("PATH"), workspace, folder)
    if isinstance(program, ProgramProblem):
        raise SkillError(
            f"Skill {name!r} cannot be started: {program.reason}.", skill=name, hint=program.hint
        )
    return ServerCommand(
        skill_name=name,
        command=command,
        program=program,
        args=command_line[1:],
        workspace=workspace,
        environment=child_env,
        required_variables=required,
        refused_variables=refused,
    )


@dataclass(frozen=True, slots=True)
class ProgramProblem:
    """Why a command cannot be started on this machine, and what to do."""

    reason: str
    hint: str


def find_program(
    command: str, search_path: str | None, working_folder: Path, folder: Path | None = None
) -> str | ProgramProblem:
    """The file that a command stands for, or why there is none.

    Args:
        command: A name on the search path, or a path.
        search_path: The `PATH` of the process.
        working_folder: Where the process will run.
        folder: Where the definition file is.
    """
    if "/" not in command:
        found = shutil.which(command, path=search_path)
        if found is not None:
            return found
        hint = INSTALL_HINTS.get(command, "Install it, or give its full path in `command`.")
        if folder is not None and (folder / command).is_file():
            hint = f"Write ./{command} for the file beside the definition file."
        return ProgramProblem(f"the command {command!r} was not found", hint)
    path = working_folder / command
    if not path.exists():
        return ProgramProblem(
            f"the command {command!r} was not found",
            "Check the path; a relative one begins at the folder of the definition file.",
        )
    if path.is_dir():
        return ProgramProblem(f"the command {command!r} is a folder", "Name a program in it.")
    if not os.access(path, os.X_OK):
        return ProgramProblem(
            f"the command {command!r} may not be executed",
            "Make it executable (chmod +x), or give its interpreter as the command.",
        )
    return str(path)


def command_arguments(name: str, skill: McpStdioSkill) -> tuple[str, ...]:
    """The arguments of a definition's command: a package for its runner, or `args`.

    Raises:
        SkillError: A runner of packages has neither.
    """
    package_args = skill.package_args
    if not package_args and skill.command in PACKAGE_RUNNERS:
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
            hint="Set it in the environment or in .env, here or beside perstack.toml.",
        )
    return {variable: environment[variable] for variable in required_env}


def is_pinned_base_skill(skill: McpStdioSkill) -> bool:
    """Whether a definition names a published version of the base skill."""
    return any(re.fullmatch(rf"{re.escape(BASE_SKILL)}@.+", arg) for arg in skill.package_args)
