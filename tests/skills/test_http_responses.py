"""Skills over HTTP whose responses are refusals, or not quite what the protocol has."""

from pathlib import Path

import pytest

from perstack.core.messages import ToolResult
from perstack.definition.model import McpSseSkill
from perstack.errors import SkillError
from tests.skills.harness import Recorder, call, expert, opened
from tests.skills.scripted_http import SILENCE, Reply, ScriptedHttp, scripted_http

pytestmark = pytest.mark.anyio

TEXT = '{"content":[{"type":"text","text":"done"}]}'
NOTE = '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}'


def remote(server: ScriptedHttp, path: str = "/mcp") -> McpSseSkill:
    return McpSseSkill(type="mcpSseSkill", endpoint=server.origin + path, allow_private=True)


async def look(server: ScriptedHttp, tmp_path: Path, path: str = "/mcp") -> ToolResult:
    """The result of tool `look`; the server must be usable after it."""
    tester, told = expert(plain=remote(server, path)), Recorder()
    async with opened(tmp_path) as skills:
        await skills.tools(tester, told)
        result = await skills.call(tester, call("look"), "key")
        after = await skills.call(tester, call("echo"), "key")
    assert after.text == "well"
    return result


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply("token expired at 12:00", 401, "text/plain"), "401 Unauthorized: token expired at"),
        (Reply("", 401, "", {"www-authenticate": 'Bearer error="x"'}), "401 Unauthorized: Bearer"),
        (Reply('{"error":"no_scope"}', 403), '403 Forbidden: {"error":"no_scope"}'),
        (Reply("slow", 429, "text/plain", {"retry-after": "30"}), "slow (Retry-After: 30)"),
        (
            Reply("<html><h1>Bad</h1> gateway</html>", 502, "text/html"),
            "Bad Gateway: Bad gateway. Whether it took effect is unknown",
        ),
        (Reply("", 503, ""), "HTTP status 503 Service Unavailable"),
        (Reply("", 599, ""), "HTTP status 599"),
        (
            Reply('{"jsonrpc":"2.0","id":null,"error":{"code":-32602,"message":"No date."}}', 400),
            "look: No date (HTTP status 400)",
        ),
        (
            Reply('{"jsonrpc":"2.0","id":ID,"error":{"code":"E","message":"no date"}}', 422),
            "look: E: no date (HTTP status 422)",
        ),
        (
            Reply('{"jsonrpc":"2.0","id":ID,"error":{"code":-32601,"message":"no look"}}', 404),
            "look: no look (HTTP status 404)",
        ),
    ],
)
@pytest.mark.parametrize("path", ["/mcp", "/sse"])
async def test_a_refusal_is_a_result_with_status_and_text(
    tmp_path: Path, reply: Reply, words: str, path: str
) -> None:
    with scripted_http({"look": [reply]}) as server:
        result = await look(server, tmp_path, path)

    assert result.is_error
    assert words in result.text
    assert server.methods.count("look") == 1


BODIES = [
    (
        Reply('{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"in here"}}'),
        "in here",
        True,
    ),
    (Reply('{"jsonrpc":"2.0","error":{"code":-32603,"message":"in here"}}'), "in here", True),
    (Reply('{"jsonrpc":"2.0","id":ID,"error":"in here"}'), "in here", True),
    (
        Reply('{"jsonrpc":"2.0","id":ID,"error":{"code":-32000,"message":"Connection closed"}}'),
        "look: Connection closed",
        True,
    ),
    (Reply(f'{{"id":ID,"result":{TEXT}}}'), "done", False),
    (Reply(f'{{"jsonrpc":"2.0","result":{TEXT}}}'), "done", False),
    (Reply(f'\ufeff{{"jsonrpc":"2.0","id":ID,"result":{TEXT}}}'), "done", False),
    (Reply(f'debug {{"jsonrpc":"2.0","id":ID,"result":{TEXT}}}'), "done", False),
    (Reply(f'{{"jsonrpc":"2.0","id":ID,"result":{TEXT}}}', 200, "text/plain"), "done", False),
    (Reply(f'{{"jsonrpc":"2.0","id":ID,"result":{TEXT}}}', 200, ""), "done", False),
    (Reply(f'{{"jsonrpc":"2.0","id":ID,"result":{TEXT}}}', 201), "done", False),
    (Reply(f'[{NOTE},{{"jsonrpc":"2.0","id":ID,"result":{TEXT}}}]'), "done", False),
    (Reply(f'{{\n  "jsonrpc": "2.0",\n  "id": ID,\n  "result": {TEXT}\n}}\n'), "done", False),
    (
        Reply(f'{{"jsonrpc":"2.0","id":ID,"result":{TEXT}}}'.replace("done", "\\ud83d")),
        "\ufffd",
        False,
    ),
    (
        Reply(
            f'{{"jsonrpc":"2.0","id":ID,"result":{TEXT}}}'.replace("done", "é").encode("latin-1")
        ),
        "\ufffd",
        False,
    ),
    (
        Reply(f'{{"jsonrpc":"2.0","id":ID,"result":{TEXT}}}'.replace("done", "a\tb")),
        "a\tb",
        False,
    ),
    (Reply('{"jsonrpc":"2.0","id":ID,"result":{"cont'), "its answer cannot be read", True),
    (
        Reply("<html>Please log in</html>", 200, "text/html"),
        "text/html and no JSON-RPC answer: Please log in",
        True,
    ),
    (Reply("", 200), "no JSON-RPC answer", True),
    (Reply("", 204, ""), "HTTP status 204", True),
    (Reply("", 202, ""), "202", True),
    (Reply(NOTE), "no JSON-RPC answer", True),
]


def as_event(reply: Reply) -> Reply:
    body = reply.body.encode() if isinstance(reply.body, str) else reply.body
    lines = b"".join(b"data: " + line + b"\n" for line in body.splitlines())
    return Reply(b"event: message\n" + lines + b"\n", 200, "text/event-stream")


JSON_BODIES = [
    (reply, text, is_error)
    for reply, text, is_error in BODIES
    if reply.body not in ("", NOTE)
    and (reply.status, reply.media_type) == (200, "application/json")
]


@pytest.mark.parametrize(
    ("reply", "text", "is_error"),
    BODIES + [(as_event(reply), *more) for reply, *more in JSON_BODIES],
)
async def test_a_body_that_is_not_quite_json_rpc_is_repaired_or_an_error_at_once(
    tmp_path: Path, reply: Reply, text: str, is_error: bool
) -> None:
    with scripted_http({"look": [reply]}) as server:
        result = await look(server, tmp_path)

    assert text in result.text
    assert result.is_error is is_error


@pytest.mark.parametrize(("reply", "text", "is_error"), JSON_BODIES)
async def test_an_event_of_the_older_transport_is_repaired_too(
    tmp_path: Path, reply: Reply, text: str, is_error: bool
) -> None:
    with scripted_http({"look": [reply]}) as server:
        result = await look(server, tmp_path, "/sse")

    assert text in result.text
    assert result.is_error is is_error


async def test_a_server_that_ignores_the_newer_protocol_is_asked_in_the_older(
    tmp_path: Path,
) -> None:
    with scripted_http({"server/discover": [SILENCE]}) as server:
        tester = expert(plain=remote(server))
        async with opened(tmp_path, start_seconds=8) as skills:
            await skills.tools(tester, Recorder())
            result = await skills.call(tester, call("look"), "key")

    assert result.text == "well"


REFUSED = '{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":"%s"}}'


@pytest.mark.parametrize(
    "refusal",
    [
        Reply("", 404, ""),
        Reply("gone", 410, "text/plain"),
        Reply(REFUSED % ("null", -32001, "Session not found"), 404),
        Reply(REFUSED % ('"server-error"', -32600, "Session not found"), 404),
        Reply(REFUSED % ("null", -32000, "Bad Request: No valid session ID provided"), 400),
        Reply(REFUSED % ("null", -32000, "Bad Request: Server not initialized, no session"), 400),
        Reply("Invalid session ID", 400, "text/plain"),
        Reply('{"detail":"unknown mcp-session-id"}', 422),
    ],
)
@pytest.mark.parametrize("path", ["/mcp", "/sse"])
async def test_a_call_that_is_refused_for_its_session_is_made_again_in_a_new_one(
    tmp_path: Path, refusal: Reply, path: str
) -> None:
    with scripted_http() as server:
        server.unknown_session = refusal
        tester, told = expert(plain=remote(server, path)), Recorder()
        async with opened(tmp_path) as skills:
            await skills.tools(tester, told)
            server.forget_sessions()
            result = await skills.call(tester, call("look"), "key")

    assert (result.text, result.is_error) == ("well", False)
    assert server.methods.count("initialize") == 2
    assert server.methods.count("look") == 2


async def test_a_call_is_not_made_a_third_time(tmp_path: Path) -> None:
    with scripted_http({"look": [Reply("Session not found", 404, "text/plain")]}) as server:
        result = await look(server, tmp_path)

    assert result.is_error
    assert "HTTP status 404 Not Found: Session not found" in result.text
    assert server.methods.count("look") == 2


@pytest.mark.parametrize("method", ["initialize", "tools/list"])
async def test_a_refusal_at_the_start_is_told_with_status_and_text(
    tmp_path: Path, method: str
) -> None:
    reply = Reply('{"error":"X-Api-Key is missing"}', 400)
    with scripted_http({method: [reply], "server/discover": [reply]}) as server:
        async with opened(tmp_path) as skills:
            with pytest.raises(SkillError, match=r"400 Bad Request: .*X-Api-Key is missing"):
                await skills.tools(expert(plain=remote(server)), Recorder())


async def test_secrets_in_a_refusal_are_hidden(tmp_path: Path) -> None:
    with scripted_http({"look": [Reply("bad key s3cr3t-value", 401, "text/plain")]}) as server:
        skill = remote(server).model_copy(
            update={"headers": {"x-key": "${SERVICE_KEY}"}, "required_env": ("SERVICE_KEY",)}
        )
        tester = expert(plain=skill)
        async with opened(tmp_path, {"SERVICE_KEY": "s3cr3t-value"}) as skills:
            await skills.tools(tester, Recorder())
            result = await skills.call(tester, call("look"), "key")

    assert "bad key [SERVICE_KEY]" in result.text


async def test_secrets_written_into_the_definition_are_hidden_in_a_refusal(tmp_path: Path) -> None:
    refusal = Reply("bad keys s3cr3t-value and t0k3n-value", 401, "text/plain")
    with scripted_http({"initialize": [refusal]}) as server:
        skill = remote(server, "/mcp?api_key=s3cr3t-value").model_copy(
            update={"headers": {"Authorization": "Bearer t0k3n-value"}}
        )
        async with opened(tmp_path) as skills:
            with pytest.raises(SkillError) as caught:
                await skills.tools(expert(plain=skill), Recorder())

    assert "/mcp?api_key=[redacted]: it answered" in str(caught.value)
    assert "bad keys [redacted] and [redacted]" in str(caught.value)
    assert "s3cr3t-value" not in str(caught.value)
