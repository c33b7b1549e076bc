"""Who answers which request."""

import httpx
import pytest

from tests.model_server import (
    CallTool,
    Queue,
    Reply,
    Request,
    Routes,
    ScriptError,
    model_server,
    route,
)
from tests.model_server.script import ScriptLike
from tests.model_server.script_file import ScriptFileError, parse_script
from tests.model_server.server import ModelServer

pytestmark = pytest.mark.anyio


async def ask(
    http: httpx.AsyncClient, server: ModelServer, text: str, system: str = "", model: str = "m"
) -> str:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
    url = server.base_url + "/v1/chat/completions"
    response = await http.post(url, json={"model": model, "messages": messages})
    return response.json()["choices"][0]["message"]["content"]


async def test_routes_have_queues_of_their_own(http: httpx.AsyncClient) -> None:
    script = Routes(
        route("You review", replies=[Reply("r1"), Reply("r2")]),
        route(model="small", replies=[Reply("s1")]),
        otherwise=Reply("rest"),
    )
    async with model_server(script) as server:
        asked = [
            await ask(http, server, "a", system="You review."),
            await ask(http, server, "b"),
            await ask(http, server, "c", model="small"),
            await ask(http, server, "d", system="You review."),
        ]
    assert asked == ["r1", "rest", "s1", "r2"]


async def test_a_function_answers_from_the_request(http: httpx.AsyncClient) -> None:
    def echo(request: Request) -> Reply:
        return Reply(request.last_user_text.upper())

    async with model_server(echo) as server:
        assert await ask(http, server, "hi") == "HI"


async def test_a_script_is_replaced_while_the_server_runs(http: httpx.AsyncClient) -> None:
    async with model_server([Reply("one")]) as server:
        first = await ask(http, server, "a")
        server.set_script([Reply("two")])
        assert (first, await ask(http, server, "b")) == ("one", "two")


@pytest.mark.parametrize("script", [[], Routes(route("never", replies=[]))], ids=["queue", "route"])
async def test_a_request_without_an_answer_fails_the_test(
    http: httpx.AsyncClient, script: ScriptLike
) -> None:
    async def run() -> None:
        async with model_server(script) as server:
            url = server.base_url + "/v1/chat/completions"
            response = await http.post(url, json={"messages": []})
            assert response.status_code == 400

    with pytest.raises(ScriptError, match="request 1"):
        await run()


async def test_a_queue_tells_what_is_left(http: httpx.AsyncClient) -> None:
    queue = Queue([Reply("one"), lambda _: Reply("two")])
    async with model_server(queue) as server:
        await ask(http, server, "a")
        assert queue.left == 1
        assert await ask(http, server, "b") == "two"


async def test_a_policy_counts_results_after_the_newest_user_turn(http: httpx.AsyncClient) -> None:
    tools = [{"type": "function", "function": {"name": "mcp__x__add"}}]
    result = {"role": "tool", "tool_call_id": "c", "content": "42"}
    user = {"role": "user", "content": "again"}
    histories = [[user], [user, result], [user, result, result], [user, result, result, user]]
    contents: list[str | None] = []
    async with model_server(CallTool("add$", {"a": 1}, times=2)) as server:
        for messages in histories:
            body = {"model": "m", "messages": messages, "tools": tools}
            response = await http.post(server.base_url + "/v1/chat/completions", json=body)
            contents.append(response.json()["choices"][0]["message"]["content"])
    assert contents == [None, None, "FAKE-DONE:42", None]


async def test_a_script_file_describes_routes_replies_and_faults(http: httpx.AsyncClient) -> None:
    script = parse_script(
        {
            "routes": [
                {
                    "lastUser": "one",
                    "replies": [
                        {"text": "1", "usage": {"inputTokens": 5}},
                        {"fault": "slow", "beforeSeconds": 0, "reply": {"text": "2"}},
                    ],
                }
            ],
            "otherwise": {"callTool": {"pattern": "add"}},
        }
    )
    async with model_server(script) as server:
        answers = [await ask(http, server, text) for text in ("one", "one", "other")]
    assert answers == ["1", "2", "FAKE-TEXT"]


WRONG: list[tuple[object, str]] = [
    ([{"txt": "hi"}], r"script\[0\]: unknown key 'txt'"),
    ([{"fault": "fire"}], r"script\[0\].fault: 'fire' is none of"),
    ({"replys": []}, "exactly one of replies, callTool, routes"),
    ({"callTool": {}}, "script.callTool: .*pattern"),
    ({"replies": [{"toolCalls": {}}]}, r"script.replies\[0\].toolCalls: a list is needed"),
]


@pytest.mark.parametrize(("source", "message"), WRONG)
def test_a_wrong_script_file_names_the_place(source: object, message: str) -> None:
    with pytest.raises(ScriptFileError, match=message):
        parse_script(source)
