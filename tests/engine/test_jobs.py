"""Jobs as faces use them: begin, wait, cancel, continue, answer, branch, join."""

from functools import partial
from pathlib import Path

import anyio
import pytest

from perstack.core.checkpoint import Checkpoint
from perstack.core.transient_events import PerstackEvent
from perstack.errors import ConfigError, JobStateError, NotFoundError, UnknownExpertError
from perstack.jobs import JobHandle
from perstack.runtime.answers import InteractiveAnswer
from perstack.runtime.ports import GenerationRequest
from perstack.runtime.start_plan import JobRequest
from perstack.store.memory import MemoryStore
from tests.engines import engine_on
from tests.fakes import (
    FakeModel,
    FakeSkills,
    HurriedClock,
    Reply,
    call,
    calls,
    done,
    says,
)
from tests.server.harness import until_called
from tests.store.sample_job import RunStory

pytestmark = pytest.mark.anyio

TOML = """
[experts."a"]
instruction = "Work."
delegates = ["@a/x"]

[experts."@a/x"]
description = "Helps."
instruction = "Help."

[experts."b"]
instruction = "Work too."
"""


engine_of = partial(engine_on, toml=TOML, is_attended=False)


async def test_a_job_runs_to_its_answer(tmp_path: Path) -> None:
    async with engine_of(tmp_path, FakeModel({"a": [done("42")]})) as engine:
        job = await engine.start(JobRequest(expert_key="a", query="the answer?"))
        view = await job.wait()
        stored = await engine.job(job.job_id)
    assert (view.job.status, view.text) == ("completed", "42")
    assert (stored.job.status, stored.text, stored.job.query) == ("completed", "42", "the answer?")


async def test_a_job_goes_on_when_nobody_waits_any_more(tmp_path: Path) -> None:
    skills = FakeSkills(gate=anyio.Event())
    model = FakeModel({"a": [calls(call("echo", "c1")), done("late")]})
    async with engine_of(tmp_path, model, skills=skills) as engine:
        job = await engine.start(JobRequest(expert_key="a", query="q"))
        early = await job.wait(0)
        assert early.job.status == "running"
        assert skills.gate is not None
        skills.gate.set()
        again = await engine.start(JobRequest(job_id=job.job_id))
        assert again is job
        assert (await again.wait()).text == "late"


async def test_a_running_job_takes_no_new_query(tmp_path: Path) -> None:
    skills = FakeSkills(gate=anyio.Event())
    model = FakeModel({"a": [calls(call("echo", "c1"))]})
    async with engine_of(tmp_path, model, skills=skills) as engine:
        job = await engine.start(JobRequest(expert_key="a", query="q"))
        with pytest.raises(JobStateError):
            await engine.start(JobRequest(job_id=job.job_id, query="something else"))


async def test_a_cancelled_job_is_resumed_by_its_id(tmp_path: Path) -> None:
    skills = FakeSkills(gate=anyio.Event())
    model = FakeModel({"a": [calls(call("echo", "c1")), done("done")]})
    async with engine_of(tmp_path, model, skills=skills) as engine:
        job = await engine.start(JobRequest(expert_key="a", query="q"))
        while not skills.called:
            await anyio.lowlevel.checkpoint()
        cancelled = await engine.cancel(job.job_id, "enough")
        assert cancelled.job.status == "stoppedByCancellation"
        assert skills.gate is not None
        skills.gate.set()
        resumed = await (await engine.start(JobRequest(job_id=job.job_id))).wait()
    assert (resumed.job.status, resumed.text) == ("completed", "done")
    assert "effect is unknown" in str(model.requests[-1].messages[-1])


async def test_a_job_that_is_just_being_stopped_goes_on_for_who_wants_it_to(
    tmp_path: Path,
) -> None:
    skills = FakeSkills(gate=anyio.Event())
    model = FakeModel({"a": [calls(call("echo", "c1")), done("done")]})
    async with engine_of(tmp_path, model, skills=skills) as engine:
        job = await engine.start(JobRequest(expert_key="a", query="q"))
        while not skills.called:
            await anyio.lowlevel.checkpoint()
        job.cancel("enough")
        assert skills.gate is not None
        skills.gate.set()
        again = await engine.start(JobRequest(job_id=job.job_id))
        resumed = await again.wait()
    assert again is not job
    assert (resumed.job.status, resumed.text) == ("completed", "done")


async def test_a_follow_up_comes_in_time_as_soon_as_the_store_knows_the_end(
    tmp_path: Path,
) -> None:
    model = FakeModel({"a": [done("one"), done("two")]})
    ends: list[str] = []
    started: list[JobHandle] = []
    texts: list[str] = []
    async with engine_of(tmp_path, model) as engine, anyio.create_task_group() as tasks:

        async def follow(job_id: str) -> None:
            started.append(await engine.start(JobRequest(job_id=job_id, query="more")))

        def hear(_event: PerstackEvent, checkpoint: Checkpoint | None) -> None:
            if checkpoint is not None and checkpoint.status == "completed" and not ends:
                ends.append(checkpoint.status)
                tasks.start_soon(follow, checkpoint.job_id)

        await (await engine.start(JobRequest(expert_key="a", query="q"), hear)).wait()
        with anyio.fail_after(30):
            while not started:
                await anyio.lowlevel.checkpoint()
        texts += [(await job.wait()).text for job in started]
    assert texts == ["two"]


async def test_the_end_of_the_engine_stops_its_jobs_and_another_engine_resumes_them(
    tmp_path: Path,
) -> None:
    store = MemoryStore()
    skills = FakeSkills(gate=anyio.Event())
    async with engine_of(
        tmp_path, FakeModel({"a": [calls(call("look", "c1"))]}), store=store, skills=skills
    ) as engine:
        job = await engine.start(JobRequest(expert_key="a", query="q"))
        while not skills.called:
            await anyio.lowlevel.checkpoint()
    async with engine_of(tmp_path, FakeModel({"a": [done("ok")]}), store=store) as engine:
        view = await (await engine.start(JobRequest(job_id=job.job_id))).wait()
    assert view.text == "ok"


async def test_a_follow_up_carries_the_whole_conversation(tmp_path: Path) -> None:
    model = FakeModel({"a": [says("first"), says("second")]})
    async with engine_of(tmp_path, model) as engine:
        job = await engine.start(JobRequest(expert_key="a", query="one"))
        await job.wait()
        again = await engine.start(JobRequest(job_id=job.job_id, query="two"))
        view = await again.wait()
    assert (view.text, len(view.runs)) == ("second", 2)
    assert [message.type for message in model.requests[1].messages] == [
        "instructionMessage",
        "userMessage",
        "expertMessage",
        "userMessage",
    ]


async def test_an_older_checkpoint_begins_a_branch_that_leaves_the_trunk_alone(
    tmp_path: Path,
) -> None:
    model = FakeModel({"a": [calls(call("echo", "c1")), done("trunk"), done("branch")]})
    async with engine_of(tmp_path, model) as engine:
        job = await engine.start(JobRequest(expert_key="a", query="one"))
        trunk = await job.wait()
        early = f"{trunk.checkpoint.run_id}-7"
        view = await (await engine.start(JobRequest(job_id=job.job_id, checkpoint_id=early))).wait()
    assert view.text == "branch"
    assert view.runs[0].text == "trunk"
    assert view.checkpoint.parent_id == early


async def test_a_branch_from_a_delegation_gives_its_delegates_runs_of_their_own(
    tmp_path: Path,
) -> None:
    model = FakeModel(
        {
            "a": [
                calls(call("x", "d1", query="one"), call("x", "d2", query="two")),
                done("trunk"),
                done("from the stop"),
                done("from the call"),
            ],
            "@a/x": [done("1"), done("2"), done("3"), done("4"), done("5"), done("6")],
        }
    )
    async with engine_of(tmp_path, model) as engine:
        job = await engine.start(JobRequest(expert_key="a", query="q"))
        trunk = await job.wait()
        history = await engine.history(job.job_id)
        branches = {
            "stopRunByDelegate": ("from the stop", ["3", "4"]),
            "callDelegate": ("from the call", ["5", "6"]),
        }
        for kind, (text, answers) in branches.items():
            stop = next(each for each in history if each.event.type == kind)
            request = JobRequest(job_id=job.job_id, checkpoint_id=stop.checkpoint.id)
            branch = await (await engine.start(request)).wait()
            children = [
                run
                for run in branch.runs
                if run.delegated_by and run.delegated_by.run_id == branch.checkpoint.run_id
            ]
            assert branch.text == text
            assert [run.text for run in children] == answers
            assert {run.run_id: run for run in trunk.runs}.items() <= {
                run.run_id: run for run in branch.runs
            }.items()


async def test_a_branch_keeps_what_delegates_had_answered_and_asks_only_the_others(
    tmp_path: Path,
) -> None:
    model = FakeModel(
        {
            "a": [
                calls(call("x", "d1", query="one"), call("x", "d2", query="two")),
                done("trunk"),
                done("branch"),
            ],
            "@a/x": [done("1"), done("2"), done("again")],
        }
    )
    async with engine_of(tmp_path, model) as engine:
        job = await engine.start(JobRequest(expert_key="a", query="q"))
        await job.wait()
        first_answer = next(
            each
            for each in await engine.history(job.job_id)
            if each.event.type == "recordToolResult"
        )
        request = JobRequest(job_id=job.job_id, checkpoint_id=first_answer.checkpoint.id)
        branch = await (await engine.start(request)).wait()
    (told,) = [message for message in model.requests[-1].messages if message.type == "toolMessage"]
    assert len(branch.runs) == 5
    assert "again" in str(told)


@pytest.mark.parametrize("has_followed_up", [False, True])
async def test_a_checkpoint_with_the_answer_is_not_gone_on_from_without_a_query(
    tmp_path: Path, has_followed_up: bool
) -> None:
    model = FakeModel({"a": [says("one"), says("two"), says("three")]})
    async with engine_of(tmp_path, model) as engine:
        job = await engine.start(JobRequest(expert_key="a", query="q"))
        answered = (await job.wait()).checkpoint.id
        if has_followed_up:
            await (await engine.start(JobRequest(job_id=job.job_id, query="more"))).wait()
        with pytest.raises(JobStateError, match="nothing is left to do") as refused:
            await engine.start(JobRequest(job_id=job.job_id, checkpoint_id=answered))
    assert refused.value.hint == "Give a query, or an earlier checkpoint."
    assert len(model.requests) == 1 + has_followed_up


async def test_a_run_that_begins_has_the_id_it_is_given(tmp_path: Path) -> None:
    model = FakeModel({"a": [done("one"), done("two")]})
    async with engine_of(tmp_path, model) as engine:
        first = JobRequest(expert_key="a", query="q", new_job_id="j", new_run_id="r1")
        assert (await (await engine.start(first)).wait()).checkpoint.run_id == "r1"
        taken = JobRequest(job_id="j", query="more", new_run_id="r1")
        with pytest.raises(JobStateError, match="Run r1 exists already"):
            await engine.start(taken)
        follow_up = JobRequest(job_id="j", query="more", new_run_id="r2")
        assert (await (await engine.start(follow_up)).wait()).checkpoint.run_id == "r2"


async def test_a_run_that_goes_on_keeps_its_id(tmp_path: Path) -> None:
    model = FakeModel({"a": [calls(call("askUser", "q1", question="Which?")), done("blue")]})
    async with engine_of(tmp_path, model) as engine:
        job = await engine.start(JobRequest(expert_key="a", query="q"))
        await job.wait()
        request = JobRequest(job_id=job.job_id, query="blue", new_run_id="mine")
        with pytest.raises(JobStateError, match="goes on under its own id"):
            await engine.start(request)


async def test_a_question_waits_for_the_user_and_the_answer_goes_to_the_expert(
    tmp_path: Path,
) -> None:
    model = FakeModel({"a": [calls(call("askUser", "q1", question="Which?")), done("blue it is")]})
    async with engine_of(tmp_path, model) as engine:
        job = await engine.start(JobRequest(expert_key="a", query="paint"))
        asked = await job.wait()
        assert asked.job.status == "stoppedByInteractiveTool"
        assert [dict(question.arguments) for question in asked.questions] == [
            {"question": "Which?"}
        ]
        wrong = InteractiveAnswer(text="blue", tool_call_id="other")
        with pytest.raises(JobStateError):
            await engine.start(JobRequest(job_id=job.job_id, answer=wrong))
        view = await (await engine.start(JobRequest(job_id=job.job_id, query="blue"))).wait()
    assert view.text == "blue it is"
    assert "blue" in str(model.requests[1].messages[-1])


async def test_a_question_is_answered_again_in_a_branch(tmp_path: Path) -> None:
    model = FakeModel(
        {"a": [calls(call("askUser", "q1", question="Which?")), done("blue"), done("green")]}
    )
    async with engine_of(tmp_path, model) as engine:
        job_id = (job := await engine.start(JobRequest(expert_key="a", query="paint"))).job_id
        early = (await job.wait()).checkpoint.id
        await (await engine.start(JobRequest(job_id=job_id, query="blue"))).wait()
        again = JobRequest(
            job_id=job_id, checkpoint_id=early, answer=InteractiveAnswer(text="green")
        )
        view = await (await engine.start(again)).wait()
    assert view.text == "green"
    assert "green" in str(model.requests[2].messages[-1])
    assert "blue" not in str(model.requests[2].messages)


async def test_an_answer_needs_a_checkpoint_that_asked(tmp_path: Path) -> None:
    async with engine_of(tmp_path, FakeModel({"a": [done("x"), done("y")]})) as engine:
        job = await engine.start(JobRequest(expert_key="a", query="q"))
        run_id = (await job.wait()).checkpoint.run_id
        answer = InteractiveAnswer(text="blue")
        with pytest.raises(JobStateError, match="not waiting for an answer"):
            await engine.start(
                JobRequest(job_id=job.job_id, checkpoint_id=f"{run_id}-1", answer=answer)
            )


async def test_a_request_needs_a_step(tmp_path: Path) -> None:
    async with engine_of(tmp_path, FakeModel({"a": [done("x")]})) as engine:
        with pytest.raises(ConfigError, match="max_steps is 0"):
            await engine.start(JobRequest(expert_key="a", query="q", max_steps=0))


async def test_a_job_stopped_by_its_limit_gets_a_new_allowance_when_it_is_continued(
    tmp_path: Path,
) -> None:
    def script(request: GenerationRequest) -> Reply:
        spoken = sum(message.type == "expertMessage" for message in request.messages)
        return done("end") if spoken == 3 else calls(call("echo"))

    async with engine_of(tmp_path, FakeModel(script), max_steps=2) as engine:
        job = await engine.start(JobRequest(expert_key="a", query="q"))
        limited = await job.wait()
        view = await (await engine.start(JobRequest(job_id=job.job_id))).wait()
    assert limited.job.status == "stoppedByMaxSteps"
    assert (view.text, view.job.total_steps) == ("end", 4)


async def test_waiting_for_a_finished_job_returns_at_once(tmp_path: Path) -> None:
    async with engine_of(tmp_path, FakeModel({"a": [done("x")]})) as engine:
        job = await engine.start(JobRequest(expert_key="a", query="q"))
        await job.wait()
        view = await (await engine.start(JobRequest(job_id=job.job_id))).wait()
    assert view.text == "x"


async def test_watchers_see_the_events_and_the_end(tmp_path: Path) -> None:
    gate = anyio.Event()
    skills = FakeSkills(gate=gate)
    seen: list[PerstackEvent] = []
    async with engine_of(
        tmp_path, FakeModel({"a": [calls(call("echo", "c1")), done("x")]}), skills=skills
    ) as engine:
        job = await engine.start(JobRequest(expert_key="a", query="q"))
        with job.watch() as events:
            gate.set()
            async for event, _checkpoint in events:
                seen.append(event)
    assert seen[-1].type == "completeRun"


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (JobRequest(expert_key="nobody", query="q"), UnknownExpertError),
        (JobRequest(expert_key="a", query="  "), ConfigError),
        (JobRequest(expert_key="a", query="x" * 500_001), ConfigError),
        (JobRequest(job_id="unknownjob", query="q"), NotFoundError),
    ],
)
async def test_what_cannot_be_done_is_refused(
    tmp_path: Path, request_: JobRequest, error: type[Exception]
) -> None:
    async with engine_of(tmp_path, FakeModel({})) as engine:
        with pytest.raises(error):
            await engine.start(request_)


async def test_a_job_of_another_expert_is_not_continued(tmp_path: Path) -> None:
    async with engine_of(tmp_path, FakeModel({"a": [done("x")]})) as engine:
        job = await engine.start(JobRequest(expert_key="a", query="q"))
        await job.wait()
        with pytest.raises(JobStateError):
            await engine.start(JobRequest(expert_key="b", job_id=job.job_id, query="more"))


async def test_a_job_cancelled_at_once_asks_no_model_and_can_be_resumed(tmp_path: Path) -> None:
    model = FakeModel({"a": [done("x")]})
    async with engine_of(tmp_path, model) as engine:
        job = await engine.start(JobRequest(expert_key="a", query="q"))
        job.cancel("at once")
        stopped = await job.wait()
        assert (stopped.job.status, model.requests) == ("stoppedByCancellation", [])
        view = await (await engine.start(JobRequest(job_id=job.job_id))).wait()
    assert view.text == "x"


async def test_a_job_that_another_process_drives_is_cancelled_from_here(tmp_path: Path) -> None:
    store = MemoryStore(owner="one", is_alive=lambda _owner: True)
    skills = FakeSkills(gate=anyio.Event())
    model = FakeModel({"a": [calls(call("echo", "c1"))]})
    clock = HurriedClock()
    async with (
        engine_of(tmp_path, model, store=store, skills=skills, clock=clock) as theirs,
        engine_of(tmp_path, FakeModel({}), store=store.as_owner("two"), clock=clock) as ours,
    ):
        job = await theirs.start(JobRequest(expert_key="a", query="q"))
        await until_called(skills)
        with anyio.fail_after(30):
            seen = await ours.cancel(job.job_id, "no longer wanted")
        there = await job.wait(30)
    assert seen.job.status == "stoppedByCancellation"
    assert there.job.status == "stoppedByCancellation"
    assert job.stop_reason == "no longer wanted"


async def test_a_process_that_does_not_stop_its_job_is_named_as_the_reason(tmp_path: Path) -> None:
    store = MemoryStore(owner="one", is_alive=lambda _owner: True)
    lease = await store.acquire("hanging")
    await store.append([RunStory("hanging").start()], lease)
    async with engine_of(
        tmp_path, FakeModel({}), store=store.as_owner("two"), clock=HurriedClock()
    ) as ours:
        with pytest.raises(JobStateError, match="was asked to stop it but has not"):
            await ours.cancel("hanging", "enough")


async def test_a_job_that_waits_can_be_given_up_and_asks_again_when_it_is_resumed(
    tmp_path: Path,
) -> None:
    model = FakeModel({"a": [calls(call("askUser", "q1", question="Which?")), done("blue")]})
    async with engine_of(tmp_path, model) as engine:
        job = await engine.start(JobRequest(expert_key="a", query="q"))
        await job.wait()
        given_up = await engine.mark_cancelled(job.job_id, "no longer wanted")
        resumed = await (await engine.start(JobRequest(job_id=job.job_id))).wait()
        answer = InteractiveAnswer(text="blue", tool_call_id="q1")
        ended = await (await engine.start(JobRequest(job_id=job.job_id, answer=answer))).wait()
        after = await engine.mark_cancelled(job.job_id, "too late")
    assert given_up.job.status == "stoppedByCancellation"
    assert [question.id for question in resumed.questions] == ["q1"]
    assert ended.text == after.text == "blue"
    assert after.job.status == "completed"


async def test_a_job_at_work_or_unknown_cannot_be_given_up(tmp_path: Path) -> None:
    skills = FakeSkills(gate=anyio.Event())
    model = FakeModel({"a": [calls(call("echo", "c1")), done("x")]})
    async with engine_of(tmp_path, model, skills=skills) as engine:
        job = await engine.start(JobRequest(expert_key="a", query="q"))
        await until_called(skills)
        with pytest.raises(JobStateError):
            await engine.mark_cancelled(job.job_id, "enough")
        with pytest.raises(NotFoundError):
            await engine.mark_cancelled("nosuchjob", "enough")
