"""The skills of one job: opened when first needed, shared by its runs, closed at its end."""

import shutil
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from perstack import __version__
from perstack.core.elicitation import ElicitationReply
from perstack.core.messages import ToolCall, ToolResult, text_result
from perstack.core.tools import ToolDefinition
from perstack.core.verification import VerificationResult, build_verification_result
from perstack.definition.model import Definitions, Expert, InteractiveSkill, McpStdioSkill, Skill
from perstack.definition.references import BASE_SKILL
from perstack.definition.verification import Verification
from perstack.errors import SkillError
from perstack.runtime.ports import SkillListener, Skills
from perstack.runtime.tools import name_delegates
from perstack.skills.builtin.skill import BuiltInSkill
from perstack.skills.context import SkillContext, SkillTimeouts, open_context
from perstack.skills.known_tools import KnownTools
from perstack.skills.server_command import (
    ServerSpec,
    build_command,
    is_pinned_base_skill,
    server_spec,
)
from perstack.skills.tool_catalog import ToolCatalog, filter_tools, interactive_tools

if TYPE_CHECKING:
    from perstack.skills.connection_set import ConnectionSet
    from perstack.skills.server_connections import ServerConnections

    GetConnectionSet = Callable[[], ConnectionSet]


@asynccontextmanager
async def open_skills(
    *,
    workspace: Path,
    environment: Mapping[str, str],
    definitions: Definitions,
    timeouts: SkillTimeouts | None = None,
    get_shared: "GetConnectionSet | None" = None,
    known_tools: KnownTools | None = None,
) -> AsyncGenerator[Skills]:
    """The pool of skills of one job; leaving closes its connections and ends its processes.

    Args:
        workspace: The folder that experts may touch; also the working folder of the servers.
        environment: Where skills find what they name in `requiredEnv`.
        definitions: The definitions that the job started with.
        timeouts: How long things may take.
        get_shared: The connections that the job shares with others; without it there are none.
        known_tools: What servers with `lazyInit` offer; without it nothing is known of them.
    """
    async with open_context(workspace, environment, timeouts or SkillTimeouts()) as context:
        pool = SkillPool(context, definitions, known_tools or KnownTools(), get_shared)
        try:
            yield pool
        finally:
            # Every wait inside is bounded, so a cancelled job is not held up for long.
            with anyio.CancelScope(shield=True):
                await pool.close()


class SkillPool:
    """Satisfies the `Skills` port.

    A server with `lazyInit` whose tools are known is connected by the first call of one of them.
    Skills of type `interactiveSkill` are included for every run; the runtime hides
    them from delegated runs.
    """

    def __init__(
        self,
        context: SkillContext,
        definitions: Definitions,
        known_tools: KnownTools,
        get_shared: "GetConnectionSet | None" = None,
    ) -> None:
        self._context = context
        self._known_tools = known_tools
        self._get_shared = get_shared
        self._definitions = definitions
        self._built_in_skill: BuiltInSkill | None = None
        self._connections: ServerConnections | None = None
        self._expert_tools: dict[str, _ExpertTools] = {}
        self._is_closed = False

    async def tools(self, expert: Expert, listener: SkillListener) -> tuple[ToolDefinition, ...]:
        expert_tools = await self._load_tools(expert, listener)
        return tuple(expert_tools.catalog.definitions)

    def tools_version(self, expert: Expert) -> int | None:
        expert_tools = self._expert_tools.get(expert.key)
        if expert_tools is None or self._connections is None:
            return None
        return self._connections.tools_version(expert_tools.servers.values())

    async def call(self, expert: Expert, call: ToolCall, idempotency_key: str) -> ToolResult:
        if self._is_closed:
            return text_result(call, "The job has ended.", is_error=True)
        try:
            expert_tools = self._expert_tools.get(expert.key)
            if expert_tools is None or expert_tools.expert is not expert:
                # A resumed run makes its pending calls before it asks for the tools.
                expert_tools = await self._load_tools(expert, NullSkillListener())
        except SkillError as failure:
            return text_result(call, str(failure), is_error=True)
        original_name = expert_tools.catalog.original_names.get((call.skill_name, call.tool_name))
        if original_name is None:
            problem = f"Skill {call.skill_name!r} of {expert.key} has no tool {call.tool_name!r}."
            return text_result(call, problem, is_error=True)
        server = expert_tools.servers.get(call.skill_name)
        if server is not None:
            return await self._get_connections().call(
                server, original_name, call, idempotency_key, expert_tools.listener
            )
        result = await self._get_built_in_skill().call(
            call.model_copy(update={"tool_name": original_name})
        )
        return result.model_copy(update={"tool_name": call.tool_name})

    async def verify(
        self, expert: Expert, verification: Verification, answer: str
    ) -> VerificationResult:
        try:
            built_in = self._get_built_in_skill()
        except SkillError as failure:
            return build_verification_result(verification, str(failure))
        return await built_in.verify(verification, answer)

    async def close(self) -> None:
        """End every connection; later calls get an error result."""
        self._is_closed = True
        if self._connections is not None:
            await self._connections.close()

    async def _load_tools(self, expert: Expert, listener: SkillListener) -> "_ExpertTools":
        servers = {
            name: server
            for name, skill in expert.skills.items()
            if (server := self._server_spec(name, skill, listener)) is not None
        }
        server_tools = await self._list_tools(servers, listener)
        previous = self._expert_tools.get(expert.key)
        expert_tools = _ExpertTools(expert, listener, servers)
        catalog = expert_tools.catalog
        for name, skill in expert.skills.items():
            if isinstance(skill, InteractiveSkill):
                catalog.add(name, interactive_tools(name, skill))
            elif name not in server_tools:
                catalog.add(name, self._get_built_in_skill().definitions(skill.pick, skill.omit))
                if previous is None or previous.listener is not listener:
                    listener.connected(name, {"name": BASE_SKILL, "version": __version__}, {})
        # The names that are known without servers are those that a check of the file tells.
        catalog.reserved |= name_delegates(expert, self._definitions, catalog.definitions).keys()
        for name, tools in server_tools.items():
            catalog.add(name, tools)
        order = list(expert.skills)
        catalog.definitions.sort(key=lambda tool: order.index(tool.skill_name))
        if previous is not None:
            # Another run may still call what it was shown before the tools changed.
            names = catalog.original_names
            names.update(previous.catalog.original_names | names)
        self._expert_tools[expert.key] = expert_tools
        return expert_tools

    async def _list_tools(
        self, servers: Mapping[str, ServerSpec], listener: SkillListener
    ) -> dict[str, list[ToolDefinition]]:
        listed = {
            name: tools
            for name, server in servers.items()
            if (tools := await self._find_known_tools(name, server)) is not None
        }
        unknown = {name: server for name, server in servers.items() if name not in listed}
        if unknown:
            listed |= await self._get_connections().open(unknown, listener)
        return {
            name: filter_tools(
                listed[name], server.skill.pick, server.skill.omit, partial(listener.stderr, name)
            )
            for name, server in servers.items()
        }

    async def _find_known_tools(
        self, name: str, server: ServerSpec
    ) -> tuple[ToolDefinition, ...] | None:
        """The tools of a server that is not to be started for them."""
        if not server.is_lazy or not isinstance(server.skill, McpStdioSkill):
            return None
        if self._connections is not None and self._connections.is_connected(server):
            return None
        context = self._context
        command = build_command(
            name,
            server.skill,
            context.workspace,
            context.environment,
            server.command_line,
            server.folder,
        )
        return await self._known_tools.get(server, command)

    def _server_spec(self, name: str, skill: Skill, listener: SkillListener) -> ServerSpec | None:
        """The server that a skill needs; `None` if it is built in or interactive."""
        if isinstance(skill, InteractiveSkill):
            return None
        if not isinstance(skill, McpStdioSkill):
            return server_spec(skill, self._definitions)
        if skill.is_built_in:
            if self._definitions.perstack_base_skill_command is not None:
                return server_spec(skill, self._definitions)
            if skill.required_env:
                listener.stderr(name, "(the base skill is built in: its requiredEnv has no effect)")
            return None
        path = self._context.environment.get("PATH")
        if is_pinned_base_skill(skill) and shutil.which(skill.command, path=path) is None:
            listener.stderr(
                name, f"({skill.command} was not found: the built-in {BASE_SKILL} stands in)"
            )
            return None
        return server_spec(skill, self._definitions)

    def _get_built_in_skill(self) -> BuiltInSkill:
        if self._built_in_skill is None:
            context = self._context
            try:
                self._built_in_skill = BuiltInSkill(
                    context.workspace, context.environment, launcher=context.launcher
                )
            except OSError as error:
                raise SkillError(
                    f"The workspace {context.workspace} cannot be used: {error.strerror}.",
                    skill=BASE_SKILL,
                    hint="Create it, or choose another folder.",
                ) from error
        return self._built_in_skill

    def _get_connections(self) -> "ServerConnections":
        if self._connections is None:
            # The SDK takes over half a second to import, and the built-in skill does without it.
            from perstack.skills.connection_set import ConnectionSet  # noqa: PLC0415 -- see above
            from perstack.skills.server_connections import ServerConnections  # noqa: PLC0415

            own = ConnectionSet(self._context)
            shared = own if self._get_shared is None else self._get_shared()
            self._connections = ServerConnections(
                own, shared, self._known_tools, self._context.timeouts
            )
        return self._connections


@dataclass(slots=True)
class _ExpertTools:
    """The tools of an expert, the server of each skill that has one, and who asked last."""

    expert: Expert
    listener: SkillListener
    servers: dict[str, ServerSpec]
    catalog: ToolCatalog = field(default_factory=ToolCatalog)


class NullSkillListener:
    """The listener of a connection that no run has requested yet."""

    def connecting(self, skill_name: str, skill_type: str) -> AbstractContextManager[None]:
        return nullcontext()

    def starting(self, skill_name: str, command: str, args: Sequence[str]) -> None: ...

    def connected(
        self, skill_name: str, server_info: dict[str, Any] | None, durations_ms: dict[str, float]
    ) -> None: ...

    def stderr(self, skill_name: str, line: str) -> None: ...

    async def elicit(
        self, skill_name: str, message: str, schema: dict[str, Any]
    ) -> ElicitationReply:
        return ElicitationReply(action="cancel")

    def disconnected(self, skill_name: str) -> None: ...
