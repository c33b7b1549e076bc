"""HTTP requests as clients write them: Accept, media types, bytes around JSON, batches."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import anyio
import pytest

from perstack.server.transports.content_negotiation import EVENT_STREAM, quality
from tests.server.transports.in_process import JSON, Place, serving
from tests.server.transports.raw import (
    INTRODUCTION,
    MODERN,
    calling,
    messages,
    modern_headers,
    place_to_post,
    request,
)

pytestmark = pytest.mark.anyio

PLAIN = "application/json"
INITIALIZE = request("initialize", INTRODUCTION)


@pytest.fixture(scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Place]:
    """One server for all tests, which change nothing of it."""
    async with serving(tmp_path_factory.mktemp("served")) as one:
        yield one


@pytest.fixture
async def session(place: Place) -> dict[str, str]:
    """The headers of a session in the version that has batches."""
    introduction = request("initialize", {**INTRODUCTION, "protocolVersion": "2025-03-26"})
    answer = await place.http.post("/mcp", headers=JSON, json=introduction)
    return {**JSON, "mcp-session-id": answer.headers["mcp-session-id"]}


def message_in(text: str) -> Any:
    """The last message of a body, whether it is a stream or JSON."""
    lines = [line for line in text.splitlines() if line.startswith("data:")]
    return json.loads(lines[-1].removeprefix("data:") if lines else text)


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, EVENT_STREAM),
        ("", EVENT_STREAM),
        ("*/*", EVENT_STREAM),
        ("*", EVENT_STREAM),
        ("text/event-stream", EVENT_STREAM),
        ("TEXT/Event-Stream; charset=utf-8", EVENT_STREAM),
        ("text/*", EVENT_STREAM),
        ("application/json;q=0.5, text/event-stream;q=0.9", EVENT_STREAM),
        ("text/html, */*;q=0.1", EVENT_STREAM),
        ("application/json, text/event-stream", EVENT_STREAM),
        ("application/json;q=0, */*", EVENT_STREAM),
        ("application/json", PLAIN),
        ("Application/JSON", PLAIN),
        ("application/*", PLAIN),
        ("application/json, text/event-stream;q=0", PLAIN),
        ("application/json, text/event-stream; Q=0.3", PLAIN),
        ("*/*, text/event-stream;q=0.0", PLAIN),
        ('application/json;profile="a,b", text/plain', PLAIN),
    ],
)
async def test_the_form_of_an_answer_is_one_that_is_accepted(
    place: Place, accept: str | None, media_type: str
) -> None:
    headers = {"content-type": PLAIN, **({} if accept is None else {"accept": accept})}
    built = place.http.build_request("POST", "/mcp", headers=headers, json=INITIALIZE)
    if accept is None:
        del built.headers["accept"]
    answer = await place.http.send(built)
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    assert answer.headers["mcp-session-id"]
    assert message_in(answer.text)["result"]["serverInfo"]["name"] == "perstack"


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "image/*, */*;q=0"])
async def test_a_client_that_accepts_neither_form_is_refused(place: Place, accept: str) -> None:
    headers = {"content-type": PLAIN, "accept": accept}
    answer = await place.http.post("/mcp", headers=headers, json=INITIALIZE)
    assert answer.status_code == 406
    assert answer.json()["error"]["message"] == "Accept application/json or text/event-stream"


@pytest.mark.parametrize("weight", ["q=abc", "q=7", "q=1.2.3", "charset=utf-8"])
def test_a_weight_that_is_none_leaves_the_type_accepted(weight: str) -> None:
    assert quality(f"text/event-stream;{weight}", EVENT_STREAM) == 1


async def test_a_call_is_answered_in_one_body_without_its_progress(
    place: Place, session: dict[str, str]
) -> None:
    call = request("tools/call", calling("reader", query="x"), 2)
    answer = await place.http.post("/mcp", headers={**session, "accept": PLAIN}, json=call)
    assert answer.headers["content-type"] == PLAIN
    assert answer.json()["result"]["structuredContent"]["text"] == "Hi."


async def test_who_reads_one_body_is_asked_in_text(place: Place) -> None:
    capable: dict[str, Any] = {**INTRODUCTION, "capabilities": {"elicitation": {}}}
    opened = await place.http.post("/mcp", headers=JSON, json=request("initialize", capable))
    session = {**JSON, "mcp-session-id": opened.headers["mcp-session-id"]}
    call = request("tools/call", calling("painter", query="Paint."), 2)
    with anyio.fail_after(30):
        answer = await place.http.post("/mcp", headers={**session, "accept": PLAIN}, json=call)
        batch = await place.http.post("/mcp", headers=session, json=[call])
    for result in (answer.json()["result"], batch.json()[0]["result"]):
        assert result["structuredContent"]["status"] == "needs_input"
        assert result["structuredContent"]["text"] == "Which colour?"


async def test_the_older_transport_reads_messages_as_liberally(place: Place) -> None:
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    with anyio.fail_after(30):
        async with place.http.stream("GET", "/sse") as stream:
            lines = stream.aiter_lines()
            address = await place_to_post(lines)
            body = b"\xef\xbb\xbf" + json.dumps(INITIALIZE).encode()
            posted = await place.http.post(address, headers=headers, content=body)
            introduced = await anext(messages(lines))
            batch = [request("ping", {}, 2), request("ping", {}, 3)]
            taken = await place.http.post(address, headers=headers, json=batch)
            answers = [await anext(messages(lines)) for _ in range(2)]
            refused = await place.http.post(address, headers=headers, content=b"nonsense")
    assert (posted.status_code, taken.status_code, refused.status_code) == (202, 202, 400)
    assert introduced["result"]["serverInfo"]["name"] == "perstack"
    assert sorted(answer["id"] for answer in answers) == [2, 3]
    assert refused.json()["error"]["code"] == -32700


async def test_the_era_without_sessions_answers_in_one_body_too(place: Place) -> None:
    call = request("tools/call", calling("reader", query="x"))
    call["params"]["_meta"] |= {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    for accept in (PLAIN, EVENT_STREAM, "*/*"):
        headers = {**JSON, **modern_headers("reader"), "accept": accept}
        answer = await place.http.post("/mcp", headers=headers, json=call)
        assert answer.status_code == 200
        assert message_in(answer.text)["result"]["structuredContent"]["text"] == "Hi."


@pytest.mark.parametrize("accept", [None, "*/*", "text/event-stream"])
async def test_the_stream_of_a_session_needs_no_exact_accept(
    place: Place, session: dict[str, str], accept: str | None
) -> None:
    built = place.http.build_request("GET", "/mcp", headers=session)
    del built.headers["accept"]
    if accept is not None:
        built.headers["accept"] = accept
    answer = await place.http.send(built, stream=True)
    assert (answer.status_code, answer.headers["content-type"]) == (200, EVENT_STREAM)
    await answer.aclose()


@pytest.mark.parametrize(
    "content_type",
    ["Application/JSON", "application/json;charset=UTF-8", "APPLICATION/json ; a=b"],
)
async def test_a_media_type_is_the_same_in_any_case_and_with_parameters(
    place: Place, content_type: str
) -> None:
    headers = {**JSON, "content-type": content_type}
    answer = await place.http.post("/mcp", headers=headers, content=json.dumps(INITIALIZE))
    assert answer.status_code == 200


@pytest.mark.parametrize("content_type", ["text/plain", "application/jsonp", ""])
async def test_another_media_type_is_refused(place: Place, content_type: str) -> None:
    headers = {**JSON, "content-type": content_type}
    answer = await place.http.post("/mcp", headers=headers, content=json.dumps(INITIALIZE))
    assert answer.status_code == 415
    assert "application/json" in answer.json()["error"]["message"]


async def test_the_name_of_a_host_is_the_same_in_any_case(place: Place) -> None:
    host = place.origin.removeprefix("http://").replace("127.0.0.1", "LocalHost")
    for headers in ({"host": host}, {"host": host, "origin": f"HTTP://{host}"}):
        answer = await place.http.post("/mcp", headers={**JSON, **headers}, json=INITIALIZE)
        assert answer.status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/.well-known/oauth-protected-resource"),
        ("GET", "/.well-known/oauth-protected-resource/mcp"),
        ("GET", "/.well-known/oauth-authorization-server"),
        ("GET", "/.well-known/openid-configuration/mcp"),
        ("POST", "/register"),
        ("GET", "/nowhere"),
        ("GET", "/mcp/nowhere"),
        ("PUT", "/health"),
    ],
)
async def test_what_is_not_there_is_told_in_json(place: Place, method: str, path: str) -> None:
    answer = await place.http.request(method, path)
    assert answer.status_code == (405 if path == "/health" else 404)
    assert answer.headers["content-type"] == PLAIN
    assert answer.json()["error"] in ("not_found", "method_not_allowed")
    assert path in answer.json()["error_description"]


@pytest.mark.parametrize(
    ("before", "query", "said"),
    [
        (b"\xef\xbb\xbf", b"a", "a"),
        (b" \r\n\xef\xbb\xbf ", b"a", "a"),
        (b"", b"a\xffb", "a\ufffdb"),
        (b"", rb"a\ud800b", "a\ufffdb"),
        (b"", rb"\ud83d\ude42", "🙂"),
        (b"", b"a\tb", "a\tb"),
    ],
)
async def test_bytes_that_are_no_text_are_repaired_as_over_stdio(
    place: Place, session: dict[str, str], before: bytes, query: bytes, said: str
) -> None:
    call = request("tools/call", {"name": "reader", "arguments": {"query": "QUERY"}}, 2)
    content = before + json.dumps(call).encode().replace(b"QUERY", query)
    answer = await place.http.post("/mcp", headers=session, content=content)
    job_id = message_in(answer.text)["result"]["structuredContent"]["job_id"]
    listing = request("tools/call", {"name": "perstack_jobs", "arguments": {}}, 3)
    listed = await place.http.post("/mcp", headers=session, json=listing)
    jobs = message_in(listed.text)["result"]["structuredContent"]["jobs"]
    assert next(job["query"] for job in jobs if job["job_id"] == job_id) == said


@pytest.mark.parametrize(
    ("body", "code", "request_id"),
    [
        (b"nonsense", -32700, None),
        (b"", -32700, None),
        (b"17", -32600, None),
        (b"[]", -32600, None),
        (b'{"id": 7, "method": 5}', -32600, 7),
        (b'{"jsonrpc": "2.0", "id": null, "method": "ping"}', -32600, None),
    ],
)
async def test_a_body_that_is_no_message_is_refused_as_over_stdio(
    place: Place, session: dict[str, str], body: bytes, code: int, request_id: object
) -> None:
    answer = await place.http.post("/mcp", headers=session, content=body)
    error = answer.json()
    assert answer.status_code == 400
    assert (error["error"]["code"], error["id"]) == (code, request_id)
    assert len(error["error"]["message"]) < 80


async def test_a_batch_is_answered_in_one_body(place: Place, session: dict[str, str]) -> None:
    batch = [
        request("ping", {}, 2),
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        request("tools/call", {"name": "reader", "arguments": {"query": "x"}}, 3),
        {"id": 4, "method": 5},
        request("initialize", INTRODUCTION, 5),
    ]
    for accept in (PLAIN, EVENT_STREAM, "*/*"):
        headers = {**session, "accept": accept}
        answer = await place.http.post("/mcp", headers=headers, json=batch)
        answers = {each["id"]: each for each in answer.json()}
        assert answer.status_code == 200
        assert set(answers) == {2, 3, 4, 5}
        assert answers[2]["result"] == {}
        assert answers[3]["result"]["structuredContent"]["text"] == "Hi."
        assert "not in a batch" in answers[5]["error"]["message"]


async def test_a_batch_without_requests_is_only_taken(
    place: Place, session: dict[str, str]
) -> None:
    batch = [{"jsonrpc": "2.0", "method": "notifications/initialized"}] * 2
    answer = await place.http.post("/mcp", headers=session, json=batch)
    assert (answer.status_code, answer.content) == (202, b"")


async def test_a_batch_of_a_lost_session_is_answered_as_one_message_would_be(place: Place) -> None:
    headers = {**JSON, "mcp-session-id": "lost"}
    answer = await place.http.post("/mcp", headers=headers, json=[request("ping", {})] * 2)
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == "Session not found"


@pytest.mark.parametrize("version", ["2025-06-18", "2025-11-25", MODERN])
async def test_later_versions_have_no_batches(
    place: Place, session: dict[str, str], version: str
) -> None:
    headers = {**session, "mcp-protocol-version": version}
    answer = await place.http.post("/mcp", headers=headers, json=[request("ping", {})])
    assert answer.status_code == 400
    assert version in answer.json()["error"]["message"]


async def test_a_batch_that_is_too_long_is_refused(place: Place, session: dict[str, str]) -> None:
    answer = await place.http.post("/mcp", headers=session, json=[request("ping", {})] * 101)
    assert (answer.status_code, "more than 100" in answer.text) == (400, True)
