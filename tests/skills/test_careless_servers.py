"""Stdio skills whose messages are not quite JSON-RPC."""

import json
import os
import sys
from pathlib import Path

import pytest

from perstack.definition.model import McpStdioSkill
from perstack.errors import SkillError
from tests.skills.harness import SERVERS, Recorder, call, expert, opened

pytestmark = pytest.mark.anyio


def careless(**answers: str) -> McpStdioSkill:
    """A skill whose server answers methods, with `_` for `/`, by these bytes."""
    methods = {method.replace("_", "/"): answer for method, answer in answers.items()}
    args = ("-S", "-E", str(SERVERS / "careless.py"), json.dumps(methods))
    return McpStdioSkill(type="mcpStdioSkill", command=sys.executable, args=args)


@pytest.mark.parametrize(
    ("answer", "text", "is_error"),
    [
        (
            '{"jsonrpc":"2.0","id":ID,"result":{"content":[{"type":"text","text":"caf\xe9"}]}}\n',
            "caf\ufffd",
            False,
        ),
        (
            'Loading... {"id":ID,"result":{"content":[{"type":"text","text":"a\tb"}]}}\n',
            "a\tb",
            False,
        ),
        (
            '{"jsonrpc":"2.0","id":ID,"result":{"content":[{"type":"text","text":"unended"}]}}',
            "unended",
            False,
        ),
        (
            '{"jsonrpc":"2.0","id":ID,"error":{"code":"E","message":"in the past"}}\n',
            "Error calling tool look: E: in the past",
            True,
        ),
        (
            '{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"no\\nmemory"}}\n',
            "Error calling tool look: no\nmemory",
            True,
        ),
        (
            '{"jsonrpc":"2.0","id":ID,"error":{"code":-32000,"message":"Connection closed"}}\n',
            "Error calling tool look: Connection closed",
            True,
        ),
    ],
)
async def test_an_answer_that_is_not_quite_json_rpc_is_taken_and_the_server_is_kept(
    tmp_path: Path, answer: str, text: str, is_error: bool
) -> None:
    tester, told = expert(plain=careless(tools_call=answer)), Recorder()

    async with opened(tmp_path) as skills:
        await skills.tools(tester, told)
        result = await skills.call(tester, call("look"), "key")
        after = await skills.call(tester, call("echo"), "key")

    assert (result.text, result.is_error) == (text, is_error)
    assert after.text == "well"
    assert len(told.of("starting")) == 1


async def test_an_answer_that_is_cut_fails_its_call_alone(tmp_path: Path) -> None:
    cut = '{"jsonrpc":"2.0","id":ID,"result":{"content":[{"type":"text","te\n'
    tester, told = expert(plain=careless(tools_call=cut)), Recorder()

    async with opened(tmp_path) as skills:
        await skills.tools(tester, told)
        result = await skills.call(tester, call("look"), "key")
        after = await skills.call(tester, call("echo"), "key")

    assert result.is_error
    assert "its answer cannot be read" in result.text
    assert '"content":[{"type":"text","te' in result.text
    assert after.text == "well"
    assert len(told.of("starting")) == 1


@pytest.mark.parametrize("method", ["initialize", "tools_list"])
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ('{"jsonrpc":"2.0","id":ID,"error":{"code":"E","message":"no licence"}}\n', "no licence"),
        ('{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"no licence"}}\n', "no licence"),
        ('{"jsonrpc":"2.0","id":ID,"result":{"too": "late"\n', "its answer cannot be read"),
        ('{"jsonrpc":"2.0","id":ID,"result":"nothing"}\n', "not an object"),
    ],
)
async def test_a_broken_answer_at_the_start_fails_the_skill_with_the_servers_words(
    tmp_path: Path, method: str, answer: str, words: str
) -> None:
    async with opened(tmp_path) as skills:
        with pytest.raises(SkillError, match=words):
            await skills.tools(expert(plain=careless(**{method: answer})), Recorder())


async def test_a_server_that_replies_to_notifications_is_usable(tmp_path: Path) -> None:
    reply = '{"jsonrpc":"2.0","id":null,"error":{"code":-32601,"message":"Method not found"}}\n'
    skill = careless(notifications_initialized=reply)

    async with opened(tmp_path) as skills:
        tools = await skills.tools(expert(plain=skill), Recorder())

    assert {"look", "echo"} <= {tool.name for tool in tools}


def asked(tmp_path: Path) -> list[str]:
    """The methods that the server was asked for since the last look."""
    notes = tmp_path / "methods.txt"
    methods = notes.read_text(encoding="utf-8").split()
    notes.unlink()
    return methods


async def test_a_server_that_ignores_the_newer_protocol_is_asked_for_it_once(
    tmp_path: Path,
) -> None:
    tester = expert(plain=careless(server_discover=""))
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}

    async with opened(tmp_path, environment, start_seconds=8) as skills:
        await skills.tools(tester, Recorder())
    first = asked(tmp_path)
    async with opened(tmp_path, environment) as skills:
        await skills.tools(tester, Recorder())

    assert first[:2] == ["server/discover", "initialize"]
    assert asked(tmp_path)[0] == "initialize"


async def test_a_server_that_no_longer_knows_the_older_handshake_is_asked_for_the_newer(
    tmp_path: Path,
) -> None:
    environment = {"PATH": os.environ["PATH"], "XDG_CACHE_HOME": str(tmp_path / "cache")}
    refusal = '{"jsonrpc":"2.0","id":ID,"error":{"code":-32601,"message":"Method not found"}}\n'
    newer = (
        '{"jsonrpc":"2.0","id":ID,"result":{"resultType":"complete","ttlMs":0,'
        '"cacheScope":"public","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}}\n'
    )
    modes = {"initialize": refusal, "server/discover": newer}
    mode_file = tmp_path / "modes.json"
    skill = McpStdioSkill(
        type="mcpStdioSkill",
        command=sys.executable,
        args=("-S", "-E", str(SERVERS / "careless.py"), f"@{mode_file}"),
    )
    mode_file.write_text(json.dumps({"server/discover": ""}), encoding="utf-8")
    async with opened(tmp_path, environment) as skills:
        await skills.tools(expert(plain=skill), Recorder())
    asked(tmp_path)

    mode_file.write_text(json.dumps(modes), encoding="utf-8")
    for methods in (["initialize", "server/discover"], ["server/discover", "tools/list"]):
        async with opened(tmp_path, environment) as skills:
            await skills.tools(expert(plain=skill), Recorder())
        assert asked(tmp_path)[:2] == methods


async def test_a_cache_that_cannot_be_read_or_written_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "perstack").touch()
    environment = {"PATH": os.environ["PATH"], "XDG_CACHE_HOME": str(tmp_path)}

    async with opened(tmp_path, environment) as skills:
        tools = await skills.tools(expert(plain=careless(server_discover="")), Recorder())

    assert tools
