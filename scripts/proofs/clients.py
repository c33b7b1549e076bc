"""Foreign clients, each against a fake model, get the answer of an expert, also of a long run.

In the long run the expert works for longer than the client lets a call take, so what comes back
first is the id of a job; the client's model then collects the result with it.
"""

import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import anyio
from _programs import PROGRAMS, QUESTION, Place, ask_program
from _stage import conclude, say, workplace
from mcp import Client, StdioServerParameters
from mcp_types import CallToolResult

from tests.model_server import ModelServer, Reply, Request, ToolCall

ANSWER = "the sum is 42"
EXPERT_GENERATIONS = 2
TOML = """
model = "gpt-5"

[provider]
providerName = "openai"

[experts."adder"]
description = "Adds numbers. Give it the numbers."
instruction = "Add the numbers that you are given."
"""


@dataclass(frozen=True)
class Round:
    """How long things take in one round, in seconds.

    Attributes:
        name: Shown in the report.
        work: How long the expert works.
        wait: How long the server lets a call wait.
        limit: How long the client lets a call take.
        fewest_calls: Of tools, that the client must make to get the answer.
    """

    name: str
    work: int
    wait: int
    limit: int
    fewest_calls: int


SHORT = Round("short run", work=0, wait=45, limit=600, fewest_calls=1)
LONG = Round("run longer than the client's limit", work=16, wait=4, limit=10, fewest_calls=3)
ROUNDS = (SHORT, LONG)


def expert_script(work: int) -> Callable[[Request], Reply]:
    """The expert really works it out, then answers."""
    sum_up = f"sleep {work}; expr 19 + 23"
    arguments: dict[str, object] = {"command": "sh", "args": ["-c", sum_up], "cwd": "."}

    def decide(request: Request) -> Reply:
        if request.tool_results:
            return Reply(tool_calls=(ToolCall("attemptCompletion", {"result": ANSWER}, "done"),))
        call = ToolCall("exec", {**arguments, "env": {}, "stdout": True, "stderr": True}, "sum")
        return Reply(tool_calls=(call,))

    return decide


class Collector:
    """The client's model: calls the expert, then waits for its job until that has stopped."""

    def __init__(self) -> None:
        self.calls = 0

    def decide(self, request: Request) -> Reply:
        """The next call, or what the last one returned."""
        results = request.tool_results
        offered = {
            each: name
            for name in request.tool_names
            for each in ("adder", "perstack_job")
            if re.search(f"{each}$", name)
        }
        if "adder" not in offered:
            return Reply("FAKE-TEXT")
        if not results:
            return self._call(offered["adder"], {"query": QUESTION})
        last = results[-1].text.replace('\\"', '"')
        job = re.search(r"job_id\W+([a-z0-9]{24})", last)
        if job is not None and re.search(r"status\W+running", last):
            return self._call(offered["perstack_job"], {"job_id": job[1], "wait_seconds": 8})
        return Reply(f"FAKE-DONE:{last[:300]}")

    def _call(self, name: str, arguments: dict[str, object]) -> Reply:
        self.calls += 1
        return Reply(tool_calls=(ToolCall(name, arguments),))


def ask_sdk(place: Place) -> str:
    """The SDK's own client, over stdio."""

    async def ask() -> str:
        server = StdioServerParameters(
            command=place.server[0], args=place.server[1:], env=place.server_environment
        )
        async with Client(server, read_timeout_seconds=place.limit_seconds) as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            result = await client.call_tool("adder", {"query": QUESTION})
            calls = 1
            while (facts := _facts(result))["status"] == "running":
                result = await client.call_tool("perstack_job", {"job_id": facts["job_id"]})
                calls += 1
        return f"{names} {facts} FAKE-DONE calls={calls}"

    return anyio.run(ask)


def _facts(result: object) -> dict[str, Any]:
    if isinstance(result, CallToolResult) and isinstance(result.structured_content, dict):
        return cast("dict[str, Any]", result.structured_content)
    raise TypeError(f"{result} is not how a job stands")


def seen_by(name: str, ask: Callable[[Place], str], one: Round) -> bool:
    """Put one client to the test."""
    collector = Collector()
    with (
        workplace() as home,
        ModelServer(collector) as client_model,
        ModelServer(expert_script(one.work)) as expert_model,
    ):
        (home / "perstack.toml").write_text(TOML, encoding="utf-8")
        serve = ["-m", "perstack", "serve", "--config", str(home / "perstack.toml")]
        place = Place(
            home=home,
            model_url=client_model.base_url,
            server=[sys.executable, *serve, "--wait-seconds", str(one.wait)],
            server_environment={
                "OPENAI_API_KEY": "sk-proof",
                "OPENAI_BASE_URL": f"{expert_model.base_url}/v1",
            },
            limit_seconds=one.limit,
        )
        output = ask(place)
        generations = len(expert_model.requests)
    calls = collector.calls or int((re.findall(r"calls=(\d+)", output) or ["0"])[-1])
    got_answer = ANSWER in output and "FAKE-DONE" in output
    holds = got_answer and generations == EXPERT_GENERATIONS and calls >= one.fewest_calls
    verdict = "got the answer" if holds else f"FAILED\n{output[-2000:]}"
    say(f"{name}, {one.name}: {verdict}, {calls} calls, {generations} generations of the expert")
    return holds


def main() -> None:
    """Ask with each client that was named, or with all of them."""
    wanted = sys.argv[1:] or ["sdk", *(program.name for program in PROGRAMS)]
    if shutil.which("npm") is None and wanted != ["sdk"]:
        conclude("clients", holds=False, seen="npm is needed to install the clients")
    asked: dict[str, Callable[[Place], str]] = {"sdk": ask_sdk}
    for program in PROGRAMS:
        asked[program.name] = lambda place, program=program: ask_program(program, place)
    held = [name for name in wanted if all(seen_by(name, asked[name], one) for one in ROUNDS)]
    conclude(
        "clients",
        holds=len(held) == len(wanted),
        seen=f"{len(held)} of {len(wanted)} clients got the answers of a short run and of one "
        f"longer than their limit, each run once ({', '.join(held)})",
    )


if __name__ == "__main__":
    main()
