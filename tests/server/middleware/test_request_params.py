"""Params that are wrong, whose sender is told where."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from tests.server.transports.in_process import JSON, Place, serving
from tests.server.transports.raw import INTRODUCTION, request
from tests.server.transports.test_http_messages import message_in

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Place]:
    async with serving(tmp_path_factory.mktemp("served")) as one:
        yield one


async def ask(place: Place, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    answer = await place.http.post("/mcp", headers={**JSON, **headers}, json=body)
    message: dict[str, Any] = message_in(answer.text)
    return message


async def call(place: Place, arguments: object) -> dict[str, Any]:
    introduction = request("initialize", INTRODUCTION)
    opened = await place.http.post("/mcp", headers=JSON, json=introduction)
    session = {"mcp-session-id": opened.headers["mcp-session-id"]}
    params = {"name": "reader", "arguments": arguments}
    return await ask(place, request("tools/call", params, 2), **session)


@pytest.mark.parametrize(
    ("params", "problems"),
    [
        (None, "capabilities is missing; clientInfo is missing; protocolVersion is missing"),
        ({}, "capabilities is missing; clientInfo is missing; protocolVersion is missing"),
        ({"capabilities": {}, "protocolVersion": "2025-06-18"}, "clientInfo is missing"),
        ({**INTRODUCTION, "clientInfo": {"name": "x"}}, "clientInfo.version is missing"),
        ({**INTRODUCTION, "capabilities": None}, "capabilities is not valid"),
        ({**INTRODUCTION, "protocolVersion": 20250618}, "protocolVersion is not valid"),
    ],
)
async def test_an_incomplete_introduction_is_told_what_is_missing(
    place: Place, params: dict[str, Any] | None, problems: str
) -> None:
    body = request("initialize", {})
    if params is None:
        del body["params"]
    else:
        body["params"] = params
    error = (await ask(place, body))["error"]
    assert (error["code"], error["message"]) == (-32602, f"Invalid params: {problems}")


@pytest.mark.parametrize("arguments", ['{"query": "x"}', ' {"query": "x"} '])
async def test_arguments_that_are_written_as_a_text_are_read(
    place: Place, arguments: object
) -> None:
    result = (await call(place, arguments))["result"]
    assert result["structuredContent"]["text"] == "Hi."


@pytest.mark.parametrize("arguments", [None, "", [], {}, "{}"])
async def test_absent_arguments_are_told_as_missing(place: Place, arguments: object) -> None:
    result = (await call(place, arguments))["result"]
    assert result["isError"]
    assert "query is missing" in result["content"][0]["text"]


@pytest.mark.parametrize("arguments", ["secret", "[1]", 5, ["secret"], "[" * 100_000])
async def test_arguments_that_are_none_are_refused_and_not_repeated(
    place: Place, arguments: object
) -> None:
    error = (await call(place, arguments))["error"]
    assert (error["code"], error["message"]) == (-32602, "Invalid params: arguments is not valid")
    assert "secret" not in str(error)
