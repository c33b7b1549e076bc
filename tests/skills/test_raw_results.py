"""A result reaches the model whatever the protocol says about its form."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from perstack.definition.model import McpSseSkill, McpStdioSkill
from tests.skills.harness import SERVERS, Recorder, call, expert, opened
from tests.skills.scripted_http import Reply, scripted_http

pytestmark = pytest.mark.anyio

RAW = McpStdioSkill(
    type="mcpStdioSkill", command=sys.executable, args=("-S", "-E", str(SERVERS / "raw.py"))
)


@pytest.mark.parametrize("era", [{}, {"is_modern": True}])
@pytest.mark.parametrize(
    ("result", "text", "is_error"),
    [
        ({"toolResult": {"rows": 3}}, '{"toolResult": {"rows": 3}}', False),
        ({"content": "saved"}, "saved", False),
        ({"content": [{"type": "text", "text": "no"}, {"type": 5}], "isError": True}, "no", True),
        ({"content": [{"type": "image", "data": 5}], "isError": "true"}, "image", True),
        ({"structuredContent": [1], "content": []}, "[1]", False),
        ({"content": [{"type": "text", "text": "a"}], "_meta": "odd", "ttlMs": "x"}, "a", False),
        ({"content": [{"type": "text", "text": "a"}], "resultType": 7}, "a", False),
        ({"content": [{"type": "text", "text": "a"}], "resultType": "task"}, "a", False),
        ({"content": [json.loads("[" * 150 + "7" + "]" * 150)]}, "[[7]]", False),
    ],
)
async def test_a_call_that_took_effect_does_not_look_refused(
    tmp_path: Path, result: dict[str, Any], text: str, is_error: bool, era: dict[str, Any]
) -> None:
    facts = json.dumps({"result": result, **era})
    (tmp_path / "raw.json").write_text(facts, encoding="utf-8")
    tester = expert(raw=RAW)

    async with opened(tmp_path) as skills:
        await skills.tools(tester, Recorder())
        answer = await skills.call(tester, call("look", skill_name="raw"), "key")
        again = await skills.call(tester, call("look", skill_name="raw"), "key")

    assert text in answer.text
    assert answer.is_error is is_error
    assert again == answer


@pytest.mark.parametrize("path", ["/mcp", "/sse"])
async def test_a_result_over_http_is_read_as_it_is(tmp_path: Path, path: str) -> None:
    result = {"content": [{"type": "text", "text": "saved"}, {"type": "odd"}], "isError": "true"}
    body = f'{{"jsonrpc": "2.0", "id": ID, "result": {json.dumps(result)}}}'
    with scripted_http({"look": [Reply(body)]}) as script:
        skill = McpSseSkill(
            type="mcpSseSkill", endpoint=f"{script.origin}{path}", allow_private=True
        )
        tester = expert(remote=skill)
        async with opened(tmp_path) as skills:
            await skills.tools(tester, Recorder())
            answer = await skills.call(tester, call("look", skill_name="remote"), "key")

    assert answer.text == 'saved\n[content of type odd] {"type": "odd"}'
    assert answer.is_error


async def test_a_long_line_of_stderr_says_how_much_is_left_out(tmp_path: Path) -> None:
    facts = {"stderr": f"short\n{'x' * 5_000}\n"}
    (tmp_path / "raw.json").write_text(json.dumps(facts), encoding="utf-8")
    told = Recorder()

    async with opened(tmp_path) as skills:
        await skills.tools(expert(raw=RAW), told)

    assert told.lines() == f"short\n{'x' * 2_000} (and 3,000 more characters)"
