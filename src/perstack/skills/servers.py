"""The skill servers of one job: how they are reached, and what a call of one comes to."""

from collections.abc import Mapping
from pathlib import Path

from anyio.abc import TaskGroup

from perstack.core.messages import ToolCall, ToolResult, text_result
from perstack.core.tools import ToolDefinition
from perstack.definition.model import McpSseSkill
from perstack.errors import SkillError
from perstack.runtime.ports import SkillListener
from perstack.skills.connect import Connection, ConnectionGoneError
from perstack.skills.convert import narrowed, server_tool, tool_result
from perstack.skills.launch import launch, launch_command
from perstack.skills.limits import Limits
from perstack.skills.reaper import Reaper
from perstack.skills.server import Server
from perstack.skills.stdio import StdioWire
from perstack.skills.wire import Wire


class Servers:
    """The connections of one job.

    Args:
        workspace: Working folder of the server processes.
        environment: Where skills find what they name in `requiredEnv`.
        owners: The task group in which each connection has its owner.
        reaper: Guards the server processes.
        limits: How long things may take.
    """

    def __init__(
        self,
        workspace: Path,
        environment: Mapping[str, str],
        owners: TaskGroup,
        reaper: Reaper,
        limits: Limits,
    ) -> None:
        self._workspace = workspace
        self._environment = environment
        self._owners = owners
        self._limits = limits
        self._reaper = reaper
        self._connections: dict[str, Connection] = {}

    async def open(
        self, servers: Mapping[str, Server], listener: SkillListener
    ) -> dict[str, list[ToolDefinition]]:
        """Connect what is not connected yet, all at once, and return the tools by skill.

        Raises:
            SkillError: The first skill, in order, that cannot be used. The others stay connected.
        """
        wires = {
            name: self._wire(name, server, listener)
            for name, server in servers.items()
            if self._usable(server) is None
        }
        connections = {
            name: self._usable(server) or self._connect(name, server, wires[name], listener)
            for name, server in servers.items()
        }
        for connection in connections.values():
            await _until_ready(connection)
            connection.listener = listener
        return {
            name: _tools(name, servers[name], connection)
            for name, connection in connections.items()
        }

    async def call(
        self, server: Server, tool_name: str, call: ToolCall, idempotency_key: str
    ) -> ToolResult:
        """Call a server's tool by the server's own name for it. Never raises but for cancellation.

        A server that is gone is connected again once; the call that it left unanswered is not
        repeated.
        """
        if call.args_error is not None:
            return text_result(call, call.args_error, is_error=True)
        connection = self._connections.get(server.identity)
        try:
            if connection is None or connection.is_gone:
                connection = self._connect_again(call.skill_name, server, connection)
            await _until_ready(connection)
            answer = await connection.call(tool_name, call.args, idempotency_key)
            return tool_result(call, answer, connection.redact_result)
        except SkillError as failure:
            return text_result(call, str(failure), is_error=True)
        except ConnectionGoneError:
            return text_result(call, _gone(call), is_error=True)
        except TimeoutError:
            return text_result(call, self._late(call), is_error=True)
        except Exception as error:  # noqa: BLE001 -- a server's fault is a result for the model
            shown = type(error).__name__ if connection is None else connection.describe(error)
            return text_result(call, f"Error calling tool {call.tool_name}: {shown}", is_error=True)

    async def close(self) -> None:
        """Ask every owner to end its connection and wait for all of them."""
        for connection in self._connections.values():
            connection.close()
        for connection in self._connections.values():
            await connection.closed.wait()

    def _usable(self, server: Server) -> Connection | None:
        connection = self._connections.get(server.identity)
        if connection is None or connection.is_gone or connection.failure is not None:
            return None
        return connection

    def _connect(
        self, name: str, server: Server, wire: Wire, listener: SkillListener
    ) -> Connection:
        connection = Connection(name, wire, listener, self._limits)
        self._connections[server.identity] = connection
        self._owners.start_soon(connection.own, name=f"skill {name}")
        return connection

    def _connect_again(self, name: str, server: Server, former: Connection | None) -> Connection:
        if former is None:
            raise SkillError(f"Skill {name!r} is not connected.", skill=name)
        wire = self._wire(name, server, former.listener)
        return self._connect(name, server, wire, former.listener)

    def _late(self, call: ToolCall) -> str:
        return (
            f"{call.tool_name} did not answer within {self._limits.call_seconds:g} seconds and was "
            "cancelled. Whether it took effect is unknown: check before you call it again."
        )

    def _wire(self, name: str, server: Server, listener: SkillListener) -> Wire:
        if isinstance(server.skill, McpSseSkill):
            # Stdio skills are the common case, and the HTTP stack takes a while to import.
            from perstack.skills import http  # noqa: PLC0415 -- see above

            endpoint = http.Endpoint(name, server.skill, self._environment)
            return http.StreamableHttpWire(endpoint)
        if server.command_line is not None:
            start = launch_command(
                name,
                server.command_line,
                server.skill.required_env,
                self._workspace,
                self._environment,
            )
        else:
            start = launch(name, server.skill, self._workspace, self._environment)
        for refused in start.refused_names:
            listener.stderr(name, f"(the variable {refused} is protected and is not passed on)")
        return StdioWire(start, self._reaper, grace_seconds=self._limits.grace_seconds)


async def _until_ready(connection: Connection) -> None:
    await connection.ready.wait()
    if connection.failure is not None:
        raise connection.failure


def _tools(name: str, server: Server, connection: Connection) -> list[ToolDefinition]:
    left = narrowed(connection.tools, server.skill.pick, server.skill.omit, connection.said)
    return [server_tool(name, tool) for tool in left]


def _gone(call: ToolCall) -> str:
    return (
        f"The server of skill {call.skill_name!r} ended or became unreachable before it answered. "
        f"Whether {call.tool_name} took effect is unknown: check before you call it again. "
        "The next call connects to the server anew."
    )
