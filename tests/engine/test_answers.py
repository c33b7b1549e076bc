"""Answers to an expert's question: what fits goes on, what does not leaves the job waiting."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from perstack.errors import JobStateError
from perstack.runtime.answers import InteractiveAnswer
from perstack.runtime.start_plan import DECLINED_ANSWER, JobRequest
from tests.engines import engine_on
from tests.fakes import FakeModel, FakeSkills, call, calls, done, tool

pytestmark = pytest.mark.anyio

engine_of = partial(engine_on, is_attended=False)
COLOUR = {"colour": {"type": "string", "enum": ["red", "blue"]}}
COATS = {"coats": {"type": "integer", "minimum": 1}}
TAGS = {"tags": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}}}
BOTH = {**COLOUR, **COATS}


def asking(fields: dict[str, Any]) -> FakeSkills:
    """A question with this form, all of it required."""
    schema = {"type": "object", "properties": fields, "required": list(fields)}
    ask = replace(tool("askUser", kind="interactive", skill="ask"), answer_schema=schema)
    return FakeSkills(tools_of=(tool("attemptCompletion"), ask))


def text(said: str) -> InteractiveAnswer:
    return InteractiveAnswer(text=said)


def form(**content: Any) -> InteractiveAnswer:
    return InteractiveAnswer(content=content)


@pytest.mark.parametrize(
    ("fields", "answer", "told"),
    [
        (COLOUR, text("Blue"), "blue"),
        (COLOUR, text('{"colour": "blue"}'), "blue"),
        (COLOUR, form(colour="blue"), "blue"),
        (COATS, text("2"), "2"),
        (COATS, text("2.0"), "2"),
        (COATS, form(coats="2"), "2"),
        (TAGS, text("b, A"), '["b", "a"]'),
        (BOTH, text('{"colour": "red", "coats": "3"}'), '{"colour": "red", "coats": 3}'),
        (COLOUR, InteractiveAnswer(is_declined=True), DECLINED_ANSWER),
    ],
)
async def test_an_answer_that_fits_reaches_the_expert_in_one_form(
    tmp_path: Path, fields: dict[str, Any], answer: InteractiveAnswer, told: str
) -> None:
    model = FakeModel({"reviewer": [calls(call("askUser", "q1", question="Which?")), done("ok")]})
    async with engine_of(tmp_path, model, skills=asking(fields)) as engine:
        job = await engine.start(JobRequest(expert_key="reviewer", query="paint"))
        await job.wait()
        await (await engine.start(JobRequest(job_id=job.job_id, answer=answer))).wait()
    assert f"text={told!r}" in str(model.requests[1].messages[-1])


@pytest.mark.parametrize(
    ("fields", "answer", "problem", "hint"),
    [
        (COLOUR, text("purple"), "colour must be one of red, blue", "one of: red, blue"),
        (COLOUR, text('{"colour": 5}'), "colour must be a string", "one of: red, blue"),
        (COLOUR, form(colour="purple"), "colour must be one of red, blue", "one of: red, blue"),
        (COLOUR, form(), "colour is missing", "one of: red, blue"),
        (COATS, text("many"), "coats must be an integer", "a whole number"),
        (COATS, text("0"), "coats must be at least 1", "a whole number"),
        (TAGS, text("a, c"), "tags must be one of a, b", "some of: a, b"),
        (BOTH, text("red"), "colour is missing; coats is missing", "colour (red | blue), coats"),
        (BOTH, form(colour="red", coats=1, x=1), "'x' is unknown", "a JSON object"),
    ],
)
@pytest.mark.parametrize("is_branch", [False, True])
async def test_an_answer_that_does_not_fit_is_refused_and_the_question_stays_open(
    tmp_path: Path,
    fields: dict[str, Any],
    answer: InteractiveAnswer,
    problem: str,
    hint: str,
    is_branch: bool,
) -> None:
    model = FakeModel({"reviewer": [calls(call("askUser", "q1", question="Which?"))] * 2})
    async with engine_of(tmp_path, model, skills=asking(fields)) as engine:
        job = await engine.start(JobRequest(expert_key="reviewer", query="paint"))
        asked = await job.wait()
        checkpoint_id = asked.checkpoint.id if is_branch else None
        request = JobRequest(job_id=job.job_id, checkpoint_id=checkpoint_id, answer=answer)
        with pytest.raises(JobStateError) as refused:
            await engine.start(request)
        after = await engine.job(job.job_id)
        resumed = await (await engine.start(JobRequest(job_id=job.job_id))).wait()
    assert problem in refused.value.message
    assert hint in str(refused.value)
    assert after.job.status == resumed.job.status == "stoppedByInteractiveTool"
    assert after.checkpoint.id == asked.checkpoint.id
    assert len(model.requests) == 1


@pytest.mark.parametrize("said", ["{}", '{"answer": "x"}', "5", " two words ", "[" * 20_000])
async def test_any_text_answers_a_question_that_says_nothing_of_its_answer(
    tmp_path: Path, said: str
) -> None:
    model = FakeModel({"reviewer": [calls(call("askUser", "q1", question="Which?")), done("ok")]})
    async with engine_of(tmp_path, model) as engine:
        job = await engine.start(JobRequest(expert_key="reviewer", query="paint"))
        await job.wait()
        await (await engine.start(JobRequest(job_id=job.job_id, query=said))).wait()
    assert f"text={said!r}" in str(model.requests[1].messages[-1])
