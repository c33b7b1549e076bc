"""A client that takes a task for a result, and asks for it by hand."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import anyio
from mcp import Client
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.client.session import ClientRequestContext
from mcp.server import Server
from mcp_types import (
    CallToolResult,
    ElicitRequestParams,
    ElicitResult,
    Request,
    RequestParams,
    Result,
)
from pydantic import ConfigDict, Field

from perstack.server.caller import TASKS_EXTENSION

FINAL = ("completed", "cancelled", "failed")


class TaskCreated(Result):
    """A call that became a task."""

    model_config = ConfigDict(extra="allow")

    result_type: Literal["task"] = Field(default="task", alias="resultType")
    task_id: str = Field(alias="taskId")


class TaskAnswer(Result):
    """What any request for a task is answered with, kept as it came."""

    model_config = ConfigDict(extra="allow")


class _Params(RequestParams):
    model_config = ConfigDict(extra="allow")


class TaskRequest(Request[_Params, str]):
    """Any request for a task."""

    name_param: ClassVar[str | None] = "taskId"


class TakesTasks(ClientExtension):
    """Declares the extension; tests look at each step themselves."""

    identifier = TASKS_EXTENSION

    def claims(self) -> Sequence[ResultClaim[Any]]:
        return (ResultClaim(result_type="task", model=TaskCreated, resolve=_unexpected),)


async def _unexpected(_created: TaskCreated, _context: ClaimContext) -> CallToolResult:
    raise NotImplementedError


@dataclass
class TaskClient:
    """A connected client."""

    client: Client

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The result of a call as it was on the wire, a task or not."""
        result = await self.client.session.call_tool(
            tool, arguments, allow_claimed=True, allow_input_required=True
        )
        return result.model_dump(by_alias=True, mode="json")

    async def ask(self, method: str, task_id: str, **params: Any) -> dict[str, Any]:
        """The answer to a request for a task as it was on the wire."""
        given = _Params.model_validate({"taskId": task_id, **params})
        request = TaskRequest(method=method, params=given)
        answer = await self.client.session.send_request(request, TaskAnswer)
        return answer.model_dump(by_alias=True, mode="json")

    async def until(self, task_id: str, *statuses: str) -> dict[str, Any]:
        """How a task stands once it has one of these statuses, or is final."""
        with anyio.fail_after(30):
            while True:
                answer = await self.get(task_id)
                if answer["status"] in (*statuses, *FINAL):
                    return answer
                await anyio.lowlevel.checkpoint()

    async def get(self, task_id: str) -> dict[str, Any]:
        """How a task stands."""
        return await self.ask("tasks/get", task_id)

    async def update(self, task_id: str, **responses: Any) -> dict[str, Any]:
        """Answer questions."""
        return await self.ask("tasks/update", task_id, inputResponses=responses)

    async def cancel(self, task_id: str) -> dict[str, Any]:
        """Stop a task."""
        return await self.ask("tasks/cancel", task_id)


@asynccontextmanager
async def task_client(
    server: Server[dict[str, Any]], *, has_tasks: bool = True, has_forms: bool = False
) -> AsyncGenerator[TaskClient]:
    """A client of the modern era."""
    async with Client(
        server,
        extensions=[TakesTasks()] if has_tasks else None,
        elicitation_callback=_unasked if has_forms else None,
    ) as client:
        yield TaskClient(client)


async def _unasked(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
    raise NotImplementedError
