"""The endpoint as a plain HTTP client sees it."""

import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest

from tests.model_server import (
    Cut,
    Gate,
    Hang,
    Held,
    HttpError,
    Malformed,
    Reply,
    Reset,
    Slow,
    StreamError,
    ToolCall,
    call,
    model_server,
)

pytestmark = pytest.mark.anyio

USER = [{"role": "user", "content": "hi"}]
PATHS = {
    "openai_chat": "/v1/chat/completions",
    "openai_responses": "/v1/responses",
    "anthropic": "/v1/messages",
    "gemini": "/v1beta/models/m:streamGenerateContent?alt=sse",
    "ollama": "/api/chat",
}
every_dialect = pytest.mark.parametrize("dialect", list(PATHS))


def body_of(dialect: str) -> dict[str, Any]:
    if dialect == "gemini":
        return {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
    key = "input" if dialect == "openai_responses" else "messages"
    return {"model": "m", key: USER, "stream": True}


def events_of(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line for line in response.text.splitlines() if line and line != "data: [DONE]"]
    return [
        json.loads(line.removeprefix("data: ")) for line in lines if not line.startswith("event: ")
    ]


@every_dialect
async def test_a_stream_has_a_length_and_is_logged(dialect: str, http: httpx.AsyncClient) -> None:
    async with model_server(Reply("hello")) as server:
        response = await http.post(server.base_url + PATHS[dialect], json=body_of(dialect))
        (request,) = server.requests
    assert response.headers["content-length"] == str(len(response.content))
    assert len(events_of(response)) >= 3
    assert request.is_stream
    assert request.dialect == dialect
    assert request.model == "m"
    assert request.last_user_text == "hi"
    assert json.loads(request.raw) == request.body == body_of(dialect)


@every_dialect
async def test_an_error_has_the_shape_of_its_provider(
    dialect: str, http: httpx.AsyncClient
) -> None:
    async with model_server([HttpError(429, "slow down", retry_after=1.5)]) as server:
        response = await http.post(server.base_url + PATHS[dialect], json=body_of(dialect))
    assert response.status_code == 429
    assert response.headers["retry-after"] == "1.5"
    error = response.json()["error"]
    assert (error if dialect == "ollama" else error["message"]) == "slow down"


@every_dialect
async def test_a_cut_stream_lacks_its_end(dialect: str, http: httpx.AsyncClient) -> None:
    async with model_server([Cut(Reply("hello"), after_chunks=2)]) as server:
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
            await http.post(server.base_url + PATHS[dialect], json=body_of(dialect))


@every_dialect
async def test_an_error_event_ends_a_stream(dialect: str, http: httpx.AsyncClient) -> None:
    async with model_server([StreamError(Reply("hello"), after_chunks=1)]) as server:
        response = await http.post(server.base_url + PATHS[dialect], json=body_of(dialect))
    assert response.status_code == 200
    assert "scripted failure in the stream" in json.dumps(events_of(response)[-1])


async def test_a_cut_after_bytes_keeps_exactly_those(http: httpx.AsyncClient) -> None:
    received: list[bytes] = []

    async def read(url: str) -> None:
        async with http.stream("POST", url, json=body_of("openai_chat")) as response:
            async for part in response.aiter_raw():
                received.append(part)  # noqa: PERF401 - what came before the cut is kept

    async with model_server([Cut(Reply("hello"), after_bytes=25)]) as server:
        with pytest.raises(httpx.RemoteProtocolError):
            await read(server.base_url + PATHS["openai_chat"])
    assert len(b"".join(received)) == 25


async def test_a_reset_breaks_the_connection(http: httpx.AsyncClient) -> None:
    async with model_server([Reset()]) as server:
        with pytest.raises(httpx.ReadError):
            await http.post(server.base_url + PATHS["ollama"], json=body_of("ollama"))


async def test_a_malformed_stream_event_is_no_json(http: httpx.AsyncClient) -> None:
    async with model_server([Malformed('{"a": ')]) as server:
        response = await http.post(server.base_url + PATHS["gemini"], json=body_of("gemini"))
    assert response.text == 'data: {"a": \n\n'


async def test_a_client_that_leaves_a_hanging_call_is_noticed(http: httpx.AsyncClient) -> None:
    async def post(url: str) -> None:
        await http.post(url, json=body_of("openai_chat"))

    async with model_server([Hang(), Reply("next")]) as server:
        url = server.base_url + PATHS["openai_chat"]
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(post, url)
                await server.wait_for_requests(1)
                group.cancel_scope.cancel()
            await server.wait_for_leaving(1)
        await http.post(url, json=body_of("openai_chat"))
        assert server.left_early == [1]


async def test_a_server_stops_while_a_call_hangs(http: httpx.AsyncClient) -> None:
    async def ask(url: str) -> None:
        with pytest.raises(httpx.HTTPError):
            await http.post(url, json=body_of("ollama"))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group, model_server([Hang()]) as server:
            group.start_soon(ask, server.base_url + PATHS["ollama"])
            await server.wait_for_requests(1)


async def test_a_held_stream_shows_its_beginning_first(http: httpx.AsyncClient) -> None:
    gate = Gate()
    async with model_server([Held(gate, Reply("hello"), after_chunks=2)]) as server:
        url = server.base_url + PATHS["ollama"]
        with anyio.fail_after(30):
            async with http.stream("POST", url, json=body_of("ollama")) as response:
                lines: AsyncIterator[str] = response.aiter_lines()
                first = [json.loads(await anext(lines)) for _ in range(2)]
                gate.open()
                rest = [json.loads(line) async for line in lines]
    assert "".join(line["message"]["content"] for line in first) == "hello"
    assert rest[-1]["done_reason"] == "stop"


async def test_a_slow_stream_is_whole_in_the_end(http: httpx.AsyncClient) -> None:
    slow = Slow(Reply("hello"), before_seconds=0.01, between_seconds=0.001)
    async with model_server([slow]) as server:
        response = await http.post(server.base_url + PATHS["ollama"], json=body_of("ollama"))
    assert response.headers["transfer-encoding"] == "chunked"
    assert events_of(response)[-1]["done"] is True


async def test_a_compressed_and_chunked_body_is_read(http: httpx.AsyncClient) -> None:
    packed = gzip.compress(json.dumps(body_of("openai_chat")).encode())

    async def parts() -> AsyncIterator[bytes]:
        yield packed[:10]
        yield packed[10:]

    async with model_server(Reply("ok")) as server:
        url = server.base_url + PATHS["openai_chat"]
        await http.post(url, content=parts(), headers={"content-encoding": "gzip"})
        assert server.requests[0].last_user_text == "hi"


async def test_other_paths_are_answered_and_kept_apart(http: httpx.AsyncClient) -> None:
    async with model_server([]) as server:
        head = await http.head(server.base_url + "/")
        models = await http.get(server.base_url + "/v1/models")
        count = await http.post(server.base_url + "/v1/messages/count_tokens", json={})
        assert [visit.path for visit in server.visits] == [
            "/",
            "/v1/models",
            "/v1/messages/count_tokens",
        ]
        assert server.requests == []
    assert head.status_code == 200
    assert models.json()["data"][0]["id"] == "fake-model"
    assert count.json() == {"input_tokens": 10}


async def test_a_tool_of_a_namespace_is_called_in_it(http: httpx.AsyncClient) -> None:
    add: dict[str, Any] = {"type": "function", "name": "add", "parameters": {}}
    group: dict[str, Any] = {"type": "namespace", "name": "mcp__perstack", "tools": [add]}
    body = {**body_of("openai_responses"), "tools": [group], "stream": False}
    async with model_server(call("add", a=1)) as server:
        response = await http.post(server.base_url + PATHS["openai_responses"], json=body)
        assert server.requests[0].tool_names == ("add",)
    (item,) = response.json()["output"]
    assert (item["namespace"], item["name"]) == ("mcp__perstack", "add")


async def test_an_anthropic_stream_carries_thinking_its_seal_and_raw_arguments(
    http: httpx.AsyncClient,
) -> None:
    reply = Reply(thinking="hmm", signature="seal", tool_calls=(ToolCall("add", '{"a": '),))
    async with model_server(reply) as server:
        response = await http.post(server.base_url + PATHS["anthropic"], json=body_of("anthropic"))
    deltas = [e["delta"] for e in events_of(response) if e["type"] == "content_block_delta"]
    assert "".join(delta.get("thinking", "") for delta in deltas) == "hmm"
    assert [delta["signature"] for delta in deltas if "signature" in delta] == ["seal"]
    assert "".join(delta.get("partial_json", "") for delta in deltas) == '{"a": '


async def test_a_note_of_the_client_program_is_no_user_turn(http: httpx.AsyncClient) -> None:
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "42"}
    note = {"type": "text", "text": "<system-reminder>be brief</system-reminder>"}
    body = {"model": "m", "messages": [*USER, {"role": "user", "content": [result, note]}]}
    async with model_server(Reply("ok")) as server:
        await http.post(server.base_url + PATHS["anthropic"], json=body)
        (request,) = server.requests
    assert request.last_user_text == "hi"
    assert [message.text for message in request.tool_results] == ["42"]
