"""Tool calls in execution: begun side by side, taken back one by one as they finish."""

from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskGroup

from perstack.core.messages import ToolCall, ToolResult

ToolExecutor = Callable[[ToolCall], Awaitable[ToolResult]]


class ToolCallTasks:
    """The calls that this activation of a run has announced, begun and not yet taken back."""

    def __init__(self, tasks: TaskGroup, execute: ToolExecutor) -> None:
        self._tasks = tasks
        self._execute = execute
        self._announced: set[str] = set()
        self._started: set[str] = set()
        self._send, self._receive = anyio.create_memory_object_stream[ToolResult](float("inf"))

    def announce(self, call_ids: tuple[str, ...]) -> None:
        """Note that the intent to execute these calls is being recorded by this activation."""
        self._announced.update(call_ids)

    def was_announced(self, call: ToolCall) -> bool:
        """Whether this activation recorded the intent. If an earlier one did, it is in doubt."""
        return call.id in self._announced

    def start(self, call: ToolCall) -> None:
        """Execute `call` unless it is being executed already."""
        if call.id not in self._started:
            self._started.add(call.id)
            self._tasks.start_soon(self._run, call)

    async def next_result(self) -> ToolResult:
        """The result of whichever call finishes first."""
        return await self._receive.receive()

    def finished_results(self) -> list[ToolResult]:
        """The results that are there already, without waiting."""
        results: list[ToolResult] = []
        while self._receive.statistics().current_buffer_used:
            results.append(self._receive.receive_nowait())
        return results

    def close(self) -> None:
        """Give the streams back."""
        self._send.close()
        self._receive.close()

    async def _run(self, call: ToolCall) -> None:
        self._send.send_nowait(await self._execute(call))
