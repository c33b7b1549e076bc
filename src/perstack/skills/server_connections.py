"""The skill servers of one job: how they are reached, and what a call of one comes to."""

from collections.abc import Mapping
from pathlib import Path

from anyio.abc import TaskGroup

from perstack.core.messages import ToolCall, ToolResult, text_result
from perstack.core.tools import ToolDefinition
from perstack.definition.model import McpSseSkill
from perstack.errors import SkillError
from perstack.runtime.ports import SkillListener
from perstack.skills.connection import ConnectionLostError, ServerConnection
from perstack.skills.convert import filter_tools, to_tool_definition, to_tool_result
from perstack.skills.launch import ServerSpec, SkillTimeouts, build_command, build_skill_command
from perstack.skills.stdio import StdioTransport
from perstack.skills.subprocesses import Launcher
from perstack.skills.transport import SkillTransport


class ServerConnections:
    """The connections of one job.

    Args:
        workspace: Working folder of the server processes.
        environment: Where skills find what they name in `requiredEnv`.
        task_group: The task group in which each connection has its owner.
        launcher: Starts the server processes.
        timeouts: How long things may take.
    """

    def __init__(
        self,
        workspace: Path,
        environment: Mapping[str, str],
        task_group: TaskGroup,
        launcher: Launcher,
        timeouts: SkillTimeouts,
    ) -> None:
        self._workspace = workspace
        self._environment = environment
        self._task_group = task_group
        self._timeouts = timeouts
        self._launcher = launcher
        self._connections: dict[str, ServerConnection] = {}

    async def open(
        self, servers: Mapping[str, ServerSpec], listener: SkillListener
    ) -> dict[str, list[ToolDefinition]]:
        """Connect what is not connected yet, all at once, and return the tools by skill.

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
            await _wait_until_ready(connection)
            connection.listener = listener
        return {
            name: _tool_definitions(name, servers[name], connection)
            for name, connection in connections.items()
        }

    async def call(
        self, server: ServerSpec, tool_name: str, call: ToolCall, idempotency_key: str
    ) -> ToolResult:
        """Call a server's tool by the server's own name for it. Never raises but for cancellation.

        A server that is gone is connected again once; the call that it left unanswered is not
        repeated.
        """
        if call.args_error is not None:
            return text_result(call, call.args_error, is_error=True)
        connection = self._connections.get(server.identity)
        try:
            if connection is None or connection.is_disconnected:
                connection = self._reconnect(call.skill_name, server, connection)
            await _wait_until_ready(connection)
            result = await connection.call(tool_name, call.args, idempotency_key)
            return to_tool_result(call, result, connection.redact_result)
        except SkillError as failure:
            return text_result(call, str(failure), is_error=True)
        except ConnectionLostError:
            return text_result(call, _disconnected_message(call), is_error=True)
        except TimeoutError:
            return text_result(call, self._timeout_message(call), is_error=True)
        except Exception as error:  # noqa: BLE001 -- a server's fault is a result for the model
            reason = (
                type(error).__name__ if connection is None else connection.describe_error(error)
            )
            return text_result(
                call, f"Error calling tool {call.tool_name}: {reason}", is_error=True
            )

    async def close(self) -> None:
        """Ask every owner to end its connection and wait for all of them."""
        for connection in self._connections.values():
            connection.close()
        for connection in self._connections.values():
            await connection.closed.wait()

    def _live_connection(self, server: ServerSpec) -> ServerConnection | None:
        connection = self._connections.get(server.identity)
        if connection is None or connection.is_disconnected or connection.failure is not None:
            return None
        return connection

    def _connect(
        self, name: str, server: ServerSpec, transport: SkillTransport, listener: SkillListener
    ) -> ServerConnection:
        connection = ServerConnection(name, transport, listener, self._timeouts)
        self._connections[server.identity] = connection
        self._task_group.start_soon(connection.run, name=f"skill {name}")
        return connection

    def _reconnect(
        self, name: str, server: ServerSpec, previous: ServerConnection | None
    ) -> ServerConnection:
        if previous is None:
            raise SkillError(f"Skill {name!r} is not connected.", skill=name)
        transport = self._create_transport(name, server, previous.listener)
        return self._connect(name, server, transport, previous.listener)

    def _timeout_message(self, call: ToolCall) -> str:
        return (
            f"{call.tool_name} did not answer within {self._timeouts.call_seconds:g} seconds"
            " and was cancelled. Whether it took effect is unknown: check before you call it again."
        )

    def _create_transport(
        self, name: str, server: ServerSpec, listener: SkillListener
    ) -> SkillTransport:
        if isinstance(server.skill, McpSseSkill):
            # Stdio skills are the common case, and the HTTP stack takes a while to import.
            from perstack.skills import http  # noqa: PLC0415 -- see above

            endpoint = http.HttpEndpoint(name, server.skill, self._environment)
            return http.StreamableHttpTransport(endpoint)
        if server.command_line is not None:
            server_command = build_command(
                name,
                server.command_line,
                server.skill.required_env,
                self._workspace,
                self._environment,
            )
        else:
            server_command = build_skill_command(
                name, server.skill, self._workspace, self._environment
            )
        for variable in server_command.refused_variables:
            listener.stderr(name, f"(the variable {variable} is protected and is not passed on)")
        return StdioTransport(
            server_command, self._launcher, grace_seconds=self._timeouts.grace_seconds
        )


async def _wait_until_ready(connection: ServerConnection) -> None:
    await connection.ready.wait()
    if connection.failure is not None:
        raise connection.failure


def _tool_definitions(
    name: str, server: ServerSpec, connection: ServerConnection
) -> list[ToolDefinition]:
    allowed = filter_tools(
        connection.tools, server.skill.pick, server.skill.omit, connection.on_stderr
    )
    return [to_tool_definition(name, tool) for tool in allowed]


def _disconnected_message(call: ToolCall) -> str:
    return (
        f"The server of skill {call.skill_name!r} ended or became unreachable before it answered. "
        f"Whether {call.tool_name} took effect is unknown: check before you call it again. "
        "The next call connects to the server anew."
    )
