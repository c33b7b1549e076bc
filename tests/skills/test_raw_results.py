"""A result reaches the model whatever the protocol says about its form."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from perstack.definition.model import McpStdioSkill
from tests.skills.harness import SERVERS, Recorder, call, expert, opened

pytestmark = pytest.mark.anyio

RAW = McpStdioSkill(
    type="mcpStdioSkill", command=sys.executable, args=("-S", "-E", str(SERVERS / "raw.py"))
)


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
    ],
)
async def test_a_call_that_took_effect_does_not_look_refused(
    tmp_path: Path, result: dict[str, Any], text: str, is_error: bool
) -> None:
    (tmp_path / "raw.json").write_text(json.dumps({"result": result}), encoding="utf-8")
    tester = expert(raw=RAW)

    async with opened(tmp_path) as skills:
        await skills.tools(tester, Recorder())
        answer = await skills.call(tester, call("look", skill_name="raw"), "key")
        again = await skills.call(tester, call("look", skill_name="raw"), "key")

    assert text in answer.text
    assert answer.is_error is is_error
    assert again == answer
