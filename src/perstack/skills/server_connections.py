"""The skill servers of one job: its own, and those that it shares with the jobs of its engine."""

from collections.abc import Iterable, Mapping

from perstack.core.messages import ToolCall, ToolResult, text_result
from perstack.core.tools import ToolDefinition
from perstack.errors import SkillError
from perstack.runtime.ports import SkillListener
from perstack.skills.connection import ConnectionLostError, ServerConnection, SessionLostError
from perstack.skills.connection_set import ConnectionSet
from perstack.skills.connection_users import ConnectionUser
from perstack.skills.context import SkillTimeouts
from perstack.skills.convert import to_tool_result
from perstack.skills.known_tools import KnownTools
from perstack.skills.server_command import ServerSpec


class ServerConnections:
    """The servers as one job uses them.

    Args:
        own: The connections of the job.
        shared: Those of the engine, to the servers of skills with `scope = "engine"`.
        known_tools: Is told what servers with `lazyInit` offer.
        timeouts: How long things may take.
    """

    def __init__(
        self,
        own: ConnectionSet,
        shared: ConnectionSet,
        known_tools: KnownTools,
        timeouts: SkillTimeouts,
    ) -> None:
        self._own = own
        self._shared = shared
        self._known_tools = known_tools
        self._timeouts = timeouts

    async def open(
        self, servers: Mapping[str, ServerSpec], listener: SkillListener
    ) -> dict[str, tuple[ToolDefinition, ...]]:
        """Connect the servers that are not connected yet, concurrently, and return their tools.

        Raises:
            SkillError: The first skill, in order, that cannot be used. The others stay connected.
        """
        user = ConnectionUser(self, listener)
        transports = {
            name: self._set_of(server).create_transport(name, server, listener)
            for name, server in servers.items()
            if self._set_of(server).live(server) is None
        }
        connections = {
            name: self._set_of(server).live(server)
            or self._set_of(server).connect(name, server, transports[name], user)
            for name, server in servers.items()
        }
        for name, connection in connections.items():
            await self._use(connection, servers[name], user)
        return {name: await connection.tools() for name, connection in connections.items()}

    def is_connected(self, server: ServerSpec) -> bool:
        """Whether a server runs, or is being started."""
        return self._set_of(server).live(server) is not None

    def tools_version(self, servers: Iterable[ServerSpec]) -> int | None:
        """A number that changes with the tools of servers; `None` while one is not connected."""
        versions = [self._set_of(server).tools_version(server) for server in servers]
        known = [version for version in versions if version is not None]
        return sum(known) if len(known) == len(versions) else None

    async def call(
        self,
        server: ServerSpec,
        tool_name: str,
        call: ToolCall,
        idempotency_key: str,
        listener: SkillListener,
    ) -> ToolResult:
        """Call a tool by its server's own name for it. Raises nothing but cancellation.

        A server that has ended is connected again; the call that it did not answer is not repeated.
        """
        if call.args_error is not None:
            return text_result(call, call.args_error, is_error=True)
        user = ConnectionUser(self, listener)
        connection: ServerConnection | None = None
        try:
            try:
                connection = self._connection_for(call.skill_name, server, user)
                await self._use(connection, server, user)
                result = await connection.call(tool_name, call.args, idempotency_key, user)
            except SessionLostError:
                # The call was refused, so it took no effect.
                connection = self._connection_for(call.skill_name, server, user)
                await self._use(connection, server, user)
                result = await connection.call(tool_name, call.args, idempotency_key, user)
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

    async def close(self) -> None:
        """Close the connections of the job, and leave those of the engine."""
        self._shared.release(self)
        await self._own.close()

    async def _use(
        self, connection: ServerConnection, server: ServerSpec, user: ConnectionUser
    ) -> None:
        await connection.wait_until_ready()
        connection.add_user(user)
        if server.is_lazy:
            tools = await connection.tools()
            if await self._known_tools.put(server, tools, connection.redact):
                connection.renew_tools_version()

    def _set_of(self, server: ServerSpec) -> ConnectionSet:
        return self._shared if server.is_shared else self._own

    def _connection_for(
        self, name: str, server: ServerSpec, user: ConnectionUser
    ) -> ServerConnection:
        """The connection to a server, anew if it has ended."""
        connections = self._set_of(server)
        connection = connections.live(server)
        if connection is not None:
            return connection
        transport = connections.create_transport(name, server, user.listener)
        return connections.connect(name, server, transport, user)

    def _timeout_message(self, call: ToolCall) -> str:
        return (
            f"{call.tool_name} did not answer within {self._timeouts.call_seconds:g} seconds"
            " and was cancelled. Whether it took effect is unknown: check before you call it again."
        )


def _disconnected_message(call: ToolCall) -> str:
    return (
        f"The server of skill {call.skill_name!r} ended or became unreachable before it answered. "
        f"Whether {call.tool_name} took effect is unknown: check before you call it again. "
        "The next call connects to the server anew."
    )
