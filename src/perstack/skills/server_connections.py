"""The connections to the skill servers of one job."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mcp.types import Tool

from perstack.core.messages import ToolCall, ToolResult, text_result
from perstack.core.tools import ToolDefinition
from perstack.definition.model import McpSseSkill
from perstack.errors import SkillError
from perstack.runtime.ports import SkillListener
from perstack.skills.connection import (
    ConnectionLostError,
    ServerConnection,
    SessionLostError,
    SkillTransport,
)
from perstack.skills.context import SkillContext
from perstack.skills.convert import filter_tools, to_tool_definition, to_tool_result
from perstack.skills.server_command import ServerSpec, build_command
from perstack.skills.stdio import StdioTransport


class ServerConnections:
    """The connections of one job."""

    def __init__(self, context: SkillContext) -> None:
        self._context = context
        self._connections: dict[str, ServerConnection] = {}

    async def open(
        self, servers: Mapping[str, ServerSpec], listener: SkillListener
    ) -> dict[str, list[ToolDefinition]]:
        """Connect the servers that are not connected yet, concurrently, and return their tools.

        Raises:
            SkillError: The first skill, in order, that cannot be used. The others stay connected.
        """
        transports = {
            name: self._create_transport(name, server, listener)
            for name, server in servers.items()
            if self._live_connection(server) is None
        }
        connections = {
            name: self._live_connection(server)
            or self._connect(name, server, transports[name], listener)
            for name, server in servers.items()
        }
        for connection in connections.values():
            await connection.wait_until_ready()
            connection.listener = listener
        return {
            name: _tool_definitions(name, servers[name], connection, await connection.tools())
            for name, connection in connections.items()
        }

    def tools_version(self, servers: Iterable[ServerSpec]) -> int | None:
        """A number that changes with the tools of servers; `None` while one is not connected."""
        connections = [self._connections.get(server.identity) for server in servers]
        live = [each for each in connections if each is not None and each.is_ready]
        if len(live) < len(connections):
            return None
        return sum(connection.tools_version for connection in live)

    async def call(
        self, server: ServerSpec, tool_name: str, call: ToolCall, idempotency_key: str
    ) -> ToolResult:
        """Call a tool by its server's own name for it. Raises nothing but cancellation.

        A server that has ended is connected again; the call that it did not answer is not repeated.
        """
        if call.args_error is not None:
            return text_result(call, call.args_error, is_error=True)
        connection: ServerConnection | None = None
        try:
            try:
                connection = self._connection_for(call.skill_name, server)
                result = await self._call_once(connection, tool_name, call, idempotency_key)
            except SessionLostError:
                # The call was refused, so it took no effect.
                connection = self._connection_for(call.skill_name, server)
                result = await self._call_once(connection, tool_name, call, idempotency_key)
            return to_tool_result(call, result, connection.redact_result)
        except SkillError as failure:
            return text_result(call, str(failure), is_error=True)
        except ConnectionLostError:
            return text_result(call, _disconnected_message(call), is_error=True)
        except TimeoutError:
            return text_result(call, self._timeout_message(call), is_error=True)
        except Exception as error:  # noqa: BLE001 -- a server's fault is a result for the model
            reason = connection.describe_error(error) if connection else type(error).__name__
            problem = f"Error calling tool {call.tool_name}: {reason}"
            return text_result(call, problem, is_error=True)

    async def _call_once(
        self, connection: ServerConnection, tool_name: str, call: ToolCall, idempotency_key: str
    ) -> dict[str, Any]:
        await connection.wait_until_ready()
        return await connection.call(tool_name, call.args, idempotency_key)

    async def close(self) -> None:
        for connection in self._connections.values():
            connection.close()
        for connection in self._connections.values():
            await connection.wait_until_closed()

    def _live_connection(self, server: ServerSpec) -> ServerConnection | None:
        connection = self._connections.get(server.identity)
        return None if connection is None or connection.is_ended else connection

    def _connect(
        self, name: str, server: ServerSpec, transport: SkillTransport, listener: SkillListener
    ) -> ServerConnection:
        previous = self._connections.get(server.identity)
        version = 0 if previous is None else previous.tools_version + 1
        timeouts = server.timeouts(self._context.timeouts)
        connection = ServerConnection(name, transport, listener, timeouts, version)
        self._connections[server.identity] = connection
        self._context.task_group.start_soon(connection.run, name=f"skill {name}")
        return connection

    def _connection_for(self, name: str, server: ServerSpec) -> ServerConnection:
        """The connection to a server, anew if it has ended."""
        previous = self._connections.get(server.identity)
        if previous is None:
            raise SkillError(f"Skill {name!r} is not connected.", skill=name)
        if not previous.is_ended:
            return previous
        transport = self._create_transport(name, server, previous.listener)
        return self._connect(name, server, transport, previous.listener)

    def _timeout_message(self, call: ToolCall) -> str:
        seconds = self._context.timeouts.call_seconds
        return (
            f"{call.tool_name} did not answer within {seconds:g} seconds"
            " and was cancelled. Whether it took effect is unknown: check before you call it again."
        )

    def _create_transport(
        self, name: str, server: ServerSpec, listener: SkillListener
    ) -> SkillTransport:
        context = self._context
        if isinstance(server.skill, McpSseSkill):
            # Stdio skills are the common case, and the HTTP stack takes a while to import.
            from perstack.skills import http  # noqa: PLC0415 -- see above

            endpoint = http.HttpEndpoint(name, server.skill, context.environment)
            return http.HttpTransport(endpoint)
        server_command = build_command(
            name, server.skill, context.workspace, context.environment, server.command_line
        )
        for variable in server_command.refused_variables:
            listener.stderr(name, f"(the variable {variable} is protected and is not passed on)")
        return StdioTransport(
            server_command, context.launcher, grace_seconds=context.timeouts.grace_seconds
        )


def _tool_definitions(
    name: str, server: ServerSpec, connection: ServerConnection, tools: Sequence[Tool]
) -> list[ToolDefinition]:
    allowed = filter_tools(tools, server.skill.pick, server.skill.omit, connection.on_stderr)
    return [to_tool_definition(name, tool) for tool in allowed]


def _disconnected_message(call: ToolCall) -> str:
    return (
        f"The server of skill {call.skill_name!r} ended or became unreachable before it answered. "
        f"Whether {call.tool_name} took effect is unknown: check before you call it again. "
        "The next call connects to the server anew."
    )
