"""The demo's MCP client: starts `perstack serve` and talks to it as any client would."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mcp import Client, MCPError, StdioServerParameters

from perstack.errors import PerstackError
from perstack.task_groups import first_exception

JOB_TOOL = "perstack_job"
RUNNING = "running"
WAIT_SECONDS = 45


class DemoError(PerstackError):
    """The server did not do what the demo shows."""

    code = "demo.failed"


@dataclass(frozen=True, slots=True)
class JobAnswer:
    """What the server says about the job."""

    job_id: str
    status: str
    text: str


async def call_expert(
    server: StdioServerParameters, tool: str, query: str, on_progress: Callable[[str], None]
) -> JobAnswer:
    """List the tools, call one, and wait for the answer.

    Raises:
        DemoError: The server ended, or refused the call.
    """
    try:
        async with Client(server) as client:
            names = [listed.name for listed in (await client.list_tools()).tools]
            on_progress(f"the server has the tools {', '.join(names)}")
            answer = await _call_tool(client, tool, {"query": query}, on_progress)
            while answer.status == RUNNING:
                wait_arguments = {"job_id": answer.job_id, "wait_seconds": WAIT_SECONDS}
                answer = await _call_tool(client, JOB_TOOL, wait_arguments, on_progress)
            return answer
    except (MCPError, OSError, ExceptionGroup) as failure:
        # The client works in a task group, which wraps what is raised inside of it.
        error = first_exception(failure)
        if isinstance(error, DemoError):
            raise error from failure
        raise DemoError(
            f"The server did not answer: {error or type(error).__name__}.",
            hint="What it said itself is above.",
        ) from failure


async def _call_tool(
    client: Client, tool: str, arguments: dict[str, Any], on_progress: Callable[[str], None]
) -> JobAnswer:
    async def report_progress(
        progress: float,  # noqa: ARG001 - the SDK's callback has it
        total: float | None,  # noqa: ARG001 - as above
        message: str | None,
    ) -> None:
        if message:
            on_progress(message)

    result = await client.call_tool(tool, arguments, progress_callback=report_progress)
    content: dict[str, Any] = result.structured_content or {}
    if "job_id" not in content:
        texts = [part.text for part in result.content if part.type == "text"]
        raise DemoError(" ".join(texts) or f"{tool} answered without a job.")
    return JobAnswer(content["job_id"], content["status"], content["text"])
