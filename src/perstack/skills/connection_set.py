"""Connections by the server that each leads to."""

from perstack.definition.model import McpSseSkill
from perstack.runtime.ports import SkillListener
from perstack.skills.connection import ServerConnection, SkillTransport
from perstack.skills.connection_users import ConnectionUser
from perstack.skills.context import SkillContext
from perstack.skills.handshakes import OlderHandshakes
from perstack.skills.server_command import ServerSpec, build_command
from perstack.skills.stdio import StdioTransport


class ConnectionSet:
    """The connections of one job, or those that the jobs of an engine share.

    Args:
        context: Where the servers run.
        is_shared: Whether several jobs use them.
    """

    def __init__(self, context: SkillContext, *, is_shared: bool = False) -> None:
        self._context = context
        self._is_shared = is_shared
        self._connections: dict[str, ServerConnection] = {}

    def live(self, server: ServerSpec) -> ServerConnection | None:
        """The connection to a server, unless it has ended."""
        connection = self._connections.get(server.identity)
        return None if connection is None or connection.is_ended else connection

    def tools_version(self, server: ServerSpec) -> int | None:
        """A number that changes with the tools of a server; `None` while it is not connected."""
        connection = self._connections.get(server.identity)
        if server.is_lazy and (connection is None or connection.is_ended):
            # It is started when it is called, and not to learn whether its tools have changed.
            return 0 if connection is None else connection.tools_version
        if connection is None or not connection.is_ready:
            return None
        return connection.tools_version

    def connect(
        self, name: str, server: ServerSpec, transport: SkillTransport, user: ConnectionUser
    ) -> ServerConnection:
        """A new connection, which is being opened."""
        previous = self._connections.get(server.identity)
        connection = ServerConnection(
            name,
            transport,
            user,
            server.timeouts(self._context.timeouts),
            0 if previous is None else previous.tools_version + 1,
            is_shared=self._is_shared,
        )
        self._connections[server.identity] = connection
        self._context.task_group.start_soon(connection.run, name=f"skill {name}")
        return connection

    def release(self, job: object) -> None:
        """A job has ended."""
        for connection in self._connections.values():
            connection.users.remove(job)

    def retain(self, identities: frozenset[str]) -> None:
        """Close the connections that no job uses, but for those to these servers."""
        for identity, connection in self._connections.items():
            if identity not in identities and connection.users.is_empty and connection.is_ready:
                connection.end()

    async def close(self) -> None:
        """Close every connection, which takes a bounded time."""
        for connection in self._connections.values():
            connection.close()
        for connection in self._connections.values():
            await connection.wait_until_closed()

    def create_transport(
        self, name: str, server: ServerSpec, listener: SkillListener
    ) -> SkillTransport:
        """The way to a server.

        Raises:
            SkillError: The definition does not fit this machine.
        """
        context = self._context
        if isinstance(server.skill, McpSseSkill):
            # Stdio skills are the common case, and the HTTP stack takes a while to import.
            from perstack.skills import http  # noqa: PLC0415 -- see above

            endpoint = http.HttpEndpoint(name, server.skill, context.environment)
            return http.HttpTransport(endpoint)
        server_command = build_command(
            name,
            server.skill,
            context.workspace,
            context.environment,
            server.command_line,
            server.folder,
        )
        for variable in server_command.refused_variables:
            listener.stderr(name, f"(the variable {variable} is protected and is not passed on)")
        return StdioTransport(
            server_command,
            context.launcher,
            grace_seconds=context.timeouts.grace_seconds,
            older_handshakes=OlderHandshakes.of_user(context.environment),
        )
