"""The opponent: a bare loop of model call and tool call that stores and records nothing.

A program that benchmarks start. Its model call goes through litellm's own HTTP handler or straight
over an HTTP client; its tool is an MCP server through the SDK's client, or a file that it reads.
"""

import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio

from benchmarks.stage import TOOL_SERVER, memory_mib, order

Json = dict[str, Any]
Ask = Callable[[list[Json]], Awaitable[Json]]
Use = Callable[[str, Json], Awaitable[str]]

# As long as what perstack tells an expert.
INSTRUCTION = "Work with your tools until the task is done, then answer in one sentence. " * 18
PARAMETERS = {"type": "object", "properties": {"text": {"type": "string"}}}
TOOLS = [
    {"type": "function", "function": {"name": name, "description": "", "parameters": PARAMETERS}}
    for name in ("echo", "readTextFile")
]
MODEL = "gpt-5"


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
    """The SDK's client of an MCP server."""
    from mcp import ClientSession, StdioServerParameters, stdio_client  # noqa: PLC0415 - as above

    parameters = StdioServerParameters(command=sys.executable, args=[str(TOOL_SERVER)])
    streams = await stack.enter_async_context(stdio_client(parameters))
    session = await stack.enter_async_context(ClientSession(*streams))
    await session.initialize()

    async def use(name: str, arguments: Json) -> str:
        result: Any = await session.call_tool(name, arguments)
        return "\n".join(part.text for part in result.content)

    return use


async def read(_name: str, arguments: Json) -> str:
    """A tool in the process itself."""
    return Path(arguments["path"]).read_text(encoding="utf-8")  # noqa: ASYNC240 - as a bare loop would


async def loop(ask: Ask, use: Use, query: str) -> None:
    """Ask and call until the model only speaks."""
    messages: list[Json] = [
        {"role": "system", "content": INSTRUCTION},
        {"role": "user", "content": query},
    ]
    while True:
        message = await ask(messages)
        messages.append(message)
        calls = message.get("tool_calls")
        if not calls:
            return
        for call in calls:
            function = call["function"]
            content = await use(function["name"], json.loads(function["arguments"]))
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": content})


async def work(options: Json) -> Json:
    """Do what the options say."""
    async with AsyncExitStack() as stack:
        ask = await open_model(options["client"], stack)
        use = await open_tool(stack) if options["has_server"] else read
        await loop(ask, read, order("warm", steps=1, tool="readTextFile"))
        before = memory_mib()
        started = time.monotonic()
        async with anyio.create_task_group() as tasks:
            for query in options["queries"]:
                tasks.start_soon(loop, ask, use, query)
        seconds = time.monotonic() - started
        highest = memory_mib("VmHWM")
    return {"seconds": seconds, "memory": highest - before if before and highest else None}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(anyio.run(work, json.loads(sys.argv[1]))) + "\n")
