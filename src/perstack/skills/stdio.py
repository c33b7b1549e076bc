"""A skill server as a child process, with messages over its stdin and stdout.

The SDK's own stdio transport passes on more of the environment than a skill may see, and does not
end what a server had started that ended by itself.
"""

import subprocess
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import anyio
from anyio.abc import Process

from perstack.errors import SkillError
from perstack.redaction import (
    Redactor,
    command_line_secrets,
    redact_command_line,
    secret_variables,
)
from perstack.skills.connection import ProtocolMode, ServerConnection
from perstack.skills.handshakes import OlderHandshakes
from perstack.skills.process_streams import MessageStreams, ProcessStreams
from perstack.skills.server_command import INSTALL_HINTS, ServerCommand
from perstack.skills.subprocesses import Launcher

MAX_STDERR_LINE_CHARACTERS = 2_000
MAX_STDERR_LINES = 1_000
STDERR_TAIL_LINES = 10


class StdioTransport:
    """One server process.

    Args:
        server_command: Its command line and environment.
        launcher: Starts and ends the process.
        grace_seconds: How long the process may take to end by itself.
        older_handshakes: The servers that need the older handshake.
        is_fallback: Whether the newer protocol was tried in vain just now.
    """

    skill_type = "mcpStdioSkill"

    def __init__(
        self,
        server_command: ServerCommand,
        launcher: Launcher,
        *,
        grace_seconds: float,
        older_handshakes: OlderHandshakes,
        is_fallback: bool = False,
    ) -> None:
        self._is_remembered = older_handshakes.includes(server_command.identity)
        is_older = is_fallback or self._is_remembered
        self.protocol_mode: ProtocolMode = "legacy" if is_older else "auto"
        variables = server_command.required_variables
        self.redactor = Redactor.of_variables(variables)
        self.redactor.add(command_line_secrets(server_command.args))
        self.result_redactor = Redactor.of_variables(secret_variables(variables))
        self.spawn_seconds = 0.0
        self.exit_code: int | None = None
        self.stderr_tail: deque[str] = deque(maxlen=STDERR_TAIL_LINES)
        self._server_command = server_command
        self._launcher = launcher
        self._grace_seconds = grace_seconds
        self._stderr_line_count = 0
        self._older_handshakes = older_handshakes
        self._is_fallback = is_fallback
        self._has_exited = False
        self._has_ignored_discovery = False

    @asynccontextmanager
    async def open(self, connection: ServerConnection) -> AsyncGenerator[MessageStreams]:
        """Start the process; on leaving, end it and everything in its process group.

        Raises:
            SkillError: The process could not be started.
        """
        connection.on_starting(
            self._server_command.command, redact_command_line(self._server_command.args)
        )
        started_at = anyio.current_time()
        process = await self._start()
        # No await before the task group: a cancellation in between would lose the process.
        self.spawn_seconds = anyio.current_time() - started_at
        pipes = ProcessStreams(process, partial(self._report_stderr, connection), connection.end)
        async with anyio.create_task_group() as tasks:
            for work in (
                pipes.read_stdout,
                pipes.read_stderr,
                pipes.wait_for_exit,
                partial(pipes.limit_discovery, self._on_ignored_discovery),
            ):
                tasks.start_soon(pipes.run_until_closed, work)
            try:
                yield pipes.read_stream, pipes.write_stream
            finally:
                # Every wait inside is bounded, so a cancelled job is not held up for long.
                with anyio.CancelScope(shield=True):
                    self._has_exited = pipes.has_closed_stdout
                    pipes.end_messages()
                    await self._launcher.stop(process, self._grace_seconds, self._grace_seconds)
                    self.exit_code = process.returncode
                    pipes.close()

    def on_ready(self, *, is_older: bool) -> None:
        """Remember a server that ended at the first question, or did not answer it in time."""
        if is_older and (self._is_fallback or self._has_ignored_discovery):
            self._older_handshakes.add(self._server_command.identity)

    def fallback(self) -> "StdioTransport | None":
        """The older handshake, for a server that ended at the first message, or the newer again."""
        if self._is_remembered:
            self._older_handshakes.remove(self._server_command.identity)
        elif self.protocol_mode == "legacy" or not self._has_exited:
            return None
        return StdioTransport(
            self._server_command,
            self._launcher,
            grace_seconds=self._grace_seconds,
            older_handshakes=self._older_handshakes,
            is_fallback=not self._is_remembered,
        )

    def failure_details(self) -> str:
        exit_note = f" (exit code {self.exit_code})" if self._has_exited else ""
        lines = "\n".join(f"  {line}" for line in self.stderr_tail)
        output = f" Its last output was:\n{lines}\n" if lines else " It wrote nothing to stderr."
        words = (self._server_command.command, *self._server_command.args)
        command_line = self.redactor.redact(" ".join(redact_command_line(words)))
        return f"Command: {command_line}{exit_note}.{output}"

    async def _start(self) -> Process:
        server_command = self._server_command
        try:
            return await self._launcher.start(
                [server_command.command, *server_command.args],
                cwd=server_command.workspace,
                environment=server_command.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except (OSError, ValueError) as error:
            raise SkillError(
                f"Skill {server_command.skill_name!r} cannot be started:"
                f" {server_command.command!r}: {error}.",
                skill=server_command.skill_name,
                hint=INSTALL_HINTS.get(server_command.command, "Check `command` and `args`."),
            ) from error

    def _on_ignored_discovery(self) -> None:
        self._has_ignored_discovery = True

    def _report_stderr(self, connection: ServerConnection, line: str) -> None:
        line = _cut_line(self.redactor.redact(line))
        self.stderr_tail.append(line)
        self._stderr_line_count += 1
        if self._stderr_line_count <= MAX_STDERR_LINES:
            connection.on_stderr(line)
        elif self._stderr_line_count == MAX_STDERR_LINES + 1:
            connection.on_stderr(f"(more than {MAX_STDERR_LINES} lines; the rest is not shown)")


def _cut_line(line: str) -> str:
    left_out = len(line) - MAX_STDERR_LINE_CHARACTERS
    if left_out <= 0:
        return line
    return f"{line[:MAX_STDERR_LINE_CHARACTERS]} (and {left_out:,} more characters)"
