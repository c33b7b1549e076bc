"""Servers that ask the user in the middle of a call, in both eras of the protocol."""

import json
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from perstack.core.elicitation import ElicitationReply
from perstack.core.messages import ToolResult
from perstack.definition.model import McpStdioSkill
from tests.skills.harness import SERVERS, Recorder, call, expert, opened

pytestmark = pytest.mark.anyio

YES = ElicitationReply(action="accept", content={"sure": True})


@pytest.fixture(params=["handshake", "modern"])
def era(request: pytest.FixtureRequest) -> str:
    """How the server speaks."""
    return request.param


def asks(era: str) -> McpStdioSkill:
    """A skill backed by the server that asks."""
    args = ("-S", "-E", str(SERVERS / "asks.py"), era)
    return McpStdioSkill(type="mcpStdioSkill", command=sys.executable, args=args)


async def call_with_answers(
    folder: Path, era: str, told: Recorder, tool: str = "ask", *, seconds: float = 30, **args: Any
) -> ToolResult:
    """What a tool of the server comes to."""
    tester = expert(asks=asks(era))
    async with opened(folder, call_seconds=seconds) as skills:
        await skills.tools(tester, told)
        return await skills.call(tester, call(tool, "asks", **args), "key")


async def test_the_user_is_asked_in_the_servers_name_and_the_call_goes_on_with_the_answer(
    tmp_path: Path, era: str
) -> None:
    told = Recorder()
    told.replies = [YES]

    result = await call_with_answers(tmp_path, era, told, message="Delete\x1b[2J it?")

    assert json.loads(result.text) == {"action": "accept", "content": {"sure": True}}
    _, skill, message, schema = told.of("asked")[0]
    assert (skill, message) == ("asks", "asks asks: Delete[2J it?")
    assert schema == {
        "type": "object",
        "properties": {"sure": {"type": "boolean"}},
        "required": ["sure"],
    }


@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_a_refusal_reaches_the_server(tmp_path: Path, era: str, action: Any) -> None:
    told = Recorder()
    told.replies = [ElicitationReply(action=action)]

    result = await call_with_answers(tmp_path, era, told)

    assert json.loads(result.text) == {"action": action}


async def test_a_server_may_ask_again(tmp_path: Path, era: str) -> None:
    told = Recorder()
    told.replies = [YES, ElicitationReply(action="accept", content={"sure": False})]

    result = await call_with_answers(tmp_path, era, told, "ask_twice")

    answers = [answer["content"] for answer in json.loads(result.text)]
    assert answers == [{"sure": True}, {"sure": False}]


@pytest.mark.parametrize(
    ("field", "why"),
    [
        ({"password": {"type": "string"}}, "asks for a secret (field 'password')"),
        ({"githubToken": {"type": "string"}}, "asks for a secret (field 'githubToken')"),
        ({"value": {"type": "string", "title": "API key"}}, "asks for a secret (field 'value')"),
        ({"value": {"type": "string", "format": "password"}}, "asks for a secret (field 'value')"),
        ({"address": {"type": "object"}}, "field 'address' has no type that a form can have"),
    ],
)
async def test_a_form_that_must_not_be_shown_is_declined_with_the_reason(
    tmp_path: Path, field: dict[str, Any], why: str
) -> None:
    told = Recorder()
    told.replies = [YES]
    schema = {"type": "object", "properties": field}

    result = await call_with_answers(tmp_path, "handshake", told, schema=schema)

    answer = json.loads(result.text)
    assert answer["action"] == "decline"
    assert why in answer["_meta"]["perstack/reason"]
    assert why in told.lines()
    assert told.of("asked") == []


async def test_a_page_is_named_to_the_user_and_not_opened(tmp_path: Path, era: str) -> None:
    told = Recorder()
    told.replies = [ElicitationReply(action="accept", content={"done": True})]

    result = await call_with_answers(tmp_path, era, told, "ask_page", message="Sign in.")

    assert json.loads(result.text) == {"action": "accept"}
    _, _, message, schema = told.of("asked")[0]
    assert message == "asks asks: Sign in.\nPage to open: https://example.com/sign-in"
    assert schema["required"] == ["done"]


@pytest.mark.parametrize("url", ["javascript:alert(1)", "file:///etc/passwd", "https:///nowhere"])
async def test_what_is_no_page_is_declined(tmp_path: Path, url: str) -> None:
    told = Recorder()
    told.replies = [ElicitationReply(action="accept", content={"done": True})]

    result = await call_with_answers(tmp_path, "handshake", told, "ask_page", url=url)

    assert json.loads(result.text)["action"] == "decline"
    assert told.of("asked") == []


async def test_a_page_that_was_not_visited_is_a_refusal(tmp_path: Path, era: str) -> None:
    told = Recorder()
    told.replies = [ElicitationReply(action="accept", content={"done": False})]

    result = await call_with_answers(tmp_path, era, told, "ask_page")

    assert json.loads(result.text) == {"action": "decline"}


@pytest.mark.parametrize(
    ("is_done", "said"), [(True, '"signed in"'), (False, "Error calling tool page_first: sign in")]
)
async def test_a_page_that_must_be_visited_first_is_put_to_the_user_and_the_call_made_again(
    tmp_path: Path, is_done: bool, said: str
) -> None:
    told = Recorder()
    told.replies = [ElicitationReply(action="accept", content={"done": is_done})]

    result = await call_with_answers(tmp_path, "handshake", told, "page_first")

    assert said in result.text
    assert result.is_error is not is_done
    assert len(told.of("asked")) == 1


async def test_the_time_that_the_user_takes_is_not_the_servers(tmp_path: Path, era: str) -> None:
    class Slow(Recorder):
        async def asked(
            self, skill_name: str, message: str, schema: dict[str, Any]
        ) -> ElicitationReply:
            await anyio.sleep(0.4)
            return YES

    result = await call_with_answers(tmp_path, era, Slow(), seconds=0.2)

    assert not result.is_error


async def test_what_no_user_can_give_is_an_error_for_the_model(tmp_path: Path) -> None:
    result = await call_with_answers(tmp_path, "modern", Recorder(), "ask_model")

    assert result.is_error
    assert "it asks for more than a user can answer" in result.text
