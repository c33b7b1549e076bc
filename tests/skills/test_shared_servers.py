"""Servers with `scope = "engine"`: one process for all jobs of an engine, and no cross-talk."""

import json
import os
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from opentelemetry import trace

from perstack.core.elicitation import ElicitationReply
from perstack.core.messages import ToolResult
from perstack.definition.model import Definitions, Expert, McpStdioSkill
from perstack.errors import SkillError
from perstack.runtime.ports import Skills
from perstack.skills.context import SkillTimeouts
from perstack.skills.engine_skills import EngineSkills, open_engine_skills
from tests.skills.harness import SERVERS, Recorder, call, expert, is_alive, opened, plain, until

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def engine(
    folder: Path, environment: Mapping[str, str] | None = None, **timeouts: float
) -> AsyncGenerator[EngineSkills]:
    """The skills of an engine."""
    async with open_engine_skills(
        workspace=folder,
        environment={"PATH": os.environ["PATH"], **(environment or {})},
        timeouts=SkillTimeouts(**{"grace_seconds": 0.3, **timeouts}),
    ) as skills:
        yield skills


def definitions_of(*experts: Expert) -> Definitions:
    return Definitions(experts={each.key: each for each in experts})


TESTER = expert(plain=plain(scope="engine"))
ASKER = expert(
    asks=McpStdioSkill(
        type="mcpStdioSkill",
        command=sys.executable,
        args=("-S", "-E", str(SERVERS / "asks.py"), "handshake"),
        scope="engine",
    )
)


async def text_of(skills: Skills, tool: str, tester: Expert = TESTER, **args: Any) -> str:
    """What a tool of the server answers."""
    return (await skills.call(tester, call(tool, **args), "key")).text


async def test_jobs_share_one_process_and_each_is_told_that_it_is_ready(tmp_path: Path) -> None:
    told = [Recorder() for _ in range(20)]
    pids: list[str] = []

    async def job(skills: EngineSkills, recorder: Recorder) -> None:
        async with skills.open_job(definitions_of(TESTER)) as own:
            await own.tools(TESTER, recorder)
            pids.append(await text_of(own, "pid"))

    async with engine(tmp_path) as skills:
        async with anyio.create_task_group() as tasks:
            for recorder in told:
                tasks.start_soon(job, skills, recorder)
        is_kept = is_alive(int(pids[0]))

    assert len(pids) == 20
    assert len(set(pids)) == 1
    assert sum(len(recorder.of("starting")) for recorder in told) == 1
    assert [len(recorder.of("connected")) for recorder in told] == [1] * 20
    assert is_kept
    assert not is_alive(int(pids[0]))


async def test_each_job_has_a_process_of_its_own_by_default(tmp_path: Path) -> None:
    tester = expert(plain=plain())
    pids: set[str] = set()

    async with engine(tmp_path) as skills:
        for _ in range(2):
            async with skills.open_job(definitions_of(tester)) as own:
                await own.tools(tester, Recorder())
                pids.add(await text_of(own, "pid", tester))

    assert len(pids) == 2


async def test_without_an_engine_the_scope_is_the_job(tmp_path: Path) -> None:
    async with opened(tmp_path) as skills:
        await skills.tools(TESTER, Recorder())
        pid = int(await text_of(skills, "pid"))

    assert not is_alive(pid)


async def test_engines_share_nothing_and_each_has_its_environment(tmp_path: Path) -> None:
    tester = expert(plain=plain(scope="engine", required_env=("REGION",)))
    seen: list[dict[str, str]] = []
    pids: set[str] = set()
    async with engine(tmp_path, {"REGION": "a"}) as one, engine(tmp_path, {"REGION": "b"}) as two:
        for skills in (one, two):
            async with skills.open_job(definitions_of(tester)) as own:
                await own.tools(tester, Recorder())
                seen.append(json.loads(await text_of(own, "env", tester)))
                pids.add(await text_of(own, "pid", tester))

    assert [variables["REGION"] for variables in seen] == ["a", "b"]
    assert len(pids) == 2


async def test_calls_at_once_carry_the_key_and_the_trace_of_their_own_job(tmp_path: Path) -> None:
    seen: dict[int, dict[str, Any]] = {}

    async def job(skills: EngineSkills, number: int) -> None:
        parent = trace.SpanContext(
            number, number + 100, is_remote=False, trace_flags=trace.TraceFlags(1)
        )
        async with skills.open_job(definitions_of(TESTER)) as own:
            with trace.use_span(trace.NonRecordingSpan(parent)):
                await own.tools(TESTER, Recorder())
                result = await own.call(TESTER, call("meta"), f"key {number}")
        seen[number] = json.loads(result.text)

    async with engine(tmp_path) as skills, anyio.create_task_group() as tasks:
        for number in range(1, 11):
            tasks.start_soon(job, skills, number)

    for number, meta in seen.items():
        assert meta["perstack/idempotencyKey"] == f"key {number}"
        assert meta["traceparent"].split("-")[1:3] == [f"{number:032x}", f"{number + 100:016x}"]


async def test_a_job_that_is_cancelled_cancels_its_own_call_only(tmp_path: Path) -> None:
    results: list[ToolResult] = []
    while_waiting: list[dict[str, Any]] = []

    async def wait(own: Skills) -> None:
        results.append(await own.call(TESTER, call("wait"), "key"))

    async with engine(tmp_path, call_seconds=0.6) as skills:
        jobs = definitions_of(TESTER)
        async with skills.open_job(jobs) as one, skills.open_job(jobs) as two:
            await one.tools(TESTER, Recorder())
            await two.tools(TESTER, Recorder())
            async with anyio.create_task_group() as others:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(wait, one)
                    await until((tmp_path / "waiting").exists)
                    (tmp_path / "waiting").unlink()
                    others.start_soon(wait, two)
                    await until((tmp_path / "waiting").exists)
                    tasks.cancel_scope.cancel()
                while_waiting += json.loads(await text_of(two, "cancelled"))

    assert [notice["reason"] for notice in while_waiting] == ["caller cancelled"]
    (late,) = results
    assert "did not answer within" in late.text


async def test_a_job_that_ends_while_the_server_starts_leaves_it_to_the_others(
    tmp_path: Path,
) -> None:
    first, second = Recorder(), Recorder()
    jobs = definitions_of(TESTER)
    async with engine(tmp_path) as skills, skills.open_job(jobs) as two:
        async with skills.open_job(jobs) as one, anyio.create_task_group() as tasks:
            tasks.start_soon(one.tools, TESTER, first)
            await until(lambda: bool(first.of("starting")))
            tasks.cancel_scope.cancel()
        told_before = len(first.events)
        await two.tools(TESTER, second)
        pid = await text_of(two, "pid")

    assert pid.isdigit()
    assert second.of("starting") == []
    assert len(second.of("connected")) == 1
    assert [event[0] for event in first.events[told_before:]] == []


async def test_a_server_that_died_is_started_again_once_for_all(tmp_path: Path) -> None:
    one_told, two_told = Recorder(), Recorder()
    jobs = definitions_of(TESTER)
    async with engine(tmp_path) as skills:
        async with skills.open_job(jobs) as one, skills.open_job(jobs) as two:
            await one.tools(TESTER, one_told)
            await two.tools(TESTER, two_told)
            before = await text_of(one, "pid")
            dying = await text_of(one, "die")
            await until(lambda: bool(two_told.of("disconnected")))
            after = {await text_of(one, "pid"), await text_of(two, "pid")}
        async with skills.open_job(jobs) as three:
            await three.tools(TESTER, Recorder())
            after.add(await text_of(three, "pid"))

    assert "ended or became unreachable" in dying
    assert len(after) == 1
    assert before not in after
    assert one_told.of("disconnected")


async def test_a_server_that_cannot_start_fails_each_job_and_is_tried_again(tmp_path: Path) -> None:
    broken = expert(plain=plain("complain", scope="engine"))
    failures: list[str] = []

    async def job(skills: EngineSkills) -> None:
        async with skills.open_job(definitions_of(broken)) as own:
            try:
                await own.tools(broken, Recorder())
            except SkillError as error:
                failures.append(str(error))

    async with engine(tmp_path) as skills:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(job, skills)
        await job(skills)

    assert len(failures) == 4
    assert all("cannot be used" in failure for failure in failures)


async def test_the_only_job_that_calls_is_asked(tmp_path: Path) -> None:
    one_told, two_told = Recorder(), Recorder()
    two_told.replies = [ElicitationReply(action="accept", content={"sure": True})]
    jobs = definitions_of(ASKER)
    async with (
        engine(tmp_path) as skills,
        skills.open_job(jobs) as one,
        skills.open_job(jobs) as two,
    ):
        await two.tools(ASKER, two_told)
        await one.tools(ASKER, one_told)
        result = await two.call(ASKER, call("ask", "asks"), "key")

    assert json.loads(result.text)["action"] == "accept"
    assert len(two_told.of("asked")) == 1
    assert one_told.of("asked") == []


class SlowUser(Recorder):
    """A user who answers when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = anyio.Event()
        self.may_answer = anyio.Event()

    async def elicit(
        self, skill_name: str, message: str, schema: dict[str, Any]
    ) -> ElicitationReply:
        self.asked.set()
        await self.may_answer.wait()
        return await super().elicit(skill_name, message, schema)


async def test_a_question_while_several_jobs_call_is_put_to_none_of_them(tmp_path: Path) -> None:
    slow, other = SlowUser(), Recorder()
    slow.replies = other.replies = [ElicitationReply(action="accept", content={"sure": True})]
    results: dict[str, ToolResult] = {}
    jobs = definitions_of(ASKER)

    async def ask(name: str, own: Skills) -> None:
        results[name] = await own.call(ASKER, call("ask", "asks"), "key")

    async with (
        engine(tmp_path) as skills,
        skills.open_job(jobs) as one,
        skills.open_job(jobs) as two,
    ):
        await one.tools(ASKER, slow)
        await two.tools(ASKER, other)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, "one", one)
            await slow.asked.wait()
            await ask("two", two)
            slow.may_answer.set()

    refused = json.loads(results["two"].text)
    assert refused["action"] == "cancel"
    assert "names none of them" in refused["_meta"]["perstack/reason"]
    assert other.of("asked") == []
    assert json.loads(results["one"].text)["action"] == "accept"


async def test_a_modern_server_asks_the_job_that_calls_however_many_do(tmp_path: Path) -> None:
    modern = ASKER.skills["asks"].model_copy(
        update={"args": ("-S", "-E", str(SERVERS / "asks.py"), "modern")}
    )
    asker = expert(asks=modern)
    told = [Recorder() for _ in range(5)]
    answers: list[Any] = []

    async def job(skills: EngineSkills, number: int) -> None:
        recorder = told[number]
        recorder.replies = [ElicitationReply(action="accept", content={"sure": number})]
        async with skills.open_job(definitions_of(asker)) as own:
            await own.tools(asker, recorder)
            result = await own.call(asker, call("ask", "asks", message=f"{number}?"), "key")
        answers.append((number, json.loads(result.text)["content"]["sure"]))

    async with engine(tmp_path) as skills, anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(job, skills, number)

    assert sorted(answers) == [(number, number) for number in range(5)]
    for number, recorder in enumerate(told):
        assert [event[2] for event in recorder.of("asked")] == [f"asks asks: {number}?"]


async def test_a_question_is_withdrawn_when_its_job_is_cancelled(tmp_path: Path) -> None:
    slow, other = SlowUser(), Recorder()
    jobs = definitions_of(ASKER)
    async with (
        engine(tmp_path) as skills,
        skills.open_job(jobs) as one,
        skills.open_job(jobs) as two,
    ):
        await one.tools(ASKER, slow)
        await two.tools(ASKER, other)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.call, ASKER, call("ask", "asks"), "key")
            await slow.asked.wait()
            tasks.cancel_scope.cancel()
        other.replies = [ElicitationReply(action="accept", content={"sure": False})]
        result = await two.call(ASKER, call("ask", "asks"), "key")

    assert slow.of("asked") == []
    assert json.loads(result.text)["content"] == {"sure": False}


async def test_the_question_of_one_job_does_not_stop_the_time_of_another(tmp_path: Path) -> None:
    slow, late = SlowUser(), list[ToolResult]()
    jobs = definitions_of(ASKER)
    async with (
        engine(tmp_path, call_seconds=0.3) as skills,
        skills.open_job(jobs) as one,
        skills.open_job(jobs) as two,
    ):
        await one.tools(ASKER, slow)
        await two.tools(ASKER, Recorder())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.call, ASKER, call("ask", "asks"), "key")
            await slow.asked.wait()
            with anyio.fail_after(20):
                late.append(await two.call(ASKER, call("hang", "asks"), "key"))
            tasks.cancel_scope.cancel()

    assert "did not answer within" in late[0].text


async def test_a_server_of_an_older_definition_ends_with_its_last_job(tmp_path: Path) -> None:
    other = expert(plain=plain("name=other", scope="engine"))
    async with engine(tmp_path) as skills:
        async with skills.open_job(definitions_of(TESTER)) as one:
            await one.tools(TESTER, Recorder())
            pid = int(await text_of(one, "pid"))
            async with skills.open_job(definitions_of(other)) as two:
                await two.tools(other, Recorder())
            is_kept = is_alive(pid)
        await until(lambda: not is_alive(pid))

    assert is_kept
