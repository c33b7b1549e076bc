"""The skills of one job: opened when first needed, shared by its runs, closed with it."""

import shutil
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import anyio
from anyio.abc import TaskGroup

from perstack.core.answers import Reply
from perstack.core.messages import ToolCall, ToolResult, text_result
from perstack.core.tools import ToolDefinition
from perstack.core.verification import VerificationResult, judged
from perstack.definition.model import Definitions, Expert, InteractiveSkill, McpStdioSkill, Skill
from perstack.definition.names import BASE_SKILL
from perstack.definition.verification import Verification
from perstack.errors import SkillError
from perstack.runtime.ports import SkillListener, Skills
from perstack.skills.base.skill import BaseSkill
from perstack.skills.launch import is_built_in, is_pinned_base
from perstack.skills.limits import Limits
from perstack.skills.reaper import Reaper
from perstack.skills.server import Server
from perstack.skills.surface import Surface, interactive_tools


@asynccontextmanager
async def open_skills(
    *,
    workspace: Path,
    environment: Mapping[str, str],
    definitions: Definitions,
    limits: Limits | None = None,
) -> AsyncGenerator[Skills]:
    """The pool of skills of one job; leaving closes every connection and ends every process.

    Args:
        workspace: The folder that experts may touch; also the working folder of the servers.
        environment: Where skills find what they name in `requiredEnv`.
        definitions: The definitions that the job started with.
        limits: How long things may take.
    """
    reaper = Reaper()
    failure: Exception | None = None
    try:
        async with anyio.create_task_group() as owners:
            surroundings = _Surroundings(workspace, environment, owners, reaper, limits or Limits())
            pool = SkillPool(surroundings, definitions.perstack_base_skill_command)
            try:
                yield pool
            except Exception as error:  # noqa: BLE001 -- raised again below, not in a group
                failure = error
            finally:
                # Every wait inside is bounded, so a cancelled job is not held up for long.
                with anyio.CancelScope(shield=True):
                    await pool.close()
    finally:
        await reaper.close()
    if failure is not None:
        raise failure


class Connections(Protocol):
    """The servers of a job, as the pool uses them; see `servers.Servers`."""

    async def open(
        self, servers: Mapping[str, Server], listener: SkillListener
    ) -> dict[str, list[ToolDefinition]]:
        """Connect and return the tools by skill."""
        ...

    async def call(
        self, server: Server, tool_name: str, call: ToolCall, idempotency_key: str
    ) -> ToolResult:
        """Call a tool by the server's own name for it."""
        ...

    async def close(self) -> None:
        """End every connection."""
        ...


class SkillPool:
    """Satisfies the `Skills` port; made by `open_skills`.

    A skill with `lazyInit` is connected in the background like every other. Its tools are part of
    the first question to the model, so that question waits for it all the same. Skills of type
    `interactiveSkill` are included for every run; that a delegated run must not see them is for
    the runtime to know.
    """

    def __init__(self, surroundings: "_Surroundings", base_command: tuple[str, ...] | None) -> None:
        self._around = surroundings
        self._base_command = base_command
        self._base: BaseSkill | None = None
        self._connections: Connections | None = None
        self._surveys: dict[str, _Survey] = {}
        self._is_closed = False

    async def tools(self, expert: Expert, run: SkillListener) -> tuple[ToolDefinition, ...]:
        survey = await self._survey(expert, run)
        return tuple(survey.surface.definitions)

    async def call(self, expert: Expert, call: ToolCall, idempotency_key: str) -> ToolResult:
        if self._is_closed:
            return text_result(call, "The job has ended.", is_error=True)
        try:
            survey = self._surveys.get(expert.key)
            if survey is None or survey.expert is not expert:
                # A resumed run makes its pending calls before it asks for the tools.
                survey = await self._survey(expert, Nobody())
        except SkillError as failure:
            return text_result(call, str(failure), is_error=True)
        origin = survey.surface.origins.get((call.skill_name, call.tool_name))
        if origin is None:
            problem = f"Skill {call.skill_name!r} of {expert.key} has no tool {call.tool_name!r}."
            return text_result(call, problem, is_error=True)
        server = survey.servers.get(call.skill_name)
        if server is not None:
            return await self._servers().call(server, origin, call, idempotency_key)
        result = await self._built_in().call(call.model_copy(update={"tool_name": origin}))
        return result.model_copy(update={"tool_name": call.tool_name})

    async def verify(
        self, expert: Expert, verification: Verification, answer: str
    ) -> VerificationResult:
        try:
            built_in = self._built_in()
        except SkillError as failure:
            return judged(verification, str(failure))
        return await built_in.verify(verification, answer)

    async def close(self) -> None:
        """End every connection; calls that come later are answered with an error."""
        self._is_closed = True
        if self._connections is not None:
            await self._connections.close()

    async def _survey(self, expert: Expert, listener: SkillListener) -> "_Survey":
        servers = {
            name: server
            for name, skill in expert.skills.items()
            if (server := self._server(name, skill, listener)) is not None
        }
        offered = await self._servers().open(servers, listener) if servers else {}
        survey = _Survey(expert, servers)
        for name, skill in expert.skills.items():
            if isinstance(skill, InteractiveSkill):
                survey.surface.add(name, interactive_tools(name, skill))
            elif name in offered:
                survey.surface.add(name, offered[name])
            else:
                survey.surface.add(name, self._built_in().definitions(skill.pick, skill.omit))
        self._surveys[expert.key] = survey
        return survey

    def _server(self, name: str, skill: Skill, listener: SkillListener) -> Server | None:
        """The server that a skill needs; None for what is built in or answered by people."""
        if isinstance(skill, InteractiveSkill):
            return None
        if not isinstance(skill, McpStdioSkill):
            return Server(skill)
        if is_built_in(skill):
            if self._base_command is not None:
                return Server(skill, command_line=self._base_command)
            if skill.required_env:
                listener.stderr(name, "(the base skill is built in: its requiredEnv has no effect)")
            return None
        path = self._around.environment.get("PATH")
        if is_pinned_base(skill) and shutil.which(skill.command, path=path) is None:
            listener.stderr(
                name, f"({skill.command} was not found: the built-in {BASE_SKILL} stands in)"
            )
            return None
        return Server(skill)

    def _built_in(self) -> BaseSkill:
        if self._base is None:
            around = self._around
            try:
                self._base = BaseSkill(
                    around.workspace, around.environment, group_guard=around.reaper
                )
            except OSError as error:
                raise SkillError(
                    f"The workspace {around.workspace} cannot be used: {error.strerror}.",
                    skill=BASE_SKILL,
                    hint="Create it, or choose another folder.",
                ) from error
        return self._base

    def _servers(self) -> Connections:
        if self._connections is None:
            # The protocol's SDK takes over half a second to import; the built-in skill needs none.
            from perstack.skills.servers import Servers  # noqa: PLC0415 -- see above

            around = self._around
            self._connections = Servers(
                around.workspace,
                around.environment,
                around.owners,
                around.reaper,
                around.limits,
            )
        return self._connections


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """What the skills of one job work in."""

    workspace: Path
    environment: Mapping[str, str] = field(repr=False)
    owners: TaskGroup
    reaper: Reaper
    limits: Limits


@dataclass(slots=True)
class _Survey:
    """What the skills of an expert came to: tools, and the server of each skill that has one."""

    expert: Expert
    servers: dict[str, Server]
    surface: Surface = field(default_factory=Surface)


class Nobody:
    """A listener for a connection that no run has asked for yet."""

    def connecting(self, skill_name: str, skill_type: str) -> AbstractContextManager[None]:
        return nullcontext()

    def starting(self, skill_name: str, command: str, args: Sequence[str]) -> None: ...

    def connected(
        self, skill_name: str, server_info: dict[str, Any] | None, durations_ms: dict[str, float]
    ) -> None: ...

    def stderr(self, skill_name: str, line: str) -> None: ...

    async def asked(self, skill_name: str, message: str, schema: dict[str, Any]) -> Reply:
        return Reply(action="cancel")

    def disconnected(self, skill_name: str) -> None: ...
