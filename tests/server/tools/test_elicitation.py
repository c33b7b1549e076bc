"""Questions of an expert to the user, in both eras of the protocol."""

from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from mcp import MCPError
from mcp_types import CallToolResult, InputRequiredResult

from perstack.runtime.ports import GenerationRequest
from perstack.runtime.start_plan import DECLINED_ANSWER
from perstack.server.services import KEY_FILE
from perstack.server.tools.elicitation import MAX_ELICITATION_ROUNDS
from perstack.server.tools.wait import PollSettings
from perstack.store.memory import MemoryStore
from tests.fakes import FakeModel, FakeSkills, Reply, call, calls, done, tool
from tests.server.harness import Mode, Stage, facts, stage, texts, until_called
from tests.server.tenants.harness import CANCEL, DECLINE, User, accept

pytestmark = pytest.mark.anyio

ASKS = calls(call("askUser", "q1", question="Which colour?"))
COLOUR = {
    "type": "object",
    "properties": {"colour": {"type": "string", "enum": ["red", "blue"]}},
    "required": ["colour"],
}
ASKS_TWICE = calls(
    call("askUser", "q1", question="Which colour?"), call("askUser", "q2", question="Where?")
)


def painter(*asking: Reply) -> FakeModel:
    """An expert that asks and then is done."""
    return FakeModel({"reviewer": [*(asking or (ASKS,)), done("painted")]})


def told(model: FakeModel) -> str:
    """The last message that the expert was shown."""
    return str(model.requests[-1].messages[-1])


async def test_a_user_who_answers_takes_the_call_to_its_result(tmp_path: Path, mode: Mode) -> None:
    model, user = painter(), User([accept(answer="cobalt")])
    async with stage(tmp_path, mode, model, user=user) as here:
        result = await here.call("reviewer", query="paint")
    assert (facts(result)["status"], texts(result)[0]) == ("completed", "painted")
    assert user.messages == ["Which colour?"]
    assert "cobalt" in told(model)


async def test_an_expert_goes_on_without_an_answer_that_is_declined(
    tmp_path: Path, mode: Mode
) -> None:
    model = painter()
    async with stage(tmp_path, mode, model, user=User([DECLINE])) as here:
        result = await here.call("reviewer", query="paint")
    assert facts(result)["status"] == "completed"
    assert DECLINED_ANSWER in told(model)


async def test_a_form_that_is_closed_leaves_the_question_open(tmp_path: Path, mode: Mode) -> None:
    user = User([CANCEL, accept(answer="cobalt")])
    async with stage(tmp_path, mode, painter(), user=user) as here:
        closed = await here.call("reviewer", query="paint")
        answered = await here.call("reviewer", job_id=facts(closed)["job_id"])
    assert (facts(closed)["status"], closed.is_error) == ("needs_input", False)
    assert facts(answered)["status"] == "completed"
    assert user.messages == ["Which colour?"] * 2


async def test_a_form_that_nobody_ever_answers_counts_as_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perstack.server.tools.request.FORM_SECONDS", 0.05)
    user = User()
    async with stage(tmp_path, "legacy", painter(), user=user) as here:
        with anyio.fail_after(30):
            result = await here.call("reviewer", query="paint")
    assert facts(result)["status"] == "needs_input"
    assert user.withdrawn.is_set()


async def test_all_questions_of_one_reply_are_put(tmp_path: Path, mode: Mode) -> None:
    model = painter(ASKS_TWICE)
    user = User([accept(answer="cobalt"), accept(answer="cellar")])
    async with stage(tmp_path, mode, model, user=user) as here:
        result = await here.call("reviewer", query="paint")
    assert facts(result)["status"] == "completed"
    assert user.messages == ["Which colour?", "Where?"]
    assert "cobalt" in told(model)
    assert "cellar" in told(model)


async def test_no_answer_is_lost_where_nothing_is_waited_for(tmp_path: Path, mode: Mode) -> None:
    model = painter(ASKS_TWICE)
    user = User([accept(answer="cobalt"), accept(answer="cellar")])
    async with stage(tmp_path, mode, model, user=user) as here:
        first = await here.call("reviewer", query="paint", wait_seconds=0)
        job_id = facts(first)["job_id"]
        asked = await here.call("perstack_job", job_id=job_id)
        assert facts(asked)["status"] == "needs_input"
        await here.call("reviewer", job_id=job_id, wait_seconds=0)
        result = await here.call("perstack_job", job_id=job_id)
    assert facts(result)["status"] == "completed"
    assert "cobalt" in told(model)
    assert "cellar" in told(model)


async def test_one_answer_of_two_is_kept_when_the_other_form_is_closed(
    tmp_path: Path, mode: Mode
) -> None:
    model = painter(ASKS_TWICE)
    async with stage(tmp_path, mode, model, user=User([accept(answer="cobalt"), CANCEL])) as here:
        closed = await here.call("reviewer", query="paint")
        answered = await here.call("reviewer", job_id=facts(closed)["job_id"], query="cellar")
    assert facts(closed)["question"]["tool_call_id"] == "q2"
    assert facts(answered)["status"] == "completed"
    assert "cobalt" in told(model)
    assert "cellar" in told(model)


async def test_an_answer_that_does_not_fit_is_asked_for_again(tmp_path: Path, mode: Mode) -> None:
    schema = {"type": "object", "properties": {"coats": {"type": "integer"}}, "required": ["coats"]}
    model = painter()
    skills = FakeSkills(
        tools_of=(
            tool("attemptCompletion"),
            replace(tool("askUser", kind="interactive", skill="ask"), answer_schema=schema),
        )
    )
    user = User([accept(coats="two"), accept(coats=2)])
    async with stage(tmp_path, mode, model, skills=skills, user=user) as here:
        result = await here.call("reviewer", query="paint")
    assert facts(result)["status"] == "completed"
    assert [form.requested_schema for form in user.forms] == [schema, schema]
    assert "text='2'" in told(model)


async def test_a_form_of_several_fields_reaches_the_expert_as_json_and_is_described_in_text(
    tmp_path: Path, mode: Mode
) -> None:
    fields = {"colour": {"type": "string", "enum": ["red", "blue"]}, "coats": {"type": "integer"}}
    ask = tool("askUser", kind="interactive", skill="ask")
    skills = FakeSkills(
        tools_of=(
            tool("attemptCompletion"),
            replace(ask, answer_schema={"type": "object", "properties": fields}),
        )
    )
    model, user = painter(), User([CANCEL, accept(colour="red", coats=2)])
    async with stage(tmp_path, mode, model, skills=skills, user=user) as here:
        asked = await here.call("reviewer", query="paint")
        await here.call("reviewer", job_id=facts(asked)["job_id"])
    fields_told = "Answer with a JSON object; its fields are: colour (red | blue), coats (integer)."
    assert texts(asked)[0] == f"Which colour?\n{fields_told}"
    assert 'text=\'{"colour": "red", "coats": 2}\'' in told(model)


async def test_an_answer_in_text_is_held_to_the_schema_too(tmp_path: Path, mode: Mode) -> None:
    ask = tool("askUser", kind="interactive", skill="ask")
    skills = FakeSkills(tools_of=(tool("attemptCompletion"), replace(ask, answer_schema=COLOUR)))
    model = painter()
    async with stage(tmp_path, mode, model, skills=skills) as here:
        asked = await here.call("reviewer", query="paint")
        job_id = facts(asked)["job_id"]
        refused = [
            await here.call("reviewer", job_id=job_id, query=wrong)
            for wrong in ("purple", '{"colour": "purple"}', '{"color": "red"}', "red, blue")
        ]
        waiting = await here.call("perstack_job", job_id=job_id)
        answered = await here.call("reviewer", job_id=job_id, query=" BLUE ")
    assert texts(asked)[0] == "Which colour?\nAnswer with one of: red, blue."
    for result in refused:
        assert result.is_error
        assert "colour must be one of red, blue. Answer with one of: red, blue." in texts(result)[0]
    assert facts(waiting)["status"] == "needs_input"
    assert facts(answered)["status"] == "completed"
    assert "text='blue'" in told(model)


async def test_choices_that_the_expert_gives_are_shown_and_hold(tmp_path: Path, mode: Mode) -> None:
    options = ["indoors", "outdoors"]
    model = painter(calls(call("askUser", "q1", question="Where?", options=options)))
    async with stage(tmp_path, mode, model) as here:
        asked = await here.call("reviewer", query="paint")
        job_id = facts(asked)["job_id"]
        refused = await here.call("reviewer", job_id=job_id, query="in the cellar")
        await here.call("reviewer", job_id=job_id, query="Outdoors")
    assert texts(asked)[0] == "Where?\nAnswer with one of: indoors, outdoors."
    assert (refused.is_error, "must be one of indoors, outdoors" in texts(refused)[0]) == (
        True,
        True,
    )
    assert "text='outdoors'" in told(model)


async def test_a_number_that_a_form_returns_as_a_text_is_a_number(
    tmp_path: Path, mode: Mode
) -> None:
    schema = {"type": "object", "properties": {"coats": {"type": "integer", "maximum": 3}}}
    ask = tool("askUser", kind="interactive", skill="ask")
    skills = FakeSkills(tools_of=(tool("attemptCompletion"), replace(ask, answer_schema=schema)))
    model, user = painter(), User([accept(coats="4"), accept(coats="2")])
    async with stage(tmp_path, mode, model, skills=skills, user=user) as here:
        await here.call("reviewer", query="paint")
    assert len(user.forms) == 2
    assert "text='2'" in told(model)


async def test_an_expert_that_asks_on_and_on_is_answered_in_text_in_the_end(
    tmp_path: Path, mode: Mode
) -> None:
    asked = 0

    def ask(_request: GenerationRequest) -> Reply:
        nonlocal asked
        asked += 1
        return calls(call("askUser", f"q{asked}", question="And now?"))

    user = User([accept(answer="again")] * 20)
    async with stage(tmp_path, mode, FakeModel(ask), user=user) as here:
        result = await here.call("reviewer", query="paint")
    assert facts(result)["status"] == "needs_input"
    assert len(user.forms) == MAX_ELICITATION_ROUNDS


async def test_signs_of_life_go_on_while_the_user_thinks(tmp_path: Path) -> None:
    user = User()
    rhythm = PollSettings(heartbeat_seconds=0.01)
    async with stage(tmp_path, "legacy", painter(), user=user, rhythm=rhythm) as here:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: here.call("reviewer", query="paint"))
            await user.seen.wait()
            before = len(here.progress)
            with anyio.fail_after(30):
                while len(here.progress) < before + 3:
                    await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        values = [value for value, _ in here.progress]
    assert values == sorted(set(values))


async def test_a_client_that_leaves_takes_its_form_with_it_and_the_question_stays(
    tmp_path: Path,
) -> None:
    user = User()
    async with stage(tmp_path, "legacy", painter(), user=user) as here:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: here.call("reviewer", query="paint"))
            await user.seen.wait()
            tasks.cancel_scope.cancel()
        with anyio.fail_after(30):
            await user.withdrawn.wait()
        (job,) = await here.engine.jobs()
        answered = await here.call("reviewer", job_id=job.id, query="cobalt")
    assert facts(answered)["status"] == "completed"


async def first_round(here: Stage) -> InputRequiredResult:
    """The questions that a client gets in place of a result."""
    result = await here.client.session.call_tool(
        "reviewer", {"query": "paint"}, allow_input_required=True
    )
    assert isinstance(result, InputRequiredResult)
    return result


async def again(here: Stage, state: str | None, query: str = "paint") -> CallToolResult:
    """The same call once more, with an answer."""
    return await here.client.session.call_tool(
        "reviewer",
        {"query": query},
        input_responses={"q1": accept(answer="cobalt")},
        request_state=state,
    )


async def test_an_answer_may_come_before_it_is_asked_for(tmp_path: Path) -> None:
    async with stage(tmp_path, "auto", painter(), user=User()) as here:
        result = await again(here, None)
    assert facts(result)["status"] == "completed"


async def test_an_answer_that_is_sent_twice_counts_once(tmp_path: Path) -> None:
    model = painter()
    async with stage(tmp_path, "auto", model, user=User()) as here:
        asked = await first_round(here)
        results = [await again(here, asked.request_state) for _ in range(2)]
    assert [facts(result)["status"] for result in results] == ["completed"] * 2
    assert len({facts(result)["job_id"] for result in results}) == 1
    assert len(model.requests) == 2


async def test_two_answers_at_the_same_moment_count_once(tmp_path: Path) -> None:
    model = painter()
    results: list[CallToolResult] = []
    async with stage(tmp_path, "auto", model, user=User()) as here:
        asked = await first_round(here)

        async def answer() -> None:
            results.append(await again(here, asked.request_state))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer)
            tasks.start_soon(answer)
    assert [facts(result)["status"] for result in results] == ["completed"] * 2
    assert len(model.requests) == 2


async def test_an_answer_that_comes_after_another_one_changes_nothing(tmp_path: Path) -> None:
    model = painter()
    async with stage(tmp_path, "auto", model, user=User()) as here:
        asked = await first_round(here)
        (job,) = await here.engine.jobs()
        await here.call("reviewer", job_id=job.id, query="red")
        late = await again(here, asked.request_state)
    assert facts(late)["status"] == "completed"
    assert "cobalt" not in str(model.requests[-1].messages)


async def test_a_late_answer_does_not_wake_a_job_that_was_cancelled(tmp_path: Path) -> None:
    model = painter(ASKS, calls(call("echo", "e1")))
    skills = FakeSkills(gate=anyio.Event())
    async with stage(tmp_path, "auto", model, user=User(), skills=skills) as here:
        asked = await first_round(here)
        (job,) = await here.engine.jobs()
        await here.call("reviewer", job_id=job.id, query="red", wait_seconds=0)
        await until_called(skills)
        await here.call("perstack_cancel", job_id=job.id)
        late = await again(here, asked.request_state)
    assert facts(late)["status"] == "cancelled"


@pytest.mark.parametrize("change", ["state", "arguments", "nonsense"])
async def test_what_a_client_brings_back_must_be_what_it_was_given(
    tmp_path: Path, change: str
) -> None:
    async with stage(tmp_path, "auto", painter(), user=User()) as here:
        asked = await first_round(here)
        state = asked.request_state
        assert state is not None
        changed = {"state": state[:-4] + "AAAA", "arguments": state, "nonsense": "job"}[change]
        query = "paint it black" if change == "arguments" else "paint"
        with pytest.raises(MCPError, match="belongs to another call") as refused:
            await again(here, changed, query)
        good = await again(here, state)
    assert refused.value.code == -32602
    assert facts(good)["status"] == "completed"


async def test_another_process_of_the_same_workspace_takes_the_answer(tmp_path: Path) -> None:
    store, model = MemoryStore(), painter()
    async with stage(tmp_path, "auto", model, store=store, user=User()) as here:
        asked = await first_round(here)
    async with stage(tmp_path, "auto", model, store=store, user=User()) as there:
        result = await again(there, asked.request_state)
    assert facts(result)["status"] == "completed"
    assert (tmp_path / "perstack" / KEY_FILE).stat().st_mode & 0o777 == 0o600


async def test_a_workspace_takes_no_answer_that_was_meant_for_another(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    async with stage(folders[0], "auto", painter(), user=User()) as here:
        asked = await first_round(here)
    async with stage(folders[1], "auto", painter(), user=User()) as there:
        with pytest.raises(MCPError, match="Invalid or expired requestState"):
            await again(there, asked.request_state)
