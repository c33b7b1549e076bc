"""What an expert must prove before it may complete, and what happens when it cannot."""

from typing import Any

import anyio
import pytest

from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint
from perstack.core.history import newest_checkpoints
from perstack.core.messages import ToolMessage, UserMessage
from perstack.definition.model import Definitions
from perstack.definition.verification import Verification
from perstack.runtime.context import JobStepCounter
from tests.fakes import (
    FakeModel,
    FakeSkills,
    FakeStore,
    Reply,
    call,
    calls,
    done,
    experts,
    job_context,
    says,
    with_checks,
)
from tests.runtime.acting import go_on, work

pytestmark = pytest.mark.anyio


def check(name: str, **keys: Any) -> Verification:
    return Verification.model_validate({"name": name, "command": ["true"], **keys})


def verified(*checks: Verification, expert: str = "a", attempts: int = 3) -> Definitions:
    """Definitions in which an expert has these checks."""
    return with_checks(experts(a=("a_x",), a_x=()), expert, *checks, attempts=attempts)


async def played(
    definitions: Definitions,
    replies: list[Reply] | dict[str, list[Reply]],
    **problems: list[str],
) -> tuple[FakeStore, FakeSkills, FakeModel, Checkpoint]:
    store, skills = FakeStore(), FakeSkills(problems=problems)
    model = FakeModel(replies if isinstance(replies, dict) else {"a": replies})
    end = await work(job_context(definitions, model, store=store, skills=skills))
    return store, skills, model, end


async def test_an_expert_that_passes_its_checks_completes_with_the_evidence() -> None:
    definitions = verified(check("tests"), check("lint", priority="should"))
    store, skills, _, end = await played(definitions, [done("ok")])
    assert end.status == "completed"
    assert end.text == "ok"
    assert skills.checked == [("tests", "ok"), ("lint", "ok")]
    assert [(each.name, each.passed, each.output) for each in end.verifications] == [
        ("tests", True, "out tests"),
        ("lint", True, "out lint"),
    ]
    assert store.types("run1")[2:] == [
        "callTools",
        "startVerification",
        "recordVerification",
        "recordVerification",
        "attemptCompletion",
        "completeRun",
    ]


async def test_a_failed_must_goes_back_to_the_model_with_its_output() -> None:
    definitions = verified(check("tests"), check("lint", priority="should"))
    _, _, model, end = await played(
        definitions, [done("early"), done("late")], tests=["exit code 1 instead of 0"], lint=["bad"]
    )
    assert end.status == "completed"
    assert end.text == "late"
    told = model.requests[1].messages[-1]
    assert isinstance(told, ToolMessage)
    assert told.contents[0].is_error
    text = told.contents[0].contents[0].model_dump()["text"]
    assert text == (
        "Not completed: 2 of 2 verifications failed (attempt 1 of 3).\n"
        "- tests: exit code 1 instead of 0.\n"
        "out tests\n"
        "- lint: bad, which does not keep you from completing.\n"
        "out lint\n"
        "Put right what is wrong, then complete again."
    )


async def test_a_failed_should_is_reported_and_keeps_nobody() -> None:
    definitions = verified(check("lint", priority="should"))
    _, _, _, end = await played(definitions, [done("ok")], lint=["bad"])
    assert end.status == "completed"
    assert [(each.name, each.passed, each.problem) for each in end.verifications] == [
        ("lint", False, "bad")
    ]


async def test_a_plain_answer_is_verified_and_sent_back_too() -> None:
    definitions = verified(check("tests"))
    store, skills, model, end = await played(
        definitions, [says("early"), says("late")], tests=["broken"]
    )
    assert end.status == "completed"
    assert end.text == "late"
    assert skills.checked == [("tests", "early"), ("tests", "late")]
    told = model.requests[1].messages[-1]
    assert isinstance(told, UserMessage)
    assert "- tests: broken." in told.contents[0].model_dump()["text"]
    assert store.types("run1")[2:] == [
        "startVerification",
        "recordVerification",
        "retry",
        "continueToNextStep",
        "startGeneration",
        "startVerification",
        "recordVerification",
        "completeRun",
    ]
    assert [message.type for message in end.messages[1:]] == [
        "userMessage",
        "expertMessage",
        "userMessage",
        "expertMessage",
    ]


@pytest.mark.parametrize("answer", [says, done])
async def test_an_expert_that_never_passes_is_stopped_with_what_failed(answer: Any) -> None:
    definitions = verified(check("tests"), attempts=2)
    _, _, model, end = await played(
        definitions, [answer("one"), answer("two"), answer("three")], tests=["no"] * 9
    )
    assert end.status == "stoppedByError"
    assert end.error == ev.RunError(
        name="VerificationFailedError",
        message="Verification failed 2 times. At the last attempt: tests (no).",
    )
    assert len(model.requests) == 2


@pytest.mark.parametrize("answer", [says, done])
async def test_a_resumed_expert_reads_what_failed_and_has_its_attempts_again(answer: Any) -> None:
    definitions = verified(check("tests"), attempts=2)
    store, _, _, end = await played(definitions, [answer("1"), answer("2")], tests=["no"] * 2)
    model = FakeModel({"a": [answer("3"), answer("4")]})
    skills = FakeSkills(problems={"tests": ["still no"]})
    end = await go_on(job_context(definitions, model, store=store, skills=skills), end)
    assert end.status == "completed"
    assert end.text == "4"
    last = model.requests[0].messages[-1]
    assert "(attempt 2 of 2)" in str(last.model_dump())
    assert newest_checkpoints(store.runs())["run1"] == end


async def test_attempts_that_need_no_check_are_not_counted() -> None:
    definitions = verified(check("tests"), attempts=1)
    replies: list[Reply] = [
        calls(call("todo", "t", newTodos=["one"])),
        done("early"),
        calls(call("todo", "u", completedTodos=[0])),
        done("late"),
    ]
    _, skills, _, end = await played(definitions, replies)
    assert end.status == "completed"
    assert [answer for _, answer in skills.checked] == ["late"]


@pytest.mark.parametrize("answer", [says, done])
async def test_every_moment_of_a_verification_can_be_resumed_from(answer: Any) -> None:
    definitions = verified(check("tests"), check("lint", priority="should"))
    store, _, _, _ = await played(definitions, [answer("1"), answer("2")], tests=["no"])
    events = store.runs()["run1"]
    for count in range(1, len(events)):
        kept = FakeStore()
        kept.events_written = list(events[:count])
        cut_off = newest_checkpoints(kept.runs())["run1"]
        model = FakeModel({"a": [answer("again"), answer("and again")]})
        skills = FakeSkills()
        steps = JobStepCounter(last=cut_off.step_number, limit=100)
        job = job_context(definitions, model, store=kept, skills=skills, steps=steps)
        end = await go_on(job, cut_off)
        assert end.status == "completed"
        assert [each.name for each in end.verifications] == ["tests", "lint"]
        recorded = [
            event.verification.name
            for event in kept.events_written
            if isinstance(event, ev.RecordVerification)
        ]
        assert recorded == ["tests", "lint"] * (len(recorded) // 2)
        assert newest_checkpoints(kept.runs())["run1"] == end


async def test_an_expert_knows_from_the_beginning_what_will_be_checked() -> None:
    definitions = verified(check("tests"), check("lint", priority="should"))
    _, _, model, _ = await played(definitions, [done("ok")])
    told = str(model.requests[0].messages[0].model_dump()["stable"])
    assert "- tests\n- lint (desirable)\n" in told


async def test_a_run_that_is_cancelled_while_it_is_checked_is_checked_when_it_goes_on() -> None:
    checking = anyio.Event()

    class Slow(FakeSkills):
        async def verify(self, expert: Any, verification: Verification, answer: str) -> Any:
            checking.set()
            await anyio.sleep_forever()

    definitions, store = verified(check("tests")), FakeStore()
    model = FakeModel({"a": [says("ok")]})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work, job_context(definitions, model, skills=Slow(), store=store))
        await checking.wait()
        tasks.cancel_scope.cancel()
    stopped = newest_checkpoints(store.runs())["run1"]
    assert stopped.status == "stoppedByCancellation"
    skills = FakeSkills()
    end = await go_on(job_context(definitions, FakeModel({}), skills=skills, store=store), stopped)
    assert (end.text, skills.checked) == ("ok", [("tests", "ok")])


async def test_a_delegate_has_checks_of_its_own() -> None:
    definitions = verified(check("tests"), expert="@a/x")
    replies: dict[str, list[Reply]] = {
        "a": [calls(call("x", "c", query="part")), done("whole")],
        "@a/x": [done("bad"), done("good")],
    }
    store, _, _, end = await played(definitions, replies, tests=["no"])
    assert end.text == "whole"
    assert end.verifications == ()
    child = newest_checkpoints(store.runs())["run2"]
    assert child.text == "good"
    assert [each.passed for each in child.verifications] == [True]


async def test_no_secret_and_no_flood_gets_into_a_result() -> None:
    class Leaking(FakeSkills):
        async def verify(self, expert: Any, verification: Verification, answer: str) -> Any:
            found = await super().verify(expert, verification, answer)
            output = "sk-canary-123" + "x" * 20_000
            return found.model_copy(update={"problem": "saw sk-canary-123", "output": output})

    definitions = verified(check("tests"))
    store = FakeStore()
    job = job_context(definitions, FakeModel({"a": [done("ok")]}), store=store, skills=Leaking())
    end = await work(job)
    assert "canary" not in str(store.events_written)
    assert len(end.verifications[0].output) < 5_000
    assert end.verifications[0].output.startswith("[redacted]xxx")
