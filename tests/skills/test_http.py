"""Skills over HTTP, against a server of the official SDK."""

import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from opentelemetry import trace

from perstack.definition.model import McpSseSkill
from perstack.errors import SkillError
from tests.skills.harness import Recorder, call, expert, opened, until, web_server

pytestmark = pytest.mark.anyio

PARENT = trace.SpanContext(
    trace_id=0x1234567890ABCDEF1234567890ABCDEF,
    span_id=0x1234567890ABCDEF,
    is_remote=False,
    trace_flags=trace.TraceFlags(1),
)


def remote(endpoint: str, **fields: Any) -> McpSseSkill:
    return McpSseSkill(type="mcpSseSkill", endpoint=endpoint, allow_private=True, **fields)


@pytest.mark.parametrize("path", ["/mcp", "/sse"])
async def test_a_remote_server_is_spoken_to_over_either_transport(
    web: str, tmp_path: Path, path: str
) -> None:
    tester, told = expert(plain=remote(web + path)), Recorder()

    async with opened(tmp_path) as skills:
        names = [tool.name for tool in await skills.tools(tester, told)]
        result = await skills.call(tester, call("echo", text="hello"), "key")

    assert "echo" in names
    assert (result.text, result.is_error) == ("hello", False)
    assert [event[0] for event in told.events] == ["connecting", "connected", "disconnected"]
    assert told.of("connected")[0][2] == {"name": "web", "version": "4.5.6"}


@pytest.mark.parametrize("path", ["/mcp", "/sse"])
async def test_a_call_carries_its_callers_trace_and_idempotency_key(
    web: str, tmp_path: Path, path: str
) -> None:
    tester = expert(plain=remote(web + path))

    async with opened(tmp_path) as skills:
        await skills.tools(tester, Recorder())
        with trace.use_span(trace.NonRecordingSpan(PARENT)):
            result = await skills.call(tester, call("meta"), "key-of-this-call")

    meta = json.loads(result.text)
    assert meta["traceparent"].split("-")[1] == f"{PARENT.trace_id:032x}"
    assert meta["perstack/idempotencyKey"] == "key-of-this-call"


async def test_a_tool_that_asks_for_input_gets_none(web: str, tmp_path: Path) -> None:
    tester = expert(plain=remote(f"{web}/mcp"))

    async with opened(tmp_path) as skills:
        await skills.tools(tester, Recorder())
        result = await skills.call(tester, call("ask"), "key")

    assert result.is_error
    assert "asks for input" in result.text


async def test_headers_take_values_that_the_skill_requires(web: str, tmp_path: Path) -> None:
    skill = remote(
        f"{web}/mcp",
        headers={"Authorization": "Bearer ${SERVICE_TOKEN}"},
        required_env=("SERVICE_TOKEN",),
    )
    tester = expert(plain=skill)

    async with opened(tmp_path, {"SERVICE_TOKEN": "s3cr3t-value"}) as skills:
        await skills.tools(tester, Recorder())
        result = await skills.call(tester, call("headers"), "key")

    # The server got the value, which it repeats; the model gets its name instead.
    assert json.loads(result.text)["authorization"] == "Bearer [SERVICE_TOKEN]"


async def test_an_unset_variable_is_named(tmp_path: Path) -> None:
    tester = expert(plain=remote("http://127.0.0.1:9/mcp", required_env=("SERVICE_TOKEN",)))

    async with opened(tmp_path) as skills:
        with pytest.raises(SkillError, match="environment variable SERVICE_TOKEN"):
            await skills.tools(tester, Recorder())


async def test_a_domain_that_is_not_allowed_is_refused(web: str, tmp_path: Path) -> None:
    tester = expert(plain=remote(f"{web}/mcp", allowed_domains=("*.example.com",)))

    async with opened(tmp_path) as skills:
        with pytest.raises(SkillError, match=r"may not reach '127\.0\.0\.1'"):
            await skills.tools(tester, Recorder())


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/away", "HTTP status 307"),
        ("/forbidden", "HTTP status 403"),
        ("/absent", "HTTP status 404"),
    ],
)
async def test_a_refusal_is_told_with_the_status(
    web: str, tmp_path: Path, path: str, words: str
) -> None:
    async with opened(tmp_path) as skills:
        with pytest.raises(SkillError, match=words):
            await skills.tools(expert(plain=remote(web + path)), Recorder())


async def test_an_endpoint_that_nobody_listens_at_is_told(tmp_path: Path) -> None:
    async with opened(tmp_path) as skills:
        with pytest.raises(SkillError, match=r"Endpoint: http://127\.0\.0\.1:9/mcp: "):
            await skills.tools(expert(plain=remote("http://127.0.0.1:9/mcp")), Recorder())


@pytest.mark.parametrize("path", ["/mcp", "/sse"])
async def test_a_cancelled_call_is_cancelled_at_the_server(
    web: str, tmp_path: Path, path: str
) -> None:
    tester = expert(plain=remote(web + path))

    async with opened(tmp_path) as skills:
        await skills.tools(tester, Recorder())
        before = json.loads((await skills.call(tester, call("cancellations"), "k")).text)
        with anyio.move_on_after(0.2):
            await skills.call(tester, call("wait"), "key")
        with anyio.fail_after(30):
            after = before
            while after == before:
                after = json.loads((await skills.call(tester, call("cancellations"), "k")).text)

    assert after == [*before, "wait"]


@pytest.mark.parametrize("path", ["/mcp", "/sse"])
async def test_a_call_of_a_server_that_is_gone_is_an_error_and_the_next_one_connects_again(
    tmp_path: Path, path: str
) -> None:
    with web_server() as (origin, process):
        tester, told = expert(plain=remote(origin + path)), Recorder()
        async with opened(tmp_path) as skills:
            await skills.tools(tester, told)
            process.kill()
            process.wait()
            lost = await skills.call(tester, call("echo", text="lost"), "key")
            absent = await skills.call(tester, call("echo", text="absent"), "key")
            with web_server(int(origin.rpartition(":")[2])):
                back = await skills.call(tester, call("echo", text="back"), "key")

    assert lost.is_error
    assert "ended or became unreachable" in lost.text
    assert absent.is_error
    assert "cannot be used" in absent.text
    assert back.text == "back"


async def test_a_stream_that_ends_between_two_calls_costs_neither(tmp_path: Path) -> None:
    with web_server() as (origin, process):
        tester, told = expert(plain=remote(f"{origin}/sse")), Recorder()
        async with opened(tmp_path) as skills:
            await skills.tools(tester, told)
            process.kill()
            process.wait()
            await until(lambda: bool(told.of("disconnected")))
            with web_server(int(origin.rpartition(":")[2])):
                back = await skills.call(tester, call("echo", text="back"), "key")

    assert (back.text, back.is_error) == ("back", False)
