"""The opponent: a bare loop of model call and tool call, without a runtime.

A program that benchmarks start. Its model call goes straight over an HTTP client or through
litellm's own HTTP handler; its tool is a stdio MCP server spoken to in plain lines of JSON-RPC, or
a file that it reads. It stores nothing, or each reply and each result durably before it goes on.
"""

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, closing
from itertools import count
from pathlib import Path
from typing import Any

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream

from benchmarks.stage import TOOL_SERVER, memory_mib, order

Json = dict[str, Any]
Ask = Callable[[list[Json]], Awaitable[Json]]
Use = Callable[[str, Json], Awaitable[str]]
Record = Callable[[int, Json], object]

# As long as what perstack tells an expert.
INSTRUCTION = "Work with your tools until the task is done, then answer in one sentence. " * 18
PARAMETERS = {"type": "object", "properties": {"text": {"type": "string"}}}
TOOLS = [
    {"type": "function", "function": {"name": name, "description": "", "parameters": PARAMETERS}}
    for name in ("echo", "readTextFile")
]
MODEL = "gpt-5"
MAX_LINE_BYTES = 1 << 20
HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "floor"}}


async def open_model(client: str, stack: AsyncExitStack) -> Ask:
    """The way to the model."""
    base, key = os.environ["OPENAI_BASE_URL"], os.environ["OPENAI_API_KEY"]
    address = f"{base}/chat/completions"
    headers = {"authorization": f"Bearer {key}"}
    if client == "litellm":
        import litellm  # noqa: PLC0415 - takes seconds, and only this opponent needs it

        async def ask_litellm(messages: list[Json]) -> Json:
            response: Any = await litellm.acompletion(
                model=f"openai/{MODEL}", messages=messages, tools=TOOLS, api_base=base, api_key=key
            )
            return response.choices[0].message.model_dump(exclude_none=True)

        return ask_litellm
    if client == "httpx":
        import httpx  # noqa: PLC0415 - as above

        limits = httpx.Limits(max_connections=None)
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=60, limits=limits))

        async def ask_httpx(messages: list[Json]) -> Json:
            body = {"model": MODEL, "messages": messages, "tools": TOOLS}
            response = await http.post(address, json=body, headers=headers)
            return response.json()["choices"][0]["message"]

        return ask_httpx
    import aiohttp  # noqa: PLC0415 - as above

    connector = aiohttp.TCPConnector(limit=0)
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))

    async def ask_aiohttp(messages: list[Json]) -> Json:
        body = {"model": MODEL, "messages": messages, "tools": TOOLS}
        async with session.post(address, json=body, headers=headers) as response:
            return (await response.json())["choices"][0]["message"]

    return ask_aiohttp


async def open_tool(stack: AsyncExitStack) -> Use:
    """A stdio MCP server that answers one call at a time."""
    process = await anyio.open_process(
        [sys.executable, str(TOOL_SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    stack.push_async_callback(process.aclose)
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the server has no pipes")
    stdin, stdout = process.stdin, BufferedByteReceiveStream(process.stdout)
    ids, turn = count(1), anyio.Lock()

    async def request(method: str, params: Json) -> Json:
        message = {"jsonrpc": "2.0", "id": next(ids), "method": method, "params": params}
        async with turn:
            await stdin.send(json.dumps(message).encode() + b"\n")
            return json.loads(await stdout.receive_until(b"\n", MAX_LINE_BYTES))["result"]

    async def use(name: str, arguments: Json) -> str:
        result = await request("tools/call", {"name": name, "arguments": arguments})
        return "\n".join(part["text"] for part in result["content"])

    await request("initialize", HELLO)
    return use


async def read(_name: str, arguments: Json) -> str:
    """A tool in the process itself."""
    return Path(arguments["path"]).read_text(encoding="utf-8")  # noqa: ASYNC240 - as a bare loop would


def record_nothing(_job: int, _message: Json) -> None:
    """What a loop that is not durable does with a message."""


def open_record(stack: AsyncExitStack) -> Record:
    """A table of messages; each is a transaction and on disk on return, as with perstack."""
    connection = sqlite3.connect("floor.db", isolation_level=None)
    stack.enter_context(closing(connection))
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE messages (id INTEGER PRIMARY KEY, job, body)")

    def record(job: int, message: Json) -> None:
        row = (job, json.dumps(message))
        connection.execute("INSERT INTO messages (job, body) VALUES (?, ?)", row)

    return record


async def loop(ask: Ask, use: Use, record: Record, job: int, query: str) -> None:
    """Ask and call until the model only speaks."""
    messages: list[Json] = [
        {"role": "system", "content": INSTRUCTION},
        {"role": "user", "content": query},
    ]
    record(job, messages[-1])
    while True:
        message = await ask(messages)
        messages.append(message)
        record(job, message)
        calls = message.get("tool_calls")
        if not calls:
            return
        for call in calls:
            function = call["function"]
            content = await use(function["name"], json.loads(function["arguments"]))
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": content})
            record(job, messages[-1])


async def work(options: Json) -> Json:
    """Do what the options say."""
    async with AsyncExitStack() as stack:
        ask = await open_model(options["client"], stack)
        use = await open_tool(stack) if options["has_server"] else read
        record = open_record(stack) if options.get("is_durable") else record_nothing
        warm = order("warm", steps=1, tool="readTextFile")
        await loop(ask, read, record, 0, warm)
        before = memory_mib()
        started = time.monotonic()
        async with anyio.create_task_group() as tasks:
            for job, query in enumerate(options["queries"], 1):
                tasks.start_soon(loop, ask, use, record, job, query)
        seconds = time.monotonic() - started
        highest = memory_mib("VmHWM")
    return {"seconds": seconds, "memory": highest - before if before and highest else None}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(anyio.run(work, json.loads(sys.argv[1]))) + "\n")
