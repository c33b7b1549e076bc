"""Calls that become tasks, for clients that declare the extension."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import jsonschema
import pytest
from mcp import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
)

from perstack.engine import Engine
from perstack.errors import ModelError
from perstack.runtime.ports import GenerationRequest
from perstack.server.caller import TASKS_EXTENSION
from perstack.server.tools.schemas import RESULT_OUTPUT
from perstack.server.tools.wait import WaitPolicy
from tests.engines import TOML, engine_on
from tests.fakes import FakeModel, FakeSkills, Reply, call, calls, done, says
from tests.server.harness import Mode, connected, stage
from tests.server.tasks.client import TaskClient, task_client

pytestmark = pytest.mark.anyio

WORKING: list[Reply] = [calls(call("echo", "c1")), done("late")]
AT_ONCE = WaitPolicy(grace_seconds=0)


@dataclass
class Taking(TaskClient):
    """A client that takes tasks, with what is behind its server."""

    engine: Engine
    model: FakeModel


@asynccontextmanager
async def taking(
    folder: Path,
    replies: list[Reply],
    *,
    skills: FakeSkills | None = None,
    windows: WaitPolicy = AT_ONCE,
    max_steps: int | None = None,
    has_forms: bool = False,
    toml: str = TOML,
    has_real_skills: bool = False,
) -> AsyncGenerator[Taking]:
    model = FakeModel({"reviewer": replies})
    async with (
        engine_on(
            folder,
            model,
            skills=skills,
            max_steps=max_steps,
            toml=toml,
            has_real_skills=has_real_skills,
        ) as engine,
        connected(engine, "auto", windows=windows) as here,
        task_client(here.server, has_forms=has_forms) as there,
    ):
        yield Taking(there.client, engine, model)


async def test_a_call_that_is_not_answered_in_time_becomes_a_task(tmp_path: Path) -> None:
    skills = FakeSkills(gate=anyio.Event())
    async with taking(tmp_path, WORKING, skills=skills) as client:
        created = await client.call("reviewer", query="look")
        working = await client.get(created["taskId"])
        assert skills.gate is not None
        skills.gate.set()
        completed = await client.until(created["taskId"])
    assert created["resultType"] == "task"
    assert created["status"] == "working"
    assert (created["ttlMs"], created["pollIntervalMs"]) == (None, 2000)
    assert working["status"] == "working"
    assert "result" not in working
    assert completed["resultType"] == "complete"
    assert completed["status"] == "completed"
    assert completed["result"]["content"][0]["text"] == "late"
    jsonschema.validate(completed["result"]["structuredContent"], RESULT_OUTPUT)
    assert completed["createdAt"] == created["createdAt"]


async def test_a_call_that_is_answered_in_time_is_no_task(tmp_path: Path) -> None:
    async with taking(tmp_path, [done("now")], windows=WaitPolicy()) as client:
        answer = await client.call("reviewer", query="look")
    assert answer["resultType"] == "complete"
    assert answer["structuredContent"]["text"] == "now"


async def test_a_call_that_cannot_be_begun_is_no_task(tmp_path: Path) -> None:
    async with taking(tmp_path, []) as client:
        answer = await client.call("reviewer", query="look", job_id="nosuchjob")
    assert answer["isError"]
    assert "nosuchjob" in answer["content"][0]["text"]


async def test_the_extension_is_announced(tmp_path: Path) -> None:
    async with stage(tmp_path, "auto", FakeModel({})) as here:
        capabilities = here.client.server_capabilities
    assert capabilities is not None
    assert capabilities.extensions == {TASKS_EXTENSION: {}}


async def test_who_does_not_declare_the_extension_gets_no_task(tmp_path: Path, mode: Mode) -> None:
    skills = FakeSkills(gate=anyio.Event())
    model = FakeModel({"reviewer": WORKING})
    async with stage(tmp_path, mode, model, skills=skills, windows=AT_ONCE) as here:
        answer = await here.call("reviewer", query="look", wait_seconds=0)
        client = TaskClient(here.client)
        with pytest.raises(MCPError) as refused:
            await client.get("anything")
    assert (answer.structured_content or {})["status"] == "running"
    if mode == "legacy":
        assert refused.value.code == METHOD_NOT_FOUND
    else:
        assert refused.value.code == MISSING_REQUIRED_CLIENT_CAPABILITY
        assert refused.value.data == {"requiredCapabilities": {"extensions": {TASKS_EXTENSION: {}}}}


@pytest.mark.parametrize("method", ["tasks/get", "tasks/update", "tasks/cancel"])
@pytest.mark.parametrize("unknown", ["nosuchjob", "nosuchjob.1", "", ".1", "x" * 5000])
async def test_a_task_that_does_not_exist_is_unknown(
    tmp_path: Path, method: str, unknown: str
) -> None:
    async with taking(tmp_path, []) as client:
        with pytest.raises(MCPError) as refused:
            await client.ask(method, unknown, inputResponses={})
    assert refused.value.code == INVALID_PARAMS
    assert refused.value.message == f"There is no task {unknown[:200]!r}."


async def test_a_stretch_that_a_job_has_not_had_is_no_task(tmp_path: Path) -> None:
    async with taking(tmp_path, [done("x")]) as client:
        created = await client.call("reviewer", query="look")
        await client.until(created["taskId"])
        with pytest.raises(MCPError, match="There is no task"):
            await client.get(f"{created['taskId']}.1")


async def test_methods_of_the_older_tasks_are_not_known(tmp_path: Path) -> None:
    async with taking(tmp_path, []) as client:
        for method in ("tasks/result", "tasks/list"):
            with pytest.raises(MCPError) as refused:
                await client.ask(method, "x")
            assert refused.value.code == METHOD_NOT_FOUND


async def test_the_status_message_names_what_happens_and_no_argument(tmp_path: Path) -> None:
    skills = FakeSkills(gate=anyio.Event())
    replies: list[Reply] = [calls(call("echo", "c1", secret="s3cr3t")), done("x")]
    async with taking(tmp_path, replies, skills=skills) as client:
        created = await client.call("reviewer", query="look")
        while not skills.called:
            await anyio.lowlevel.checkpoint()
        working = await client.get(created["taskId"])
    assert working["statusMessage"] == "reviewer · step 1 · echo"


async def test_a_failure_of_the_expert_completes_the_task_as_an_error(tmp_path: Path) -> None:
    failure = ModelError("The key is not accepted.", name="AuthenticationError", provider="x")
    async with taking(tmp_path, [failure]) as client:
        created = await client.call("reviewer", query="look")
        completed = await client.until(created["taskId"])
    assert completed["status"] == "completed"
    assert completed["result"]["isError"]
    assert "The key is not accepted." in completed["result"]["content"][0]["text"]


async def test_steps_that_are_used_up_complete_the_task(tmp_path: Path) -> None:
    replies: list[Reply] = [calls(call("echo", f"c{number}")) for number in range(3)]
    async with taking(tmp_path, replies, max_steps=2) as client:
        created = await client.call("reviewer", query="look")
        completed = await client.until(created["taskId"])
    assert completed["status"] == "completed"
    assert completed["result"]["structuredContent"]["status"] == "max_steps"


async def test_a_follow_up_is_a_task_of_its_own_and_leaves_the_first_as_it_was(
    tmp_path: Path,
) -> None:
    async with taking(tmp_path, [says("one"), says("two")]) as client:
        first = (await client.call("reviewer", query="first"))["taskId"]
        before = await client.until(first)
        second = (await client.call("reviewer", query="second", job_id=first))["taskId"]
        after = await client.until(second)
        again = await client.get(first)
    assert second == f"{first}.1"
    assert again == before
    assert before["result"]["structuredContent"]["text"] == "one"
    assert after["result"]["structuredContent"]["text"] == "two"


async def test_a_job_that_is_tried_again_is_a_new_task(tmp_path: Path) -> None:
    failure = ModelError("Broken.", name="BadGatewayError", provider="x")
    async with taking(tmp_path, [failure, done("better")]) as client:
        first = (await client.call("reviewer", query="look"))["taskId"]
        failed = await client.until(first)
        second = (await client.call("reviewer", job_id=first))["taskId"]
        completed = await client.until(second)
        again = await client.get(first)
    assert failed["result"]["isError"]
    assert again == failed
    assert completed["result"]["structuredContent"]["text"] == "better"


async def test_a_cancelled_task_is_cancelled_for_good(tmp_path: Path) -> None:
    skills = FakeSkills(gate=anyio.Event())
    async with taking(tmp_path, WORKING, skills=skills) as client:
        task = (await client.call("reviewer", query="look"))["taskId"]
        acknowledged = await client.cancel(task)
        cancelled = await client.until(task)
        assert skills.gate is not None
        skills.gate.set()
        resumed = (await client.call("reviewer", job_id=task))["taskId"]
        completed = await client.until(resumed)
        again = await client.get(task)
    assert {"taskId", "status", "result"}.isdisjoint(acknowledged)
    assert acknowledged["resultType"] == "complete"
    assert cancelled["status"] == "cancelled"
    assert "result" not in cancelled
    assert again == cancelled
    assert completed["status"] == "completed"


async def test_a_finished_task_is_not_changed_by_a_cancellation(tmp_path: Path) -> None:
    async with taking(tmp_path, [done("x")]) as client:
        task = (await client.call("reviewer", query="look"))["taskId"]
        before = await client.until(task)
        await client.cancel(task)
        after = await client.get(task)
    assert after == before
    assert after["status"] == "completed"


async def test_any_client_can_ask_for_a_task(tmp_path: Path) -> None:
    skills = FakeSkills(gate=anyio.Event())
    async with (
        engine_on(tmp_path, FakeModel({"reviewer": WORKING}), skills=skills) as engine,
        connected(engine, "auto", windows=AT_ONCE) as here,
        task_client(here.server) as one,
    ):
        task = (await one.call("reviewer", query="look"))["taskId"]
        async with task_client(here.server) as other:
            working = await other.get(task)
            assert skills.gate is not None
            skills.gate.set()
            completed = await other.until(task)
    assert working["status"] == "working"
    assert completed["status"] == "completed"


async def test_a_bug_fails_the_task(tmp_path: Path) -> None:
    def broken(request: GenerationRequest) -> Reply:
        raise RuntimeError(request.expert_key)

    async with (
        engine_on(tmp_path, FakeModel(broken)) as engine,
        connected(engine, "auto", windows=AT_ONCE) as here,
        task_client(here.server) as client,
    ):
        created = await client.call("reviewer", query="look")
        failed = await client.until(created["taskId"])
    assert failed["status"] == "failed"
    assert failed["error"] == {"code": INTERNAL_ERROR, "message": "Internal error: RuntimeError"}
    assert "result" not in failed


async def test_an_expert_that_runs_as_a_task_only_refuses_a_client_without_tasks(
    tmp_path: Path, mode: Mode
) -> None:
    toml = '[experts."long"]\ninstruction = "Work."\ntool.taskSupport = "required"\n'
    async with stage(tmp_path, mode, FakeModel({"long": [done("x")]}), toml=toml) as present:
        with pytest.raises(MCPError) as refused:
            await present.call("long", query="q")
    assert refused.value.code == MISSING_REQUIRED_CLIENT_CAPABILITY
