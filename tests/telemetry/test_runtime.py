"""The spans that the real loop leaves behind."""

from dataclasses import replace

import pytest

from perstack.definition.verification import Verification
from perstack.errors import ModelError
from tests.fakes import FakeModel, FakeSkills, call, calls, done, experts, job_context
from tests.runtime.acting import work
from tests.telemetry.span_tree import Recorder

pytestmark = pytest.mark.anyio

TEAM = experts(a=("a_x", "a_y"), a_x=(), a_y=())


async def test_tools_a_retry_and_two_delegates_of_a_real_run_are_one_tree() -> None:
    recorder = Recorder()
    busy = ModelError("busy", name="RateLimitError", provider="scripted", is_retryable=True)
    model = FakeModel(
        {
            "a": [
                calls(call("echo", "e1"), call("look", "e2")),
                busy,
                calls(call("x", "c1", query="1"), call("y", "c2", query="2")),
                done("whole"),
            ],
            "@a/x": [done("one")],
            "@a/y": [ModelError("no key", name="AuthError", provider="scripted")],
        }
    )

    await work(replace(job_context(TEAM, model), telemetry=recorder.tracing))

    tree = [line.replace(" input_tokens=0", "") for line in recorder.tree().splitlines()]
    assert tree == [
        "INTERNAL invoke_agent a status=completed steps=3",
        "  INTERNAL step number=1 finish=continue !perstack.checkpoint",
        "    CLIENT chat fake-model",
        "    INTERNAL execute_tool echo kind=mcp",
        "    INTERNAL execute_tool look kind=mcp",
        (
            "  INTERNAL step number=2 finish=delegate"
            " !perstack.retry !perstack.checkpoint !perstack.checkpoint"
        ),
        "    CLIENT chat fake-model type=RateLimitError ERROR",
        "    CLIENT chat fake-model attempt=2",
        "    INTERNAL execute_tool x kind=delegate",
        "      INTERNAL invoke_agent @a/x status=completed steps=1",
        "        INTERNAL step number=3 finish=finish !perstack.checkpoint",
        "          CLIENT chat fake-model",
        "    INTERNAL execute_tool y kind=delegate type=tool_error ERROR",
        "      INTERNAL invoke_agent @a/y status=stoppedByError steps=1 type=AuthError ERROR",
        "        INTERNAL step number=4 finish=error type=AuthError ERROR !perstack.checkpoint",
        "          CLIENT chat fake-model type=AuthError ERROR",
        "  INTERNAL step number=5 finish=finish !perstack.checkpoint",
        "    CLIENT chat fake-model",
    ]


async def test_each_check_of_what_was_done_is_a_span_of_its_step() -> None:
    recorder = Recorder()
    check = Verification(name="tests", command=("true",))
    expert = TEAM.experts["a"].model_copy(update={"verifications": (check,)})
    definitions = TEAM.model_copy(update={"experts": {**TEAM.experts, "a": expert}})
    skills = FakeSkills(problems={"tests": ["exit code 1 instead of 0"]})
    model = FakeModel({"a": [done("early"), done("late")]})

    job = job_context(definitions, model, skills=skills)
    await work(replace(job, telemetry=recorder.tracing))

    tree = [line.replace(" input_tokens=0", "") for line in recorder.tree().splitlines()]
    assert tree == [
        "INTERNAL invoke_agent a status=completed steps=2",
        "  INTERNAL step number=1 finish=continue !perstack.checkpoint",
        "    CLIENT chat fake-model",
        "    INTERNAL verify tests type=verification_failed ERROR",
        "  INTERNAL step number=2 finish=finish !perstack.checkpoint",
        "    CLIENT chat fake-model",
        "    INTERNAL verify tests",
    ]
