# pyright: basic, reportMissingImports=false
# FastMCP is installed in an environment of its own, where this file is run.
"""The session that the FastMCP client goes through. Prints one line of JSON for each step."""

import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import mcp_types
from fastmcp import Client
from fastmcp.client.messages import MessageHandler
from fastmcp.client.transports import StdioTransport
from fastmcp_tasks.client import call_tool_task
from mcp.client.subscriptions import listen

GUEST = '\n[experts."guest"]\ndescription = "Comes later."\ninstruction = "Greet."\n'
PATIENCE_SECONDS = 20
CHANGE_SECONDS = 2
NOTIFICATIONS = 3


class Changes(MessageHandler):
    """Knows when the server has said that its tools have changed."""

    def __init__(self) -> None:
        self.seen = anyio.Event()

    async def on_tool_list_changed(self, message: mcp_types.ToolListChangedNotification) -> None:
        """Told by a server of the handshake era."""
        self.seen.set()


class Session:
    """One client on one connection."""

    def __init__(self, client: Client, changes: Changes, config: Path) -> None:
        self.client = client
        self.changes = changes
        self.config = config
        self.is_modern = client.mode != "legacy"

    async def list_(self) -> str:
        """The experts and the tools that look after jobs are there."""
        names = {tool.name for tool in await self.client.list_tools()}
        expect(holds={"greeter", "perstack_job"} <= names, seen=names)
        return f"{len(names)} tools"

    async def call(self) -> str:
        """A plain call."""
        result = await self.client.call_tool("greeter", {"query": "hello"})
        expect(holds=result.content[0].text == "Hello.", seen=result)
        return ""

    async def progress(self) -> str:
        """Values that only grow."""
        seen: list[float] = []

        async def note(progress: float, _total: float | None, _message: str | None) -> None:
            seen.append(progress)

        await self.client.call_tool("stepper", {"query": "go"}, progress_handler=note)
        expect(holds=len(seen) >= NOTIFICATIONS and seen == sorted(set(seen)), seen=seen)
        return f"{len(seen)} notifications"

    async def task(self) -> str:
        """A task, collected by its handle."""
        task = await call_tool_task(self.client, "worker", {"query": "work"})
        result = await task.result()
        expect(holds=result.content[0].text == "Worked.", seen=result)
        return ""

    async def task_question(self) -> str:
        """A question that comes after the call has become a task."""
        task = await call_tool_task(self.client, "slowasker", {"query": "ask me later"})
        result = await task.result()
        expect(holds=result.content[0].text == "Hello, Ada!", seen=result)
        return ""

    async def elicitation(self) -> str:
        """A question in the middle of a call."""
        result = await self.client.call_tool("asker", {"query": "ask me"})
        expect(holds=result.content[0].text == "Hello, Ada!", seen=result)
        return ""

    async def cancel(self) -> str:
        """A call that is given up stops its job."""
        if self.is_modern:
            # Here a call that takes long is a task, which goes on without its caller.
            task = await call_tool_task(self.client, "sleeper", {"query": "sleep"})
            await task.cancel()
        else:
            with anyio.move_on_after(0.7):
                await self.client.call_tool("sleeper", {"query": "sleep"})
        for _ in range(50):
            listed = await self.client.call_tool("perstack_jobs", {})
            jobs = listed.structured_content["jobs"]
            job = next(job for job in jobs if job["expert"] == "sleeper")
            if job["status"] == "cancelled":
                return "as a task" if self.is_modern else ""
            await anyio.sleep(0.1)
        raise AssertionError(job)

    async def list_changed(self) -> str:
        """An edit of the definitions is told."""
        async with AsyncExitStack() as stack:
            stream = None
            if self.is_modern:
                stream = await stack.enter_async_context(
                    listen(self.client.session, tools_list_changed=True)
                )
            began = anyio.current_time()
            with self.config.open("a", encoding="utf-8") as file:
                file.write(GUEST)
            if stream is None:
                await self.changes.seen.wait()
            else:
                await anext(aiter(stream))
            seconds = anyio.current_time() - began
        names = {tool.name for tool in await self.client.list_tools()}
        expect(holds="guest" in names, seen=names)
        expect(holds=seconds < CHANGE_SECONDS, seen=f"{seconds:.1f} s")
        return f"{seconds * 1000:.0f} ms"


def expect(*, holds: bool, seen: object) -> None:
    """Fail with what was seen instead."""
    if not holds:
        raise AssertionError(f"unexpected: {seen!r}"[:500])


async def answer(_message: str, response_type: type, _params: object, _context: object) -> object:
    """Fill in the form."""
    return response_type(answer="Ada")


async def play(name: str, act: Callable[[], Awaitable[str]]) -> None:
    """Take one step and report it."""
    line: dict[str, object] = {"step": name, "ok": True}
    try:
        with anyio.fail_after(PATIENCE_SECONDS):
            line["note"] = await act()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        line.update(ok=False, note=f"{type(error).__name__}: {error}"[:600])
    print(json.dumps(line), flush=True)


async def main() -> None:
    """Connect and take all steps."""
    transport_name, era, config, *server = sys.argv[1:]
    transport = server[0] if transport_name == "http" else StdioTransport(server[0], server[1:])
    changes = Changes()
    mode = "auto" if era == "auto" else "legacy"
    async with Client(
        transport, mode=mode, elicitation_handler=answer, message_handler=changes
    ) as client:
        session = Session(client, changes, Path(config))
        await play("list", session.list_)
        await play("call", session.call)
        await play("progress", session.progress)
        if session.is_modern:
            await play("task", session.task)
            await play("task question", session.task_question)
        await play("elicitation", session.elicitation)
        await play("cancel", session.cancel)
        await play("list_changed", session.list_changed)


anyio.run(main)
