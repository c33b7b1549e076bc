"""Jobs at once with a skill of scope `engine`: one process, and each job gets its own answers."""

import json
import os
import sys
from pathlib import Path

import anyio
import pytest

from perstack.core.events import RecordToolResult
from perstack.runtime.start_plan import JobRequest
from tests.engines import engine_on
from tests.skills.harness import PLAIN, is_alive

pytestmark = pytest.mark.anyio

JOBS = 100
TOML = f"""
[provider]
providerName = "scripted"
[provider.setting]
script = "script.toml"

[experts.echo]
instruction = "Say it again."
[experts.echo.skills.plain]
type = "mcpStdioSkill"
command = {json.dumps(sys.executable)}
args = ["-S", "-E", {json.dumps(str(PLAIN))}]
scope = "engine"
"""
SCRIPT = """
[[experts.echo]]
toolCalls = [{ name = "echo", args = { text = "{{query}}" } }, { name = "pid", args = {} }]
[[experts.echo]]
toolCalls = [{ name = "meta", args = {} }]
[[experts.echo]]
text = "{{lastToolResult}}"
"""


async def test_a_hundred_jobs_share_a_process_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "script.toml").write_text(SCRIPT, encoding="utf-8")
    environment = {"PATH": os.environ["PATH"]}
    echoed: dict[str, str] = {}
    pids: set[str] = set()
    keys: set[str] = set()

    async with engine_on(
        tmp_path, None, toml=TOML, has_real_skills=True, environment=environment
    ) as engine:

        async def one(number: int) -> None:
            job = await engine.start(JobRequest(expert_key="echo", query=f"query {number}"))
            view = await job.wait()
            results = [
                recorded.event.tool_result.text
                for recorded in await engine.history(view.job.id)
                if isinstance(recorded.event, RecordToolResult)
            ]
            assert view.job.status == "completed"
            text, pid = sorted(results[:2], key=str.isdigit)
            echoed[f"query {number}"] = text
            pids.add(pid)
            keys.add(json.loads(view.text)["perstack/idempotencyKey"])

        async with anyio.create_task_group() as tasks:
            for number in range(JOBS):
                tasks.start_soon(one, number)

    assert len(echoed) == JOBS
    assert all(query == text for query, text in echoed.items())
    assert len(keys) == JOBS
    assert len(pids) == 1
    assert not is_alive(int(pids.pop()))
