"""Calls of experts as clients make them: answers, progress, long jobs, questions, failures."""

from itertools import pairwise
from pathlib import Path

import anyio
import jsonschema
import pytest

from perstack.errors import ModelError
from perstack.runtime.ports import GenerationRequest
from perstack.server.tools.call import CLIENT_CANCELLED
from perstack.server.tools.schemas import RESULT_OUTPUT
from perstack.server.tools.wait import PollSettings
from perstack.store.memory import MemoryStore
from tests.engines import engine_on
from tests.fakes import FakeModel, FakeSkills, Reply, call, calls, done, says
from tests.server.harness import Mode, connected, facts, stage, texts, until_called

pytestmark = pytest.mark.anyio

WORKING: list[Reply] = [calls(call("echo", "c1")), done("late")]
QUICK = PollSettings(heartbeat_seconds=0.01, poll_seconds=0.01)


async def test_the_answer_the_status_and_the_job_id_are_in_the_text_and_in_the_structure(
    tmp_path: Path, mode: Mode
) -> None:
    async with stage(tmp_path, mode, FakeModel({"reviewer": [done("All is well.")]})) as here:
        result = await here.call("reviewer", query="look")
    job_id = facts(result)["job_id"]
    assert texts(result) == ["All is well.", f"status: completed · job_id: {job_id}"]
    assert not result.is_error
    jsonschema.validate(facts(result), RESULT_OUTPUT)
    assert {key: facts(result)[key] for key in ("status", "text", "expert", "steps")} == {
        "status": "completed",
        "text": "All is well.",
        "expert": "reviewer",
        "steps": 1,
    }


async def test_progress_grows_with_every_event_and_names_what_happens(
    tmp_path: Path, mode: Mode
) -> None:
    model = FakeModel({"reviewer": [calls(call("echo", "c1")), done("x")]})
    async with stage(tmp_path, mode, model) as here:
        await here.call("reviewer", query="look")
        await anyio.wait_all_tasks_blocked()
        values = [value for value, _ in here.progress]
        lines = [line for _, line in here.progress]
    assert all(after > before for before, after in pairwise(values))
    assert "reviewer · step 1 · echo" in lines
    assert "reviewer · step 2 · thinking" in lines


async def test_a_silent_job_gives_signs_of_life(tmp_path: Path, mode: Mode) -> None:
    skills = FakeSkills(gate=anyio.Event())
    model = FakeModel({"reviewer": WORKING})
    async with (
        stage(tmp_path, mode, model, skills=skills, rhythm=QUICK) as here,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(lambda: here.call("reviewer", query="look"))
        with anyio.fail_after(30):
            while not any(line.endswith(" s)") for _, line in here.progress):
                await anyio.lowlevel.checkpoint()
        assert skills.gate is not None
        skills.gate.set()
    values = [value for value, _ in here.progress]
    assert all(after > before for before, after in pairwise(values))


async def test_a_job_id_alone_goes_on_with_the_job(tmp_path: Path, mode: Mode) -> None:
    async with stage(tmp_path, mode, FakeModel({"reviewer": [done("All is well.")]})) as here:
        first = await here.call("reviewer", query="look")
        again = await here.call("reviewer", job_id=facts(first)["job_id"])
    assert facts(again)["text"] == "All is well."


async def test_a_job_that_takes_longer_is_collected_by_its_id(tmp_path: Path, mode: Mode) -> None:
    skills = FakeSkills(gate=anyio.Event())
    async with stage(tmp_path, mode, FakeModel({"reviewer": WORKING}), skills=skills) as here:
        early = await here.call("reviewer", query="look", wait_seconds=0)
        job_id = facts(early)["job_id"]
        assert facts(early)["status"] == "running"
        assert not early.is_error
        assert "perstack_job" in texts(early)[-1]
        assert "perstack_job" in facts(early)["next"]
        looked = await here.call("perstack_job", job_id=job_id, wait_seconds=0)
        assert facts(looked)["status"] == "running"
        assert skills.gate is not None
        skills.gate.set()
        by_its_tool = await here.call("reviewer", query="", job_id=job_id)
        by_poll = await here.call("perstack_job", job_id=job_id)
    assert [facts(result)["text"] for result in (by_its_tool, by_poll)] == ["late", "late"]


async def test_a_running_job_takes_no_other_query(tmp_path: Path, mode: Mode) -> None:
    skills = FakeSkills(gate=anyio.Event())
    async with stage(tmp_path, mode, FakeModel({"reviewer": WORKING}), skills=skills) as here:
        early = await here.call("reviewer", query="look", wait_seconds=0)
        job_id = facts(early)["job_id"]
        again = await here.call("reviewer", query="look", job_id=job_id, wait_seconds=0)
        other = await here.call("reviewer", query="rather this", job_id=job_id)
        stranger = await here.call("writer", query="", job_id=job_id)
    assert facts(again)["status"] == "running"
    assert other.is_error
    assert "still running" in texts(other)[0]
    assert stranger.is_error
    assert "belongs to 'reviewer'" in texts(stranger)[0]


async def test_a_question_is_answered_through_the_same_tool(tmp_path: Path, mode: Mode) -> None:
    model = FakeModel({"reviewer": [calls(call("askUser", "q1", question="Which?")), done("blue")]})
    async with stage(tmp_path, mode, model) as here:
        asked = await here.call("reviewer", query="paint")
        job_id = facts(asked)["job_id"]
        answered = await here.call("reviewer", query="blue", job_id=job_id)
    assert not asked.is_error
    assert texts(asked)[0] == "Which?"
    assert texts(asked)[1].startswith(f"status: needs_input · job_id: {job_id}")
    assert facts(asked)["question"] == {
        "tool_call_id": "q1",
        "tool_name": "askUser",
        "message": "Which?",
        "arguments": {"question": "Which?"},
        "schema": {
            "type": "object",
            "properties": {"answer": {"type": "string", "title": "Answer"}},
            "required": ["answer"],
        },
    }
    jsonschema.validate(facts(asked), RESULT_OUTPUT)
    assert (facts(answered)["status"], facts(answered)["text"]) == ("completed", "blue")


async def test_a_follow_up_goes_on_with_the_conversation(tmp_path: Path, mode: Mode) -> None:
    model = FakeModel({"reviewer": [says("one"), says("two")]})
    async with stage(tmp_path, mode, model) as here:
        first = await here.call("reviewer", query="first")
        job_id = facts(first)["job_id"]
        second = await here.call("reviewer", query="second", job_id=job_id)
    assert facts(second)["text"] == "two"
    assert len(model.requests[1].messages) > len(model.requests[0].messages)


async def test_a_checkpoint_begins_a_branch(tmp_path: Path, mode: Mode) -> None:
    model = FakeModel({"reviewer": [says("one"), says("two"), says("other")]})
    async with stage(tmp_path, mode, model) as here:
        first = facts(await here.call("reviewer", query="first"))
        await here.call("reviewer", query="second", job_id=first["job_id"])
        branch = await here.call(
            "reviewer",
            query="instead",
            job_id=first["job_id"],
            checkpoint_id=first["checkpoint_id"],
        )
    assert facts(branch)["text"] == "other"
    assert "second" not in str(model.requests[2].messages)


async def test_files_are_pointed_out_to_the_expert(tmp_path: Path, mode: Mode) -> None:
    model = FakeModel({"reviewer": [says("seen")]})
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("", encoding="utf-8")
    async with stage(tmp_path, mode, model) as here:
        missing = await here.call("reviewer", query="look", files=["src/a.py", "src/b.py"])
        assert missing.is_error
        assert "File src/b.py does not exist." in texts(missing)[0]
        await here.call("reviewer", query="look", files=["src/a.py"])
    assert "src/a.py" in str(model.requests[0].messages)


async def test_steps_that_are_used_up_are_no_error(tmp_path: Path, mode: Mode) -> None:
    def script(request: GenerationRequest) -> Reply:
        return calls(call("echo", f"c{len(request.messages)}"))

    async with stage(tmp_path, mode, FakeModel(script), max_steps=2) as here:
        result = await here.call("reviewer", query="look")
    assert not result.is_error
    assert facts(result)["status"] == "max_steps"
    assert "empty query" in texts(result)[-1]


async def test_a_failure_is_an_error_that_can_be_read(tmp_path: Path, mode: Mode) -> None:
    failure = ModelError("The key is not accepted.", name="AuthenticationError", provider="x")
    async with stage(tmp_path, mode, FakeModel({"reviewer": [failure]})) as here:
        result = await here.call("reviewer", query="look")
    assert result.is_error
    assert "The key is not accepted." in texts(result)[0]
    assert facts(result)["status"] == "error"


@pytest.mark.parametrize(
    ("tool", "arguments", "reason"),
    [
        ("reviewer", {}, "query is missing"),
        ("reviewer", {"query": "  "}, "query is empty"),
        ("reviewer", {"query": 5}, "query must be a string"),
        ("reviewer", {"query": "x" * 500_001}, "500,001 characters"),
        ("reviewer", {"query": "q", "qurey": 1}, "'qurey' is unknown"),
        ("reviewer", {"query": "q", "job_id": "nosuchjob"}, "nosuchjob"),
        ("reviewer", {"query": "q", "checkpoint_id": "c-1"}, "needs the job_id"),
        ("reviewer", {"query": "q", "wait_seconds": 3601}, "from 0 to 3600"),
        ("perstack_job", {"job_id": "nosuchjob"}, "nosuchjob"),
        ("perstack_cancel", {"job_id": "nosuchjob"}, "nosuchjob"),
        ("perstack_jobs", {"status": "done"}, "must be one of completed"),
    ],
)
async def test_what_cannot_be_done_is_said_so_that_the_caller_can_repair_it(
    tmp_path: Path, mode: Mode, tool: str, arguments: dict[str, object], reason: str
) -> None:
    async with stage(tmp_path, mode, FakeModel({})) as here:
        result = await here.call(tool, **arguments)
    assert result.is_error
    assert reason in texts(result)[0]


async def test_a_cancelled_request_stops_its_job_which_can_be_resumed(
    tmp_path: Path, mode: Mode
) -> None:
    skills = FakeSkills(gate=anyio.Event())
    model = FakeModel({"reviewer": [calls(call("look", "c1")), done("after all")]})
    async with stage(tmp_path, mode, model, skills=skills) as here:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: here.call("reviewer", query="look"))
            await until_called(skills)
            tasks.cancel_scope.cancel()
        (job,) = await here.engine.jobs()
        running = here.engine.running(job.id)
        if running is not None:
            await running.wait()
        stopped = await here.call("perstack_job", job_id=job.id)
        assert facts(stopped)["status"] == "cancelled"
        assert skills.gate is not None
        skills.gate.set()
        resumed = await here.call("reviewer", query="", job_id=job.id)
    assert facts(resumed)["text"] == "after all"
    assert len(model.requests) == 2


async def test_whoever_only_waits_does_not_stop_the_job_by_leaving(
    tmp_path: Path, mode: Mode
) -> None:
    skills = FakeSkills(gate=anyio.Event())
    async with stage(tmp_path, mode, FakeModel({"reviewer": WORKING}), skills=skills) as here:
        job_id = facts(await here.call("reviewer", query="look", wait_seconds=0))["job_id"]
        for tool, arguments in (("perstack_job", {}), ("reviewer", {"query": ""})):
            with anyio.move_on_after(0.05):
                await here.call(tool, job_id=job_id, **arguments)
        await anyio.wait_all_tasks_blocked()
        assert skills.gate is not None
        skills.gate.set()
        result = await here.call("perstack_job", job_id=job_id)
    assert facts(result)["text"] == "late"


async def test_a_job_is_stopped_by_its_id_again_and_again(tmp_path: Path, mode: Mode) -> None:
    skills = FakeSkills(gate=anyio.Event())
    async with stage(tmp_path, mode, FakeModel({"reviewer": WORKING}), skills=skills) as here:
        job_id = facts(await here.call("reviewer", query="look", wait_seconds=0))["job_id"]
        first = await here.call("perstack_cancel", job_id=job_id)
        second = await here.call("perstack_cancel", job_id=job_id)
        record = await here.engine.record(job_id)
    assert [facts(result)["status"] for result in (first, second)] == ["cancelled", "cancelled"]
    reasons = [
        event.reason
        for events in record.runs.values()
        for event in events
        if event.type == "stopRunByCancellation"
    ]
    assert reasons == [CLIENT_CANCELLED]


async def test_jobs_are_listed_newest_first_and_by_status(tmp_path: Path, mode: Mode) -> None:
    failure = ModelError("no", name="AuthenticationError", provider="x")
    model = FakeModel({"reviewer": [done("1")], "writer": [failure]})
    async with stage(tmp_path, mode, model) as here:
        await here.call("reviewer", query="look")
        await here.call("writer", query="write")
        everything = await here.call("perstack_jobs")
        failed = await here.call("perstack_jobs", status="error", limit=1)
    assert {job["expert"] for job in facts(everything)["jobs"]} == {"writer", "reviewer"}
    assert [job["status"] for job in facts(failed)["jobs"]] == ["error"]
    assert " · error · writer · write" in texts(failed)[0]


async def test_a_job_of_another_process_is_waited_for(tmp_path: Path, mode: Mode) -> None:
    store = MemoryStore()
    gate = anyio.Event()
    skills = FakeSkills(gate=gate)
    async with (
        engine_on(tmp_path, FakeModel({"reviewer": WORKING}), skills=skills, store=store) as other,
        engine_on(tmp_path, FakeModel({}), store=store) as own,
        connected(own, mode, rhythm=QUICK) as here,
    ):
        async with connected(other, mode) as there:
            early = await there.call("reviewer", query="look", wait_seconds=0)
        job_id = facts(early)["job_id"]
        results = [
            await here.call("perstack_job", job_id=job_id, wait_seconds=0),
            await here.call("reviewer", query="", job_id=job_id, wait_seconds=0),
        ]
        refused = await here.call("reviewer", query="more", job_id=job_id)
        gate.set()
        late = await here.call("reviewer", query="", job_id=job_id)
    assert [facts(result)["status"] for result in results] == ["running", "running"]
    assert refused.is_error
    assert facts(late)["text"] == "late"


async def test_many_calls_are_answered_at_the_same_time(tmp_path: Path, mode: Mode) -> None:
    def script(request: GenerationRequest) -> Reply:
        return done(f"{len(request.messages)}")

    answers: list[str] = []
    async with stage(tmp_path, mode, FakeModel(script)) as here:

        async def ask() -> None:
            answers.append(facts(await here.call("reviewer", query="look"))["job_id"])

        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(ask)
    assert len(set(answers)) == 8
