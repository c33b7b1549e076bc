"""Questions of skill servers, through the whole stack: real servers, jobs, clients of both eras."""

import json
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp_types import CallToolResult, InputRequiredResult

from perstack.core.transient_events import SkillAnswered, SkillAsked
from perstack.engine import Engine
from perstack.jobs import JobHandle
from perstack.runtime.answers import InteractiveAnswer
from perstack.runtime.start_plan import JobRequest
from perstack.store.memory import MemoryStore
from tests.engines import engine_on
from tests.fakes import FakeModel, Reply, call, calls, done
from tests.server.harness import Mode, Stage, facts, stage, texts
from tests.server.tenants.harness import CANCEL, DECLINE, User, accept
from tests.skills.harness import SERVERS

pytestmark = pytest.mark.anyio

ASKS = calls(call("ask", "c1"))
ASKS_TWO = calls(call("ask", "c1", message="Sure?"), call("ask", "c2", message="Really?"))
YES = accept(sure=True)


def toml(era: str) -> str:
    """An expert with a skill whose server asks."""
    args = ["-S", "-E", str(SERVERS / "asks.py"), era]
    return f"""
[experts."reviewer"]
instruction = "Work."
[experts."reviewer".skills."disk"]
type = "mcpStdioSkill"
command = {json.dumps(sys.executable)}
args = {json.dumps(args)}
"""


MODERN = toml("modern")


@pytest.fixture(params=["handshake", "modern"])
def server(request: pytest.FixtureRequest) -> str:
    """The definition with a server of either era."""
    return toml(request.param)


def cleaner(*asking: Reply) -> FakeModel:
    """An expert that calls the tool that asks and then is done."""
    return FakeModel({"reviewer": [*(asking or (ASKS,)), done("cleaned")]})


def told(model: FakeModel) -> str:
    """The last message that the expert was shown."""
    return str(model.requests[-1].messages[-1])


async def until_asked(here: Stage, count: int = 1) -> JobHandle:
    """The only job, once its skills have asked."""
    with anyio.fail_after(30):
        while True:
            for job in await here.engine.jobs():
                live = here.engine.running(job.id)
                if live is not None and len(live.open_questions) == count:
                    return live
            await anyio.sleep(0.005)


async def test_the_user_answers_in_the_middle_of_a_call(
    tmp_path: Path, mode: Mode, server: str
) -> None:
    model, user = cleaner(), User([YES])
    async with stage(tmp_path, mode, model, toml=server, has_real_skills=True, user=user) as here:
        result = await here.call("reviewer", query="clean")
    assert (facts(result)["status"], texts(result)[0]) == ("completed", "cleaned")
    assert user.messages == ["disk asks: Delete it?"]
    assert '{"sure": true}' in told(model)


@pytest.mark.parametrize(("reply", "said"), [(DECLINE, '"decline"'), (YES, '"accept"')])
async def test_a_server_learns_what_the_user_did(
    tmp_path: Path, mode: Mode, reply: Any, said: str
) -> None:
    model = cleaner()
    async with stage(
        tmp_path, mode, model, toml=MODERN, has_real_skills=True, user=User([reply])
    ) as here:
        result = await here.call("reviewer", query="clean")
    assert facts(result)["status"] == "completed"
    assert said in told(model)


async def test_a_closed_form_leaves_the_call_waiting_for_an_answer_in_text(
    tmp_path: Path, mode: Mode, server: str
) -> None:
    model = cleaner()
    async with stage(
        tmp_path, mode, model, toml=server, has_real_skills=True, user=User([CANCEL])
    ) as here:
        asked = await here.call("reviewer", query="clean")
        job_id = facts(asked)["job_id"]
        looked = await here.call("perstack_job", job_id=job_id)
        answered = await here.call("reviewer", job_id=job_id, query="yes")
    assert facts(asked)["status"] == facts(looked)["status"] == "needs_input"
    assert facts(asked)["question"]["message"] == "disk asks: Delete it?"
    assert facts(asked)["question"]["schema"]["properties"] == {"sure": {"type": "boolean"}}
    assert facts(answered)["status"] == "completed"
    assert '{"sure": true}' in told(model)


async def test_a_client_without_forms_answers_in_text_and_is_told_what_does_not_fit(
    tmp_path: Path, mode: Mode
) -> None:
    model = cleaner()
    async with stage(tmp_path, mode, model, toml=MODERN, has_real_skills=True) as here:
        asked = await here.call("reviewer", query="clean")
        job_id = facts(asked)["job_id"]
        unfit = await here.call("reviewer", job_id=job_id, query="perhaps")
        answered = await here.call("reviewer", job_id=job_id, query="no")
    assert facts(asked)["status"] == "needs_input"
    assert unfit.is_error
    assert "sure is missing" in texts(unfit)[0] or "sure must be a boolean" in texts(unfit)[0]
    assert facts(answered)["status"] == "completed"
    assert '{"sure": false}' in told(model)


async def test_questions_of_calls_side_by_side_are_all_put(
    tmp_path: Path, mode: Mode, server: str
) -> None:
    model, user = cleaner(ASKS_TWO), User([YES, YES])
    async with stage(tmp_path, mode, model, toml=server, has_real_skills=True, user=user) as here:
        result = await here.call("reviewer", query="clean")
    assert facts(result)["status"] == "completed"
    assert sorted(user.messages) == ["disk asks: Really?", "disk asks: Sure?"]


async def test_a_form_is_taken_away_when_its_question_is_answered_elsewhere(
    tmp_path: Path,
) -> None:
    model, user = cleaner(), User()
    results: list[CallToolResult] = []
    async with stage(
        tmp_path, "legacy", model, toml=MODERN, has_real_skills=True, user=user
    ) as here:

        async def wait_for_the_result() -> None:
            results.append(await here.call("reviewer", query="clean"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait_for_the_result)
            await user.seen.wait()
            live = await until_asked(here)
            answer = InteractiveAnswer(content={"sure": False})
            await here.engine.start(JobRequest(job_id=live.job_id, answer=answer))
        with anyio.fail_after(30):
            await user.withdrawn.wait()
    assert facts(results[0])["status"] == "completed"
    assert '{"sure": false}' in told(model)


async def test_a_client_that_goes_away_while_it_is_asked_stops_its_job(tmp_path: Path) -> None:
    user = User()
    async with stage(
        tmp_path, "legacy", cleaner(), toml=MODERN, has_real_skills=True, user=user
    ) as here:
        gone = anyio.CancelScope()

        async def call_and_go() -> None:
            with gone:
                await here.call("reviewer", query="clean")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call_and_go)
            await user.seen.wait()
            live = await until_asked(here)
            gone.cancel()
            with anyio.fail_after(30):
                await live.stopped.wait()
            present = live.view()
            assert present.job.status == "stoppedByCancellation"
            assert present.questions == ()


async def test_a_client_that_never_returns_with_the_answer_leaves_its_job_asking(
    tmp_path: Path,
) -> None:
    async with stage(
        tmp_path, "auto", cleaner(), toml=MODERN, has_real_skills=True, user=User()
    ) as here:
        asked = await here.client.session.call_tool(
            "reviewer", {"query": "clean"}, allow_input_required=True
        )
        assert isinstance(asked, InputRequiredResult)
        live = await until_asked(here)
        cancelled = await here.call("perstack_cancel", job_id=live.job_id)
        late = await here.client.session.call_tool(
            "reviewer",
            {"query": "clean"},
            input_responses=dict.fromkeys(asked.input_requests or (), YES),
            request_state=asked.request_state,
        )
    assert facts(cancelled)["status"] == facts(late)["status"] == "cancelled"


async def answered(engine: Engine, *answers: InteractiveAnswer) -> list[Any]:
    """The events of a job whose question gets these answers."""
    heard: list[Any] = []
    job = await engine.start(
        JobRequest(expert_key="reviewer", query="clean"),
        lambda event, _checkpoint: heard.append(event),
    )
    with anyio.fail_after(30), job.watch() as events:
        while answers and not job.open_questions:
            await events.receive()
        for answer in answers:
            await engine.start(JobRequest(job_id=job.job_id, answer=answer))
        await job.wait()
    return heard


async def test_who_watches_sees_the_question_and_not_what_was_answered(tmp_path: Path) -> None:
    answer = InteractiveAnswer(content={"sure": True})
    async with engine_on(tmp_path, cleaner(), toml=MODERN, has_real_skills=True) as engine:
        heard = await answered(engine, answer, answer)  # the second comes too late
    (asked,) = [event for event in heard if isinstance(event, SkillAsked)]
    (closed,) = [event for event in heard if isinstance(event, SkillAnswered)]
    assert asked.message == "disk asks: Delete it?"
    assert (asked.question_id, closed.action) == (closed.question_id, "accept")


async def test_where_nobody_can_answer_the_question_is_closed_at_once(tmp_path: Path) -> None:
    model = cleaner()
    async with engine_on(
        tmp_path, model, toml=MODERN, has_real_skills=True, is_attended=False
    ) as engine:
        heard = await answered(engine)
    (closed,) = [event for event in heard if isinstance(event, SkillAnswered)]
    assert closed.action == "cancel"
    assert '"cancel"' in told(model)


async def test_an_answer_to_a_process_that_has_ended_has_the_job_go_on(tmp_path: Path) -> None:
    store, model = MemoryStore(), cleaner()
    async with stage(
        tmp_path, "auto", model, toml=MODERN, has_real_skills=True, store=store, user=User()
    ) as here:
        asked = await here.client.session.call_tool(
            "reviewer", {"query": "clean"}, allow_input_required=True
        )
        assert isinstance(asked, InputRequiredResult)
    async with stage(
        tmp_path, "auto", model, toml=MODERN, has_real_skills=True, store=store, user=User()
    ) as there:
        result = await there.client.session.call_tool(
            "reviewer",
            {"query": "clean"},
            input_responses=dict.fromkeys(asked.input_requests or (), YES),
            request_state=asked.request_state,
        )
    assert facts(result)["status"] == "completed"
    assert "its effect is unknown" in told(model)
